"""The packed processing element against two plain ones, in three steps.

No solver multiplies well, so none has to: that one product is both (``pe.product``) is shown one value
of ``b`` at a time, that it is added as it is (``pe.accumulator``) with the same multiplication on both
sides, and that sums of any products of that size are told apart (``pe.sums``) without one.
"""

from amaranth.hdl import Cat, Mux, Signal, signed

from backbeat_rtl import pe
from backbeat_rtl.isa import MAX_RUN

from .checker import Checker, any_of, later, past
from .solve import Fault, Property

__all__ = ["PROPERTIES"]

#: Magnitude of a product at most.
MOST = 127 * 128


class Element(Checker):
    """A processing element with operands of its contract."""

    def __init__(self, max_k: int = MAX_RUN):
        super().__init__()
        self.max_k = max_k
        self.dut = pe.ProcessingElement(max_k=max_k)

    def operands(self, m, b=None, first=None):
        dut = self.dut
        m.submodules.dut = dut
        self.a0, self.a1 = any_of(m, signed(8), "a0"), any_of(m, signed(8), "a1")
        self.b = any_of(m, signed(8), "b") if b is None else b
        self.first = any_of(m, 1, "first") if first is None else first
        self.assume(m, (self.a0 != -128) & (self.a1 != -128))
        m.d.comb += [dut.i_a.a0.eq(self.a0), dut.i_a.h.eq(self.a1 - (self.a0 < 0)),
                     dut.i_b.eq(self.b), dut.i_first.eq(self.first)]


class Product(Element):
    """One step is both products, one above the other: all of the 255 * 255 * 256 operands.

    Cycle n has the b of n, so that in each the solver multiplies by a constant.
    """

    def build(self, m):
        b = Signal(signed(8))
        m.d.sync += b.eq(b + 1)
        self.operands(m, b, 1)
        zero, one = later(m, self.a0, pe.LATENCY), later(m, self.a1, pe.LATENCY)
        there = Signal(signed(8), init=-pe.LATENCY)
        begun = Signal(range(pe.LATENCY + 1))
        m.d.sync += there.eq(there + 1)
        with m.If(begun != pe.LATENCY):
            m.d.sync += begun.eq(begun + 1)
        self.claim(m, "P is both products", when=begun == pe.LATENCY,
                   holds=self.dut.o_p == ((one * there) << pe.LOW) + zero * there)
        self.cover(m, "the largest product of both signs", (self.dut.o_p == (MOST << pe.LOW) - MOST)
                   & (begun == pe.LATENCY))


class Accumulator(Element):
    """What is multiplied is added to P, or begins it."""

    def build(self, m):
        self.operands(m)
        dut = self.dut
        # Of what goes to the neighbours, so that it is the same multiplication as inside.
        packed = Signal(signed(25))
        product = Signal(signed(33))
        m.d.comb += [packed.eq(Cat(dut.o_a.a0, dut.o_a.a0[7].replicate(9), dut.o_a.h)),
                     product.eq(packed * dut.o_b)]
        added, begins = later(m, product, pe.LATENCY - 1), later(m, dut.o_first, pe.LATENCY - 1)
        before = past(m, dut.o_p, "p_before")
        self.claim(m, "P grows by the product or begins with it",
                   dut.o_p == (added + Mux(begins, 0, before))[:len(dut.o_p)].as_signed())
        self.claim(m, "operands reach the neighbours a cycle later",
                   (dut.o_b == past(m, self.b, "b_before"))
                   & (dut.o_first == past(m, self.first, "first_before"))
                   & (dut.o_a == past(m, dut.i_a, "a_before")))
        self.cover(m, "a negative sum", (dut.o_p < -1 << 20) & ~begins)


class Sums(Element):
    """Both sums after every step, whatever the products and wherever a sum begins.

    The products are read off P; that they are those of the operands, and no larger than products are,
    is ``pe.product`` and ``pe.accumulator``. A sum has ``max_k`` steps at most.
    """

    def build(self, m):
        self.operands(m)
        dut, width = self.dut, self.dut.width
        begins = later(m, self.first, pe.LATENCY)
        moved = Signal.like(dut.o_p)
        low = Signal(signed(pe.LOW))
        high = Signal(signed(width))
        m.d.comb += [moved.eq(dut.o_p - Mux(begins, 0, past(m, dut.o_p, "p_before"))),
                     low.eq(moved), high.eq((moved - low) >> pe.LOW)]
        for product in low, high:
            self.assume(m, (product <= MOST) & (product >= -MOST))
        steps = Signal(range(self.max_k + 2))
        before = Signal(range(self.max_k + 1))
        m.d.sync += before.eq(steps)
        m.d.comb += steps.eq(Mux(begins, 0, before) + 1)
        self.assume(m, steps <= self.max_k)
        plain = []
        for number, product in enumerate((low, high)):
            total = Signal(signed(width), name=f"sum_{number}")
            before = Signal(signed(width), name=f"sum_{number}_before")
            m.d.sync += before.eq(total)
            m.d.comb += total.eq(product + Mux(begins, 0, before))
            most = Signal(signed(width + 1), name=f"most_{number}")
            m.d.comb += most.eq(steps * MOST)
            # What the induction knows of a long sum: that it has not left its width.
            self.claim(m, f"sum {number} is at most the steps so far times the largest product",
                       (total <= most) & (total >= -most))
            plain.append(later(m, total, pe.COUNT_LAG))
        p = later(m, dut.o_p, pe.COUNT_LAG)
        found = [Signal(signed(width), name=f"found_{number}") for number in (0, 1)]
        m.d.comb += [found[0].eq(Cat(p[:pe.LOW], dut.o_count)), found[1].eq((p >> pe.LOW) - dut.o_count)]
        self.claim(m, "the low sum is that of a plain element", found[0] == plain[0])
        self.claim(m, "the high sum is that of a plain element", found[1] == plain[1])
        self.cover(m, "the low sum leaves its field upwards",
                   (dut.o_count == 1) & (found[0] > 1 << pe.LOW))
        self.cover(m, "the low sum leaves its field downwards", (dut.o_count == -2) & (found[1] > 100))


_PARAMETERS = f"max_k={MAX_RUN}"
PROPERTIES = [
    Property("pe.product", "One step of the packed element is both products, for all operands",
             "ProcessingElement", _PARAMETERS, Product, "bmc", 256 + pe.LATENCY, covered=150, faults=(
                 Fault("a low operand without its sign", "pe", r"a\.a0\[7\]\.replicate\(9\)",
                       "(a.a0[7] & 0).replicate(9)", cheap=True),
                 Fault("a narrower product", "pe", r"register\(signed\(33\)\)", "register(signed(31))"),
             )),
    Property("pe.accumulator", "P grows by every product, or begins with it, in any state",
             "ProcessingElement", _PARAMETERS, Accumulator, "induction", 5, faults=(
                 Fault("every sum goes on", "pe", r"Mux\(first_product, 0, p\)", "p"),
                 Fault("b passes at once", "pe", r"self\.o_b\.eq\(b\)", "self.o_b.eq(self.i_b)"),
             )),
    Property("pe.sums", "Sums of any products, up to max_k of them, are those of two plain elements",
             "ProcessingElement", _PARAMETERS, Sums, "induction", 9, faults=(
                 Fault("a wrap upwards is not seen", "pe", r"\(previous == 3\) & \(quadrant == 0\)",
                       "(previous == 3) & (quadrant == 1)"),
                 Fault("the quadrant of the sum before", "pe",
                       r"previous\.eq\(Mux\(first_sum, 0, quadrant\)\)", "previous.eq(quadrant)"),
             )),
]
