"""Reads a product out of the accumulators, stripe by stripe, as a stream of beats."""

from amaranth.hdl import Cat, EnableInserter, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .accumulators import READ_LATENCY
from .array import column_sums
from .column_group import ColumnGroup, Settings
from .config import Config
from .joiner import Beat, Joiner
from .pipeline import delay, delay_line, exceeds
from .queue import Queue

__all__ = ["Readout"]

#: A column's sum may be added to again after so many cycles.
SUM_UPDATE = 4
#: Beats held for whoever takes them: a burst's if they go to memory.
_BEATS = {True: 64, False: 32}
#: Of them, on their way when it is seen how many are held.
_COMING = 3


class Readout(wiring.Component):
    """Sends wave after wave across the accumulators, one row of one tile each, and joins the rows.

    A wave is only sent when there is room for all that comes of it, so nothing behind the
    accumulators ever has to stop.

    Row after row; or, in ``stripes``, a row of tiles goes out ``config.stripe`` tiles at a time, the
    rows of the first stripe, then those of the next. That is nearly the order in which tiles become
    complete. Each row begins at a beat of its own.

    ``requantisers`` INT8 values per cycle, or as many INT32 ones but two at most, as long as the beats
    are taken.

    Parameters
    ----------
    config : Config

    Members
    -------
    i_start : {a_tiles, b_tiles, a_last, b_last, c_half, table_half, requantise, sum, sum_first, emit,
               stripes, index}, i_start_valid
        Extent of the product in tiles, rows (columns) of the last tile; element index of its first
        value in C; what to do with the column sums, see :func:`wave_layout` (``emit``: they follow
        as one more row); whether it goes out in stripes. Only with ``o_ready``.
    i_sums_complete : bit, i_tiles_complete
        All the half's sums are complete, or those of so many tiles, in order. Once they are they
        stay so until the last wave.
    i_pitch : 32 bit
        Columns of C: what the element index grows by from row to row.
    i_settings : Settings
        Stable while not ``o_empty``.
    o_read, i_read_ready, i_stored
        To and from the accumulators.
    i_table : {half, tile, lane, values}, i_table_valid
        Writes the epilogue's table.
    i_clear, o_max_abs
        Largest magnitude of all accumulators read since.
    o_ready : bit
        All waves of the product before have been sent, two cycles ago at least.
    o_row : bit
        The last wave of a row's last stripe has been sent; before ``o_ready``.
    o_sent : bit
        The last wave of a product has been sent: its accumulators may be overwritten.
    o_empty : bit
        Nothing is inside.
    o : stream of Beat
    """

    def __init__(self, config: Config):
        c = self.config = config
        #: Twice what the pipeline behind a wave holds, in entries of a group.
        room = max(32, 2 * ColumnGroup.entries(c.group, 4))
        self.groups = [ColumnGroup(columns=c.columns, tiles=c.tiles, width=c.group, room=room)
                       for _ in range(c.requantisers)]
        self.room = room
        self.start = data.StructLayout({
            "a_tiles": range(c.tiles + 1), "b_tiles": range(c.tiles + 1),
            "a_last": range(c.rows + 1), "b_last": range(c.columns + 1), "c_half": 1, "table_half": 1,
            "requantise": 1, "sum": 1, "sum_first": 1, "emit": 1, "stripes": 1, "index": 32,
        })
        pair_bits = max((c.row_pairs - 1).bit_length(), 1)
        super().__init__({
            "i_start":         In(self.start),
            "i_start_valid":   In(1),
            "i_sums_complete": In(1),
            "i_tiles_complete": In(range(c.tiles + 1)),
            "i_pitch":         In(32),
            "i_settings":      In(Settings),
            "o_read":          Out(data.StructLayout({"slot": range(2 * c.tiles), "pair": pair_bits})),
            "i_read_ready":    In(1),
            "i_stored":        In(data.ArrayLayout(column_sums(32), c.columns)),
            "i_table":         In(data.StructLayout({
                "half": 1, "tile": range(c.tiles), "lane": range(c.columns),
                "values": self.groups[0].epilogue.i_table.shape()["values"].shape})),
            "i_table_valid":   In(1),
            "i_clear":         In(1),
            "o_max_abs":       Out(32),
            "o_ready":         Out(1, init=1),
            "o_row":           Out(1),
            "o_sent":          Out(1),
            "o_empty":         Out(1),
            "o":               Out(stream.Signature(Beat)),
        })

    def elaborate(self, _platform):
        m = Module()
        wave, send = Signal(self.groups[0].wave), Signal()
        m.submodules.joiner = joiner = Joiner(groups=len(self.groups))
        self.elaborate_waves(m, wave, send, joiner)
        self.elaborate_groups(m, wave, send, joiner)

        # Whoever takes the beats and the groups that bring them do not see each other's ready.
        m.submodules.beats = beats = Queue(
            width=Beat.size, depth=_BEATS[self.config.memory], buffered=True)
        beats_room = Signal()
        m.d.sync += beats_room.eq(beats.level < beats.depth - 1 - _COMING)
        m.d.comb += [
            beats.w_data.eq(joiner.o), beats.w_en.eq(joiner.o_valid), joiner.i_room.eq(beats_room),
            self.o.payload.as_value().eq(beats.r_data), self.o.valid.eq(beats.r_rdy),
            beats.r_en.eq(self.o.ready),
        ]
        # A cycle late, as nothing takes place in that cycle.
        m.d.sync += self.o_empty.eq(
            ~self.pending & (self.under_way == 0) & joiner.o_empty & (beats.level == 0) & ~beats.r_rdy)
        return m

    def elaborate_waves(self, m, wave, send, joiner):
        """Stripe after stripe, row after row, and in each, tile after tile."""
        c = self.config
        start = Signal(self.start)
        pending = self.pending = Signal()
        # Less one.
        last_i, last_j = Signal(range(c.tiles)), Signal(range(c.tiles))
        last_of_tile = Signal(range(c.rows))
        i, j = Signal(range(c.tiles)), Signal(range(c.tiles))
        row, slot_base = Signal(range(c.rows)), Signal(range(c.tiles))
        index, emitting = Signal(32), Signal()
        # First tile of the stripe. Element index of column 0: in the first row of these tiles, in this
        # row, and in the next one; and how far from there the stripe begins, and the next one.
        stripe, top, here, below, offset, offset_on = (
            Signal(range(c.tiles)), Signal(32), Signal(32), Signal(32), Signal(range(c.table_size)),
            Signal(range(c.table_size)))
        # Element index of the next wave: if it is in this row, the next one, or the next stripe.
        index_on, index_below, index_stripe = Signal(32), Signal(32), Signal(32)
        # Cycles until the next wave may be sent, and whether it is one at most.
        distance = max(c.group, SUM_UPDATE)
        wait, near = Signal(range(distance)), Signal(init=1)

        # Reserved: the entries of every wave between here and the joiner.
        self.under_way = under_way = Signal(range(self.room + 1))
        limits = [self.room // ColumnGroup.entries(c.group, size) for size in (4, 1)]
        # Rows of sums take more of them than rows of INT8: their limit holds until they have left.
        room, wide = Signal(), Signal()
        # A cycle late, as waves are further apart.
        m.d.sync += room.eq(under_way < Mux(start.requantise & ~emitting & ~wide, *reversed(limits)))
        with m.If(send & emitting):
            m.d.sync += wide.eq(1)
        with m.Elif(under_way == 0):
            m.d.sync += wide.eq(0)
        gone = Signal()
        m.d.sync += gone.eq(joiner.o_wave)
        with m.If(send != gone):
            m.d.sync += under_way.eq(Mux(gone, under_way - 1, under_way + 1))
        # From the first wave that wants it until nothing is left.
        self.awake, self.requantising = Signal(), Signal()
        with m.If(start.requantise & pending):
            m.d.sync += self.requantising.eq(1)
        with m.Elif(under_way == 0):
            m.d.sync += self.requantising.eq(0)

        # The next wave's tile is; asked for a cycle late, since several lie between two waves.
        tile, tile_complete = Signal(range(2 * c.tiles)), Signal()
        begun, complete = Signal(), Signal()
        if c.memory:        # otherwise nobody reads that early
            m.d.comb += tile_complete.eq(exceeds(self.i_tiles_complete, tile))
        m.d.comb += complete.eq(~self.i_start_valid & ~begun & (self.i_sums_complete | tile_complete))
        m.d.sync += [tile.eq(slot_base + j), begun.eq(self.i_start_valid)]
        # The next wave can be sent; a cycle ahead, as all that it takes stays so until it is.
        due = Signal()
        m.d.sync += due.eq(pending & room & near & ~send & complete)

        # Where the wave lies; a cycle late too.
        last_tile, row_end, tiles_end, last_row, final = (Signal() for _ in range(5))
        at_last_tile, at_last_row = j == last_j, (i == last_i) & (row == last_of_tile)
        m.d.sync += [
            last_tile.eq(at_last_tile),
            row_end.eq(at_last_tile
                       | start.stripes & ~emitting & j[:(c.stripe - 1).bit_length()].all()),
            last_row.eq(at_last_row), tiles_end.eq(at_last_row | (row == c.rows - 1)),
            final.eq(at_last_tile & (emitting | at_last_row & ~start.emit)),
        ]
        m.d.comb += [
            send.eq(due & self.i_read_ready),
            self.o_read.slot.eq(Cat(tile[:(c.tiles - 1).bit_length()], start.c_half)),
            self.o_read.pair.eq(row >> 1),
            wave.odd.eq(row[0]),
            wave.columns.eq(Mux(last_tile, start.b_last, c.columns)),
            wave.index.eq(index), wave.tile.eq(j), wave.half.eq(start.table_half),
            wave.end.eq(row_end), wave.final.eq(final),
            wave.requantise.eq(start.requantise), wave.sum.eq(start.sum),
            wave.sum_first.eq(start.sum_first & (i == 0) & (row == 0)), wave.emit.eq(emitting),
        ]
        m.d.sync += [
            # Out of registers: whoever begins the next product waits for the latest of them.
            self.o_row.eq(send & last_tile & ~emitting), self.o_sent.eq(send & final),
            self.o_ready.eq(~pending & ~self.i_start_valid),
            # Waves are further apart.
            below.eq(here + self.i_pitch), offset_on.eq(offset + c.stripe * c.columns),
            index_on.eq(index + c.columns), index_below.eq(below + offset),
            index_stripe.eq(top + offset_on),
        ]
        with m.If(wait != 0):
            m.d.sync += [wait.eq(wait - 1), near.eq(wait <= 2)]
        with m.If(send):
            m.d.sync += [wait.eq(distance - 1), near.eq(0), j.eq(j + 1), index.eq(index_on)]
            with m.If(row_end & ~tiles_end):
                m.d.sync += [j.eq(stripe), row.eq(row + 1), here.eq(below), index.eq(index_below)]
            with m.If(row_end & tiles_end):
                m.d.sync += row.eq(0)
                with m.If(last_tile):
                    m.d.sync += [
                        j.eq(0), stripe.eq(0), offset.eq(0), i.eq(i + 1),
                        slot_base.eq(slot_base + start.b_tiles),
                        top.eq(below), here.eq(below), index.eq(below), emitting.eq(last_row)]
                with m.Else():
                    m.d.sync += [stripe.eq(j + 1), offset.eq(offset_on), here.eq(top),
                                 index.eq(index_stripe)]
            with m.If(final):
                m.d.sync += pending.eq(0)
        with m.If(self.i_start_valid):
            m.d.sync += [
                start.eq(self.i_start), pending.eq(1), i.eq(0), j.eq(0), row.eq(0), slot_base.eq(0),
                last_i.eq(self.i_start.a_tiles - 1), last_j.eq(self.i_start.b_tiles - 1),
                last_of_tile.eq(self.i_start.a_last - 1),
                stripe.eq(0), offset.eq(0), top.eq(self.i_start.index), here.eq(self.i_start.index),
                index.eq(self.i_start.index), emitting.eq(0),
            ]

    def elaborate_groups(self, m, wave, send, joiner):
        """The wave passes from group to group, ``group`` cycles each."""
        c = self.config
        # The register before the groups runs beside the accumulators' own.
        strobe = delay(m, send, READ_LATENCY - 1, name="send", reset=True)
        walking = data.View(wave.shape(), delay(m, wave.as_value(), READ_LATENCY - 1, name="wave"))
        # So do writes of the table and the clearing; in the first of two cycles they wake the groups.
        table = data.View(self.i_table.shape(), delay(m, self.i_table.as_value(), 2, name="table"))
        waking, (clear, table_valid) = delay_line(
            m, Cat(self.i_clear, self.i_table_valid), 2, name="clear_table", reset=True)[1:]
        m.d.sync += self.awake.eq((self.under_way != 0) | waking.any())
        lane = table.lane
        for g, group in enumerate(self.groups):
            # At rest nothing in a group changes: less power, and less to simulate.
            m.submodules[f"group_{g}"] = EnableInserter(self.awake)(group)
            first = g * c.group
            m.d.comb += [
                group.i_wave.eq(walking), group.i_start.eq(strobe),
                group.i_settings.eq(self.i_settings), group.i_requantise.eq(self.requantising),
                *(group.i_stored[n].eq(self.i_stored[first + n])
                  for n in range(min(c.group, c.columns - first))),
                group.i_table.entry.eq(Cat(
                    (lane - first)[:group.lane_bits], table.tile, table.half)),
                group.i_table.values.eq(table.values),
                group.i_table_valid.eq(table_valid & (lane >= first if first else 1)
                                       & (lane < first + c.group)),
                group.i_clear.eq(clear),
            ]
            wiring.connect(m, group.o, joiner.i[g])
            strobe = delay(m, strobe, c.group, name=f"start_{g + 1}", reset=True)
            walking = group.o_wave

        # Of two groups in one cycle, of four in two: a value is longer on its way from the epilogue to
        # whoever asks for the largest. One group has a register too, for the clearing.
        largest, count = [group.o_max_abs for group in self.groups], len(self.groups)
        while count:
            count //= 2
            halves = [Signal(32, name=f"largest_{count}_{n}") for n in range(max(count, 1))]
            for n, into in enumerate(halves):
                one, other = largest[n], largest[n - len(halves)]
                with m.If(waking[0] | clear):
                    m.d.sync += into.eq(0)
                with m.Else():
                    m.d.sync += into.eq(Mux(other > one, other, one))
            largest, count = halves, count if count > 1 else 0
        m.d.comb += self.o_max_abs.eq(largest[0])
