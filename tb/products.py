"""Random products in classes: what a campaign multiplies."""

from dataclasses import dataclass

import numpy as np

from backbeat.accelerator import OPS
from backbeat.measure import reference
from backbeat.memory import padded
from backbeat.products import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from backbeat.program import Job
from backbeat_rtl.epilogue_model import Requantise, element_index, requantise

__all__ = ["RESULTS", "Trial", "oracle", "random_convolution", "random_gemm", "random_job",
           "random_operand", "random_requantise", "random_size"]

#: What becomes of the sums, and how often.
RESULTS = {"int32": 0.4, "in range": 0.35, "ties": 0.15, "saturating": 0.1}


def random_size(rng, lanes: int, largest: int) -> int:
    """Evenly on a logarithmic scale, or one of the sizes at which things end."""
    if rng.random() < 0.25:
        return int(rng.choice([1, 2, lanes - 1, lanes, lanes + 1, largest - 1, largest],
                              p=[.25, .15, .15, .2, .15, .05, .05]))
    return int(largest ** rng.random())


def _sizes(rng, rows: int, columns: int, largest: int, deepest: int) -> list[int]:
    if rng.random() < 0.03:
        return rng.integers(largest * 3 // 4, largest, 3, endpoint=True).tolist()
    return [random_size(rng, lanes, most)
            for lanes, most in ((rows, largest), (columns, largest), (8, deepest))]


def random_operand(rng, shape: tuple[int, ...], low: int, result: str) -> np.ndarray:
    """INT8 of one of several kinds, none below ``low``; ``result`` is one of ``RESULTS``."""
    values = {"full": range(low, 128), "edges": (low, -127, -1, 0, 1, 127), "extremes": (low, 127),
              "small": (-2, -1, 0, 1, 2)}
    kind = "small" if result == "ties" else rng.choice(list(values), p=[0.5, 0.2, 0.2, 0.1])
    return rng.choice(np.array(values[kind], np.int8), shape)


def random_requantise(rng, sums: np.ndarray, result: str) -> Requantise:
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


def random_job(rng, rows: int, columns: int, largest: int = 80, low: int = -127,
               deepest: int | None = None) -> Job:
    """A product for an array of that size.

    ``low`` is the least value in A: the array takes -127, the driver also -128. ``deepest`` is the
    largest K, if not ``largest``.
    """
    op, result = str(rng.choice(OPS)), rng.choice(list(RESULTS), p=list(RESULTS.values()))
    m, n, k = _sizes(rng, rows, columns, largest, deepest or largest)
    a = random_operand(rng, (m, k) if op[0] == "n" else (k, m), low, result)
    b = random_operand(rng, (k, n) if op[1] == "n" else (n, k), -128, result)
    if result == "int32":
        return Job(a, b, op)
    most = 20 if result == "ties" else 5000
    bias = rng.integers(-most, most, n).astype(np.int32)
    return Job(a, b, op, bias, random_requantise(rng, reference(a, b, op) + bias, result))


def oracle(job: Job) -> np.ndarray:
    """C by NumPy's int64 arithmetic."""
    acc = reference(job.a, job.b, job.op)
    if job.spec is None:
        return acc
    return _requantised(acc, job.bias, job.spec, element_index(*acc.shape))


def _requantised(sums: np.ndarray, bias, spec: Requantise, index: np.ndarray) -> np.ndarray:
    multiplier, shift = spec.per_column(sums.shape[1])
    return requantise(sums, bias, multiplier, shift, zero_point=spec.zero_point, low=spec.low,
                      high=spec.high, seed=spec.seed, stochastic=spec.rounding == "stochastic",
                      index=index)


@dataclass(frozen=True)
class Trial:
    """A product as the driver takes it, what must come of it, and the largest of its sums."""

    product: object
    expected: tuple[np.ndarray, ...]
    max_abs: int

    def difference(self, result) -> str:
        """Where the driver's result is another; empty if nowhere."""
        results = result if isinstance(result, tuple) else (result,)
        assert len(results) == len(self.expected)
        for name, got, expected in zip(("C", "the sums"), results, self.expected, strict=False):
            if got.shape != expected.shape or got.dtype != expected.dtype:
                return (f"{name} is {got.dtype} of shape {got.shape}, expected {expected.dtype} of "
                        f"{expected.shape}")
            if not np.array_equal(got, expected):
                where = tuple(np.argwhere(got != expected)[0].tolist())
                return f"{name}{list(where)} is {got[where]}, expected {expected[where]}"
        return ""

    def __str__(self):
        p = self.product
        sizes = {name: getattr(p, name).shape for name in ("a", "b", "x", "w", "dy") if hasattr(p, name)}
        rest = {name: value for name, value in vars(p).items()
                if name not in sizes and name != "bias" and value is not None}
        return f"{type(p).__name__} of {sizes}, {rest}"


def random_gemm(rng, rows: int, columns: int, largest: int, deepest: int) -> Trial:
    """Some with the sums of their columns."""
    job = random_job(rng, rows, columns, largest, -128, deepest)
    c, sums = oracle(job), bool(rng.random() < 0.25)
    expected = (c, c.sum(axis=0, dtype=np.int64).astype(np.int32)) if sums else (c,)
    acc = reference(job.a, job.b, job.op).astype(np.int64)
    return Trial(Gemm(job.a, job.b, job.op, job.bias, job.spec, sums), expected,
                 int(np.abs(acc).max()))


def random_convolution(rng, largest: int) -> Trial:
    """A convolution or a gradient; ``largest``: of images and channels, about."""
    n, h, w, channels, filters = (random_size(rng, 8, most) for most in (4, *(largest,) * 4))
    kernel, padding = rng.integers(1, 5, 2).tolist(), rng.integers(0, 3, 2).tolist()
    stride, dilation = rng.choice([1, 1, 2, 3], 2).tolist(), rng.choice([1, 1, 2], 2).tolist()
    # The smallest image that the kernel fits, or a larger one.
    h, w = (max(size, d * (taps - 1) + 1 - 2 * pad)
            for size, d, taps, pad in zip((h, w), dilation, kernel, padding, strict=True))
    result = str(rng.choice(list(RESULTS), p=list(RESULTS.values())))
    grid = [(size + 2 * pad - d * (taps - 1) - 1) // step + 1 for size, pad, d, taps, step in zip(
        (h, w), padding, dilation, kernel, stride, strict=True)]
    x, weights, dy = (random_operand(rng, shape, -128, result) for shape in (
        (n, h, w, channels), (filters, *kernel, channels), (n, *grid, filters)))
    options = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation)}
    taps = _Taps(grid, kernel, **options)
    kind = int(rng.integers(3))
    sums = (taps.forward(x, weights), taps.input_gradient(dy, weights, (h, w)),
            taps.weight_gradient(dy, x))[kind]
    expected, rest = sums, {}
    if result != "int32":
        matrix = sums.reshape(filters, -1) if kind == 2 else sums.reshape(-1, sums.shape[3])
        bias, index = np.zeros(matrix.shape[1], np.int32), element_index(*matrix.shape)
        if kind == 2:       # channels that fill up a word are counted too
            pixels = kernel[0] * kernel[1]
            index = element_index(filters, pixels * padded(channels)).reshape(filters, pixels, -1)
            index = index[..., :channels].reshape(matrix.shape)
        else:
            bias += rng.integers(-20, 20, bias.size).astype(np.int32) * (1 if result == "ties" else 250)
            rest["bias"] = bias
        rest["requantize"] = spec = random_requantise(rng, matrix + bias, result)
        expected = _requantised(matrix, bias, spec, index).reshape(sums.shape)
    product, operands = ((Conv2d, (x, weights)), (Conv2dInputGradient, (dy, weights, (h, w))),
                         (Conv2dWeightGradient, (dy, x, tuple(kernel))))[kind]
    return Trial(product(*operands, **options, **rest), (expected,),
                 int(np.abs(sums.astype(np.int64)).max()))


class _Taps:
    """Convolutions one tap after the other, by float64: exact, as every sum is below 2^53."""

    def __init__(self, grid, kernel, stride, padding, dilation):
        self.grid, self.kernel, self.padding = grid, kernel, padding
        self.places = [(r, s, tuple(slice(tap * d, tap * d + (size - 1) * step + 1, step)
                                    for tap, d, size, step in zip((r, s), dilation, grid, stride,
                                                                  strict=True)))
                       for r in range(kernel[0]) for s in range(kernel[1])]

    def _padded(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x.astype(np.float64), ((0, 0), *((p, p) for p in self.padding), (0, 0)))

    def forward(self, x, w) -> np.ndarray:
        x, w = self._padded(x), w.astype(np.float64)
        return sum(x[:, ys, xs] @ w[:, r, s].T for r, s, (ys, xs) in self.places).astype(np.int32)

    def input_gradient(self, dy, w, size) -> np.ndarray:
        out = self._padded(np.zeros((len(dy), *size, w.shape[3]), np.int8))
        for r, s, (ys, xs) in self.places:
            out[:, ys, xs] += dy.astype(np.float64) @ w[:, r, s]
        (top, left), (height, width) = self.padding, size
        return out[:, top:top + height, left:left + width].astype(np.int32)

    def weight_gradient(self, dy, x) -> np.ndarray:
        x, dy = self._padded(x), dy.astype(np.float64)
        out = np.zeros((dy.shape[3], *self.kernel, x.shape[3]))
        for r, s, (ys, xs) in self.places:
            out[:, r, s] = np.tensordot(dy, x[:, ys, xs], ((0, 1, 2), (0, 1, 2)))
        return out.astype(np.int32)
