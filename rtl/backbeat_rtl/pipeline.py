"""Small helpers for pipelines of registers.

Data needs no reset: what is not marked valid is never used. Without one the reset stays off the
array's thousands of registers, and the simulation has less to do. Control asks for ``reset=True``.
"""

from amaranth.hdl import Array, Signal

__all__ = ["delay", "delay_line", "pipelined_mux"]


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


def pipelined_mux(m, choices, index, next_index, *, name):
    """Selects one of up to 16...64 values in two cycles, one LUT6 per bit and group of four.

    Parameters
    ----------
    choices : list of values of one shape
        Sampled together with ``index``.
    index, next_index : Value
        Which one; and the same index one cycle later.

    Returns
    -------
    Signal
        The chosen value two cycles after ``index``.
    """
    shape = choices[0].shape()
    groups = []
    for start in range(0, len(choices), 4):
        group = Signal(shape, name=f"{name}_group_{start // 4}", reset_less=True)
        m.d.sync += group.eq(Array(choices[start:start + 4])[index[:2]])
        groups.append(group)
    chosen = Signal(shape, name=name, reset_less=True)
    m.d.sync += chosen.eq(Array(groups)[next_index[2:]] if len(groups) > 1 else groups[0])
    return chosen
