"""The epilogue: accumulators to INT8, with a bias, a multiplier and a shift per column of C."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .epilogue_model import HASH_STEPS, SEED_ROUND
from .pipeline import delay

__all__ = ["LATENCY", "Epilogue", "IndexHash", "TableEntry"]

#: Cycles from ``i_value`` to ``o_value``.
LATENCY = 14

#: Per-column parameters.
TableEntry = data.StructLayout({"bias": signed(32), "multiplier": signed(32), "shift": 6})

_MULTIPLIED = 7     # the product is in its registers
_SATURATED = 11     # ... shifted and saturated


class IndexHash(wiring.Component):
    """The random fraction of an element: a hash of its index in C and the seed, no state.

    Model: :func:`backbeat_rtl.epilogue_model.random_bits`. Latency one cycle per hash step.
    """

    i_index: In(32)
    i_seed: In(32)
    o: Out(32)

    LATENCY = len(HASH_STEPS)

    def elaborate(self, _platform):
        m = Module()
        a = self.i_index ^ self.i_seed
        for number, (join, constant, mix, shift) in enumerate(HASH_STEPS):
            if number == SEED_ROUND:
                a = (a + self.i_seed)[:32]
            moved = (a << shift)[:32] if shift > 0 else a >> -shift
            joined = a + constant if join == "+" else a ^ constant
            step = Signal(32, name=f"step_{number}", reset_less=True)
            m.d.sync += step.eq(joined + moved if mix == "+" else joined ^ moved)
            a = step
        m.d.comb += self.o.eq(a)
        return m


class Epilogue(wiring.Component):
    """Requantises one accumulator per cycle.

    ``clip(floor((acc + bias) * multiplier * 2**-shift + fraction) + zero_point, low, high)`` with
    the fraction 1/2 (nearest, ties up) or uniform (stochastic). The 65-bit product is exact; its
    fraction is kept to 32 bits, which is all that an addition of 32 random bits can see.

    Model: :func:`backbeat_rtl.epilogue_model.requantise`.

    Latency ``LATENCY`` cycles, one value per cycle, no back-pressure: whoever feeds it has
    reserved the space behind it. Four DSPs.

    Parameters
    ----------
    table_size : int
        Columns of C whose parameters are held.

    Members
    -------
    i_value : {acc, column, index, end, requantise}, i_valid
        Accumulator, its column's table entry, its element index in C; ``end`` is passed through.
        Without ``requantise`` it counts for the maximum only.
    i_table : {column, entry}, i_table_valid
        Writes a table entry.
    i_stochastic, i_seed, i_zero_point, i_low, i_high
        Stable while values are inside.
    i_clear : bit
        Forget the maximum.
    o_value : signed(8), o_valid, o_end
    o_max_abs : 32 bit
        Largest magnitude of all ``acc`` since ``i_clear``, with or without requantisation.
    """

    def __init__(self, *, table_size: int):
        self.table_size = table_size
        column = range(table_size)
        super().__init__({
            "i_value":       In(data.StructLayout(
                {"acc": signed(32), "column": column, "index": 32, "end": 1, "requantise": 1})),
            "i_valid":       In(1),
            "i_table":       In(data.StructLayout({"column": column, "entry": TableEntry})),
            "i_table_valid": In(1),
            "i_stochastic":  In(1),
            "i_seed":        In(32),
            "i_zero_point":  In(signed(8)),
            "i_low":         In(signed(8)),
            "i_high":        In(signed(8)),
            "i_clear":       In(1),
            "o_value":       Out(signed(8)),
            "o_valid":       Out(1),
            "o_end":         Out(1),
            "o_max_abs":     Out(32),
        })

    def elaborate(self, _platform):
        m = Module()
        value = self.i_value
        m.d.comb += Cat(self.o_valid, self.o_end).eq(
            delay(m, Cat(self.i_valid & value.requantise, value.end), LATENCY, name="tag", reset=True))
        self.elaborate_max_abs(m)
        product = self.elaborate_product(m)
        integer, fraction = self.elaborate_shift(m, product)

        # The random fraction has been hashed meanwhile.
        m.submodules.hash = index_hash = IndexHash()
        m.d.comb += [index_hash.i_seed.eq(self.i_seed), index_hash.i_index.eq(value.index)]
        uniform = delay(m, index_hash.o, _SATURATED - IndexHash.LATENCY, name="uniform")

        # Cycles 12 to 14: round, zero point, clip.
        carry, floor, rounded = Signal(33), Signal(signed(10)), Signal(signed(12))
        m.d.sync += [
            carry.eq(fraction + Mux(self.i_stochastic, uniform, Const(1 << 31, 32))),
            floor.eq(integer),
            rounded.eq(floor + self.i_zero_point + carry[32]),
            self.o_value.eq(Mux(rounded < self.i_low, self.i_low,
                                Mux(rounded > self.i_high, self.i_high, rounded))),
        ]
        return m

    def elaborate_max_abs(self, m):
        acc, valid, magnitude = self.i_value.acc, Signal(), Signal(32)
        m.d.sync += [valid.eq(self.i_valid), magnitude.eq(Mux(acc < 0, -acc, acc))]
        with m.If(self.i_clear):
            m.d.sync += self.o_max_abs.eq(0)
        with m.Elif(valid & (magnitude > self.o_max_abs)):
            m.d.sync += self.o_max_abs.eq(magnitude)

    def elaborate_product(self, m):
        """``(acc + bias) * multiplier``, signed(65), at cycle 7: four DSPs, no adder behind another."""
        m.submodules.table = table = Memory(shape=TableEntry, depth=self.table_size, init=[])
        write, read = table.write_port(), table.read_port()
        m.d.comb += [
            write.addr.eq(self.i_table.column), write.data.eq(self.i_table.entry),
            write.en.eq(self.i_table_valid),
            read.addr.eq(self.i_value.column), read.en.eq(1),
        ]
        # Cycle 2: the table's output register. Cycle 3: bias.
        entry = Signal(TableEntry)
        acc = delay(m, self.i_value.acc, 2, name="acc")
        x, multiplier, self.shift_3 = Signal(signed(33)), Signal(signed(32)), Signal(6)
        m.d.sync += [
            entry.eq(read.data),
            x.eq(acc + entry.bias), multiplier.eq(entry.multiplier), self.shift_3.eq(entry.shift),
        ]
        # Cycle 4: 17-bit unsigned low halves, signed high halves.
        split = 17
        low_low, high_high = Signal(2 * split), Signal(signed(33 - split + 32 - split))
        low_high, high_low = Signal(signed(33)), Signal(signed(34))
        m.d.sync += [
            low_low.eq(x[:split] * multiplier[:split]),
            low_high.eq(x[:split] * multiplier[split:].as_signed()),
            high_low.eq(x[split:].as_signed() * multiplier[:split]),
            high_high.eq(x[split:].as_signed() * multiplier[split:].as_signed()),
        ]
        # Cycles 5 to 7: one addition each.
        cross, middle, product = Signal(signed(35)), Signal(signed(36)), Signal(signed(65))
        low_5 = delay(m, low_low, 1, name="low_low")
        high_6 = delay(m, high_high, 2, name="high_high")
        low_6 = delay(m, low_5[:split], 1, name="low")
        m.d.sync += [
            cross.eq(low_high + high_low),
            middle.eq(cross + low_5[split:]),
            product.eq(Cat(low_6, middle[:split], (high_6 + (middle >> split))[:31])),
        ]
        return product

    def elaborate_shift(self, m, product):
        """Integer part saturated to signed(10), and 32 bits of fraction, at cycle 11."""
        shift = delay(m, self.shift_3, _MULTIPLIED - 3, name="shift")
        value = Cat(Const(0, 32), product).as_signed()
        for cycle, step in enumerate((16, 4, 1)):
            low = {16: 4, 4: 2, 1: 0}[step]
            stage = Signal(signed(97), name=f"shifted_{step}", reset_less=True)
            with m.Switch(delay(m, shift, cycle, name=f"shift_by_{step}")[low:low + 2]):
                for times in range(4):
                    with m.Case(times):
                        m.d.sync += stage.eq(value >> (times * step))
            value = stage
        integer, fraction = Signal(signed(10)), Signal(32)
        whole, sign = value[32:], value[-1]
        with m.If(whole[9:] == sign.replicate(len(whole) - 9)):
            m.d.sync += integer.eq(whole[:10])
        with m.Else():
            m.d.sync += integer.eq(Mux(sign, -512, 511))
        m.d.sync += fraction.eq(value[:32])
        return integer, fraction
