"""Float tensors as INT8 with scales that are constant along the sum of a product."""

from dataclasses import dataclass
from math import gcd, prod

import numpy as np
import torch

from .recipe import Operand

__all__ = ["Quantised", "fractions", "quantise", "quantised"]

#: Of the two INT8 values that make one of 16 bits: ``high * _BASE + low``, neither of them -128.
_BASE = 254
_LEVELS = {8: 127, 16: 127 * _BASE + 126}


def fractions(shape: tuple[int, ...], key: tuple[int, int], counter: tuple[int, int, int]):
    """Uniform numbers in [0, 1), steps of 2**-24: all that a float32 sum can tell apart.

    Philox is counter-based: the number of an element is a function of key, counter and the
    element's index alone, whatever has been drawn before.

    Parameters
    ----------
    shape : tuple of int
    key : two integers below 2**64
    counter : three integers below 2**64
        The fourth, lowest one counts the elements.

    Returns
    -------
    float32 tensor of that shape
    """
    count = prod(shape)
    generator = np.random.Philox(key=np.array(key, dtype=np.uint64),
                                 counter=np.array((0, *counter), dtype=np.uint64))
    bits = generator.random_raw((count + 1) // 2).view(np.uint32)[:count]
    bits >>= 8
    return torch.from_numpy(bits.view(np.int32)).to(torch.float32).mul_(2.0**-24).view(shape)


def _largest(x: torch.Tensor, dim: "int | tuple[int, ...]") -> torch.Tensor:
    """``x.abs().amax(dim, keepdim=True)``, quickly also where rows are short."""
    magnitude = x.abs()
    dims = (dim,) if isinstance(dim, int) else dim
    if dims != tuple(range(len(dims))) or len(dims) == x.dim() or not x.is_contiguous():
        return magnitude.amax(dim, keepdim=True)
    # Down long columns of short rows PyTorch takes ten times as long as of long ones.
    rows = prod(x.shape[:len(dims)])
    wide = magnitude.view(-1, gcd(rows, 64) * (x.numel() // rows)).amax(0)
    return wide.view(-1, x.numel() // rows).amax(0).view((1,) * len(dims) + x.shape[len(dims):])


def _multiples(x: torch.Tensor, dim, fraction: torch.Tensor | None, levels: int):
    """Whole multiples of the scales, as float32, and the scales."""
    scales = _largest(x, dim) / levels
    # Dividing by 1 instead of 0 makes zeros of zeros (and of what is below the smallest scale).
    values = x / torch.where(scales == 0, 1.0, scales)
    if fraction is None:
        values.round_()
    else:
        values.add_(fraction).floor_()
    return values.clamp_(-levels, levels), scales


def quantise(x: torch.Tensor, dim: "int | tuple[int, ...]", fraction: torch.Tensor | None = None):
    """INT8 values and the scales they are multiples of: ``x = values * scales``, nearly.

    The scale is ``amax / 127`` along ``dim``. Without ``fraction`` to nearest (half to even), with
    it ``floor(x / scale + fraction)``: stochastic rounding, if the fractions are uniform.

    Parameters
    ----------
    x : float32 tensor
    dim : int or tuple of int
        The axes that are summed over in the product.
    fraction : float32 tensor, optional
        Of the shape of ``x``.

    Returns
    -------
    values : int8 tensor
        -127...127, of the shape of ``x``. Any number where the scale is not finite.
    scales : float32 tensor
        Of size 1 along ``dim``. Not finite where ``x`` is not; 0 where ``x`` is all zero.
    """
    values, scales = _multiples(x, dim, fraction, _LEVELS[8])
    return values.to(torch.int8), scales


@dataclass(frozen=True)
class Quantised:
    """A tensor as the sum of INT8 tensors times integers, times scales.

    Attributes
    ----------
    parts : tuple of (int, int8 array)
    scales : float32 tensor
    """

    parts: tuple[tuple[int, np.ndarray], ...]
    scales: torch.Tensor


def quantised(x: torch.Tensor, dim: "int | tuple[int, ...]", operand: Operand,
              fraction: torch.Tensor | None = None) -> Quantised:
    """``x`` as an operand wants it; see :func:`quantise`."""
    if operand.scale == "tensor":
        dim = tuple(range(x.dim()))
    if operand.bits == 8:
        values, scales = quantise(x, dim, fraction)
        return Quantised(((1, values.numpy()),), scales)
    values, scales = _multiples(x, dim, fraction, _LEVELS[16])
    values = values.to(torch.int32)
    high = torch.div(values + 127, _BASE, rounding_mode="floor")
    low = values.sub_(high, alpha=_BASE)
    return Quantised(((_BASE, high.to(torch.int8).numpy()), (1, low.to(torch.int8).numpy())), scales)
