"""A product of a workload with random operands, to be run and held against NumPy or PyTorch."""

import math

import numpy as np

from backbeat_rtl.epilogue_model import Requantise, element_index, requantise

from .memory import padded
from .products import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from .workloads import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Product

__all__ = ["Trial"]

_CONVOLUTIONS = {FORWARD: Conv2d, INPUT_GRADIENT: Conv2dInputGradient,
                 WEIGHT_GRADIENT: Conv2dWeightGradient}


class Trial:
    """A product with random operands, as the driver takes it, and what it must return.

    Parameters
    ----------
    product : Product
    int8 : bool
        Requantised, one scale for the tensor, stochastically; else INT32.
    rng : numpy.random.Generator
    """

    def __init__(self, product: Product, int8: bool, rng: np.random.Generator):
        self.product, g = product, product.geometry
        if g is None:
            m, n, k = product.m, product.n, product.k
            shapes = ((m, k) if product.op[0] == "n" else (k, m),
                      (k, n) if product.op[1] == "n" else (n, k))
        else:
            shapes = {FORWARD: (g.x, g.w), INPUT_GRADIENT: (g.y, g.w)}.get(product.kind, (g.y, g.x))
        self.a, self.b = (rng.integers(-127, 128, shape, dtype=np.int8) for shape in shapes)
        self.spec = None
        if int8:
            # The sums have a deviation of 127^2 / 3 * sqrt(K): bring that to about a third of 127.
            shift = 20 + math.ceil(math.log2(127 * math.sqrt(product.k)))
            self.spec = Requantise(1 << 20, shift, rounding="stochastic",
                                   seed=int(rng.integers(2**32)))

    def job(self):
        """What ``Accelerator.run`` takes."""
        p, g = self.product, self.product.geometry
        options = {} if self.spec is None else {"requantize": self.spec}
        if g is None:
            return Gemm(self.a, self.b, p.op, **options)
        options |= {"stride": g.stride, "padding": g.padding, "dilation": g.dilation}
        size = {INPUT_GRADIENT: (g.height, g.width), WEIGHT_GRADIENT: (g.taps_y, g.taps_x)}
        return _CONVOLUTIONS[p.kind](self.a, self.b, *((size[p.kind],) if p.kind in size else ()),
                                     **options)

    def expected(self) -> np.ndarray:
        """The result by float64 arithmetic of NumPy or PyTorch: exact, as every sum is below 2^53."""
        p = self.product
        if p.geometry is None:
            a, b = (x.astype(np.float64) for x in (self.a, self.b))
            c = (a.T if p.op[0] == "t" else a) @ (b.T if p.op[1] == "t" else b)
        else:
            c = _convolution(p, self.a, self.b)
        acc = c.astype(np.int32)
        if self.spec is None:
            return acc
        index = element_index(p.m, p.n)
        if p.kind == WEIGHT_GRADIENT and p.geometry is not None:
            # The core counts channels that fill up a word too.
            channels = p.geometry.channels
            pixels, pixel = p.n // channels, padded(channels)
            index = element_index(p.m, pixels * pixel).reshape(p.m, pixels, pixel)[..., :channels]
        q = requantise(acc.reshape(p.m, p.n), 0, self.spec.multiplier, self.spec.shift, stochastic=True,
                       seed=self.spec.seed, index=index.reshape(p.m, p.n))
        return q.reshape(acc.shape)


def _convolution(p: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PyTorch's convolution or gradient of it; channels last, as the driver has them."""
    import torch
    from torch.nn.functional import conv2d
    from torch.nn.grad import conv2d_input, conv2d_weight

    g = p.geometry
    # Channels last and first: images (N, H, W, C) and (N, C, H, W), filters likewise.
    a, b = (torch.from_numpy(x).double().permute(0, 3, 1, 2) for x in (a, b))
    options = {"stride": g.stride, "padding": g.padding, "dilation": g.dilation}
    if p.kind == FORWARD:
        c = conv2d(a, b, **options)
    elif p.kind == INPUT_GRADIENT:
        c = conv2d_input((g.batch, g.channels, g.height, g.width), b, a, **options)
    else:
        c = conv2d_weight(b, (g.filters, g.channels, g.taps_y, g.taps_x), a, **options)
    return c.permute(0, 2, 3, 1).contiguous().numpy()
