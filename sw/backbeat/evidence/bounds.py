"""How far a recipe can be from exact arithmetic: FP64 numbers, each with a bound on its error.

The only thing assumed of a recipe is what it says of an operand: rounding, scale and bits. An element is
off by half a step to nearest and by less than one with stochastic rounding, a step being amax / 127 over
what is summed; from there on it is the triangle inequality.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..torch.recipe import Operand

__all__ = ["Bounded", "Sum", "product", "softmax"]

STEPS = {"nearest": 0.5, "stochastic": 1.0}
LEVELS = {8: 127, 16: 127 * 254 + 126}
#: What FP32 adds, relative to sums of magnitudes, and to a step.
FP32, FP32_STEP = 2.0**-20, 2.0**-14


@dataclass(frozen=True)
class Sum:
    """What of a tensor one scale is for: the axes that are summed over.

    Parameters
    ----------
    axes : tuple of int
    split, groups : int
        The axis ``split`` is two in truth: ``groups``, and what is in each. ``axes`` count both.
    """

    axes: tuple[int, ...]
    split: int = 0
    groups: int = 1

    def largest(self, x: torch.Tensor) -> torch.Tensor:
        """Over the axes, in the shape of ``x``."""
        if self.groups == 1:
            return x.amax(self.axes, keepdim=True).expand(x.shape)
        grouped = x.unflatten(self.split, (self.groups, -1))
        return grouped.amax(self.axes, keepdim=True).expand(grouped.shape).reshape(x.shape)

    def single(self, x: torch.Tensor) -> bool:
        """Whether there is but one element to a sum."""
        shape = x.unflatten(self.split, (self.groups, -1)).shape if self.groups > 1 else x.shape
        return all(shape[axis] == 1 for axis in self.axes)


@dataclass(frozen=True)
class Bounded:
    """FP64 values, and a bound on how far from each what a recipe computes is."""

    value: torch.Tensor
    error: torch.Tensor

    @classmethod
    def exact(cls, x: torch.Tensor) -> "Bounded":
        x = x.to(torch.float64)
        return cls(x, torch.zeros_like(x))

    def __add__(self, other: "Bounded | float") -> "Bounded":
        if not isinstance(other, Bounded):
            return Bounded(self.value + other, self.error)
        return Bounded(self.value + other.value, self.error + other.error)

    def __mul__(self, other: "Bounded | float") -> "Bounded":
        if not isinstance(other, Bounded):
            return Bounded(self.value * other, self.error * abs(other))
        return _bilinear(torch.mul, self, other)

    def __sub__(self, other: "Bounded") -> "Bounded":
        return self + other * -1

    def each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Bounded":
        """What moves elements or adds them up, done to values and errors."""
        return Bounded(function(self.value), function(self.error))

    def rounded(self, operand: Operand, along: Sum) -> "Bounded":
        """As an operand of a product; a largest element of its own is exact."""
        size = self.value.abs() + self.error
        if operand.scale == "vector" and along.single(size):
            return self
        step = (along.largest(size) if operand.scale == "vector" else size.max()) / LEVELS[operand.bits]
        return Bounded(self.value, self.error + step * (STEPS[operand.rounding] + FP32_STEP))


def _bilinear(function, a: Bounded, b: Bounded) -> Bounded:
    """Of a function that has no negative coefficients."""
    x, y = a.value.abs(), b.value.abs()
    return Bounded(function(a.value, b.value),
                   function(x, b.error) + function(a.error, y) + function(a.error, b.error)
                   + FP32 * function(x, y))


def product(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
            operands: tuple[Operand, Operand], a: Bounded, b: Bounded,
            along: tuple[Sum, Sum]) -> Bounded:
    """A product whose operands are rounded first.

    Parameters
    ----------
    function : callable
        Of two tensors; a sum of products of their elements.
    operands : (Operand, Operand)
        A recipe's, for ``a`` and ``b``.
    along : (Sum, Sum)
    """
    return _bilinear(function, a.rounded(operands[0], along[0]), b.rounded(operands[1], along[1]))


def softmax(scores: Bounded, seen: torch.Tensor | None = None) -> Bounded:
    """Along the last axis; ``seen`` is a mask."""
    value = scores.value if seen is None else scores.value.masked_fill(~seen, -torch.inf)
    p = value.softmax(-1)
    most, least = p * scores.error.exp(), p * (-scores.error).exp()
    most, least = (most / least.sum(-1, keepdim=True)).clamp(max=1), least / most.sum(-1, keepdim=True)
    return Bounded(p, torch.maximum(most - p, p - least) + FP32 * p)
