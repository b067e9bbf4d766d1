"""The memory behind a core: what it is like, and who lies where in it."""

import abc
from collections import deque
from dataclasses import dataclass

import numpy as np

from backbeat_rtl.config import WORD

__all__ = ["ALIGNMENT", "BASE", "Arena", "DeviceMemory", "ImageMemory", "Memory", "padded"]

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


class DeviceMemory(abc.ABC):
    """What a core finds at addresses ``base`` to ``base + size - 1``, as the host reaches it.

    Attributes
    ----------
    base, size : int
    uploaded, downloaded : int
        Bytes that have been written and read so far.
    """

    base: int
    size: int

    def __init__(self):
        self.uploaded = self.downloaded = 0

    def write(self, address: int, rows: np.ndarray, pitch: int):
        """Writes uint8 ``rows`` [rows, width], one every ``pitch`` bytes; it may be done later, but
        before anything else is done with this memory. Bytes between the rows become undefined."""
        self.uploaded += rows.size
        self._write(address, rows, pitch)

    def read(self, ranges: list[tuple[int, int]]) -> list[np.ndarray]:
        """uint8 arrays, one for each (address, size). They may be the memory itself: copy what you keep.

        Raises
        ------
        AcceleratorError
            The memory cannot be reached.
        """
        self.downloaded += sum(size for _, size in ranges)
        return self._read(ranges)

    @abc.abstractmethod
    def clear(self, address: int, size: int):
        """Fills a range with zeros; nothing crosses for it."""

    def flush(self):    # noqa: B027 (not every memory has something to do)
        """What has been written is there when this returns.

        Raises
        ------
        AcceleratorError
            The memory cannot be reached.
        """

    @abc.abstractmethod
    def _write(self, address: int, rows: np.ndarray, pitch: int): ...

    @abc.abstractmethod
    def _read(self, ranges: list[tuple[int, int]]) -> list[np.ndarray]: ...


class ImageMemory(DeviceMemory):
    """A memory in this process.

    Parameters
    ----------
    image : uint8 array [size]
    """

    def __init__(self, image: np.ndarray, base: int = BASE):
        super().__init__()
        self.image, self.base, self.size = image, base, image.size

    def rows(self, address: int, rows: int, pitch: int) -> np.ndarray:
        """uint8 array [rows, pitch]: the memory itself, not a copy."""
        start = address - self.base
        return self.image[start:start + rows * pitch].reshape(rows, pitch)

    def clear(self, address: int, size: int):
        self.rows(address, 1, size)[:] = 0

    def _write(self, address: int, rows: np.ndarray, pitch: int):
        self.rows(address, len(rows), pitch)[:, :rows.shape[1]] = rows

    def _read(self, ranges: list[tuple[int, int]]) -> list[np.ndarray]:
        return [self.rows(address, 1, size)[0] for address, size in ranges]


class Arena:
    """Gives out a memory: to products from its beginning, until :meth:`reset`, and to what stays there
    from its end.

    Parameters
    ----------
    memory : DeviceMemory, or uint8 array [size]
    reserved : int
        Bytes at its beginning that are somebody else's.
    """

    def __init__(self, memory: "DeviceMemory | np.ndarray", reserved: int = 0):
        self.memory = memory if isinstance(memory, DeviceMemory) else ImageMemory(memory)
        self.reserved = self.used = reserved
        self._resident: dict[int, int] = {}         # offset: size
        self.generation = 0
        self._released: deque = deque()     # appended to whenever the garbage is collected

    @property
    def image(self) -> np.ndarray:
        """The memory itself, if it is in this process."""
        return self.memory.image

    def rows(self, address: int, rows: int, pitch: int) -> np.ndarray:
        """Likewise, uint8 array [rows, pitch]."""
        return self.memory.rows(address, rows, pitch)

    @property
    def resident(self) -> int:
        """Bytes given out to what stays."""
        self._take_back()
        return sum(self._resident.values())

    @property
    def room(self) -> int:
        """Bytes that products may use."""
        self._take_back()
        return min(self._resident, default=self.memory.size) - self.reserved

    def reset(self):
        """Whatever :meth:`take` has given out may be given out again."""
        self.used = self.reserved

    def take(self, size: int) -> int:
        """Address of ``size`` bytes of undefined content.

        Raises
        ------
        ValueError
            The memory is full.
        """
        start = padded(self.used, ALIGNMENT)
        if start + size > self.reserved + self.room:
            raise ValueError(f"these products need more than the {self.room:,} bytes of device memory"
                             f"{self._beside()}: {size:,} more after {start:,}; make fewer at a time, "
                             "smaller ones, or open the accelerator with a larger Memory(size=...)")
        self.used = start + size
        return self.memory.base + start

    def place(self, size: int, reach: int = 0) -> int:
        """Address of ``size`` bytes of undefined content that stay until :meth:`release`; of what
        :meth:`take` has given out nothing is left.

        Parameters
        ----------
        size : int
        reach : int
            So many bytes from the address on should be in the memory, whoever's they are.

        Raises
        ------
        ValueError
            The memory is full.
        """
        self._take_back()
        self.reset()
        taken = sorted(self._resident.items(), reverse=True)
        for last in (self.memory.size - reach, self.memory.size - size):
            end = self.memory.size
            for begin, length in [*taken, (0, self.reserved)]:
                start = min(end - size, last) // ALIGNMENT * ALIGNMENT
                if start >= begin + length:
                    self._resident[start] = size
                    return self.memory.base + start
                end = begin
        raise ValueError(f"device memory has no {size:,} bytes in one piece left of its "
                         f"{self.memory.size:,}{self._beside()}; free what is no longer needed, or open "
                         "the accelerator with a larger Memory(size=...)")

    def release(self, address: int, generation: int):
        """Takes back what :meth:`place` has given out in that generation; at once or a little later, in
        any thread."""
        self._released.append((address - self.memory.base, generation))

    def lose(self):
        """The memory's content is gone, and so is what stayed: a new generation."""
        self.generation += 1
        self._resident.clear()

    def _take_back(self):
        while self._released:
            offset, generation = self._released.popleft()
            if generation == self.generation:
                del self._resident[offset]

    def _beside(self) -> str:
        if not self._resident:
            return ""
        return f" (beside {self.resident:,} bytes of {len(self._resident)} resident tensors)"

    def upload(self, array: np.ndarray, pitch: int) -> int:
        """Address of a copy of ``array`` [rows, ...], its rows ``pitch`` bytes apart."""
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)
        address = self.take(len(raw) * pitch)
        self.memory.write(address, raw, pitch)
        return address
