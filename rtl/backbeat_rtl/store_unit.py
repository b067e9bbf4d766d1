"""Stores finished macro-tiles: read-out to write bursts, and the record of a complete product."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .column_group import Settings
from .config import WORD
from .gather import Move
from .joiner import Beat
from .load_addresses import Splitter
from .memory_port import WRITES, Burst, WriteWord
from .queue import Queue

__all__ = ["Destination", "StoreUnit"]

#: Where a product goes, and what is done to it on the way.
Destination = data.StructLayout({
    "c": 32, "pitch": 32, "columns": 32, "sums": 32, "record": 32, "recorded": 1, "begun": 32,
    "requantise": 1, "summed": 1, "settings": Settings})

#: A rectangle of C (and a row of sums) to be written, behind the read-out.
AREA = data.StructLayout({"rows": 16, "columns": 16, "column": 24, "row_move": 2, "emit": 1})


def _pick(move, zero, same, following):
    return Mux(move == Move.ZERO, zero, Mux(move == Move.SAME, same, following))


class StoreUnit(wiring.Component):
    """Takes macro-tiles in order, each when its last run has begun; a product's record at its end.

    Rows come in stripes (see :class:`Readout`), each of them is a burst.

    The read-out of a macro-tile goes on while the words of the one before it are being written.
    Between two products it lets everything run out, so that their settings do not mix and a record
    is only written once memory has acknowledged all that it stands for.

    Parameters
    ----------
    start : Layout
        Of the read-out's ``i_start``.
    rows, columns : int
        Of a tile, and of a stripe.

    Members
    -------
    i_destination : stream of Destination
        One per product.
    i : stream of {rows, columns, a_tiles, a_last, b_tiles, b_last, c_half, table_half, row_move,
                   column_move, sum_first, emit, first, last, empty, runs, loads}
        A macro-tile of a product (``first``, ``last`` of it); to be stored when ``runs`` runs have
        begun and ``loads`` rectangles been loaded, modulo 256. ``empty``: no macro-tile, only a
        record.
    i_runs_begun, i_runs_ended, i_loads_done : 8 bit
        How many so far.
    o_last_run, o_sums_complete : bit
        The last run of the macro-tile that the read-out has is draining, has ended; both a cycle late.
    i_cycles : 32 bit
        For the record.
    i_max_abs, o_clear, o_start, o_start_valid, i_ready, i_row, i_empty, i_beat, o_pitch, o_settings
        To and from the read-out. It begins a cycle after its macro-tile has been taken.
    o_burst, o_word, i_written
        To and from the memory port.
    o_completed : bit
        A product is complete.
    o_record : 32 bit, o_recorded : bit
        Address of the record of the product being stored, if it has one.
    o_error : bit
        The memory answered with an error; nothing more is completed.
    o_error_address : 32 bit
        Of the burst.
    o_active : bit
        Something is being read out, written or acknowledged; a cycle late.
    o_holding : bit
        A product has been begun and is not complete.
    o_waiting : bit
        A word waits for the port (performance counter); a cycle late.
    """

    def __init__(self, *, start, rows: int, columns: int):
        self.rows, self.columns = rows, columns
        self.order = data.StructLayout({
            "rows": 16, "columns": 16,
            **{f: start[f].shape for f in ("a_tiles", "a_last", "b_tiles", "b_last", "c_half",
                                           "table_half", "sum_first", "emit")},
            "row_move": 2, "column_move": 2, "first": 1, "last": 1, "empty": 1,
            "runs": 8, "loads": 8})
        super().__init__({
            "i_destination":   In(stream.Signature(Destination)),
            "i":               In(stream.Signature(self.order)),
            "i_runs_begun":    In(8),
            "i_runs_ended":    In(8),
            "i_loads_done":    In(8),
            "i_cycles":        In(32),
            "i_max_abs":       In(32),
            "o_last_run":      Out(1),
            "o_sums_complete": Out(1),
            "o_clear":         Out(1),
            "o_start":         Out(start),
            "o_start_valid":   Out(1),
            "i_ready":         In(1),
            "i_row":           In(1),
            "i_empty":         In(1),
            "i_beat":          In(stream.Signature(Beat)),
            "o_pitch":         Out(32),
            "o_settings":      Out(Settings),
            "o_burst":         Out(stream.Signature(Burst)),
            "o_word":          Out(stream.Signature(WriteWord)),
            "i_written":       In(data.StructLayout({"valid": 1, "error": 1})),
            "o_completed":     Out(1),
            "o_record":        Out(32),
            "o_recorded":      Out(1),
            "o_error":         Out(1),
            "o_error_address": Out(32),
            "o_active":        Out(1),
            "o_holding":       Out(1),
            "o_waiting":       Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        self.destination = destination = Signal(Destination)
        m.submodules.areas = self.areas = areas = Queue(width=AREA.size, depth=5, buffered=True)
        m.submodules.splitter = self.splitter = Splitter()
        # Set with the state that they stand for: nothing has to be decoded.
        self.record_burst, self.record_word, self.record_times = Signal(), Signal(), Signal()
        self.writing = Signal()         # rows or acknowledgements are outstanding

        order, area = self.i.payload, Signal(AREA)
        index_here, index_after = Signal(32), Signal(32)
        column_here, column_after = Signal(24), Signal(24)
        begin_index, begin_column = Signal(32), Signal(24)
        runs_ahead, ended_ahead, loads_ahead = Signal(8), Signal(8), Signal(8)
        # Nothing is left inside; the next product begins; the next macro-tile is taken. What lets them
        # stays so until it is acted upon, so they come out of registers, a cycle late, and none is set
        # again by what it has not yet changed.
        quiet, begins, takes = Signal(), Signal(), Signal()
        m.d.comb += [
            runs_ahead.eq(self.i_runs_begun - order.runs),
            ended_ahead.eq(self.i_runs_ended - order.runs),
            loads_ahead.eq(self.i_loads_done - order.loads),
            begin_index.eq(_pick(order.row_move, 0, index_here, index_after)),
            begin_column.eq(_pick(order.column_move, 0, column_here, column_after)),
            self.o_start.requantise.eq(destination.requantise),
            self.o_start.sum.eq(destination.summed), self.o_start.stripes.eq(1),
            self.o_pitch.eq(destination.columns), self.o_settings.eq(destination.settings),
            *(area[f].eq(order[f]) for f in ("rows", "columns", "row_move", "emit")),
            area.column.eq(begin_column), areas.w_data.eq(area),
            self.o_record.eq(destination.record), self.o_recorded.eq(destination.recorded),
            self.i_destination.ready.eq(begins), self.o_clear.eq(begins),
            self.i.ready.eq(takes), areas.w_en.eq(takes & ~order.empty),
        ]
        # What has come stays so: while an order waits, or is read out, the counts may go round.
        due, ended, waits = Signal(), Signal(), Signal()
        m.d.comb += waits.eq(self.i.valid & ~self.i.ready)
        m.d.sync += [due.eq(waits & (due | ~(runs_ahead[7] | loads_ahead[7]))),
                     ended.eq(waits & (ended | ~ended_ahead[7]))]
        last_run, before_last = Signal(8), Signal(8)
        # A cycle late: the next run has no tile so soon, and nothing is read out so early.
        m.d.sync += self.o_last_run.eq(self.i_runs_ended == before_last)
        with m.If(self.i_runs_ended == last_run):
            m.d.sync += self.o_sums_complete.eq(1)
        with m.If(self.i_row):
            m.d.sync += index_after.eq(index_after + destination.columns)
        m.d.sync += [
            self.o_active.eq(~self.i_empty | self.writing),
            # The read-out looks idle until it has been begun.
            quiet.eq(self.i_ready & self.i_empty & ~self.writing & ~takes & ~self.o_start_valid),
            # A new product: its settings come into force when nothing is left of the old.
            begins.eq(self.i.valid & order.first & self.i_destination.valid & quiet
                      & ~self.o_holding & ~begins),
            takes.eq(0), self.o_start_valid.eq(areas.w_en),
        ]
        with m.If(begins):
            m.d.sync += [destination.eq(self.i_destination.payload), self.o_holding.eq(1)]
        with m.If(takes):
            m.d.sync += [
                *(self.o_start[f].eq(order[f]) for f in (
                    "a_tiles", "a_last", "b_tiles", "b_last", "c_half", "table_half", "sum_first",
                    "emit")),
                self.o_start.index.eq(begin_index + begin_column),
                index_here.eq(begin_index), index_after.eq(begin_index), column_here.eq(begin_column),
                column_after.eq(begin_column + order.columns),
                last_run.eq(order.runs), before_last.eq(order.runs - 1), self.o_sums_complete.eq(ended),
            ]
        with m.FSM(name="product"):
            with m.State("TAKE"):       # left on `takes` alone, so that is set in no other state
                m.d.sync += takes.eq(self.i.valid & self.o_holding & ~takes
                                     & (order.empty | due & self.i_ready & areas.w_rdy))
                with m.If(takes & order.last):
                    m.next = "FINISH"
            with m.State("FINISH"):
                with m.If(quiet & ~self.o_error):
                    with m.If(destination.recorded):
                        m.d.sync += self.record_burst.eq(1)
                        m.next = "RECORD"
                    with m.Else():
                        m.next = "ACKNOWLEDGE"
            with m.State("RECORD"):
                with m.If(self.splitter.i.ready):
                    m.d.sync += [self.record_burst.eq(0), self.record_word.eq(1)]
                    m.next = "RESULT"
            with m.State("RESULT"):
                with m.If(self.o_word.ready):
                    m.d.sync += self.record_times.eq(1)
                    m.next = "TIMES"
            with m.State("TIMES"):
                with m.If(self.o_word.ready):
                    m.d.sync += [self.record_word.eq(0), self.record_times.eq(0)]
                    m.next = "ACKNOWLEDGE"
            with m.State("ACKNOWLEDGE"):
                with m.If(~self.writing & ~self.o_error):
                    m.d.comb += self.o_completed.eq(1)
                    m.d.sync += self.o_holding.eq(0)
                    m.next = "TAKE"

        self.elaborate_addresses(m)
        self.elaborate_words(m)
        return m

    def elaborate_addresses(self, m):
        """The rows of area after area, stripe by stripe, and the sums as one more row."""
        destination, areas, segment = self.destination, self.areas, self.splitter.i
        area = data.View(AREA, areas.r_data)
        row_here, row_after, row, top = (Signal(32) for _ in range(4))
        # Less one: rows of the area, and of them those that lie in the tiles at hand.
        rows_left, in_tiles, columns_left = Signal(16), Signal(range(self.rows)), Signal(16)
        begin_row, below, sums = (Signal(32) for _ in range(3))
        offset, size = Signal(len(area.column) + 2), Signal(segment.payload.bytes.shape())
        shift = Mux(destination.requantise, 0, 2)
        last_row, last_tiles, last_stripe = Signal(), Signal(), Signal()
        # Set with the state that they stand for; the last one with NEXT, if no row of sums follows.
        at_rest, in_rows, in_sums, leaves = Signal(init=1), Signal(), Signal(), Signal()
        self.walking = ~at_rest
        m.d.comb += [
            begin_row.eq(_pick(area.row_move, destination.c, row_here, row_after)),
            below.eq(row + destination.pitch),
            segment.valid.eq(in_rows | in_sums | at_rest & ~areas.r_rdy & self.record_burst),
            segment.payload.address.eq(Mux(in_rows, row + offset,
                                           Mux(in_sums, sums, destination.record))),
            segment.payload.bytes.eq(Mux(in_rows, size, Mux(in_sums, area.columns << 2, 2 * WORD))),
            areas.r_en.eq(leaves | in_sums & segment.ready),
        ]
        m.d.sync += leaves.eq(in_rows & segment.ready & last_row & last_stripe & last_tiles & ~area.emit)
        with m.FSM(name="rows"):
            with m.State("TAKE"):
                with m.If(areas.r_rdy):
                    m.d.sync += [
                        row.eq(begin_row), row_here.eq(begin_row), top.eq(begin_row),
                        rows_left.eq(area.rows - 1), columns_left.eq(area.columns),
                        offset.eq(area.column << shift), sums.eq(destination.sums + (area.column << 2)),
                        at_rest.eq(0),
                    ]
                    m.next = "SETTLE"
            with m.State("SETTLE"):     # whatever else the rows of a stripe have to ask for
                narrow, low = columns_left <= self.columns, rows_left < self.rows
                m.d.sync += [
                    last_stripe.eq(narrow), size.eq(Mux(narrow, columns_left, self.columns) << shift),
                    last_tiles.eq(low), in_tiles.eq(Mux(low, rows_left, self.rows - 1)),
                    last_row.eq(rows_left == 0), in_rows.eq(1),
                ]
                m.next = "ROWS"
            with m.State("ROWS"):
                with m.If(segment.ready):
                    m.d.sync += [row.eq(below), in_tiles.eq(in_tiles - 1), last_row.eq(in_tiles == 1)]
                    with m.If(last_row):
                        m.d.sync += in_rows.eq(0)
                        m.next = "NEXT"
            with m.State("NEXT"):
                with m.If(~last_stripe):
                    m.d.sync += [row.eq(top), offset.eq(offset + (self.columns << shift)),
                                 columns_left.eq(columns_left - self.columns)]
                    m.next = "SETTLE"
                with m.Elif(~last_tiles):
                    m.d.sync += [top.eq(row), offset.eq(area.column << shift),
                                 columns_left.eq(area.columns), rows_left.eq(rows_left - self.rows)]
                    m.next = "SETTLE"
                with m.Else():
                    m.d.sync += row_after.eq(row)
                    with m.If(area.emit):
                        m.d.sync += in_sums.eq(1)
                        m.next = "SUMS"
                    with m.Else():
                        m.d.sync += at_rest.eq(1)
                        m.next = "TAKE"
            with m.State("SUMS"):
                with m.If(segment.ready):
                    m.d.sync += [in_sums.eq(0), at_rest.eq(1)]
                    m.next = "TAKE"

    def elaborate_words(self, m):
        """Beats to the port, and what has become of the bursts."""
        splitter, word, beat = self.splitter, self.o_word, self.i_beat
        m.submodules.addresses = addresses = Queue(width=32, depth=WRITES)
        m.d.comb += [
            word.valid.eq(beat.valid | self.record_word),
            beat.ready.eq(word.ready & ~self.record_word),
        ]
        m.d.sync += self.o_waiting.eq(word.valid & ~word.ready)
        with m.If(self.record_word):
            m.d.comb += [
                word.payload.strobe.eq((1 << WORD) - 1),
                word.payload.bytes.eq(Mux(self.record_times, Cat(self.destination.begun, self.i_cycles),
                                          Cat(Const(1, 32), self.i_max_abs))),
            ]
        with m.Else():
            m.d.comb += [word.payload.bytes.eq(beat.payload.bytes),
                         *(word.payload.strobe[n].eq(beat.payload.count > n) for n in range(WORD))]

        m.d.comb += [
            self.o_burst.payload.eq(splitter.o_burst.payload),
            # The port lets so many bursts be under way as there is room for.
            self.o_burst.valid.eq(splitter.o_burst.valid),
            splitter.o_burst.ready.eq(self.o_burst.ready),
            splitter.o_info.ready.eq(1),
            addresses.w_data.eq(splitter.o_burst.payload.address),
            addresses.w_en.eq(self.o_burst.valid & self.o_burst.ready),
            addresses.r_en.eq(self.i_written.valid),
        ]
        # A cycle late: with a read-out that is ready and empty, nothing begins in that cycle.
        m.d.sync += self.writing.eq(self.areas.r_rdy | self.walking | ~splitter.o_idle
                                    | addresses.r_rdy | beat.valid)
        with m.If(self.i_written.valid & self.i_written.error & ~self.o_error):
            m.d.sync += [self.o_error.eq(1), self.o_error_address.eq(addresses.r_data)]
