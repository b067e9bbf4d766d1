"""One scale per tensor, everything to nearest: what ``int8`` is measured against."""

from ..recipe import Operand, Recipe

_TENSOR = Operand(scale="tensor")

RECIPE = Recipe("int8_per_tensor", (_TENSOR, _TENSOR), (_TENSOR, _TENSOR), (_TENSOR, _TENSOR))
