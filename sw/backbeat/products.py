"""What an accelerator can be asked for: checked, and made legal for the array."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from backbeat_rtl.epilogue_model import Requantise
from backbeat_rtl.isa import MAX_DIMENSION, MAX_K

from .gather import Gather, Pair
from .memory import padded
from .program import Job
from .resident import Kept, Placed

__all__ = ["OPS", "Bmm", "Conv2d", "Conv2dInputGradient", "Conv2dWeightGradient", "Gemm", "Lowered"]

#: A as stored (M, K) or, "t", (K, M); B as stored (K, N) or, "t", (N, K).
OPS = ("nn", "nt", "tn", "tt")


#: An array, or what lies in device memory.
Operand = np.ndarray | Placed


@dataclass(frozen=True)
class Lowered:
    """A job for a backend, how C becomes the product's result, the MACs that were asked for, and how the
    result lies in device memory if it is to stay there."""

    job: Job
    finish: Callable[[np.ndarray], np.ndarray]
    macs: int
    kept: Kept


def _operand(name: str, value, dimensions: int) -> Operand:
    if not isinstance(value, np.ndarray | Placed):
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(value).__name__}")
    if value.dtype != np.int8:
        raise TypeError(f"{name} must have dtype int8, got {value.dtype}")
    if value.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, got shape {value.shape}")
    if not value.size:
        raise ValueError(f"{name} must not be empty, got shape {value.shape}")
    return value


def _matrix(name: str, value) -> Operand:
    if isinstance(_operand(name, value, 2), np.ndarray) and not value.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous (row-major), got strides {value.strides}; "
                         f"use op instead of a transposed view, or numpy.ascontiguousarray")
    return value


def _bias(value, n: int):
    if not isinstance(value, np.ndarray) or value.dtype != np.int32:
        raise TypeError("bias must be a numpy.ndarray of dtype int32, got "
                        f"{getattr(value, 'dtype', type(value).__name__)}")
    if value.shape != (n,):
        raise ValueError(f"bias must have shape ({n},), one value per column of C, "
                         f"got {value.shape}")


def _epilogue(bias, requantize, n: int):
    if requantize is None and bias is not None:
        raise ValueError("bias needs requantize: an INT32 result is the bare product")
    if requantize is not None:
        if not isinstance(requantize, Requantise):
            raise TypeError(f"requantize must be a Requantise, got {type(requantize).__name__}")
        requantize.per_column(n)
        if bias is not None:
            _bias(bias, n)


def _sizes(names: str, m: int, n: int, k: int):
    if k > MAX_K:
        raise ValueError(f"{names} must have K of at most {MAX_K} so that INT32 cannot "
                         f"overflow, got K={k}; split the product and add the parts")
    if max(m, n) > MAX_DIMENSION:
        raise ValueError(f"{names} must have M and N of at most {MAX_DIMENSION}, got M={m}, N={n}")


def _swapped(op: str) -> str:
    """The op of the transposed product: ``C.T = op(B).T @ op(A).T``."""
    return ("n" if op[1] == "t" else "t") + ("t" if op[0] == "n" else "n")


def _lowest(x: Operand) -> bool:
    """Whether there is a -128."""
    return x.has_minimum() if isinstance(x, Placed) else bool((x == -128).any())


def _on_host(x: Operand) -> np.ndarray:
    return x.array() if isinstance(x, Placed) else x


def _split(a: Operand, b: Operand, a_axis: int, b_axis: int) -> tuple[Operand, Operand]:
    """The same product with no -128 in ``a``, which the packed side of the array does not take.

    ``a`` becomes its clamped part and the -1 that is missing where -128 was: those steps of K (indices
    along ``a_axis`` and ``b_axis``) are appended once more, so accumulators and epilogue see nothing of
    it. What lies in device memory is taken back for it.
    """
    if not _lowest(a):
        return a, b
    a, b = _on_host(a), _on_host(b)
    low = a == -128
    steps = np.flatnonzero(low.any(axis=tuple(i for i in range(a.ndim) if i != a_axis)))
    rest = -np.take(low, steps, axis=a_axis).astype(np.int8)
    return (np.concatenate([np.maximum(a, -127), rest], axis=a_axis),
            np.concatenate([b, np.take(b, steps, axis=b_axis)], axis=b_axis))


def _pixels(x: Operand, channels: int, axis: int = -1) -> Operand:
    """``x`` in row-major order, filled up with zeros to so many channels along ``axis``.

    Behind what lies in device memory may be anything if ``axis`` is 0: that meets zeros of the other
    operand.
    """
    if isinstance(x, Placed):
        filled = x.filled(channels) if axis == -1 else x.filled(x.shape[-1], channels)
        if filled is not None:
            return filled
        x = x.array()
    missing = channels - x.shape[axis]
    if not missing:
        return np.ascontiguousarray(x)
    width = [(0, 0)] * x.ndim
    width[axis] = (0, missing)
    return np.pad(x, width)


def _rows(x: Operand, rows: int) -> Operand:
    """``x`` as a matrix of so many rows."""
    if isinstance(x, Placed):
        matrix = x.matrix(rows)
        if matrix is not None:
            return matrix
        x = x.array()
    return np.ascontiguousarray(x).reshape(rows, -1)


def _kept(shape: tuple[int, ...], spec: Requantise | None, pixel: int | None = None) -> Kept:
    """A result that is the matrix C, or of whose channels ``pixel`` are stored."""
    kind = np.dtype(np.int32 if spec is None else np.int8)
    pitch = None if pixel is None else pixel * kind.itemsize
    # A column of no channel is an accumulator of 0 with the multiplier 0.
    clean = pixel in (None, shape[-1]) or spec is None or min(max(spec.zero_point, spec.low),
                                                              spec.high) == 0
    return Kept(shape, kind, pitch, clean, None if spec is not None and spec.low == -128 else False)


def _per_pixel(spec: Requantise, n: int, channels: int, pixel: int) -> Requantise:
    """The same of ``n`` columns (tap, channel) whose channels have been filled up to ``pixel``."""
    if pixel == channels:
        return spec
    multiplier, shift = (np.pad(v.reshape(-1, channels), ((0, 0), (0, pixel - channels))).reshape(-1)
                         for v in spec.per_column(n))
    return replace(spec, multiplier=multiplier, shift=shift)


def _op(op: str) -> str:
    if op not in OPS:
        raise ValueError(f"op must be one of {', '.join(OPS)}, got {op!r}")
    return op


def _agreed(job: Job) -> tuple[int, int, int]:
    """M, N, K of matrices that fit each other."""
    m, n, k = job.shape
    k_b = job.stored[1][0 if job.b_across else 1]
    if k != k_b:
        raise ValueError(f"a and b must agree in K for op {job.op!r}: a has shape {job.a.shape} "
                         f"(K={k}), b has shape {job.b.shape} (K={k_b})")
    _sizes("a and b", m, n, k)
    return m, n, k


@dataclass(frozen=True, eq=False)
class Gemm:
    """``op(a) @ op(b)``; the parameters are those of :meth:`.Accelerator.gemm`."""

    a: Operand
    b: Operand
    op: str = "nn"
    bias: np.ndarray | None = None
    requantize: Requantise | None = None
    column_sums: bool = False
    keep: bool = False

    def lower(self, _word: int) -> Lowered:
        """See :meth:`.Accelerator.gemm` for what it raises."""
        a, b, op = _matrix("a", self.a), _matrix("b", self.b), self.op
        job = Job(a, b, _op(op), self.bias, self.requantize, bool(self.column_sums))
        m, n, k = _agreed(job)
        _epilogue(self.bias, self.requantize, n)
        kept = _kept((m, n), self.requantize)
        if job.spec is None and not job.sums and not self.keep and _lowest(a) and not _lowest(b):
            # Only A has a -128: the operands change sides.
            return Lowered(Job(b, a, _swapped(op)), lambda c: np.ascontiguousarray(c.T), m * n * k, kept)
        a, b = _split(a, b, 0 if job.a_across else 1, 0 if job.b_across else 1)
        return Lowered(replace(job, a=a, b=b), lambda c: c, m * n * k, kept)


@dataclass(frozen=True, eq=False)
class Bmm:
    """A batch of products; the parameters are those of :meth:`.Accelerator.bmm`."""

    a: Operand
    b: Operand
    op: str = "nn"
    keep: bool = False

    def lower(self, _word: int) -> Lowered:
        """See :meth:`.Accelerator.bmm` for what it raises."""
        a, b = (x if isinstance(x, Placed) else np.ascontiguousarray(x)
                for x in (_operand(name, value, 3) for name, value in (("a", self.a), ("b", self.b))))
        job = Job(a, b, _op(self.op))
        if len(a) != len(b):
            raise ValueError(f"a and b must agree in their batch: a has shape {a.shape}, b {b.shape}")
        m, n, k = _agreed(job)
        a, b = _split(a, b, 1 if job.a_across else 2, 1 if job.b_across else 2)
        return Lowered(replace(job, a=a, b=b), lambda c: c, job.batch * m * n * k,
                       _kept((job.batch, m, n), None))


def _pair(name: str, value, least: int) -> Pair:
    pair = (value, value) if isinstance(value, int) else value
    if (not isinstance(pair, tuple | list) or len(pair) != 2
            or not all(isinstance(v, int | np.integer) and v >= least for v in pair)):
        raise ValueError(f"{name} must be an int of at least {least} or a pair of them, got {value!r}")
    return int(pair[0]), int(pair[1])


@dataclass(frozen=True)
class Geometry:
    """A convolution's sizes: image, kernel, and how the one moves over the other."""

    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @classmethod
    def of(cls, size: Pair, kernel: Pair, stride, padding, dilation) -> "Geometry":
        out = cls(size, kernel, _pair("stride", stride, 1), _pair("padding", padding, 0),
                  _pair("dilation", dilation, 1))
        if min(out.out) < 1:
            raise ValueError(f"a kernel of {kernel} with dilation {out.dilation} must fit images of "
                             f"{size} with padding {out.padding}")
        return out

    @property
    def out(self) -> Pair:
        """P, Q."""
        return tuple((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
                     for size, kernel, stride, padding, dilation in zip(
                         self.size, self.kernel, self.stride, self.padding, self.dilation,
                         strict=True))

    @property
    def patches(self) -> Gather:
        """What each output pixel sees of the images."""
        return Gather(self.out, self.kernel, self.stride, self.dilation,
                      tuple(-p for p in self.padding))

    @property
    def transposed(self) -> Gather:
        """What each image pixel sees of the output, the last tap first: the stride's gaps are zeros."""
        origin = tuple(padding - dilation * (kernel - 1) for padding, dilation, kernel in zip(
            self.padding, self.dilation, self.kernel, strict=True))
        return Gather(self.size, self.kernel, (1, 1), self.dilation, origin, self.stride)

    def spread(self, channels: int, word: int) -> bool:
        """Whether few channels, filled up, are so much more than their patches are: the patches are
        made here then. The core would read and multiply the filling once for every tap."""
        taps = self.kernel[0] * self.kernel[1]
        return taps * padded(channels, word) >= 2 * padded(taps * channels, word)

    def check(self, name: str, value: Operand, images: int):
        if value.shape[:3] != (images, *self.out):
            raise ValueError(f"{name} must have shape ({images}, {self.out[0]}, {self.out[1]}, K) for "
                             f"images of {self.size} and a kernel of {self.kernel}, got {value.shape}")


@dataclass(frozen=True, eq=False)
class Conv2d:
    """A convolution; the parameters are those of :meth:`.Accelerator.conv2d`."""

    x: Operand
    w: Operand
    stride: "int | Pair" = 1
    padding: "int | Pair" = 0
    dilation: "int | Pair" = 1
    bias: np.ndarray | None = None
    requantize: Requantise | None = None
    keep: bool = False

    def lower(self, word: int) -> Lowered:
        """``word``: channels are filled up to a multiple of it."""
        x, w = _operand("x", self.x, 4), _operand("w", self.w, 4)
        if x.shape[3] != w.shape[3]:
            raise ValueError(f"x and w must agree in C: x has shape {x.shape} (N, H, W, C), w has "
                             f"shape {w.shape} (K, R, S, C)")
        filters, *kernel, channels = w.shape
        geometry = Geometry.of(x.shape[1:3], tuple(kernel), self.stride, self.padding, self.dilation)
        p, q = geometry.out
        m, k = len(x) * p * q, kernel[0] * kernel[1] * channels
        _sizes("x and w", m, filters, k)
        _epilogue(self.bias, self.requantize, filters)
        x, w = _split(x, w, 3, 3)
        gather = geometry.patches
        if geometry.spread(x.shape[3], word) and not isinstance(x, Placed):
            x, w, gather = gather.matrix(x), _on_host(w), None
        else:
            pixel = padded(x.shape[3], word)
            x, w = _pixels(x, pixel), _pixels(w, pixel)
        job = Job(x, _rows(w, filters), "nt", self.bias, self.requantize, gather_a=gather)
        return Lowered(job, lambda c: c.reshape(-1, p, q, filters), m * filters * k,
                       _kept((m // (p * q), p, q, filters), self.requantize))


@dataclass(frozen=True, eq=False)
class Conv2dInputGradient:
    """The gradient of a convolution's input; the parameters are those of
    :meth:`.Accelerator.conv2d_input_gradient`."""

    dy: Operand
    w: Operand
    size: "int | Pair"
    stride: "int | Pair" = 1
    padding: "int | Pair" = 0
    dilation: "int | Pair" = 1
    bias: np.ndarray | None = None
    requantize: Requantise | None = None
    keep: bool = False

    def lower(self, word: int) -> Lowered:
        """``word``: channels are filled up to a multiple of it."""
        dy, w = _operand("dy", self.dy, 4), _operand("w", self.w, 4)
        if dy.shape[3] != len(w):
            raise ValueError(f"dy and w must agree in K: dy has shape {dy.shape} (N, P, Q, K), w has "
                             f"shape {w.shape} (K, R, S, C)")
        filters, *kernel, channels = w.shape
        h, width = size = _pair("size", self.size, 1)
        geometry = Geometry.of(size, tuple(kernel), self.stride, self.padding, self.dilation)
        geometry.check("dy", dy, len(dy))
        m, k = len(dy) * h * width, kernel[0] * kernel[1] * filters
        _sizes("dy and w", m, channels, k)
        _epilogue(self.bias, self.requantize, channels)
        dy, w = _split(dy, w, 3, 0)
        pixel = padded(len(w), word)
        dy = _pixels(dy, pixel)
        w = _pixels(_pixels(w, pixel, 0), padded(channels, word))
        job = Job(dy, w, "nn", self.bias, self.requantize, gather_a=geometry.transposed,
                  filters=channels)
        return Lowered(job, lambda c: c.reshape(-1, h, width, channels), m * channels * k,
                       _kept((len(dy), h, width, channels), self.requantize))


@dataclass(frozen=True, eq=False)
class Conv2dWeightGradient:
    """The gradient of a convolution's weight; the parameters are those of
    :meth:`.Accelerator.conv2d_weight_gradient`."""

    dy: Operand
    x: Operand
    kernel: "int | Pair"
    stride: "int | Pair" = 1
    padding: "int | Pair" = 0
    dilation: "int | Pair" = 1
    requantize: Requantise | None = None
    keep: bool = False

    def lower(self, word: int) -> Lowered:
        """``word``: channels are filled up to a multiple of it."""
        dy, x = _operand("dy", self.dy, 4), _operand("x", self.x, 4)
        kernel = _pair("kernel", self.kernel, 1)
        geometry = Geometry.of(x.shape[1:3], kernel, self.stride, self.padding, self.dilation)
        geometry.check("dy", dy, len(x))
        filters, channels = dy.shape[3], x.shape[3]
        m, n, k = filters, kernel[0] * kernel[1] * channels, dy.size // filters
        _sizes("dy and x", m, n, k)
        _epilogue(None, self.requantize, n)
        dy, x = _split(dy, x, 0, 0)
        dy = _rows(dy, dy.size // filters)
        pixel = padded(channels, word)
        shape = filters, *kernel, channels
        kept = _kept(shape, self.requantize, pixel)
        if (self.requantize is None and geometry.spread(channels, word) and not self.keep
                and not isinstance(x, Placed)):
            job = Job(dy, geometry.patches.matrix(x), "tn")
            return Lowered(job, lambda c: c.reshape(shape), m * n * k, kept)
        x = _pixels(x, pixel)
        spec = None if self.requantize is None else _per_pixel(self.requantize, n, channels, pixel)
        job = Job(dy, x, "tn", spec=spec, gather_b=geometry.patches)
        return Lowered(
            job, lambda c: np.ascontiguousarray(c.reshape(*shape[:3], -1)[..., :channels]), m * n * k,
            kept)
