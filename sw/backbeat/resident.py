"""Tensors that stay on the accelerator's side between products."""

import weakref
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from .memory import Arena, padded

__all__ = ["Kept", "Placed", "Tensor", "for_result", "from_array"]


class Tensor:
    """An array that stays on an accelerator's side: in device memory, if the core has a memory port.

    :meth:`.Accelerator.put` makes it from an array, ``keep=True`` from a product. INT8 ones take the
    place of an array in any product. Its bytes are given back by :meth:`free`, at the end of a
    ``with`` statement, or when nobody refers to it or a :meth:`reshape` of it any more.

    A -128 is as good as any other value. Where the array takes none (A of ``op(A) @ op(B)``, ``x`` and
    ``dy`` of convolutions), the driver changes the operands' sides, and where that cannot be it takes
    the tensor back and splits it, as it does with arrays. A requantised result may hold a -128 only if
    its ``low`` is -128: with -127 nobody has to look.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        int8 or int32.
    """

    def __init__(self, owner, shape: tuple[int, ...], dtype, storage: "_Storage", pitch: int):
        self._owner, self._storage, self._pitch = owner, storage, pitch
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes there, with what fills up its rows."""
        return prod(self.shape[:-1]) * self._pitch

    @property
    def freed(self) -> bool:
        """Whether it has been given back."""
        return not self._storage.alive

    def reshape(self, *shape: int) -> "Tensor":
        """The same bytes as a tensor of another shape, in row-major order; one size may be -1.

        Raises
        ------
        ValueError
            The sizes do not fit, or the last axis changes and its rows are not whole words of 8 bytes.
        """
        self.check("this tensor")
        new = np.empty(self.shape, np.bool_).reshape(*shape).shape
        width = self.shape[-1] * self.dtype.itemsize
        pitch = self._pitch
        if new[-1] != self.shape[-1]:
            if width != pitch or new[-1] * self.dtype.itemsize % padded(1):
                raise ValueError(f"a tensor of shape {self.shape} cannot become {new}: each row of the "
                                 "last axis is filled up to whole words of 8 bytes, so that may change "
                                 "only from and to a multiple of them")
            pitch = new[-1] * self.dtype.itemsize
        return Tensor(self._owner, new, self.dtype, self._storage, pitch)

    def free(self):
        """Gives its bytes back, and those of every :meth:`reshape` of it; again does nothing."""
        self._storage.free()

    def check(self, name: str, owner=None):
        """Refuses use after :meth:`free`, and by another accelerator than ``owner``.

        Raises
        ------
        ValueError
        """
        if owner is not None and self._owner is not owner:
            raise ValueError(f"{name} is a tensor of another accelerator: {self}")
        if self.freed:
            raise ValueError(f"{name} has been freed: {self}")
        if self._storage.lost:
            raise ValueError(f"{name} has been lost when the device was started anew: {self}; put it "
                             "there again")

    def operand(self) -> "Placed | np.ndarray":
        """As products take it."""
        if self._storage.array is not None:
            return self.array()
        return Placed(self._storage, self.shape, self._storage.address, self._pitch, self.dtype)

    def array(self) -> np.ndarray:
        """Its values; from device memory, they are read."""
        rows = self._storage.rows(prod(self.shape[:-1]), self._pitch)
        values = rows[:, :self.shape[-1] * self.dtype.itemsize]
        return np.ascontiguousarray(values).view(self.dtype).reshape(self.shape)

    def fill(self, array: np.ndarray):
        """Writes an array of its shape there."""
        rows = np.ascontiguousarray(array).reshape(-1, self.shape[-1]).view(np.uint8)
        self._storage.write(rows, self._pitch)

    def __enter__(self) -> "Tensor":
        return self

    def __exit__(self, *_):
        self.free()

    def __repr__(self):
        return f"<Tensor {self.shape} {self.dtype}{' (freed)' if self.freed else ''}>"


class _Storage:
    """Bytes that :class:`Tensor` and its reshapes share: of a device memory or, without one, an array.

    Attributes
    ----------
    minimum : bool or None
        Whether there is a -128; None if nobody knows yet.
    clean : bool
        What fills up rows is zero.
    """

    def __init__(self, size: int, reach: int, arena: Arena | None):
        self.size, self.minimum, self.clean = size, None, True
        self.array, self.arena, self.address = None, arena, None
        self._copy = None
        if arena is None:
            self.array = np.zeros(size, np.uint8)
        else:
            self.address = arena.place(size, reach)
            self.generation = arena.generation
            self._release = weakref.finalize(self, arena.release, self.address, self.generation)

    @property
    def alive(self) -> bool:
        return self.array is not None if self.arena is None else self._release.alive

    @property
    def lost(self) -> bool:
        return self.arena is not None and self.generation != self.arena.generation

    def free(self):
        self.array = self._copy = None
        if self.arena is not None:
            self._release()

    def write(self, rows: np.ndarray, pitch: int):
        if self.array is not None:
            self.array.reshape(-1, pitch)[:, :rows.shape[1]] = rows
        else:
            self.arena.memory.write(self.address, rows, pitch)

    def rows(self, count: int, pitch: int) -> np.ndarray:
        if self.array is not None:
            return self.array.reshape(count, pitch)
        return self.read(self.address, count * pitch).reshape(count, pitch)

    def read(self, address: int, size: int) -> np.ndarray:
        """Bytes of device memory; from the host's copy if there is one."""
        begin = address - self.address
        if self._copy is not None and begin + size <= self.size:
            return self._copy[begin:begin + size]
        return self.arena.memory.read([(address, size)])[0]

    def look(self) -> bool:
        """Whether there is a -128. If so, its values stay on the host too: they are wanted now."""
        if self.minimum is None:
            values = self.read(self.address, self.size)
            self.minimum = bool((values.view(np.int8) == -128).any())
            if self.minimum:
                self._copy = values.copy()
        return self.minimum


@dataclass(frozen=True, eq=False)
class Placed:
    """An operand in device memory; used like the array that it is there.

    Attributes
    ----------
    shape : tuple of int
    address : int
    pitch : int
        Bytes from row to row of the last axis.
    """

    storage: _Storage
    shape: tuple[int, ...]
    address: int
    pitch: int
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index: int) -> "Placed":
        if not 0 <= index < len(self):
            raise IndexError(index)
        step = prod(self.shape[1:-1]) * self.pitch
        return replace(self, shape=self.shape[1:], address=self.address + index * step)

    def has_minimum(self) -> bool:
        """Whether there is a -128."""
        return self.storage.look()

    def array(self) -> np.ndarray:
        """The values, read from the device."""
        rows = prod(self.shape[:-1])
        raw = self.storage.read(self.address, rows * self.pitch).reshape(rows, self.pitch)
        return np.ascontiguousarray(raw[:, :self.shape[-1]]).view(np.int8).reshape(self.shape)

    def matrix(self, rows: int) -> "Placed | None":
        """As so many rows, if they follow each other without a gap or are those of the last axis."""
        if rows == prod(self.shape[:-1]):
            return replace(self, shape=(rows, self.shape[-1]))
        if self.pitch != self.shape[-1]:
            return None
        return replace(self, shape=(rows, self.size // rows), pitch=self.size // rows)

    def filled(self, channels: int, first: int | None = None) -> "Placed | None":
        """With so many values in the last axis, zeros behind its own, and with ``first`` in the first
        one, undefined behind its own. None if it does not lie so."""
        shape = (self.shape[0] if first is None else first, *self.shape[1:-1], channels)
        end = self.storage.arena.memory.base + self.storage.arena.memory.size
        if (channels != self.shape[-1] and not (self.storage.clean and channels == self.pitch)
                or self.address + prod(shape[:-1]) * self.pitch > end):
            return None
        return replace(self, shape=shape)


@dataclass(frozen=True)
class Kept:
    """How a result lies in device memory.

    Parameters
    ----------
    shape : tuple of int
    dtype
    pitch : int, optional
        Bytes from row to row of the last axis, if that is not filled up to whole words.
    clean : bool
        What fills up rows is zero.
    minimum : bool or None
        Whether there may be a -128: None for perhaps.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    pitch: int | None = None
    clean: bool = True
    minimum: bool | None = None


def _reach(shape: tuple[int, ...], pitch: int) -> int:
    """With the first axis filled up to whole words, as filters are read."""
    return padded(shape[0]) * prod(shape[1:-1]) * pitch if len(shape) == 4 else 0


def from_array(owner, array: np.ndarray, arena: Arena | None) -> Tensor:
    """A tensor of a copy of an int8 array."""
    pitch = padded(array.shape[-1])
    rows = prod(array.shape[:-1])
    storage = _Storage(rows * pitch, _reach(array.shape, pitch), arena)
    storage.minimum = bool((array == -128).any())
    raw = np.zeros((rows, pitch), np.uint8)
    raw[:, :array.shape[-1]] = array.reshape(rows, -1).view(np.uint8)
    try:
        storage.write(raw, pitch)
        if arena is not None:
            arena.memory.flush()
            if storage.minimum:     # it may have to be split
                storage._copy = raw.reshape(-1)
    except BaseException:
        storage.free()
        raise
    return Tensor(owner, array.shape, np.int8, storage, pitch)


def for_result(owner, kept: Kept, arena: Arena | None) -> Tensor:
    """A tensor that a product is going to be written to."""
    natural = padded(kept.shape[-1] * np.dtype(kept.dtype).itemsize)
    pitch = kept.pitch or natural
    storage = _Storage(prod(kept.shape[:-1]) * pitch, _reach(kept.shape, pitch), arena)
    storage.minimum, storage.clean = kept.minimum, kept.clean
    tensor = Tensor(owner, kept.shape, kept.dtype, storage, pitch)
    if arena is not None and kept.clean and kept.shape[-1] * tensor.dtype.itemsize != pitch:
        try:
            arena.memory.clear(storage.address, storage.size)
        except BaseException:
            storage.free()
            raise
    return tensor
