"""Counters of an accelerator."""

from dataclasses import dataclass, fields

__all__ = ["Stats"]


@dataclass
class Stats:
    """Sums over products; of a single one in ``Accelerator.last``.

    ``cycles`` run from the first command to the last result byte, in ``busy`` of them a run was in
    progress, in ``fed`` the array was fed. They are 0 on backends that have no clock.
    """

    products: int = 0
    cycles: int = 0
    busy: int = 0
    fed: int = 0
    macs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    commands: int = 0
    array_macs: int = 1  # rows * columns
    max_abs: int = 0

    def __iadd__(self, other: "Stats") -> "Stats":
        for f in fields(self):
            if f.name == "max_abs":
                self.max_abs = max(self.max_abs, other.max_abs)
            elif f.name != "array_macs":
                setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))
        return self

    @property
    def utilisation(self) -> float | None:
        """``macs / (cycles * rows * columns)``; None without a clock."""
        return self.macs / (self.cycles * self.array_macs) if self.cycles else None
