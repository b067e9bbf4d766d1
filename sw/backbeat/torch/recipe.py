"""How the products of a layer are computed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["NEAREST", "STOCHASTIC", "Operand", "Recipe"]

ROUNDINGS, SCALES, BITS = ("nearest", "stochastic"), ("vector", "tensor"), (8, 16)


@dataclass(frozen=True)
class Operand:
    """How an operand becomes INT8.

    Parameters
    ----------
    rounding : str
        "nearest" (half to even), or "stochastic": unbiased, so that what is smaller than a step still
        counts in the mean over many steps.
    scale : str
        "vector": one per vector that is constant along the sum (row of op(A), column of op(B); of a
        convolution: image, filter or channel), free of charge on the result. "tensor": a single one.
    bits : int
        8, or 16 in two INT8 passes.

    Raises
    ------
    ValueError
        Names the parameter and its value.
    """

    rounding: str = "nearest"
    scale: str = "vector"
    bits: int = 8

    def __post_init__(self):
        for name, choices in (("rounding", ROUNDINGS), ("scale", SCALES), ("bits", BITS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, "
                                 f"got {getattr(self, name)!r}")


NEAREST, STOCHASTIC = Operand(), Operand("stochastic")


@dataclass(frozen=True)
class Recipe:
    """How a layer's three products are made; master weights are float32.

    Parameters
    ----------
    name : str
    forward : (Operand, Operand)
        Of input and weight. Nothing is stochastic here: evaluation would not be reproducible.
    input_gradient : (Operand, Operand)
        Of output gradient and weight.
    weight_gradient : (Operand, Operand)
        Of output gradient and input.
    weights : callable, optional
        What is done to the master weight before: a function of float32 tensors that autograd can
        differentiate, or that brings its own gradient.
    offloaded : bool
        False: PyTorch makes the products, to compare with.
    seed : int
        Added to the run's: other draws at the same seed.

    Raises
    ------
    ValueError
        A stochastic operand of a product that has no draws.
    """

    name: str
    forward: tuple[Operand, Operand] = (NEAREST, NEAREST)
    input_gradient: tuple[Operand, Operand] = (STOCHASTIC, NEAREST)
    weight_gradient: tuple[Operand, Operand] = (STOCHASTIC, NEAREST)
    weights: Callable[[torch.Tensor], torch.Tensor] | None = None
    offloaded: bool = True
    seed: int = 0

    def __post_init__(self):
        for name, operands in (("forward", self.forward),
                               ("input_gradient, the second", self.input_gradient[1:]),
                               ("weight_gradient, the second", self.weight_gradient[1:])):
            if any(operand.rounding == "stochastic" for operand in operands):
                raise ValueError(f"only the output gradient can be rounded stochastically, got "
                                 f"{name}: {operands}")
