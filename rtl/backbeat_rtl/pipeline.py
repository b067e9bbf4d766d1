"""Small helpers for pipelines of registers.

Data needs no reset: what is not marked valid is never used. Without one the reset stays off the
array's thousands of registers, and the simulation has less to do. Control asks for ``reset=True``.
"""

from amaranth.hdl import Cat, Const, Mux, Signal, Value

__all__ = ["delay", "delay_line", "exceeds", "holds", "lookup", "pipelined_mux"]


def delay_line(m, value, cycles, *, name, reset=False):
    """Registers ``value`` ``cycles`` times.

    Returns
    -------
    list
        ``cycles + 1`` values: the input, and it 1, 2, ... cycles later.
    """
    line = [value]
    for cycle in range(1, cycles + 1):
        register = Signal(value.shape(), name=f"{name}_{cycle}", reset_less=not reset)
        m.d.sync += register.eq(line[-1])
        line.append(register)
    return line


def delay(m, value, cycles, *, name, reset=False):
    """``value``, ``cycles`` cycles later."""
    return delay_line(m, value, cycles, name=name, reset=reset)[-1]


def lookup(values, index):
    """The value of a table of constants at an index: logic, where an ``Array`` is multiplexers.

    Parameters
    ----------
    values : sequence of int
        Beyond them there are zeros.
    index : Value
        Of a few bits, unsigned.
    """
    values = list(values)
    return Cat(Const(sum((value >> bit & 1) << n for n, value in enumerate(values)), len(values))
               .bit_select(index, 1) for bit in range(max(values).bit_length()))


def holds(value, condition):
    """Whether a condition, a function of an int, holds for a small number: no carry chain."""
    value = Value.cast(value)
    return lookup([bool(condition(n)) for n in range(2**len(value))], value).any()


def exceeds(value, most):
    """Whether an unsigned value is above another: one carry chain.

    Of a comparison yosys may make one of the two orders, and then it is a chain and an equality.
    """
    value, most = Value.cast(value), Value.cast(most)
    width = max(len(value), len(most))
    most = Cat(most, Const(0, width - len(most)))
    return (value + ~most)[width]       # value - most - 1, and no borrow


def pipelined_mux(m, choices, index, *, name):
    """Selects one of several values; two cycles, so that it may come from afar and go far.

    A tree of multiplexers: of up to 16, each bit is four LUT6 and the multiplexers of their slice, if
    the tree is whole. So the places that nobody selects are filled, with values in another order than
    elsewhere: equal halves of a tree would be found out.

    Parameters
    ----------
    choices : list of values of one shape
        Sampled together with ``index``.
    index : Value
        Which one.

    Returns
    -------
    Signal
        The chosen value two cycles after ``index``.
    """
    layer = list(choices)
    if len(layer) > 8:
        layer += reversed(layer[len(layer) - -len(layer) % 16:])
    for bit in index:
        if len(layer) > 1:
            pairs = zip(layer[::2], layer[1::2], strict=False)
            odd = layer[-1:] if len(layer) % 2 else []
            layer = [Mux(bit, second, first) for first, second in pairs] + odd
    chosen = Signal(choices[0].shape(), name=name, reset_less=True)
    m.d.sync += chosen.eq(layer[0])
    return delay(m, chosen, 1, name=name)
