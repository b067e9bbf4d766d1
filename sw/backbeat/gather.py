"""A tensor seen as a matrix of pixels by taps, as a descriptor gathers it."""

from dataclasses import dataclass
from math import prod

import numpy as np

__all__ = ["Gather"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Gather:
    """The matrix whose rows are pixels (n, p, q) and whose columns are taps (r, s, c).

    Its element is ``tensor[n, y, x, c]`` at position ``y = (p * step + r * tap + origin) / insert``, or
    0 where that is no integer or outside of the tensor; likewise x. All pairs are (y, x).

    Parameters
    ----------
    grid : (P, Q)
    taps : (R, S)
    step, tap : (int, int)
        Positions from pixel to pixel, and from tap to tap.
    origin : (int, int)
        Position of tap (0, 0) of pixel (0, 0).
    insert : (int, int)
        Distance of the tensor's own rows and columns in positions.
    """

    grid: Pair
    taps: Pair
    step: Pair
    tap: Pair
    origin: Pair
    insert: Pair = (1, 1)

    def shape(self, tensor: tuple[int, int, int, int]) -> Pair:
        """Rows and columns of the matrix for a tensor of that shape (N, H, W, C)."""
        return tensor[0] * prod(self.grid), prod(self.taps) * tensor[3]

    def _positions(self, axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Index into the tensor, and whether there is one, for each (pixel, tap) along an axis."""
        at = (np.arange(self.grid[axis])[:, None] * self.step[axis]
              + np.arange(self.taps[axis]) * self.tap[axis] + self.origin[axis])
        index, rest = np.divmod(at, self.insert[axis])
        return index, (rest == 0) & (index >= 0) & (index < size)

    def matrix(self, tensor: np.ndarray) -> np.ndarray:
        """The matrix itself: a strided copy per tap.

        Parameters
        ----------
        tensor : int8 array (N, H, W, C)

        Returns
        -------
        int8 array (N * P * Q, R * S * C)
        """
        n, h, w, c = tensor.shape
        (rows, row_valid), (columns, column_valid) = self._positions(0, h), self._positions(1, w)
        out = np.zeros((n, *self.grid, *self.taps, c), dtype=tensor.dtype)
        for r in range(self.taps[0]):
            p = np.flatnonzero(row_valid[:, r])
            for s in range(self.taps[1]):
                q = np.flatnonzero(column_valid[:, s])
                out[:, p[:, None], q, r, s] = tensor[:, rows[p, r][:, None], columns[q, s]]
        return out.reshape(self.shape(tensor.shape))

    def bytes_inside(self, tensor: tuple[int, int, int, int]) -> int:
        """Bytes of the matrix that come from the tensor; the others are 0 and never read."""
        n, h, w, c = tensor
        return n * c * int(self._positions(0, h)[1].sum()) * int(self._positions(1, w)[1].sum())

    def fits(self, tensor: tuple[int, int, int, int]) -> bool:
        """Whether a descriptor has room for these numbers."""
        limits = [(size - 1) * insert + 1
                  for size, insert in zip(tensor[1:3], self.insert, strict=True)]
        return (tensor[3] % 8 == 0 and max(tensor[3], self.taps[1], *self.grid, *limits) < 1 << 16
                and max(*self.step, *self.tap, *self.insert) < 1 << 8
                and all(-(1 << 15) <= origin < 1 << 15 for origin in self.origin))

    def fields(self, tensor: tuple[int, int, int, int]) -> tuple[int, dict[str, int]]:
        """What a descriptor says of it.

        Returns
        -------
        offset : int
            Bytes from the tensor's address to that of position (0, 0), which may lie outside.
        fields : dict
        """
        _, h, w, pixel = tensor
        row_pitch = w * pixel
        pitches = row_pitch, pixel
        out = {"pixel": pixel, "taps_x": self.taps[1], "row_pitch": row_pitch,
               "image_pitch": h * row_pitch}
        offset = 0
        for axis, (name, size) in enumerate((("y", h), ("x", w))):
            insert = self.insert[axis]
            out |= {f"grid_{name}": self.grid[axis], f"limit_{name}": (size - 1) * insert + 1,
                    f"insert_{name}": insert, f"origin_{name}": self.origin[axis],
                    f"origin_{name}_rest": self.origin[axis] % insert}
            offset += self.origin[axis] // insert * pitches[axis]
            for what, distance in (("step", self.step[axis]), ("tap", self.tap[axis])):
                out |= {f"{what}_{name}": distance, f"{what}_{name}_rest": distance % insert,
                        f"{what}_{name}_bytes": distance // insert * pitches[axis]}
        return offset, out
