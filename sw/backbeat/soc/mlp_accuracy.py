"""How well integers learn, beside FP32: ``python -m backbeat.soc.mlp_accuracy``."""

import sys

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from .mlp_sizes import Network
from .mlp_training import Samples, flat, train_in_model

__all__ = ["EPOCHS", "RATES", "fp32", "main"]

#: Learning rates that FP32 may choose from; integers have one.
RATES = (0.1, 0.2, 0.4, 0.8)
EPOCHS, SEEDS = 30, 10


def fp32(samples: Samples, network: Network, lr: float, epochs: int, seed: int) -> float:
    """Test accuracy of the same network after plain gradient descent in float32, each epoch in a random
    order."""
    rng, n = np.random.default_rng(seed), network
    bounds = np.sqrt(6 / n.inputs), np.sqrt(3 / n.hidden)
    w1 = rng.uniform(-bounds[0], bounds[0], (n.inputs, n.hidden)).astype(np.float32)
    w2 = rng.uniform(-bounds[1], bounds[1], (n.hidden, n.classes)).astype(np.float32)
    b1, b2 = np.zeros(n.hidden, np.float32), np.zeros(n.classes, np.float32)
    for _ in range(epochs):
        order = rng.permutation(len(samples.x))
        for begin in range(0, len(order) - n.batch + 1, n.batch):
            rows = order[begin:begin + n.batch]
            x = samples.x[rows]
            h = np.maximum(x @ w1 + b1, 0)
            z = h @ w2 + b2
            e = np.exp(z - z.max(1, keepdims=True))
            dz = e / e.sum(1, keepdims=True)
            dz[np.arange(n.batch), samples.labels[rows]] -= 1
            dz *= np.float32(lr / n.batch)
            dh = (dz @ w2.T) * (h > 0)
            w2 -= h.T @ dz
            b2 -= dz.sum(0)
            w1 -= x.T @ dh
            b1 -= dh.sum(0)
    z = np.maximum(samples.test_x @ w1 + b1, 0) @ w2 + b2
    return float((z.argmax(1) == samples.test_labels).mean())


def main(seeds: int = SEEDS):
    from ..train.data import load

    network, names = Network(), ["integers", *(f"FP32, lr {lr}" for lr in RATES)]
    found = {name: [] for name in names}
    for seed in track(range(seeds), "digits, 64-32-10", console=Console(stderr=True)):
        samples = flat(load("digits", None, seed), seed)
        found["integers"].append(train_in_model(samples, network, epochs=EPOCHS, seed=seed).accuracy)
        for name, lr in zip(names[1:], RATES, strict=True):
            found[name].append(fp32(samples, network, lr, EPOCHS, seed))
    table = Table("", "mean %", "worst %", title=f"digits, 64-32-10, batch {network.batch}, {EPOCHS} "
                  f"epochs, {seeds} seeds: test accuracy")
    for name in names:
        table.add_row(name, f"{100 * np.mean(found[name]):.2f}", f"{100 * min(found[name]):.2f}")
    Console().print(table)
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
