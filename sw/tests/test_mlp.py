"""The perceptron that learns in integers: what its numbers are, and that they learn."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from backbeat.memory import BASE
from backbeat.soc import mlp_table
from backbeat.soc.mlp import Mlp, softmax_gradient, update
from backbeat.soc.mlp_sizes import LARGEST, LOW, Draw, Network, Scales, batch_rows, exp_table, fixed
from backbeat.soc.mlp_table import Placed
from backbeat.soc.mlp_training import Samples, flat, train_in_model
from backbeat.train.data import load

SEED = int(os.environ["SEED"])
SMALL = Network(20, 12, 5, batch=8, block=8)


def small_samples(rows=100, network=SMALL):
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(rows, network.inputs)).astype(np.float32)
    labels = rng.integers(network.classes, size=rows)
    return Samples(x, labels, x, labels)


@pytest.fixture(scope="module")
def digits():
    return flat(load("digits", None, 0), 0)


@pytest.mark.parametrize("g", [-127, -126, -64, -1, 0, 1, 63, 127])
def test_update_adds_exactly_and_saturates(g):
    """Every weight there is, whose two digits become those of the sum or of the bound."""
    master = np.arange(-LARGEST, LARGEST + 1)
    mlp = Mlp(SMALL, Scales(x=60))
    mlp.set_master(np.pad(master, (0, -len(master) % 128)))
    assert (mlp.master[:len(master)] == master).all()
    mlp.high, mlp.low = update(mlp.high, mlp.low, np.full(mlp.high.shape, g, np.int8), block=16)
    expected = np.clip(master + g, -LARGEST, LARGEST)
    got = mlp.master[:len(master)]
    wrong = np.flatnonzero(got != expected)
    assert not wrong.size, f"{master[wrong[0]]} + {g} is {got[wrong[0]]}, not {expected[wrong[0]]}"
    assert np.abs(mlp.low).max() == LOW and np.abs(mlp.high).max() == 127


def test_softmax_gradient_has_the_mean_of_what_it_rounds():
    rng, draws, scale = np.random.default_rng(SEED), 4000, 7.0
    z = np.concatenate([rng.integers(-40, 40, (6, 10)), rng.integers(-127, 128, (2, 10)),
                        np.full((1, 10), 127), np.full((1, 10), -127)]).astype(np.int8)
    labels = rng.integers(10, size=len(z))
    share = np.exp(z / scale) / np.exp(z / scale).sum(1, keepdims=True)
    share[np.arange(len(z)), labels] -= 1
    table, total = exp_table(scale), np.zeros(z.shape)
    for seed in rng.integers(2**32, size=draws):
        got = softmax_gradient(z, labels, table, int(seed))
        assert (np.abs(got - 127 * share) <= 1.01).all()    # a neighbour, or the table's error
        total += got
    # A rounding's variance is at most 1/4; 100 means, none further off than 4.5 standard errors but for
    # the table, whose entries of 2**-14 may be off by half.
    off = np.abs(total / draws - 127 * share)
    assert off.max() < 4.5 * 0.5 / draws**0.5 + 0.01, (off.max(), off.argmax())


def test_steps_are_those_of_torch():
    """On average over the draws, the step is -lr times the gradient that PyTorch finds."""
    network = Network(20, 12, 5, batch=32, block=8)
    samples = small_samples(32, network)
    scales = Scales.of(samples.x, dh=80.0, lr=0.02)
    mlp = Mlp(network, scales, SEED)
    x, total, draws = mlp.rows(samples.x), 0.0, 300
    for _ in range(draws):
        total = total + mlp.gradients(x, samples.labels)[0]
        mlp.step_number += 1

    unit = scales.w1 * 127, scales.w2 * 127     # a step of 1 is 1 / unit
    w1, w2 = (torch.tensor(w / scale, dtype=torch.float64, requires_grad=True)
              for w, scale in zip(mlp._layers(mlp.high), (scales.w1, scales.w2), strict=True))
    h, z = (torch.from_numpy(values / scale) for values, scale in zip(
        mlp.forward(x), (scales.h, scales.z), strict=True))
    # What is rounded keeps its value, and gradients pass it by; only a zero of H stops them.
    sums = (torch.from_numpy(x / scales.x) @ w1.T) * (h[:, :network.hidden] > 0)
    h[:, :network.hidden] += sums - sums.detach()
    logits = h @ w2.T
    loss = torch.nn.functional.cross_entropy(z + logits - logits.detach(),
                                             torch.from_numpy(samples.labels))
    loss.backward()
    for got, w, one in zip(mlp._layers(total / draws), (w1, w2), unit, strict=True):
        expected = np.clip(-scales.lr * w.grad.numpy() * one, -127, 127)    # steps saturate
        assert abs((got * expected).sum() / (expected**2).sum() - 1) < 0.02
        assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.99


def test_padding_stays_zero():
    samples = small_samples()
    mlp = train_in_model(samples, SMALL, epochs=2, seed=SEED).mlp
    w1, w2 = mlp._layers(mlp.master)
    used = SMALL.w2 + w2.size
    assert not w1[:, SMALL.inputs + 1:].any() and not w2[:, SMALL.hidden + 1:].any()
    assert not mlp.master[used:].any()
    assert w1[:, SMALL.inputs].any() and w2[:, SMALL.hidden].any()      # the biases


@pytest.mark.parametrize("rows", [1437, 100, 33, 32])
def test_an_epoch_meets_no_row_twice_and_the_next_one_others(rows):
    seen = []
    for epoch in range(4):
        steps = range(epoch * (rows // 32), (epoch + 1) * (rows // 32))
        batches = [batch_rows(rows, 32, SEED, step) for step in steps]
        met = np.concatenate(batches)
        assert len(np.unique(met)) == len(met) and met.min() >= 0 and met.max() < rows
        seen.append({frozenset(batch.tolist()) for batch in batches})
    assert rows < 100 or not all(epoch == seen[0] for epoch in seen)


class WithoutDigits(Mlp):
    """INT8 weights and nothing below; a step rounded to nearest."""

    def _epilogue(self, name, draw=None, low=-127):
        spec = super()._epilogue(name, draw, low)
        if draw not in (Draw.STEP_1, Draw.STEP_2):
            return spec
        return replace(spec, shift=spec.shift + 7, rounding="nearest")

    def step(self, x, labels):
        g, right = self.gradients(x, labels)
        self.high = np.clip(self.high.astype(int) + g, -127, 127).astype(np.int8)
        self.step_number += 1
        return right


def test_digits_are_learnt_and_without_low_digits_they_are_not(digits):
    """Beware of truncating changes to zero."""
    scales, accuracy = Scales.of(digits.x, lr=0.01), {}
    for kind in (Mlp, WithoutDigits):
        mlp = kind(Network(), scales, seed=SEED % 1000)
        x, before = mlp.rows(digits.x), mlp.high.copy()
        mlp.train(x, digits.labels, 8 * 44)
        accuracy[kind] = mlp.accuracy(mlp.rows(digits.test_x), digits.test_labels)
        if kind is WithoutDigits:
            assert (mlp.high != before).mean() < 0.02
    assert accuracy[Mlp] > 0.75 and accuracy[WithoutDigits] < 0.25, accuracy


def test_digits_are_learnt_in_five_epochs(digits):
    assert train_in_model(digits, Network(), epochs=5, seed=SEED % 1000).accuracy > 0.93


def test_training_is_a_function_of_its_seed():
    samples = small_samples()
    first, again, other = (train_in_model(samples, SMALL, epochs=1, seed=seed).mlp.master
                           for seed in (SEED, SEED, SEED ^ 1))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("value", [1 / 127, -3.0, 1e-6, -0.9999999999, 0.9999999999, 2.0**20])
def test_fixed_is_near(value):
    multiplier, shift = fixed(value)
    assert abs(multiplier * 2.0**-shift / value - 1) < 2**-29 and abs(multiplier) <= 2**30


def test_what_does_not_fit_is_refused():
    samples = small_samples()
    mlp = Mlp(SMALL, Scales.of(samples.x))
    x = mlp.rows(samples.x)
    with pytest.raises(ValueError, match="bytes of memory, there are 1,024"):
        Placed(np.zeros(1024, np.uint8), mlp, x, samples.labels, 1)
    with pytest.raises(ValueError, match=r"x must be int8 \[100, 24\], got int8 \[100, 16\]"):
        Placed(np.zeros(1 << 20, np.uint8), mlp, x[:, :16], samples.labels, 1)
    with pytest.raises(ValueError, match=r"rows as a batch has \(8\), got 7"):
        Placed(np.zeros(1 << 20, np.uint8), mlp, x[:7], samples.labels[:7], 1)
    many = replace(SMALL, classes=65)
    with pytest.raises(ValueError, match="classes must be at most 64, got 65"):
        Placed(np.zeros(1 << 20, np.uint8), Mlp(many, mlp.scales), x, samples.labels, 1)
    with pytest.raises(ValueError, match="between 2[*][*]-33 and 2[*][*]30"):
        fixed(1e-12)


def test_table_says_where_things_are():
    samples = small_samples()
    mlp = Mlp(SMALL, Scales.of(samples.x), SEED)
    x = mlp.rows(samples.x)
    placed = Placed(np.zeros(1 << 20, np.uint8), mlp, x, samples.labels, 3)
    assert placed["magic"] == mlp_table.MAGIC and placed["x"] % 64 == 0 and placed["x"] > BASE
    again = placed.read_back()
    assert (again.master == mlp.master).all() and again.step_number == 0
    assert (placed.array("x", (100, SMALL.x_pitch)) == x).all()
    assert (placed.array("labels", (100,), "uint8") == samples.labels).all()


def test_header_is_generated():
    assert mlp_table.HEADER.read_text() == mlp_table.c_header(), (
        "run `python -m backbeat.soc.mlp_table`")
