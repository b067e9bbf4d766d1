"""Runs the test benches and says what they reach: ``python -m tb.coverage [-k gather]``.

What it does not know is for pytest. The figures are in build/coverage.json, and as tables in
build/coverage/index.html and coverage.md. It fails below the floors, and if an exclusion is wrong;
where tests were chosen the figures are only reported.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from backbeat.files import write_atomically

from .bins import bins
from .merge import Figures, figures, merged
from .points import CoverageError
from .record import FOLDER
from .report import html, markdown

TB = Path(__file__).resolve().parents[1]
RUNS, JSON = FOLDER / "runs", FOLDER.parent / "coverage.json"
#: Of pytest's arguments, beside what the runs have left: later reports are of no more than those tests.
CHOSEN = "chosen.json"
#: Percent of the lines and of the kinds of products.
LINES, BINS = 98, 100
#: The blocks alone, and cores of four sizes, with and without a memory port, behind either door. The
#: points of larger ones are the same, and take most of the time: left out are the tests of those alone
#: but for one, as only 8x8 has macro-tiles so wide that they are stored in several stripes.
BENCHES = ("accumulators array axi_narrow column_group epilogue gather joiner load_addresses loop_nest "
           "memory_port_unit pe queue realigner scratchpad sequencer npu core core_errors core_garbage "
           "core_hazards core_reset memory_errors memory_port product_bins").split()
LARGER = "not 8x8 and not 16x16 and not last_lane and not longest_run"
#: Bits are counted where every kind of product runs, on one core: it takes twice as long.
TOGGLES = ["tb/test_product_bins.py"]


def _pytest(arguments: list[str], coverage: str) -> int:
    """One seed, so that figures can be compared, unless another is asked for."""
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=TB.parent,
                          env={"SEED": "1"} | os.environ | {"COVERAGE": coverage}).returncode


def _run(chosen: list[str]) -> int:
    """pytest's exit code; what earlier runs have left is removed."""
    shutil.rmtree(RUNS, ignore_errors=True)
    write_atomically(RUNS / CHOSEN, json.dumps(chosen).encode())
    workers = ["-n", "2", "--dist", "worksteal"]
    files = [f"tb/test_{name}.py" for name in BENCHES]
    failed = _pytest([*workers, *files, *(chosen or ["-k", LARGER])], "1")
    if not failed and not chosen:
        failed = _pytest([*workers, *TOGGLES], "toggle")
    return failed


def _report(found: Figures, chosen: list[str]):
    write_atomically(FOLDER / "coverage.md", markdown(found).encode())
    write_atomically(FOLDER / "index.html", html(found).encode())
    figures_ = found.as_json() | {"chosen": chosen}
    write_atomically(JSON, (json.dumps(figures_, indent=1) + "\n").encode())
    print(markdown(found).split("\nLines not reached")[0])
    for place in found.missed[:10]:
        print(f"not reached: {place.block}: {place.text}\n    {place.where}")
    if len(found.missed) > 10:
        print(f"and {len(found.missed) - 10} more: {FOLDER / 'coverage.md'}")


def _shortfalls(found: Figures, lines: float, products: float) -> list[str]:
    """What is below its floor."""
    wrong = list(found.wrong)
    for name, kind, floor in (("lines", "lines", lines), ("kinds of products", "bins", products)):
        if found.percent(kind) < floor:
            wrong.append(f"{found.percent(kind):.2f} % of the {name}, the floor is {floor} %")
    if missing := [kind for kind in bins() if not found.bins[kind]]:
        if products:
            wrong.append("no product of the kind " + "; ".join(" / ".join(kind) for kind in missing[:5]))
    return wrong


def main(arguments: "list[str] | None" = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tb.coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="of what the last run has left")
    parser.add_argument("--lines", type=float, help=f"floor in percent ({LINES})")
    parser.add_argument("--bins", type=float, help=f"floor in percent ({BINS})")
    options, chosen = parser.parse_known_args(arguments)
    failed = 0 if options.report else _run(chosen)
    if options.report and (RUNS / CHOSEN).exists():
        chosen = json.loads((RUNS / CHOSEN).read_text())
    try:
        found = figures(*merged(RUNS, TB.parent / "build" / "tb"))
    except CoverageError as error:
        sys.exit(f"FAILED: {error}")
    _report(found, chosen)
    lines = (0 if chosen else LINES) if options.lines is None else options.lines
    products = (0 if chosen else BINS) if options.bins is None else options.bins
    wrong = _shortfalls(found, lines, products) if lines or products else []
    for problem in wrong:
        print(f"FAILED: {problem}", file=sys.stderr)
    return failed or bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
