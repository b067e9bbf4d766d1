"""The realigner: the bytes of every row, in order, in words that begin where a tile does."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from backbeat_rtl.config import WORD
from backbeat_rtl.load_data import Realigner, Word

from .harness import Simulation
from .streams import Sink, Source, bits, cycle, fields


class Inside(wiring.Component):
    """The realigner one level down, where Verilator may take its payload apart.

    As a port it is kept whole, and as a whole it seems to depend on itself.
    """

    def __init__(self, *, lanes: tuple[int, int]):
        self.realigner = Realigner(lanes=lanes)
        super().__init__(self.realigner.signature)

    def elaborate(self, _platform):
        m = Module()
        m.submodules.realigner = self.realigner
        wiring.connect(m, wiring.flipped(self.i), self.realigner.i)
        m.d.comb += [
            *(self.o.payload[name].eq(self.realigner.o.payload[name]) for name, _ in Word),
            self.o.valid.eq(self.realigner.o.valid), self.realigner.o.ready.eq(self.o.ready),
            self.realigner.i_cut.eq(self.i_cut),
        ]
        return m


REALIGNERS = {lanes: Simulation(Inside, lanes=lanes) for lanes in ((4, 4), (6, 5), (32, 14))}


def words_of(row: bytes, lanes: int, end: bool) -> list[tuple[bytes, bool, bool]]:
    """The words of a row whose tiles are so many bytes, and the marks of the last one."""
    tiles = [row[start:start + lanes] for start in range(0, len(row), lanes)]
    words = [tile[start:start + WORD] for tile in tiles for start in range(0, len(tile), WORD)]
    return [(word, n == len(words) - 1, end and n == len(words) - 1) for n, word in enumerate(words)]


def sizes(rng, lanes: int) -> int:
    """Bytes of a row: less than a tile, whole tiles and a byte more or less, whole words, anything."""
    return max(1, int(rng.choice([
        rng.integers(1, lanes + 1), lanes * rng.integers(1, 9) + rng.integers(-1, 2),
        WORD * rng.integers(1, 9), rng.integers(1, 120)])))


@pytest.mark.parametrize("lanes", REALIGNERS)
@pytest.mark.parametrize("stall", [0, 0.4])
def test_words_match_model(lanes, stall):
    REALIGNERS[lanes].run(words_match_model, lanes=lanes, stall=stall)


async def words_match_model(dut, rng, lanes, stall):
    """Rectangles for A or B, cut or not, one behind the other; a word per cycle if nothing stalls."""
    source, sink = Source(dut, "i", rng, stall), Sink(dut, "o", rng, stall)
    rectangles = []
    for _ in range(200):
        cut = int(rng.choice([0, 1, 2]))
        tile = lanes[cut - 1] if cut else 2**20
        size, rows = sizes(rng, lanes[max(cut - 1, 0)]), int(rng.integers(1, 7))
        expected = []
        for n in range(rows):
            row = rng.bytes(size)
            expected += words_of(row, tile, n == rows - 1)
            source.words += [
                bits(Word, bytes=int.from_bytes(word, "little"), count=len(word), row_end=row_end,
                     end=end) for word, row_end, end in words_of(row, 2**20, n == rows - 1)]
        rectangles.append((cut, size, expected))
    for number, (cut, size, expected) in enumerate(rectangles):
        dut.i_cut.value = cut
        sink.words.clear()
        waited = 0
        while not (sink.words and fields(Word, sink.words[-1]).end):
            await cycle(dut, source, sink)
            waited += 1
            assert waited < 4000, f"rectangle {number} ended after {len(sink.words)} words"
        what = f"rectangle {number}, rows of {size}, cut {cut}"
        for n, (word, wanted) in enumerate(zip(sink.words, expected, strict=False)):
            word = fields(Word, word)
            found = word.bytes.to_bytes(WORD, "little"), word.count, bool(word.row_end), bool(word.end)
            bytes_, *marks = wanted
            wanted = bytes_.ljust(WORD, b"\0"), len(bytes_), *marks
            assert found == wanted, f"{what}, word {n}: got {found}, expected {wanted}"
        assert len(sink.words) == len(expected), what
        if not stall:
            assert waited <= len(expected) + 2, f"{what}: {waited} cycles for {len(expected)} words"
        # Whoever takes them needs a cycle to begin the next rectangle, and with it its cut.
        dut.o__ready.value = 0
        await cycle(dut, source)
