"""Every product in INT8: scales per row and column, output gradients rounded stochastically."""

from ..recipe import Recipe

RECIPE = Recipe("int8")
