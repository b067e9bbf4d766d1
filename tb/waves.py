"""Waveform regression: ``python -m tb.waves [scenario ...] [--update]``, also ``make waves``.

Runs the scenarios of :mod:`tb.wave_scenarios` and holds every cycle of the ports named in
:mod:`tb.wave_signals` against the goldens of ``tb/golden``.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from backbeat.files import write_atomically
from backbeat_rtl.cfu import Cfu

from .harness import Simulation
from .wave_drawing import draw
from .wave_scenarios import CORES, SCENARIOS, Scenario
from .wave_signals import WaveError, find_ports, read_vcd
from .wave_trace import GoldenError, Trace, first_difference, from_text, to_text

__all__ = ["Recorder", "chosen", "compare", "golden", "main", "read_golden", "stale", "update"]

GOLDENS = Path(__file__).resolve().parent / "golden"
DRAWINGS = Path(__file__).resolve().parent.parent / "build" / "waves"


class Recorder(Simulation):
    """A core that leaves a waveform."""

    waves = True
    used = False

    def __init__(self, memory: bool):
        super().__init__(Cfu, config=CORES[memory])
        self.memory, self.ports = memory, None

    def build(self) -> Path:
        directory = super().build()
        if self.ports is None:
            self.ports = find_ports(self.component, self.top, self.memory)
        return directory

    def record(self, scenario: Scenario) -> tuple[Trace, str]:
        """Plays a scenario.

        Returns
        -------
        Trace
            As far as it came.
        str
            Why the scenario failed, empty if it did not.

        Raises
        ------
        WaveError
            A port is not in the design or not in the waveform, or there is no waveform.
        """
        work = self.folder(scenario.bench)
        waveform = work / "dump.vcd"
        waveform.unlink(missing_ok=True)
        failed = "" if self.attempt(work, scenario.bench, {}) else _reason(work / "log.txt")
        if not waveform.exists():
            raise WaveError(f"{scenario.name} left no {os.path.relpath(waveform)}: {failed}")
        return read_vcd(waveform, self.ports, self.top), failed


def _reason(log: Path) -> str:
    """The exception that ended a bench, and where all of its log is."""
    errors = re.findall(r"^ *(\w*(?:Error|Exception|Failure)\b.*)", log.read_text(), re.MULTILINE)
    return f"{errors[-1] if errors else 'no exception is named'} ({os.path.relpath(log)})"


def golden(name: str) -> Path:
    """Where the golden of that scenario is."""
    return GOLDENS / f"{name}.txt"


def read_golden(name: str) -> Trace:
    """The golden of that scenario.

    Raises
    ------
    GoldenError
        There is none, or it cannot be read.
    """
    path = golden(name)
    try:
        return from_text(path.read_text(encoding="ascii"), path)
    except FileNotFoundError:
        raise GoldenError(f"{path}: there is no such file; `make waves-update T={name}` makes "
                          "it") from None
    except UnicodeDecodeError as error:
        raise GoldenError(f"{path}: byte {error.start} is no text; `make waves-update T={name}` "
                          "writes it anew") from None


def stale() -> list[Path]:
    """Goldens that belong to no scenario."""
    return sorted(path for path in GOLDENS.glob("*.txt") if path.stem not in SCENARIOS)


def chosen(names: Iterable[str]) -> list[Scenario]:
    """The scenarios of those names, all if there are none.

    Raises
    ------
    WaveError
        Names the unknown one, and those that there are.
    """
    for name in names:
        if name not in SCENARIOS:
            raise WaveError(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return [SCENARIOS[name] for name in names or SCENARIOS]


def compare(scenario: Scenario, recorder: Recorder, drawings: Path = DRAWINGS) -> str:
    """Plays a scenario and holds it against its golden; draws the first difference.

    Returns
    -------
    str
        What differs first, or what is wrong with the golden; empty if nothing.
    """
    got, failed = recorder.record(scenario)
    last = failed and f"\n  it fails: {failed}"
    try:
        expected = read_golden(scenario.name)
    except GoldenError as error:
        return f"{scenario.name}: {error}{last}"
    difference = first_difference(expected, got)
    if difference is None:
        return last and f"{scenario.name}:{last}"
    picture = draw(scenario.name, expected, got, difference, drawings)
    return f"{scenario.name}: {difference}\n  drawn in {os.path.relpath(picture)}{last}"


def update(scenario: Scenario, recorder: Recorder) -> str:
    """Plays a scenario and writes its golden, all of it or nothing.

    Returns
    -------
    str
        What has changed, empty if nothing.

    Raises
    ------
    WaveError
        The scenario fails: what it does is wrong, and no golden.
    """
    trace, failed = recorder.record(scenario)
    if failed:
        raise WaveError(f"{scenario.name} fails, so its golden stays as it is: {failed}")
    port = "with" if scenario.memory else "without"
    text = to_text(trace, [f"{scenario.name}: {scenario.about}", f"Cfu 4x4 {port} its memory port"])
    path = golden(scenario.name)
    if path.exists() and path.read_bytes() == text.encode("ascii"):
        return ""
    try:
        difference = first_difference(read_golden(scenario.name), trace)
        what = str(difference or "only its text has changed")
    except GoldenError:
        what = "could not be read" if path.exists() else "new"
    write_atomically(path, text.encode("ascii"))
    return f"{scenario.name}: {what}"


def main(arguments: "list[str] | None" = None) -> int:
    """Compares or updates; 1 if anything differs or is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tb.waves", description="waveform regression")
    parser.add_argument("scenario", nargs="*", help="all if none is named")
    parser.add_argument("--update", action="store_true", help="rewrite the goldens")
    parser.add_argument("--json", type=Path, default=DRAWINGS.with_suffix(".json"),
                        help="of a comparison: its scenarios and problems")
    options = parser.parse_args(arguments)
    os.environ.setdefault("SEED", "0")      # the harness wants one; scenarios have their own
    console, began = Console(soft_wrap=True, highlight=False), time.perf_counter()
    try:
        scenarios = chosen(options.scenario)
        problems, changes = _all(scenarios, options.update, console)
    except WaveError as error:      # no scenario of that name, or a port that the table has is gone
        console.print(str(error), markup=False)
        return 1
    for path in [] if options.scenario else stale():
        if options.update:
            path.unlink()
            changes.append(f"{path.stem}: removed, there is no such scenario any more")
        else:
            problems.append(f"{path}: there is no such scenario; `make waves-update` removes it")
        console.print((changes if options.update else problems)[-1], markup=False)
    said = [_count(problems, "problem")] if problems else []
    if options.update:
        said.append(f"{_count(changes, 'golden')} changed")
    elif not problems:
        said.append("all as in their goldens")
    console.print(f"{_count(scenarios, 'scenario')} in {time.perf_counter() - began:.0f} s: "
                  f"{', '.join(said)}", markup=False)
    if not options.update:
        found = {"scenarios": [scenario.name for scenario in scenarios], "problems": problems}
        write_atomically(options.json, (json.dumps(found, indent=1) + "\n").encode())
    if problems and not options.update:
        console.print("If it is meant: `make waves-update`, and review what git shows of tb/golden")
    return bool(problems)


def _count(things: list, what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _all(scenarios: list[Scenario], updating: bool, console: Console) -> tuple[list[str], list[str]]:
    """Problems and changes, each also said as it is found."""
    problems, changes = [], []
    with Progress(console=console) as progress:
        task = progress.add_task("", total=len(scenarios))
        for memory in CORES:
            recorder, mine = Recorder(memory), [s for s in scenarios if s.memory == memory]
            if mine:
                progress.update(task, description=f"building a core {'with' if memory else 'without'} "
                                                  "its memory port")
                recorder.build()
            for scenario in mine:
                progress.update(task, description=scenario.name)
                into = changes if updating else problems
                try:
                    found = (update if updating else compare)(scenario, recorder)
                except WaveError as error:
                    found, into = str(error), problems
                if found:
                    into.append(found)
                    console.print(found, markup=False)
                progress.advance(task)
    return problems, changes


if __name__ == "__main__":
    sys.exit(main())
