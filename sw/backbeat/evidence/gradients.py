"""Outputs and gradients of every offloaded operation against PyTorch's in FP64."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..accelerator import open
from ..torch import RECIPES, Recipe, offload
from .bounds import Bounded, Sum, product, softmax
from .report import Campaign, Report

__all__ = ["CASES", "Case", "errors", "measure"]

RECIPE_NAMES = ("int8", "int8_dw16", "int8_per_tensor")
#: Of one feature of the input, and of one of the output: its weights and its gradient.
ILL_SCALED = 100.0


class _Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *operands):
        return self.function(*operands)


@dataclass(frozen=True)
class Case:
    """An operation.

    Parameters
    ----------
    name : str
    module : callable
        Makes it, with random weights.
    shapes : tuple of tuple of int
        Of the inputs.
    features : tuple of int
        The axis of features of the output, and of each input and weight.
    bounds : callable
        Of a recipe, the inputs and weights as :class:`Bounded`, and the output gradient: of the output,
        and the gradients of inputs and weights.
    scaled : int or None
        The input with one feature that is much larger.
    outputs : int or None
        The axis of output features of the weight (the second input, or else the first weight).
    """

    name: str
    module: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    bounds: Callable[[Recipe, Sequence[Bounded], Bounded], list[Bounded]]
    scaled: int | None = 0
    outputs: int | None = 0


def _single(function, forward: tuple[Sum, Sum], input_gradient: tuple[Sum, Sum],
            weight_gradient: tuple[Sum, Sum]):
    """Bounds of an operation that is one product of input and weight.

    Parameters
    ----------
    function : callable
        Of input and weight.
    forward, input_gradient, weight_gradient : (Sum, Sum)
        Of input and weight, of output gradient and weight, of output gradient and input.
    """
    def bounds(recipe, operands, dy):
        x, w = operands

        def to_input(g, weight):
            return torch.func.vjp(lambda x: function(x, weight), torch.zeros_like(x.value))[1](g)[0]

        def to_weight(g, value):
            return torch.func.vjp(lambda w: function(value, w), torch.zeros_like(w.value))[1](g)[0]

        return [product(function, recipe.forward, x, w, forward),
                product(to_input, recipe.input_gradient, dy, w, input_gradient),
                product(to_weight, recipe.weight_gradient, dy, x, weight_gradient)]

    return bounds


def _rows(x: torch.Tensor) -> tuple[int, ...]:
    """All axes but the last."""
    return tuple(range(x.dim() - 1))


def _linear(recipe, operands, dy):
    rows = Sum(_rows(dy.value))
    return _single(F.linear, (Sum((-1,)), Sum((1,))), (Sum((-1,)), Sum((0,))), (rows, rows))(
        recipe, operands, dy)


def _matmul(recipe, operands, dy):
    """[..., M, K] by [..., K, N], or [K, N], whose sum is over all rows."""
    last = (Sum((-1,)), Sum((-1,)))
    rows = Sum(_rows(dy.value) if operands[1].value.dim() == 2 else (-2,))
    return _single(torch.matmul, (Sum((-1,)), Sum((-2,))), last, (rows, rows))(recipe, operands, dy)


def _convolution(dims: int, transposed: bool = False, **options):
    """Input per image, or per channel for the weights' gradient; weights per channel of the result."""
    groups = options.get("groups", 1)
    pixels = tuple(range(2, 2 + dims))
    within = tuple(axis + 1 for axis in pixels)     # of a tensor with an axis of groups before
    image = Sum((2, *within) if groups > 1 else (1, *pixels), 1, groups)
    channel, of_filter = Sum((0, *pixels)), Sum((1, *pixels))
    of_channel = Sum((1, *within) if groups > 1 else (0, *pixels), 0, groups)
    weights = (of_channel, of_filter) if transposed else (of_filter, of_channel)
    function = getattr(F, f"conv{'_transpose' if transposed else ''}{dims}d")
    return _single(lambda x, w: function(x, w, **options), (image, weights[0]), (image, weights[1]),
                   (channel, channel))


def _attention_forward(recipe, q, k, v, seen):
    """Scaled queries, shares of the values, and output."""
    last = Sum((-1,))
    scaled = q * q.value.shape[-1] ** -0.5
    scores = product(lambda a, b: a @ b.mT, recipe.forward, scaled, k, (last, last))
    shares = softmax(scores, seen)
    return scaled, shares, product(torch.matmul, recipe.forward, shares, v, (last, Sum((-2,))))


def _attention_backward(recipe, k, v, scaled, shares, dy):
    """Gradients of q, k and v."""
    last, rows = Sum((-1,)), Sum((-2,))
    d_shares = product(lambda a, b: a @ b.mT, recipe.input_gradient, dy, v, (last, last))
    dv = product(lambda a, b: b.mT @ a, recipe.weight_gradient, dy, shares, (rows, rows))
    mean = (shares * d_shares).each(lambda x: x.sum(-1, keepdim=True))
    d_scores = shares * (d_shares - mean)
    dq = product(torch.matmul, recipe.input_gradient, d_scores, k, (last, rows))
    dk = product(lambda a, b: a.mT @ b, recipe.weight_gradient, d_scores, scaled, (rows, rows))
    return dq * scaled.value.shape[-1] ** -0.5, dk, dv


def _seen(q: Bounded, causal: bool) -> torch.Tensor | None:
    size = q.value.shape[-2]
    return torch.ones(size, size, dtype=torch.bool).tril() if causal else None


def _attention(causal: bool):
    def bounds(recipe, operands, dy):
        q, k, v = operands
        scaled, shares, y = _attention_forward(recipe, q, k, v, _seen(q, causal))
        return [y, *_attention_backward(recipe, k, v, scaled, shares, dy)]

    return bounds


def _multihead(heads: int):
    """Of ``nn.MultiheadAttention(batch_first=True)`` as self-attention, [B, T, D]."""
    def split(x):       # [B, T, D] to [B, heads, T, D / heads]
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def join(x):
        return x.transpose(1, 2).flatten(2)

    def bounds(recipe, operands, dy):
        x, w_in, w_out = operands
        # The gradients of a linear layer do not depend on its output.
        def gradients(x, w, dy):
            return _linear(recipe, (x, w), dy)[1:]

        qkv = _linear(recipe, (x, w_in), Bounded.exact(x.value @ w_in.value.T))[0]
        q, k, v = (qkv.each(lambda t, i=i: split(t.chunk(3, -1)[i])) for i in range(3))
        scaled, shares, y = _attention_forward(recipe, q, k, v, None)
        y = y.each(join)
        out = _linear(recipe, (y, w_out), dy)[0]
        d_y, d_w_out = gradients(y, w_out, dy)
        parts = _attention_backward(recipe, k, v, scaled, shares, d_y.each(split))
        d_qkv = Bounded(*(torch.cat([join(getattr(p, name)) for p in parts], -1)
                          for name in ("value", "error")))
        d_x, d_w_in = gradients(x, w_in, d_qkv)
        return [out, d_x, d_w_in, d_w_out]

    return bounds


class _SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, bias=False, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


def _conv2d(name: str, **options) -> Case:
    return Case(f"Conv2d{name}", lambda: nn.Conv2d(8, 12, 3, bias=False, **options), ((4, 8, 9, 9),),
                (1, 1, 1), _convolution(2, **options))


CASES = (
    Case("Linear", lambda: nn.Linear(48, 32, bias=False), ((4, 10, 48),), (-1, -1, 1), _linear),
    Case("Conv1d, stride 2", lambda: nn.Conv1d(8, 12, 5, stride=2, padding=2, bias=False),
         ((4, 8, 30),), (1, 1, 1), _convolution(1, stride=2, padding=2)),
    _conv2d(""), _conv2d(", padding 1", padding=1), _conv2d(", stride 2", stride=2, padding=1),
    _conv2d(", dilation 2", dilation=2, padding=2), _conv2d(", 2 groups", groups=2, padding=1),
    Case("ConvTranspose2d, stride 2",
         lambda: nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, bias=False), ((4, 8, 5, 5),),
         (1, 1, 0), _convolution(2, transposed=True, stride=2, padding=1), outputs=1),
    Case("matmul", lambda: _Call(torch.matmul), ((3, 20, 24), (24, 16)), (-1, -1, -2), _matmul,
         outputs=-1),
    Case("bmm", lambda: _Call(torch.bmm), ((3, 20, 24), (3, 24, 16)), (-1, -1, -2), _matmul,
         outputs=-1),
    Case("attention", lambda: _Call(F.scaled_dot_product_attention), ((2, 4, 12, 16),) * 3,
         (-1, -1, -1, -1), _attention(False), 2, None),
    Case("attention, causal",
         lambda: _Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
         ((2, 4, 12, 16),) * 3, (-1, -1, -1, -1), _attention(True), 2, None),
    Case("MultiheadAttention", _SelfAttention, ((2, 12, 16),), (-1, -1, 1, 1), _multihead(4), None,
         None),
)


def _enlarge(x: torch.Tensor, axis: int):
    """The first feature times ``ILL_SCALED``."""
    with torch.no_grad():
        x.select(axis, 0).mul_(ILL_SCALED)


def _run(module: nn.Module, inputs, dy) -> list[torch.Tensor]:
    """Output, and the gradients of inputs and weights."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = module(*leaves)
    y.backward(dy.to(y.dtype))
    return [x.detach() for x in (y, *(p.grad for p in (*leaves, *module.parameters())))]


def errors(case: Case, recipe: str, ill: bool, seed: int, bound_of: str | None = None) -> dict:
    """Of an operation in a recipe, against FP64.

    Parameters
    ----------
    ill : bool
        One feature of the input is ``ILL_SCALED`` times the others, and one of the output has weights
        and a gradient that are.
    bound_of : str, optional
        Another recipe, whose bound is to be taken.

    Returns
    -------
    dict
        ``output``, ``input`` and ``weight``: relative error of the output and of these gradients, of the
        median feature. ``of_bound``: the largest error of an element as a share of its bound.
    """
    torch_seed = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = case.module()
    inputs = [torch.randn(shape, generator=torch_seed) for shape in case.shapes]
    if ill and case.scaled is not None:
        _enlarge(inputs[case.scaled], case.features[1 + case.scaled])
    if ill and case.outputs is not None:
        _enlarge([*inputs, *module.parameters()][1], case.outputs)
    exact = copy.deepcopy(module).to(torch.float64)
    double = [x.to(torch.float64) for x in inputs]
    dy = torch.randn(exact(*double).shape, generator=torch_seed)
    if ill:
        _enlarge(dy, case.features[0])
    wanted = _run(exact, double, dy)
    with open("model", "8x8") as acc:
        offload(module, acc, recipe, seed)
        found = [x.to(torch.float64) for x in _run(module, inputs, dy)]
    limits = case.bounds(RECIPES[bound_of or recipe],
                         [Bounded.exact(x) for x in (*double, *exact.parameters())], Bounded.exact(dy))
    # The bounds' own values come by another way: formulas here, autograd there.
    for limit, want in zip(limits, wanted, strict=True):
        torch.testing.assert_close(limit.value.detach(), want)
    relative, shares = [], []
    for limit, want, got, axis in zip(limits, wanted, found, case.features, strict=True):
        off = got - want
        of_features = (x.movedim(axis, 0).flatten(1).norm(dim=1) for x in (off, want))
        relative.append(float(torch.div(*of_features).median()))
        shares.append(float((off.abs() / limit.error.detach()).max()))
    return {"output": relative[0], "input": relative[1], "weight": max(relative[2:]),
            "of_bound": max(shares)}


def measure(campaign: Campaign) -> Report:
    seeds = range(1 if campaign.short else 3)
    rows = []
    for case, recipe in campaign.track([(c, r) for c in CASES for r in RECIPE_NAMES]):
        row = {"op": case.name, "recipe": recipe, "of_bound": 0.0}
        for kind, ill in (("random", False), ("ill", True)):
            found = [errors(case, recipe, ill, seed) for seed in seeds]
            worst = {name: max(each[name] for each in found) for name in found[0]}
            row["of_bound"] = max(row["of_bound"], worst.pop("of_bound"))
            row |= {f"{kind}_{name}": value for name, value in worst.items()}
            row[kind] = " / ".join(f"{100 * value:.1f}" for value in worst.values())
        rows.append(row | {"met": row["of_bound"] <= 1})
    return Report(
        "gradients", "Relative error of output, input gradient and weight gradient against FP64: the "
        f"median feature's, worst of {len(seeds)} seeds. Of normal random numbers; and with one feature "
        "of the input, and of one feature of the output the weights and the gradient, times "
        f"{ILL_SCALED:g} (attention: of the values and the output gradient; MultiheadAttention: of the "
        "output gradient)",
        {"operation": "{op}", "recipe": "{recipe}",
         "random: output / input / weight, %": "{random}", "x 100: output / input / weight, %": "{ill}",
         "largest share of the bound": "{of_bound:.2f}"},
        rows, "no element further off than the bound of its recipe")
