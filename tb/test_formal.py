"""``make formal`` can fail: broken RTL is refuted, and nothing passes for want of anything to prove."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Mux, Signal

import backbeat_rtl

from .formal import solve
from .formal.checker import Checker, any_of
from .formal.job import run
from .formal.registry import find, properties
from .formal.solve import Fault, Property, prove

FAULTS = [(prop.name, fault) for prop in properties().values() for fault in prop.faults]
CHEAP = [(name, fault) for name, fault in FAULTS if fault.cheap]


class Counter(Checker):
    """Counts what it is given, up to ``most``, beside a register that nothing ties to it."""

    def __init__(self, *, below: int, most: int = 9, given: int = 1, reached: int = 3):
        super().__init__()
        self.below, self.most, self.given, self.reached = below, most, given, reached

    def build(self, m):
        count = Signal(4)
        other = Signal(4)
        step = any_of(m, 3, "step")
        self.assume(m, step == self.given)
        m.d.sync += [count.eq(Mux(count >= self.most, 0, count + step)),
                     other.eq(Mux(other == 5, 5, other << 1))]
        self.claim(m, "the count stays below", count < self.below)
        self.claim(m, "what is zero stays so", other == 0)
        self.cover(m, "the count is reached", count == self.reached)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(solve, "BUILD", tmp_path)


def counter(method="pdr", depth=12, covered=12, **parameters) -> Property:
    name = "test." + "-".join([method, *(f"{key}_{value}" for key, value in parameters.items())])
    return Property(name, "", "Counter", "", lambda: Counter(**parameters), method, depth, covered, 60)


@pytest.mark.parametrize("method", ["bmc", "induction", "pdr"])
def test_each_method_proves_what_holds(method):
    assert prove(counter(method, below=10)).good


@pytest.mark.parametrize("method", ["bmc", "induction", "pdr"])
def test_each_method_refutes_what_does_not(method):
    result = prove(counter(method, below=9))
    assert (result.outcome, result.detail, result.step) == ("refuted", "the count stays below", 9)
    assert result.values["count"] == "9" and result.values["step"] == "1", result.values
    assert Path(result.trace).exists()


def test_what_is_true_but_not_inductive_is_no_proof():
    """An odd count would go from 11 to 13; that there is none takes more than two steps to see."""
    result = prove(counter("induction", depth=2, below=13, most=12, given=2, reached=4))
    assert result.outcome == "not proven" and result.trace, result


def test_bounds_that_are_too_short_prove_nothing_else():
    assert prove(counter("bmc", depth=9, below=9)).good
    assert prove(counter("bmc", depth=10, below=9)).outcome == "refuted"


@pytest.mark.parametrize("parameters", [{"given": 8}, {"reached": 11}])
def test_claims_about_what_cannot_happen_are_vacuous(parameters):
    """No step is 8, no count is 11."""
    for method in "bmc", "pdr":
        result = prove(counter(method, below=10, **parameters))
        assert result.outcome == "vacuous" or method == "pdr" and "gave up" in result.detail, result


def test_a_solver_that_takes_too_long_has_proved_nothing():
    result = prove(replace(counter(below=10), timeout=0.01))
    assert result.outcome == "not proven" and "0 s" in result.detail, result


@pytest.mark.parametrize(("name", "fault"), CHEAP, ids=[f"{name}: {f.name}" for name, f in CHEAP])
def test_a_fault_is_refuted(name, fault):
    result = run(name, fault)
    assert result.outcome == "refuted" and result.values, result


def test_every_property_has_a_fault_and_every_block_a_cheap_one():
    assert {name for name, _ in FAULTS} == set(properties())
    # It takes more cycles than are cheap to load a bank of the loop nest again.
    dear = {"nest"}
    assert {name.split(".")[0] for name, _ in CHEAP} | dear == {n.split(".")[0] for n in properties()}


def test_every_fault_has_its_place_in_the_rtl():
    """Most of them are only tried by ``make formal ARGS=--faults``."""
    for name, fault in FAULTS:
        source = (Path(backbeat_rtl.__file__).parent / f"{fault.module}.py").read_text()
        assert len(re.findall(fault.old, source)) == 1, f"{name}, {fault.name}: {fault.old}"


def test_a_fault_that_changes_nothing_is_an_error():
    result = run("pe.accumulator", Fault("nowhere", "pe", "no such text", ""))
    assert result.outcome == "error" and "matches 0 of" in result.detail, result


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"'alu'; there are pe\.product, "):
        find("alu")
    done = subprocess.run([sys.executable, "-m", "tb.formal", "alu"], capture_output=True, text=True,
                          cwd=Path(__file__).parents[1])
    assert done.returncode == 2 and "pe.product" in done.stderr, done


def test_the_command_fails_and_shows_the_trace(monkeypatch, capsys, tmp_path):
    from .formal import __main__ as command
    broken = next((name, fault) for name, fault in FAULTS if name == "pe.accumulator")
    assert broken not in CHEAP      # whose test may run beside this one, in the same folder
    monkeypatch.setattr(command, "run", lambda name, _fault: run(*broken))
    monkeypatch.setattr(sys, "argv", ["formal", broken[0], "--json", str(tmp_path / "formal.json")])
    with pytest.raises(SystemExit) as stop:
        command.main()
    out = capsys.readouterr().out
    assert stop.value.code == 1 and "trace.vcd" in out and "0 of 1 proved" in out, out
    assert '"outcome": "refuted"' in (tmp_path / "formal.json").read_text()
