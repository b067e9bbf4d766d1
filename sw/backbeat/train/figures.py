"""Figures of tensors in training."""

import math
from collections.abc import Iterable

import numpy as np
import torch

__all__ = ["Tally", "amax", "largest", "norm"]


class Tally:
    """Counts over the uses of one operand of one product in a step."""

    def __init__(self):
        self.values, self.nonzero, self.zeroed = 0, 0, 0
        self.levels = np.zeros(129, dtype=np.int64)         # how many of each magnitude

    def add(self, x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor):
        """As in an ``Observation``."""
        counts = np.bincount(values.numpy().view(np.uint8).ravel(), minlength=256)
        counts[1:128] += counts[:128:-1]                    # 255 is -1
        self.levels += counts[:129]
        nonzero = x != 0
        self.values += x.numel()
        self.nonzero += int(nonzero.sum())
        # Of two halves, a high one of 0 alone says nothing.
        self.zeroed += int((nonzero & (values == 0) & (x.abs() < scales)).sum())

    def figures(self) -> dict[str, float]:
        """Share of values at 127, and of those that are not 0 in float32 which became 0 (``zeroed``),
        and their median by their maximum, quantised (``level``)."""
        figures = {"saturated": float(self.levels[127:].sum() / self.values)}
        if self.nonzero:
            levels = self.levels.copy()
            levels[0] -= self.values - self.nonzero
            median = np.searchsorted(levels.cumsum(), self.nonzero / 2)
            figures["zeroed"] = self.zeroed / self.nonzero
            figures["level"] = float(median / max(np.flatnonzero(levels).max(initial=0), 1))
        return figures


def amax(x: torch.Tensor) -> float:
    """The largest magnitude."""
    return float(x.detach().abs().amax())


def largest(values: Iterable[float]) -> float:
    """NaN if there is one; with ``max`` it would depend on where it is."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values)


def norm(tensors: list[torch.Tensor]) -> float:
    """Of all of them together. In float64: squares of what is below 1e-23 are 0 in float32."""
    return math.hypot(*(float(torch.linalg.vector_norm(x.detach(), dtype=torch.float64))
                        for x in tensors))
