"""The goldens match; a register stage more is caught, wherever it is, and another name is not."""

import errno
import os
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from backbeat_rtl import pipeline

from . import wave_signals, waves
from .wave_drawing import draw
from .wave_scenarios import SCENARIOS, Scenario
from .wave_signals import WaveError, find_ports
from .wave_trace import GoldenError, Lane, Trace, first_difference, from_text, to_text
from .waves import Recorder, compare, golden, main, read_golden, stale, update

RECORDERS = {memory: Recorder(memory) for memory in (False, True)}
#: Declaration of a register in Amaranth's Verilog, and what puts a value into one.
REGISTER = re.compile(r"^ *reg (?P<width>\[\d+:0\] )?(?P<name>\\\S+ |\w+) *= "
                      r"(?P<init>\d+'[hd][0-9a-f]+);\n", re.MULTILINE)
CLOCKED = re.compile(r"(@\(posedge clk\)\n +)(\\\S+|\w+)( ?) <=")


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_scenario_is_as_in_its_golden(scenario):
    assert not compare(scenario, RECORDERS[scenario.memory])


def test_every_golden_has_a_scenario():
    assert not stale()


class Altered(Recorder):
    """A core with a second stage behind any one of its registers, as ``alter`` says.

    Attributes
    ----------
    registers : list of str
        All of them, ``module.name`` as in the Verilog.
    """

    def __init__(self, memory: bool):
        super().__init__(memory)
        self.registers = []

    def verilog(self) -> str:
        self.registers = []
        return re.sub(r"^module .*?^endmodule", self._module, super().verilog(),
                      flags=re.MULTILINE | re.DOTALL)

    def _module(self, match: re.Match) -> str:
        text = match[0]
        module = re.match(r"module \\?(\S+)", text)[1]
        clocked = {name for _, name, _ in CLOCKED.findall(text)}

        def stage(register: re.Match) -> str:
            name, width, init = register["name"].strip(), register["width"] or "", register["init"]
            if name not in clocked:
                return register[0]
            self.registers.append(f"{module}.{name}")
            number = len(self.registers) - 1
            return (f"  reg {width}{name}__early = {init};\n  reg {width}{name}__late = {init};\n"
                    f"  always @(posedge clk) {name}__late <= {name}__early ;\n"
                    f"  wire {width}{name} = altered == {number} ? {name}__late : {name}__early ;\n")

        head, body = CLOCKED.sub(r"\1\2__early <=", REGISTER.sub(stage, text)).split(";\n", 1)
        return (f"{head};\n  integer altered;\n"
                f'  initial if (!$value$plusargs("altered=%d", altered)) altered = -1;\n{body}')

    def alter(self, register: str):
        """A stage more behind this register in what is recorded from now on; an empty name: nowhere."""
        self.plusargs = [f"+altered={self.registers.index(register)}"] if register else []


@pytest.fixture(scope="module")
def altered():
    """One whose delays have other names, too."""
    line = pipeline.delay_line

    def renamed(*arguments, name, **options):
        return line(*arguments, name=f"other_{name}", **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "delay_line", renamed)
        core = Altered(memory=False)
        core.build()
    # Among them names of ports of Verilog modules, where a delay is all that is behind an output.
    assert "Cfu.core.engine.datapath.accumulators.other_end_4" in core.registers
    assert len(core.registers) > 300
    return core


@pytest.mark.parametrize("name", ["one_tile", "requantised_stochastically"])
def test_other_names_inside_make_no_difference(altered, name):
    altered.alter("")
    assert not compare(SCENARIOS[name], altered)


def test_recording_leaves_the_output_alone(altered, monkeypatch, capsys):
    """It is the process' own: a campaign records in two threads."""
    attempt, seen = Recorder.attempt, []
    monkeypatch.setattr(Recorder, "attempt", lambda recorder, *arguments, **environment: (
        seen.append(sys.stdout) or attempt(recorder, *arguments, **environment)))
    altered.alter("")
    altered.record(SCENARIOS["soft_reset"])
    assert seen == [sys.stdout] and not capsys.readouterr().out


def first_that_counts(name: str, port: str) -> int:
    """The first cycle in which a port of the golden counts and is not zero."""
    return next(n for n, value in enumerate(read_golden(name).lanes[port].values) if value)


@pytest.mark.parametrize(("register", "name", "port"), [
    ("engine.datapath.array.sums_0", "one_tile", "array.o_sums[0]"),
    ("engine.datapath.array.sums_3", "orientation_nn", "array.o_sums[3]"),
    ("engine.datapath.sequencer.o_last", "shortest_tiles", "sequencer.o_last"),
    ("engine.readout.group_0.epilogue.requantiser.o_value", "requantised_to_nearest",
     "epilogue.o_value"),
    ("o__valid", "one_tile", "door.rsp_valid"),
])
def test_a_register_stage_more_is_caught(altered, tmp_path, register, name, port):
    altered.alter(f"Cfu.core.{register}")
    report = compare(SCENARIOS[name], altered, tmp_path)
    cycle = first_that_counts(name, port)
    assert report.startswith(f"{name}: cycle {cycle}, {port}: expected "), report
    # What is late also makes each of these results wrong, and the report says so.
    assert ": AssertionError: " in report and "log.txt" in report
    text = " ".join(ElementTree.parse(tmp_path / f"{name}.svg").getroot().itertext())
    assert f"{name}, cycle {cycle}: {port} is " in text
    assert "expected" in text and "got" in text and "clk" in text and "door.cmd_valid" in text


def random_trace(rng, cycles: int = 90) -> Trace:
    """Lanes of all kinds, also such that never are anything."""
    lanes = {}
    kinds = (1, False), (1, True), (7, False), (64, True), (300, False)
    for number, (bits, gated) in enumerate(kinds):
        values = [None if gated and rng.random() < 0.5
                  else int.from_bytes(rng.bytes(40)) % (1 << bits) * int(rng.random() < 0.5)
                  for _ in range(cycles)]
        held = [values[n - n % int(rng.integers(1, 9))] for n in range(cycles)]
        lanes[f"block.o_{number}[{number}].field"] = Lane(bits, gated, held)
        lanes[f"block.never_{number}"] = Lane(bits, gated, [None if gated else 0] * cycles)
    return Trace(cycles, lanes)


def test_golden_says_all_of_a_trace():
    for seed in range(50):
        trace = random_trace(np.random.default_rng(seed))
        text = to_text(trace, ["a title"])
        read = from_text(text, "golden.txt")
        assert read == trace
        assert to_text(read, ["a title"]) == text
        # A value of 300 bits is a word of 75 digits and its cycles.
        assert max(map(len, text.splitlines())) <= 100


def test_difference_is_the_first_one():
    one, other = (random_trace(np.random.default_rng(5)) for _ in range(2))
    assert first_difference(one, other) is None
    names = list(one.lanes)
    for name, cycle in ((names[8], 40), (names[2], 41), (names[4], 40)):
        lane = other.lanes[name].values
        lane[cycle] = (lane[cycle] or 0) ^ 1
    found = first_difference(one, other)
    assert (found.cycle, found.name) == (40, names[4])      # of two in one cycle the one upstream
    assert found.others == [(40, names[8]), (41, names[2])]
    before = one.lanes[names[4]].values[40]
    assert int(found.expected, 0) == before and int(found.got, 0) == before ^ 1
    short = Trace(60, {name: Lane(lane.bits, lane.gated, lane.values[:60])
                       for name, lane in one.lanes.items()})
    assert str(first_difference(one, short)) == (
        "cycle 60, the end: expected after 90 cycles, got after 60 cycles")
    del short.lanes[names[3]]
    assert first_difference(one, short).name == names[3]
    assert first_difference(short, one).name == names[3]


TEXT = """\
# title
cycles 20
door.valid 1: 3 5-7
door.payload 8*: 3=0 5-7=ff
never door.ready/1
"""


@pytest.mark.parametrize(("old", "new", "line", "what"), [
    ("cycles 20\n", "", 2, "expected the number of cycles"),
    ("cycles 20", "cycles many", 2, "expected the number of cycles"),
    ("door.valid 1:", "door.valid:", 3, "expected a port, its bits and a colon"),
    ("5-7\n", "5-7=1\n", 3, "expected cycles, found '5-7=1'"),
    ("=ff", "", 4, "expected cycles=value, found '5-7'"),
    ("=ff", "=fF", 4, "expected cycles=value"),
    ("=ff", "=1ff", 4, "has more than 8 bits"),
    ("5-7=ff", "5-20=ff", 4, "not behind 3 and before 20"),
    ("5-7=ff", "2=ff", 4, "not behind 3 and before 20"),
    ("5-7=ff", "5-7=ff 7=1", 4, "not behind 7 and before 20"),
    ("door.payload", "door.valid", 4, "door.valid a second time"),
    ("door.ready/1", "door.ready", 5, "expected name/bits"),
    ("never door.ready/1\n", "", 5, "the file ends before"),
    ("<<<", "<<<<<<< ours", 3, "expected a port"),
])
def test_a_broken_golden_says_where(old, new, line, what):
    text = TEXT.replace("door.valid 1:", f"{old}\ndoor.valid 1:", 1) if old == "<<<" else TEXT
    assert from_text(TEXT, "x").lanes["door.payload"].values[4:7] == [None, 255, 255]
    with pytest.raises(GoldenError) as caught:
        from_text(text.replace(old, new, 1), "golden/one.txt")
    assert f"golden/one.txt:{line}: " in str(caught.value) and what in str(caught.value)
    assert "make waves-update T=one" in str(caught.value)


def test_a_picture_shows_the_cycles_around_the_difference(tmp_path):
    one, other = (random_trace(np.random.default_rng(3)) for _ in range(2))
    wide = "block.o_4[4].field"
    one.lanes[wide].values[70:] = [0x123456789] * 20
    other.lanes[wide].values[70:] = [0] * 20
    path = draw("some", one, other, first_difference(one, other), tmp_path)
    text = list(ElementTree.parse(path).getroot().itertext())
    assert path.name == "some.svg" and os.listdir(tmp_path) == ["some.svg"]
    assert f"some, cycle 70: {wide} is 0, expected 0x123456789" in text
    assert text.count(wide) == 2 and "…23456789" in text
    assert {"64", "70", "83"} <= set(text) and "63" not in text      # cycles below their ticks


class Fake:
    """Records what it is told."""

    def __init__(self, trace: Trace, failed: str = ""):
        self.answer = trace, failed

    def record(self, _scenario):
        return self.answer


@pytest.fixture
def goldens(tmp_path, monkeypatch):
    monkeypatch.setattr(waves, "GOLDENS", tmp_path / "golden")
    monkeypatch.setattr(waves, "DRAWINGS", tmp_path / "waves")
    return tmp_path / "golden"


async def some(_dut, _rng):
    """What it is about."""


SOME = Scenario("some", some, False)


def test_update_writes_what_has_changed_and_says_it(goldens):
    trace = from_text(TEXT, "x")
    assert "there is no such file; `make waves-update T=some` makes it" in compare(SOME, Fake(trace))
    assert update(SOME, Fake(trace)) == "some: new"
    written = golden("some").read_bytes()
    assert b"# some: What it is about.\n" in written and os.listdir(goldens) == ["some.txt"]
    assert update(SOME, Fake(trace)) == ""
    assert not compare(SOME, Fake(trace))
    trace.lanes["door.payload"].values[3] = 9
    assert update(SOME, Fake(trace)) == "some: cycle 3, door.payload: expected 0, got 9"
    assert golden("some").read_bytes() == written.replace(b"3=0", b"3=9")
    golden("some").write_text("nonsense\n")
    assert "some.txt:1: expected the number of cycles" in compare(SOME, Fake(trace))
    golden("some").write_bytes(b"cycles \xff\n")
    assert "byte 7 is no text" in compare(SOME, Fake(trace))
    assert update(SOME, Fake(trace)) == "some: could not be read"
    with pytest.raises(WaveError, match="some fails, so its golden stays as it is: wrong sum"):
        update(SOME, Fake(from_text(TEXT, "x"), "wrong sum"))
    assert not compare(SOME, Fake(trace))
    assert compare(SOME, Fake(trace, "wrong sum")) == "some:\n  it fails: wrong sum"


def test_update_that_breaks_off_leaves_the_old_golden(goldens, monkeypatch):
    trace = from_text(TEXT, "x")
    update(SOME, Fake(trace))
    written = golden("some").read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "replace", fail)
    trace.lanes["door.valid"].values[0] = 1
    with pytest.raises(OSError, match="disk full"):
        update(SOME, Fake(trace))
    assert golden("some").read_bytes() == written and os.listdir(goldens) == ["some.txt"]


def test_goldens_of_no_scenario_are_reported_and_removed(goldens, monkeypatch, capsys):
    monkeypatch.setattr(waves, "SCENARIOS", {})
    goldens.mkdir()
    (goldens / "old.txt").touch()
    assert main([]) == 1
    said = capsys.readouterr().out
    assert "old.txt: there is no such scenario; `make waves-update` removes it" in said
    assert main(["--update"]) == 0
    assert "old: removed" in capsys.readouterr().out and not os.listdir(goldens)


def test_an_unknown_scenario_is_refused_with_those_there_are(capsys):
    assert main(["one_tyle"]) == 1
    said = capsys.readouterr().out
    assert "there is no scenario 'one_tyle'" in said and "one_tile, orientation_nn" in said


@pytest.mark.parametrize(("instance", "members", "said"), [
    ("core.engine.data", "o_busy", "block 'new': no data in Cfu.core.engine, only datapath, panels_a"),
    ("core.engine.datapath.array", "o_sum", "SystolicArray has no o_sum, only i_a, i_first, i_b"),
    ("core.engine.datapath.array", "o_valid?o_sums[9]", "SystolicArray has no o_sums[9]"),
    ("core.engine.datapath.array", "elaborate", "elaborate of SystolicArray is no value"),
])
def test_a_port_that_is_not_there_is_named(monkeypatch, instance, members, said):
    monkeypatch.setattr(wave_signals, "BLOCKS", {"new": wave_signals.Block(instance, members)})
    with pytest.raises(WaveError) as caught:
        find_ports(Recorder(False).component, "Cfu", False)
    assert said in str(caught.value) and "tb/wave_signals.py" in str(caught.value)
