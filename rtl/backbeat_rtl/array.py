"""The systolic array: output-stationary, two rows per PE, drained while the next tile computes."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import pe
from .pe import LOW, ProcessingElement, accumulator_width
from .pipeline import delay, delay_line, pipelined_mux

__all__ = ["LATENCY", "RowPair", "SystolicArray", "column_sums"]

#: Cycles from ``i_last`` to ``o_valid``: packing, PE, two to pick P, its count behind it, subtract.
LATENCY = 1 + pe.LATENCY + pe.COUNT_LAG + 3

#: Operands of two neighbouring rows at one step of K.
RowPair = data.StructLayout({"a0": signed(8), "a1": signed(8)})


def column_sums(width: int):
    """Layout of what a column delivers per cycle: the sums of an even row and of the odd one below."""
    return data.StructLayout({"even": signed(width), "odd": signed(width)})


class SystolicArray(wiring.Component):
    """Multiplies tiles ``A[rows, K] @ B[K, columns]``, one step of K per cycle.

    Operands enter skewed: row pair p is p cycles behind row pair 0, column c is c cycles behind
    column 0. A pair's ``PE(p, c)`` thus finishes p + c cycles after ``PE(0, 0)``, and one rotating
    select per column picks each P in the single cycle between its last product and the first one
    of the next tile. No shadow accumulators, and no bubble between tiles of K >= row pairs.

    Model: :func:`backbeat_rtl.array_model.tile_product`.

    Latency ``LATENCY`` cycles from ``i_last`` to column 0's first pair of sums; column c delivers
    ``row_pairs`` pairs of sums in consecutive cycles, c cycles behind column 0.

    Parameters
    ----------
    rows, columns : int
        Size in MACs; ``rows`` even.
    max_k : int
        Longest K of one tile.

    Members
    -------
    i_a : RowPair[rows // 2]
        Skewed row operands, -127...127 (see :class:`ProcessingElement`); zero when idle.
    i_first : bit[rows // 2]
        Skewed like ``i_a``: first step of a tile.
    i_b : signed(8)[columns]
        Skewed column operands, -128...127.
    i_last : bit
        With row pair 0's last step of a tile. Two of them at least ``rows // 2`` cycles apart.
    o_valid : bit
        Column 0 delivers a pair of sums; column c does so c cycles later.
    o_sums : column_sums[columns]
        Rows 0 and 1, then 2 and 3, ...
    """

    def __init__(self, *, rows: int, columns: int, max_k: int):
        if rows < 2 or rows % 2:
            raise ValueError(f"rows must be even and at least 2, got {rows}")
        if columns < 1:
            raise ValueError(f"columns must be at least 1, got {columns}")
        self.rows, self.columns, self.max_k = rows, columns, max_k
        self.width = max(accumulator_width(max_k), LOW + 1)
        super().__init__({
            "i_a":     In(data.ArrayLayout(RowPair, rows // 2)),
            "i_first": In(rows // 2),
            "i_b":     In(data.ArrayLayout(signed(8), columns)),
            "i_last":  In(1),
            "o_valid": Out(1),
            "o_sums":  Out(data.ArrayLayout(column_sums(self.width), columns)),
        })

    def elaborate(self, _platform):
        m = Module()
        pairs = range(self.rows // 2)
        grid = {}
        for p in pairs:
            for c in range(self.columns):
                element = ProcessingElement(max_k=self.max_k)
                m.submodules[f"pe_{p}_{c}"] = grid[p, c] = element
                if c:
                    m.d.comb += [element.i_a.eq(grid[p, c - 1].o_a),
                                 element.i_first.eq(grid[p, c - 1].o_first)]
                if p:
                    m.d.comb += element.i_b.eq(grid[p - 1, c].o_b)

        # The edges: pack each row pair once, for the whole row.
        for p in pairs:
            edge = grid[p, 0]
            a = Signal(pe.PackedPair, name=f"a_{p}", reset_less=True)
            first = Signal(name=f"first_{p}", reset_less=True)
            m.d.sync += [
                a.h.eq(self.i_a[p].a1 - self.i_a[p].a0[7]),
                a.a0.eq(self.i_a[p].a0),
                first.eq(self.i_first[p]),
            ]
            m.d.comb += [edge.i_a.eq(a), edge.i_first.eq(first)]
        for c in range(self.columns):
            b = Signal(signed(8), name=f"b_{c}", reset_less=True)
            m.d.sync += b.eq(self.i_b[c])
            m.d.comb += grid[0, c].i_b.eq(b)

        # The drain: (active, index) starts when PE(0, 0) is final and walks across the columns.
        last = delay(m, self.i_last, pe.LATENCY, name="last", reset=True)
        active, index = Signal(), Signal(range(max(len(pairs), 2)))
        m.d.sync += index.eq(index + 1)
        with m.If(last):
            m.d.sync += [active.eq(1), index.eq(0)]
        with m.Elif(index == len(pairs) - 1):
            m.d.sync += active.eq(0)
        tail = pe.COUNT_LAG + 3
        walk = delay_line(m, index, self.columns + tail, name="index")
        m.d.comb += self.o_valid.eq(delay(m, active, tail, name="active", reset=True))

        for c in range(self.columns):
            column = [grid[p, c] for p in pairs]
            lag = pe.COUNT_LAG
            low = pipelined_mux(m, [e.o_p[:LOW] for e in column], walk[c], name=f"low_{c}")
            high = pipelined_mux(m, [e.o_p[LOW:] for e in column], walk[c], name=f"high_{c}")
            count = pipelined_mux(m, [e.o_count for e in column], walk[c + lag], name=f"count_{c}")
            low = delay(m, low, lag, name=f"low_{c}")
            high = delay(m, high, lag, name=f"high_{c}")
            sums = Signal(column_sums(self.width), name=f"sums_{c}", reset_less=True)
            m.d.sync += [
                sums.even.eq((count << LOW) | low),
                sums.odd.eq(high.as_signed() - count),
            ]
            m.d.comb += self.o_sums[c].eq(sums)
        return m
