"""Linear and Conv2d whose three products run on an accelerator."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .patches import Patches, Window
from .site import Product, Site

__all__ = ["OffloadedConv2d", "OffloadedLinear"]


class _MatMul(torch.autograd.Function):
    """``Y[M, N] = X[M, K] @ W[N, K].T`` and its two gradients, all from tensors as they lie."""

    @staticmethod
    def forward(ctx, x, weight, site: Site, use: tuple[int, int] | None):
        ctx.save_for_backward(x, weight)
        ctx.site, ctx.use = site, use
        return site.product(Product.FORWARD, x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = ctx.site.product(Product.INPUT_GRADIENT, dy, weight, ctx.use)
        if ctx.needs_input_grad[1]:
            dw = ctx.site.product(Product.WEIGHT_GRADIENT, dy, x, ctx.use)
        return dx, dw, None, None


def _product(rows: torch.Tensor, layer: "OffloadedLinear | OffloadedConv2d") -> torch.Tensor:
    """[M, K] times the layer's weight, plus its bias in FP32."""
    site = layer.site
    # Evaluation must not move on the draws of the step that it interrupts.
    use = site.state.use(site.layer) if torch.is_grad_enabled() else None
    y = _MatMul.apply(rows, layer.weight.flatten(1), site, use)
    return y if layer.bias is None else y + layer.bias


class OffloadedLinear(nn.Linear):
    """``nn.Linear`` with a ``site``."""

    def forward(self, x):
        y = _product(x.reshape(-1, x.shape[-1]), self)
        return y.view(*x.shape[:-1], self.out_features)


class OffloadedConv2d(nn.Conv2d):
    """``nn.Conv2d`` of one group with a ``site``. Its output lies in channels-last order."""

    def forward(self, x):
        images = x if x.dim() == 4 else x.unsqueeze(0)
        padding = self._reversed_padding_repeated_twice     # what Conv2d itself gives to F.pad
        if any(padding):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            images = F.pad(images, padding, mode=mode)
        window = Window(tuple(images.shape), self.kernel_size, self.stride, self.dilation)
        y = _product(Patches.apply(images, window), self)
        y = y.view(len(images), *window.out, self.out_channels).permute(0, 3, 1, 2)
        return y if x.dim() == 4 else y.squeeze(0)
