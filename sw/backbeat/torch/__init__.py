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
from .recipes import RECIPES, Fp32, Int8, Recipe
from .site import OffloadState

__all__ = ["RECIPES", "Fp32", "Int8", "OffloadReport", "OffloadState", "Recipe", "offload"]
