"""Offloaded layers against PyTorch in float64 and against integers in NumPy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import backbeat
from backbeat.torch import Fp32, Int8, offload
from backbeat.torch import site as site_module
from backbeat.torch.quantise import fractions, quantise

NEAREST = Int8(gradient_rounding="nearest")


@pytest.fixture
def acc():
    with backbeat.open("model", "4x4") as acc:
        yield acc


@pytest.fixture
def products(acc, monkeypatch):
    """(op, a, b) of every product."""
    calls, gemm = [], acc.gemm

    def spy(a, b, op):
        calls.append((op, a.copy(), b.copy()))
        return gemm(a, b, op)

    monkeypatch.setattr(acc, "gemm", spy)
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
    offload(layer, acc, NEAREST)
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


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("options", [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    dict(kernel_size=1),
    dict(kernel_size=1, stride=2, bias=False),
    dict(kernel_size=3, stride=3, padding=2, dilation=2),
    dict(kernel_size=2, stride=3),
    dict(kernel_size=(4, 3), padding="same", bias=False),
    dict(kernel_size=3, padding=(1, 2), padding_mode="reflect"),
], ids=str)
@pytest.mark.parametrize("layout", ["rows", "channels_last", "single"])
def test_convolution_gradients_are_those_of_float64(acc, options, layout):
    torch.manual_seed(2)
    layer = nn.Conv2d(3, 5, **options)
    exact = copy.deepcopy(layer).double()
    offload(layer, acc, seed=4)
    x = torch.randn(2, 3, 9, 10)
    x = {"rows": x, "channels_last": x.contiguous(memory_format=torch.channels_last),
         "single": x[0]}[layout]
    dy = torch.randn(exact(x.double()).shape)
    got = run(layer, x.clone().requires_grad_(), dy)
    expected = run(exact, x.double().requires_grad_(), dy.double())

    # Bounds by way of unfold: patches as rows.
    images, dys = (t.double() if t.dim() == 4 else t.double()[None] for t in (x, dy))
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    window = dict(kernel_size=layer.kernel_size, stride=layer.stride, dilation=layer.dilation)
    padded = images.requires_grad_()
    if any(layer._reversed_padding_repeated_twice):
        padded = F.pad(images, layer._reversed_padding_repeated_twice, mode=mode)
    columns = F.unfold(padded, **window)
    rows = columns.detach().transpose(1, 2).flatten(0, 1)
    dy_rows = dys.flatten(2).transpose(1, 2).flatten(0, 1)
    w = exact.weight.detach().flatten(1)
    batch, positions = len(images), columns.shape[2]
    y_bound = product_bound(rows, w.T, 0.5).view(batch, positions, -1).transpose(1, 2)
    dx_bound, = torch.autograd.grad(
        columns, images, product_bound(dy_rows, w, 1).view(batch, positions, -1).transpose(1, 2))
    bounds = (y_bound.reshape(got[0].shape), dx_bound.view(got[1].shape),
              product_bound(dy_rows.T, rows, 1).view(w.shape[0], *layer.weight.shape[1:]), 1e-4)
    for what, g, e, bound in zip(("y", "dx", "dw", "db"), got, expected, bounds, strict=True):
        if g is not None:
            check(g, e, bound, what)


@pytest.mark.parametrize(("x_grad", "w_grad", "ops"), [
    (True, True, ["nt", "nn", "tn"]), (False, True, ["nt", "tn"]), (True, False, ["nt", "nn"]),
    (False, False, ["nt"])])
@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(6, 4, 2)], ids=str)
def test_only_products_that_are_needed_are_made(acc, products, layer, x_grad, w_grad, ops):
    layer = copy.deepcopy(layer)
    layer.weight.requires_grad_(w_grad)
    offload(layer, acc)
    x = torch.randn((5, 6) if isinstance(layer, nn.Linear) else (1, 6, 3, 3))
    layer(x.requires_grad_(x_grad)).square().sum().backward()
    assert [op for op, *_ in products] == ops
    # As stored, whatever the op: X (M, K), W (N, K), dY (M, N).
    m, n, k = (5, 4, 6) if isinstance(layer, nn.Linear) else (4, 4, 24)
    shapes = {"nt": ((m, k), (n, k)), "nn": ((m, n), (n, k)), "tn": ((m, n), (m, k))}
    for op, a, b in products:
        assert (a.shape, b.shape) == shapes[op]
    assert (x.grad is not None, layer.weight.grad is not None) == (x_grad, w_grad)
    assert layer.bias.grad is not None


def test_no_grad_and_eval_make_the_forward_product_only(acc, products):
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5))
    report = offload(model, acc)
    with torch.no_grad():
        y = model.eval()(torch.ones(2, 6))
    assert not y.requires_grad and [op for op, *_ in products] == ["nt"]
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


def rounded_gradients(acc, products, dy, seed=0, step=0, layers=1, uses=1):
    """INT8 of dY where it is not at its maximum, of each gradient product."""
    model = nn.Sequential(*(nn.Linear(len(dy), len(dy)) for _ in range(layers)))
    offload(model, acc, seed=seed).state.step = step
    del products[:]
    for layer in model:
        for _ in range(uses):
            layer(torch.ones_like(dy, requires_grad=True)).backward(dy)
    return [a[1:, 1:].ravel().astype(float) for op, a, _ in products if op != "nt"]


def test_draws_differ_between_products_layers_uses_steps_and_seeds(acc, products):
    dy = flat_gradient(101)
    draws = rounded_gradients(acc, products, dy, layers=2, uses=2)
    assert len(draws) == 8
    draws += rounded_gradients(acc, products, dy, step=1) + rounded_gradients(acc, products, dy, seed=1)
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


@pytest.mark.parametrize(("what", "spoil"), [
    ("input", lambda layer, x: x.data.fill_(float("nan"))),
    ("weight", lambda layer, x: layer.weight.data[1, 2].fill_(float("inf"))),
    ("output gradient", lambda layer, x: layer.register_forward_hook(lambda *a: a[-1] * float("inf"))),
])
def test_value_that_is_not_finite_names_layer_and_operand(acc, what, spoil):
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 4)))
    offload(model, acc)
    x = torch.ones(2, 3, requires_grad=True)
    spoil(model[1][0], x) if what != "input" else spoil(None, x)
    layer = "0" if what == "input" else "1.0"
    with pytest.raises(ValueError, match=f"layer '{layer}': the {what} has values that are not finite"):
        model(x).sum().backward()


def test_input_of_another_type_is_named(acc):
    layer = nn.Linear(3, 3)
    offload(layer, acc)
    with pytest.raises(TypeError, match="layer 'Linear': the input must be float32, got torch.float64"):
        layer(torch.ones(2, 3, dtype=torch.float64))


def test_sum_too_long_for_int32_is_made_in_parts(acc, products, monkeypatch):
    results = []
    for limit in (site_module.MAX_K, 20):
        monkeypatch.setattr(site_module, "MAX_K", limit)
        torch.manual_seed(5)
        layer = nn.Linear(45, 30)
        offload(layer, acc)
        results.append(run(layer, torch.randn(50, 45, requires_grad=True), torch.randn(50, 30)))
    assert len(products) == 3 + (3 + 2 + 3)
    for whole, parts in zip(*results, strict=True):
        np.testing.assert_array_equal(whole, parts)


# What becomes of the model.

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.act = nn.ReLU()
        self.double = nn.Linear(8, 8).double()
        self.head = nn.Linear(8, 2)
        self.tied = self.head


def test_report_lists_what_stays_on_the_host(acc):
    model = Odd()
    keys = list(model.state_dict())
    report = offload(model, acc)
    assert report.offloaded == ("stem", "head")
    assert report.host == {
        "grouped": "a convolution in 2 groups",
        "norm": "BatchNorm2d is neither Linear nor Conv2d",
        "attention": "MultiheadAttention is neither Linear nor Conv2d",
        "attention.out_proj": "NonDynamicallyQuantizableLinear is neither Linear nor Conv2d",
        "double": "weights of torch.float64",
    }
    assert str(report).splitlines()[:3] == ["stem: accelerator", "head: accelerator",
                                            "grouped: host, a convolution in 2 groups"]
    assert list(model.state_dict()) == keys
    assert isinstance(model.stem, nn.Conv2d) and isinstance(model.head, nn.Linear)
    assert model.tied is model.head


def test_fp32_leaves_the_layers_alone(acc):
    model = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 1, 1))
    report = offload(model, acc, Fp32())
    assert report.host == {"0": "recipe fp32", "1": "recipe fp32"} and not report.offloaded
    assert [type(m) for m in model] == [nn.Linear, nn.Conv2d]


def test_copy_of_a_model_shares_the_accelerator(acc):
    layer = nn.Linear(3, 4)
    offload(layer, acc)
    twin = copy.deepcopy(layer)
    assert twin.site.acc is acc and twin.weight is not layer.weight
    np.testing.assert_array_equal(twin(torch.ones(1, 3)).detach(), layer(torch.ones(1, 3)).detach())


@pytest.mark.parametrize(("match", "call"), [
    ("recipe must be one of int8, fp32, got 'int4'", lambda m, acc: offload(m, acc, "int4")),
    (r"seed must be 0...2\*\*64 - 1, got -1", lambda m, acc: offload(m, acc, seed=-1)),
    ("layer '0' is offloaded already", lambda m, acc: [offload(m, acc) for _ in range(2)]),
    ("gradient_rounding must be 'stochastic' or 'nearest', got 'up'",
     lambda m, acc: Int8(gradient_rounding="up")),
])
def test_bad_argument_is_named(acc, match, call):
    with pytest.raises(ValueError, match=match):
        call(nn.Sequential(nn.Linear(2, 2)), acc)
