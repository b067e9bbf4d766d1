"""What can be trained: a data set, a network and settings that suit them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from .kinds import CLASSIFICATION, LANGUAGE_MODEL, REGRESSION, Kind
from .networks import Gpt, Vit, cnn, deep_cured, deep_sigmoid, mlp
from .text import CONTEXT, VOCABULARY

__all__ = ["TASKS", "Task"]


@dataclass(frozen=True)
class Task:
    """A data set, a network, and defaults of the settings.

    Parameters
    ----------
    data : str
        Name of the data set.
    network : callable
        Makes it, with initial weights from PyTorch's generator.
    kind : Kind
    batches : int, optional
        In an epoch; without it, an epoch is all of the training part.
    optimiser, schedule, epochs, batch, lr, momentum, weight_decay, clip
        As in :class:`Settings`.
    """

    data: str
    network: Callable[[], nn.Module]
    kind: Kind = CLASSIFICATION
    batches: int | None = None
    optimiser: str = "sgd"
    schedule: str = "constant"
    epochs: int = 10
    batch: int = 64
    lr: float = 0.05
    momentum: float = 0.8
    weight_decay: float = 1e-4
    clip: float = 0.0


TASKS: dict[str, Task] = {
    "digits-mlp": Task("digits", lambda: mlp(64, 128, 64, 10), lr=0.1),
    "digits-cnn": Task("digits", lambda: cnn(8, 16, 32)),
    "digits-vit": Task("digits", Vit, optimiser="adamw", schedule="cosine", epochs=20, batch=32,
                       lr=1e-3, momentum=0.9, weight_decay=0.05),
    "mnist-mlp": Task("mnist", lambda: mlp(784, 256, 128, 10), epochs=5),
    "mnist-cnn": Task("mnist", lambda: cnn(28, 8, 16), epochs=3),
    "char-gpt": Task("text", lambda: Gpt(VOCABULARY, CONTEXT), LANGUAGE_MODEL, batches=100,
                     optimiser="adamw", schedule="cosine", epochs=6, batch=32, lr=1e-3, momentum=0.9,
                     weight_decay=0.1, clip=1.0),
    "mlp-regression": Task("friedman", lambda: mlp(10, 64, 64, 1), REGRESSION, optimiser="adamw",
                           schedule="cosine", epochs=20, lr=3e-3, momentum=0.9),
    "deep-sigmoid": Task("digits", deep_sigmoid, epochs=5),
    "deep-sigmoid-cured": Task("digits", deep_cured, epochs=5),
}
