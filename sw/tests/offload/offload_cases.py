"""Layers, operands and gradients that several tests of offloading use."""

import numpy as np
import torch
from torch import nn

from backbeat.torch import offload


def relative(got, exact):
    return float(((got.detach().double() - exact).norm() / exact.norm().clamp_min(1e-30)).detach())


def spread(*shape, seed=0):
    """Normal values, rows and columns of which differ in magnitude by up to a hundredfold."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    for axis in (0, 1):
        x *= 10 ** rng.uniform(-1, 1, [n if i == axis else 1 for i, n in enumerate(shape)])
    return torch.tensor(x, dtype=torch.float32)


def run(layer, x, dy):
    """Output, and the gradients of input, weight and bias."""
    y = layer(x)
    y.backward(dy)
    return y.detach(), x.grad, layer.weight.grad, None if layer.bias is None else layer.bias.grad


def flat_gradient(size):
    """Its rows and columns all have amax 1, so that both its quantisations are of the same values."""
    dy = torch.full((size, size), 0.3)
    dy[0] = dy[:, 0] = 1
    return dy


def rounded_gradients(acc, products, dy, seed=0, step=0, layers=1, uses=1, rank=0, recipe="int8"):
    """INT8 of dY where it is not at its maximum, of each gradient product."""
    model = nn.Sequential(*(nn.Linear(len(dy), len(dy)) for _ in range(layers)))
    offload(model, acc, recipe, seed, rank=rank).state.step = step
    del products[:]
    for layer in model:
        for _ in range(uses):
            layer(torch.ones_like(dy, requires_grad=True)).backward(dy)
    return [p.a[1:, 1:].ravel().astype(float) for p in products if p.op != "nt"]


class Call(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class SelfAttention(nn.Module):
    def __init__(self, mask=False, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True, **options)
        self.mask = mask

    def forward(self, x):
        mask = torch.ones(9, 9, dtype=torch.bool).triu(1) if self.mask else None
        return self.inner(x, x, x, attn_mask=mask, need_weights=self.mask)[0]
