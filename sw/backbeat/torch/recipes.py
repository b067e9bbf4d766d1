"""How the products of a layer are computed."""

from dataclasses import dataclass

__all__ = ["RECIPES", "Fp32", "Int8", "Recipe", "recipe_of"]


@dataclass(frozen=True)
class Int8:
    """All three products of a layer in INT8, FP32 master weights.

    Each product scales its own operands: ``amax / 127`` per row of op(A) and per column of op(B).
    Inputs and weights are rounded to nearest.

    Parameters
    ----------
    gradient_rounding : str
        Of the output gradient: "stochastic" (unbiased, so that what is smaller than a step still
        counts in the mean over many steps) or "nearest".

    Raises
    ------
    ValueError
        Unknown rounding.
    """

    name = "int8"
    gradient_rounding: str = "stochastic"

    def __post_init__(self):
        if self.gradient_rounding not in ("stochastic", "nearest"):
            raise ValueError("gradient_rounding must be 'stochastic' or 'nearest', "
                             f"got {self.gradient_rounding!r}")


@dataclass(frozen=True)
class Fp32:
    """All products by PyTorch, to compare with: the layers stay as they are."""

    name = "fp32"


Recipe = Int8 | Fp32

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (Int8(), Fp32())}


def recipe_of(recipe: "str | Recipe") -> Recipe:
    """A recipe by name, or itself.

    Raises
    ------
    ValueError
        There is none of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe]
