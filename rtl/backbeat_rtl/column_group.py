"""What lies behind some neighbouring columns of the accumulators: epilogue, column sums, packing."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from . import epilogue
from .array import column_sums
from .config import WORD
from .epilogue import Epilogue
from .pipeline import delay, pipelined_mux

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
        active, here = Signal(), Signal(range(self.width + 1))
        most = min(self.width, self.columns)
        wanted = self.i_wave.columns
        m.d.sync += [lane.eq(lane + 1), index.eq(index + 1)]
        with m.If(self.i_start):
            m.d.sync += [wave.eq(self.i_wave), lane.eq(0), index.eq(self.i_wave.index), active.eq(1),
                         here.eq(Mux(wanted > most, most, wanted))]
        with m.Elif(lane == Mux(here == 0, 0, here - 1)):
            m.d.sync += active.eq(0)
        m.d.comb += [
            self.o_wave.eq(wave),
            self.o_wave.index.eq(wave.index + self.width),
            self.o_wave.columns.eq(Mux(wave.columns > most, wave.columns - most, 0)),
        ]

        # Cycles 0 to 2: the column that the wave has reached, and of its pair the row.
        rows = [row for n in range(self.width) for row in (self.i_stored[n].even, self.i_stored[n].odd)]
        acc = delay(m, pipelined_mux(m, rows, Cat(wave.odd, lane), name="row"), 1, name="acc")
        last = Signal()
        tag = data.StructLayout({
            "valid": 1, "last": 1, "end": 1, "final": 1, "lane": self.lane_bits,
            "tile": range(self.tiles), "requantise": 1, "sum": 1, "sum_first": 1, "emit": 1,
            "counts": 1})
        now = Signal(tag)
        here_last = Signal()
        m.d.comb += [
            last.eq(lane == Mux(here == 0, 0, here - 1)),
            here_last.eq(last & (here != 0) & (wave.columns <= most)),
            now.valid.eq(active),
            now.counts.eq(here != 0),
            now.last.eq(last), now.end.eq(here_last & wave.end), now.final.eq(here_last & wave.final),
            now.lane.eq(lane),
            *(now[f].eq(wave[f]) for f in ("tile", "requantise", "sum", "sum_first", "emit")),
        ]
        at_3 = data.View(tag, delay(m, now.as_value(), 3, name="tag", reset=True))

        # Cycles 3 to 17: epilogue, and the raw value beside it.
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
        at_15 = data.View(tag, delay(m, at_3.as_value(), epilogue.LATENCY - 2, name="tag_late",
                                     reset=True))
        at_17 = data.View(tag, delay(m, at_15.as_value(), 2, name="tag_out", reset=True))
        raw = delay(m, acc, epilogue.LATENCY, name="raw")
        value, old = Signal(signed(32)), Signal(signed(32), reset_less=True)
        m.d.comb += value.eq(Mux(at_17.requantise, requantise.o_value, raw))
        self.elaborate_sums(m, at_15, at_17, value, old)

        # Cycle 18: bytes into entries.
        out, tag_out = Signal(32, reset_less=True), Signal(tag)
        m.d.sync += [out.eq(Mux(at_17.emit, old, value)), tag_out.eq(at_17)]
        self.elaborate_packing(m, out, tag_out)
        return m

    def elaborate_sums(self, m, at_15, at_17, value, old):
        """A sum per column: read, register, add, write; a column comes again after four cycles."""
        m.submodules.sums = memory = Memory(shape=signed(32), depth=self.tiles << self.lane_bits,
                                            init=[])
        read, write = memory.read_port(), memory.write_port()
        new = Signal(signed(32), reset_less=True)
        m.d.comb += [
            read.addr.eq(Cat(at_15.lane, at_15.tile)), read.en.eq(1),
            write.addr.eq(delay(m, Cat(at_17.lane, at_17.tile), 1, name="sum_address")),
            write.data.eq(new),
            write.en.eq(delay(m, at_17.valid & at_17.counts & at_17.sum & ~at_17.emit, 1,
                              name="sum_valid", reset=True)),
        ]
        m.d.sync += [old.eq(read.data), new.eq(value + Mux(at_17.sum_first, 0, old))]

    def elaborate_packing(self, m, out, tag):
        m.submodules.entries = fifo = SyncFIFOBuffered(width=Entry.size, depth=self.room)
        packed, entry = Signal(8 * WORD), Signal(Entry)
        position, upper, narrow = tag.lane[:3], tag.lane[0], tag.requantise & ~tag.emit
        for byte in range(WORD):        # what comes before it is kept, what comes behind it is zero
            word = byte // 4
            here = Mux(narrow, position == byte, upper == word)
            kept = Mux(narrow, position > byte, upper > word)
            m.d.comb += entry.bytes.word_select(byte, 8).eq(Mux(
                here, Mux(narrow, out[:8], out.word_select(byte % 4, 8)),
                Mux(kept, packed.word_select(byte, 8), 0)))
        full = Mux(narrow, position == WORD - 1, upper)
        put = Signal()
        m.d.comb += [
            entry.count.eq(Mux(tag.counts, Mux(narrow, position + 1, Mux(upper, 8, 4)), 0)),
            entry.last.eq(tag.last), entry.end.eq(tag.end), entry.final.eq(tag.final),
            put.eq(tag.valid & (full | tag.last)),
        ]
        with m.If(tag.valid):
            m.d.sync += packed.eq(entry.bytes)
        m.d.comb += [
            fifo.w_data.eq(delay(m, entry.as_value(), 1, name="entry")),
            fifo.w_en.eq(delay(m, put, 1, name="put", reset=True)),
            self.o.payload.eq(fifo.r_data), self.o.valid.eq(fifo.r_rdy), fifo.r_en.eq(self.o.ready),
        ]
