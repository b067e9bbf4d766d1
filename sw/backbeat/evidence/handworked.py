"""A network worked by hand: forward, backward and one step, against published digits.

Two inputs, two hidden and two output neurons, all sigmoid; M. Mazur, "A Step by Step Backpropagation
Example" (2015). The biases are not trained there.
"""

import torch
from torch import nn

from ..accelerator import open
from ..torch import RECIPES, offload
from .bounds import Bounded, Sum, product
from .report import Campaign, Report

__all__ = ["PUBLISHED", "bounded", "measure", "step"]

INPUTS, TARGETS, LR = ((0.05, 0.10),), ((0.01, 0.99),), 0.5
HIDDEN, OUTPUT = ((0.15, 0.20), (0.25, 0.30)), ((0.40, 0.45), (0.50, 0.55))
BIAS_HIDDEN, BIAS_OUTPUT = 0.35, 0.60
#: As printed; w1 to w4 are of the hidden layer, w5 to w8 of the output layer, after the step.
PUBLISHED = {
    "out_h1": "0.593269992", "out_h2": "0.596884378", "out_o1": "0.751365070", "out_o2": "0.772928465",
    "E_total": "0.298371109", "w1": "0.149780716", "w2": "0.19956143", "w3": "0.24975114",
    "w4": "0.29950229", "w5": "0.35891648", "w6": "0.408666186", "w7": "0.511301270",
    "w8": "0.561370121"}
#: What FP32 may differ from FP64 by, relative: a few of its last digits.
FP32_DIGITS = 4 * 2.0**-24


def step(recipe: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, float]:
    """The quantities of ``PUBLISHED`` by :func:`backbeat.torch.offload`."""
    hidden, output = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        for layer, weight, bias in ((hidden, HIDDEN, BIAS_HIDDEN), (output, OUTPUT, BIAS_OUTPUT)):
            layer.to(dtype).weight.copy_(torch.tensor(weight, dtype=torch.float64))
            layer.bias.fill_(bias)
    model = nn.Sequential(hidden, nn.Sigmoid(), output, nn.Sigmoid())
    with open("model", "4x4") as acc:
        offload(model, acc, recipe, seed)
        out_h = model[1](model[0](torch.tensor(INPUTS, dtype=dtype)))
        out_o = model[3](model[2](out_h))
        loss = ((torch.tensor(TARGETS, dtype=dtype) - out_o) ** 2).sum() / 2
        loss.backward()
        torch.optim.SGD([hidden.weight, output.weight], LR).step()
    values = [out_h, out_o, loss, hidden.weight, output.weight]
    return dict(zip(PUBLISHED, torch.cat([v.detach().flatten() for v in values]).tolist(), strict=True))


def _sigmoid(x: Bounded) -> Bounded:
    """Nowhere steeper than 1/4."""
    return Bounded(x.value.sigmoid(), x.error / 4)


def bounded(recipe: str = "int8") -> dict[str, tuple[float, float]]:
    """The quantities of ``PUBLISHED``, and how far from them a recipe can be.

    Products with K = 1, those of the weights' gradients here, are exact: each element is the largest
    of its row or column.
    """
    rules = RECIPES[recipe]
    x, t, hidden, output = (Bounded.exact(torch.tensor(v, dtype=torch.float64))
                            for v in (INPUTS, TARGETS, HIDDEN, OUTPUT))
    last, first = Sum((-1,)), Sum((0,))

    def forward(x, w):
        return product(lambda x, w: x @ w.T, rules.forward, x, w, (last, last))

    def stepped(w, d, x):
        return w - product(lambda d, x: d.T @ x, rules.weight_gradient, d, x, (first, first)) * LR

    out_h = _sigmoid(forward(x, hidden) + BIAS_HIDDEN)
    out_o = _sigmoid(forward(out_h, output) + BIAS_OUTPUT)
    lost = out_o - t
    d_o = lost * out_o * (out_o * -1 + 1)
    d_h = product(torch.matmul, rules.input_gradient, d_o, output, (last, first))
    d_h = d_h * out_h * (out_h * -1 + 1)
    loss = (lost * lost).each(lambda x: x.sum() / 2)
    found = [out_h, out_o, loss, stepped(hidden, d_h, x), stepped(output, d_o, out_h)]
    values, errors = (torch.cat([getattr(f, name).flatten() for f in found]).tolist()
                      for name in ("value", "error"))
    return dict(zip(PUBLISHED, zip(values, errors, strict=True), strict=True))


def measure(campaign: Campaign) -> Report:
    ways = {"fp64": ("fp32", torch.float64), "fp32": ("fp32", torch.float32),
            "int8": ("int8", torch.float32)}
    found = {name: step(*way) for name, way in campaign.track(ways.items(), total=len(ways))}
    rows = []
    for (name, text), (_, bound) in zip(PUBLISHED.items(), bounded().values(), strict=True):
        values = {way: found[way][name] for way in ways}
        half = 0.5 * 10.0 ** -len(text.split(".")[1])
        error, fp32 = (abs(values[way] - values["fp64"]) for way in ("int8", "fp32"))
        rows.append({"quantity": name, "published": text, "error": error, "bound": bound} | values | {
            "met": (abs(values["fp64"] - float(text)) <= 1.001 * half
                    and fp32 <= FP32_DIGITS * abs(values["fp64"]) and error <= bound)})
    return Report(
        "handworked", "The 2-2-2 network worked by hand, one step at learning rate 0.5: by recipe fp32 "
        "on FP64 and on FP32 tensors, and by int8",
        {"quantity": "{quantity}", "published": "{published}", "fp32, FP64": "{fp64:.9f}",
         "fp32, FP32": "{fp32:.9f}", "int8": "{int8:.9f}", "off by": "{error:.1e}",
         "bound": "{bound:.1e}"},
        rows, "FP64 rounds to the published digits, FP32 differs from it in its last digits only, int8 "
        "by no more than its bound")
