"""As ``int8``, but weight gradients from 16 bits of the output gradient: a third more MACs."""

from ..recipe import NEAREST, Operand, Recipe

RECIPE = Recipe("int8_dw16", weight_gradient=(Operand("stochastic", bits=16), NEAREST))
