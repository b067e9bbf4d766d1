"""What the epilogue returns, in NumPy integers."""

from dataclasses import dataclass

import numpy as np

__all__ = ["SEED_ROUND", "HASH_STEPS", "Requantise", "element_index", "random_bits", "requantise"]

#: The steps of :func:`random_bits`: (constant, shift) with "+" or "^" for how they join.
#: Robert Jenkins' 32-bit integer hash (public domain) and three steps more of its kind: the six
#: alone leave neighbouring indices correlated by 5 %, the nine by less than a million draws show.
HASH_STEPS = (
    ("+", 0x7ED55D16, "+", 12),
    ("^", 0xC761C23C, "^", -19),
    ("+", 0x165667B1, "+", 5),
    ("+", 0xD3A2646C, "^", 9),
    ("+", 0xFD7046C5, "+", 3),
    ("^", 0xB55A4F09, "^", -16),
    ("+", 0x27D4EB2F, "+", 7),
    ("^", 0x9E3779B9, "^", -11),
    ("+", 0x85EBCA6B, "+", 14),
)
#: The seed joins before the first step (xor) and again before this one (add), so that two seeds
#: do not merely permute each other's numbers.
SEED_ROUND = 3


@dataclass(frozen=True)
class Requantise:
    """INT32 to INT8: ``clip(round((acc + bias) * multiplier * 2**-shift) + zero_point, low, high)``.

    Parameters
    ----------
    multiplier : int or sequence of int
        Signed 32-bit, one for all columns of C or one each.
    shift : int or sequence of int
        0...62, likewise.
    zero_point : int
        -128...127.
    rounding : str
        ``"nearest"`` (ties up) or ``"stochastic"`` (floor of value plus a uniform fraction).
    seed : int
        0...2**32 - 1; with the element's index in C it determines the fraction.
    low, high : int
        Clip bounds, -128...127; ReLU is ``low=zero_point``.

    Raises
    ------
    ValueError
        Names the parameter and the value.
    """

    multiplier: "int | tuple[int, ...]"
    shift: "int | tuple[int, ...]"
    zero_point: int = 0
    rounding: str = "nearest"
    seed: int = 0
    low: int = -128
    high: int = 127

    def __post_init__(self):
        for name, bottom, top in (("multiplier", -2**31, 2**31 - 1), ("shift", 0, 62),
                                  ("zero_point", -128, 127), ("seed", 0, 2**32 - 1),
                                  ("low", -128, 127), ("high", -128, 127)):
            values = np.atleast_1d(np.asarray(getattr(self, name)))
            if values.dtype.kind not in "iu":
                raise TypeError(f"{name} must be of integers, got {getattr(self, name)!r}")
            bad = values[(values < bottom) | (values > top)]
            if bad.size:
                raise ValueError(f"{name} must be {bottom}...{top}, got {bad[0]}")
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(f"rounding must be 'nearest' or 'stochastic', got {self.rounding!r}")
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got {self.low} > {self.high}")

    def per_column(self, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """``multiplier`` and ``shift`` as int64 arrays of length ``columns``.

        Raises
        ------
        ValueError
            One of them has another length than 1 or ``columns``.
        """
        out = []
        for name in ("multiplier", "shift"):
            values = np.atleast_1d(np.asarray(getattr(self, name), dtype=np.int64))
            if values.ndim != 1 or values.size not in (1, columns):
                raise ValueError(f"{name} must be one value or {columns} (the columns of C), "
                                 f"got shape {values.shape}")
            out.append(np.broadcast_to(values, (columns,)))
        return out[0], out[1]


def random_bits(seed: int, index: np.ndarray) -> np.ndarray:
    """Uniform 32-bit numbers, a function of seed and element index alone."""
    seed = np.uint32(seed)
    a = np.atleast_1d(np.asarray(index).astype(np.uint32)) ^ seed  # arrays wrap without a warning
    for number, (join, constant, mix, shift) in enumerate(HASH_STEPS):
        if number == SEED_ROUND:
            a = a + seed
        moved = a << np.uint32(shift) if shift > 0 else a >> np.uint32(-shift)
        a = a + np.uint32(constant) if join == "+" else a ^ np.uint32(constant)
        a = a + moved if mix == "+" else a ^ moved
    return a.reshape(np.shape(index))


def element_index(rows: int, columns: int) -> np.ndarray:
    """Index of each element of a row-major C, modulo 2**32."""
    return np.arange(rows * columns, dtype=np.uint64).astype(np.uint32).reshape(rows, columns)


def requantise(acc, bias, multiplier, shift, *, zero_point=0, low=-128, high=127,
               stochastic=False, seed=0, index=0):
    """INT8 of INT32 accumulators.

    The product ``(acc + bias) * multiplier`` has 65 bits and is exact. Shifted right, its fraction
    is kept to 32 bits; what falls off below cannot change ``floor(value + fraction)``, since the
    random fraction has 32 bits too. Nearest is the same with the fraction 1/2.

    Parameters
    ----------
    acc : int32 array
    bias, multiplier, shift : int arrays broadcastable to ``acc``
    index : uint32 array
        Element index of each ``acc`` in C.

    Returns
    -------
    int8 array
    """
    x = np.asarray(acc, dtype=np.int64) + np.asarray(bias, dtype=np.int64)
    multiplier, shift = np.broadcast_arrays(np.asarray(multiplier, dtype=np.int64),
                                            np.asarray(shift, dtype=np.int64))
    multiplier, shift = np.broadcast_to(multiplier, x.shape), np.broadcast_to(shift, x.shape)
    fraction = random_bits(seed, index).astype(np.int64) if stochastic else np.int64(1 << 31)

    # 33 x 32 bits do not fit an int64: split x at bit 16, so that both halves do.
    #   x * multiplier = high * 2**16 + low,  0 <= low < 2**16
    upper = (x >> 16) * multiplier
    lower = (x & 0xFFFF) * multiplier
    upper = upper + (lower >> 16)
    lower = lower & 0xFFFF
    # floor((upper * 2**16 + lower) * 2**-shift) and the 32 bits of fraction below it.
    up = np.maximum(shift - 16, 0)      # shifts beyond the 16 low bits eat into upper ...
    down = np.maximum(16 - shift, 0)    # ... smaller ones leave some of lower as integer.
    # An integer part beyond 10 bits saturates in any case; clamp before shifting left.
    integer = np.where(shift >= 16, upper >> up,
                       (np.clip(upper, -(1 << 40), 1 << 40) << down) + (lower >> (16 - down)))
    # Fraction: the `shift` bits below, aligned to 32.
    below_upper = upper & ((np.int64(1) << up) - 1)          # `up` bits
    below_lower = lower & ((np.int64(1) << np.minimum(shift, 16)) - 1)
    bits = np.where(
        shift <= 16, below_lower << (32 - np.minimum(shift, 32)),
        np.where(shift <= 32,
                 ((below_upper << 16) | below_lower) << (32 - np.minimum(shift, 32)),
                 # more than 32 bits below: keep the top 32 of (below_upper, below_lower)
                 np.where(shift >= 48, below_upper >> np.maximum(up - 32, 0),
                          (below_upper << np.clip(48 - shift, 0, 16))
                          | (below_lower >> np.clip(shift - 32, 0, 16)))))
    rounded = integer + ((bits + fraction) >> 32)
    rounded = np.clip(rounded, -(1 << 20), 1 << 20) + zero_point
    # Like the hardware even where low is above high.
    return np.where(rounded < low, low, np.minimum(rounded, high)).astype(np.int8)
