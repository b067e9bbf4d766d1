"""Counters of an accelerator."""

from dataclasses import dataclass, fields, replace

__all__ = ["Stats"]


@dataclass
class Stats:
    """Sums over products; of the last call in ``Accelerator.last``.

    ``cycles`` run from the first command to the last result byte; of a product within a chain, from
    when the core took it up to when its last byte was in memory, so that those of a chain overlap. In
    ``busy`` of them a run was in progress, in ``fed`` the array was fed. They are 0 on backends that
    have no clock.

    ``bytes_read`` and ``bytes_written`` are what the products moved through the core's door or memory
    port, descriptors not counted; ``compulsory_bytes`` are those of each operand read and each
    result written once. ``bytes_uploaded`` and ``bytes_downloaded`` crossed between the host and device
    memory: operands, tables and descriptors, results and records. What is resident did not have to, and
    without device memory nothing does. The counters from ``load_busy`` on are those of the core's
    registers, and 0 without a memory port.
    """

    products: int = 0
    cycles: int = 0
    busy: int = 0
    fed: int = 0
    macs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_uploaded: int = 0
    bytes_downloaded: int = 0
    compulsory_bytes: int = 0
    commands: int = 0
    descriptors: int = 0
    load_busy: int = 0
    load_wait: int = 0
    run_wait: int = 0
    store_busy: int = 0
    store_wait: int = 0
    array_macs: int = 1             # rows * columns
    bytes_per_cycle: float = 8.0    # that the door, or the memory after refresh, can move
    max_abs: int = 0

    def __iadd__(self, other: "Stats") -> "Stats":
        for f in fields(self):
            if f.name == "max_abs":
                self.max_abs = max(self.max_abs, other.max_abs)
            elif f.name not in ("array_macs", "bytes_per_cycle"):
                setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))
        return self

    def times(self, count: int) -> "Stats":
        """The sums of so many of the same."""
        return replace(self, **{f.name: getattr(self, f.name) * count for f in fields(self)
                                if f.name not in ("array_macs", "bytes_per_cycle", "max_abs")})

    @property
    def utilisation(self) -> float | None:
        """``macs / (cycles * rows * columns)``; None without a clock."""
        return self.macs / (self.cycles * self.array_macs) if self.cycles else None

    @property
    def roofline(self) -> float | None:
        """Bound on utilisation: the compulsory bytes at the full rate; None without a product."""
        if not self.compulsory_bytes:
            return None
        return min(1.0, self.macs / self.array_macs / (self.compulsory_bytes / self.bytes_per_cycle))
