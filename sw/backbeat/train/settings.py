"""What determines a run."""

import math
from dataclasses import dataclass

from backbeat_rtl.config import Config

from ..backends import BACKENDS
from ..torch import RECIPES
from .tasks import TASKS

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """A run, up to the contents of ``data``. None stands for the task's default.

    Parameters
    ----------
    task : str
        A key of ``TASKS``.
    backend, config, recipe : str
        The final weights are the same on every backend and array.
    epochs, batch : int
    lr, momentum, weight_decay : float
        Of stochastic gradient descent.
    seed : int
        0...2**32 - 1: of the split, the initial weights, the order of images, dropout and rounding.
    data : str
        Directory of MNIST.

    Raises
    ------
    ValueError
        Names the setting and its value.
    """

    task: str
    backend: str = "verilator"
    config: str = "16x16"
    recipe: str = "int8"
    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    data: str | None = None

    def __post_init__(self):
        for name, choices in (("task", TASKS), ("backend", BACKENDS), ("recipe", RECIPES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, "
                                 f"got {getattr(self, name)!r}")
        Config.of(self.config)
        for name in ("epochs", "batch", "lr", "momentum", "weight_decay"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(TASKS[self.task], name))
        for name, low, high in (("epochs", 1, 10**6), ("batch", 1, 10**6), ("lr", 0, math.inf),
                                ("momentum", 0, 1), ("weight_decay", 0, math.inf),
                                ("seed", 0, 2**32 - 1)):
            value = getattr(self, name)
            if not low <= value <= high or math.isinf(value):
                raise ValueError(f"{name} must be {low}...{high}, got {value}")
