"""Offloaded layers against PyTorch in float64, and which products they make."""

import copy

import numpy as np
import pytest
import torch
from offload_cases import Call, SelfAttention, relative, run
from torch import nn
from torch.nn import functional as F

from backbeat.products import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from backbeat.torch import functions, offload
from backbeat.torch.quantise import quantise


def product_bound(a, b, a_step):
    """What rounding can make of ``a @ b``: an error of ``a_step`` scales in a, 1/2 in b."""
    a, b = a.abs(), b.abs()
    ea = (a_step * a.amax(1, keepdim=True) / 127).expand_as(a)
    eb = (0.5 * b.amax(0, keepdim=True) / 127).expand_as(b)
    return a @ eb + ea @ b + ea @ eb + 1e-5 * (a @ b)


def check(got, exact, bound, what):
    error = (got.double() - exact).abs()
    assert (error <= bound).all(), f"{what}: error up to {(error / bound).max():.2f} of the bound"
    relative = float(error.square().mean().sqrt() / exact.square().mean().sqrt())
    assert relative < 0.03, f"{what}: relative error {relative:.4f}"


@pytest.mark.parametrize("shape", [(6, 20), (1, 20), (4, 3, 20), (20,)])
def test_linear_gradients_are_those_of_float64(acc, shape):
    torch.manual_seed(1)
    layer = nn.Linear(20, 12)
    exact = copy.deepcopy(layer).double()
    offload(layer, acc, seed=3)
    x, dy = torch.randn(shape), torch.randn(*shape[:-1], 12)
    got = run(layer, x.clone().requires_grad_(), dy)
    expected = run(exact, x.double().requires_grad_(), dy.double())
    x, dy, w = x.double().view(-1, 20), dy.double().view(-1, 12), exact.weight.detach()
    bounds = (product_bound(x, w.T, 0.5).view(expected[0].shape),
              product_bound(dy, w, 1).view(expected[1].shape), product_bound(dy.T, x, 1), 1e-5)
    for what, g, e, bound in zip(("y", "dx", "dw", "db"), got, expected, bounds, strict=True):
        check(g, e, bound, what)


def attend(**options):
    return Call(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options))


MODELS = {
    "linear": (lambda: nn.Linear(20, 12), (4, 3, 20)),
    "linear, one row": (lambda: nn.Linear(20, 12), (20,)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3, stride=2, padding=1, dilation=2), (4, 6, 20)),
    "conv1d same": (lambda: nn.Conv1d(6, 8, 4, padding="same"), (4, 6, 20)),
    "conv2d": (lambda: nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 2), (1, 2)), (2, 3, 9, 10)),
    "conv2d 1x1": (lambda: nn.Conv2d(3, 5, 1, stride=2, bias=False), (2, 3, 9, 10)),
    "conv2d gaps": (lambda: nn.Conv2d(3, 5, 2, stride=3), (2, 3, 9, 10)),
    "conv2d same": (lambda: nn.Conv2d(3, 5, (4, 3), padding="same"), (2, 3, 9, 10)),
    "conv2d valid": (lambda: nn.Conv2d(3, 5, 3, padding="valid"), (2, 3, 9, 10)),
    "conv2d reflect": (lambda: nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"), (2, 3, 9, 10)),
    "conv2d groups": (lambda: nn.Conv2d(6, 8, 3, padding=1, groups=2), (2, 6, 9, 10)),
    "conv2d single": (lambda: nn.Conv2d(3, 5, 3), (3, 9, 10)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(6, 8, 3, stride=2), (4, 6, 7)),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(6, 8, 3, 2, 1, 1), (2, 6, 5, 6)),
    "transposed conv2d groups": (lambda: nn.ConvTranspose2d(6, 8, 3, 2, groups=2, dilation=2),
                                 (2, 6, 5, 6)),
    "matmul": (lambda: Call(torch.matmul), (5, 6), (6, 7)),
    "matmul of a view": (lambda: Call(lambda a, b: a @ b.mT), (4, 5, 6), (4, 7, 6)),
    "matmul, one matrix for all": (lambda: Call(lambda a, b: a @ b), (4, 5, 6), (6, 7)),
    "matmul, broadcast": (lambda: Call(lambda a, b: a @ b), (2, 1, 5, 6), (3, 6, 7)),
    "matmul, vector first": (lambda: Call(lambda a, b: a @ b), (6,), (3, 6, 7)),
    "matmul, vector last": (lambda: Call(lambda a, b: a @ b), (3, 5, 6), (6,)),
    "bmm": (lambda: Call(torch.bmm), (4, 5, 6), (4, 6, 7)),
    "baddbmm": (lambda: Call(lambda c, a, b: torch.baddbmm(c, a, b, beta=2, alpha=0.5)),
                (2, 5, 7), (2, 5, 6), (2, 6, 7)),
    "attention": (attend, (2, 3, 9, 8), (2, 3, 11, 8), (2, 3, 11, 4)),
    "attention causal": (lambda: attend(is_causal=True, scale=0.5), *3 * [(2, 3, 9, 8)]),
    "attention groups": (lambda: attend(enable_gqa=True), (2, 4, 9, 8), *2 * [(2, 2, 9, 8)]),
    "attention mask": (lambda: attend(attn_mask=torch.ones(9, 9, dtype=torch.bool).triu(1)),
                       *3 * [(2, 3, 9, 8)]),
    "multi-head attention": (SelfAttention, (3, 9, 16)),
    "multi-head attention mask": (lambda: SelfAttention(mask=True), (3, 9, 16)),
    "multi-head attention kv": (lambda: SelfAttention(add_bias_kv=True), (3, 9, 16)),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 4, 32, 0.0, F.gelu, batch_first=True),
                (3, 9, 16)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_float64(acc, name):
    make, *shapes = MODELS[name]
    torch.manual_seed(2)
    model = make()
    exact = copy.deepcopy(model).double()
    report = offload(model, acc, seed=4)
    inputs = [torch.randn(shape) for shape in shapes]
    got, expected = ([x.to(kind, copy=True).requires_grad_() for x in inputs]
                     for kind in (torch.float32, torch.float64))
    y, exact_y = model(*got), exact(*expected)
    assert y.shape == exact_y.shape and y.dtype == torch.float32
    dy = torch.randn(y.shape)
    y.backward(dy)
    exact_y.backward(dy.double())
    pairs = {"y": (y, exact_y)}
    pairs |= {f"d{n}": (a.grad, b.grad) for n, (a, b) in enumerate(zip(got, expected, strict=True))}
    pairs |= {f"d{n}": (a.grad, b.grad) for (n, a), b in zip(
        model.named_parameters(), exact.parameters(), strict=True)}
    for what, (a, b) in pairs.items():
        assert 0 <= relative(a, b) < 0.03, f"{what}: relative error {relative(a, b)}"
    assert any(relative(a, b) > 1e-4 for a, b in pairs.values()), "nothing was made in INT8"
    assert report.offloaded and acc.stats.products >= 2


@pytest.mark.parametrize("recipe", ["int8_dw16", "int8_per_tensor"])
@pytest.mark.parametrize("name", ["linear", "conv2d groups", "transposed conv2d groups",
                                  "matmul of a view", "attention"])
def test_every_recipe_makes_every_product(acc, name, recipe):
    make, *shapes = MODELS[name]
    results = []
    for kind in (torch.float32, torch.float64):
        torch.manual_seed(2)
        model = make().to(kind)
        if kind == torch.float32:
            offload(model, acc, recipe)
        inputs = [torch.randn(shape).to(kind).requires_grad_() for shape in shapes]
        model(*inputs).square().sum().backward()
        results.append([t.grad for t in (*inputs, *model.parameters())])
    for got, exact in zip(*results, strict=True):
        assert 1e-5 < relative(got, exact) < 0.04 or not exact.any()


@pytest.mark.parametrize(("x_grad", "w_grad", "kinds"), [
    (True, True, "fxw"), (False, True, "fw"), (True, False, "fx"), (False, False, "f")])
@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(6, 4, 2), nn.ConvTranspose2d(6, 4, 2)],
                         ids=lambda layer: type(layer).__name__)
def test_only_products_that_are_needed_are_made(acc, products, layer, x_grad, w_grad, kinds):
    layer = copy.deepcopy(layer)
    layer.weight.requires_grad_(w_grad)
    offload(layer, acc)
    x = torch.randn((5, 6) if isinstance(layer, nn.Linear) else (1, 6, 3, 3))
    layer(x.requires_grad_(x_grad)).square().sum().backward()
    names = {Conv2d: "fx"[isinstance(layer, nn.ConvTranspose2d)], Conv2dWeightGradient: "w",
             Conv2dInputGradient: "xf"[isinstance(layer, nn.ConvTranspose2d)]}
    assert "".join({"nt": "f", "nn": "x", "tn": "w"}[p.op] if isinstance(p, Gemm)
                   else names[type(p)] for p in products) == kinds
    assert (x.grad is not None, layer.weight.grad is not None) == (x_grad, w_grad)
    assert layer.bias.grad is not None


def test_no_grad_and_eval_make_the_forward_product_only(acc, products):
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))
    report = offload(model, acc)
    with torch.no_grad():
        y = model.eval()(torch.ones(2, 6))
    assert not y.requires_grad and [p.op for p in products] == ["nt"]
    assert not report.state.uses, "evaluation must not disturb the draws of training"


@pytest.mark.parametrize("value", [0.0, 1e-45, 2.6e-43, 1e-42, 1e30])
def test_extreme_magnitudes_stay_finite(acc, value):
    layer = nn.Linear(5, 4, bias=False)
    offload(layer, acc)
    x = torch.full((3, 5), value, requires_grad=True)
    y, dx, dw, _ = run(layer, x, torch.full((3, 4), min(value, 1e-3)))
    assert all(t.isfinite().all() for t in (y, dx, dw))
    if value == 0:
        assert not any(t.any() for t in (y, dx, dw))
    for values, scales in (quantise(x.detach(), 1), quantise(x.detach(), 1, torch.rand(3, 5))):
        assert ((values * scales - value).abs() <= max(value / 100, 1.2e-43)).all()
        assert not values[(scales == 0).expand_as(values)].any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 1)],
                         ids=lambda layer: type(layer).__name__)
def test_what_is_not_finite_comes_out_not_finite(acc, layer, value):
    layer = copy.deepcopy(layer)
    offload(layer, acc)
    x = torch.ones((2, 4) if isinstance(layer, nn.Linear) else (2, 4, 1, 1))
    x[1, 2] = value
    y = layer(x.requires_grad_())
    assert y[0].isfinite().all() and not y[1].isfinite().any()
    y.sum().backward()
    assert x.grad.isfinite().all() and not layer.weight.grad[:, 2].isfinite().any()


def test_sum_too_long_for_int32_is_made_in_parts(acc, products, monkeypatch):
    results = []
    for limit in (functions.MAX_K, 20):
        monkeypatch.setattr(functions, "MAX_K", limit)
        torch.manual_seed(5)
        layer = nn.Linear(45, 30)
        offload(layer, acc)
        results.append(run(layer, torch.randn(50, 45, requires_grad=True), torch.randn(50, 30)))
    assert len(products) == 3 + (3 + 2 + 3)
    for whole, parts in zip(*results, strict=True):
        np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("recipe", ["int8", "int8_dw16"])
def test_too_many_images_for_int32_are_made_in_parts(acc, products, monkeypatch, recipe):
    results = []
    for limit in (functions.MAX_K, 30):
        monkeypatch.setattr(functions, "MAX_K", limit)
        torch.manual_seed(5)
        layer = nn.Conv2d(2, 3, 2)
        offload(layer, acc, recipe)
        results.append(run(layer, torch.randn(8, 2, 5, 4, requires_grad=True), torch.randn(8, 3, 4, 3)))
    passes = 2 if recipe == "int8_dw16" else 1
    assert len(products) == (2 + passes) + (2 + 4 * passes)
    for whole, parts in zip(*results, strict=True):
        np.testing.assert_array_equal(whole, parts)
