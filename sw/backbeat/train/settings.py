"""What determines a run."""

import math
from dataclasses import dataclass, field

from backbeat_rtl.config import Config

from ..backends import check_backend
from ..torch.recipes import recipe_of
from .tasks import TASKS

__all__ = ["OPTIMISERS", "SCHEDULES", "Settings"]

OPTIMISERS = ("sgd", "adamw")
SCHEDULES = ("constant", "cosine")
#: For these, None stands for the task's default.
DEFAULTS = ("optimiser", "schedule", "epochs", "batch", "lr", "momentum", "weight_decay", "clip")


@dataclass(frozen=True)
class Settings:
    """A run, up to the contents of ``data``. None stands for the task's default.

    Parameters
    ----------
    task : str
        A key of ``TASKS``.
    backend, config : str
        The final weights are the same on every backend and array. Of a SoC (``litex:...``) the array is
        what must be there.
    recipe : str
        A name, or a Python file with a recipe.
    overrides : dict of str to str
        Other recipes for some layers, by patterns of their names; the first that matches counts.
    optimiser : str
        "sgd" or "adamw"; the latter decays matrices only.
    schedule : str
        Of the learning rate: "constant", or "cosine": up in the first twentieth of all steps, then
        down to a twentieth.
    epochs, batch : int
    accumulate : int
        Parts of a batch that are computed one after another before the weights change.
    lr, weight_decay : float
    momentum : float
        Of stochastic gradient descent; AdamW's first beta.
    clip : float
        The largest norm of all gradients together; a larger one is scaled down to it. 0 for none.
    seed : int
        0...2**32 - 1: of the split, the initial weights, the order of samples, dropout and rounding.
    data : str
        Directory of MNIST, or a text file.

    Raises
    ------
    ValueError
        Names the setting and its value.
    """

    task: str
    backend: str = "verilator"
    config: str = "16x16"
    recipe: str = "int8"
    # A dict has no hash; what differs in it alone is still unequal.
    overrides: dict[str, str] = field(default_factory=dict, hash=False)
    optimiser: str | None = None
    schedule: str | None = None
    epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    seed: int = 0
    data: str | None = None

    def __post_init__(self):
        self._one_of("task", TASKS)
        check_backend(self.backend)
        recipe_of(self.recipe)
        Config.of(self.config)
        for name in DEFAULTS:
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(TASKS[self.task], name))
        for name, choices in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES)):
            self._one_of(name, choices)
        for name, low, high in (("epochs", 1, 10**6), ("batch", 1, 10**6), ("accumulate", 1, 10**6),
                                ("lr", 0, math.inf), ("momentum", 0, 1), ("weight_decay", 0, math.inf),
                                ("clip", 0, math.inf), ("seed", 0, 2**32 - 1)):
            value = getattr(self, name)
            if not low <= value <= high or math.isinf(value):
                raise ValueError(f"{name} must be {low}...{high}, got {value}")
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate must be at most the batch of {self.batch}, got "
                             f"{self.accumulate}")
        object.__setattr__(self, "overrides", dict(self.overrides))
        for pattern, recipe in self.overrides.items():
            try:
                recipe_of(recipe)
            except ValueError as error:
                raise ValueError(f"override {pattern!r}: {error}") from None

    def _one_of(self, name: str, choices):
        if getattr(self, name) not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    @property
    def offloads(self) -> bool:
        """Whether anything runs on the accelerator."""
        return any(recipe_of(recipe).offloaded for recipe in (self.recipe, *self.overrides.values()))
