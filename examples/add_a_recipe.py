"""Say yourself how the products of some layers are made.

    python examples/add_a_recipe.py [--steps 60]

A recipe is one object. Kept in a file of its own as ``RECIPE``, it works wherever a recipe's name does:
``backbeat train --recipe my_recipe.py``.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F

import backbeat
from backbeat.torch import NEAREST, Operand, Recipe, offload


class _Ternarise(torch.autograd.Function):
    """Weights become -m, 0 or m, with one m per filter; the gradient is that of the identity."""

    @staticmethod
    def forward(ctx, weight):
        axes = tuple(range(1, weight.dim()))
        large = weight.abs() > 0.7 * weight.abs().mean(axes, keepdim=True)
        sums = (weight.abs() * large).sum(axes, keepdim=True)
        return weight.sign() * large * sums / large.sum(axes, keepdim=True)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


#: Weights of three values; weight gradients from 16 bits of the output gradient, in two passes.
TERNARY = Recipe("ternary", weights=_Ternarise.apply,
                 weight_gradient=(Operand("stochastic", bits=16), NEAREST))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
                         nn.Linear(128, 10))


def train(recipes: dict, x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
    """The accuracy on the last images, with ``recipes`` by layer and INT8 for all others."""
    torch.manual_seed(0)
    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.8)
    with backbeat.open("model") as acc:
        report = offload(model, acc, "int8", overrides=recipes)
        for _ in range(steps):
            i = torch.randint(1500, (64,))
            optimiser.zero_grad()
            F.cross_entropy(model(x[i]), y[i]).backward()
            optimiser.step()
            report.state.advance()
        with torch.no_grad():
            return float((model(x[1500:]).argmax(1) == y[1500:]).double().mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    threadpool_limits(1)        # of products as small as these, several threads only wait for each other

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 8 - 1, torch.tensor(labels)
    # Patterns are as of file names, the first that matches a layer's name counts.
    for name, recipes in {"int8 everywhere": {},
                          "ternary between first and last": {"3": TERNARY},
                          "ternary everywhere": {"*": TERNARY}}.items():
        print(f"{name:32} test accuracy {train(recipes, x, y, arguments.steps):.1%}")


if __name__ == "__main__":
    main()
