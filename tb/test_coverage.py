"""The coverage tool, on a module small enough to know what is reached."""

import subprocess
import sys
from collections import Counter

import pytest

from backbeat.backends.build import compiler, find_verilator
from backbeat_rtl.config import Config

from .coverage import record
from .coverage.__main__ import main
from .coverage.bins import AXES, bin_of, bins, crossed
from .coverage.exclusions import Exclusion, excluded
from .coverage.merge import figures, merged
from .coverage.points import CoverageError, Points, Source, counters, numbers
from .coverage.report import html, markdown
from .harness import BUILD, FLAGS, WHEEL_MAKEFLAGS

#: As yosys writes it: two lanes with the same text, a case, and an `if` that is only true with `b`.
VERILOG = """\
module Joiner(clk, a, b, o_0, o_1);
  input clk;
  input a;
  input [1:0] b;
  output [1:0] o_0;
  output [1:0] o_1;
  reg [1:0] o_0 = 2'h0;
  reg [1:0] o_1 = 2'h0;
  reg [1:0] \\$2 ;
  reg [1:0] \\$3 ;
  wire \\$1 ;
  assign \\$1  = b == 2'h2;
  always @(posedge clk)
    o_0 <= \\$2 ;
  always @(posedge clk)
    o_1 <= \\$3 ;
  always @* begin
    \\$2  = o_0;
    if (a) begin
      \\$2  = 2'h1;
    end
    if (\\$1 ) begin
      \\$2  = 2'h3;
    end
  end
  always @* begin
    \\$3  = o_1;
    casez (b)
      2'h0:
          \\$3  = 2'h0;
      2'h1:
          \\$3  = 2'h2;
      2'h2:
          \\$3  = 2'h1;
    endcase
  end
endmodule
"""
#: Sets `a` and `b` as its arguments say, one pair per cycle.
MAIN = """\
#include "VJoiner.h"
#include "verilated.h"
#include "verilated_cov.h"
int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    VJoiner top;
    for (int n = 2; n + 1 < argc; n += 2) {
        top.a = argv[n][0] - '0';
        top.b = argv[n + 1][0] - '0';
        top.clk = 0; top.eval();
        top.clk = 1; top.eval();
    }
    VerilatedCov::write(argv[1]);
}
"""


@pytest.fixture(scope="module")
def joiner(tmp_path_factory):
    """``joiner(name, "0", "1", ...)`` runs it, and returns where builds and runs are."""
    root = tmp_path_factory.mktemp("coverage")
    build = root / "builds" / "joiner-1"
    build.mkdir(parents=True)
    (build / "top.v").write_text(VERILOG)
    (build / "main.cpp").write_text(MAIN)
    program, environment, _ = find_verilator()
    subprocess.run([program, "--cc", "--exe", "--build", *record.FLAGS["toggle"], *FLAGS, "--top",
                    "Joiner", "--Mdir", build / "obj", "-MAKEFLAGS",
                    f"CXX={compiler()} LINK={compiler()} OPT_FAST=-O0 VM_PARALLEL_BUILDS=0 "
                    f"PYTHON3={sys.executable} {WHEEL_MAKEFLAGS if environment else ''}",
                    build / "top.v", build / "main.cpp"],
                   env={"PATH": "/usr/bin:/bin"} | environment, check=True, capture_output=True)

    def run(name: str, *inputs: str):
        runs = root / name
        (runs / "joiner-1").mkdir(parents=True, exist_ok=True)
        file = runs / "joiner-1" / f"{len(list((runs / 'joiner-1').iterdir()))}.dat"
        subprocess.run([build / "obj" / "VJoiner", file, *inputs], check=True)
        return runs, root / "builds"

    return run


def lines_of(points: Points) -> dict[str, int]:
    return {points.places[key[:2]].text: count for key, count in points.lines.items()}


def test_lines_and_branches_reached_are_those_of_the_inputs(joiner):
    found, _ = merged(*joiner("one", "0", "0", "0", "1"))       # never a, never b = 2
    lines = lines_of(found)
    assert {text: count > 0 for text, count in lines.items()} == {
        "if (a) begin o_0.next = 2'h1;": False, "if ((b == 2'h2) ) begin o_0.next = 2'h3;": False,
        "casez (b) 2'h0: o_1.next = 2'h0;": True, "casez (b) 2'h1: o_1.next = 2'h2;": True,
        "casez (b) 2'h2: o_1.next = 2'h1;": False}
    branches = {(key[1].split(" begin")[0], key[-1]): count > 0 for key, count in found.branches.items()}
    assert branches["if (a)", "if"] is False and branches["if (a)", "else"] is True


def test_runs_are_merged(joiner):
    joiner("two", "0", "1")
    joiner("two", "1", "2")
    found, _ = merged(*joiner("two", "0", "0"))
    assert all(lines_of(found).values())
    reached, most = figures(found, Counter(), []).total("lines")
    assert reached == most > 0


def test_bits_are_counted_both_ways(joiner):
    found, _ = merged(*joiner("bits", "0", "0", "0", "1", "0", "1"))
    rising = {key[2]: count > 0 for key, count in found.bits.items()}
    assert rising["b[0]:0->1"] and not rising["b[0]:1->0"] and not rising["a:0->1"]


def test_an_exclusion_has_to_match_what_is_never_reached(joiner):
    found, _ = merged(*joiner("excluded", "0", "0"))
    never = Exclusion("Joiner", r"^if \(a\)", "nobody sets it here")
    left, wrong = excluded(found.lines, found.places, [never])
    assert not wrong and {found.places[key[:2]].text.split(" begin")[0] for key in left} == {"if (a)"}
    assert figures(found, Counter(), [never]).total("lines")[1] == len(found.lines) - len(left)
    for pattern, what in (("no such text", "matches nothing"), (r"2'h0:", "has been reached")):
        _, wrong = excluded(found.lines, found.places, [Exclusion("Joiner", pattern, "")])
        assert len(wrong) >= 1 and what in wrong[0]


def test_text_is_the_same_point_in_any_lane_and_width(joiner, tmp_path):
    """... and the same instance in another configuration's build."""
    runs, builds = joiner("lanes", "1", "0")
    found, wider = counters(next(runs.glob("*/*.dat"))), Points()
    (tmp_path / "wide").mkdir()
    text = VERILOG.replace("2'h1;", "4'h1;").replace("o_0", "o_7").replace("$2", "$12")
    (tmp_path / "wide" / "top.v").write_text(text)
    wider.add(Source(builds / "joiner-1" / "top.v"), found)
    once = dict(wider.lines)
    wider.add(Source(tmp_path / "wide" / "top.v"), dict.fromkeys(found, 0))
    assert wider.lines == once      # nothing new, and what one has reached stays reached


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.dat").write_text("nothing")
    with pytest.raises(CoverageError, match="begins with 'nothing'"):
        counters(tmp_path / "x.dat")
    with pytest.raises(CoverageError, match="no run has left anything"):
        merged(tmp_path, BUILD)


def test_numbers_of_ranges():
    assert list(numbers("3-5,8")) == [3, 4, 5, 8] and list(numbers("")) == []


def _line(**changes) -> dict:
    return {"array": [4, 4], "op": "nt", "shape": [8, 8, 16], "spec": None, "panels": [8, 8],
            "chunk": 16, "stalled": False} | changes


@pytest.mark.parametrize(("changes", "axis", "kind"), [
    ({}, "ragged", "none"), ({"shape": [7, 8, 16]}, "ragged", "m"),
    ({"shape": [8, 5, 15]}, "ragged", "nk"), ({"shape": [4, 4, 16]}, "size", "tile"),
    ({}, "size", "macro-tile"), ({"panels": [8, 4]}, "size", "macro-tiles"),
    ({"chunk": 8}, "size", "chunks"), ({"panels": [4, 8], "chunk": 8}, "size", "macro-tiles, chunks"),
    ({"shape": [4, 4, 16], "chunk": 8}, "size", "chunks"),
    ({"spec": [False, 0, -128]}, "epilogue", "nearest"),
    ({"spec": [True, 3, 3]}, "epilogue", "stochastic relu"),
    ({"spec": [False, -128, -128]}, "epilogue", "nearest"), ({"op": "tn"}, "orientation", "tn"),
    ({"stalled": True}, "stall", "stalled")])
def test_a_product_is_of_its_kind(changes, axis, kind):
    assert bin_of(_line(**changes))[list(AXES).index(axis)] == kind


def test_products_are_crossed_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("COVERAGE_PRODUCTS", str(tmp_path / "x.jsonl"))
    for stalled in (False, True, True):
        record.product(Config.of("4x4"), op="tt", shape=(4, 4, 8), spec=(True, 0, 0), panels=(4, 4),
                       chunk=8, stalled=stalled)
    found = crossed(record.recorded(tmp_path / "x.jsonl"))
    assert found == {("tt", "none", "stochastic relu", "none", "tile"): 1,
                     ("tt", "none", "stochastic relu", "stalled", "tile"): 2}
    assert set(found) <= set(bins()) and len(bins()) == len(set(bins())) == 4 * 8 * 5 * 2 * 5


def test_reports_name_what_is_missing(joiner):
    points, _ = merged(*joiner("report", "0", "0"))
    kind = bins()[0]
    found = figures(points, Counter({kind: 3}), [])
    text, page = markdown(found), html(found)
    assert "if (a) begin o_0.next = 2'h1;" in text and "o_0.next = 2&#x27;h1;" in page
    assert "1 of 1,600 kinds of products, 3 products" in text
    assert page.count("#d05040") == len(bins()) - 1 and "http" not in page


def test_the_command_fails_below_its_floors(joiner, tmp_path, monkeypatch, capsys):
    runs, builds = joiner("floors", "0", "0")
    module = sys.modules[main.__module__]
    for name, value in (("RUNS", runs), ("TB", builds.parent / "x" / "tb"), ("FOLDER", tmp_path),
                        ("JSON", tmp_path / "coverage.json"), ("LINES", 98)):
        monkeypatch.setattr(module, name, value)
    (builds.parent / "x" / "build").mkdir(parents=True, exist_ok=True)
    (builds.parent / "x" / "build" / "tb").symlink_to(builds)
    monkeypatch.setattr(module.figures, "__defaults__", ([],))
    assert main(["--report"]) and "the floor is 98 %" in capsys.readouterr().err
    assert main(["--report", "--lines", "10", "--bins", "0"]) == 0
    assert (tmp_path / "coverage.json").exists() and (tmp_path / "index.html").exists()
