"""Random products in classes: what a campaign multiplies."""

import numpy as np

from backbeat.accelerator import OPS
from backbeat.measure import reference
from backbeat.program import Job
from backbeat_rtl.epilogue_model import Requantise, element_index, requantise

__all__ = ["oracle", "random_job", "random_size"]

#: What becomes of the sums, and how often.
RESULTS = {"int32": 0.4, "in range": 0.35, "ties": 0.15, "saturating": 0.1}


def random_size(rng, lanes: int, largest: int) -> int:
    """Evenly on a logarithmic scale, or one of the sizes at which things end."""
    if rng.random() < 0.25:
        return int(rng.choice([1, 2, lanes - 1, lanes, lanes + 1, largest - 1, largest],
                              p=[.25, .15, .15, .2, .15, .05, .05]))
    return int(largest ** rng.random())


def _sizes(rng, rows: int, columns: int, largest: int) -> list[int]:
    if rng.random() < 0.03:
        return rng.integers(largest * 3 // 4, largest, 3, endpoint=True).tolist()
    return [random_size(rng, lanes, largest) for lanes in (rows, columns, 8)]


def _operand(rng, shape: tuple[int, int], low: int, result: str) -> np.ndarray:
    values = {"full": range(low, 128), "edges": (low, -127, -1, 0, 1, 127), "extremes": (low, 127),
              "small": (-2, -1, 0, 1, 2)}
    kind = "small" if result == "ties" else rng.choice(list(values), p=[0.5, 0.2, 0.2, 0.1])
    return rng.choice(np.array(values[kind], np.int8), shape)


def _requantise(rng, sums: np.ndarray, result: str) -> Requantise:
    """A multiplier and a shift per column, of either sign."""
    n = sums.shape[1]
    multiplier = rng.integers(2**14, 2**31, n) >> rng.integers(0, 14, n)
    if result == "ties":        # halves and quarters
        shift = rng.integers(2, 31, n)
        multiplier = 1 << shift - rng.integers(1, 3, n)
    elif result == "in range":
        scale = rng.uniform(5, 90, n) / (np.abs(sums).max(axis=0) + 1)
        shift = np.log2(multiplier / scale).round().clip(0, 62).astype(int)
    else:
        shift = rng.integers(0, 63, n)
    low, high = sorted(rng.choice([-128, -127, -90, 80, 127], 2, replace=False).tolist())
    return Requantise(multiplier * rng.choice([-1, 1], n), shift, int(rng.choice([0, 0, -128, 5])),
                      str(rng.choice(["nearest", "stochastic"])), int(rng.integers(2**32)), low, high)


def random_job(rng, rows: int, columns: int, largest: int = 80, low: int = -127) -> Job:
    """A product for an array of that size.

    ``low`` is the least value in A: the array takes -127, the driver also -128.
    """
    op, result = str(rng.choice(OPS)), rng.choice(list(RESULTS), p=list(RESULTS.values()))
    m, n, k = _sizes(rng, rows, columns, largest)
    a = _operand(rng, (m, k) if op[0] == "n" else (k, m), low, result)
    b = _operand(rng, (k, n) if op[1] == "n" else (n, k), -128, result)
    if result == "int32":
        return Job(a, b, op)
    most = 20 if result == "ties" else 5000
    bias = rng.integers(-most, most, n).astype(np.int32)
    return Job(a, b, op, bias, _requantise(rng, reference(a, b, op) + bias, result))


def oracle(job: Job) -> np.ndarray:
    """C by NumPy's int64 arithmetic."""
    acc = reference(job.a, job.b, job.op)
    if job.spec is None:
        return acc
    multiplier, shift = job.spec.per_column(acc.shape[1])
    return requantise(acc, job.bias, multiplier, shift, zero_point=job.spec.zero_point,
                      low=job.spec.low, high=job.spec.high, seed=job.spec.seed,
                      stochastic=job.spec.rounding == "stochastic", index=element_index(*acc.shape))
