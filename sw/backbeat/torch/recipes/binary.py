"""As ``int8``, with weights of one bit: their sign, times the filter's mean magnitude.

The sign has no useful gradient; the straight-through estimator takes that of the identity where the
master weight is within -1...1 (Courbariaux et al. 2016; the scale is from Rastegari et al. 2016).
"""

import torch

from ..recipe import Recipe


class _Binarise(torch.autograd.Function):
    """Weights [K, ...] by their signs; gradients go straight through."""

    @staticmethod
    def forward(ctx, weight):
        ctx.save_for_backward(weight)
        magnitude = weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True)
        return torch.where(weight < 0, -magnitude, magnitude)

    @staticmethod
    def backward(ctx, gradient):
        weight, = ctx.saved_tensors
        return gradient * (weight.abs() <= 1)


RECIPE = Recipe("binary", weights=_Binarise.apply)
