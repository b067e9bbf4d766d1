"""One frozen configuration, four presets."""

from dataclasses import dataclass, replace
from math import gcd

from .isa import MAX_RUN

__all__ = ["PRESETS", "Config"]

#: Bytes in a word of the operand port and of a scratchpad lane.
WORD = 8


@dataclass(frozen=True)
class Config:
    """Sizes of one core.

    Parameters
    ----------
    rows, columns : int
        Array size in MACs. ``rows`` is even (a PE is a row pair), 2...64; ``columns`` 2...64.
    depth : int
        Bytes per lane in each half of a scratchpad: the largest K times row (column) tiles of a
        panel. A power of two, 16...2,048 (both halves are one RAMB36 at 2,048).
    tiles : int
        Accumulator tiles in each half of the accumulator buffer. A power of two, 2...64.
    requantisers : int
        Accumulators that the read-out takes per cycle, each through an epilogue of its own: 1, 2 or
        4, with at least 4 columns (the array's, if it has fewer) each.
    memory : bool
        With a memory port, and a loop nest in hardware that uses it.

    Raises
    ------
    ValueError
        Names the parameter and its value.
    """

    rows: int = 16
    columns: int = 16
    depth: int = 2048
    tiles: int = 64
    requantisers: int = 1
    memory: bool = True

    def __post_init__(self):
        if not (2 <= self.rows <= 64 and self.rows % 2 == 0):
            raise ValueError(f"rows must be even and 2...64, got {self.rows}")
        if not 2 <= self.columns <= 64:
            raise ValueError(f"columns must be 2...64, got {self.columns}")
        if not (16 <= self.depth <= 2048 and self.depth.bit_count() == 1):
            raise ValueError(f"depth must be a power of two in 16...2048, got {self.depth}")
        if not (2 <= self.tiles <= 64 and self.tiles.bit_count() == 1):
            raise ValueError(f"tiles must be a power of two in 2...64, got {self.tiles}")
        if self.requantisers not in (1, 2, 4) or (
                self.requantisers > 1 and self.columns < 4 * self.requantisers):
            raise ValueError("requantisers must be 1, 2 or 4 and have 4 columns each, got "
                             f"{self.requantisers} for {self.columns} columns")

    @property
    def macs(self) -> int:
        """Multiply-accumulates per cycle."""
        return self.rows * self.columns

    @property
    def row_pairs(self) -> int:
        return self.rows // 2

    @property
    def group(self) -> int:
        """Columns of the array that one requantiser serves."""
        return -(-self.columns // self.requantisers)

    @property
    def stripe(self) -> int:
        """Column tiles of a macro-tile whose rows are read out side by side, as one burst each.

        A few, so that little is left when the last tile is complete; whole words of INT8.
        """
        return max(4, WORD // gcd(WORD, self.columns))

    @property
    def banks(self) -> int:
        """Parts of a scratchpad, of equal size, that the loop nest loads panels into."""
        return min(8, 2 * self.depth // WORD)

    @property
    def bank(self) -> int:
        """Bytes per lane of a bank."""
        return 2 * self.depth // self.banks

    @property
    def table_size(self) -> int:
        """Columns for which the epilogue holds bias, multiplier and shift."""
        return self.tiles * self.columns

    @classmethod
    def of(cls, name: "str | Config") -> "Config":
        """The preset of that name, or the ``Config`` itself.

        Raises
        ------
        ValueError
            There is no such preset.
        """
        if isinstance(name, Config):
            return name
        try:
            return PRESETS[name]
        except KeyError:
            raise ValueError(f"config must be one of {', '.join(PRESETS)}, got {name!r}") from None

    def longest(self, tiles: int) -> int:
        """Steps of K, whole words of them, that a panel of so many tiles has at most."""
        return min(self.depth // WORD // tiles * WORD, MAX_RUN)

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"


_BASE = Config(requantisers=4)

#: The small ones have small buffers so that tests of 80 x 80 x 80 already run in several panels.
PRESETS = {
    "4x4":   replace(_BASE, rows=4,  columns=4,  depth=128, tiles=8,  requantisers=1),
    "8x8":   replace(_BASE, rows=8,  columns=8,  depth=512, tiles=16, requantisers=2),
    "16x16": _BASE,
    "32x14": replace(_BASE, rows=32, columns=14, tiles=32, requantisers=2),
}
