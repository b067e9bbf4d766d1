"""PyTorch models on the accelerator.

>>> import backbeat, torch
>>> from backbeat.torch import offload
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
>>> with backbeat.open("model") as acc:
...     print(offload(model, acc))
...     model(torch.ones(5, 3)).sum().backward()
0: accelerator
2: accelerator
"""

from .offload import OffloadReport, offload
from .recipe import NEAREST, STOCHASTIC, Operand, Recipe
from .recipes import RECIPES, recipe_of
from .site import Observation, OffloadState, Product

__all__ = ["NEAREST", "RECIPES", "STOCHASTIC", "Observation", "OffloadReport", "OffloadState",
           "Operand", "Product", "Recipe", "offload", "recipe_of"]
