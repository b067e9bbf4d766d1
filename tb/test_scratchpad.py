"""Loader, transposer and scratchpad: a panel read back is the panel that was written."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from backbeat.program import panel
from backbeat_rtl.config import WORD
from backbeat_rtl.core_model import panel_lanes, panel_words
from backbeat_rtl.loader import Loader
from backbeat_rtl.scratchpad import READ_LATENCY, Scratchpad, Transposer

from .harness import Simulation, drive, unpack

DEPTH, TILES = 64, 8
#: Cycles from a word to the first read that sees it.
VISIBLE = 3


class Buffer(wiring.Component):
    """The three of them, connected as in the datapath."""

    def __init__(self, *, lanes: int, group: int):
        self.load = Loader(lanes=lanes, depth=DEPTH, tiles=TILES)
        self.pad = Scratchpad(lanes=lanes, group=group, depth=DEPTH)
        pad, load = self.pad.signature.members, self.load.signature.members
        super().__init__({
            "i_start": In(1), "i_panel": load["i_panel"], "i_word": In(8 * WORD), "i_word_valid": In(1),
            "o_active": Out(1), "i_read": pad["i_read"], "o_first": pad["o_first"],
            "o_operands": pad["o_operands"]})

    def elaborate(self, _platform):
        m = Module()
        m.submodules.load, m.submodules.pad = load, pad = self.load, self.pad
        m.submodules.transposer = transposer = Transposer()
        m.d.comb += [
            load.i_start.eq(self.i_start), load.i_panel.eq(self.i_panel),
            load.i_word.eq(self.i_word_valid), self.o_active.eq(load.o_active),
            transposer.i_word.eq(self.i_word), transposer.i_across.eq(load.o_across),
            pad.i_write.eq(load.o_write), pad.i_data.eq(transposer.o_data),
            pad.i_read.eq(self.i_read),
            self.o_first.eq(pad.o_first), self.o_operands.eq(pad.o_operands),
        ]
        return m


BUFFERS = {(lanes, group): Simulation(Buffer, lanes=lanes, group=group)
           for lanes, group in ((14, 2), (6, 1))}


def shapes(rng, lanes: int, count: int):
    """(depth, tiles, last, across): full capacity, ragged ends, single bytes."""
    for _ in range(count):
        tiles = int(rng.choice([1, 2, 3, TILES]))
        words = DEPTH // WORD // tiles
        depth = int(rng.choice([1, WORD * words, rng.integers(1, WORD * words + 1)]))
        yield depth, tiles, int(rng.choice([1, lanes, rng.integers(1, lanes + 1)])), rng.random() < 0.5


@pytest.mark.parametrize("lanes", [4, 6, 8, 14, 16])
def test_model_undoes_the_memory_layout(lanes):
    rng = np.random.default_rng(1)
    for depth, tiles, last, across in shapes(rng, lanes, 50):
        matrix = rng.integers(-128, 128, ((tiles - 1) * lanes + last, depth), dtype=np.int8)
        stored = np.ascontiguousarray(matrix.T) if across else matrix
        words = panel(stored, slice(0, len(matrix)), slice(0, depth), across, lanes)
        words = words.view(np.int8).reshape(-1, WORD)
        assert len(words) == panel_words(lanes, depth, tiles, last, across)
        np.testing.assert_array_equal(panel_lanes(words, lanes, depth, tiles, last, across), matrix)


@pytest.mark.parametrize(("lanes", "group"), BUFFERS)
def test_panels_match_model(lanes, group):
    BUFFERS[lanes, group].run(panels_match_model, lanes=lanes, group=group)


def load(rng, shape: int, words: list[int], gave_up: bool):
    """(i_start, i_panel, i_word, i_word_valid) and whether o_active, cycle by cycle."""
    idle = rng.choice([0, 0.3])
    yield 1, shape, 0, 0, int(gave_up)
    for word in words:
        while rng.random() < idle:
            yield 0, 0, 0, 0, 1
        yield 0, 0, word, 1, 1


def pad(timeline: list, cycles: int, idle):
    timeline += [idle] * (cycles - len(timeline))


async def panels_match_model(dut, rng, lanes, group):
    component = BUFFERS[lanes, group].component
    writes, idle = [], (0, 0, 0, 0, 0)
    reads, read_end = [], [0, 0]        # (valid, first, address, operands in all lanes)
    nothing = 0, 0, 0, [0] * lanes
    for number, shape in enumerate(shapes(rng, lanes, 120)):
        depth, tiles, last, across = shape
        half = number % 2
        bits = component.load.panel.const({
            "depth": depth, "tiles": tiles, "last": last, "across": across,
            "start": half * DEPTH // WORD}).as_bits()
        words = rng.integers(-128, 128, (panel_words(lanes, *shape), WORD), dtype=np.int8)
        contents, words = panel_lanes(words, lanes, *shape), words.view("<u8")[:, 0].tolist()
        pad(writes, read_end[half] + lanes, idle)
        give_up = len(words) > 1 and rng.random() < 0.2
        if give_up:
            writes += load(rng, bits, words[:len(words) // 2], False)
        writes += load(rng, bits, words, give_up)

        pad(reads, len(writes) - 1 + VISIBLE, nothing)
        for tile in rng.permutation(tiles):
            operands = contents[tile * lanes:][:lanes].T.tolist()
            for k in rng.permutation(depth).tolist():
                address = half * DEPTH + int(tile) * -(-depth // WORD) * WORD + k
                reads.append((1, int(rng.integers(2)), address, operands[k]))
                if rng.random() < 0.1:
                    reads.append((0, 1, int(rng.integers(2 * DEPTH)), [0] * lanes))
        read_end[half] = len(reads)

    cycles = len(reads) + lanes + READ_LATENCY
    pad(writes, cycles, idle)
    pad(reads, cycles, nothing)
    *ports, active = map(list, zip(*writes, strict=True))
    i_read = component.pad.signature.members["i_read"].shape
    got = await drive(dut, {
        **dict(zip(("i_start", "i_panel", "i_word", "i_word_valid"), ports, strict=True)),
        "i_read": [i_read.const({"valid": valid, "first": first, "address": address}).as_bits()
                   for valid, first, address, _ in reads],
    }, ["o_active", "o_first", "o_operands"])

    assert got["o_active"] == active, "o_active covers the wrong cycles"
    operands = [unpack(value, 8, lanes) for value in got["o_operands"]]
    for t, (_, first, address, expected) in enumerate(reads[:-lanes - READ_LATENCY]):
        for lane, value in enumerate(expected):
            seen = t + READ_LATENCY + lane // group
            found = operands[seen][lane], got["o_first"][seen] >> lane // group & 1
            assert found == (value, first), (
                f"read {t} of address {address}, lane {lane}: got (operand, first) {found}, "
                f"expected {value, first}")
