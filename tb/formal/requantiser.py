"""The requantiser against its formula, written anew: wide enough for all, one shift, one floor."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from backbeat_rtl import epilogue

from .checker import Checker, any_of, fixed, later, past
from .solve import Fault, Property

__all__ = ["PROPERTIES"]


class IndexAsHash(wiring.Component):
    """In place of the hash: the element's index, as late. So the random bits are any."""

    i_index: In(32)
    i_seed: In(32)
    o: Out(32)

    LATENCY = epilogue.IndexHash.LATENCY

    def elaborate(self, _platform):
        m = Module()
        m.d.comb += self.o.eq(later(m, self.i_index, self.LATENCY))
        return m


class Formula(Checker):
    """``clip(floor((acc + bias) * multiplier * 2**-shift + u) + zero_point, low, high)``.

    For every shift, zero point, pair of bounds (also those whose lower one is above) and random bits.
    A value a cycle; what is around it in the pipeline is as arbitrary as itself.

    Parameters
    ----------
    bits : int
        Of accumulator and bias.
    multiplier : int or None
        None: any of ``bits`` bits, in every cycle another; then to nearest only, or no solver ends.
    """

    instead = {(epilogue, "IndexHash"): IndexAsHash}

    def __init__(self, bits: int, multiplier: int | None):
        super().__init__()
        self.bits, self.multiplier = bits, multiplier

    def build(self, m):
        m.submodules.dut = dut = epilogue.Requantiser()
        acc, bias = (any_of(m, signed(self.bits), name) for name in ("acc", "bias"))
        multiplier = Signal(signed(32))
        m.d.comb += multiplier.eq(any_of(m, signed(self.bits), "any_multiplier")
                                  if self.multiplier is None else self.multiplier)
        shift, random = any_of(m, 6, "shift"), any_of(m, 32, "random")
        self.assume(m, shift <= 62)
        stochastic = Signal()
        if self.multiplier is not None:
            m.d.comb += stochastic.eq(fixed(m, 1, "any_rounding"))
        zero, low, high = (fixed(m, signed(8), name) for name in ("zero_point", "low", "high"))
        m.d.comb += [
            dut.i_acc.eq(acc), dut.i_index.eq(random), dut.i_stochastic.eq(stochastic),
            dut.i_zero_point.eq(zero), dut.i_low.eq(low), dut.i_high.eq(high),
            # The table answers a cycle later.
            dut.i_entry.bias.eq(past(m, bias, "bias_read")),
            dut.i_entry.multiplier.eq(past(m, multiplier, "multiplier_read")),
            dut.i_entry.shift.eq(past(m, shift, "shift_read")),
        ]
        product = Signal(signed(65))
        m.d.comb += product.eq((acc + bias) * multiplier)
        product, shift, random = (later(m, value, epilogue.LATENCY)
                                  for value in (product, shift, random))
        shifted = Signal(signed(98))
        rounded = Signal(signed(68))
        expected = Signal(signed(8))
        m.d.comb += [
            shifted.eq((product << 32) >> shift),
            rounded.eq(((shifted + Mux(stochastic, random, 1 << 31)) >> 32) + zero),
            expected.eq(Mux(rounded < low, low, Mux(rounded > high, high, rounded))),
        ]
        begun = Signal(range(epilogue.LATENCY + 1))
        there = Signal()
        m.d.comb += there.eq(begun == epilogue.LATENCY)
        with m.If(~there):
            m.d.sync += begun.eq(begun + 1)
        self.claim(m, "the value is that of the formula", dut.o_value == expected, when=there)
        self.cover(m, "a tie rounds up", there & ~stochastic & (shifted[:32] == 1 << 31) & (zero == 3)
                   & (dut.o_value == 5) & (high == 99) & (low == -99))
        self.cover(m, "one is clipped", there & (rounded > 140) & (dut.o_value == 99))


FAULTS = (
    Fault("ties to the even below", "epilogue", r"Const\(1 << 31, 32\)", "Const((1 << 31) - 1, 32)",
          cheap=True),
    Fault("a bit of the product dropped unseen", "epilogue", r"rest != sign\.replicate\(len\(rest\)\)",
          "rest[:-1] != sign.replicate(len(rest) - 1)"),
    Fault("the zero point before the carry is lost", "epilogue", r"Signal\(signed\(12\)\)",
          "Signal(signed(9))"),
)

PROPERTIES = [
    Property("requantiser.shift", "Shift, rounding, zero point and clip of any accumulator and bias",
             "Requantiser", "32 bits, multiplier 1", lambda: Formula(32, 1), "dprove", 17, covered=17,
             faults=FAULTS),
    Property("requantiser.far", "The same at the upper end of the product", "Requantiser",
             "32 bits, multiplier 2^30", lambda: Formula(32, 1 << 30), "dprove", 17, covered=17,
             faults=FAULTS[1:2]),
    Property("requantiser.product", "The whole formula for all small operands", "Requantiser",
             "4 bits, all multipliers", lambda: Formula(4, None), "dprove", 17, covered=17, faults=(
                 Fault("the multiplier's sign", "epilogue",
                       r"low_high\.eq\(x\[:split\] \* multiplier\[split:\]\.as_signed\(\)\)",
                       "low_high.eq(x[:split] * multiplier[split:])"),
             )),
]
