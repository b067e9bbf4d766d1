"""What lies behind some neighbouring columns of the accumulators: epilogue, column sums, packing."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import epilogue
from .array import column_sums
from .config import WORD
from .epilogue import Epilogue
from .pipeline import delay, holds, pipelined_mux
from .queue import Queue

__all__ = ["ColumnGroup", "Entry", "Settings", "wave_layout"]

#: What the epilogue needs to know about a product.
Settings = data.StructLayout({
    "seed": 32, "stochastic": 1, "zero_point": signed(8), "low": signed(8), "high": signed(8)})

#: Up to eight bytes of a row: the lowest ``count`` ones.
Entry = data.StructLayout({
    "bytes":  8 * WORD,
    "count":  range(WORD + 1),
    "last":   1,                # of this wave in this group
    "end":    1,                # of a row
    "final":  1,                # of everything
})


def wave_layout(columns: int, tiles: int):
    """One row of one tile, on its way across the columns.

    ``odd``: the lower row of the pair. ``columns``: how many are wanted. ``index``: element index of
    the first in C. ``tile``, ``half``: where its columns stand in the table. ``end``, ``final``: the
    row (everything) ends with it. ``requantise``: INT8, else INT32. ``sum``: add to the column sums;
    ``sum_first``: begin them; ``emit``: the column sums instead of a row.
    """
    return data.StructLayout({
        "odd": 1, "columns": range(columns + 1), "index": 32, "tile": range(tiles), "half": 1,
        "end": 1, "final": 1, "requantise": 1, "sum": 1, "sum_first": 1, "emit": 1,
    })


class ColumnGroup(wiring.Component):
    """Takes the sums of its columns one per cycle as waves walk by, and packs them into entries.

    A wave reaches column c of the accumulators c cycles after column 0. So a group of ``width``
    columns serves one after the other, and then hands the wave on to the next group, while the wave
    behind arrives: several groups work on several waves at a time, without a word about it.

    INT32 values and requantised ones take equally long, so their order never changes.

    One value per cycle; an entry ``LATENCY`` cycles after its last value. Waves at least
    max(width, 4) cycles apart. No back-pressure: whoever starts a wave has reserved its entries.

    Parameters
    ----------
    columns, tiles : int
        Of the whole array, and of a half of the accumulators.
    width : int
        Columns of this group.
    room : int
        Entries held.

    Members
    -------
    i_wave, i_start : wave_layout, bit
        A wave; its first column's sums are on ``i_stored`` in the next cycle.
    o_wave : wave_layout
        The wave for the next group, ``width`` cycles after ``i_start``.
    i_stored : column_sums(32)[width]
    i_settings : Settings
    i_requantise : bit
        Some wave inside may want it.
    i_table, i_table_valid
        See :class:`Epilogue`.
    i_clear, o_max_abs
        See :class:`Epilogue`.
    o : stream of Entry
        At least one per wave, the last one marked.
    """

    LATENCY = epilogue.LATENCY + 5

    def __init__(self, *, columns: int, tiles: int, width: int, room: int):
        self.columns, self.tiles, self.width, self.room = columns, tiles, width, room
        self.lane_bits = max((width - 1).bit_length(), 1)
        self.epilogue = Epilogue(entries=2 * tiles << self.lane_bits)
        self.wave = wave_layout(columns, tiles)
        table = self.epilogue.i_table.shape()
        super().__init__({
            "i_wave":        In(self.wave),
            "i_start":       In(1),
            "o_wave":        Out(self.wave),
            "i_stored":      In(data.ArrayLayout(column_sums(32), width)),
            "i_settings":    In(Settings),
            "i_requantise":  In(1),
            "i_table":       In(table),
            "i_table_valid": In(1),
            "i_clear":       In(1),
            "o_max_abs":     Out(32),
            "o":             Out(stream.Signature(Entry)),
        })

    @staticmethod
    def entries(width: int, value_bytes: int) -> int:
        """Entries of a wave in a group of that width."""
        return -(-width * value_bytes // WORD)

    def elaborate(self, _platform):
        m = Module()
        wave, lane, index = Signal(self.wave), Signal(self.lane_bits), Signal(32)
        most = min(self.width, self.columns)
        wanted = self.i_wave.columns
        # Whether the lane is the last one, and what ends with it, is known ahead. `behind`: columns
        # that the wave has in this group behind the lane; one that has none takes a cycle too.
        active, last, behind = Signal(), Signal(), Signal(range(most))
        counts, ends, ends_all = Signal(), Signal(), Signal()
        m.d.sync += [lane.eq(lane + 1), index.eq(index + 1), behind.eq(behind - 1), last.eq(behind == 1)]
        with m.If(last):
            m.d.sync += active.eq(0)
        with m.If(self.i_start):
            m.d.sync += [
                wave.eq(self.i_wave), lane.eq(0), index.eq(self.i_wave.index), active.eq(1),
                behind.eq(Cat(holds(wanted, lambda n, bit=bit: min(max(n, 1), most) - 1 >> bit & 1)
                              for bit in range(len(behind)))),
                last.eq(wanted <= 1), counts.eq(wanted != 0),
                ends.eq(self.i_wave.end & holds(wanted, lambda n: 1 <= n <= most)),
                ends_all.eq(self.i_wave.final & holds(wanted, lambda n: 1 <= n <= most)),
            ]
        # A cycle late: a wave is here for two at least.
        index_on, columns_on = Signal.like(wave.index), Signal.like(wave.columns)
        m.d.sync += [index_on.eq(wave.index + self.width),
                     columns_on.eq(Mux(wave.columns > most, wave.columns - most, 0))]
        m.d.comb += [self.o_wave.eq(wave), self.o_wave.index.eq(index_on),
                     self.o_wave.columns.eq(columns_on)]

        # Cycles 0 to 2: the column that the wave has reached, and of its pair the row.
        rows = [row for n in range(self.width) for row in (self.i_stored[n].even, self.i_stored[n].odd)]
        acc = delay(m, pipelined_mux(m, rows, Cat(wave.odd, lane), name="row"), 1, name="acc")
        tag = data.StructLayout({
            "valid": 1, "last": 1, "end": 1, "final": 1, "lane": self.lane_bits,
            "tile": range(self.tiles), "requantise": 1, "sum": 1, "sum_first": 1, "emit": 1,
            "counts": 1})
        now = Signal(tag)
        m.d.comb += [
            now.valid.eq(active), now.counts.eq(counts), now.lane.eq(lane),
            now.last.eq(last), now.end.eq(last & ends), now.final.eq(last & ends_all),
            *(now[f].eq(wave[f]) for f in ("tile", "requantise", "sum", "sum_first", "emit")),
        ]
        at_3 = data.View(tag, delay(m, now.as_value(), 3, name="tag", reset=True))

        # Cycles 3 to 18: epilogue, and the raw value beside it.
        m.submodules.epilogue = requantise = self.epilogue
        settings = self.i_settings
        m.d.comb += [
            requantise.i_value.acc.eq(acc),
            requantise.i_value.entry.eq(Cat(at_3.lane, at_3.tile,
                                            delay(m, wave.half, 3, name="half"))),
            requantise.i_value.index.eq(delay(m, index, 3, name="index")),
            requantise.i_valid.eq(at_3.valid & at_3.counts & ~at_3.emit),
            requantise.i_seed.eq(settings.seed), requantise.i_stochastic.eq(settings.stochastic),
            requantise.i_zero_point.eq(settings.zero_point), requantise.i_low.eq(settings.low),
            requantise.i_high.eq(settings.high),
            requantise.i_table.eq(self.i_table), requantise.i_table_valid.eq(self.i_table_valid),
            requantise.i_requantise.eq(self.i_requantise),
            requantise.i_clear.eq(self.i_clear), self.o_max_abs.eq(requantise.o_max_abs),
        ]
        at_16 = data.View(tag, delay(m, at_3.as_value(), epilogue.LATENCY - 2, name="tag_late",
                                     reset=True))
        at_18 = data.View(tag, delay(m, at_16.as_value(), 2, name="tag_out", reset=True))
        raw = delay(m, acc, epilogue.LATENCY, name="raw")
        value, old = Signal(signed(32)), Signal(signed(32), reset_less=True)
        m.d.comb += value.eq(Mux(at_18.requantise, requantise.o_value, raw))
        self.elaborate_sums(m, at_16, at_18, value, old)

        # Cycle 19: bytes into entries.
        out = Signal(32, reset_less=True)
        m.d.sync += out.eq(Mux(at_18.emit, old, value))
        self.elaborate_packing(m, out, at_18)
        return m

    def elaborate_sums(self, m, at_16, at_18, value, old):
        """A sum per column: read, register, add, write; a column comes again after four cycles."""
        m.submodules.sums = memory = Memory(shape=signed(32), depth=self.tiles << self.lane_bits,
                                            init=[])
        read, write = memory.read_port(), memory.write_port()
        new = Signal(signed(32), reset_less=True)
        m.d.comb += [
            read.addr.eq(Cat(at_16.lane, at_16.tile)), read.en.eq(1),
            write.addr.eq(delay(m, Cat(at_18.lane, at_18.tile), 1, name="sum_address")),
            write.data.eq(new),
            write.en.eq(delay(m, at_18.valid & at_18.counts & at_18.sum & ~at_18.emit, 1,
                              name="sum_valid", reset=True)),
        ]
        m.d.sync += [old.eq(read.data), new.eq(value + Mux(at_18.sum_first, 0, old))]

    def elaborate_packing(self, m, out, before):
        """``before``: the tag of ``out``, a cycle before it."""
        m.submodules.entries = fifo = Queue(width=Entry.size, depth=self.room, buffered=True)
        packed, entry = Signal(8 * WORD), Signal(Entry)
        # Where the value goes, found before it is there, and without a carry chain.
        valid, narrow, put = Signal(), Signal(), Signal()
        here, kept = Signal(WORD), Signal(WORD)
        upper, byte_wide = before.lane[0], before.requantise & ~before.emit
        position = [before.lane[:3] == byte for byte in range(WORD)]
        up_to_it = Array(range(1, WORD + 1))[before.lane[:3]]
        full = Mux(byte_wide, position[-1], upper)
        m.d.sync += [
            valid.eq(before.valid), narrow.eq(byte_wide), put.eq(before.valid & (full | before.last)),
            entry.count.eq(Mux(before.counts, Mux(byte_wide, up_to_it, Mux(upper, 8, 4)), 0)),
            entry.last.eq(before.last), entry.end.eq(before.end), entry.final.eq(before.final),
        ]
        for byte in range(WORD):        # what comes before it is kept, what comes behind it is zero
            word = byte // 4
            m.d.sync += [here[byte].eq(Mux(byte_wide, position[byte], upper == word)),
                         kept[byte].eq(Mux(byte_wide, Cat(position[byte + 1:]).any(), upper > word))]
            m.d.comb += entry.bytes.word_select(byte, 8).eq(Mux(
                here[byte], Mux(narrow, out[:8], out.word_select(byte % 4, 8)),
                Mux(kept[byte], packed.word_select(byte, 8), 0)))
        with m.If(valid):
            m.d.sync += packed.eq(entry.bytes)
        m.d.comb += [
            fifo.w_data.eq(delay(m, entry.as_value(), 1, name="entry")),
            fifo.w_en.eq(delay(m, put, 1, name="put", reset=True)),
            self.o.payload.eq(fifo.r_data), self.o.valid.eq(fifo.r_rdy), fifo.r_en.eq(self.o.ready),
        ]
