"""Reads a product out of the accumulators in row-major order, as a stream of result words."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

__all__ = ["Readout"]


class Readout(wiring.Component):
    """Walks the rows of C, numbers every value, and queues what comes back.

    A result word is one INT32, or up to four INT8 of one row (lowest column in the lowest byte,
    the last word of a row filled up with zeros). A row of a tile is only read when there is room
    for all of it, so nothing behind the accumulators ever has to stop.

    One value per cycle while there is room.

    Parameters
    ----------
    rows, columns : int
        Size of a tile.
    row : Layout
        The accumulators' read: {slot, pair, odd, columns}.
    tiles : int
        Accumulator tiles of a half.

    Members
    -------
    i_start : {a_tiles, b_tiles, a_last, b_last, half, requantise, index}, i_start_valid
        Extent of the product in tiles, rows (columns) of the last tile; element index of its first
        value in C. Only while not ``o_active``.
    i_ready : bit
        The half's sums are complete.
    i_pitch : 32 bit
        Columns of C: what the element index grows by from row to row.
    o_read, o_read_valid, i_read_ready, i_value, i_value_valid
        To and from the accumulators.
    o_epilogue, o_epilogue_valid, i_byte, i_byte_valid, i_byte_end
        To and from the epilogue.
    o_words : stream of 32 bit
    o_active : bit
        Words are still to come.
    """

    def __init__(self, *, rows: int, columns: int, row, tiles: int):
        self.rows, self.columns, self.row, self.tiles = rows, columns, row, tiles
        #: Enough for the pipeline behind a read to stay full: two rows of a tile and the latency.
        self.room = max(64, 4 * columns)
        self.start = data.StructLayout({
            "a_tiles": range(tiles + 1), "b_tiles": range(tiles + 1),
            "a_last": range(rows + 1), "b_last": range(columns + 1),
            "half": 1, "requantise": 1, "index": 32,
        })
        super().__init__({
            "i_start":          In(self.start),
            "i_start_valid":    In(1),
            "i_ready":          In(1),
            "i_pitch":          In(32),
            "o_read":           Out(row),
            "o_read_valid":     Out(1),
            "i_read_ready":     In(1),
            "i_value":          In(signed(32)),
            "i_value_valid":    In(1),
            "o_epilogue":       Out(data.StructLayout({
                "acc": signed(32), "column": range(tiles * columns), "index": 32, "end": 1,
                "requantise": 1})),
            "o_epilogue_valid": Out(1),
            "i_byte":           In(signed(8)),
            "i_byte_valid":     In(1),
            "i_byte_end":       In(1),
            "o_words":          Out(stream.Signature(32)),
            "o_active":         Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        start = Signal(self.start)
        m.submodules.words = words = SyncFIFOBuffered(width=32, depth=self.room)
        in_flight = Signal(range(self.room + 1))
        issue, arrive = Signal(), Signal()
        m.d.sync += in_flight.eq(in_flight + Mux(issue, self.o_read.columns, 0) - arrive)

        requested = self.elaborate_requests(m, start, issue, words.level, in_flight)
        self.elaborate_values(m, start)

        # Bytes to words.
        packed, filled = Signal(32), Signal(2)
        full = Signal()
        m.d.comb += full.eq(self.i_byte_valid & ((filled == 3) | self.i_byte_end))
        merged = packed | (self.i_byte.as_unsigned() << Cat(0, 0, 0, filled))
        with m.If(start.requantise):
            m.d.comb += [arrive.eq(self.i_byte_valid), words.w_en.eq(full), words.w_data.eq(merged)]
        with m.Else():
            m.d.comb += [arrive.eq(self.i_value_valid), words.w_en.eq(self.i_value_valid),
                         words.w_data.eq(self.i_value)]
        with m.If(full):
            m.d.sync += [filled.eq(0), packed.eq(0)]
        with m.Elif(self.i_byte_valid):
            m.d.sync += [filled.eq(filled + 1), packed.eq(merged)]

        m.d.comb += [
            self.o_words.payload.eq(words.r_data), self.o_words.valid.eq(words.r_rdy),
            words.r_en.eq(self.o_words.ready),
        ]
        with m.If(self.i_start_valid):
            m.d.sync += [start.eq(self.i_start), self.o_active.eq(1)]
        with m.Elif(self.o_active):
            last_word = (words.level == 1) & words.r_rdy & words.r_en
            m.d.sync += self.o_active.eq(~(requested & (in_flight == 0) & last_word))
        return m

    def elaborate_requests(self, m, start, issue, level, in_flight):
        """Row after row, and in each, tile after tile. Returns whether all is requested."""
        i, j = Signal(range(self.tiles)), Signal(range(self.tiles))
        row, slot_base = Signal(range(self.rows)), Signal(range(self.tiles))
        columns = Mux(j == start.b_tiles - 1, start.b_last, self.columns)
        pending, wait = Signal(), Signal(range(self.columns))

        # The level lags a cycle behind; the 4 covers what it has not seen.
        room = Signal()
        m.d.sync += room.eq(level + in_flight + self.columns + 4 <= self.room)
        m.d.comb += [
            self.o_read_valid.eq(pending & room & (wait == 0) & self.i_ready),
            issue.eq(self.o_read_valid & self.i_read_ready),
            self.o_read.slot.eq(Cat((slot_base + j)[:(self.tiles - 1).bit_length()], start.half)),
            self.o_read.pair.eq(row >> 1),
            self.o_read.odd.eq(row[0]),
            self.o_read.columns.eq(columns),
        ]
        with m.If(issue):
            m.d.sync += [wait.eq(columns - 1), j.eq(j + 1)]
            with m.If(j == start.b_tiles - 1):
                m.d.sync += [j.eq(0), row.eq(row + 1)]
                with m.If((i == start.a_tiles - 1) & (row == start.a_last - 1)):
                    m.d.sync += pending.eq(0)
                with m.If(row == self.rows - 1):
                    m.d.sync += [row.eq(0), i.eq(i + 1), slot_base.eq(slot_base + start.b_tiles)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(self.i_start_valid):
            m.d.sync += [pending.eq(1), i.eq(0), j.eq(0), row.eq(0), slot_base.eq(0)]
        return ~pending

    def elaborate_values(self, m, start):
        """Numbers the values as they come back: column in the product, element index in C."""
        value = self.o_epilogue
        tile, lane = Signal(range(self.tiles)), Signal(range(self.columns))
        row_index, index, column = Signal(32), Signal(32), Signal(value.column.shape())
        end = Signal()
        last_tile = tile == start.b_tiles - 1
        m.d.comb += [
            end.eq(last_tile & (lane == start.b_last - 1)),
            self.o_epilogue_valid.eq(self.i_value_valid),
            value.acc.eq(self.i_value),
            value.column.eq(column),
            value.index.eq(index),
            value.end.eq(end),
            value.requantise.eq(start.requantise),
        ]
        with m.If(self.i_start_valid):
            m.d.sync += [row_index.eq(self.i_start.index), index.eq(self.i_start.index),
                         tile.eq(0), lane.eq(0), column.eq(0)]
        with m.Elif(self.i_value_valid):
            m.d.sync += [lane.eq(lane + 1), column.eq(column + 1), index.eq(index + 1)]
            with m.If(lane == self.columns - 1):
                m.d.sync += [lane.eq(0), tile.eq(tile + 1)]
            with m.If(end):
                m.d.sync += [
                    lane.eq(0), tile.eq(0), column.eq(0),
                    row_index.eq(row_index + self.i_pitch), index.eq(row_index + self.i_pitch),
                ]
