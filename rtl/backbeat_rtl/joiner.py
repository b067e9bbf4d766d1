"""Entries of several column groups, joined into the bytes of rows."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .column_group import Entry
from .config import WORD

__all__ = ["Beat", "Joiner"]

#: Eight bytes of a row, fewer (the lowest ones) at its end.
Beat = data.StructLayout({"bytes": 8 * WORD, "count": range(WORD + 1), "end": 1, "final": 1})


class Joiner(wiring.Component):
    """Takes wave after wave, and in each, group after group; every row begins at a beat of its own.

    An entry per cycle, one cycle more where a row ends with the rest of a word. Latency 2 cycles.

    Whoever takes the beats says a cycle ahead that there is room, so that his counting and the choice
    among the groups do not share a cycle.

    Parameters
    ----------
    groups : int

    Members
    -------
    i : stream of Entry, one per group
    i_room : bit
        Everything may move: one beat will be taken.
    o : Beat, o_valid : bit
    o_wave : bit
        The last entry of a wave has been taken.
    o_empty : bit
        Nothing is held.
    """

    def __init__(self, *, groups: int):
        self.groups = groups
        super().__init__({
            "i":       In(stream.Signature(Entry)).array(groups),
            "i_room":  In(1),
            "o":       Out(Beat),
            "o_valid": Out(1),
            "o_wave":  Out(1),
            "o_empty": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        turn = Signal(range(max(self.groups, 2)))
        chosen, chosen_valid, take = Signal(Entry), Signal(), Signal()
        last_turn = turn == self.groups - 1
        m.d.comb += [
            chosen.eq(Array([i.payload for i in self.i])[turn]),
            chosen_valid.eq(Array([i.valid for i in self.i])[turn]),
            *(i.ready.eq(take & (turn == n)) for n, i in enumerate(self.i)),
            self.o_wave.eq(take & chosen_valid & chosen.last & last_turn),
        ]
        with m.If(take & chosen_valid & chosen.last):
            m.d.sync += turn.eq(Mux(last_turn, 0, turn + 1))

        # A register, so that the selection and the shift do not share a cycle.
        entry, full, flush = Signal(Entry), Signal(), Signal()
        m.d.comb += take.eq(self.i_room & ~(full & flush))
        with m.If(take):
            m.d.sync += [full.eq(chosen_valid & (chosen.count != 0)), entry.eq(chosen)]

        # `held` bytes wait for a whole word. The entry's come behind them: `turned`, each to its place
        # in a word; those from byte `held` on are of the word at hand, those below of the next one.
        rest, held = Signal(8 * WORD), Signal(range(WORD))
        turned, joined, beyond = (Signal(8 * WORD) for _ in range(3))
        flush_final = Signal()      # of `flush`: the rest of a row that took more than a beat
        m.d.comb += [
            turned.eq(Array([entry.bytes.rotate_left(8 * count) for count in range(WORD)])[held]),
            self.o_empty.eq(~full & ~flush & ~self.o_valid),
        ]
        for byte in range(WORD):
            old, new = rest.word_select(byte, 8), turned.word_select(byte, 8)
            m.d.comb += [joined.word_select(byte, 8).eq(Mux(held > byte, old, new)),
                         beyond.word_select(byte, 8).eq(Mux(held > byte, new, 0))]
        # `total`, of at most 15, bit by bit: a carry chain takes longer than three of them.
        low, carry = [], 0
        for one, other in zip(held, entry.count, strict=False):
            low.append(one ^ other ^ carry)
            carry = one & other | carry & (one ^ other)
        total, whole, more = Signal(range(WORD)), Signal(), Signal()
        m.d.comb += [total.eq(Cat(low)), whole.eq(carry | entry.count[-1]), more.eq(whole & total.any())]
        m.d.sync += self.o_valid.eq(0)
        with m.If(self.i_room):
            with m.If(flush):
                m.d.sync += [
                    self.o_valid.eq(1), self.o.bytes.eq(rest), self.o.count.eq(held),
                    self.o.end.eq(1), self.o.final.eq(flush_final), flush.eq(0), held.eq(0),
                ]
            with m.Elif(full):
                m.d.sync += [
                    self.o_valid.eq(whole | entry.end),
                    self.o.bytes.eq(joined),
                    self.o.count.eq(Mux(whole, WORD, total)),
                    self.o.end.eq(entry.end & ~more),
                    self.o.final.eq(entry.final & ~more),
                    flush.eq(entry.end & more), flush_final.eq(entry.final),
                    rest.eq(Mux(whole, beyond, joined)), held.eq(total),
                ]
                with m.If(entry.end & ~more):
                    m.d.sync += held.eq(0)
        return m
