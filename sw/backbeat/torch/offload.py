"""One verb: ``offload`` moves a model's matrix products to an accelerator."""

from dataclasses import dataclass

import torch
from torch import nn

from ..accelerator import Accelerator
from .layers import OffloadedConv2d, OffloadedLinear
from .recipes import Fp32, Recipe, recipe_of
from .site import OffloadState, Site

__all__ = ["OffloadReport", "offload"]

OFFLOADED = {nn.Linear: OffloadedLinear, nn.Conv2d: OffloadedConv2d}


@dataclass(frozen=True)
class OffloadReport:
    """What runs where.

    Attributes
    ----------
    offloaded : tuple of str
        Names of the layers on the accelerator.
    host : dict of str to str
        Names of the other modules with parameters of their own, and why they stay on the host.
    state : OffloadState
        Of the random draws; belongs into checkpoints.
    """

    offloaded: tuple[str, ...]
    host: dict[str, str]
    state: OffloadState

    def __str__(self):
        return "\n".join([f"{name}: accelerator" for name in self.offloaded]
                         + [f"{name}: host, {reason}" for name, reason in self.host.items()])


def _obstacle(module: nn.Module, recipe: Recipe) -> str | None:
    """Why this module stays on the host; None if it does not."""
    if type(module) not in OFFLOADED:
        return f"{type(module).__name__} is neither Linear nor Conv2d"
    if isinstance(recipe, Fp32):
        return "recipe fp32"
    if getattr(module, "groups", 1) != 1:
        return f"a convolution in {module.groups} groups"
    if module.weight.dtype != torch.float32:
        return f"weights of {module.weight.dtype}"
    if module.weight.device.type != "cpu":
        return f"weights on {module.weight.device}"
    return None


def offload(model: nn.Module, acc: Accelerator, recipe: "str | Recipe" = "int8",
            seed: int = 0) -> OffloadReport:
    """Moves all products of the model's Linear and Conv2d layers to ``acc``, in place.

    Parameters, their names and everything else of the model stay as they are. Only the layers'
    class changes, to a subclass of what it was.

    Parameters
    ----------
    model : nn.Module
    acc : Accelerator
        Must stay open as long as the model is used.
    recipe : str or Recipe
        "int8", "fp32", or e.g. ``Int8(gradient_rounding="nearest")``.
    seed : int
        0...2**64 - 1, of stochastic rounding.

    Raises
    ------
    ValueError
        Unknown recipe, seed out of range, or a layer is offloaded already.
    """
    recipe = recipe_of(recipe)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be 0...2**64 - 1, got {seed}")
    modules = {name or type(module).__name__: module for name, module in model.named_modules()
               if next(module.parameters(recurse=False), None) is not None}
    for name, module in modules.items():
        if type(module) in OFFLOADED.values():
            raise ValueError(f"layer {name!r} is offloaded already")
    reasons = {name: _obstacle(module, recipe) for name, module in modules.items()}
    offloaded = tuple(name for name, reason in reasons.items() if reason is None)
    state = OffloadState(seed)
    for number, name in enumerate(offloaded):
        module = modules[name]
        module.site = Site(number, name, acc, recipe, state)
        module.__class__ = OFFLOADED[type(module)]
    return OffloadReport(offloaded, {k: v for k, v in reasons.items() if v is not None}, state)
