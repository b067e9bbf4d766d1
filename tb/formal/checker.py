"""What a checker is made of: free inputs, arbitrary constants, assumptions, claims and covers."""

import re
from contextlib import ExitStack
from unittest.mock import patch

from amaranth.asserts import AnyConst, AnySeq
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Cover, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["Checker", "any_of", "fixed", "held", "later", "past"]


class Checker(wiring.Component):
    """A component under test with free inputs and what is claimed of it; starts from reset.

    Subclasses have ``build(m)``, which makes the component a submodule and calls :meth:`assume`,
    :meth:`claim` and :meth:`cover`. A claim and a cover have a name, which is what the report says.
    """

    #: Constants of modules and classes of components, by (module, name), that have another value here.
    instead: dict = {}

    def __init__(self):
        super().__init__({"clk": In(1)})

    def elaborate(self, _platform):
        m = Module()
        # No reset but the initial one.
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.d.comb += domain.clk.eq(self.clk)
        self.claims, self.covers = [], []
        self.build(m)
        if not self.claims or not self.covers:
            raise ValueError(f"{type(self).__name__} needs claims and covers: has {self.claims} and "
                             f"{self.covers}")
        return m

    def build(self, m):
        raise NotImplementedError

    def claim(self, m, name: str, holds, when=1):
        """``holds`` in every cycle with ``when``; the report calls it by its name."""
        self.claims.append(name)
        m.d.comb += Assert(_implies(when, holds), name)

    def assume(self, m, holds, when=1):
        """The environment keeps to this."""
        m.d.comb += Assume(_implies(when, holds), "assumption")

    def cover(self, m, name: str, happens):
        """This can happen within the assumptions; if it cannot, the claims are worth nothing."""
        self.covers.append(name)
        m.d.comb += Cover(Value.cast(happens).bool(), name)

    def rtlil(self) -> str:
        """The checker with all below it, module ``top``.

        Claims and covers stand there under their names, with ``_`` for spaces.
        """
        with ExitStack() as stack:
            for (module, name), value in self.instead.items():
                stack.enter_context(patch.object(module, name, value))
            text = rtlil.convert(self, name="top")
        text = re.sub(r'attribute \\src "[^"]*"\n( *cell \$check \S+\n *parameter \\FORMAT) "([^"]*)"',
                      lambda found: 'attribute \\named "{}"\n{} ""'.format(
                          found[2].replace(" ", "_"), found[1]), text)
        text = re.sub(r' *attribute \\src "[^"]*"\n', "", text)
        return text.replace(r"attribute \named", r"attribute \src")


def _implies(when, holds):
    """One bit each, so that their inverses are what one expects of numbers too."""
    return ~Value.cast(when).bool() | Value.cast(holds).bool()


def any_of(m, shape, name: str):
    """A signal that may have any value in every cycle."""
    free = Signal(shape, name=name)
    _raw(m, free, AnySeq)
    return free


def fixed(m, shape, name: str):
    """A signal of any value, the same in all cycles."""
    value = Signal(shape, name=name)
    _raw(m, value, AnyConst)
    return value


def _raw(m, signal, kind):
    bits = signal.as_value() if hasattr(signal, "as_value") else signal
    m.d.comb += bits.eq(kind(len(bits)))


def past(m, value, name: str, init=None):
    """``value`` a cycle ago."""
    before = Signal(value.shape(), name=name, init=init)
    m.d.sync += before.eq(value)
    return before


def later(m, value, cycles: int):
    """``value``, ``cycles`` cycles later."""
    name = value.name
    for cycle in range(1, cycles + 1):
        value = past(m, value, f"{name}_{cycle}_ago")
    return value


def held(m, valid, ready, payload, name: str):
    """Whether a stream keeps its word and ``valid`` until ``ready``: one bit, to assume or to claim."""
    waited = past(m, valid & ~ready, f"{name}_waited")
    before = past(m, payload, f"{name}_before")
    return ~waited | (valid & (payload == before))
