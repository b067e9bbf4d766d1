"""One verb: ``offload`` moves a model's matrix products to an accelerator."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from ..accelerator import Accelerator
from .interception import LAYERS, Scope, is_offloaded
from .operations import OPERATIONS
from .recipe import Recipe
from .recipes import recipe_of
from .site import OffloadState, Places

__all__ = ["OffloadReport", "offload"]

#: What follows a module's name in the name of a place.
_SUFFIXES = ("", *(f".{what}" for what in sorted({what for _, what in OPERATIONS.values()})),
             ".attention.scores", ".attention.values")


@dataclass(frozen=True)
class OffloadReport:
    """What runs where. Grows while the model runs: products that are not layers show up then.

    Attributes
    ----------
    offloaded : list of str
        Names of the layers (or of operations in a module) on the accelerator.
    host : dict of str to str
        Names of the other modules with parameters of their own, and of operations, and why they stay
        on the host.
    state : OffloadState
        Of the random draws; belongs into checkpoints.
    """

    offloaded: list[str]
    host: dict[str, str]
    state: OffloadState

    def __str__(self):
        return "\n".join([f"{name}: accelerator" for name in self.offloaded]
                         + [f"{name}: host, {reason}" for name, reason in self.host.items()])


def _obstacle(module: nn.Module, recipe: Recipe) -> str | None:
    """Why this module stays on the host; None if it does not."""
    if not isinstance(module, (*LAYERS, nn.MultiheadAttention)):
        return f"{type(module).__name__} is not offloaded"
    if not recipe.offloaded:
        return f"recipe {recipe.name}"
    groups = getattr(module, "groups", 1)
    if groups > 1 and module.in_channels // groups == 1:
        return "a depthwise convolution: one channel per group leaves the array empty"
    for weight in module.parameters():
        if weight.dtype != torch.float32:
            return f"weights of {weight.dtype}"
        if weight.device.type != "cpu":
            return f"weights on {weight.device}"
    return None


def _recipes(default: Recipe, overrides: "dict[str, str | Recipe] | None", names: list[str]):
    """The recipe of a place by its name."""
    chosen = {pattern: recipe_of(recipe) for pattern, recipe in (overrides or {}).items()}
    for pattern in chosen:
        if not any(fnmatchcase(name + suffix if name else suffix[1:], pattern)
                   for name in names for suffix in _SUFFIXES):
            raise ValueError(f"overrides: no layer matches {pattern!r}; layers are "
                             f"{', '.join(name for name in names if name) or 'none'}")
    return lambda place: next((recipe for pattern, recipe in chosen.items()
                               if fnmatchcase(place, pattern)), default)


def offload(model: nn.Module, acc: Accelerator, recipe: "str | Recipe" = "int8", seed: int = 0,
            overrides: "dict[str, str | Recipe] | None" = None, rank: int = 0) -> OffloadReport:
    """Moves the model's matrix products to ``acc``, in place, forwards and backwards.

    Linear, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, MultiheadAttention, and in any module's
    ``forward`` their functions, ``matmul`` (``@``), ``bmm``, ``addmm``, ``baddbmm`` and
    ``scaled_dot_product_attention``. Classes, parameters and their names stay as they are; the modules
    get hooks. Whatever cannot be offloaded is left to PyTorch, and reported.

    Parameters
    ----------
    model : nn.Module
    acc : Accelerator
        Must stay open as long as the model is used.
    recipe : str or Recipe
        "int8", "int8_dw16", "int8_per_tensor", "binary", "fp32", a Python file that defines
        ``RECIPE``, or a :class:`Recipe`.
    seed : int
        0...2**64 - 1, of stochastic rounding.
    overrides : dict, optional
        Another recipe for the places whose names match a pattern (as of file names: ``"head"``,
        ``"blocks.*.mlp.*"``, ``"*.attention.scores"``); the first that matches counts.
    rank : int
        0...2**32 - 1: each of several processes that train together has draws of its own.

    Raises
    ------
    ValueError
        Unknown recipe, a pattern that matches nothing, seed or rank out of range, or a module is
        offloaded already.
    """
    recipe = recipe_of(recipe)
    for name, value, bits in (("seed", seed, 64), ("rank", rank, 32)):
        if not 0 <= value < 2**bits:
            raise ValueError(f"{name} must be 0...2**{bits} - 1, got {value}")
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if is_offloaded(module):
            raise ValueError(f"layer {name or type(module).__name__!r} is offloaded already")
    # A part of an attention runs within it.
    inside = {f"{name}.out_proj" for name, m in modules.items() if isinstance(m, nn.MultiheadAttention)}
    # The model may be a layer itself: then it is called after its class.
    names = {name: name or (type(m).__name__ if isinstance(m, LAYERS) else "")
             for name, m in modules.items() if name not in inside}
    numbers = {names[name]: number for number, name in enumerate(
        name for name in names if isinstance(modules[name], LAYERS))}
    state = OffloadState(seed, rank=rank)
    recipes = _recipes(recipe, overrides, list(names.values()))
    places = Places(acc, recipes, numbers, state)
    for name, place in names.items():
        module = modules[name]
        Scope(place, places).attach(module)
        if next(module.parameters(recurse=False), None) is not None:
            reason = _obstacle(module, recipes(place))
            shown = place or type(module).__name__
            if reason is None:
                places.offloaded.append(shown)
            else:
                places.host[shown] = reason
    return OffloadReport(places.offloaded, places.host, state)
