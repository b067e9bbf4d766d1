"""The data side of loading: words from memory into scratchpads, table and descriptor."""

from math import gcd

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD
from .load_addresses import BurstInfo, Target
from .memory_port import ReadWord
from .pipeline import holds, lookup
from .queue import Queue

__all__ = ["LoadData", "Realigner", "Word"]

#: Some bytes of a row, the lowest ``count`` of the eight; the others are zero.
Word = data.StructLayout({"bytes": 8 * WORD, "count": range(WORD + 1), "row_end": 1, "end": 1})


class Realigner(wiring.Component):
    """Cuts rows of bytes at the tiles of a panel, as the loader wants words across lanes.

    With ``lanes`` a multiple of eight there is nothing to cut. One word out per cycle; one in where
    the pieces are whole words, else ``lanes / (8 * ceil(lanes / 8))`` of one.

    Parameters
    ----------
    lanes : (int, int)
        Of A and of B.

    Members
    -------
    i, o : stream of Word
    i_cut : bit[2]
        Cut at the tiles of A (of B). Stable from a row's first word to its last.
    """

    def __init__(self, *, lanes: tuple[int, int]):
        self.lanes = lanes
        super().__init__({
            "i": In(stream.Signature(Word)), "o": Out(stream.Signature(Word)), "i_cut": In(2)})

    def elaborate(self, _platform):
        m = Module()
        if all(lanes % WORD == 0 for lanes in self.lanes):
            wiring.connect(m, wiring.flipped(self.i), wiring.flipped(self.o))
            return m
        most = 2 * WORD - 1
        held, count, ending, end = Signal(8 * most), Signal(range(most + 1)), Signal(), Signal()
        # A tile's pieces are whole words but for its last, which is known before it comes.
        pieces_of = [-(-lanes // WORD) for lanes in self.lanes]
        pieces = {WORD} | {lanes % WORD for lanes in self.lanes if lanes % WORD}
        piece, last_piece = Signal(range(max(*pieces_of, 2))), Signal()
        wanted, enough, few = Signal(range(WORD + 1)), Signal(), Signal()
        given, accepted, final, on = Signal(), Signal(), Signal(), Signal()
        # What is left if a whole piece leaves: a table, as nothing is to wait for a subtraction.
        less = Signal.like(count)

        def piece_of(n):
            rests = [(left - n) % (most + 1) for left in range(most + 1)]
            return [wanted.eq(n), less.eq(lookup(rests, count)),
                    enough.eq(holds(count, lambda left: left >= n)),
                    few.eq(holds(count, lambda left: left <= n))]

        m.d.comb += piece_of(WORD)
        for port, lanes in enumerate(self.lanes):
            if pieces_of[port] > 1:
                at_last = Signal(name=f"at_last_{port}")
                with m.If(given):
                    m.d.sync += at_last.eq(
                        self.i_cut[port] & ~last_piece & ~final & (piece == pieces_of[port] - 2))
            else:
                at_last = self.i_cut[port]
            with m.If(at_last):
                m.d.comb += [last_piece.eq(1), *piece_of((lanes - 1) % WORD + 1)]

        out, rest = self.o.payload, Signal.like(count)
        m.d.comb += [
            # While a row ends there is something of it.
            final.eq(ending & few), self.o.valid.eq(enough | ending),
            out.count.eq(Mux(final, count, wanted)),
            out.row_end.eq(final), out.end.eq(final & end),
            given.eq(self.o.valid & self.o.ready), on.eq(self.i_cut.any() & ~last_piece & ~final),
            rest.eq(Mux(given, Mux(final, 0, less), count)),
            self.i.ready.eq(Mux(given, final | ~(ending | less[-1]), ~(ending | count[-1]))),
            accepted.eq(self.i.valid & self.i.ready),
        ]
        for byte in range(WORD):        # behind a row's end there is nothing but zeros
            m.d.comb += out.bytes.word_select(byte, 8).eq(
                Mux(byte < wanted, held.word_select(byte, 8), 0))
        # Pieces are whole words or the rest of a tile, so what is left of a word is a multiple of what
        # divides them; behind the last piece of a row there is nothing.
        even = gcd(*pieces).bit_length() - 1
        shifted, added = Signal(8 * most), Signal(8 * most)
        m.d.comb += [shifted.eq(held),
                     added.eq(self.i.payload.bytes << (Cat(Const(0, even), rest[even:3]) << 3))]
        with m.If(given):
            with m.Switch(wanted):
                for length in pieces:
                    with m.Case(length):
                        m.d.comb += shifted.eq(held[8 * length:])
        m.d.sync += count.eq(Mux(accepted, rest + self.i.payload.count, rest))
        with m.If(accepted):
            m.d.sync += [held.eq(shifted | added), ending.eq(self.i.payload.row_end),
                         end.eq(self.i.payload.end)]
        with m.Elif(given):
            m.d.sync += held.eq(shifted)
            with m.If(final):
                m.d.sync += ending.eq(0)
        with m.If(given):
            m.d.sync += piece.eq(Mux(on, piece + 1, 0))
        return m


class LoadData(wiring.Component):
    """Takes what the bursts bring, and zeros where there is nothing to read, to where it belongs.

    One word per cycle, one cycle more per rectangle; all outputs but ``o_busy`` are a cycle behind the
    word that is taken. After an error everything is taken and dropped until reset.

    Parameters
    ----------
    lanes : (int, int)
        Of A and of B.
    panel, table : Layout
        Of the datapath's ``i_panel``, and of the read-out's ``i_table``.
    columns : int
        Of the array.

    Members
    -------
    i_order : stream of {target, panel, table_half}
        One per rectangle.
    i_info : stream of BurstInfo
    i_word : stream of ReadWord
    o_start : bit[2], o_panel
        Start of a panel, per operand.
    o_word : 64 bit, o_word_valid : bit, o_port : bit
        Operand word for A (0) or B (1).
    o_table, o_table_valid
        An entry of the epilogue's table.
    o_descriptor : {number, bytes}, o_descriptor_valid
        Two words of the next descriptor.
    o_done, o_done_target
        All words of a rectangle have been taken.
    o_minimum : bit
        From the cycle after a word of A's with a -128 on: its product is void.
    o_error : {valid, address, fetch}
        Two cycles before, the memory answered with an error; to a ``fetch`` this is no reason to
        stop.
    o_failed : bit
        Stopped.
    o_busy, o_moved : bit
        Inside a rectangle; a word has been taken in the cycle before, or the rectangle begun: as many
        cycles without are in it as it waits for a word (performance counters).
    """

    def __init__(self, *, lanes: tuple[int, int], panel, table, columns: int):
        self.lanes, self.columns = lanes, columns
        self.order = data.StructLayout({"target": 2, "panel": panel, "table_half": 1})
        super().__init__({
            "i_order":            In(stream.Signature(self.order)),
            "i_info":             In(stream.Signature(BurstInfo)),
            "i_word":             In(stream.Signature(ReadWord)),
            "o_start":            Out(2),
            "o_panel":            Out(panel),
            "o_word":             Out(8 * WORD),
            "o_word_valid":       Out(1),
            "o_port":             Out(1),
            "o_table":            Out(table),
            "o_table_valid":      Out(1),
            "o_descriptor":       Out(data.StructLayout({"number": 5, "bytes": 8 * WORD})),
            "o_descriptor_valid": Out(1),
            "o_done":             Out(1),
            "o_done_target":      Out(2),
            "o_minimum":          Out(1),
            "o_error":            Out(data.StructLayout(
                {"valid": 1, "address": 32, "fetch": 1})),
            "o_failed":           Out(1),
            "o_busy":             Out(1),
            "o_moved":            Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        m.submodules.realigner = realigner = Realigner(lanes=self.lanes)
        failed = self.o_failed
        self.elaborate_words(m, realigner.i, failed)

        # A rectangle: one cycle to begin, then its words.
        order, busy = Signal(self.order), Signal()
        begin, take = Signal(), Signal()
        source = realigner.o
        m.d.comb += [
            begin.eq(self.i_order.valid & ~busy & ~failed),
            self.i_order.ready.eq(~busy & ~failed),
            source.ready.eq(busy),
            take.eq(source.valid & busy & ~failed), self.o_busy.eq(busy),
        ]
        # All goes out of a register: where a word belongs is not found in the cycle in which it is cut.
        # Nor whether a byte is -128, which is then one bit of each.
        word, moved, lowest = Signal(Word, reset_less=True), Signal(), Signal(WORD, reset_less=True)
        who, begun = Signal(2), self.i_order.payload
        m.d.sync += [
            word.eq(source.payload), moved.eq(take), who.eq(order.target), self.o_moved.eq(take | begin),
            lowest.eq(Cat(source.payload.bytes.word_select(n, 8) == 0x80 for n in range(WORD))),
            self.o_panel.eq(begun.panel),
            self.o_start.eq(Cat(begin & (begun.target == t) for t in (Target.A, Target.B))),
            self.o_table.half.eq(order.table_half),
        ]
        tile, lane = self.o_table.tile, self.o_table.lane
        number, odd, first_half = Signal(5), Signal(), Signal(8 * WORD)
        with m.If(begin):
            m.d.sync += [
                order.eq(begun), busy.eq(1),
                realigner.i_cut.eq(Cat(begun.panel.across & (begun.target == t)
                                       for t in (Target.A, Target.B))),
            ]
        with m.Elif(take & source.payload.end):
            m.d.sync += busy.eq(0)
        with m.If(moved):
            m.d.sync += [number.eq(number + 1), odd.eq(~odd), first_half.eq(word.bytes)]
            with m.If(odd):
                m.d.sync += lane.eq(lane + 1)
                with m.If(lane == self.columns - 1):
                    m.d.sync += [lane.eq(0), tile.eq(tile + 1)]
        with m.If(~busy):       # its last word may be on its way out
            m.d.sync += [tile.eq(0), lane.eq(0), number.eq(0), odd.eq(0)]

        m.d.comb += [
            self.o_done.eq(moved & word.end), self.o_done_target.eq(who),
            self.o_word.eq(word.bytes), self.o_word_valid.eq(moved & (who <= Target.B)),
            self.o_port.eq(who[0]),
            self.o_table.values.bias.eq(first_half[:32]),
            self.o_table.values.multiplier.eq(first_half[32:]),
            self.o_table.values.shift.eq(word.bytes[:6]),
            self.o_table_valid.eq(moved & odd & (who == Target.TABLE)),
            self.o_descriptor.number.eq(number), self.o_descriptor.bytes.eq(word.bytes),
            self.o_descriptor_valid.eq(moved & (who == Target.DESCRIPTOR)),
        ]
        # An error of a later word is no earlier.
        wrong = Signal.like(self.error)
        m.d.sync += [wrong.eq(self.error), self.o_error.eq(wrong)]
        with m.If(moved & (who == Target.A) & lowest.any()):
            m.d.sync += self.o_minimum.eq(1)
        with m.If(self.o_minimum):
            m.d.sync += failed.eq(1)
        return m

    def elaborate_words(self, m, out, failed):
        """The words of burst after burst, without the bytes behind a row."""
        info, word = self.i_info, Signal(Word)
        # The burst whose words come, with what is left of it less one; so a word finds all in registers.
        burst, active, left, last = Signal(BurstInfo), Signal(), Signal(8), Signal()
        inside = Signal(WORD)           # which bytes of its last word are
        # Two words, so that taking one does not depend on what becomes of the one before.
        m.submodules.words = words = Queue(width=Word.size, depth=2)
        take, room, stops = Signal(), Signal(), Signal()
        error = self.error = Signal(self.o_error.shape())
        m.d.comb += [
            # After an error the queue runs empty as fast as it fills: there is room for all that comes.
            room.eq(active & words.w_rdy),
            take.eq(room & (burst.zero | self.i_word.valid)),
            self.i_word.ready.eq(room & ~burst.zero),
            info.ready.eq(~active | (take & last)),
            error.valid.eq(take & ~burst.zero & self.i_word.payload.error & ~failed),
            error.address.eq(burst.address), error.fetch.eq(burst.fetch),
            stops.eq(error.valid & ~error.fetch),
            # A word that is an error comes out when all is dropped already.
            words.w_data.eq(word), words.w_en.eq(take), words.r_en.eq(out.ready | failed),
            out.valid.eq(words.r_rdy), out.payload.as_value().eq(words.r_data),
            word.count.eq(Mux(last, burst.tail, WORD)), word.row_end.eq(last & burst.row_end),
            word.end.eq(last & burst.end),
        ]
        for byte in range(WORD):
            with m.If(~burst.zero & (~last | inside[byte])):
                m.d.comb += word.bytes.word_select(byte, 8).eq(
                    self.i_word.payload.bytes.word_select(byte, 8))
        with m.If(stops):
            m.d.sync += failed.eq(1)
        with m.If(info.ready):
            m.d.sync += [active.eq(info.valid), burst.eq(info.payload), left.eq(info.payload.length),
                         last.eq(info.payload.length == 0),
                         inside.eq(Cat(info.payload.tail > byte for byte in range(WORD)))]
        with m.Elif(take):
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]
