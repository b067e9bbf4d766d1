"""What the recipes compute, against integers in NumPy, and how they round."""

import numpy as np
import pytest
import torch
from offload_cases import flat_gradient, rounded_gradients, run, spread
from torch import nn
from torch.nn import functional as F

from backbeat.torch import NEAREST, RECIPES, Operand, Recipe, offload
from backbeat.torch.quantise import fractions, quantise, quantised

#: Nothing is random: the recipe's numbers can be computed beside it.
PLAIN = Recipe("plain", input_gradient=(NEAREST, NEAREST), weight_gradient=(NEAREST, NEAREST))


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


def test_rounding_to_nearest_takes_ties_to_even():
    values, scales = quantise(torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 2.501, -126.6]]), 1)
    assert values.tolist() == [[127, 0, 2, 2, 0, -2, 3, -127]] and scales.tolist() == [[1.0]]


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


def test_accumulated_gradients_have_draws_of_their_own(acc, products):
    dy = flat_gradient(21)
    first, second = rounded_gradients(acc, products, dy, uses=2)[::2]
    assert (first != second).any()


def test_sixteen_bits_are_two_int8():
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    q = quantised(x, 1, Operand(bits=16))
    assert [factor for factor, _ in q.parts] == [254, 1]
    assert all(part.dtype == np.int8 and part.min() >= -127 for _, part in q.parts)
    value = sum(factor * part.astype(np.int64) for factor, part in q.parts)
    assert np.abs(value).max() == 127 * 254 + 126
    assert (torch.from_numpy(value) * q.scales.double() - x).abs().max() <= q.scales.max() * 0.51


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


def test_a_recipe_is_one_file(acc, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("from backbeat.torch import Recipe\nRECIPE = Recipe('own', offloaded=False)\n")
    assert offload(nn.Linear(2, 2), acc, str(file)).host == {"Linear": "recipe own"}
    file.write_text("RECIPE = 3\n")
    with pytest.raises(ValueError, match="own.py must define RECIPE, a backbeat.torch.Recipe, got 3"):
        offload(nn.Linear(2, 2), acc, str(file))


def test_every_recipe_has_the_name_of_its_file():
    assert set(RECIPES) == {"int8", "int8_dw16", "int8_per_tensor", "fp32", "binary"}
