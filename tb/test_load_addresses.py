"""Loading's addresses: bursts that AXI allows, and together exactly the words of the rectangles."""

import pytest

from backbeat_rtl.config import WORD
from backbeat_rtl.gather import Move, Segment
from backbeat_rtl.load_addresses import BurstInfo, LoadAddresses, Splitter, Target
from backbeat_rtl.memory_port import PAGE, Burst

from .harness import Simulation
from .streams import Sink, Source, bits, cycle, drain, fields
from .test_gather import CLASSES, Walk, expected_words, gathered, geometry, port_value, tensor

SPLITTER, ADDRESSES = Simulation(Splitter), Simulation(LoadAddresses)
MOST_BEATS = 256
#: Bytes in the 18 bits of a rectangle's width.
MOST_BYTES = 2**18 - 1


def _inside(rng):
    """Within a page."""
    address = int(rng.integers(0, PAGE // WORD)) * WORD
    return address, int(rng.integers(1, min(PAGE - address, 300) + 1))


def _boundary(rng):
    """Ends at the end of a page, or a byte before or behind it, or a word."""
    size = int(rng.integers(9, 2 * PAGE))
    return (PAGE - size) // WORD * WORD % PAGE, size + int(rng.choice([-WORD, -1, 0, 1, WORD]))


def _longest_burst(rng):
    """As many words as a burst may have, or one more or less, from anywhere in the page."""
    address = int(rng.choice([0, 8, PAGE // 2 - 8, PAGE // 2, PAGE // 2 + 8, PAGE - 8]))
    return address, WORD * int(MOST_BEATS * rng.integers(1, 4) + rng.integers(-1, 2))


def _long(rng):
    """Some dozens of bursts, up to the longest row."""
    return int(rng.integers(0, PAGE // WORD)) * WORD, int(
        rng.choice([MOST_BYTES, MOST_BYTES - 7, rng.integers(PAGE, MOST_BYTES)]))


SEGMENTS = {"inside": (_inside, 120), "boundary": (_boundary, 120),
            "longest_burst": (_longest_burst, 80), "long": (_long, 12)}


class Idle:
    """Sees that the splitter is idle whenever all words of all segments taken have been announced, and
    only then. The first of those that are sampled.

    Parameters
    ----------
    words : list of int
        Of each segment.
    """

    def __init__(self, dut, source, infos, words):
        self.dut, self.source, self.infos, self.words = dut, source, infos, words
        self.taken = self.told = self.inside = 0

    def drive(self):
        pass

    def sample(self) -> bool:
        self.inside += sum(self.words[self.taken:self.source.sent])
        self.inside -= sum(fields(BurstInfo, word).length + 1 for word in self.infos.words[self.told:])
        self.taken, self.told = self.source.sent, len(self.infos.words)
        idle = bool(self.dut.o_idle.value)
        assert idle == (self.inside == 0), f"o_idle is {idle}, with {self.inside} words inside"
        return False


def take(sinks) -> tuple[list, list]:
    """What has come out, and is now forgotten."""
    bursts, infos = ([fields(layout, word) for word in sink.words]
                     for sink, layout in zip(sinks, (Burst, BurstInfo), strict=True))
    for sink in sinks:
        sink.words.clear()
    return bursts, infos


def check_bursts(bursts, infos, what: str):
    """The rules of AXI, and that ``bursts`` are those of ``infos`` that are in memory."""
    for burst in bursts:
        assert burst.length < MOST_BEATS, f"{what}: {burst}"
        assert burst.address % WORD == 0, f"{what}: {burst} is not aligned"
        end = burst.address % PAGE + WORD * (burst.length + 1)
        assert end <= PAGE, f"{what}: {burst} leaves the page"
    assert [(burst.address, burst.length) for burst in bursts] == [
        (info.address, info.length) for info in infos if not info.zero], what


def words_of(infos, what: str) -> list:
    """Every word announced, as in test_gather, with its bytes."""
    out = []
    for info in infos:
        assert 1 <= info.tail <= WORD, f"{what}: {info}"
        for n in range(info.length + 1):
            last = n == info.length
            out.append((None if info.zero else (info.address + n * WORD) % 2**32,
                        bool(info.row_end and last), bool(info.end and last),
                        info.tail if last else WORD))
    return out


@pytest.mark.parametrize("kind", SEGMENTS)
def test_segments_are_covered_exactly(kind):
    SPLITTER.run(segments_are_covered_exactly, kind=kind)


async def segments_are_covered_exactly(dut, rng, kind):
    """No burst is too long or crosses a page; their words are those of the segments, marks too."""
    choose, count = SEGMENTS[kind]
    for stall in (0, 0.5):
        source = Source(dut, "i", rng, stall / 2)
        sinks = [Sink(dut, name, rng, stall, steady=True) for name in ("o_burst", "o_info")]
        expected, fetches, words_of_each = [], [], []
        for _ in range(count):
            offset, size = choose(rng)
            address = (offset + PAGE * int(rng.choice([0, rng.integers(0, 2**20), 2**20 - 1]))) % 2**32
            zero, fetch, row_end = (bool(rng.random() < chance) for chance in (0.2, 0.3, 0.5))
            end = row_end and rng.random() < 0.5
            source.words.append(bits(Segment, address=address, bytes=size, zero=zero, fetch=fetch,
                                     row_end=row_end, end=end))
            words = -(-size // WORD)
            words_of_each.append(words)
            for n in range(words):
                last = n == words - 1
                expected.append((None if zero else (address + n * WORD) % 2**32, row_end and last,
                                 end and last, size - n * WORD if last else WORD))
            fetches += [fetch] * words

        await drain(dut, Idle(dut, source, sinks[1], words_of_each), source, *sinks)
        bursts, infos = take(sinks)
        check_bursts(bursts, infos, kind)
        got = words_of(infos, kind)
        for n, (found, wanted) in enumerate(zip(got, expected, strict=False)):
            assert found == wanted, f"{kind}, {stall=}, word {n}: got {found}, expected {wanted}"
        assert len(got) == len(expected), f"{kind}, {stall=}"
        marks = [info.fetch for info in infos for _ in range(info.length + 1)]
        assert marks == fetches, f"{kind}: fetch"


class Matrix:
    """One target: where each word of its matrix is, and rectangles of it."""

    def __init__(self, rng, target: int):
        rows, columns = int(rng.integers(1, 30)), int(rng.integers(1, 600))
        if rng.random() < 0.2:
            columns = int(rng.integers(1, 10000))
        far = target == Target.B and rng.random() < 0.2     # long groups of short rows
        if far:
            rows, columns = int(rng.choice([300, 1500, 2600])), int(rng.integers(1, 30))
        self.base = WORD * int(rng.choice([0, rng.integers(0, 2**29), 2**29 - 200]))
        self.pitch = -(-columns // WORD) * WORD + WORD * int(rng.integers(0, 40))
        self.group, self.wrap = 0, 0
        if target == Target.B and rng.random() < 0.8:
            self.group = int(rng.integers(200, rows) if far else rng.integers(1, 8))
            self.wrap = WORD * int(rng.integers(-5000, 5000))
        address, matrix = self.base, []
        for row in range(rows):
            matrix.append([(address + WORD * n) % 2**32 for n in range(-(-columns // WORD))])
            wraps = self.group and row % self.group == self.group - 1
            address += self.wrap if wraps else self.pitch
        self.words, self.walk = matrix, Walk(rng, rows, columns)


class Patches(Matrix):
    """The same, gathered."""

    def __init__(self, rng):
        self.fields = tensor(rng, CLASSES["backward"](rng))
        if rng.random() < 0.2:      # segments of as many bytes as there can be
            self.fields = geometry(self.fields, pixel=WORD * int(rng.integers(2**11, 2**13)), taps_x=1,
                                   grid_y=1, grid_x=1)
        rows = self.fields["grid_y"] * self.fields["grid_x"] * 2
        columns = self.fields["pixel"] * self.fields["taps_x"] * 2
        self.base, self.pitch, self.group, self.wrap = WORD * int(rng.integers(0, 2**29)), 0, 0, 0
        self.words = gathered(self.fields, self.base, rows, columns)
        self.walk = Walk(rng, rows, columns)


@pytest.mark.parametrize("gathered_operand", [None, Target.A, Target.B])
def test_rectangles_are_covered_exactly(gathered_operand):
    ADDRESSES.run(rectangles_are_covered_exactly, gathered_operand=gathered_operand)


async def rectangles_are_covered_exactly(dut, rng, gathered_operand):
    """Targets in any order: each goes on from its own last rectangle. B in groups of rows too."""
    layout = ADDRESSES.component.order
    source = Source(dut, "i", rng)
    sinks = [Sink(dut, name, rng, steady=True) for name in ("o_burst", "o_info")]
    for number in range(24):
        source.idle = sinks[0].stall = sinks[1].stall = float(rng.choice([0, 0.4]))
        matrices = [Matrix(rng, target) for target in range(4)]
        dut.i_gather.value = 0
        if gathered_operand is not None:
            matrices[gathered_operand] = patches = Patches(rng)
            dut.i_gather.value, dut.i_fields.value = 1 << gathered_operand, port_value(patches.fields)
        for name in ("base", "pitch"):
            getattr(dut, f"i_{name}").value = sum(
                getattr(matrix, name) % 2**32 << 32 * n for n, matrix in enumerate(matrices))
        dut.i_group.value, dut.i_wrap.value = matrices[1].group, matrices[1].wrap % 2**32
        for _ in range(2):      # the gatherer wants its fields some time before
            await cycle(dut)
        orders, expected = [], []
        # Often enough B alone, so that its groups of rows are left and come back to in every order.
        targets = [*range(4)] if rng.random() < 0.6 else [Target.B]
        for _ in range(12):
            target = int(rng.choice(targets))
            matrix = matrices[target]
            if target == Target.DESCRIPTOR:     # always from the beginning
                matrix.walk.first = True
            rectangle, rows, columns = matrix.walk.rectangle()
            orders.append((target, rectangle))
            source.words.append(bits(layout, target=target, rectangle=rectangle))
            tail = (rectangle["bytes"] - 1) % WORD + 1
            expected += [(*word, tail if word[1] else WORD)
                         for word in expected_words(matrix.words, rows, columns)]
        await drain(dut, source, *sinks)
        assert dut.o_idle.value, "o_idle"
        what = f"descriptor {number}, {orders}, group {matrices[1].group}"
        bursts, infos = take(sinks)
        check_bursts(bursts, infos, what)
        got = words_of(infos, what)
        for n, (found, wanted) in enumerate(zip(got, expected, strict=False)):
            assert found == wanted, f"{what}, word {n}: got {found}, expected {wanted}"
        assert len(got) == len(expected), what
        ends = iter(target == Target.DESCRIPTOR for target, _ in orders)
        fetch = next(ends)
        for info in infos:
            assert info.fetch == fetch, f"{what}: {info}"
            fetch = next(ends, None) if info.end else fetch


@pytest.mark.parametrize(("longest", "other"), [(Target.A, Target.B), (Target.B, Target.A)])
def test_rows_of_megabytes_are_covered(longest, other):
    ADDRESSES.run(rows_of_megabytes_are_covered, longest=longest, other=other)


async def rows_of_megabytes_are_covered(dut, rng, longest, other):
    """Column by column dozens of megabytes of one operand, now and then something of the other, and
    back again to where one of them was."""
    source = Source(dut, "i", rng)
    sinks = [Sink(dut, name, rng, steady=True) for name in ("o_burst", "o_info")]
    dut.i_gather.value = dut.i_group.value = 0
    bases = [WORD * int(rng.integers(2**29)) for _ in range(4)]
    pitches = [PAGE * int(rng.integers(2**20)) for _ in range(4)]
    for name, values in (("base", bases), ("pitch", pitches)):
        getattr(dut, f"i_{name}").value = sum(value << 32 * n for n, value in enumerate(values))
    expected, columns = [], {longest: (0, 0), other: (0, 0)}
    for number in range(280):
        target = (longest, other)[number] if number < 2 else other if rng.random() < 0.1 else longest
        here, after = columns[target]
        move = Move.ZERO if number < 2 else int(rng.choice([Move.SAME, *9 * [Move.NEXT]]))
        begin = {Move.ZERO: 0, Move.SAME: here, Move.NEXT: after}[move]
        size = MOST_BYTES // WORD * WORD if rng.random() < 0.9 else WORD * int(rng.integers(1, 500))
        rows = 1 if rng.random() < 0.8 else 2
        columns[target] = begin, begin + size
        source.words.append(bits(ADDRESSES.component.order, target=target, rectangle={
            "rows": rows, "bytes": size, "row_move": Move.ZERO, "column_move": move}))
        expected += [((bases[target] + row * pitches[target] + begin) % 2**32, size // WORD)
                     for row in range(rows)]
    await drain(dut, source, *sinks)
    bursts, infos = take(sinks)
    check_bursts(bursts, infos, "megabytes")
    got, begin, words = [], None, 0
    for info in infos:
        begin = info.address if begin is None else begin
        assert info.address == (begin + WORD * words) % 2**32, f"{info} does not go on at {begin:#x}"
        words += info.length + 1
        if info.row_end:
            got.append((begin, words))
            begin, words = None, 0
    assert got == expected
    assert columns[longest][0] > 2**25
