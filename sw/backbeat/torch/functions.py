"""Matrix products and convolutions, forward and backward, through INT8."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from backbeat_rtl.isa import MAX_K

from ..products import Bmm, Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from .quantise import Quantised
from .site import Making, Product, Site

__all__ = ["Convolution", "MatMul", "Window"]


def _terms(a: Quantised, b: Quantised, make) -> list:
    """All products of a part of one and a part of the other."""
    return [(fa * fb, make(x, y)) for fa, x in a.parts for fb, y in b.parts]


class MatMul(torch.autograd.Function):
    """``A[..., M, K] @ B[..., K, N]``, or with ``across`` ``A @ B.mT`` of B [..., N, K].

    Of two or three dimensions, both the same. Both gradients come from the tensors as they lie.
    """

    @staticmethod
    def forward(ctx, a, b, site: Site, use: tuple[int, int] | None, across: bool):
        ctx.save_for_backward(a, b)
        ctx.site, ctx.use, ctx.across = site, use, across
        y, = site.make(_matmul(site, Product.FORWARD, a, b, "nt" if across else "nn", None))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        a, b = ctx.saved_tensors
        site, use = ctx.site, ctx.use
        da = db = None
        if ctx.needs_input_grad[0]:
            da = _matmul(site, Product.INPUT_GRADIENT, dy, b, "nn" if ctx.across else "nt", use)
        if ctx.needs_input_grad[1]:
            db = (_matmul(site, Product.WEIGHT_GRADIENT, dy, a, "tn", use) if ctx.across
                  else _matmul(site, Product.WEIGHT_GRADIENT, a, dy, "tn", use, (1, 0)))
        return *site.make(da, db), None, None, None


def _matmul(site: Site, product: Product, a, b, op: str, use, sides=(0, 1)) -> Making:
    """``op(A) @ op(B)``; ``sides``: which operand of the product each of them is."""
    axes = (-1 if op[0] == "n" else -2), (-2 if op[1] == "n" else -1)
    qa = site.quantised(product, sides[0], a, axes[0], use)
    qb = site.quantised(product, sides[1], b, axes[1], use)
    kind = Gemm if a.dim() == 2 else Bmm
    edges = range(MAX_K, a.shape[axes[0]], MAX_K)

    def parts(q: Quantised, axis: int):
        return [Quantised(tuple((factor, np.ascontiguousarray(piece)) for factor, piece in pieces), None)
                for pieces in zip(*([(factor, piece) for piece in np.split(values, edges, axis)]
                                    for factor, values in q.parts), strict=True)]

    pairs = [(qa, qb)]
    if edges:       # the sum is too long for INT32
        pairs = zip(parts(qa, axes[0]), parts(qb, axes[1]), strict=True)
    sa, sb = (q.scales if axis == wanted else q.scales.mT
              for q, axis, wanted in ((qa, axes[0], -1), (qb, axes[1], -2)))
    return Making([[term for x, y in pairs for term in _terms(x, y, lambda u, v: kind(u, v, op))]],
                  lambda c: c.mul_(sa).mul_(sb))


@dataclass(frozen=True)
class Window:
    """How a kernel moves over images (H, W). All pairs are (y, x)."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int = 1

    @property
    def out(self) -> tuple[int, int]:
        """P, Q."""
        return tuple((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
                     for size, kernel, stride, padding, dilation in zip(
                         self.size, self.kernel, self.stride, self.padding, self.dilation,
                         strict=True))

    @property
    def moves(self) -> dict:
        """What a product of the accelerator wants to know of it."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


class Convolution(torch.autograd.Function):
    """Images [N, H, W, C] and filters [K, C / groups, R, S] to [N, P, Q, K], or with ``transposed``
    the other way round: [N, P, Q, K] to [N, H, W, C].

    What is returned is no view: PyTorch would not let an activation work on one in place.

    A gathered row has no scale of its own, for no row is ever made. What is constant along the sum
    is the image and the filter forwards; the image and the channel of the filters in the gradient of
    the images; the filter and the channel in that of the filters. Each tensor is quantised once.
    """

    @staticmethod
    def forward(ctx, x, w, site: Site, use: tuple[int, int] | None, window: Window, transposed: bool):
        ctx.save_for_backward(x, w)
        ctx.site, ctx.use, ctx.window, ctx.transposed = site, use, window, transposed
        y, = site.make((_spread if transposed else _correlate)(
            site, Product.FORWARD, x, w, window, None))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        site, window, use = ctx.site, ctx.window, ctx.use
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = (_correlate if ctx.transposed else _spread)(
                site, Product.INPUT_GRADIENT, dy, w, window, use)
        if ctx.needs_input_grad[1]:
            dw = (_gradient(site, x, dy, window, use, (1, 0)) if ctx.transposed
                  else _gradient(site, dy, x, window, use, (0, 1)))
        return *site.make(dx, dw), None, None, None, None


def _pixels(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Images [N, H, W, C] as [N, H, W, groups, C / groups]."""
    return x.contiguous().unflatten(-1, (groups, -1))


def _filters(w: torch.Tensor, groups: int) -> torch.Tensor:
    """Filters [K, C / groups, R, S] as [groups, K / groups, R, S, C / groups]."""
    return w.permute(0, 2, 3, 1).contiguous().unflatten(0, (groups, -1))


def _group(q: Quantised, axis: int, number: int) -> Quantised:
    """One group's slice."""
    return Quantised(tuple((factor, np.take(values, number, axis) if values.shape[axis] > 1
                            else values.reshape(np.delete(values.shape, axis)))
                           for factor, values in q.parts), None)


def _images(site: Site, product: Product, x, w, window: Window, use, w_axes, make) -> Making:
    """A product whose result is images: each a scale of its own, and one per channel of the result."""
    groups = window.groups
    qx = site.quantised(product, 0, _pixels(x, groups), (1, 2, 4), use)
    qw = site.quantised(product, 1, _filters(w, groups), w_axes, use)

    def finish(*sums):
        sx = qx.scales.expand(-1, -1, -1, groups, -1)
        sw = qw.scales.reshape(len(qw.scales), -1).expand(groups, -1)
        for g, y in enumerate(sums):
            y.mul_(sx[:, :, :, g]).mul_(sw[g])
        return sums[0] if groups == 1 else torch.cat(sums, 3)

    return Making([_terms(_group(qx, 3, g), _group(qw, 0, g), make) for g in range(groups)], finish)


def _correlate(site: Site, product: Product, x, w, window: Window, use) -> Making:
    """[N, H, W, C] to [N, P, Q, K]."""
    return _images(site, product, x, w, window, use, (2, 3, 4),
                   lambda a, b: Conv2d(a, b, **window.moves))


def _spread(site: Site, product: Product, dy, w, window: Window, use) -> Making:
    """[N, P, Q, K] to [N, H, W, C]."""
    return _images(site, product, dy, w, window, use, (1, 2, 3),
                   lambda a, b: Conv2dInputGradient(a, b, window.size, **window.moves))


def _gradient(site: Site, dy, x, window: Window, use, sides: tuple[int, int]) -> Making:
    """[N, P, Q, K] and [N, H, W, C] to [K, C / groups, R, S]."""
    product, groups = Product.WEIGHT_GRADIENT, window.groups
    qy = site.quantised(product, sides[0], _pixels(dy, groups), (0, 1, 2), use)
    qx = site.quantised(product, sides[1], _pixels(x, groups), (0, 1, 2), use)
    p, q = window.out
    images = MAX_K // (p * q)       # as many as INT32 can sum up

    def parts(a, b):
        return [(factor, Conv2dWeightGradient(u[n:n + images], v[n:n + images], window.kernel,
                                              **window.moves))
                for n in range(0, len(dy), images) for factor, u, v in (
                    (fa * fb, u, v) for fa, u in a.parts for fb, v in b.parts)]

    def finish(*sums):
        dw = torch.stack(sums)          # [groups, K / groups, R, S, C / groups]
        dw.mul_(qy.scales.reshape(qy.scales.shape[3], -1, 1, 1, 1))
        dw.mul_(qx.scales.reshape(qx.scales.shape[3], 1, 1, 1, -1))
        return dw.flatten(0, 1).permute(0, 3, 1, 2)

    return Making([parts(_group(qy, 3, g), _group(qx, 3, g)) for g in range(groups)], finish)
