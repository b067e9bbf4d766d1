"""The perceptron trained by firmware in the simulated SoC: to the bits of the model."""

import os

import numpy as np
import pytest

from backbeat.errors import AcceleratorError
from backbeat.soc import mlp_table
from backbeat.soc.mlp import Mlp
from backbeat.soc.mlp_sizes import LARGEST, Network, Scales
from backbeat.soc.mlp_table import Placed
from backbeat.soc.mlp_training import Samples, firmware, flat, train_in_model, train_on_soc
from backbeat.soc.simulator import Soc
from backbeat.train.data import load

SEED = int(os.environ["SEED"])
CONFIG = "8x8"
#: No size is a multiple of 8, and of the rows, with which nothing is wrong, none is left.
ODD = Network(20, 13, 5, batch=9, block=8)


def random_samples(network, rows):
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(rows, network.inputs)).astype(np.float32)
    labels = rng.integers(network.classes, size=rows)
    return Samples(x, labels, x, labels)


def same(got: Mlp, expected: Mlp):
    assert got.step_number == expected.step_number
    wrong = np.flatnonzero(got.master != expected.master)
    assert not wrong.size, (f"{wrong.size} weights differ; number {wrong[0]} is {got.master[wrong[0]]}, "
                            f"expected {expected.master[wrong[0]]}")


def test_digits_learnt_by_the_core_are_those_of_the_model():
    samples, seen = flat(load("digits", None, 0), 0), []
    network, epochs = Network(), 4 / 44
    expected = train_in_model(samples, network, epochs=epochs, seed=SEED)
    got = train_on_soc(samples, network, epochs=epochs, seed=SEED, config=CONFIG,
                       watch=lambda *progress: seen.append(progress))
    same(got.mlp, expected.mlp)
    assert (got.right, got.accuracy, got.steps) == (expected.right, expected.accuracy, 4)
    assert seen[-1] == (4, 4, expected.right)
    assert 0 < got.update_cycles < got.product_cycles + got.update_cycles < got.step_cycles < 60_000
    assert f"core {CONFIG}, network 64-32-10" in got.console


@pytest.mark.parametrize("software", [False, True], ids=["core", "software"])
def test_any_sizes_give_the_bits_of_the_model(software):
    """Several epochs, so that strides change and batches reach over the end of the data."""
    samples = random_samples(ODD, 40)
    expected = train_in_model(samples, ODD, epochs=3, seed=SEED)
    got = train_on_soc(samples, ODD, epochs=3, seed=SEED, config=CONFIG, software=software)
    same(got.mlp, expected.mlp)
    assert (got.right, got.steps) == (expected.right, 12)


@pytest.mark.parametrize("software", [False, True], ids=["core", "software"])
def test_weights_saturate_and_go_on_from_any_step(software):
    """Weights at either bound, a learning rate that wants to go beyond, an odd step to begin with."""
    samples, rng = random_samples(ODD, 30), np.random.default_rng(SEED)
    mlp = Mlp(ODD, Scales.of(samples.x, lr=30.0), SEED)
    w1 = mlp._layers(np.arange(ODD.plane))[0][:, :ODD.inputs]
    master = mlp.master.astype(int)
    master[w1] = rng.choice([-LARGEST, LARGEST, 0], w1.shape)
    mlp.set_master(master)
    mlp.step_number = 3
    x = mlp.rows(samples.x)
    with Soc(CONFIG, firmware(software)) as soc:
        placed = Placed(soc.image, mlp, x, samples.labels, 6)
        assert soc.run(20_000_000) == 0, soc.console
        got = placed.read_back(software)
    before = mlp.master.copy()
    mlp.train(x, samples.labels, 3)
    same(got, mlp)
    stayed = (np.abs(before) == LARGEST) & (got.master == before)
    assert stayed.sum() > 10 and (got.master != before).sum() > 10


def test_what_the_firmware_refuses_is_named(monkeypatch):
    many = Network(20, 13, 70, batch=9)
    monkeypatch.setattr(mlp_table, "CLASSES", 70)
    with pytest.raises(AcceleratorError, match="exit code 1: step 0: error 201 CLASSES, value 46"):
        train_on_soc(random_samples(many, 20), many, config=CONFIG)
    with Soc(CONFIG, firmware()) as soc:
        assert soc.run(1_000_000) == 1 and "error 200 NO_TABLE, value 0" in soc.console
