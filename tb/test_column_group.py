"""A column group: waves of sums become entries of INT32, INT8, or the sums of columns."""

import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from backbeat_rtl.column_group import ColumnGroup, Entry, Settings
from backbeat_rtl.config import WORD
from backbeat_rtl.epilogue_model import requantise

from .harness import Simulation
from .streams import Sink, bits, cycle, fields
from .test_epilogue import settings

#: A group that is half of the array, one that is all of it, one narrower than a sum's update.
GROUPS = {width: Simulation(ColumnGroup, columns=columns, tiles=tiles, width=width, room=32)
          for columns, tiles, width in ((14, 4, 7), (4, 2, 4), (2, 2, 2))}
LOW, HIGH = -2**31, 2**31 - 1


class Model:
    """What a group keeps from wave to wave, in NumPy integers."""

    def __init__(self, group: ColumnGroup):
        self.tiles, self.width = group.tiles, group.width
        self.sums = np.zeros((group.tiles, group.width), np.int64)

    def new_phase(self, rng):
        """Other settings and another table; results of ``scale`` and less do not saturate."""
        self.settings, self.max_abs = settings(rng), 0
        self.scale = 2.0 ** rng.uniform(4, 30)
        shape = (2, self.tiles, self.width)
        self.multiplier = rng.integers(2**28, 2**31, shape) * rng.choice([-1, 1], shape)
        size = np.log2(abs(self.multiplier) * self.scale / 200)
        self.shift = np.clip(np.round(size), 0, 62).astype(int)
        self.bias = rng.integers(-self.scale / 4, self.scale / 4 + 1, shape).astype(np.int64)

    def entries(self, wave: dict, pairs: np.ndarray) -> list[tuple[bytes, bool, bool, bool]]:
        """Bytes of each entry, and whether it is the last of its wave, of a row, of all."""
        here = min(wave["columns"], self.width)
        acc = pairs[:here, int(wave["odd"])]
        at = (wave["tile"], slice(0, here))
        entry = (int(wave["half"]), *at)
        old = self.sums[at].copy()
        if wave["emit"]:
            value = old.astype("<i4")
        else:
            value = acc.astype("<i4")
            self.max_abs = max([self.max_abs, *np.abs(acc).tolist()])
            if wave["requantise"]:
                index = (wave["index"] + np.arange(here)) % 2**32
                value = requantise(acc, self.bias[entry], self.multiplier[entry], self.shift[entry],
                                   **self.settings, index=index)
            if wave["sum"]:
                total = value.astype(np.int64) + (0 if wave["sum_first"] else old)
                self.sums[at] = (total - LOW) % 2**32 + LOW
        raw = value.tobytes()
        out = [raw[start:start + WORD] for start in range(0, len(raw), WORD)] or [b""]
        ends = here > 0 and wave["columns"] <= self.width
        return [(part, last, last and ends and wave["end"], last and ends and wave["final"])
                for part in out for last in [part is out[-1]]]


def random_wave(rng, group: ColumnGroup) -> dict:
    """Mostly whole tiles; also single columns, and none that this group has."""
    flags = {name: bool(rng.random() < chance) for name, chance in (
        ("odd", 0.5), ("half", 0.5), ("end", 0.4), ("final", 0.2), ("requantise", 0.6), ("sum", 0.7),
        ("sum_first", 0.3), ("emit", 0.15))}
    columns = int(rng.choice([group.columns, group.width, rng.integers(0, group.columns + 1)]))
    return {**flags, "columns": columns, "tile": int(rng.integers(group.tiles)),
            "index": int(rng.choice([0, 2**32 - 2, rng.integers(2**32)]))}


def random_pairs(rng, group: ColumnGroup, scale: float) -> np.ndarray:
    """Sums of both rows of each column: within scale, and at times the ends of the range."""
    pairs = rng.uniform(-scale, scale, (group.width, 2)).astype(np.int64)
    ends = rng.choice([LOW, LOW + 1, -1, 0, HIGH], pairs.shape)
    return np.where(rng.random(pairs.shape) < 0.05, ends, pairs)


async def write_table(dut, group: ColumnGroup, model: Model):
    layout = group.i_table.shape()
    tile_bits = (group.tiles - 1).bit_length()
    dut.i_table_valid.value = 1
    for half, tile, lane in np.ndindex(2, group.tiles, group.width):
        place = (half << tile_bits | tile) << group.lane_bits | lane
        values = {name: int(getattr(model, name)[half, tile, lane])
                  for name in ("bias", "multiplier", "shift")}
        dut.i_table.value = bits(layout, entry=place, values=values)
        await ClockCycles(dut.clk, 1)
    dut.i_table_valid.value = 0


@pytest.mark.parametrize("width", GROUPS)
@pytest.mark.parametrize("stall", [0, 0.6])
def test_entries_match_model(width, stall):
    GROUPS[width].run(entries_match_model, width=width, stall=stall)


async def entries_match_model(dut, rng, width, stall):
    """Waves as close as they may come, and others, as long as there is room for what they become."""
    group = GROUPS[width].component
    model, sink = Model(group), Sink(dut, "o", rng, stall)
    distance = max(width, 4)
    for phase in range(16):
        model.new_phase(rng)
        dut.i_start.value, dut.i_clear.value = 0, 1
        dut.i_settings.value = bits(Settings, **model.settings)
        dut.i_requantise.value = 1
        await write_table(dut, group, model)
        dut.i_clear.value = 0

        waves = [(random_wave(rng, group), random_pairs(rng, group, model.scale)) for _ in range(60)]
        for tile in range(0 if phase else group.tiles):     # what its sums held before is anything
            waves[tile][0].update(tile=tile, columns=group.width, sum=True, sum_first=True, emit=False)
        expected, begun, started = [], 0, -distance
        stored, passed = {}, {}     # by cycle: a column and its sums; what goes on to the next group
        room = group.room // ColumnGroup.entries(width, 4)
        sink.words.clear()
        time = calm = 0
        while calm < 64:
            ended = sum(fields(Entry, word).last for word in sink.words)
            start = (begun < len(waves) and time - started >= distance and begun - ended < room
                     and rng.random() < 0.7)
            dut.i_start.value = int(start)
            dut.i_wave.value = int.from_bytes(rng.bytes(16)) % 2**len(dut.i_wave)
            if start:
                wave, pairs = waves[begun]
                expected += [(begun, *entry) for entry in model.entries(wave, pairs)]
                stored |= {time + 1 + lane: (lane, *pair) for lane, pair in enumerate(pairs.tolist())}
                passed[time + width] = {**wave, "index": (wave["index"] + width) % 2**32,
                                        "columns": max(wave["columns"] - width, 0)}
                dut.i_wave.value = bits(group.wave, **wave)
                begun, started = begun + 1, time
            # A column's sums are there for one cycle; the others' are somebody else's.
            sums = int.from_bytes(rng.bytes(8 * width))
            if time in stored:
                lane, even, odd = stored[time]
                pair = even % 2**32 | odd % 2**32 << 32
                sums = sums & ~(2**64 - 1 << 64 * lane) | pair << 64 * lane
            dut.i_stored.value = sums
            moved = await cycle(dut, sink)
            if time in passed:
                assert int(dut.o_wave.value) == bits(group.wave, **passed[time]), (
                    f"phase {phase}, wave before {begun}: o_wave is not {passed[time]}")
            calm = 0 if moved or begun < len(waves) else calm + 1
            time += 1
            assert time < 60 * 200, f"phase {phase}: {ended} of {begun} waves came out"

        for n, (word, (number, *wanted)) in enumerate(zip(sink.words, expected, strict=False)):
            entry = fields(Entry, word)
            found = [entry.bytes.to_bytes(WORD, "little")[:entry.count],
                     *map(bool, (entry.last, entry.end, entry.final))]
            assert found == wanted, (
                f"phase {phase}, entry {n} of wave {number} {waves[number][0]} of "
                f"{waves[number][1].tolist()} with {model.settings}: got {found}, expected {wanted}")
        assert len(sink.words) == len(expected), f"phase {phase}"
        assert int(dut.o_max_abs.value) == model.max_abs, f"o_max_abs of phase {phase}"
