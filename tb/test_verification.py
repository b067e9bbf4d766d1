"""The table of docs/verification.md is what the commands have left, no more."""

import json

import pytest

from .formal.registry import properties
from .verification import BEGIN, DOCUMENT, END, Unplaced, replaced, tables

MUTANT = {"number": 1, "mode": "inv", "module": "Cfu.core.engine.memory.chain", "cell": "c", "port": "A",
          "bit": 0, "wire": "", "line": 1, "source": "", "command": ""}
LEFT = {
    "tests.xml": '<testsuites><testsuite tests="1300" failures="1" errors="2" skipped="7"/>'
                 '</testsuites>',
    "waves.json": json.dumps({"scenarios": ["one_tile", "chain"], "problems": ["chain: ..."]}),
    "formal.json": json.dumps([
        {"name": "streams.joiner", "module": "Joiner", "outcome": "proved"},
        {"name": "pe.sums", "module": "ProcessingElement", "outcome": "refuted"}]),
    "mutate.json": json.dumps({"score": 2 / 3, "share": 0.25, "subjects": {
        "core": [{"mutant": MUTANT, "fate": fate, "by": ""}
                 for fate in ("killed", "survived", "equivalent", "killed")]}}),
    "coverage.json": json.dumps({
        "total": {kind: {"percent": 98.5} for kind in ("lines", "branches", "bits")},
        "bins": {"reached": 1599, "all": 1600}, "chosen": [],
        "blocks": {"Joiner": {"lines": [52, 52], "branches": [69, 70], "bits": [0, 0]}}}),
    "faults.json": json.dumps([
        {"name": "words", "config": "4x4", "positions": 1000000, "faults": 5000, "failures": ["x"],
         "short": False, "missing": ""},
        {"name": "link", "config": "4x4", "positions": 0, "faults": 0, "failures": [], "short": False,
         "missing": "no LiteX"}]),
}


def test_figures_are_those_that_were_left(tmp_path):
    for name, text in LEFT.items():
        (tmp_path / name).write_text(text)
    text = tables(tmp_path)
    for line in (
            "| Joiner | 1 |  | 52/52 | 69/70 |  |",
            "| Chain |  | 2/3 |  |  |  |",
            "1,290 passed, 3 failed, 7 skipped | `make test` |",
            "2 of 22 scenarios, 1 differ | `make waves` |",
            f"1 of {len(properties())} proved | `make formal` |",
            "66.7% of 3 killed, 1 more equivalent, in 1 of 20 modules, a sample of 25% | "
            "`make mutate` |",
            "1,599 of 1,600 kinds of products | `make coverage` |",
            "words 4x4: 5,000 in 1,000,000 places, 1 failures; link 4x4: left out | `make faults` |"):
        assert line in text, f"{line!r} is not in\n{text}"
    assert "ProcessingElement" not in text, "what is refuted is not proved"


def test_what_was_not_run_says_so(tmp_path):
    (tmp_path / "waves.json").write_text(LEFT["waves.json"])
    assert tables(tmp_path).count("| no figures yet |") == len(LEFT) - 1


def test_only_the_table_is_replaced():
    document = DOCUMENT.read_text()
    once = replaced(document, "| a |")
    assert once.startswith(document.partition(BEGIN)[0]) and once.endswith(document.partition(END)[2])
    assert "| a |" in once and replaced(once, "| a |") == once
    with pytest.raises(Unplaced, match="no place"):
        replaced("# Verification", "| a |")
