"""The epilogue: accumulators to INT8, with a bias, a multiplier and a shift per column of C."""

from amaranth.hdl import Cat, Const, EnableInserter, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .epilogue_model import HASH_STEPS, SEED_ROUND
from .pipeline import delay

__all__ = ["LATENCY", "Epilogue", "IndexHash", "Requantiser", "TableEntry"]

#: Cycles from ``i_value`` to ``o_value``.
LATENCY = 15

#: Per-column parameters.
TableEntry = data.StructLayout({"bias": signed(32), "multiplier": signed(32), "shift": 6})

_MULTIPLIED = 8     # the product is in its registers
_SATURATED = 12     # ... shifted and saturated


class IndexHash(wiring.Component):
    """The random fraction of an element: a hash of its index in C and the seed, no state.

    Model: :func:`backbeat_rtl.epilogue_model.random_bits`. Latency one cycle per hash step, and one for
    the seed, before them and between two of them.
    """

    i_index: In(32)
    i_seed: In(32)
    o: Out(32)

    LATENCY = len(HASH_STEPS) + 2

    def elaborate(self, _platform):
        m = Module()
        a = Signal(32, name="begun", reset_less=True)
        m.d.sync += a.eq(self.i_index ^ self.i_seed)
        for number, (join, constant, mix, shift) in enumerate(HASH_STEPS):
            if number == SEED_ROUND:
                seeded = Signal(32, reset_less=True)
                m.d.sync += seeded.eq(a + self.i_seed)
                a = seeded
            moved = (a << shift)[:32] if shift > 0 else a >> -shift
            joined = a + constant if join == "+" else a ^ constant
            step = Signal(32, name=f"step_{number}", reset_less=True)
            m.d.sync += step.eq(joined + moved if mix == "+" else joined ^ moved)
            a = step
        m.d.comb += self.o.eq(a)
        return m


class Requantiser(wiring.Component):
    """The arithmetic of :class:`Epilogue`; nothing in it needs to move when INT32 is wanted.

    Members
    -------
    i_acc, i_index
        Accumulator and its element index in C.
    i_entry : TableEntry
        Of its column, a cycle later.
    i_stochastic, i_seed, i_zero_point, i_low, i_high
        See :class:`Epilogue`.
    o_value : signed(8)
        ``LATENCY`` cycles after ``i_acc``.
    """

    i_acc: In(signed(32))
    i_index: In(32)
    i_entry: In(TableEntry)
    i_stochastic: In(1)
    i_seed: In(32)
    i_zero_point: In(signed(8))
    i_low: In(signed(8))
    i_high: In(signed(8))
    o_value: Out(signed(8))

    def elaborate(self, _platform):
        m = Module()
        product = self.elaborate_product(m)
        integer, fraction = self.elaborate_shift(m, product)

        # The random fraction has been hashed meanwhile.
        m.submodules.hash = index_hash = IndexHash()
        m.d.comb += [index_hash.i_seed.eq(self.i_seed), index_hash.i_index.eq(self.i_index)]
        uniform = delay(m, index_hash.o, _SATURATED - IndexHash.LATENCY, name="uniform")

        # Cycles 13 to 15: round, zero point, clip.
        carry, floor, rounded = Signal(33), Signal(signed(10)), Signal(signed(12))
        m.d.sync += [
            carry.eq(fraction + Mux(self.i_stochastic, uniform, Const(1 << 31, 32))),
            floor.eq(integer),
            rounded.eq(floor + self.i_zero_point + carry[32]),
            self.o_value.eq(Mux(rounded < self.i_low, self.i_low,
                                Mux(rounded > self.i_high, self.i_high, rounded))),
        ]
        return m

    def elaborate_product(self, m):
        """``(acc + bias) * multiplier``, 65 bits, at cycle 8: four DSPs, no adder behind another."""
        # Cycle 2: the table's output register. Cycle 3: bias. Its carry chain must not end in a DSP, so
        # the sum has a register that stays outside of them; the one of cycle 4 is theirs.
        entry = Signal(TableEntry)
        acc = delay(m, self.i_acc, 2, name="acc")
        biased = Signal(signed(33), attrs={"keep": 1})
        x, self.shift_3 = Signal(signed(33)), Signal(6)
        multiplier = delay(m, entry.multiplier, 2, name="multiplier")
        m.d.sync += [
            entry.eq(self.i_entry), biased.eq(acc + entry.bias), self.shift_3.eq(entry.shift),
            x.eq(biased),
        ]
        # Cycle 5: 17-bit unsigned low halves, signed high halves.
        split = 17
        low_low, high_high = Signal(2 * split), Signal(signed(33 - split + 32 - split))
        low_high, high_low = Signal(signed(33)), Signal(signed(34))
        m.d.sync += [
            low_low.eq(x[:split] * multiplier[:split]),
            low_high.eq(x[:split] * multiplier[split:].as_signed()),
            high_low.eq(x[split:].as_signed() * multiplier[:split]),
            high_high.eq(x[split:].as_signed() * multiplier[split:].as_signed()),
        ]
        # Cycles 6 to 8: one addition each. The product's low 34 bits and its signed high 31.
        cross, middle = Signal(signed(35)), Signal(signed(36))
        low, high = Signal(2 * split), Signal(signed(31))
        low_6 = delay(m, low_low, 1, name="low_low")
        high_7 = delay(m, high_high, 2, name="high_high")
        low_7 = delay(m, low_6[:split], 1, name="low")
        m.d.sync += [
            cross.eq(low_high + high_low),
            middle.eq(cross + low_6[split:]),
            low.eq(Cat(low_7, middle[:split])),
            high.eq(high_7 + (middle >> split)),
        ]
        return low, high

    def elaborate_shift(self, m, product):
        """Integer part saturated to signed(10), and 32 bits of fraction, at cycle 12.

        Each stage keeps only the bits that later ones may move into those 42, and notes whether one
        that it drops above them differs from the sign.
        """
        low, high = product
        shift = delay(m, self.shift_3, _MULTIPLIED - 3, name="shift")
        sign, beyond = high[-1], Const(0, 1)
        value = Cat(Const(0, 32), low, high)        # 97 bits: wires, not a signal
        for cycle, step in enumerate((16, 4, 1)):
            place = {16: 4, 4: 2, 1: 0}[step]
            width = 42 + {16: 15, 4: 3, 1: 0}[step]
            stage = Signal(width, name=f"shifted_{step}", reset_less=True)
            dropped = Signal(name=f"beyond_{step}", reset_less=True)
            next_sign = Signal(name=f"sign_{step}", reset_less=True)
            m.d.sync += next_sign.eq(sign)
            by = delay(m, shift, cycle, name=f"shift_by_{step}")[place:place + 2]
            with m.Switch(by):
                for times in range(4):
                    with m.Case(times):
                        kept = value[times * step:][:width]
                        if len(kept) < width:
                            kept = Cat(kept, sign.replicate(width - len(kept)))
                        m.d.sync += stage.eq(kept)
            # Of what lies above, each further step moves as many bits more to where they are kept.
            for times, start in enumerate(range(width, len(value), step)):
                rest = value[start:start + step]
                beyond = beyond | (rest != sign.replicate(len(rest))) & (by <= times)
            m.d.sync += dropped.eq(beyond)
            value, sign, beyond = stage, next_sign, dropped
        integer, fraction = Signal(signed(10)), Signal(32)
        with m.If(beyond | (value[-1] != sign)):
            m.d.sync += integer.eq(Mux(sign, -512, 511))
        with m.Else():
            m.d.sync += integer.eq(value[32:])
        m.d.sync += fraction.eq(value[:32])
        return integer, fraction


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
    entries : int
        Size of the table.

    Members
    -------
    i_value : {acc, entry, index}, i_valid
        Accumulator, its column's table entry, its element index in C. ``i_valid`` counts for the
        maximum only.
    i_table : {entry, values}, i_table_valid
        Writes a table entry.
    i_requantise, i_stochastic, i_seed, i_zero_point, i_low, i_high
        Stable while values are inside. Without ``i_requantise`` only the maximum is taken.
    i_clear : bit
        Forget the maximum.
    o_value : signed(8)
    o_max_abs : 32 bit
        Largest magnitude of all ``acc`` since ``i_clear``, two cycles after.
    """

    def __init__(self, *, entries: int):
        self.entries = entries
        super().__init__({
            "i_value":       In(data.StructLayout(
                {"acc": signed(32), "entry": range(entries), "index": 32})),
            "i_valid":       In(1),
            "i_table":       In(data.StructLayout({"entry": range(entries), "values": TableEntry})),
            "i_table_valid": In(1),
            "i_requantise":  In(1),
            "i_stochastic":  In(1),
            "i_seed":        In(32),
            "i_zero_point":  In(signed(8)),
            "i_low":         In(signed(8)),
            "i_high":        In(signed(8)),
            "i_clear":       In(1),
            "o_value":       Out(signed(8)),
            "o_max_abs":     Out(32),
        })

    def elaborate(self, _platform):
        m = Module()
        value = self.i_value
        m.submodules.table = table = Memory(shape=TableEntry, depth=self.entries, init=[])
        requantiser = Requantiser()
        m.submodules.requantiser = EnableInserter(self.i_requantise)(requantiser)
        write, read = table.write_port(), table.read_port()
        m.d.comb += [
            write.addr.eq(self.i_table.entry), write.data.eq(self.i_table.values),
            write.en.eq(self.i_table_valid),
            read.addr.eq(value.entry), read.en.eq(1),
            requantiser.i_acc.eq(value.acc), requantiser.i_index.eq(value.index),
            requantiser.i_entry.eq(read.data),
            *(getattr(requantiser, name).eq(getattr(self, name)) for name in (
                "i_stochastic", "i_seed", "i_zero_point", "i_low", "i_high")),
            self.o_value.eq(requantiser.o_value),
        ]
        self.elaborate_max_abs(m)
        return m

    def elaborate_max_abs(self, m):
        acc, valid, magnitude = self.i_value.acc, Signal(), Signal(32)
        m.d.sync += [valid.eq(self.i_valid), magnitude.eq(Mux(acc < 0, -acc, acc))]
        with m.If(self.i_clear):
            m.d.sync += self.o_max_abs.eq(0)
        with m.Elif(valid & (magnitude > self.o_max_abs)):
            m.d.sync += self.o_max_abs.eq(magnitude)
