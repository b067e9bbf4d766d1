"""Random products in classes: what a campaign multiplies."""

import numpy as np

from backbeat.accelerator import OPS
from backbeat.measure import reference
from backbeat.program import Job
from backbeat_rtl.epilogue_model import Requantise, element_index, requantise

__all__ = ["oracle", "random_job", "random_size"]


def random_size(rng, lanes: int, largest: int) -> int:
    """Small or large evenly on a logarithmic scale, or one of the sizes at which things end."""
    if rng.random() < 0.25:
        return int(rng.choice([1, 2, lanes - 1, lanes, lanes + 1, largest - 1, largest], p=[
            .25, .15, .15, .2, .15, .05, .05]))
    return int(largest ** rng.random())


def _operand(rng, shape: tuple[int, int], low: int) -> np.ndarray:
    kind = rng.choice(["full", "edges", "extremes", "small"], p=[0.5, 0.2, 0.2, 0.1])
    values = {"full": range(low, 128), "edges": (low, -127, -1, 0, 1, 127), "extremes": (low, 127),
              "small": (-2, -1, 0, 1, 2)}[kind]
    return rng.choice(np.array(values, np.int8), shape)


def _requantise(rng, acc: np.ndarray, bias: np.ndarray) -> Requantise:
    """A scale per column: within range, on ties, or far out of range."""
    n = acc.shape[1]
    multiplier = rng.integers(2**14, 2**31, n) >> rng.integers(0, 14, n)
    scale = rng.uniform(5, 90) / (np.abs(acc + bias).max(axis=0) + 1)
    shift = np.log2(multiplier / scale).round().clip(0, 62).astype(int)
    kind = rng.choice(["in range", "ties", "saturating"], p=[0.6, 0.3, 0.1])
    if kind == "ties":
        shift = np.log2(1 / scale).round().clip(1, 30).astype(int)
        multiplier = np.full(n, 1 << int(rng.integers(0, 2)))
    elif kind == "saturating":
        shift = rng.integers(0, 63, n)
    low, high = sorted(rng.choice([-128, -127, 0, 100, 127], 2, replace=False).tolist())
    return Requantise(multiplier * rng.choice([-1, 1], n), shift, int(rng.choice([0, 0, -128, 5])),
                      str(rng.choice(["nearest", "stochastic"])), int(rng.integers(2**32)), low, high)


def random_job(rng, rows: int, columns: int, largest: int = 80, low: int = -127) -> Job:
    """A product for an array of that size.

    ``low`` is the least value in A: the array takes -127, the driver also -128.
    """
    op = str(rng.choice(OPS))
    m, n, k = (random_size(rng, lanes, largest) for lanes in (rows, columns, 8))
    a = _operand(rng, (m, k) if op[0] == "n" else (k, m), low)
    b = _operand(rng, (k, n) if op[1] == "n" else (n, k), -128)
    if rng.random() < 0.4:
        return Job(a, b, op)
    bias = rng.integers(-5000, 5000, n).astype(np.int32)
    return Job(a, b, op, bias, _requantise(rng, reference(a, b, op), bias))


def oracle(job: Job) -> np.ndarray:
    """C by NumPy's int64 arithmetic."""
    acc = reference(job.a, job.b, job.op)
    if job.spec is None:
        return acc
    multiplier, shift = job.spec.per_column(acc.shape[1])
    return requantise(acc, job.bias, multiplier, shift, zero_point=job.spec.zero_point,
                      low=job.spec.low, high=job.spec.high, seed=job.spec.seed,
                      stochastic=job.spec.rounding == "stochastic", index=element_index(*acc.shape))
