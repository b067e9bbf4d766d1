"""All products by PyTorch, to compare with."""

from ..recipe import Recipe

RECIPE = Recipe("fp32", offloaded=False)
