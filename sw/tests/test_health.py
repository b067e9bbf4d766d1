"""Numerical health: figures against counts by hand, and findings on networks that are made to be ill."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F

import backbeat
from backbeat.torch import Observation, OffloadState, Operand, Product, Recipe, offload
from backbeat.train.data import load
from backbeat.train.findings import GROWTH
from backbeat.train.health import LEAST_STEPS, Health
from backbeat.train.networks import deep_cured, deep_sigmoid, mlp

_NEAREST = (Operand(), Operand())


@pytest.fixture(scope="module")
def digits():
    return load("digits", None, 0)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1, "blas"):
        yield
    torch.set_num_threads(threads)


def train(model, x, y, steps, health=None, lr=0.05, recipe=None, momentum=0.8, batch=64, seed=0):
    """Watched, with ``health`` as its options; returns the Health."""
    with backbeat.open("model", "4x4") as acc, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = None if recipe is None else offload(model, acc, recipe).state
        optimiser = torch.optim.SGD(model.parameters(), lr, momentum=momentum)
        watch = Health(model, state, optimiser, **health or {})
        with watch:
            for _ in range(steps):
                i = torch.randint(len(x), (batch,))
                optimiser.zero_grad()
                loss = F.mse_loss if y.is_floating_point() else F.cross_entropy
                loss(model(x[i]), y[i]).backward()
                watch.step()
                optimiser.step()
                if state is not None:
                    state.advance()
    return watch


def rows(health):
    return {row.layer: row for row in health.summary()}


def kinds(health):
    return [finding.kind for finding in health.findings()]


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


# Figures.

def observation(x, values, scales, operand="input", product=Product.FORWARD, layer="fc"):
    return Observation(layer, product, operand, torch.tensor(x, dtype=torch.float32),
                       torch.tensor(values, dtype=torch.int8), torch.tensor(scales, dtype=torch.float32))


def test_quantised_figures_are_counts():
    health = Health(nn.Linear(4, 4))
    x = [[0, 127, -127, 0.4], [0, 0, 60, 0.2]]
    values = [[0, 127, -127, 0], [0, 0, 60, 0]]
    for operand, product in (("input", Product.FORWARD), ("output gradient", Product.INPUT_GRADIENT)):
        health.observe(observation(x, values, [[1], [1]], operand, product))
    # Another product sees more of it saturated and less of it zeroed: the worse one counts.
    health.observe(observation([[127, 126]], [[127, 126]], [[1]], "output gradient",
                               Product.WEIGHT_GRADIENT))
    health.step()
    row = rows(health)["fc"]
    assert row.input_amax == 127 and row.gradient_amax == 127
    assert row.input_saturated == 2 / 8 and row.gradient_saturated == 1 / 2
    assert row.gradient_zeroed == 2 / 5
    assert row.input_level == 60 / 127      # of 0, 0, 60, 127, 127
    assert row.weight_amax is None and row.dead is None


def test_half_of_two_is_no_zero():
    health = Health(nn.Linear(4, 4))
    # In 16 bits; of the first value the low half alone is not 0.
    health.observe(observation([[50, 127 * 255]], [[0, 127]], [[1]], "output gradient"))
    health.step()
    assert rows(health)["fc"].gradient_zeroed == 0


def test_figures_of_an_offloaded_layer_are_those_of_its_operands():
    torch.manual_seed(0)
    layer, x, dy = nn.Linear(6, 5), torch.randn(7, 6), torch.randn(7, 5)
    x[2], dy[:, 1] = 0, 1e-4
    with backbeat.open("model", "4x4") as acc:
        state = offload(layer, acc, Recipe("nearest", _NEAREST, _NEAREST, _NEAREST)).state
        with Health(layer, state) as health:
            layer(x.requires_grad_()).backward(dy)
            health.step()
    row = rows(health)["Linear"]

    def quantised(x, axis):
        x = x.detach().numpy()
        scale = np.abs(x).max(axis, keepdims=True) / np.float32(127)
        return np.rint(x / np.where(scale > 0, scale, 1))

    def shares(x, count):
        return max(count(x.detach().numpy(), quantised(x, axis)) for axis in (0, 1))

    assert row.gradient_zeroed == shares(dy, lambda x, q: (q[x != 0] == 0).mean()) > 0.1
    assert row.gradient_saturated == shares(dy, lambda x, q: (np.abs(q) == 127).mean())
    assert row.input_saturated == shares(x, lambda x, q: (np.abs(q) == 127).mean())
    assert [row.input_amax, row.weight_amax, row.gradient_amax] == [
        float(tensor.detach().abs().max()) for tensor in (x, layer.weight, dy)]
    assert row.gradient_norm == pytest.approx(float(layer.weight.grad.norm()))
    assert row.gradient_rms == pytest.approx(float(layer.weight.grad.square().mean().sqrt()))
    assert row.weight_norm == pytest.approx(float(layer.weight.detach().norm()))


def test_plain_model_has_magnitudes_and_norms():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(7, 6)
    model = nn.Sequential(layer, nn.BatchNorm1d(5), nn.Linear(5, 2))
    with Health(model) as health:
        outputs = []
        layer.register_forward_hook(lambda m, x, y: y.register_hook(outputs.append) and None)
        y = model(x)
        y.square().sum().backward()
        health.step()
    assert list(rows(health)) == ["0", "2"]
    row = rows(health)["0"]
    assert row.input_amax == float(x.abs().max()) and row.gradient_amax == float(outputs[0].abs().max())
    assert row.gradient_norm == pytest.approx(float(layer.weight.grad.norm()))
    assert row.input_saturated is row.gradient_zeroed is row.input_level is None


def test_gradients_too_small_to_square_have_a_norm():
    layer = nn.Linear(4, 4)
    layer.weight.grad = torch.full((4, 4), 1e-30)
    health = Health(layer)
    health.step()
    assert rows(health)["Linear"].gradient_norm == pytest.approx(4e-30, rel=1e-5, abs=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_update_ratio_is_the_optimisers_step(momentum):
    layer, ratios = seeded(lambda: nn.Linear(300, 300)), []
    optimiser = torch.optim.SGD(layer.parameters(), 0.1, momentum=momentum)
    with Health(layer, optimiser=optimiser) as health:
        for _ in range(3):
            optimiser.zero_grad()
            layer(torch.ones(2, 300)).square().sum().backward()
            health.step()
            old = layer.weight.detach().clone()
            optimiser.step()
            ratios.append(float((layer.weight.detach() - old).norm() / old.norm()))
    # 90,000 weights, half of which are looked at.
    assert rows(health)["Linear"].update_ratio == pytest.approx(sum(ratios) / 3, rel=0.02)
    assert not any(torch.is_tensor(x) for window in health._windows.values() for x in window)


def test_window_forgets_and_distance_skips():
    layer = nn.Linear(1, 1, bias=False)
    health = Health(layer, window=3, every=2)
    for step in range(12):
        layer.weight.grad = torch.full((1, 1), float(step))
        health.observe(observation([[10.0 * step]], [[127]], [[1]], layer="Linear"))
        health.step()
    row = rows(health)["Linear"]
    assert (health.steps, health.samples) == (12, 6)
    assert row.gradient_norm == (6 + 8 + 10) / 3 and row.input_amax == 100


def test_evaluation_is_not_looked_at():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with backbeat.open("model", "4x4") as acc:
        state = offload(model, acc).state
        with Health(model, state) as health:
            model(torch.ones(2, 3)).sum().backward()
            health.step()
            before = health.as_dict()
            model.eval()
            with torch.no_grad():
                model(1000 * torch.ones(2, 3))
            model.train()
            assert not health._tallies and not health._amax and health.as_dict() == before


@pytest.mark.parametrize("recipe", ["int8", None])
def test_watching_changes_no_bit(digits, recipe):
    weights = []
    for health in ({}, {"every": 1000}):
        model = seeded(lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.2),
            nn.Linear(144, 10)))
        train(model, digits.train_x, digits.train_y, 4, health, recipe=recipe)
        weights.append(model.state_dict())
    for name, x in weights[0].items():
        assert torch.equal(x, weights[1][name]), name


def test_detached_leaves_nothing():
    model, state = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), OffloadState(0)
    optimiser = torch.optim.SGD(model.parameters())
    health = Health(model, state, optimiser)
    with health:
        assert state.observer == health.observe
        with pytest.raises(ValueError, match="the offload state has an observer already"):
            Health(model, state).attach()
        assert all(m._forward_hooks for m in model)
    assert state.observer is None
    assert not any(m._forward_hooks for m in model)
    assert not optimiser._optimizer_step_pre_hooks and not optimiser._optimizer_step_post_hooks


@pytest.mark.parametrize("option", ["window", "every"])
def test_bad_option_is_named(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        Health(nn.Linear(1, 1), **{option: 0})


# Findings.

@pytest.mark.parametrize("recipe", ["int8", None])
def test_healthy_network_has_no_finding(digits, recipe):
    health = train(seeded(lambda: mlp(64, 128, 64, 10)), digits.train_x, digits.train_y, 30,
                   lr=0.1, recipe=recipe)
    assert [str(f) for f in health.findings()] == []
    assert [row.layer for row in health.summary()] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("recipe", ["int8", None])
def test_deep_sigmoids_vanish(digits, recipe):
    health = train(seeded(deep_sigmoid), digits.train_x, digits.train_y, 10, recipe=recipe)
    finding, = health.findings()
    row = rows(health)
    assert finding.kind == "vanishing gradients" and finding.layer == "1"
    # A sigmoid's slope is at most 1/4, the weights' part is about 1.
    assert 0.1 < finding.figure < 0.3
    assert 23 * math.log(finding.figure) == pytest.approx(
        math.log(row["1"].gradient_rms / row["47"].gradient_rms))
    assert f"{finding.figure:.3g} times per layer" in finding.text
    assert all(remedy in finding.remedy for remedy in ("ReLU", "He's initialisation", "BatchNorm"))


def test_cured_network_has_no_finding(digits):
    health = train(seeded(deep_cured), digits.train_x, digits.train_y, 20, recipe="int8")
    assert [str(f) for f in health.findings()] == []
    deep = [row.gradient_rms for row in health.summary() if row.deep]
    assert len(deep) == 24 and deep[0] > 0.1 * deep[-1]


def chaotic(depth, gain):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(32, 32), nn.Tanh()]
        nn.init.normal_(layers[-2].weight, std=gain / 32**0.5)
    return nn.Sequential(*layers, nn.Linear(32, 10))


def test_gradients_that_grow_backwards_explode():
    x, y = seeded(lambda: (torch.randn(64, 32), torch.randint(10, (64,))))
    health = train(seeded(lambda: chaotic(30, 4)), x, y, LEAST_STEPS, lr=1e-9)
    finding, = health.findings()
    assert finding.kind == "exploding gradients" and finding.layer == "0"
    assert finding.figure > 1.2 and "initial weights" in finding.remedy and "clip" in finding.remedy
    assert not train(seeded(lambda: chaotic(30, 1.2)), x, y, LEAST_STEPS, lr=1e-9).findings()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_growth_counts_from_quarter_to_quarter(factor):
    layer = nn.Linear(1, 1)
    health = Health(layer)
    for norm in [1, 5, 1, *[50] * 6, *[factor * GROWTH] * 3]:
        layer.weight.grad = torch.full((1, 1), float(norm))
        health.step()
    assert [f.figure for f in health.findings()] == (
        [pytest.approx(factor * GROWTH)] if factor > 1 else [])


def test_too_high_a_learning_rate_explodes():
    x = seeded(lambda: torch.randn(64, 8))
    health = train(seeded(lambda: nn.Linear(8, 1)), x, x[:, :1], 16, lr=8.0, momentum=0.0)
    finding, = health.findings()
    assert finding.kind == "exploding gradients" and finding.figure > GROWTH
    assert "learning rate" in finding.remedy
    assert not train(seeded(lambda: nn.Linear(8, 1)), x, x[:, :1], 16).findings()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradient_that_is_not_finite_is_found_at_once(value):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    health = Health(model)
    for broken in (False, True):
        for layer in model:
            layer.weight.grad = torch.ones(2, 2)
        if broken:
            model[1].weight.grad[0, 1] = value
        health.step()
    finding, = health.findings()
    assert (finding.layer, finding.kind, finding.figure) == ("1", "exploding gradients", 0.5)
    assert rows(health)["1"].gradient_norm == 2     # of the steps in which there is one


def test_nan_is_the_largest_magnitude_and_none_in_json():
    health = Health(nn.Linear(2, 2))
    for x in (1.0, math.nan, 2.0):
        health.observe(observation([[x, 3.0]], [[0, 127]], [[x / 127]], layer="fc"))
        health.step()
    assert math.isnan(rows(health)["fc"].input_amax)
    layer, = json.loads(json.dumps(health.as_dict(), allow_nan=False))["layers"]
    assert layer["input_amax"] is None and layer["input_saturated"] == 0.5


def relus(x, steps, window=50, linear=None):
    """A ReLU behind ``linear`` or the identity, called with each of ``x``."""
    model = nn.Sequential(linear or nn.Identity(), nn.ReLU())
    with Health(model, window=window) as health:
        for step in range(steps):
            model(x[step % len(x)])
            health.step()
    return health


@pytest.mark.parametrize(("shape", "axis", "layer"), [
    ((4, 6), 1, None), ((4, 5, 6), 2, nn.Linear(6, 6)), ((4, 6, 5), 1, nn.Conv1d(6, 6, 1)),
    ((4, 6, 3, 3), 1, nn.Conv2d(6, 6, 1)), ((4, 3, 3, 6), 3, nn.LayerNorm(6)), ((6,), 0, None),
])
def test_dead_units_are_counted_along_their_axis(shape, axis, layer):
    if layer is not None:       # the identity
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        layer.register_forward_hook(lambda m, x, y: x[0] + 0 * y)
    x = torch.rand(shape).movedim(axis, 0).contiguous()
    x[:3] = -1
    x[3].view(-1)[1:] = -1      # alive in one place only
    health = relus([x.movedim(0, axis)], LEAST_STEPS, linear=layer)
    finding, = health.findings()
    assert finding.kind == "dead units" and finding.layer == "1" and finding.figure == 3 / 6
    assert "50%" in finding.text and f"{LEAST_STEPS} sampled steps" in finding.text


def test_unit_is_dead_when_the_window_has_passed():
    quiet = torch.tensor([[1.0, -1.0]])
    alive = torch.tensor([[1.0, 1.0]])
    for after, dead in ((9, 0.0), (10, 0.5)):
        assert rows(relus([alive] + [quiet] * after, after + 1, window=10))["1"].dead == dead


def test_relu_used_twice_has_units_of_both():
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Linear(2, 3), relu)
    nn.init.constant_(model[1].bias, -100)
    with Health(model) as health:
        for _ in range(LEAST_STEPS):
            model(torch.ones(4, 2))
            health.step()
    assert rows(health)["0"].dead == 3 / 5


def test_zeroed_gradients_are_found():
    health = Health(nn.Linear(2, 2))
    for zeros in (0.9, 0.99):
        dy = np.where(np.arange(200) < 200 * zeros, 0.1, 127)
        for _ in range(50):
            health.observe(observation(dy, np.rint(dy), 1.0, "output gradient", Product.WEIGHT_GRADIENT))
            health.step()
        found = [(f.kind, f.layer, f.figure) for f in health.findings()]
        assert found == ([("zeroed gradients", "fc", pytest.approx(0.99))] if zeros > 0.95 else [])


def test_outliers_are_found():
    def findings(outlier, recipe="int8"):
        x = seeded(lambda: torch.randn(64, 128))
        x[::2, 5], x[1::2, 5] = outlier, -outlier
        return train(seeded(lambda: nn.Sequential(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 4))), x,
                     torch.randn(64, 4), LEAST_STEPS, recipe=recipe, lr=1e-9).findings()

    assert findings(4.0) == []
    finding, = findings(1000.0)
    assert (finding.kind, finding.layer) == ("outliers", "0") and finding.figure < 1.5 / 127
    assert "1e+03" in finding.text and "BatchNorm" in finding.remedy


def test_peaked_attention_is_no_outlier():
    health = Health(nn.Linear(2, 2))
    x = np.full((1, 100), 0.1)
    x[0, 0] = 127
    for layer in ("fc", "block.attention.values"):
        for _ in range(LEAST_STEPS):
            health.observe(observation(x, np.rint(x), [[1.0]], layer=layer))
            health.step()
    assert [f.layer for f in health.findings()] == ["fc"]


def test_embeddings_and_layers_that_do_not_run_say_nothing_of_depth():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.a, self.b = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.unused = nn.Linear(4, 4)

        def forward(self, x):
            return self.b(self.a(self.table(x))) + 0 * self.unused.weight.sum()

    model = Model()
    with Health(model) as health:
        for _ in range(LEAST_STEPS):
            model.zero_grad()
            model(torch.tensor([[1, 2]])).sum().backward()
            for weight, scale in ((model.table.weight, 1e-12), (model.unused.weight, 1e12)):
                weight.grad = torch.full_like(weight, scale)
            health.step()
    assert health.findings() == []
    assert {row.layer: row.deep for row in health.summary()} == {
        "table": False, "a": True, "b": True, "unused": False}


def test_shared_weight_and_copy_are_counted_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    model = copy.deepcopy(model)
    with Health(model) as health:
        model(torch.ones(2, 4)).sum().backward()
        health.step()
    norms = [row.gradient_norm for row in health.summary()]
    assert norms == [pytest.approx(float(model[0].weight.grad.norm())), *[None] * (len(norms) - 1)]


def test_table_and_dict_have_every_layer(digits):
    health = train(seeded(lambda: mlp(64, 16, 10)), digits.train_x, digits.train_y, 3, recipe="int8")
    console = Console(width=160, record=True, file=open("/dev/null", "w"))
    console.print(health.table())
    text = console.export_text()
    figures = json.loads(json.dumps(health.as_dict(), allow_nan=False))
    assert "last 3 of 3 sampled steps" in text and "dy to 0" in text and "dead" in text
    assert [row["layer"] for row in figures["layers"]] == ["1", "2", "3"]
    assert figures["layers"][0]["gradient_zeroed"] == rows(health)["1"].gradient_zeroed
    assert (figures["steps"], figures["findings"]) == (3, [])
