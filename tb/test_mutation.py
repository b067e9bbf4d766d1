"""``make mutate`` tells what a bench notices from what it does not, and from what nobody could."""

import json

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from .harness import Simulation
from .mutation import campaign
from .mutation.campaign import Campaign
from .mutation.equivalence import Contract, is_equivalent
from .mutation.mutants import mutate
from .mutation.subjects import SUBJECTS, Run, Subject, runs

STEPS = 200


class Counter(wiring.Component):
    """A sum modulo 16, and a bit that is never set whatever the sum."""

    i: In(4)
    o: Out(4)
    o_never: Out(1)

    def elaborate(self, _platform):
        m = Module()
        below, above = Signal(), Signal()
        m.d.sync += self.o.eq(self.o + self.i)
        m.d.comb += [below.eq(self.o < 9), above.eq(self.o > 9), self.o_never.eq(below & above)]
        return m


COUNTER = Simulation(Counter)


async def counts(dut, rng, bits):
    """The lowest ``bits`` of the sum, and the bit."""
    total = 0
    for step in rng.integers(0, 16, STEPS).tolist():
        dut.i.value = step
        await RisingEdge(dut.clk)
        got = int(dut.o.value) % (1 << bits), int(dut.o_never.value)
        assert got == (total % (1 << bits), 0), f"after {total}: {got}"
        total += step


@pytest.fixture
def make(monkeypatch, tmp_path):
    """Its campaign, with a bench that looks at so many bits."""
    monkeypatch.setattr(campaign, "BUILD", tmp_path)
    monkeypatch.setenv("SEED", "7")

    def make(bits: int, mutants: int = 8) -> Campaign:
        monkeypatch.setattr(campaign, "runs", lambda _: [Run(counts, json.dumps({"bits": bits}))])
        return Campaign(Subject("counter", ("test_mutation",), "COUNTER", mutants))

    return make


def test_a_bench_that_looks_kills_all_but_equivalents(make):
    """Also those of the reset, as the module is a used one by then; a bit that is never set stays so."""
    counter = make(4, 60)
    counter.prepare()
    reset = [m for m in counter.mutants if m.port == "S" and m.mode == "const0"]
    never = [m for m in counter.mutants if m.cell.startswith("$and") and m.mode == "const0"]
    others = [m for m in counter.mutants if m.cell.startswith("$add") or m.port == "Q"][:3]
    assert len(reset) == 1 and never and len(others) == 3, counter.mutants
    fates = {str(m): counter.outcome(m).fate for m in [*reset, *others, never[0]]}
    assert list(fates.values()) == ["killed"] * 4 + ["equivalent"], fates


def test_a_bench_that_does_not_look_lets_mutants_survive(make):
    counter = make(1, 60)
    counter.prepare()
    upper = next(m for m in counter.mutants if m.port == "Q" and m.bit == 3)
    held = next(m for m in counter.mutants if m.port == "S" and m.mode == "inv")      # in reset
    assert [counter.outcome(m).fate for m in (upper, held)] == ["survived", "killed"]


def test_a_bench_that_fails_by_itself_is_no_campaign(make):
    counter = make(5)
    with pytest.raises(RuntimeError, match="counts bits=5 fails without a mutant"):
        counter.prepare()


class Stage(wiring.Component):
    """A pipeline stage that offers nothing but zeros where nothing is, and a carry that goes nowhere."""

    i: In(4)
    i_valid: In(1)
    o: Out(stream.Signature(4))
    o_sum: Out(4)

    def elaborate(self, _platform):
        m = Module()
        total = Signal(5)
        m.d.comb += [total.eq(self.i + self.o.payload), self.o_sum.eq(total)]
        m.d.sync += self.o.valid.eq(self.i_valid)
        with m.If(self.i_valid):
            m.d.sync += self.o.payload.eq(self.i)
        with m.Else():
            m.d.sync += self.o.payload.eq(0)
        return m


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    """Whether a mutant of the stage, chosen by a condition, is equivalent under a contract."""
    work = tmp_path_factory.mktemp("stage")
    _, mutants = mutate(work, Simulation(Stage).verilog(), "Stage", 500, 1)

    def proved(contract: Contract | None, **what) -> bool:
        chosen = [m for m in mutants if all(str(getattr(m, name)).startswith(str(value))
                                            for name, value in what.items())]
        assert chosen, f"{what}: none among {[*map(str, mutants)]}"
        return is_equivalent(work, chosen[0], "Stage", contract)

    return proved


def test_what_goes_nowhere_is_no_difference(proved):
    assert proved(None, cell="$add", port="Y", bit=4, mode="inv")
    assert not proved(Contract(), cell="$add", port="Y", bit=3, mode="inv")


def test_payload_counts_beside_valid(proved):
    zero = {"source": "if (i_valid)", "port": "A", "mode": "const1"}        # where nothing is
    assert not proved(None, **zero)
    assert proved(Contract(counts={"o_sum": "o__valid"}), **zero)
    assert not proved(Contract(), **zero), "the sum counts always"


def test_contract_may_say_what_comes_in(proved):
    low = {"cell": "$add", "port": "A", "bit": 0, "mode": "const0"}
    assert not proved(Contract(), **low)
    assert proved(Contract("i[0] == 0"), **low)
    assert not proved(Contract("!i_valid | i[0] == 0"), **low)


def test_contract_of_another_output_is_named():
    with pytest.raises(ValueError, match="Stage has no output 'o_total'; it has o__payload, "):
        Contract(counts={"o_total": "o__valid"}).verilog(Simulation(Stage).verilog(), "Stage")


def test_outcomes_are_kept_for_the_same_mutants_only(make):
    counter = make(4)
    killed = campaign.Outcome(counter.mutants[2], "killed", "x")
    survived = campaign.Outcome(counter.mutants[4], "survived")
    counter.keep([killed, survived])
    assert counter.known() == {3: killed, 5: survived}
    assert counter.known(retry=True) == {3: killed}, "what survived is tried again"
    assert make(4).known() == counter.known()
    assert make(3).known() == {} and make(4, 7).known() == {}


def test_samples_go_by_seed_and_leave_the_clock_alone(tmp_path):
    verilog = COUNTER.verilog()
    drawn = {seed: mutate(tmp_path, verilog, "Counter", 500, seed)[1] for seed in (1, 2)}
    first, again = drawn[1][:12], mutate(tmp_path, verilog, "Counter", 12, 1)[1]
    assert {(m.cell, m.port, m.bit) for m in drawn[1]} == {(m.cell, m.port, m.bit) for m in drawn[2]}
    assert len(again) == 12 and again != drawn[2][:12] and first
    assert not any("CLK" in mutant.port for mutant in drawn[1])
    assert len({(m.mode, m.cell, m.port, m.bit) for m in drawn[1]}) > 50


def test_each_subject_has_runs():
    """And is the simulation of the tests that it names."""
    assert [subject.name for subject in SUBJECTS.values() if not runs(subject)] == []
