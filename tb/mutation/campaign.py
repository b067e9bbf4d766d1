"""Runs the test benches on mutants."""

import copy
import hashlib
import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from backbeat.backends.build import hardware_sources
from backbeat.files import write_atomically

from ..harness import PERIOD_NS, Simulation, seed
from ..wave_scenarios import SCENARIOS
from ..wave_signals import find_ports
from ..waves import Recorder, compare
from .equivalence import is_equivalent
from .mutants import INPUT, Mutant, keeping, mutate
from .subjects import Run, Subject, runs

__all__ = ["BUILD", "PROCESSES", "Campaign", "Outcome"]

BUILD = Path(__file__).resolve().parents[2] / "build" / "mutate"
#: Simulations at a time.
PROCESSES = 2
#: A mutant may take so many times as long as the module itself, and so many cycles more: where there is
#: a memory the watchdogs of core and benches are to speak before.
TIMES, MORE, MORE_IN_CORE = 3, 20_000, 80_000
#: The most CPU time of a run: a bench may take more and more of it for each cycle.
CPU_SECONDS = 200
#: What the generated netlist gives rise to; a bit of a port that inverts another one looks like a loop.
_FLAGS = ("-Wno-fatal", "-Wno-lint", "-Wno-style")


@dataclass
class Outcome:
    """What became of a mutant: ``"killed"``, ``"equivalent"`` or ``"survived"``, and by which run it was
    killed."""

    mutant: Mutant
    fate: str
    by: str = ""


class _Mutated(Simulation):
    """A module with all its mutants, none of which is active unless a run says so."""

    flags = _FLAGS

    def __init__(self, original: Simulation, verilog: str):
        self.parameters, self.top, self._class = original.parameters, original.top, original._class
        self.text, self.directory = verilog, None

    def verilog(self) -> str:
        return self.text


class _MutatedRecorder(Recorder):
    """The same for golden scenarios."""

    flags = _FLAGS

    def __init__(self, memory: bool, verilog: str):
        super().__init__(memory)
        self.text, self.mutant = verilog, 0

    def verilog(self) -> str:
        return self.text

    def with_mutant(self, number: int) -> "_MutatedRecorder":
        other = copy.copy(self)
        other.mutant = number
        return other

    def folder(self, bench, **arguments) -> Path:
        work = self.build() / f"mutant-{self.mutant}"
        work.mkdir(exist_ok=True)
        return work

    def attempt(self, work: Path, bench, arguments: dict, **environment: str) -> bool:
        inputs = json.dumps({INPUT: self.mutant})
        return super().attempt(work, bench, arguments, BENCH_INPUTS=inputs, **environment)

    def differing(self, folder: Path) -> str:
        """The first scenario that is not as in its golden, empty if all are; drawn in ``folder``."""
        for scenario in SCENARIOS.values():
            if scenario.memory == self.memory and compare(scenario, self, folder):
                return scenario.name
        return ""


class Campaign:
    """The mutants of one subject.

    Parameters
    ----------
    subject : Subject
    share : float
        Of its mutants, at least one.
    """

    def __init__(self, subject: Subject, share: float = 1):
        self.subject, self.work = subject, BUILD / subject.name
        original = subject.simulation()
        verilog = original.verilog()
        if subject.scenarios is not None:
            ports = find_ports(original.component, original.top, subject.scenarios)
            verilog = keeping(verilog, (place.variable for port in ports
                                        for place in (port.place, port.gate) if place))
        self.verilog, self.mutants = mutate(self.work, verilog, original.top,
                                            max(1, round(share * subject.mutants)), seed(),
                                            subject.selection)
        self.simulation = _Mutated(original, self.verilog)
        self.runs = runs(subject)
        self.recorder = None

    def prepare(self):
        """Compiles it, and times the runs without a mutant.

        Raises
        ------
        RuntimeError
            A run fails, or a golden differs, without a mutant.
        """
        self.simulation.build()
        limits = {}
        with ThreadPoolExecutor(PROCESSES) as pool:
            results = list(pool.map(lambda run: self._run(run, 0), self.runs))
        for run, (passed, cycles) in zip(self.runs, results, strict=True):
            if not passed:
                raise RuntimeError(f"{self.subject.name}: {run} fails without a mutant, see "
                                   f"{self._folder(run, 0) / 'log.txt'}")
            limits[run] = TIMES * cycles + (MORE_IN_CORE if self.subject.scenarios else MORE)
        # The shortest first: most mutants do not survive it.
        self.limits = dict(sorted(limits.items(), key=lambda item: item[1]))
        if self.subject.scenarios is not None:
            self.recorder = _MutatedRecorder(self.subject.scenarios, self.verilog)
            if scenario := self.recorder.differing(self.work):
                raise RuntimeError(f"{self.subject.name}: {scenario} is not as in its golden, without a "
                                   "mutant")

    def _folder(self, run: Run, mutant: int) -> Path:
        name = hashlib.sha256(str(run).encode()).hexdigest()[:8]
        return self.simulation.directory / f"mutant-{mutant}-{name}"

    def _run(self, run: Run, mutant: int, limit: int = 0) -> tuple[bool, int]:
        """Whether it passed, and its cycles."""
        work = self._folder(run, mutant)
        work.mkdir(exist_ok=True)
        environment = {"BENCH_CYCLES": str(limit), "BENCH_CPU": str(CPU_SECONDS)} if limit else {}
        passed = self.simulation.attempt(work, run.bench, json.loads(run.arguments),
                                         BENCH_INPUTS=json.dumps({INPUT: mutant}), **environment)
        cycles = 0
        if passed:
            results = ElementTree.parse(work / "results.xml")
            duration = results.find(".//property[@name='sim_time_duration']").get("value")
            cycles = round(float(duration) / PERIOD_NS)
        if mutant:
            shutil.rmtree(work)
        return passed, cycles

    @cached_property
    def _key(self) -> str:
        """Changes with whatever may change an outcome."""
        benches = [path.read_text() for path in sorted(Path(__file__).parents[1].glob("*.py"))
                   if path.stem in self.subject.tests or not path.stem.startswith("test_")]
        return hashlib.sha256("\0".join(
            [self.verilog, str(seed()), *map(str, self.runs), *benches, *hardware_sources()]).encode()
        ).hexdigest()

    def known(self, retry: bool = False) -> dict[int, Outcome]:
        """Outcomes of an earlier run by number; with ``retry``, but for those that have survived: the
        solvers may have more time now."""
        try:
            kept = json.loads((self.work / "outcomes.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        if kept["key"] != self._key:
            return {}
        numbered = {mutant.number: mutant for mutant in self.mutants}
        return {number: Outcome(numbered[number], fate, by) for number, fate, by in kept["outcomes"]
                if not (retry and fate == "survived")}

    def keep(self, outcomes: Iterable[Outcome]):
        """What :meth:`known` will return."""
        text = json.dumps({"key": self._key,
                           "outcomes": [(o.mutant.number, o.fate, o.by) for o in outcomes]})
        write_atomically(self.work / "outcomes.json", text.encode())

    def outcome(self, mutant: Mutant) -> Outcome:
        """Looks at the goldens of a core, which take the least time, and runs benches until one fails;
        looks for a proof if none does."""
        if self.recorder and (name := self.recorder.with_mutant(mutant.number).differing(self.work)):
            return Outcome(mutant, "killed", f"golden {name}")
        for run, limit in self.limits.items():
            if not self._run(run, mutant.number, limit)[0]:
                return Outcome(mutant, "killed", str(run))
        # A core is too large to be looked at as a whole.
        if is_equivalent(self.work, mutant, self.simulation.top,
                         None if self.recorder else self.subject.contract):
            return Outcome(mutant, "equivalent")
        return Outcome(mutant, "survived")
