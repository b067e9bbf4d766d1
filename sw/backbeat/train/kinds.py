"""Kinds of tasks: what is minimised, and what is measured beside it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

__all__ = ["CLASSIFICATION", "LANGUAGE_MODEL", "REGRESSION", "Kind"]


@dataclass(frozen=True)
class Kind:
    """What outputs and targets mean.

    Parameters
    ----------
    metric : str
        Metrics of a run have ``train_loss`` and ``test_loss``, and ``train_`` and ``test_`` of this.
    higher_is_better : bool
        Of the metric.
    samples : str
        What the samples are called.
    loss : callable
        Of outputs, targets and ``reduction`` ("mean" or "sum", over all targets), differentiable.
    hits : callable
        Of outputs and targets: in how many samples the output is right.
    measure : callable
        Of the mean loss, the share of hits and the scale of the targets, gives the metric.
    """

    metric: str
    higher_is_better: bool
    samples: str
    loss: Callable[..., torch.Tensor]
    hits: Callable[[torch.Tensor, torch.Tensor], int]
    measure: Callable[[float, float, float], float]


def _next_token(logits: torch.Tensor, y: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Logits [N, T, V] against tokens [N, T]."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction=reduction)


CLASSIFICATION = Kind("accuracy", True, "images", F.cross_entropy,
                      lambda logits, y: int((logits.argmax(1) == y).sum()),
                      lambda loss, hits, scale: hits)
REGRESSION = Kind("mse", False, "rows", F.mse_loss, lambda outputs, y: 0,
                  lambda loss, hits, scale: loss * scale**2)
# In nats per token; a diverging loss must not overflow.
LANGUAGE_MODEL = Kind("perplexity", False, "windows", _next_token, lambda logits, y: 0,
                      lambda loss, hits, scale: math.exp(min(loss, 700.0)))
