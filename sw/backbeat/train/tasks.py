"""What can be trained: a data set, a network and settings that suit them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

__all__ = ["TASKS", "Task", "initialise"]


@dataclass(frozen=True)
class Task:
    """``data`` names the data set; the rest are defaults."""

    data: str
    network: Callable[[], nn.Sequential]
    epochs: int = 10
    batch: int = 64
    lr: float = 0.05
    momentum: float = 0.8
    weight_decay: float = 1e-4


def _mlp(*sizes: int) -> nn.Sequential:
    layers = [nn.Flatten()]
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    """Halves the image. The convolution needs no bias, the normalisation has one."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.MaxPool2d(2)]


def _cnn(size: int, *channels: int) -> nn.Sequential:
    blocks = [layer for pair in zip((1, *channels), channels, strict=False) for layer in _block(*pair)]
    features = channels[-1] * (size >> len(channels))**2
    return nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.25), nn.Linear(features, 10))


TASKS: dict[str, Task] = {
    "digits-mlp": Task("digits", lambda: _mlp(64, 128, 64, 10), lr=0.1),
    "digits-cnn": Task("digits", lambda: _cnn(8, 16, 32)),
    "mnist-mlp": Task("mnist", lambda: _mlp(784, 256, 128, 10), epochs=5),
    "mnist-cnn": Task("mnist", lambda: _cnn(28, 8, 16), epochs=3),
}


def initialise(network: nn.Sequential):
    """He's initialisation before a ReLU, Xavier's for the last layer; biases start at zero."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        if layer is layers[-1]:
            nn.init.xavier_normal_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
