"""The random fraction of stochastic rounding: uniform, and blind to neighbours and to seeds."""

from math import sqrt

import numpy as np
import pytest

from backbeat_rtl.epilogue_model import element_index, random_bits, requantise

DRAWS = 1 << 20
LAGS = (1, 2, 3, 4, 8, 10, 16, 64, 128, 256, 512, 784, 1024)
#: Standard errors; of some hundred figures the largest is expected near 2.6.
LIMIT = 4.5


def centred(seed: int, start: int, count: int) -> np.ndarray:
    index = np.arange(start, start + count, dtype=np.uint64).astype(np.uint32)
    return random_bits(seed, index) / 2.0**32 - 0.5


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """In standard errors; a uniform number's variance is 1/12."""
    return abs(float(np.mean(x * y))) * 12 * sqrt(len(x))


@pytest.mark.parametrize("seed", [0, 1, 7, 0x12345678, 0xDEADBEEF])
def test_numbers_are_uniform_and_neighbours_independent(seed):
    x = centred(seed, 0, DRAWS + LAGS[-1])
    assert abs(x[:DRAWS].mean()) * sqrt(12 * DRAWS) < LIMIT
    for bits in (np.histogram(x[:DRAWS], 256)[0],                       # the highest 8 ...
                 np.bincount(random_bits(seed, np.arange(DRAWS)) & 255)):     # ... and the lowest
        chi_square = float(((bits - DRAWS / 256)**2 / (DRAWS / 256)).sum())
        assert abs(chi_square - 255) / sqrt(2 * 255) < LIMIT
    for lag in LAGS:
        assert correlation(x[:DRAWS], x[lag:lag + DRAWS]) < LIMIT, f"{lag=}"


@pytest.mark.parametrize("seeds", [(0, 1), (1, 2), (5, 6), (100, 228), (0, 1 << 31), (3, 3 + 65536)])
def test_seeds_are_independent(seeds):
    assert correlation(*(centred(seed, 0, DRAWS) for seed in seeds)) < LIMIT


def test_seeds_do_not_permute_each_others_numbers():
    index = np.arange(DRAWS, dtype=np.uint32)
    same = random_bits(5, index) == random_bits(9, index ^ np.uint32(5 ^ 9))
    assert same.mean() < 1e-4


def test_stochastic_rounding_is_unbiased():
    """The mean of 2**18 roundings of a value is the value, within 4.5 standard errors."""
    rng = np.random.default_rng(2)
    for acc, multiplier, shift in zip(rng.integers(-5000, 5000, 20), rng.integers(2**20, 2**24, 20),
                                      rng.integers(28, 32, 20), strict=True):
        value = acc * multiplier / 2.0**shift
        index = element_index(512, 512)
        q = requantise(np.full(index.shape, acc), 0, multiplier, shift, stochastic=True,
                       seed=int(rng.integers(2**32)), index=index).astype(float)
        if abs(value) > 126:
            continue
        error = sqrt(max((value % 1) * (1 - value % 1), 1e-12) / index.size)
        assert abs(q.mean() - value) < LIMIT * error + 1e-6, f"{acc} * {multiplier} >> {shift}"


def test_element_index_is_modulo_2_to_32():
    assert element_index(2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert element_index(1, 1).dtype == np.uint32
