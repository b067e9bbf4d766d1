"""The memory behind a core: what it is like, and who lies where in it."""

from dataclasses import dataclass

import numpy as np

from backbeat_rtl.config import WORD

__all__ = ["ALIGNMENT", "BASE", "Arena", "Memory", "padded"]

#: Address of the first byte, where LiteX puts the main memory of a SoC.
BASE = 0x4000_0000
#: Tensors begin at multiples of this.
ALIGNMENT = 64


def padded(size: int, multiple: int = WORD) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


@dataclass(frozen=True)
class Memory:
    """A memory at the core's clock. The default is the DDR2 of a Nexys A7 behind its controller.

    Parameters
    ----------
    bandwidth : float
        Bytes per cycle, reads and writes together; the port moves 8 each way at most.
    latency : int
        Cycles from a request to its first word, and from the last word written to its
        acknowledgement.
    refresh_interval, refresh_cycles : int
        Of each ``refresh_interval`` cycles nothing moves in ``refresh_cycles``.
    size : int
        Bytes, a multiple of 8.

    Raises
    ------
    ValueError
        Names the parameter and its value.
    """

    bandwidth: float = 8.0
    latency: int = 25
    refresh_interval: int = 780
    refresh_cycles: int = 39
    size: int = 256 << 20

    def __post_init__(self):
        if not 1 / 16 <= self.bandwidth <= 2 * WORD:
            raise ValueError(f"bandwidth must be 1/16...{2 * WORD} bytes per cycle, got "
                             f"{self.bandwidth}")
        if not 0 <= self.latency <= 60_000:
            raise ValueError("latency must be 0...60000 cycles (the core gives up at 65,536), got "
                             f"{self.latency}")
        if not 0 <= self.refresh_cycles < self.refresh_interval <= 60_000:
            raise ValueError("refresh_cycles must be less than refresh_interval, and that at most "
                             f"60000, got {self.refresh_cycles} of {self.refresh_interval}")
        if not 4096 <= self.size <= (1 << 32) - BASE or self.size % WORD:
            raise ValueError(f"size must be a multiple of {WORD} in 4096...{(1 << 32) - BASE} bytes, "
                             f"got {self.size}")

    @property
    def effective(self) -> float:
        """Bytes per cycle that refresh leaves."""
        return self.bandwidth * (1 - self.refresh_cycles / self.refresh_interval)


class Arena:
    """Gives out a memory from its beginning; :meth:`reset` takes everything back.

    Parameters
    ----------
    image : uint8 array [size]
        What the core finds at addresses ``base`` and up.
    """

    def __init__(self, image: np.ndarray, base: int = BASE):
        self.image, self.base = image, base
        self.used = 0

    def reset(self):
        """Whatever has been given out may be given out again."""
        self.used = 0

    def take(self, size: int) -> int:
        """Address of ``size`` bytes of undefined content.

        Raises
        ------
        ValueError
            The memory is full.
        """
        start = padded(self.used, ALIGNMENT)
        if start + size > self.image.size:
            raise ValueError(f"these products need more than the {self.image.size:,} bytes of device "
                             f"memory: {size:,} more after {start:,}; make fewer at a time, smaller "
                             "ones, or open the accelerator with a larger Memory(size=...)")
        self.used = start + size
        return self.base + start

    def rows(self, address: int, rows: int, pitch: int) -> np.ndarray:
        """uint8 array [rows, pitch]: the memory itself, not a copy."""
        start = address - self.base
        return self.image[start:start + rows * pitch].reshape(rows, pitch)

    def upload(self, array: np.ndarray, pitch: int) -> int:
        """Address of a copy of ``array`` [rows, ...], its rows ``pitch`` bytes apart."""
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)
        address = self.take(len(raw) * pitch)
        self.rows(address, len(raw), pitch)[:, :raw.shape[1]] = raw
        return address
