"""The address side of loading: rectangles to bursts."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD
from .gather import Gather, Move, Rectangle, Segment
from .memory_port import Burst
from .queue import Queue

__all__ = ["BurstInfo", "LoadAddresses", "Splitter", "Target"]


class Target:
    """What a rectangle is loaded into."""

    A, B, TABLE, DESCRIPTOR = range(4)


#: What will come, in order: ``length`` + 1 words, of the last one so many bytes.
BurstInfo = data.StructLayout({
    "address": 32, "length": 8, "tail": range(WORD + 1), "zero": 1, "fetch": 1, "row_end": 1,
    "end": 1})


class Splitter(wiring.Component):
    """Segments to bursts of at most 256 beats that cross no page. One burst per cycle.

    Whoever takes the bursts and whoever brings the segments do not see each other's ready.

    Members
    -------
    i : stream of Segment
    o_burst : stream of Burst
        Of those that are in memory.
    o_info : stream of BurstInfo
        Of all.
    o_idle : bit
        Nothing is inside.
    """

    i: In(stream.Signature(Segment))
    o_burst: Out(stream.Signature(Burst))
    o_info: Out(stream.Signature(BurstInfo))
    o_idle: Out(1)

    def elaborate(self, _platform):
        m = Module()
        # All counts are less one: to the page's end it is the address, inverted. A page has room for two
        # of the longest bursts.
        segment, full, left = Signal(Segment), Signal(), Signal(16)
        m.submodules.waiting = waiting = Queue(width=Segment.size, depth=2)
        # Whether a burst is the last one is found before it begins.
        following, ready, first_left, whole = Signal(Segment), Signal(), Signal(16), Signal()
        comes, take = data.View(Segment, waiting.r_data), Signal()
        comes_left, comes_to_page = Signal(16), Signal(9)
        m.d.comb += [
            comes_left.eq((comes.bytes - 1) >> 3), comes_to_page.eq(~comes.address[3:12]),
            waiting.r_en.eq(~ready | take),
        ]
        with m.If(waiting.r_en):
            m.d.sync += [
                ready.eq(waiting.r_rdy), following.eq(comes), first_left.eq(comes_left),
                whole.eq((comes_left[8:] == 0) & (
                    comes.zero | comes_to_page[8] | (comes_left[:8] <= comes_to_page[:8]))),
            ]
        left_after, next_last = Signal(16), Signal()
        burst, info = self.o_burst.payload, self.o_info.payload
        to_page, most, last, sent = Signal(9), Signal(8), Signal(), Signal()
        m.d.comb += [
            to_page.eq(~segment.address[3:12]),
            most.eq(Mux(segment.zero | to_page[8], 255, to_page)),
            left_after.eq(left + Cat(~most, Const(0xFF, 8))),
            # A page begins with the next one; or it is 256 beats on.
            next_last.eq(Mux(segment.zero | to_page[8],
                             (left[8:] == 1) & (segment.zero | (left[:8] <= to_page[:8])),
                             left_after[8:] == 0)),
            burst.address.eq(Cat(Const(0, 3), segment.address[3:])),
            burst.length.eq(Mux(last, left, most)),
            info.address.eq(segment.address), info.length.eq(burst.length),
            info.tail.eq(Mux(last & (segment.bytes[:3] != 0), segment.bytes[:3], WORD)),
            info.zero.eq(segment.zero), info.fetch.eq(segment.fetch),
            info.row_end.eq(segment.row_end & last),
            info.end.eq(segment.end & last),
            # A stream's valid must not wait for its own ready, but may for the other's.
            self.o_info.valid.eq(full & (segment.zero | self.o_burst.ready)),
            self.o_burst.valid.eq(full & ~segment.zero & self.o_info.ready),
            sent.eq(full & self.o_info.ready & (segment.zero | self.o_burst.ready)),
            waiting.w_data.eq(self.i.payload), waiting.w_en.eq(self.i.valid),
            self.i.ready.eq(waiting.w_rdy), self.o_idle.eq(~full & ~ready & ~waiting.r_rdy),
            take.eq(~full | (sent & last)),
        ]
        with m.If(take):
            m.d.sync += [full.eq(ready), segment.eq(following), left.eq(first_left), last.eq(whole)]
        with m.Elif(sent):      # another follows: half a page on, or where the next page begins
            m.d.sync += [left.eq(left_after), last.eq(next_last),
                         segment.address[11:].eq(segment.address[11:] + 1)]
            with m.If(~to_page[8]):
                m.d.sync += segment.address[3:11].eq(0)
        return m


class LoadAddresses(wiring.Component):
    """Walks rectangles of the operands as stored, one row per cycle, and splits them into bursts.

    Each operand remembers where its last rectangle began and where it ended, so the next one needs
    no multiplication to find its place.

    Members
    -------
    i : stream of {target, rectangle}
    i_base : 32 bit[4]
        Address of each target's row 0, column 0.
    i_pitch : 32 bit[4]
        Bytes from row to row.
    i_group, i_wrap : 32 bit
        After so many rows of B (0: never) the step is ``i_wrap`` once.
    i_gather : bit[2], i_fields
        A (B) is gathered, and how; stable as :class:`Gather` wants it.
    o_burst, o_info
        See :class:`Splitter`.
    o_idle : bit
        Nothing is being walked or split.
    """

    def __init__(self):
        self.gather = Gather()
        self.order = data.StructLayout({"target": 2, "rectangle": Rectangle})
        super().__init__({
            "i":        In(stream.Signature(self.order)),
            "i_base":   In(data.ArrayLayout(32, 4)),
            "i_pitch":  In(data.ArrayLayout(32, 4)),
            "i_group":  In(32),
            "i_wrap":   In(32),
            "i_gather": In(2),
            "i_fields": In(self.gather.fields),
            "o_burst":  Out(stream.Signature(Burst)),
            "o_info":   Out(stream.Signature(BurstInfo)),
            "o_idle":   Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        m.submodules.splitter = splitter = Splitter()
        m.submodules.gather = gather = self.gather
        wiring.connect(m, splitter.o_burst, wiring.flipped(self.o_burst))
        wiring.connect(m, splitter.o_info, wiring.flipped(self.o_info))
        # The next rectangle waits here while one is walked.
        order, waiting = Signal(self.order), Signal()
        target, rectangle = order.target, order.rectangle
        with m.If(self.i.ready):
            m.d.sync += [waiting.eq(self.i.valid), order.eq(self.i.payload)]

        # Gathered or plain: one at a time feeds the splitter.
        walking, gathering = Signal(), Signal()
        wanted = Signal()
        m.d.comb += wanted.eq((target <= Target.B) & self.i_gather.bit_select(target[0], 1))
        gather_busy = Signal()
        begin = Signal()
        m.d.comb += [
            begin.eq(waiting & ~walking & ~gather_busy), self.i.ready.eq(~waiting | begin),
            gather.i_fields.eq(self.i_fields),
            gather.i_address.eq(Mux(self.i_gather[0], self.i_base[0], self.i_base[1])),
            gather.i.payload.eq(rectangle), gather.i.valid.eq(begin & wanted),
            self.o_idle.eq(~waiting & ~walking & ~gather_busy & splitter.o_idle),
        ]
        with m.If(begin & wanted):
            m.d.sync += [gather_busy.eq(1), gathering.eq(1)]
        with m.Elif(begin):
            m.d.sync += gathering.eq(0)
        with m.If(gather.o.valid & gather.o.ready & gather.o.payload.end):
            m.d.sync += gather_busy.eq(0)

        row, column = Signal(32), Signal(32)
        rows_left, in_group, width, who = Signal(16), Signal(32), Signal(18), Signal(2)
        here, after = ([Signal(32, name=f"row_{n}_{t}") for t in range(3)] for n in ("here", "after"))
        group_here, group_after = Signal(32), Signal(32)
        column_here, column_after = ([Signal(32, name=f"column_{n}_{t}") for t in range(3)]
                                     for n in ("here", "after"))

        def pick(move, zero, same, following):
            return Mux(move == Move.ZERO, zero, Mux(move == Move.SAME, same, following))

        known = Signal(2)
        m.d.comb += known.eq(Mux(target == Target.DESCRIPTOR, 0, target))
        begin_row, begin_group, begin_column = Signal(32), Signal(32), Signal(32)
        m.d.comb += [
            begin_row.eq(pick(rectangle.row_move, self.i_base[target], Array(here)[known],
                              Array(after)[known])),
            begin_group.eq(pick(rectangle.row_move, 0, group_here, group_after)),
            begin_column.eq(pick(rectangle.column_move, 0, Array(column_here)[known],
                                 Array(column_after)[known])),
        ]
        with m.If(begin & ~wanted):
            m.d.sync += [
                walking.eq(1), who.eq(target), row.eq(begin_row), column.eq(begin_column),
                in_group.eq(begin_group), rows_left.eq(rectangle.rows), width.eq(rectangle.bytes),
            ]
            for t in range(3):
                with m.If(target == t):
                    m.d.sync += [here[t].eq(begin_row), column_here[t].eq(begin_column),
                                 column_after[t].eq(begin_column + rectangle.bytes)]
            with m.If(target == Target.B):
                m.d.sync += group_here.eq(begin_group)

        # Whether the row is a group's last is found a row ahead.
        step, next_row, next_group, last = Signal(32), Signal(32), Signal(32), Signal()
        group_before, grouped, of_one = Signal(32), Signal(), Signal()
        at_group_end = Signal()
        m.d.sync += [group_before.eq(self.i_group - 2), grouped.eq(self.i_group != 0),
                     of_one.eq(self.i_group == 1)]
        wraps = (who == Target.B) & at_group_end & grouped
        next_at_end, end_here, end_after = Signal(), Signal(), Signal()
        m.d.comb += next_at_end.eq(Mux(at_group_end, of_one, in_group == group_before))
        with m.If(begin & ~wanted):
            begin_at_end = pick(rectangle.row_move, of_one, end_here, end_after)
            m.d.sync += at_group_end.eq(begin_at_end)
            with m.If(target == Target.B):
                m.d.sync += end_here.eq(begin_at_end)
        with m.Elif(walking & splitter.i.ready):
            m.d.sync += at_group_end.eq(next_at_end)
        m.d.comb += [
            step.eq(Mux(wraps, self.i_wrap, self.i_pitch[who])),
            next_row.eq(row + step), next_group.eq(Mux(wraps, 0, in_group + 1)),
            last.eq(rows_left == 1),
        ]
        segment = splitter.i
        with m.If(gathering):
            wiring.connect(m, gather.o, segment)
        with m.Else():
            m.d.comb += [
                segment.valid.eq(walking), segment.payload.address.eq(row + column),
                segment.payload.bytes.eq(width), segment.payload.row_end.eq(1),
                segment.payload.fetch.eq(who == Target.DESCRIPTOR),
                segment.payload.end.eq(last),
            ]
        with m.If(walking & segment.ready):
            m.d.sync += [row.eq(next_row), in_group.eq(next_group), rows_left.eq(rows_left - 1)]
            with m.If(last):
                m.d.sync += walking.eq(0)
                for t in range(3):
                    with m.If(who == t):
                        m.d.sync += after[t].eq(next_row)
                with m.If(who == Target.B):
                    m.d.sync += [group_after.eq(next_group), end_after.eq(next_at_end)]
        return m
