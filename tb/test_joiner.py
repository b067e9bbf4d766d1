"""The joiner: entries of all groups, in turn, are the bytes of rows, each from a beat of its own."""

import pytest

from backbeat_rtl.column_group import Entry
from backbeat_rtl.config import WORD
from backbeat_rtl.joiner import Beat, Joiner

from .harness import Simulation
from .streams import Pulses, Source, bits, drain, fields

JOINERS = {groups: Simulation(Joiner, groups=groups) for groups in (1, 2, 4)}


class Room:
    """Says whether there is room for a beat, and takes those that come when there was."""

    def __init__(self, dut, rng, stall: float):
        self.dut, self.rng, self.stall, self.words, self.room = dut, rng, stall, [], False

    def drive(self):
        self.given, self.room = self.room, bool(self.rng.random() >= self.stall)
        self.dut.i_room.value = int(self.room)

    def sample(self) -> bool:
        came = bool(self.dut.o_valid.value)
        assert self.given or not came, "a beat for which there was no room"
        if came:
            self.words.append(int(self.dut.o.value))
        return came


class Empty:
    """Sees that nothing is said to be empty while a row that was taken has not come out. The first of
    those that are sampled."""

    def __init__(self, dut, sources, room: Room):
        self.dut, self.sources, self.room, self.taken = dut, sources, room, 0

    def drive(self):
        self.offered = [(source, source.words[0]) for source in self.sources if source.words]

    def sample(self) -> bool:
        if self.dut.o_empty.value:
            given = sum(fields(Beat, beat).end for beat in self.room.words)
            assert self.taken == given, f"empty, with {given} of {self.taken} rows"
        self.taken += sum(fields(Entry, word).end for source, word in self.offered
                          if source.offering and source.ready.value)
        return False


def _whole(rng):
    """Full entries; only the last of a row is not."""
    return [WORD] * int(rng.integers(1, 5))


def _narrow(rng):
    """One short entry a wave, as groups of few columns give."""
    return [int(rng.integers(1, WORD))]


def _ragged(rng):
    """Full entries and a rest, as INT8 of 9...15 columns give."""
    return [WORD] * int(rng.integers(0, 3)) + [int(rng.integers(1, WORD + 1))]


def _anything(rng):
    return rng.integers(1, WORD + 1, rng.integers(1, 5)).tolist()


CLASSES = {"whole": _whole, "narrow": _narrow, "ragged": _ragged, "anything": _anything}


def waves_of_a_row(rng, groups: int, counts) -> list[list[list[int]]]:
    """Wave by wave and group by group the bytes of each entry; the last wave may end in any group."""
    waves = [[counts(rng) for _ in range(groups)] for _ in range(int(rng.integers(1, 5)))]
    used = int(rng.integers(1, groups + 1))
    waves[-1][used - 1][-1] = int(rng.integers(1, WORD + 1))
    waves[-1][used:] = [[0] for _ in range(groups - used)]
    return waves


@pytest.mark.parametrize("groups", JOINERS)
@pytest.mark.parametrize("stall", [0, 0.5])
def test_rows_match_entries(groups, stall):
    JOINERS[groups].run(rows_match_entries, groups=groups, stall=stall)


async def rows_match_entries(dut, rng, groups, stall):
    sources = [Source(dut, f"i__{g}", rng) for g in range(groups)]
    sink, waves_taken = Room(dut, rng, stall), Pulses(dut, "o_wave")
    for phase in range(24):
        kind = list(CLASSES)[phase % len(CLASSES)]
        for source in sources:      # at times one lags behind the others
            source.idle = float(rng.choice([0, stall, 0.9 * (stall > 0)]))
        expected, waves = [], 0
        for _ in range(20):
            row, final, shape = b"", bool(rng.random() < 0.1), waves_of_a_row(rng, groups, CLASSES[kind])
            total = sum(count for wave in shape for group in wave for count in group)
            for wave in shape:
                for g, counts in enumerate(wave):
                    for n, count in enumerate(counts):
                        data = rng.bytes(count)
                        row += data
                        end = len(row) == total and count > 0
                        sources[g].words.append(bits(
                            Entry, bytes=int.from_bytes(data, "little"), count=count,
                            last=n == len(counts) - 1, end=end, final=end and final))
            waves += len(shape)
            for start in range(0, total, WORD):
                end = start + WORD >= total
                expected.append((row[start:start + WORD], end, end and final))
        sink.words.clear()
        waves_taken.values.clear()
        await drain(dut, Empty(dut, sources, sink), *sources, sink, waves_taken)

        what = f"phase {phase}, {kind}"
        for n, (beat, wanted) in enumerate(zip(sink.words, expected, strict=False)):
            beat = fields(Beat, beat)
            found = (beat.bytes.to_bytes(WORD, "little")[:beat.count], bool(beat.end),
                     bool(beat.final))
            assert found == wanted, f"{what}, beat {n}: got {found}, expected {wanted}"
        assert len(sink.words) == len(expected), what
        assert len(waves_taken.values) == waves, f"{what}: o_wave"
        assert dut.o_empty.value, f"{what}: o_empty"
