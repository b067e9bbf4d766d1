"""One frozen configuration, four presets."""

from dataclasses import dataclass, replace

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

    Raises
    ------
    ValueError
        Names the parameter and its value.
    """

    rows: int = 16
    columns: int = 16
    depth: int = 2048
    tiles: int = 32

    def __post_init__(self):
        if not (2 <= self.rows <= 64 and self.rows % 2 == 0):
            raise ValueError(f"rows must be even and 2...64, got {self.rows}")
        if not 2 <= self.columns <= 64:
            raise ValueError(f"columns must be 2...64, got {self.columns}")
        if not (16 <= self.depth <= 2048 and self.depth.bit_count() == 1):
            raise ValueError(f"depth must be a power of two in 16...2048, got {self.depth}")
        if not (2 <= self.tiles <= 64 and self.tiles.bit_count() == 1):
            raise ValueError(f"tiles must be a power of two in 2...64, got {self.tiles}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates per cycle."""
        return self.rows * self.columns

    @property
    def row_pairs(self) -> int:
        return self.rows // 2

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

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"


_BASE = Config()

#: The small ones have small buffers so that tests of 80 x 80 x 80 already run in several panels.
PRESETS = {
    "4x4":   replace(_BASE, rows=4,  columns=4,  depth=128, tiles=8),
    "8x8":   replace(_BASE, rows=8,  columns=8,  depth=512, tiles=16),
    "16x16": _BASE,
    "32x14": replace(_BASE, rows=32, columns=14, tiles=16),
}
