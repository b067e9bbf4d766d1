"""Plans: they cover the product, fit the buffers, and take as long as they say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backbeat
from backbeat.tiler import door_cycles, plan, steps
from backbeat_rtl.config import PRESETS, Config
from backbeat_rtl.isa import MAX_RUN

CONFIGS = st.sampled_from([*PRESETS.values(), Config(2, 2, 16, 2), Config(6, 10, 64, 4)])


@given(m=st.integers(1, 120), n=st.integers(1, 120), k=st.integers(1, 1000), config=CONFIGS)
@settings(max_examples=100, deadline=None)
def test_every_element_is_computed_once_within_the_buffers(m, n, k, config):
    done = np.zeros((m, n), dtype=int)
    a_held, b_held, words = [None, None], [None, None], 0
    open_tile = None
    for step in steps(plan(m, n, k, config)):
        rows, columns, depth = (s.stop - s.start for s in (step.rows, step.columns, step.k))
        a_tiles, b_tiles = -(-rows // config.rows), -(-columns // config.columns)
        pitch = -(-depth // 8) * 8
        assert a_tiles * b_tiles <= config.tiles
        assert max(a_tiles, b_tiles) * pitch <= config.depth and depth <= MAX_RUN
        if step.load_a:
            a_held[step.a_half] = (step.rows, step.k)
            words += rows * pitch // 8
        if step.load_b:
            b_held[step.b_half] = (step.columns, step.k)
            words += columns * pitch // 8
        assert a_held[step.a_half] == (step.rows, step.k)
        assert b_held[step.b_half] == (step.columns, step.k)
        tile = (step.rows, step.columns, step.c_half)
        assert step.accumulate == (step.k.start > 0) and (not step.accumulate or tile == open_tile)
        open_tile = tile
        done[step.rows, step.columns] += depth
    assert (done == k).all()
    if k % 8 == 0 and plan(m, n, k, config).chunk % 8 == 0:
        assert words <= plan(m, n, k, config).words


@pytest.mark.parametrize(("m", "n", "k"), [(80, 80, 80), (128, 64, 300), (9, 200, 64), (256, 48, 96)])
@pytest.mark.parametrize("config", ["4x4", "8x8"])
def test_predicted_cycles_are_those_of_the_rtl(m, n, k, config):
    """Operands along K, so that every word is full: the prediction counts no padding."""
    with backbeat.open("verilator", replace(Config.of(config), memory=False)) as acc:
        acc.gemm(np.ones((m, k), np.int8), np.ones((n, k), np.int8), "nt")
        predicted = door_cycles(plan(m, n, k, acc.config), acc.config)
        assert acc.last.cycles == pytest.approx(predicted, rel=0.05)
