"""The recipes that have a name: each module here has one, ``RECIPE``."""

import runpy
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from ..recipe import Recipe

__all__ = ["RECIPES", "recipe_of"]

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (import_module(f"{__name__}.{module.name}").RECIPE
                                       for module in iter_modules(__path__))}


def recipe_of(recipe: "str | Recipe") -> Recipe:
    """A recipe by name, by the file that has it as ``RECIPE``, or itself.

    Raises
    ------
    ValueError
        There is none of that name or in that file.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe in RECIPES:
        return RECIPES[recipe]
    if str(recipe).endswith(".py"):
        if not Path(recipe).is_file():
            raise ValueError(f"there is no file {recipe} with a recipe")
        found = runpy.run_path(str(recipe)).get("RECIPE")
        if not isinstance(found, Recipe):
            raise ValueError(f"{recipe} must define RECIPE, a backbeat.torch.Recipe, got {found!r}")
        return found
    raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, or a file.py that defines RECIPE, "
                     f"got {recipe!r}")
