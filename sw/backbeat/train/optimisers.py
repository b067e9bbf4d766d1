"""Optimisers, and the learning rate at each step."""

import math

import torch
from torch import nn

from .settings import Settings

__all__ = ["optimiser", "rate"]

#: Of the schedule "cosine": the share of the steps in which the rate rises, and what it falls to.
WARM_UP, LOWEST = 0.05, 0.05
#: AdamW's second beta. The usual 0.999 is made for longer runs.
BETA2 = 0.99


def rate(settings: Settings, step: int, steps: int) -> float:
    """The learning rate of a step (from 0) of so many: a function of these alone."""
    if settings.schedule == "constant":
        return settings.lr
    rise = math.ceil(WARM_UP * steps)
    cosine = (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2
    return settings.lr * ((step + 1) / rise if step < rise else LOWEST + (1 - LOWEST) * cosine)


def optimiser(settings: Settings, model: nn.Module) -> torch.optim.Optimizer:
    """As the settings say, over all parameters."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), settings.lr, momentum=settings.momentum,
                               weight_decay=settings.weight_decay)
    matrices, rest = ([p for p in model.parameters() if (p.dim() > 1) is wanted]
                      for wanted in (True, False))
    return torch.optim.AdamW([{"params": matrices}, {"params": rest, "weight_decay": 0.0}], settings.lr,
                             betas=(settings.momentum, BETA2), weight_decay=settings.weight_decay)
