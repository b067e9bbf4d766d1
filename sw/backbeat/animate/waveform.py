"""The registers that the picture shows, cycle by cycle, out of a VCD file of the core."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pywellen import Waveform

from backbeat_rtl.config import Config
from backbeat_rtl.pe import LOW

from ..errors import ToolError

__all__ = ["SIGNALS", "Registers", "Source", "TraceError", "read_registers"]


class TraceError(ToolError):
    """The waveform is not what the picture is drawn from: says which signal or which cycle."""


class Source(NamedTuple):
    """Where a register is.

    Attributes
    ----------
    module : str
        Its place below the core; ``{p}`` is a row pair, ``{c}`` a column.
    name : str
        Or, of those that Amaranth has found no name for: ``""``, and its width must be the only such.
    bits : int
        None: depends on the configuration.
    file : str
        Where it is written.
    """

    module: str
    name: str
    bits: "int | None"
    file: str


_ARRAY, _PE = "engine.datapath.array", "engine.datapath.array.pe_{p}_{c}"
_SUMS = "engine.datapath.accumulators"
#: All that is read, and the only place that knows what it is called. Ports stand for the registers
#: behind them, because they keep their names.
SIGNALS = {
    "last":     Source(_ARRAY, "i_last",      1,         "array.py"),
    "edge_a":   Source(_PE,    "i_a",         16,        "pe.py"),
    "edge_b":   Source(_PE,    "i_b",         8,         "pe.py"),
    "a":        Source(_PE,    "o_a",         16,        "pe.py"),
    "b":        Source(_PE,    "o_b",         8,         "pe.py"),
    "product":  Source(_PE,    "",            33,        "pe.py"),
    "p":        Source(_PE,    "o_p",         None,      "pe.py"),
    "count":    Source(_PE,    "o_count",     None,      "pe.py"),
    "low":      Source(_ARRAY, "low_{c}",     LOW,       "array.py"),
    "sums":     Source(_ARRAY, "sums_{c}",    None,      "array.py"),
    "new":      Source(_SUMS,  "new_{c}",     64,        "accumulators.py"),
    "update":   Source(_SUMS,  "update_{u}",  None,      "accumulators.py"),
}
#: ``update_{u}`` of column c is what its RAM's write port sees.
_WRITE_STAGE = 3
_CORE, _CLOCK = "TOP.Cfu.core", "TOP.clk"
_NAMELESS = re.compile(r"\$signal(\$\d+)?")


class Registers(NamedTuple):
    """What registers hold in each cycle, integers with their signs.

    Attributes
    ----------
    last : int array [cycles]
        Beside row pair 0's last step at the array's port.
    edge_a : int array [cycles, rows]
        Between the port and column 0; rows unpacked.
    edge_b : int array [cycles, columns]
    a : int array [cycles, rows, columns]
        Operand registers of the elements, unpacked.
    b : int array [cycles, row_pairs, columns]
    product : int array [cycles, rows, columns]
        Both fields of the multiplier's register.
    p, count : int array [cycles, row_pairs, columns]
        Packed accumulator, and its wraps so far.
    low : int array [cycles, columns]
        Low field of what the drain has picked one cycle before.
    sums : int array [cycles, 2, columns]
        What the array delivers.
    new : int array [cycles, 2, columns]
        What stands before an accumulator's write port.
    write, address : int array [cycles, columns]
        Whether it is written, and where.
    """

    last: np.ndarray
    edge_a: np.ndarray
    edge_b: np.ndarray
    a: np.ndarray
    b: np.ndarray
    product: np.ndarray
    p: np.ndarray
    count: np.ndarray
    low: np.ndarray
    sums: np.ndarray
    new: np.ndarray
    write: np.ndarray
    address: np.ndarray


def signed(values, bits: int) -> np.ndarray:
    """Unsigned integers as two's complement of so many bits."""
    return np.array([value - (value >> bits - 1 << bits) for value in values], dtype=np.int64)


class _Trace:
    def __init__(self, path: Path):
        self.path = path
        self.variables = {variable.full_name: variable for variable in Waveform(str(path)).all_vars()}
        if _CLOCK not in self.variables:
            raise TraceError(f"{path} has no {_CLOCK}: it is no waveform of the core")
        self.edges = [time for time, value in self.variables[_CLOCK].signal if value]

    def get(self, key: str, **place) -> tuple[list[int], int]:
        """Its value before each rising edge, as the next register sees it, and its bits.

        Raises
        ------
        TraceError
            There is no such signal, or it has another width.
        """
        source = SIGNALS[key]
        module = f"{_CORE}.{source.module.format(**place)}"
        name = source.name.format(**place)
        if name:
            found = [self.variables[f"{module}.{name}"]] if f"{module}.{name}" in self.variables else []
        else:
            found = [v for full, v in self.variables.items()
                     if full.rpartition(".")[0] == module and v.bitwidth == source.bits
                     and _NAMELESS.fullmatch(v.name)]
        what = name or f"single nameless register of {source.bits} bits ({key})"
        mend = (f"it is written in rtl/backbeat_rtl/{source.file}; what it is called now is to be said "
                "in SIGNALS of sw/backbeat/animate/waveform.py")
        if len(found) != 1:
            raise TraceError(f"the waveform has no {what} in {module}: {mend}")
        variable, bits = found[0], found[0].bitwidth or 1
        if source.bits not in (None, bits):
            raise TraceError(f"{name} in {module} has {bits} bits, expected {source.bits}: {mend}")
        changes, values, number = list(variable.signal), [], 0
        for edge in self.edges:
            while number + 1 < len(changes) and changes[number + 1][0] < edge:
                number += 1
            values.append(changes[number][1])
        return values, bits


def _halves(values: list[int], bits: int) -> np.ndarray:
    """[2, cycles]: even, odd."""
    half = bits // 2
    return np.stack([signed([v & (1 << half) - 1 for v in values], half),
                     signed([v >> half for v in values], half)])


def _pair(values: list[int], _bits: int) -> np.ndarray:
    """[2, cycles]: both rows out of the packed form of :data:`backbeat_rtl.pe.PackedPair`."""
    a0, h = _halves(values, 16)
    return np.stack([a0, h + (a0 < 0)])


def _fields(values: list[int], bits: int) -> np.ndarray:
    """[2, cycles]: both products out of ``((a1 << LOW) + a0) * b``."""
    whole = signed(values, bits)
    low = signed(whole & (1 << LOW) - 1, LOW)
    return np.stack([low, (whole - low) >> LOW])


def read_registers(path: Path, config: Config) -> Registers:
    """All registers that the picture shows.

    Raises
    ------
    TraceError
        A signal is missing: names it, and where to say what it is called now.
    """
    trace = _Trace(path)
    pairs, columns = range(config.row_pairs), range(config.columns)

    def grid(key: str, decode, at=columns) -> np.ndarray:
        """[cycles, rows or row pairs, columns]"""
        out = np.array([[decode(*trace.get(key, p=p, c=c)) for c in at] for p in pairs])
        if out.ndim == 3:
            return out.transpose(2, 0, 1)
        return out.transpose(3, 0, 2, 1).reshape(-1, config.rows, len(at))

    def row(key: str, decode) -> np.ndarray:
        """[cycles, ..., columns]"""
        out = np.array([decode(*trace.get(key, p=0, c=c, u=c + _WRITE_STAGE)) for c in columns])
        return np.moveaxis(np.moveaxis(out, -1, 0), 1, -1)

    update = row("update", lambda values, _: np.array(values))
    return Registers(
        last=np.array(trace.get("last")[0]),
        edge_a=grid("edge_a", _pair, [0])[:, :, 0], edge_b=row("edge_b", signed),
        a=grid("a", _pair), b=grid("b", signed), product=grid("product", _fields),
        p=grid("p", signed), count=grid("count", signed),
        low=row("low", lambda values, _: np.array(values)), sums=row("sums", _halves),
        new=row("new", _halves), write=update & 1, address=update >> 2)
