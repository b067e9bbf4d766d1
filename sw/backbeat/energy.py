"""Energy of a product: counts of accesses times energies of one, which are estimates."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from .cost import Cost

__all__ = ["DEFAULT", "LEVELS", "Energies", "actions", "breakdown", "read_energies"]

#: What energy is split into, from the multipliers outwards.
LEVELS = ("PE", "registers", "scratchpad", "accumulators", "DRAM")


@dataclass(frozen=True)
class Energies:
    """Picojoules of one action.

    The defaults are those of M. Horowitz, Computing's Energy Problem, ISSCC 2014, for 45 nm at 0.9 V; an
    FPGA takes several times as much for arithmetic. ``register_byte`` is not in there: it is taken as a
    third of an 8-bit addition.

    Attributes
    ----------
    add8, multiply8, add32 : float
        ``add8`` prices nothing by itself.
    register_byte : float
        A byte into a register.
    sram32 : float
        32 bits into or out of a memory of 8 KiB.
    dram32 : float
        32 bits into or out of DRAM.
    source : str
        Said in reports.
    """

    add8: float = 0.03
    multiply8: float = 0.2
    add32: float = 0.1
    register_byte: float = 0.01
    sram32: float = 5.0
    dram32: float = 640.0
    source: str = "Horowitz, ISSCC 2014, 45 nm: an estimate"

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "source" and (isinstance(value, bool) or not isinstance(value, int | float)
                                       or not 0 <= value < float("inf")):
                raise ValueError(f"{f.name} must be a number of picojoules from 0 on, got {value!r}")


DEFAULT = Energies()


def read_energies(path: str | Path) -> Energies:
    """A TOML file of some or all of the fields of :class:`Energies`; the others keep their defaults.

    Raises
    ------
    ValueError
        It is not TOML, or a field is unknown or has a value that is no energy: names both.
    OSError
        It cannot be read.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no table of energies: {error}") from None
    known = [f.name for f in fields(Energies)]
    for name in table:
        if name not in known:
            raise ValueError(f"{path}: there is no energy {name!r}; there are {', '.join(known)}")
    try:
        return Energies(**{"source": str(path)} | table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def actions(cost: Cost) -> dict[str, dict[str, int]]:
    """Counts by component and action, in the terms of Accelergy."""
    return {
        "pe": {"multiply8": cost.macs, "add32": cost.macs},
        "registers": {"write_byte": cost.register_bytes},
        "scratchpad": {"read_byte": cost.scratchpad_read, "write_byte": cost.scratchpad_written},
        "accumulators": {"read_32": cost.accumulator_read, "write_32": cost.accumulator_written},
        "dram": {"read_byte": cost.dram_read, "write_byte": cost.dram_written},
    }


def breakdown(cost: Cost, energies: Energies = DEFAULT) -> dict[str, float]:
    """Picojoules by :data:`LEVELS`."""
    e = energies
    return {
        "PE": cost.macs * (e.multiply8 + e.add32),
        "registers": cost.register_bytes * e.register_byte,
        "scratchpad": (cost.scratchpad_read + cost.scratchpad_written) * e.sram32 / 4,
        "accumulators": (cost.accumulator_read + cost.accumulator_written) * e.sram32,
        "DRAM": cost.dram * e.dram32 / 4,
    }
