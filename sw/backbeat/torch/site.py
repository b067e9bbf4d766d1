"""What an offloaded layer needs to have its products made."""

import enum
from dataclasses import dataclass, field

import numpy as np
import torch

from backbeat_rtl.core_model import MAX_K

from ..accelerator import Accelerator
from .quantise import fractions, quantise
from .recipes import Int8

__all__ = ["OffloadState", "Product", "Site"]


class Product(enum.Enum):
    """A product of a layer: its number among the random draws, its op, and what A and B are."""

    FORWARD = 0, "nt", "input", "weight"
    INPUT_GRADIENT = 1, "nn", "output gradient", "weight"
    WEIGHT_GRADIENT = 2, "tn", "output gradient", "input"

    def __init__(self, number: int, op: str, a: str, b: str):
        self.number, self.op, self.operands = number, op, (a, b)
        #: Axes of K in A and B as stored.
        self.axes = 1 if op[0] == "n" else 0, 0 if op[1] == "n" else 1


@dataclass
class OffloadState:
    """Where the random draws of a model stand.

    They are a function of the seed, the step, the layer, the product, the element and of how often
    the layer has been used within the step.

    Parameters
    ----------
    seed : int
    step : int
        Training steps made. Whoever wants to resume a run calls :meth:`advance` after each.
    """

    seed: int
    step: int = 0
    uses: dict[int, int] = field(default_factory=dict)

    def advance(self):
        """A training step is complete."""
        self.step += 1
        self.uses.clear()

    def use(self, layer: int) -> tuple[int, int]:
        """The step, and how often that layer has been used in it before."""
        count = self.uses.get(layer, 0)
        self.uses[layer] = count + 1
        return self.step, count

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint between two steps."""
        return {"seed": self.seed, "step": self.step}

    def load_state_dict(self, state: dict[str, int]):
        self.seed, self.step = state["seed"], state["step"]
        self.uses.clear()


@dataclass(frozen=True)
class Site:
    """A layer's place on the accelerator.

    Parameters
    ----------
    layer : int
        Number among the offloaded layers.
    name : str
        Of the layer, for messages.
    """

    layer: int
    name: str
    acc: Accelerator
    recipe: Int8
    state: OffloadState

    def __deepcopy__(self, memo):
        """A copy of the model shares the accelerator."""
        return self

    def product(self, product: Product, a: torch.Tensor, b: torch.Tensor,
                use: tuple[int, int] | None = None) -> torch.Tensor:
        """``op(A) @ op(B)`` through INT8.

        Parameters
        ----------
        product : Product
        a, b : float32 tensors
            As stored for the product's op.
        use : (int, int), optional
            What :meth:`OffloadState.use` gave: A is rounded as the recipe wants it for gradients.

        Returns
        -------
        float32 tensor [M, N]

        Raises
        ------
        TypeError, ValueError
            An operand is not float32, or not finite. Names it and the layer.
        """
        fraction = None
        if use is not None and self.recipe.gradient_rounding == "stochastic":
            step, count = use
            fraction = fractions(a.shape, (self.state.seed, step),
                                 (count, product.number, self.layer))
        values_a, scales_a = self._quantised(product, 0, a, fraction)
        values_b, scales_b = self._quantised(product, 1, b)
        c = torch.from_numpy(self._exact(product, values_a.numpy(), values_b.numpy()))
        return (c * scales_a.view(-1, 1)).mul_(scales_b.view(1, -1))

    def _quantised(self, product: Product, side: int, x: torch.Tensor, fraction=None):
        what = f"layer {self.name!r}: the {product.operands[side]}"
        if x.dtype != torch.float32:
            raise TypeError(f"{what} must be float32, got {x.dtype}")
        values, scales = quantise(x.contiguous(), product.axes[side], fraction)
        if not scales.isfinite().all():
            raise ValueError(f"{what} has values that are not finite (NaN or infinity)")
        return values, scales

    def _exact(self, product: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The integer product; one whose K is too long for INT32 is made in parts."""
        axis_a, axis_b = product.axes
        if a.shape[axis_a] <= MAX_K:
            return self.acc.gemm(a, b, product.op)
        edges = range(MAX_K, a.shape[axis_a], MAX_K)
        parts = zip(np.split(a, edges, axis_a), np.split(b, edges, axis_b), strict=True)
        return sum(self.acc.gemm(np.ascontiguousarray(x), np.ascontiguousarray(y),
                                 product.op).astype(np.int64) for x, y in parts)
