"""Walks a tensor (N, H, W, C) as if it were the matrix of its patches (implicit im2col)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import isa

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

    One segment per cycle, latency 5 cycles. A segment is at most the rest of a pixel.

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
        insert, step = fields[f"insert_{axis}"], fields[f"{kind}_{axis}_rest"]
        unit = fields.row_pitch if axis == "y" else fields.pixel
        near, first = fields[f"{kind}_{axis}_bytes"], Signal(name=f"{name}_first")
        far, on = Signal(32, name=f"{name}_far"), Signal(signed(9), name=f"{name}_on")
        # Two steps, the first of which carries (does not): the next one's carry is found beside this
        # one's, so that no sum waits for another.
        carried, kept = (Signal(signed(10), name=f"{name}_{what}") for what in ("carried", "kept"))
        m.d.sync += [       # stable by then
            far.eq(near + unit), on.eq(step - insert), carried.eq((step - insert) << 1),
            kept.eq((step << 1) - insert), first.eq(rest + on >= 0),
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
        fields = self.i_fields
        row, row_here, first_row = Signal(_ROW), Signal(_ROW), Signal(_ROW)
        column, column_here = Signal(_COLUMN), Signal(_COLUMN)
        first_column, step, tap = Signal(_COLUMN), {}, {}
        for axis in "yx":
            rest = fields[f"origin_{axis}_rest"]
            tap[axis], tap_carries = self._moved(m, column[axis], axis, "tap", f"tap_{axis}")
            step[axis], step_carries = self._moved(m, row[axis], axis, "step", f"step_{axis}", rest)
            m.d.comb += [
                first_row[axis].at.eq(fields[f"origin_{axis}"]), first_row[axis].rest.eq(rest),
                first_row[axis].carry.eq(step_carries), first_column[axis].carry.eq(tap_carries),
            ]
        m.d.comb += first_column.left.eq(fields.pixel)

        # A rectangle begins.
        busy, rows_left, bytes_left = Signal(), Signal(16), Signal(18)
        width = Signal(18)
        begin_row, begin_column = Signal(_ROW), Signal(_COLUMN)
        with m.Switch(self.i.payload.row_move):
            with m.Case(Move.ZERO):
                m.d.comb += begin_row.eq(first_row)
            with m.Case(Move.SAME):
                m.d.comb += begin_row.eq(row_here)
            with m.Default():
                m.d.comb += begin_row.eq(row)
        with m.Switch(self.i.payload.column_move):
            with m.Case(Move.ZERO):
                m.d.comb += begin_column.eq(first_column)
            with m.Case(Move.SAME):
                m.d.comb += begin_column.eq(column_here)
            with m.Default():
                m.d.comb += begin_column.eq(column)
        m.d.comb += self.i.ready.eq(~busy)
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += [
                busy.eq(1), rows_left.eq(self.i.payload.rows), bytes_left.eq(self.i.payload.bytes),
                width.eq(self.i.payload.bytes), row.eq(begin_row), row_here.eq(begin_row),
                column.eq(begin_column), column_here.eq(begin_column),
            ]

        # Segment after segment.
        advance = Signal()          # the pipeline moves
        length, row_end, within, end = Signal(18), Signal(), Signal(), Signal()
        m.d.comb += [
            row_end.eq(bytes_left <= column.left), within.eq(bytes_left < column.left),
            length.eq(Mux(row_end, bytes_left, column.left)),
            end.eq(row_end & (rows_left == 1)),
        ]
        # Stable long before the first step.
        last_tap, last_q, last_p = (Signal(16, name=f"last_{name}") for name in "sqp")
        m.d.sync += [last_tap.eq(fields.taps_x - 1), last_q.eq(fields.grid_x - 1),
                     last_p.eq(fields.grid_y - 1)]
        with m.If(busy & advance):
            m.d.sync += bytes_left.eq(bytes_left - column.left)
            with m.If(within):      # the row ends in the midst of a pixel
                m.d.sync += [column.c.eq(column.c + bytes_left),
                             column.left.eq(column.left - bytes_left)]
            with m.Else():
                m.d.sync += [column.c.eq(0), column.left.eq(fields.pixel), column.s.eq(column.s + 1),
                             column.x.eq(tap["x"])]
                with m.If(column.s == last_tap):
                    m.d.sync += [column.s.eq(0), column.x.eq(first_column.x), column.y.eq(tap["y"])]
            with m.If(row_end):
                m.d.sync += [rows_left.eq(rows_left - 1), bytes_left.eq(width),
                             row.q.eq(row.q + 1), row.x.eq(step["x"])]
                with m.If(~end):        # the next rectangle may go on from the last row's end
                    m.d.sync += column.eq(column_here)
                with m.If(row.q == last_q):
                    m.d.sync += [row.q.eq(0), row.x.eq(first_row.x), row.p.eq(row.p + 1),
                                 row.y.eq(step["y"])]
                    with m.If(row.p == last_p):
                        m.d.sync += [row.p.eq(0), row.y.eq(first_row.y),
                                     row.image.eq(row.image + fields.image_pitch)]
            with m.If(end):
                m.d.sync += busy.eq(0)
        self.elaborate_pipeline(m, row, column, busy, advance, length, row_end, end)
        return m

    def elaborate_pipeline(self, m, row, column, busy, advance, length, row_end, end):
        """Row and column together: the address, and whether there is anything."""
        fields, out = self.i_fields, self.o.payload
        valid, info = Signal(3), [Signal(20, name=f"info_{n}") for n in range(3)]
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)
        # The address by pairs: two operands at a time, as adders have.
        image, origin, tap, address = (Signal(32, name=n) for n in ("image", "origin", "tap", "address"))
        place, carried, byte = Signal(32), Signal(32), Signal(16)
        with m.If(advance):
            m.d.sync += [
                Cat(valid, self.o.valid).eq(Cat(busy, valid)),
                info[0].eq(Cat(length, row_end, end)), info[1].eq(info[0]), info[2].eq(info[1]),
                Cat(out.bytes, out.row_end, out.end).eq(info[2]),
                image.eq(self.i_address + row.image), origin.eq(row.y.bytes + row.x.bytes),
                tap.eq(column.y.bytes + column.x.bytes), byte.eq(column.c),
                place.eq(image + origin), carried.eq(tap + byte),
                address.eq(place + carried),
            ]
        inside, extra = [], []
        for axis, unit in (("y", fields.row_pitch), ("x", fields.pixel)):
            insert = fields[f"insert_{axis}"]
            at, rest = Signal(signed(26), name=f"at_{axis}"), Signal(9, name=f"rest_{axis}")
            carry, there = Signal(32, name=f"carry_{axis}"), Signal(name=f"there_{axis}")
            whole = (rest == 0) | (rest == insert)
            with m.If(advance):
                m.d.sync += [
                    at.eq(row[axis].at + column[axis].at),
                    rest.eq(row[axis].rest + column[axis].rest),
                    there.eq((at >= 0) & (at < fields[f"limit_{axis}"]) & whole),
                    carry.eq(Mux(rest == insert, unit, 0)),
                ]
            inside.append(there)
            extra.append(carry)
        rests, nothing = Signal(32), Signal()
        with m.If(advance):
            m.d.sync += [rests.eq(extra[0] + extra[1]), nothing.eq(~(inside[0] & inside[1])),
                         out.zero.eq(nothing), out.address.eq(address + rests)]
