"""The array: tiles of any K in any rhythm, and column sums in exactly the right cycle."""

import numpy as np
import pytest

from backbeat_rtl.array import LATENCY, SystolicArray
from backbeat_rtl.array_model import tile_product

from .harness import Simulation, drive, pack, unpack

ROWS, COLUMNS = 8, 6
PAIRS = ROWS // 2
ARRAYS = {max_k: Simulation(SystolicArray, rows=ROWS, columns=COLUMNS, max_k=max_k)
          for max_k in (16, 2048)}


def tiles(rng, count: int, max_k: int):
    """Tiles and the idle cycles behind each: mostly none, so that one drains while the next computes."""
    for _ in range(count):
        k = int(rng.choice([PAIRS, PAIRS, PAIRS + 1, rng.integers(PAIRS, 17),
                            rng.integers(PAIRS, min(max_k, 150) + 1)]))
        a = rng.integers(-127, 128, (ROWS, k))
        b = rng.integers(-128, 128, (k, COLUMNS))
        if rng.random() < 0.3:
            a, b = rng.choice([-127, 127], a.shape), rng.choice([-128, 127], b.shape)
        yield a, b, int(rng.choice([0, 0, 0, 1, PAIRS, 20]))


def skewed(matrix: np.ndarray, group: int = 1) -> np.ndarray:
    """``[lane, cycle]`` with each group of lanes a cycle behind the one before; ends are idle."""
    return np.stack([np.roll(lane, number // group) for number, lane in enumerate(matrix)])


def test_model_is_exact():
    rng = np.random.default_rng(1)
    for a, b, _ in tiles(rng, 50, 2048):
        np.testing.assert_array_equal(tile_product(a, b), a @ b)


@pytest.mark.parametrize("max_k", ARRAYS)
def test_tiles_match_model(max_k):
    ARRAYS[max_k].run(tiles_match_model, max_k=max_k)


async def tiles_match_model(dut, rng, max_k):
    stimulus = list(tiles(rng, 400, max_k))
    longest = rng.choice([-127, 127], (ROWS, 1)), rng.choice([-128, 127], (1, COLUMNS))
    stimulus.append((np.repeat(longest[0], max_k, 1), np.repeat(longest[1], max_k, 0), 0))
    lengths = [a.shape[1] + idle for a, _, idle in stimulus]
    starts = np.cumsum([0, *lengths[:-1]])
    ends = np.array([start + a.shape[1] - 1 for start, (a, _, _) in zip(starts, stimulus, strict=True)])
    cycles = sum(lengths) + LATENCY + PAIRS + COLUMNS + ROWS
    a_port, b_port = np.zeros((ROWS, cycles), int), np.zeros((COLUMNS, cycles), int)
    first, last, valid = np.zeros((PAIRS, cycles), int), np.zeros(cycles, int), np.zeros(cycles, int)
    for start, end, (a, b, _) in zip(starts, ends, stimulus, strict=True):
        a_port[:, start:end + 1], b_port[:, start:end + 1] = a, b.T
        first[:, start], last[end] = 1, 1
        valid[end + LATENCY:end + LATENCY + PAIRS] = 1

    got = await drive(dut, {
        "i_a": [pack(step, 8) for step in skewed(a_port, 2).T.tolist()],
        "i_b": [pack(step, 8) for step in skewed(b_port).T.tolist()],
        "i_first": [pack(step, 1) for step in skewed(first).T.tolist()],
        "i_last": last.tolist(),
    }, ["o_valid", "o_sums"])

    assert got["o_valid"] == valid.tolist(), "o_valid comes in the wrong cycle"
    width = ARRAYS[max_k].component.width
    sums = np.array([unpack(value, width, 2 * COLUMNS) for value in got["o_sums"]])
    for number, (end, (a, b, _)) in enumerate(zip(ends, stimulus, strict=True)):
        drained = end + LATENCY + np.arange(PAIRS)[:, None] + np.arange(COLUMNS)
        found = sums.reshape(cycles, COLUMNS, 2)[drained, np.arange(COLUMNS)]   # [pair, column, 2]
        np.testing.assert_array_equal(
            found.transpose(0, 2, 1).reshape(ROWS, COLUMNS), tile_product(a, b),
            err_msg=f"tile {number} of K={a.shape[1]}, previous K="
                    f"{stimulus[number - 1][0].shape[1]} idle={stimulus[number - 1][2]}")
