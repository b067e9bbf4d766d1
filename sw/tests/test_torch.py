"""Offloaded layers against PyTorch in float64 and against integers in NumPy."""

import copy
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import get_testing_overrides
from torch.utils.checkpoint import checkpoint

import backbeat
from backbeat.products import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from backbeat.torch import NEAREST, RECIPES, STOCHASTIC, Operand, Recipe, functions, offload
from backbeat.torch.operations import OPERATIONS
from backbeat.torch.quantise import fractions, quantise, quantised

#: Nothing is random: the recipe's numbers can be computed beside it.
PLAIN = Recipe("plain", input_gradient=(NEAREST, NEAREST), weight_gradient=(NEAREST, NEAREST))


@pytest.fixture
def acc():
    with backbeat.open("model", "4x4") as acc:
        yield acc


@pytest.fixture
def products(acc, monkeypatch):
    """Every product that the accelerator is asked for."""
    calls, run = [], acc.run

    def spy(products):
        calls.extend(products)
        return run(products)

    monkeypatch.setattr(acc, "run", spy)
    return calls


def spread(*shape, seed=0):
    """Normal values, rows and columns of which differ in magnitude by up to a hundredfold."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    for axis in (0, 1):
        x *= 10 ** rng.uniform(-1, 1, [n if i == axis else 1 for i, n in enumerate(shape)])
    return torch.tensor(x, dtype=torch.float32)


def run(layer, x, dy):
    """Output, and the gradients of input, weight and bias."""
    y = layer(x)
    y.backward(dy)
    return y.detach(), x.grad, layer.weight.grad, None if layer.bias is None else layer.bias.grad


# The numbers of the recipe, in NumPy.

def numpy_quantise(x, axis):
    scale = np.abs(x).max(axis, keepdims=True) / np.float32(127)
    return np.rint(x / np.where(scale > 0, scale, 1)).clip(-127, 127).astype(np.int64), scale


def numpy_product(a, b):
    """Of a (M, K) and b (K, N)."""
    (qa, sa), (qb, sb) = numpy_quantise(a, 1), numpy_quantise(b, 0)
    return (qa @ qb).astype(np.float32) * sa * sb


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_recipe_bit_for_bit(acc, bias):
    layer = nn.Linear(45, 17, bias=bias)
    layer.weight.data, x, dy = spread(17, 45), spread(33, 45, seed=1), spread(33, 17, seed=2)
    layer.weight.data[3] = x[5] = dy[:, 7] = 0
    offload(layer, acc, PLAIN)
    y, dx, dw, _ = run(layer, x.requires_grad_(), dy)
    w, x, dy = layer.weight.detach().numpy(), x.detach().numpy(), dy.numpy()
    expected = numpy_product(x, w.T) + (layer.bias.detach().numpy() if bias else np.float32(0))
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(dx.numpy(), numpy_product(dy, w))
    np.testing.assert_array_equal(dw.numpy(), numpy_product(dy.T, x))
    assert (y[5] == (layer.bias if bias else 0)).all() and (dw[7] == 0).all()


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


def numpy_image(x, axes):
    """Quantised to nearest along those axes."""
    scale = np.abs(x).max(axes, keepdims=True) / np.float32(127)
    return np.rint(x / np.where(scale > 0, scale, 1)).clip(-127, 127).astype(np.float64), scale


def test_convolution_is_the_recipe_bit_for_bit(acc):
    layer = nn.Conv2d(5, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False)
    window = dict(stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
    torch.manual_seed(0)
    x, layer.weight.data = torch.randn(3, 5, 8, 9), torch.randn(4, 5, 3, 2)
    x *= 10 ** torch.rand(3, 5, 1, 1).mul(2)
    x[1] = 0
    offload(layer, acc, PLAIN)
    dy = torch.randn(layer(x).shape) * 10 ** torch.rand(3, 4, 1, 1)
    y, dx, dw, _ = run(layer, x.clone().requires_grad_(), dy)
    x, w, dy = x.numpy(), layer.weight.detach().numpy(), dy.numpy()
    (qx, sx), (qw, sw) = numpy_image(x, (1, 2, 3)), numpy_image(w, (1, 2, 3))
    exact = F.conv2d(torch.from_numpy(qx), torch.from_numpy(qw), **window).numpy()
    np.testing.assert_array_equal(y, exact.astype(np.float32) * sx * sw.reshape(1, -1, 1, 1))
    assert not y[1].any()
    (qy, sy), (qw, sw) = numpy_image(dy, (1, 2, 3)), numpy_image(w, (0, 2, 3))
    exact = torch.nn.grad.conv2d_input(x.shape, torch.from_numpy(qw), torch.from_numpy(qy), **window)
    np.testing.assert_array_equal(dx, exact.numpy().astype(np.float32) * sy * sw)
    (qy, sy), (qx, sx) = numpy_image(dy, (0, 2, 3)), numpy_image(x, (0, 2, 3))
    exact = torch.nn.grad.conv2d_weight(torch.from_numpy(qx), w.shape, torch.from_numpy(qy), **window)
    np.testing.assert_array_equal(dw, exact.numpy().astype(np.float32) * sy.reshape(-1, 1, 1, 1) * sx)


def relative(got, exact):
    return float(((got.detach().double() - exact).norm() / exact.norm().clamp_min(1e-30)).detach())


class Call(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class SelfAttention(nn.Module):
    def __init__(self, mask=False, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True, **options)
        self.mask = mask

    def forward(self, x):
        mask = torch.ones(9, 9, dtype=torch.bool).triu(1) if self.mask else None
        return self.inner(x, x, x, attn_mask=mask, need_weights=self.mask)[0]


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


def test_rounding_to_nearest_takes_ties_to_even():
    values, scales = quantise(torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 2.501, -126.6]]), 1)
    assert values.tolist() == [[127, 0, 2, 2, 0, -2, 3, -127]] and scales.tolist() == [[1.0]]


# Stochastic rounding.

def test_stochastic_rounding_is_unbiased():
    values = torch.tensor([-126.9, -77.25, -1.0, -0.001, 0.0, 1e-4, 0.5, 38.1, 99.999, 127.0])
    draws = 200_000
    fraction = fractions((draws, len(values)), (7, 1), (0, 1, 2))
    rounded, scale = quantise(values.repeat(draws, 1), 1, fraction)
    assert (scale == 1).all()
    fraction = (values - values.floor()).double()
    tolerance = 5 * (fraction * (1 - fraction) / draws).sqrt() + 2**-17
    error = (rounded.double().mean(0) - values.double()).abs()
    assert (error <= tolerance).all(), f"{error} of {tolerance}"
    assert ((rounded - values).abs() < 1).all()


def test_fractions_are_uniform_and_independent():
    count = 100_000
    draws = [fractions((count, 1), key, counter).numpy().ravel() for key, counter in [
        ((0, 0), (0, 0, 0)), ((0, 0), (1, 0, 0)), ((0, 0), (0, 1, 0)), ((0, 0), (0, 0, 1)),
        ((1, 0), (0, 0, 0)), ((0, 1), (0, 0, 0))]]
    for u in draws:
        assert 0 <= u.min() and u.max() < 1
        histogram = np.histogram(u, 64, (0, 1))[0]
        assert ((histogram - count / 64)**2 / (count / 64)).sum() < 130     # 63 degrees of freedom
    # Correlation of each with each at every lag: no stream is a shifted copy of another.
    spectra = np.fft.fft(np.array(draws) - 0.5)
    for i, one in enumerate(spectra):
        for j, other in enumerate(spectra[:i + 1]):
            lags = np.fft.ifft(one * other.conj()).real / (count / 12)
            assert np.abs(lags[i == j:]).max() < 7 / np.sqrt(count), (i, j)


def test_a_draw_depends_on_its_element_alone():
    whole = fractions((40, 50), (1, 2), (3, 4, 5))
    np.testing.assert_array_equal(fractions((3, 51), (1, 2), (3, 4, 5)).ravel(), whole.ravel()[:153])
    np.testing.assert_array_equal(fractions((40, 50), (1, 2), (3, 4, 5)), whole)


def flat_gradient(size):
    """Its rows and columns all have amax 1, so that both its quantisations are of the same values."""
    dy = torch.full((size, size), 0.3)
    dy[0] = dy[:, 0] = 1
    return dy


def rounded_gradients(acc, products, dy, seed=0, step=0, layers=1, uses=1, rank=0, recipe="int8"):
    """INT8 of dY where it is not at its maximum, of each gradient product."""
    model = nn.Sequential(*(nn.Linear(len(dy), len(dy)) for _ in range(layers)))
    offload(model, acc, recipe, seed, rank=rank).state.step = step
    del products[:]
    for layer in model:
        for _ in range(uses):
            layer(torch.ones_like(dy, requires_grad=True)).backward(dy)
    return [p.a[1:, 1:].ravel().astype(float) for p in products if p.op != "nt"]


def test_draws_differ_between_products_layers_uses_steps_seeds_and_ranks(acc, products):
    dy = flat_gradient(101)
    draws = rounded_gradients(acc, products, dy, layers=2, uses=2)
    assert len(draws) == 8
    for other in ({"step": 1}, {"seed": 1}, {"rank": 1}, {"recipe": Recipe("other", seed=5)}):
        draws += rounded_gradients(acc, products, dy, **other)
    for draw in draws:
        assert set(draw) == {38, 39}
        assert abs(draw.mean() - 0.3 * 127) < 5 * 0.3 / 100
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() < 5 / 100


def test_draws_are_a_function_of_seed_and_step(acc, products):
    dy = flat_gradient(11)
    np.testing.assert_array_equal(*(rounded_gradients(acc, products, dy, seed=5, step=9)
                                    for _ in range(2)))


def test_advancing_begins_the_uses_anew(acc):
    state = offload(nn.Linear(2, 2), acc).state
    assert [state.use(0), state.use(0), state.use(1)] == [(0, 0), (0, 1), (0, 0)]
    state.advance()
    assert state.use(0) == (1, 0)
    state.load_state_dict({"seed": 0, "step": 1})
    assert state.use(0) == (1, 0)


# Edges.

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


def test_sixteen_bits_are_two_int8():
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    q = quantised(x, 1, Operand(bits=16))
    assert [factor for factor, _ in q.parts] == [254, 1]
    assert all(part.dtype == np.int8 and part.min() >= -127 for _, part in q.parts)
    value = sum(factor * part.astype(np.int64) for factor, part in q.parts)
    assert np.abs(value).max() == 127 * 254 + 126
    assert (torch.from_numpy(value) * q.scales.double() - x).abs().max() <= q.scales.max() * 0.51


# What becomes of the model.

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.table = nn.Embedding(8, 8)
        self.recurrent = nn.LSTM(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.act = nn.ReLU()
        self.double = nn.Linear(8, 8).double()
        self.head = nn.Linear(8, 2)
        self.tied = self.head


def test_report_lists_what_stays_on_the_host(acc):
    model = Odd()
    keys, classes = list(model.state_dict()), [type(m) for m in model.modules()]
    report = offload(model, acc, overrides={"st*": "int8_dw16"})
    assert report.offloaded == ["stem", "attention", "head"]
    assert report.host == {
        "depthwise": "a depthwise convolution: one channel per group leaves the array empty",
        "norm": "BatchNorm2d is not offloaded", "table": "Embedding is not offloaded",
        "recurrent": "LSTM is not offloaded", "double": "weights of torch.float64",
    }
    assert str(report).splitlines()[2:4] == [
        "head: accelerator",
        "depthwise: host, a depthwise convolution: one channel per group leaves the array empty"]
    assert list(model.state_dict()) == keys and [type(m) for m in model.modules()] == classes


class Functional(nn.Module):
    """Products that are no layers, in a module of their own."""

    def __init__(self):
        super().__init__()
        self.inner = Call(lambda x: torch.einsum("ij,kj->ik", x, x) @ x)
        self.wide = Call(lambda x: (x.double() @ x.T.double()).float())

    def forward(self, x):
        return self.inner(x) + self.wide(x) + x @ x.T


def test_report_grows_with_what_the_model_does(acc):
    model = Functional()
    report = offload(model, acc)
    assert not report.offloaded and not report.host
    model(torch.ones(3, 3))
    assert report.offloaded == ["inner.matmul", "matmul"]
    assert report.host == {"inner.einsum": "einsum is not offloaded",
                           "wide.matmul": "operands of torch.float64"}


@pytest.mark.parametrize("spoil", [
    lambda: (nn.Linear(3, 2).double(), torch.ones(2, 3, dtype=torch.float64)),
    lambda: (nn.Linear(3, 2), torch.ones(0, 3)),
    lambda: (nn.Conv2d(3, 3, 1, groups=3), torch.ones(1, 3, 2, 2)),
    lambda: (Call(lambda x: x @ x), torch.eye(3, dtype=torch.int64)),
    lambda: (Call(lambda x: x @ x.to_dense()), torch.eye(3).to_sparse()),
], ids=["float64", "empty", "depthwise", "integers", "sparse"])
def test_what_is_not_supported_is_left_to_pytorch(acc, products, spoil):
    model, x = spoil()
    expected = model(x)
    offload(model, acc)
    assert torch.equal(model(x), expected) and not products


def test_autocast_does_not_reach_the_accelerator(acc):
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    offload(layer, acc)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), expected)
        assert torch.equal(layer(x.bfloat16()), layer(x.bfloat16().float()))


def test_wrong_shapes_raise_what_pytorch_raises(acc):
    for model, x in ((nn.Linear(3, 2), torch.ones(2, 4)), (nn.Conv2d(3, 2, 3), torch.ones(1, 2, 5, 5)),
                     (nn.Conv2d(3, 2, 3), torch.ones(1, 3, 2, 2)), (Call(lambda x: x @ x),
                                                                    torch.ones(2, 3)),
                     (Call(lambda x: x @ x[0, 0]), torch.ones(2, 2))):
        with pytest.raises(RuntimeError) as expected:
            model(x)
        offload(model, acc)
        with pytest.raises(RuntimeError) as got:
            model(x)
        assert str(got.value) == str(expected.value)


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.Linear(3, 4, bias=False), (5, 2, 3)), (nn.Conv2d(3, 4, 3, bias=False), (2, 3, 6, 6)),
    (nn.Conv2d(4, 4, 3, groups=2, bias=False), (2, 4, 6, 6)),
    (nn.Conv2d(3, 4, 3, bias=False), (3, 6, 6)), (nn.ConvTranspose1d(3, 4, 3, bias=False), (5, 3, 7)),
], ids=["linear", "convolution", "groups", "single", "transposed"])
def test_an_activation_may_work_in_place(acc, layer, shape):
    x, results = torch.randn(shape), []
    for inplace in (False, True):
        model = nn.Sequential(copy.deepcopy(layer), nn.ReLU(inplace))
        offload(model, acc)
        y = model(x)
        y.sum().backward()
        results.append((y.detach(), model[0].weight.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other) and one.any()


def test_arguments_that_we_do_not_know_are_left_to_pytorch(acc, products):
    a = torch.randn(3, 3)
    for call, expected in ((lambda a: torch.matmul(a, a, out=torch.empty(3, 3)), a @ a),
                           (lambda a: torch.mm(a, mat2=a), a @ a),
                           (lambda a: torch.baddbmm(a[None], batch1=a[None], batch2=a[None]),
                            (a + a @ a)[None])):
        model = Call(call)
        report = offload(model, acc)
        torch.testing.assert_close(model(a), expected)
        assert list(report.host) == ["matmul"] and report.host["matmul"].startswith("called with ")
    assert not products


def test_a_hook_that_raises_leaves_no_trace(acc, products):
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))

    def broken(*_):
        raise RuntimeError("a hook of the user's")

    handles = [module.register_forward_pre_hook(broken) for module in (model, model[1], model[1][0])]
    offload(model, acc)
    for handle in handles:
        with warnings.catch_warnings(), pytest.raises(RuntimeError, match="a hook of the user's"):
            warnings.simplefilter("error")
            model(torch.ones(2, 3))
        handle.remove()
    del products[:]
    torch.ones(2, 3) @ torch.ones(3, 2)
    assert not products
    model(torch.ones(2, 3))
    assert len(products) == 3


def test_nothing_is_caught_outside_of_the_model(acc, products):
    model = nn.Linear(3, 3)
    offload(model, acc)
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 5))
    torch.ones(2, 3) @ torch.ones(3, 2)
    assert not products
    model(torch.ones(2, 3))
    assert len(products) == 1


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_bit(acc, reentrant):
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        block = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        model = Call(partial(checkpoint, block, use_reentrant=reentrant) if recompute else block)
        model.block = block
        offload(model, acc, seed=3)
        x = torch.randn(5, 6, requires_grad=True)
        model(x).square().sum().backward()
        results.append([x.grad, *(p.grad for p in block.parameters())])
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


def test_weights_that_are_shared_get_all_their_gradients(acc):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 6)
            self.twice = nn.Linear(6, 6)

        def forward(self, x):
            return F.linear(self.twice(self.twice(self.table(x))), self.table.weight)

    torch.manual_seed(0)
    model, x = Tied(), torch.arange(7)
    exact = copy.deepcopy(model).double()
    report = offload(model, acc)
    for m in (model, exact):
        m(x).square().sum().backward()
    for got, expected in zip(model.parameters(), exact.parameters(), strict=True):
        assert relative(got.grad, expected.grad) < 0.03
    assert report.offloaded == ["twice", "linear"]


def test_accumulated_gradients_have_draws_of_their_own(acc, products):
    dy = flat_gradient(21)
    first, second = rounded_gradients(acc, products, dy, uses=2)[::2]
    assert (first != second).any()


def test_overrides_choose_recipes_by_name(acc, products):
    model = nn.Sequential()
    model.first, model.second, model.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    report = offload(model, acc, overrides={"head": "fp32", "s*": "int8_dw16", "*": "int8"})
    assert report.offloaded == ["first", "second"] and report.host == {"head": "recipe fp32"}
    model(torch.randn(3, 4)).sum().backward()
    assert [p.op for p in products] == ["nt", "nt", "nn", "tn", "tn", "tn"]


def test_overrides_reach_the_parts_of_an_attention(acc, products):
    model = nn.Sequential()
    model.inner = SelfAttention()
    report = offload(model, acc, overrides={"*.scores": "fp32"})
    model(torch.randn(3, 9, 16))
    assert report.host == {"inner.inner.attention.scores": "recipe fp32"}
    assert [type(p).__name__ for p in products] == ["Gemm", "Bmm", "Gemm"]


def test_binary_weights_are_signs_and_train_straight_through(acc, products):
    layer = nn.Linear(6, 3)
    layer.weight.data = torch.tensor([[0.5, -0.25, 0.75, -2, 0, 1]]).repeat(3, 1)
    offload(layer, acc, "binary")
    layer(torch.randn(4, 6)).square().sum().backward()
    np.testing.assert_array_equal(products[0].b, [[127, -127, 127, -127, 127, 127]] * 3)
    assert (layer.weight.grad[:, 3] == 0).all() and (layer.weight.grad[:, [0, 1, 2, 4, 5]] != 0).all()


def test_fp32_leaves_the_products_alone(acc, products):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    x = torch.randn(2, 3)
    expected = model(x)
    report = offload(model, acc, "fp32")
    assert report.host == {"0": "recipe fp32", "1": "recipe fp32"} and not report.offloaded
    assert torch.equal(model(x), expected) and not products


def test_copy_of_a_model_shares_the_accelerator(acc, products):
    layer = nn.Linear(3, 4)
    offload(layer, acc)
    twin = copy.deepcopy(layer)
    assert twin.weight is not layer.weight
    assert torch.equal(twin(torch.ones(1, 3)), layer(torch.ones(1, 3))) and len(products) == 2


def test_observer_sees_every_operand(acc):
    model, seen = nn.Sequential(nn.Linear(5, 4)), []
    offload(model, acc).state.observer = seen.append
    x = torch.randn(3, 5, requires_grad=True)
    model(x).sum().backward()
    assert [(o.layer, o.product.name, o.operand) for o in seen] == [
        ("0", "FORWARD", "input"), ("0", "FORWARD", "weight"),
        ("0", "INPUT_GRADIENT", "output gradient"), ("0", "INPUT_GRADIENT", "weight"),
        ("0", "WEIGHT_GRADIENT", "output gradient"), ("0", "WEIGHT_GRADIENT", "input")]
    for o in seen:
        assert (o.values * o.scales - o.x).abs().max() <= o.scales.max()


def test_a_recipe_is_one_file(acc, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("from backbeat.torch import Recipe\nRECIPE = Recipe('own', offloaded=False)\n")
    assert offload(nn.Linear(2, 2), acc, str(file)).host == {"Linear": "recipe own"}
    file.write_text("RECIPE = 3\n")
    with pytest.raises(ValueError, match="own.py must define RECIPE, a backbeat.torch.Recipe, got 3"):
        offload(nn.Linear(2, 2), acc, str(file))


def test_every_recipe_has_the_name_of_its_file():
    assert set(RECIPES) == {"int8", "int8_dw16", "int8_per_tensor", "fp32", "binary"}


def test_every_operation_can_be_overridden():
    known = get_testing_overrides()
    assert all(function in known for function in OPERATIONS)


@pytest.mark.parametrize(("match", "call"), [
    ("recipe must be one of binary, fp32, int8, int8_dw16, int8_per_tensor, or a file.*got 'int4'",
     lambda m, acc: offload(m, acc, "int4")),
    ("there is no file none.py with a recipe", lambda m, acc: offload(m, acc, "none.py")),
    (r"seed must be 0...2\*\*64 - 1, got -1", lambda m, acc: offload(m, acc, seed=-1)),
    (r"rank must be 0...2\*\*32 - 1, got -1", lambda m, acc: offload(m, acc, rank=-1)),
    ("overrides: no layer matches 'head'; layers are 0",
     lambda m, acc: offload(m, acc, overrides={"head": "fp32"})),
    ("layer 'Sequential' is offloaded already", lambda m, acc: [offload(m, acc) for _ in range(2)]),
    ("rounding must be one of nearest, stochastic, got 'up'", lambda m, acc: Operand("up")),
    ("bits must be one of 8, 16, got 4", lambda m, acc: Operand(bits=4)),
    ("only the output gradient can be rounded stochastically, got forward",
     lambda m, acc: Recipe("r", forward=(STOCHASTIC, NEAREST))),
])
def test_bad_argument_is_named(acc, match, call):
    with pytest.raises(ValueError, match=match):
        call(nn.Sequential(nn.Linear(2, 2)), acc)
