"""What the array returns, in NumPy integers."""

import numpy as np

from .pe import LOW

__all__ = ["accumulate_packed", "tile_product"]


def accumulate_packed(a0, a1, b) -> tuple[np.ndarray, np.ndarray]:
    """The PE's packed accumulator and wrap counter after each step.

    Parameters
    ----------
    a0, a1 : int array [K], -127...127
    b : int array [K], -128...127

    Returns
    -------
    p, count : int64 array [K]
        ``p`` as if it had no upper end; ``count`` likewise.
    """
    a0, a1, b = (np.asarray(x, dtype=np.int64) for x in (a0, a1, b))
    p = np.cumsum(((a1 << LOW) + a0) * b)
    quadrant = p >> (LOW - 2) & 3
    previous = np.concatenate(([0], quadrant[:-1]))
    wrap = ((previous == 3) & (quadrant == 0)).astype(np.int64)
    wrap -= (previous == 0) & (quadrant == 3)
    return p, np.cumsum(wrap)


def tile_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a[rows, K] @ b[K, columns]`` as the array computes it: packed, wrapped, taken apart again.

    Returns
    -------
    int64 array [rows, columns]
    """
    out = np.empty((a.shape[0], b.shape[1]), dtype=np.int64)
    for pair in range(a.shape[0] // 2):
        for column in range(b.shape[1]):
            p, count = accumulate_packed(a[2 * pair], a[2 * pair + 1], b[:, column])
            out[2 * pair, column] = (count[-1] << LOW) | (p[-1] & (1 << LOW) - 1)
            out[2 * pair + 1, column] = (p[-1] >> LOW) - count[-1]
    return out
