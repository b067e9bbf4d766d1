"""Stream buffers: every byte that goes in comes out once, in order, where it belongs."""

from amaranth.hdl import Const, Mux, Signal

from backbeat_rtl.config import WORD
from backbeat_rtl.joiner import Joiner
from backbeat_rtl.load_data import Realigner

from .checker import Checker, any_of, fixed, held, past
from .solve import Fault, Property

__all__ = ["PROPERTIES"]

#: Bits of a byte that are followed.
BITS = 2


class Bytes(Checker):
    """Follows any one byte of a stream of rows through a buffer, by how many are ahead of it.

    Parameters
    ----------
    inside : int
        Bytes that the buffer holds at most.
    """

    def follow(self, m, inside: int, taken, into, row_end, given, out, out_end):
        """``into`` and ``out``: {bytes, count}; ``row_end``: the last byte of ``into`` ends a row."""
        came = Mux(taken, into.count, 0)
        went = Mux(given, out.count, 0)
        # With room above what may be inside, so that too many are not taken for few.
        total = Signal(range(4 * inside))
        m.d.sync += total.eq(total + came - went)
        self.claim(m, "no byte comes of nothing", out.count <= total, when=given)
        self.claim(m, "no more bytes are inside than there is room for", total <= inside)

        place = any_of(m, range(WORD), "place")
        tracking = Signal()
        ahead = Signal(range(inside + 1))
        byte = Signal(BITS)
        ends = Signal()
        with m.If(~tracking & taken & (place < into.count) & any_of(m, 1, "choose")):
            m.d.sync += [tracking.eq(1), ahead.eq(total - went + place),
                         byte.eq(into.bytes.word_select(place, 8)[:BITS]),
                         ends.eq(row_end & (place == into.count - 1))]
        with m.Elif(tracking & given):
            m.d.sync += [ahead.eq(ahead - out.count), tracking.eq(ahead >= out.count)]
        leaves = Signal()
        m.d.comb += leaves.eq(tracking & given & (ahead < out.count))
        self.claim(m, "a byte leaves as it came", when=leaves,
                   holds=out.bytes.word_select(ahead[:3], 8)[:BITS] == byte)
        self.claim(m, "a row ends with its last byte and nowhere else", when=leaves, holds=Mux(
            ends, out_end & (ahead == out.count - 1), ~(out_end & (ahead == out.count - 1))))
        self.cover(m, "the last byte of a row, with others before it", leaves & ends & (ahead > 2))
        self.cover(m, "a byte that does not end its row", leaves & ~ends & (ahead == 5))
        return leaves


class Cuts(Bytes):
    """The realigner: rows of words in, the same bytes out, cut at the tiles if wanted."""

    def __init__(self, lanes: tuple[int, int]):
        super().__init__()
        self.lanes = lanes

    def build(self, m):
        m.submodules.dut = dut = Realigner(lanes=self.lanes)
        into, out = dut.i.payload, dut.o.payload
        cut = fixed(m, 2, "cut")
        self.assume(m, cut != 3)
        m.d.comb += [dut.i_cut.eq(cut), dut.i.valid.eq(any_of(m, 1, "valid")),
                     dut.o.ready.eq(any_of(m, 1, "ready")), into.count.eq(any_of(m, 4, "count")),
                     into.row_end.eq(any_of(m, 1, "row_end")), into.end.eq(0)]
        for n in range(WORD):
            m.d.comb += into.bytes.word_select(n, 8).eq(
                Mux(n < into.count, any_of(m, BITS, f"byte_{n}"), 0))
        self.assume(m, (into.count != 0) & (into.count <= WORD))
        self.assume(m, into.row_end | (into.count == WORD))
        taken, given = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
        self.follow(m, 2 * WORD - 1, taken, into, into.row_end, given, out, out.row_end)
        self.claim(m, "a word stays until it is taken", held(
            m, dut.o.valid, dut.o.ready, out.as_value(), "out"))
        self.claim(m, "no empty word", (out.count != 0) & (out.count <= WORD), when=given)
        # Where in its tile the next byte is.
        lanes = Signal(range(max(self.lanes) + 1))
        m.d.comb += lanes.eq(Mux(cut[0], *self.lanes))
        position = Signal(range(max(self.lanes) + WORD + 1))
        after = position + out.count
        with m.If(given):
            m.d.sync += position.eq(Mux(out.row_end | (after == lanes), 0, after))
        self.claim(m, "no word has bytes of two tiles", after <= lanes, when=given & (cut != 0))
        self.claim(m, "words are whole but for the ends of tiles and rows",
                   (out.count == WORD) | out.row_end | (cut != 0) & (after == lanes), when=given)
        for number, width in enumerate(self.lanes):
            self.cover(m, f"a row goes on in the next tile of operand {number}",
                       given & cut[number] & (after == width) & ~out.row_end)


class Joins(Bytes):
    """The joiner: entries of the groups in turn, as beats of a row; each row begins at a beat."""

    def build(self, m):
        groups = 2
        m.submodules.dut = dut = Joiner(groups=groups)
        out, given = dut.o, dut.o_valid
        m.d.comb += dut.i_room.eq(any_of(m, 1, "room"))
        turn = Signal()
        taken = Signal()
        entry = Signal(dut.i[0].payload.shape())
        for n, source in enumerate(dut.i):
            into = source.payload
            m.d.comb += [source.valid.eq(any_of(m, 1, f"valid_{n}")),
                         into.count.eq(any_of(m, 4, f"count_{n}")),
                         into.last.eq(any_of(m, 1, f"last_{n}")), into.end.eq(any_of(m, 1, f"end_{n}"))]
            for place in range(WORD):
                m.d.comb += into.bytes.word_select(place, 8).eq(
                    Mux(place < into.count, any_of(m, BITS, f"byte_{n}_{place}"), 0))
            self.assume(m, into.count <= WORD)
            self.assume(m, into.last & (into.count != 0), when=into.end)
            with m.If(turn == n):
                m.d.comb += [taken.eq(source.valid & source.ready), entry.eq(into)]
            self.claim(m, f"group {n} is taken from in its turn", turn == n, when=source.ready)
        with m.If(taken & entry.last):
            m.d.sync += turn.eq(~turn)
        self.follow(m, 4 * WORD - 1, taken, entry, entry.end, given, out, out.end)
        self.claim(m, "a beat comes only if there was room", past(m, dut.i_room, "room_before"),
                   when=given)
        self.claim(m, "beats are whole but for the end of a row", (out.count == WORD) | out.end,
                   when=given)
        self.cover(m, "a row of both groups ends", given & out.end & (turn == Const(0)))


PROPERTIES = [
    Property("streams.realigner", "Every byte passes once, in order, cut at tiles; rows end as they did",
             "Realigner", "lanes=(6, 10)", lambda: Cuts((6, 10)), "pdr", 20, covered=20, faults=(
                 Fault("takes a word that there is no room for", "load_data",
                       r"~\(ending \| count\[-1\]\)", "~ending", cheap=True),
             )),
    Property("streams.joiner", "Bytes of the groups in turn and order, each row from a beat of its own",
             "Joiner", "groups=2", Joins, "pdr", 20, covered=20, faults=(
                 Fault("the rest of a row is joined with the next", "joiner",
                       r"flush\.eq\(entry\.end & more\)", "flush.eq(0)"),
             )),
]
