"""The processing element: two INT8 multiply-accumulates in one DSP48E1-shaped accumulator."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LOW", "LATENCY", "COUNT_LAG", "PackedPair", "ProcessingElement", "accumulator_width"]

#: Width of the low field of the packed accumulator. The high product starts here.
LOW = 17
#: Cycles from an operand at the inputs to its product being part of ``o_p``.
LATENCY = 3
#: Cycles by which ``o_count`` runs behind ``o_p``.
COUNT_LAG = 3

#: A row pair as it travels from PE to PE: ``h = a1 - (a0 < 0)`` and ``a0``. The 25-bit multiplier
#: operand ``(a1 << 17) + a0`` is wiring of the two: ``{h, 9 x a0[7], a0}``.
PackedPair = data.StructLayout({"a0": signed(8), "h": signed(8)})


def accumulator_width(max_k: int) -> int:
    """Bits of a signed sum of ``max_k`` products of magnitude up to 127 * 128."""
    return (max_k * 127 * 128).bit_length() + 1


class ProcessingElement(wiring.Component):
    """Multiplies a row pair by one column operand and accumulates both products in one register.

    ``P += ((a1 << 17) + a0) * b`` holds ``sum(a0*b)`` in its low 17 bits and, off by what the low
    sum has carried or borrowed, ``sum(a1*b)`` above. One product is at most 127 * 128 = 16,256 in
    magnitude, less than a quarter of the low field, so ``P[16:15]`` moves by at most one quadrant
    a step; a counter that sees it wrap from 3 to 0 (+1) and from 0 to 3 (-1) keeps the rest of the
    low sum. With ``L = {count, P[16:0]}`` and ``H = (P >> 17) - count`` both sums are exact for
    K up to ``max_k`` and never rounded or saturated. ``a0`` and ``a1`` lie in -127...127
    (``a1 = -128`` beside a negative ``a0`` would not fit the 25-bit operand), ``b`` in -128...127.

    Model: :func:`backbeat_rtl.array_model.accumulate_packed`.

    Latency ``LATENCY`` cycles to ``o_p``, ``COUNT_LAG`` more to ``o_count``; one step per cycle.

    Parameters
    ----------
    max_k : int
        Longest accumulation, 1...65,536 steps.

    Members
    -------
    i_a, o_a : PackedPair
        Row pair, and the same one cycle later for the next PE in the row.
    i_b, o_b : signed(8)
        Column operand, and the same one cycle later for the next PE in the column.
    i_first, o_first : bit
        Travels with ``i_a``: this product starts a new sum.
    o_p : signed(17 + accumulator_width)
        Packed accumulator.
    o_count : signed(accumulator_width - 17)
        Wraps of the low field.

    Raises
    ------
    ValueError
        ``max_k`` outside 1...65,536.
    """

    def __init__(self, *, max_k: int):
        if not 1 <= max_k <= 65536:
            raise ValueError(f"max_k must be 1...65536 for an exact packed accumulation, got {max_k}")
        self.width = max(accumulator_width(max_k), LOW + 1)
        super().__init__({
            "i_a":     In(PackedPair),
            "i_b":     In(signed(8)),
            "i_first": In(1),
            "o_a":     Out(PackedPair),
            "o_b":     Out(signed(8)),
            "o_first": Out(1),
            "o_p":     Out(signed(LOW + self.width)),
            "o_count": Out(signed(self.width - LOW)),
        })

    def elaborate(self, _platform):
        m = Module()

        def register(shape=1, **kwargs):
            return Signal(shape, reset_less=True, src_loc_at=1, **kwargs)

        # Cycle 1: the operand registers are also the pass to the neighbours. B's is the DSP's BREG; A's
        # 16 bits drive 25 pins, and yosys leaves them in front of the DSP.
        a, b, first = register(PackedPair), register(signed(8)), register()
        m.d.sync += [a.eq(self.i_a), b.eq(self.i_b), first.eq(self.i_first)]
        m.d.comb += [self.o_a.eq(a), self.o_b.eq(b), self.o_first.eq(first)]

        # Cycle 2: product (MREG).
        packed = Signal(signed(25))
        product, first_product = register(signed(33)), register()
        m.d.comb += packed.eq(Cat(a.a0, a.a0[7].replicate(9), a.h))
        m.d.sync += [product.eq(packed * b), first_product.eq(first)]

        # Cycle 3: accumulator (PREG; the choice of 0 or P is the DSP's OPMODE).
        p, first_sum = register(self.o_p.shape()), register()
        m.d.sync += [p.eq(product + Mux(first_product, 0, p)), first_sum.eq(first_product)]

        # Cycles 4 to 6: quadrant, wrap, count. A register between each, because the DSP's
        # clock-to-out and a compare in one cycle would set the clock of the whole array.
        quadrant, previous, first_quadrant = register(2), register(2), register()
        wraps, down, first_wrap = register(), register(), register()
        m.d.sync += [
            quadrant.eq(p[LOW - 2:LOW]),
            previous.eq(Mux(first_sum, 0, quadrant)),
            first_quadrant.eq(first_sum),
            wraps.eq((previous == 3) & (quadrant == 0) | (previous == 0) & (quadrant == 3)),
            down.eq((previous == 0) & (quadrant == 3)),
            first_wrap.eq(first_quadrant),
        ]
        step, count = Signal(signed(2)), register(self.o_count.shape())
        m.d.comb += step.eq(Cat(wraps, down))
        m.d.sync += count.eq(step + Mux(first_wrap, 0, count))
        m.d.comb += [self.o_p.eq(p), self.o_count.eq(count)]
        return m
