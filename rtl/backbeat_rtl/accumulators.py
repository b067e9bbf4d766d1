"""The accumulator buffer: adds the tiles of a K chunk to what is there, and is read out beside it."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .array import column_sums
from .pipeline import delay, delay_line

__all__ = ["LEAD", "READ_LATENCY", "UPDATE", "Accumulators"]

#: Cycles by which ``i_tile`` runs ahead of column 0's first sums.
LEAD = 4
#: Cycles from reading an accumulator for an update to the next read that sees the update.
UPDATE = 4
#: Cycles from ``i_read`` to column 0's pair of sums on ``o_stored``.
READ_LATENCY = 3


class Accumulators(wiring.Component):
    """One RAM of row pairs per column, each with its own pair of adders.

    Control walks from column to column, a cycle each, as the sums do. A tile that accumulates takes
    ``row_pairs`` cycles of each column's read port; in every other cycle a read may walk across
    instead. So reading never disturbs the array and needs no third port.

    An update is read, register, add, write: two updates of one accumulator must be ``UPDATE``
    cycles apart. INT32, wrapping.

    Parameters
    ----------
    row_pairs, columns : int
        Size of a tile.
    width : int
        Bits of the array's sums.
    slots : int
        Tiles held, both halves together.

    Members
    -------
    i_tile : {valid, slot, accumulate, end, half}
        A tile's sums start ``LEAD`` cycles later on column 0. ``accumulate`` adds them to the slot,
        otherwise they overwrite it. ``end`` and ``half`` come back on ``o_end``.
    i_sums : column_sums[columns]
        From the array.
    i_read : {slot, pair}, o_read_ready
        Reads a row pair of one tile in every cycle with ``o_read_ready``.
    o_stored : column_sums(32)[columns]
        Column 0's pair ``READ_LATENCY`` cycles after the read, column c's c cycles later.
    o_tile_end : bit
        A read from now on sees all sums of the tile that is being drained.
    o_end : {valid, half}
        Likewise, of a tile marked ``end``.
    """

    def __init__(self, *, row_pairs: int, columns: int, width: int, slots: int):
        self.row_pairs, self.columns, self.slots = row_pairs, columns, slots
        self.pair_bits = max((row_pairs - 1).bit_length(), 1)
        self.tile = data.StructLayout(
            {"valid": 1, "slot": range(slots), "accumulate": 1, "end": 1, "half": 1})
        self.read = data.StructLayout({"slot": range(slots), "pair": self.pair_bits})
        super().__init__({
            "i_tile":        In(self.tile),
            "i_sums":        In(data.ArrayLayout(column_sums(width), columns)),
            "i_read":        In(self.read),
            "o_read_ready":  Out(1),
            "o_stored":      Out(data.ArrayLayout(column_sums(32), columns)),
            "o_tile_end":    Out(1),
            "o_end":         Out(data.StructLayout({"valid": 1, "half": 1})),
        })

    def elaborate(self, _platform):
        m = Module()

        # A tile becomes row_pairs consecutive updates. Those that overwrite leave the read port alone.
        tile, pair, ending = Signal(self.tile), Signal(self.pair_bits), Signal()
        reading = tile.valid & tile.accumulate
        m.d.comb += [
            ending.eq(tile.valid & (pair == self.row_pairs - 1)),
            self.o_read_ready.eq(~reading),
        ]
        m.d.sync += pair.eq(pair + 1)
        with m.If(self.i_tile.valid):
            m.d.sync += [tile.eq(self.i_tile), pair.eq(0)]
        with m.Elif(ending):
            m.d.sync += tile.valid.eq(0)

        address = range(self.slots << self.pair_bits)
        update = data.StructLayout({"write": 1, "accumulate": 1, "address": address})
        head, read_head = Signal(update), Signal(address)
        m.d.sync += [
            head.write.eq(tile.valid), head.accumulate.eq(tile.accumulate),
            head.address.eq(Cat(pair, tile.slot)),
            read_head.eq(Mux(reading, Cat(pair, tile.slot), Cat(self.i_read.pair, self.i_read.slot))),
        ]
        # The write bit must not survive a reset, so this has one.
        walk = delay_line(m, head.as_value(), self.columns + 2, name="update", reset=True)
        walk = [data.View(update, value) for value in walk]
        read_walk = delay_line(m, read_head, self.columns - 1, name="read")
        # Reads walk as updates do: what column 0 has in time, every column has.
        m.d.comb += Cat(self.o_tile_end, self.o_end.as_value()).eq(delay(
            m, Cat(ending, ending & tile.end, tile.half), UPDATE, name="end", reset=True))

        for c in range(self.columns):
            m.submodules[f"column_{c}"] = memory = Memory(
                shape=64, depth=self.slots << self.pair_bits, init=[])
            read, write = memory.read_port(), memory.write_port()
            old = Signal(column_sums(32), name=f"old_{c}", reset_less=True)
            new = Signal(column_sums(32), name=f"new_{c}", reset_less=True)
            # Column c: read in cycle c, RAM and its output register, add in c + 2, write in c + 3.
            m.d.comb += [
                read.addr.eq(read_walk[c]), read.en.eq(1),
                write.addr.eq(walk[c + 3].address), write.en.eq(walk[c + 3].write),
                write.data.eq(new),
            ]
            m.d.sync += [
                old.eq(read.data),
                new.even.eq(self.i_sums[c].even + Mux(walk[c + 2].accumulate, old.even, 0)),
                new.odd.eq(self.i_sums[c].odd + Mux(walk[c + 2].accumulate, old.odd, 0)),
            ]
            m.d.comb += self.o_stored[c].eq(old)
        return m
