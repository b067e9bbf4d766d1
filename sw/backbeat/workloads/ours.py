"""The networks of ``backbeat train``, as PyTorch runs them."""

from collections.abc import Callable

from .layers import Layer

__all__ = ["TASKS", "layers_of"]

#: {task: tokens of a sequence, None where there are none}. Those of a vision transformer are patches.
TASKS = {"digits-mlp": None, "digits-cnn": None, "digits-vit": None, "mnist-mlp": None,
         "mnist-cnn": None, "char-gpt": 64}


def layers_of(task: str) -> Callable[..., tuple[Layer, ...]]:
    """What makes the layers of a task's network, from a batch and perhaps a number of tokens."""
    def make(batch: int, tokens: int | None = None) -> tuple[Layer, ...]:
        import torch

        from ..train.data import SIZES
        from ..train.tasks import TASKS
        from .importers.pytorch import from_module

        with torch.device("meta"):
            network = TASKS[task].network()
            x = (torch.empty(batch, 1, *2 * (SIZES[TASKS[task].data],)) if tokens is None
                 else torch.empty(batch, tokens, dtype=torch.int64))
        return from_module(network, x).layers

    return make
