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
        # of the longest bursts; `far`: its end is no nearer than one of them, or there is none.
        segment, full, left, far = Signal(Segment), Signal(), Signal(16), Signal()
        m.submodules.waiting = waiting = Queue(width=Segment.size, depth=2)
        # Whether a burst is the last one is found before it begins.
        following, ready, whole = Signal(Segment), Signal(), Signal()
        first_left, first_far = Signal(16), Signal()
        comes, take = data.View(Segment, waiting.r_data), Signal()
        m.d.comb += [
            waiting.r_en.eq(~ready | take),
            whole.eq((first_left[8:] == 0)
                     & (first_far | (first_left[:8] <= ~following.address[3:11]))),
        ]
        with m.If(waiting.r_en):
            m.d.sync += [ready.eq(waiting.r_rdy), following.eq(comes),
                         first_left.eq((comes.bytes - 1) >> 3),
                         first_far.eq(comes.zero | ~comes.address[11])]
        left_after, next_last = Signal(16), Signal()
        burst, info = self.o_burst.payload, self.o_info.payload
        to_page, most, last, sent = Signal(8), Signal(8), Signal(), Signal()
        m.d.comb += [
            to_page.eq(~segment.address[3:11]), most.eq(Mux(far, 255, to_page)),
            left_after.eq(left + Cat(~most, Const(0xFF, 8))),
            # Where this one is not: behind it a new page has room for 256 beats, or (`far`) the page's
            # end is 256 beats nearer. Against what is left now both are the same comparison, and nothing
            # waits for the subtraction.
            next_last.eq((left[8:] == 0) | (left[8:] == 1) & (segment.zero | (left[:8] <= to_page))),
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
            m.d.sync += [full.eq(ready), segment.eq(following), left.eq(first_left), last.eq(whole),
                         far.eq(first_far)]
        with m.Elif(sent):      # another follows: half a page on, or where the next page begins
            m.d.sync += [left.eq(left_after), last.eq(next_last), far.eq(segment.zero | ~far),
                         segment.address[11:].eq(segment.address[11:] + 1)]
            with m.If(~far):
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
        order, waiting, wanted = Signal(self.order), Signal(), Signal()
        target, rectangle = order.target, order.rectangle
        coming = self.i.payload.target
        m.d.comb += self.i.ready.eq(~waiting)
        with m.If(~waiting):
            m.d.sync += [
                waiting.eq(self.i.valid), order.eq(self.i.payload),
                wanted.eq((coming <= Target.B) & self.i_gather.bit_select(coming[0], 1)),
            ]

        # Gathered or plain: one at a time feeds the splitter. The gatherer could take another rectangle
        # before the last segment of this one has come out.
        walking, gathering, begin = Signal(), Signal(), Signal()
        segment = splitter.i
        m.d.comb += [
            begin.eq(waiting & ~walking & ~gathering),
            gather.i_fields.eq(self.i_fields),
            gather.i.payload.eq(rectangle), gather.i.valid.eq(begin & wanted),
            gather.o.ready.eq(segment.ready),
            self.o_idle.eq(~waiting & ~walking & ~gathering & splitter.o_idle),
        ]
        # Stable long before a rectangle begins.
        m.d.sync += gather.i_address.eq(Mux(self.i_gather[0], self.i_base[0], self.i_base[1]))
        with m.If(begin):
            m.d.sync += [waiting.eq(0), walking.eq(~wanted), gathering.eq(wanted)]
        with m.If(gather.o.valid & gather.o.ready & gather.o.payload.end):
            m.d.sync += gathering.eq(0)

        # Whether a row is the last one, and whether the step behind it is `i_wrap`: found a row ahead.
        row, column, pitch = Signal(32), Signal(32), Signal(32)
        rows_left, in_group, width, who = Signal(16), Signal(32), Signal(18), Signal(2)
        last, wraps, ends = Signal(), Signal(), Signal()
        next_row, next_group = Signal(32), Signal(32)
        here, after = ([Signal(32, name=f"row_{n}_{t}") for t in range(3)] for n in ("here", "after"))
        group_here, group_after, wraps_here, wraps_after = Signal(32), Signal(32), Signal(), Signal()
        column_here, column_after = ([Signal(32, name=f"column_{n}_{t}") for t in range(3)]
                                     for n in ("here", "after"))
        group_before, of_one = Signal(33), Signal()     # no group of none, or of one, has a row before
        m.d.sync += [group_before.eq(self.i_group - 2), of_one.eq(self.i_group == 1)]
        m.d.comb += [
            next_row.eq(row + Mux(wraps, self.i_wrap, pitch)),
            next_group.eq(Mux(wraps, 0, in_group + 1)),
            ends.eq((who == Target.B) & Mux(wraps, of_one, in_group == group_before)),
        ]

        def pick(move, zero, same, following):
            return Mux(move == Move.ZERO, zero, Mux(move == Move.SAME, same, following))

        # A descriptor begins at zero, whatever else there is to be picked.
        move, fresh = rectangle.row_move, Signal()
        m.d.sync += fresh.eq(begin & ~wanted)
        with m.If(begin):
            m.d.sync += [
                who.eq(target), width.eq(rectangle.bytes), pitch.eq(self.i_pitch[target]),
                rows_left.eq(rectangle.rows), last.eq(rectangle.rows == 1),
                row.eq(pick(move, self.i_base[target], Array(here)[target], Array(after)[target])),
                column.eq(pick(rectangle.column_move, 0, Array(column_here)[target],
                               Array(column_after)[target])),
                in_group.eq(pick(move, 0, group_here, group_after)),
                wraps.eq((target == Target.B) & pick(move, of_one, wraps_here, wraps_after)),
            ]
        with m.If(walking):
            m.d.comb += [
                segment.valid.eq(1), segment.payload.address.eq(row + column),
                segment.payload.bytes.eq(width), segment.payload.row_end.eq(1),
                segment.payload.fetch.eq(who == Target.DESCRIPTOR), segment.payload.end.eq(last),
            ]
        with m.Else():
            m.d.comb += [segment.valid.eq(gather.o.valid), segment.payload.eq(gather.o.payload)]
        with m.If(fresh):       # no row has been left yet, and no rectangle begins so soon
            for t in range(3):
                with m.If(who == t):
                    m.d.sync += [here[t].eq(row), column_here[t].eq(column),
                                 column_after[t].eq(column + width)]
            with m.If(who == Target.B):
                m.d.sync += [group_here.eq(in_group), wraps_here.eq(wraps)]
        with m.If(walking & segment.ready):
            m.d.sync += [row.eq(next_row), in_group.eq(next_group), wraps.eq(ends),
                         rows_left.eq(rows_left - 1), last.eq(rows_left == 2)]
            with m.If(last):
                m.d.sync += walking.eq(0)
                for t in range(3):
                    with m.If(who == t):
                        m.d.sync += after[t].eq(next_row)
                with m.If(who == Target.B):
                    m.d.sync += [group_after.eq(next_group), wraps_after.eq(ends)]
        return m
