"""The table of docs/verification.md, from what the last runs have left: ``make verification``."""

import argparse
import datetime
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from backbeat.files import write_atomically

from .coverage.points import block_of
from .formal.registry import properties
from .mutation.subjects import SUBJECTS
from .wave_scenarios import SCENARIOS

__all__ = ["BEGIN", "END", "Unplaced", "replaced", "tables"]

ROOT = Path(__file__).resolve().parents[1]
BUILD, DOCUMENT = ROOT / "build", ROOT / "docs" / "verification.md"
BEGIN, END = "<!-- begin: make verification -->", "<!-- end: make verification -->"


class Unplaced(Exception):
    """The document has no place for the table."""


def _table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _share(reached: int, most: int) -> str:
    return f"{reached:,}/{most:,}" if most else ""


def _blocks(formal: list, mutants: list, coverage: dict) -> str:
    """By class of rtl/backbeat_rtl: what is proved, killed and reached."""
    proved = Counter(p["module"] for p in formal if p["outcome"] == "proved")
    fates = defaultdict(Counter)
    for outcome in mutants:
        fates[block_of(outcome["mutant"]["module"])][outcome["fate"]] += 1
    names = sorted({*proved, *coverage, *filter(None, fates)})
    return _table(
        ["block", "properties proved", "mutants killed", "lines reached", "branches", "bits toggled"],
        [[name, proved[name] or "",
          _share(fates[name]["killed"], fates[name]["killed"] + fates[name]["survived"]),
          *(_share(*coverage.get(name, {}).get(kind, (0, 0))) for kind in ("lines", "branches", "bits"))]
         for name in names])


def _tests(suite) -> str:
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    failed = counts["failures"] + counts["errors"]
    return f"{counts['tests'] - failed - counts['skipped']:,} passed, {failed} failed, " \
           f"{counts['skipped']} skipped"


def _mutants(mutate: dict) -> str:
    fates = Counter(outcome["fate"] for outcomes in mutate["subjects"].values() for outcome in outcomes)
    return (f"{mutate['score']:.1%} of {fates['killed'] + fates['survived']} killed, "
            f"{fates['equivalent']} more equivalent, in {len(mutate['subjects'])} of {len(SUBJECTS)} "
            "modules" + (f", a sample of {mutate['share']:.0%}" if mutate["share"] < 1 else ""))


def _coverage(coverage: dict) -> str:
    kinds = {"lines": "lines", "branches": "branches", "bits": "bits toggled"}
    said = [f"{coverage['total'][kind]['percent']} % of the {name}" for kind, name in kinds.items()]
    bins = coverage["bins"]
    return ", ".join([*said, f"{bins['reached']:,} of {bins['all']:,} kinds of products"]) + (
        f" (of {' '.join(coverage['chosen'])} only)" if coverage["chosen"] else "")


def _faults(campaigns: list[dict]) -> str:
    return "; ".join(
        f"{c['name']} {c['config']}: " + (c["missing"] and "left out" or
            f"{c['faults']:,} in {c['positions']:,} places, {len(c['failures'])} failures"
            f"{' (short)' * c['short']}") for c in campaigns)


def tables(build: Path = BUILD) -> str:
    """Both tables as Markdown: by block, and of all of it. What has left no figures says so.

    Parameters
    ----------
    build : Path
        Where the commands have left their figures.
    """
    rows, found = [], {}

    def row(name: str, method: str, command: str, figure: Callable):
        path, date = build / name, ""
        said = "no figures yet"
        if path.exists():
            text = path.read_text()
            found[name] = ElementTree.fromstring(text) if path.suffix == ".xml" else json.loads(text)
            said = figure(found[name])
            date = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
        rows.append([method, said, f"`{command}`", date])

    row("tests.xml", "benches and tests against models", "make test",
        lambda xml: _tests(next(xml.iter("testsuite"))))
    row("waves.json", "every cycle of scenarios", "make waves", lambda waves:
        f"{len(waves['scenarios'])} of {len(SCENARIOS)} scenarios, {len(waves['problems'])} differ")
    row("formal.json", "properties", "make formal", lambda formal:
        f"{sum(p['outcome'] == 'proved' for p in formal)} of {len(properties())} proved")
    row("mutate.json", "mutants", "make mutate", _mutants)
    row("coverage.json", "coverage", "make coverage", _coverage)
    row("faults.json", "faults", "make faults", _faults)
    outcomes = [outcome for mutants in found.get("mutate.json", {"subjects": {}})["subjects"].values()
                for outcome in mutants]
    blocks = _blocks(found.get("formal.json", []), outcomes,
                     found.get("coverage.json", {"blocks": {}})["blocks"])
    return blocks + "\n\n" + _table(["method", "figure", "command", "date"], rows) + "\n"


def replaced(document: str, text: str) -> str:
    """The document with ``text`` between the marks.

    Raises
    ------
    Unplaced
        It has no marks.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Unplaced(f"the document has no place for it, between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def main() -> int:
    argparse.ArgumentParser(prog="python -m tb.verification", description=__doc__).parse_args()
    try:
        text = replaced(DOCUMENT.read_text(), tables())
    except Unplaced as error:
        print(error)
        return 1
    write_atomically(DOCUMENT, text.encode())
    print(f"{DOCUMENT.relative_to(ROOT)} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
