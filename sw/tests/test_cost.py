"""Costs of products without running them, against runs of the RTL, and energies worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

import backbeat
from backbeat.cost import Cost, cost
from backbeat.device import plan_job
from backbeat.energy import DEFAULT, LEVELS, Energies, actions, breakdown, read_energies
from backbeat.memory import Memory
from backbeat.planner import plan, sketch
from backbeat.plans import NoPlanError, Problem
from backbeat.trial import Trial
from backbeat.workloads import (
    FORWARD,
    INPUT_GRADIENT,
    WEIGHT_GRADIENT,
    Convolution,
    Geometry,
    Linear,
    Product,
)
from backbeat_rtl.config import Config

MEMORY = Memory()
CONFIG = Config.of("8x8")
LAYERS = (
    Linear("linear", 33, 70, 41),
    Convolution("3x3", Geometry(2, 9, 11, 16, 24, 3, 3, stride=(2, 1), padding=1)),
    Convolution("odd channels", Geometry(1, 8, 8, 12, 10, 3, 2, dilation=2)),
    Convolution("image", Geometry(2, 12, 12, 3, 8, 5, 5, stride=2, padding=2), input_gradient=False),
)
PRODUCTS = [p for layer in LAYERS for p in layer.products()]


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda p: f"{p.name} {p.kind}")
@pytest.mark.parametrize("int8", [True, False])
def test_planner_is_asked_what_the_driver_asks(product, int8):
    """Of the same problem, plans differ a little; what is written does not."""
    job = Trial(product, int8, np.random.default_rng(1)).job().lower(8).job
    planned = plan_job(job, CONFIG, MEMORY)
    found = cost(product, CONFIG, MEMORY, int8)
    m, n, _ = job.shape
    assert found.accumulator_written % (m * n) == 0
    assert abs(found.cycles / planned.cycles - 1) < 0.15
    assert found.dram_written == planned.bytes_written
    assert 0.75 < found.dram_read / planned.bytes_read < 1.3
    assert found.macs == product.macs and found.compulsory == product.compulsory_bytes(1 if int8 else 4)


def test_cycles_and_bytes_are_those_of_the_rtl():
    rng = np.random.default_rng(3)
    with backbeat.open("verilator", CONFIG) as acc:
        for product in PRODUCTS:
            acc.run([Trial(product, False, rng).job()])
            found = cost(product, CONFIG, MEMORY, int8=False)
            assert abs(found.cycles / acc.last.cycles - 1) < 0.15, product
            assert found.dram_written == acc.last.bytes_written, product


def test_counts_of_one_tile_by_hand():
    found = cost(Product("", FORWARD, "nt", 8, 8, 16), CONFIG, MEMORY)
    assert found.array_cycles == 16 and found.macs == 1024
    assert found.scratchpad_written == 2 * 8 * 16 and found.scratchpad_read == 16 * 16
    assert found.accumulator_written % 64 == 0 and found.accumulator_written == found.accumulator_read
    assert found.register_bytes == 6 * 1024 and found.dram_written == 64
    assert found.dram_read == 2 * 8 * 16 + 16 * 8, "and the epilogue's table"
    assert found.compulsory == 2 * 128 + 64


def test_counts_of_several_tiles_by_hand():
    """Three row tiles by two column tiles, the last ones of four rows and one column."""
    found = cost(Product("", FORWARD, "nt", 20, 9, 16), CONFIG, MEMORY)
    assert found.array_cycles == 3 * 2 * 16
    assert found.scratchpad_read == 16 * (2 * 20 + 3 * 9)


def test_weight_gradients_are_int32_and_others_int8_unless_told():
    by_kind = {p.kind: cost(p, CONFIG, MEMORY).dram_written for p in LAYERS[0].products()}
    assert by_kind == {FORWARD: 33 * 48, INPUT_GRADIENT: 33 * 72, WEIGHT_GRADIENT: 41 * 280}


def test_sums_beyond_int32_come_in_parts():
    whole = Product("", WEIGHT_GRADIENT, "tn", 16, 16, 299_998)
    part = Product("", WEIGHT_GRADIENT, "tn", 16, 16, 100_000)
    found, one = (cost(p, CONFIG, MEMORY) for p in (whole, part))
    assert found.cycles == 3 * one.cycles and found.dram_written == 3 * one.dram_written
    assert found.macs == whole.macs and found.compulsory == whole.compulsory_bytes(4)


def test_costs_add_up():
    one = cost(PRODUCTS[0], CONFIG, MEMORY)
    assert one + one == one.times(2) and Cost() + one == one
    assert one.utilisation(CONFIG) == one.macs / (64 * one.cycles) and Cost().utilisation(CONFIG) == 0


def test_equal_products_are_planned_once():
    named = [replace(PRODUCTS[0], name=name, count=count) for name, count in (("a", 1), ("b", 7))]
    assert cost(named[0], CONFIG, MEMORY) is cost(named[1], CONFIG, MEMORY)


def test_sketch_is_close_to_the_plan_and_without_a_walk_below_it():
    rng = np.random.default_rng(7)
    off = []
    for _ in range(20):
        m, n, k = np.exp(rng.uniform(3, 7, 3)).astype(int).tolist()
        problem = Problem(m, n, k, False, False, CONFIG, MEMORY, 1, True, False, None, None)
        best = plan(m, n, k, False, False, CONFIG, MEMORY, 1, True, False).cycles
        off.append(sketch(problem).cycles / best - 1)
        assert sketch(problem, walk=0).cycles <= 1.1 * best
    assert -0.02 < min(off) and np.median(off) < 0.01 and max(off) < 0.3, off
    # More tiles than a bank has words for.
    shallow = Config(8, 14, depth=256, tiles=64, requantisers=2)
    assert sketch(Problem(1, 4096, 9216, False, False, shallow, MEMORY, 1, True, False, None, None))
    with pytest.raises(NoPlanError):
        sketch(Problem(4, 64, 8, False, True, Config(2, 2, 16, 2), MEMORY, 4, False, False, None, None))


def test_energy_by_hand():
    counted = Cost(macs=10, register_bytes=60, scratchpad_read=8, scratchpad_written=4,
                   accumulator_read=2, accumulator_written=3, dram_read=5, dram_written=3)
    assert breakdown(counted) == pytest.approx({
        "PE": 10 * 0.3, "registers": 0.6, "scratchpad": 12 * 1.25, "accumulators": 25, "DRAM": 8 * 160})
    assert tuple(breakdown(counted)) == LEVELS
    assert actions(counted)["dram"] == {"read_byte": 5, "write_byte": 3}
    assert actions(counted)["pe"]["add32"] == 10


def test_energies_come_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("dram32 = 64\nsource = 'measured'\n")
    assert read_energies(path) == replace(DEFAULT, dram32=64, source="measured")
    path.write_text("add8 = 1")
    assert read_energies(path).source == str(path)


@pytest.mark.parametrize(("text", "match"), [
    ("dram = 1", "no energy 'dram'; there are add8"), ("add32 = -1", "add32 must be a number.*got -1"),
    ("sram32 = 'much'", "sram32 must be.*'much'"), ("add8 = true", "add8 must be.*True"),
    ("add8 = inf", "add8 must be"), ("add8", "no table of energies")])
def test_bad_energies_are_named(tmp_path, text, match):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"bad.toml.*{match}"):
        read_energies(path)


def test_energy_must_be_a_number():
    with pytest.raises(ValueError, match="multiply8 must be"):
        Energies(multiply8=float("nan"))
