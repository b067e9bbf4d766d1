"""Walks a tensor (N, H, W, C) as if it were the matrix of its patches (implicit im2col)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import isa
from .pipeline import exceeds

__all__ = ["GATHER_FIELDS", "Gather", "Move", "Rectangle", "Segment"]


class Move:
    """Where a rectangle begins, relative to the one before it, in one direction."""

    ZERO, SAME, NEXT = range(3)


#: A part of a matrix as stored: rows of so many bytes.
Rectangle = data.StructLayout({"rows": 16, "bytes": 18, "row_move": 2, "column_move": 2})

#: Consecutive bytes of a row, in memory or (``zero``) nowhere; ``fetch``: of a descriptor.
Segment = data.StructLayout(
    {"address": 32, "bytes": 18, "zero": 1, "fetch": 1, "row_end": 1, "end": 1})

#: The fields of a descriptor that say how.
GATHER_FIELDS = tuple(f for number in range(20, 33) for f in isa.DESCRIPTOR[number])
_SIGNED = ("origin_y", "origin_x")

#: Where a row is: the image, the pixel of the grid, and per axis its position, the rest of the
#: position modulo the insertion, whether that carries with the next step, and the bytes to there
#: from the origin.
_AXIS = {"at": signed(26), "rest": 8, "carry": 1, "bytes": 32}
_ROW = data.StructLayout({
    "image": 32, "p": 16, "q": 16, "y": data.StructLayout(_AXIS), "x": data.StructLayout(_AXIS)})
#: Where a column is: the tap, the byte of its pixel and how many are left of that, and per axis what the
#: tap adds.
_COLUMN = data.StructLayout({
    "s": 16, "c": 16, "left": 16, "y": data.StructLayout(_AXIS), "x": data.StructLayout(_AXIS)})


class Gather(wiring.Component):
    """Yields the segments of a rectangle of the matrix pixels (n, p, q) by taps (r, s, c).

    Model: the gathering in :mod:`backbeat_rtl.descriptor_model`. Everything is counted, nothing
    multiplied or divided: a rectangle begins where the one before it began, or where it ended, or at
    zero.

    One segment per cycle, latency 6 cycles; three cycles more per rectangle. A segment is at most the
    rest of a pixel.

    Members
    -------
    i_fields : GATHER_FIELDS
        Stable while a rectangle is being walked, and two cycles before.
    i_address : 32 bit
        Of the tensor's byte that row 0, column 0 stands for.
    i : stream of Rectangle
    o : stream of Segment
    """

    def __init__(self):
        self.fields = data.StructLayout({
            f.name: signed(f.width) if f.name in _SIGNED else f.width for f in GATHER_FIELDS})
        super().__init__({
            "i_fields":  In(self.fields),
            "i_address": In(32),
            "i":         In(stream.Signature(Rectangle)),
            "o":         Out(stream.Signature(Segment)),
        })

    def _moved(self, m, here, axis: str, kind: str, name: str, rest=0):
        """The place of an axis one step (tap) on, and whether the first step from ``rest`` carries."""
        fields, there = self.i_fields, Signal(here.shape(), name=name)
        insert, rest_on = fields[f"insert_{axis}"], fields[f"{kind}_{axis}_rest"]
        unit = fields.row_pitch if axis == "y" else fields.pixel
        near, first = fields[f"{kind}_{axis}_bytes"], Signal(name=f"{name}_first")
        far, on = Signal(32, name=f"{name}_far"), Signal(signed(9), name=f"{name}_on")
        step = Signal(8, name=f"{name}_rest")
        # Two steps, the first of which carries (does not): the next one's carry is found beside this
        # one's, so that no sum waits for another.
        carried, kept = (Signal(signed(10), name=f"{name}_{what}") for what in ("carried", "kept"))
        m.d.sync += [       # stable by then
            far.eq(near + unit), step.eq(rest_on), on.eq(rest_on - insert),
            carried.eq((rest_on - insert) << 1), kept.eq((rest_on << 1) - insert),
            first.eq(rest + on >= 0),
        ]
        m.d.comb += [
            there.at.eq(here.at + fields[f"{kind}_{axis}"]),
            there.rest.eq(here.rest + Mux(here.carry, on, step)),
            there.carry.eq(Mux(here.carry, here.rest + carried >= 0, here.rest + kept >= 0)),
            there.bytes.eq(here.bytes + Mux(here.carry, far, near)),
        ]
        return there, first

    def elaborate(self, _platform):
        m = Module()
        order = self.i.payload
        self.row, self.column = Signal(_ROW), Signal(_COLUMN)
        left = self.column.left
        # A rectangle begins; where, is kept a cycle later. Two more behind its end: whether that is a
        # pixel's too, and what is left of it. For a rectangle, not for every segment: in its cycle that
        # were another subtraction.
        self.begin, self.busy, self.opening, self.walking = (Signal() for _ in range(4))
        self.closing, self.settling = Signal(), Signal()
        self.advance, self.step = Signal(), Signal()    # the pipeline moves; a segment enters it
        self.row_end, self.end, self.last_row = Signal(), Signal(), Signal()
        self.bytes_left, self.length = Signal(18), Signal(18)
        rows_left, width = Signal(16), Signal(18)
        # What a row has behind a segment, and whether that is nothing, is found in the cycle before the
        # segment's; of a row's first, when the rectangle begins.
        rest, first_rest, next_rest = Signal(18), Signal(18), Signal(18)
        ends_first, next_ends = Signal(), Signal()
        before, taken = Signal(18), Signal(18)
        m.d.comb += [
            self.i.ready.eq(~self.busy), self.begin.eq(~self.busy & self.i.valid),
            self.step.eq(self.walking & self.advance), self.end.eq(self.row_end & self.last_row),
            self.length.eq(Mux(self.row_end, self.bytes_left, left)),
            before.eq(Mux(self.opening, width, rest)),
            taken.eq(Mux(self.opening, left, self.i_fields.pixel)),
            next_rest.eq(before - taken), next_ends.eq(~exceeds(before, taken)),
        ]
        m.d.sync += [self.opening.eq(self.begin), self.closing.eq(self.step & self.end),
                     self.settling.eq(self.closing)]
        with m.If(self.begin):
            m.d.sync += [self.busy.eq(1), rows_left.eq(order.rows), width.eq(order.bytes)]
        with m.If(self.opening):
            m.d.sync += self.walking.eq(1)
        with m.If(self.step & self.end):
            m.d.sync += self.walking.eq(0)
        with m.If(self.settling):
            m.d.sync += self.busy.eq(0)
        with m.If(self.opening):
            m.d.sync += [first_rest.eq(next_rest), ends_first.eq(next_ends)]
        with m.If(self.opening | self.step):
            again = self.row_end & ~self.opening
            m.d.sync += [
                self.bytes_left.eq(Mux(self.opening | self.row_end, width, rest)),
                rest.eq(Mux(again, first_rest, next_rest)),
                self.row_end.eq(Mux(again, ends_first, next_ends)),
            ]
        # Whether a row is the last is found with its number.
        with m.If(self.opening | (self.step & self.row_end)):
            m.d.sync += [self.last_row.eq(rows_left == 1), rows_left.eq(rows_left - 1)]
        self.elaborate_rows(m)
        self.elaborate_columns(m)
        self.elaborate_pipeline(m)
        return m

    def elaborate_rows(self, m):
        """From pixel to pixel of the grid, at the end of a row; or where a rectangle begins."""
        fields, row, busy = self.i_fields, self.row, self.busy
        here, first, after = Signal(_ROW, name="row_here"), Signal(_ROW, name="first_row"), {}
        for axis in "yx":
            rest = fields[f"origin_{axis}_rest"]
            after[axis], carries = self._moved(m, row[axis], axis, "step", f"step_{axis}", rest)
            m.d.comb += [first[axis].at.eq(fields[f"origin_{axis}"]), first[axis].rest.eq(rest),
                         first[axis].carry.eq(carries)]
        last_q, last_p = Signal(16), Signal(16)
        m.d.sync += [last_q.eq(fields.grid_x - 1), last_p.eq(fields.grid_y - 1)]   # stable by then
        with m.If(self.opening):
            m.d.sync += here.eq(row)
        move, same, q_ends, p_ends = self.i.payload.row_move, Signal(), Signal(), Signal()
        m.d.comb += [
            same.eq(~busy & (move == Move.SAME)),
            # What ends begins anew, as everything does at first.
            q_ends.eq(~busy | (row.q == last_q)), p_ends.eq(~busy | (row.p == last_p)),
        ]
        with m.If((self.begin & (move != Move.NEXT)) | (self.step & self.row_end)):
            with m.If(same):
                m.d.sync += [row.q.eq(here.q), row.x.eq(here.x)]
            with m.Elif(q_ends):
                m.d.sync += [row.q.eq(0), row.x.eq(first.x)]
            with m.Else():
                m.d.sync += [row.q.eq(row.q + 1), row.x.eq(after["x"])]
            with m.If(q_ends):
                with m.If(same):
                    m.d.sync += [row.p.eq(here.p), row.y.eq(here.y)]
                with m.Elif(p_ends):
                    m.d.sync += [row.p.eq(0), row.y.eq(first.y)]
                with m.Else():
                    m.d.sync += [row.p.eq(row.p + 1), row.y.eq(after["y"])]
                with m.If(p_ends):
                    m.d.sync += row.image.eq(Mux(same, here.image,
                                                 Mux(busy, row.image + fields.image_pitch, 0)))

    def elaborate_columns(self, m):
        """From tap to tap, and at the end of a row back; or where a rectangle begins."""
        fields, column, busy = self.i_fields, self.column, self.busy
        here, first, tap = Signal(_COLUMN, name="column_here"), Signal(_COLUMN, name="first_column"), {}
        for axis in "yx":
            tap[axis], carries = self._moved(m, column[axis], axis, "tap", f"tap_{axis}")
            m.d.comb += first[axis].carry.eq(carries)
        last_tap = Signal(16)
        m.d.sync += last_tap.eq(fields.taps_x - 1)      # stable by then
        with m.If(self.opening):
            m.d.sync += here.eq(column)
        move = self.i.payload.column_move
        begin, back, s_ends, on = (Signal() for _ in range(4))
        m.d.comb += [
            begin.eq(self.begin & (move != Move.NEXT)),
            back.eq(Mux(self.walking, self.row_end, ~busy & (move == Move.SAME))),
            s_ends.eq(~busy | (column.s == last_tap)),
            # From the last row's end the next rectangle may go on: at the next tap if that is a pixel's.
            on.eq(begin | (self.step & ~self.end) | (self.closing & (column.c == fields.pixel))),
        ]
        with m.If(on):
            with m.If(back):
                m.d.sync += [column.s.eq(here.s), column.x.eq(here.x)]
            with m.Elif(s_ends):
                m.d.sync += [column.s.eq(0), column.x.eq(first.x)]
            with m.Else():
                m.d.sync += [column.s.eq(column.s + 1), column.x.eq(tap["x"])]
            with m.If(back | s_ends):
                m.d.sync += column.y.eq(Mux(back, here.y, Mux(busy, tap["y"], first.y)))
        with m.If(on | self.step):
            m.d.sync += [
                column.c.eq(Mux(back, Mux(self.last_row, column.c + self.bytes_left, here.c), 0)),
                column.left.eq(Mux(back, here.left, fields.pixel)),
            ]
        with m.If(self.settling):
            m.d.sync += column.left.eq(fields.pixel - column.c)

    def elaborate_pipeline(self, m):
        """Row and column together: the address, and whether there is anything."""
        fields, out, row, column, advance = (
            self.i_fields, self.o.payload, self.row, self.column, self.advance)
        valid, info = Signal(3), [Signal(20, name=f"info_{n}") for n in range(3)]
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)
        # The address by pairs: two operands at a time, as adders have.
        image, origin, tap, address = (Signal(32, name=n) for n in ("image", "origin", "tap", "address"))
        place, carried, byte = Signal(32), Signal(32), Signal(16)
        with m.If(advance):
            m.d.sync += [
                Cat(valid, self.o.valid).eq(Cat(self.walking, valid)),
                info[0].eq(Cat(self.length, self.row_end, self.end)),
                info[1].eq(info[0]), info[2].eq(info[1]),
                Cat(out.bytes, out.row_end, out.end).eq(info[2]),
                image.eq(self.i_address + row.image), origin.eq(row.y.bytes + row.x.bytes),
                tap.eq(column.y.bytes + column.x.bytes), byte.eq(column.c),
                place.eq(image + origin), carried.eq(tap + byte),
                address.eq(place + carried),
            ]
        inside, extra = [], []
        for axis, unit in (("y", fields.row_pitch), ("x", fields.pixel)):
            # Stable by then.
            insert, limit = Signal(8, name=f"insert_{axis}"), Signal(16, name=f"limit_{axis}")
            bytes_on = Signal(32, name=f"unit_{axis}")
            m.d.sync += [insert.eq(fields[f"insert_{axis}"]), limit.eq(fields[f"limit_{axis}"]),
                         bytes_on.eq(unit)]
            at, rest = Signal(signed(26), name=f"at_{axis}"), Signal(9, name=f"rest_{axis}")
            carry, there = Signal(32, name=f"carry_{axis}"), Signal(name=f"there_{axis}")
            whole = (rest == 0) | (rest == insert)
            with m.If(advance):
                m.d.sync += [
                    at.eq(row[axis].at + column[axis].at),
                    rest.eq(row[axis].rest + column[axis].rest),
                    there.eq((at >= 0) & (at < limit) & whole),
                    carry.eq(Mux(rest == insert, bytes_on, 0)),
                ]
            inside.append(there)
            extra.append(carry)
        rests, nothing = Signal(32), Signal()
        with m.If(advance):
            m.d.sync += [rests.eq(extra[0] + extra[1]), nothing.eq(~(inside[0] & inside[1])),
                         out.zero.eq(nothing), out.address.eq(address + rests)]
