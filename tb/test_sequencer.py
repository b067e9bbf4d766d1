"""The sequencer: every address of every tile in its cycle, and no cycle lost between tiles or runs."""

import numpy as np
import pytest

from backbeat_rtl.config import WORD
from backbeat_rtl.sequencer import Sequencer

from .harness import Simulation, drive

DEPTH, TILES, SETTLE = 64, 8, 4
#: Row pairs that drain faster than the end of a tile is found, faster and slower than an accumulator
#: settles.
SEQUENCERS = {period: Simulation(Sequencer, depth=DEPTH, tiles=TILES, period=period, settle=SETTLE)
              for period in (1, 2, 5)}


def random_run(rng) -> dict:
    a_tiles = int(rng.choice([1, 1, 2, 3, TILES]))
    b_tiles = int(rng.integers(1, TILES // a_tiles + 1))
    words = int(rng.integers(1, DEPTH // WORD // max(a_tiles, b_tiles) + 1))
    depth = int(rng.choice([1, 3, 5, WORD * words, rng.integers(1, WORD * words + 1)]))
    most = 2 * DEPTH // WORD
    a_start, b_start = (int(rng.integers(most - words * n + 1)) for n in (a_tiles, b_tiles))
    return {"depth": min(depth, WORD * words), "a_tiles": a_tiles, "b_tiles": b_tiles,
            "a_start": a_start, "b_start": b_start, "c_half": int(rng.integers(2)),
            "accumulate": int(rng.integers(2))}


def steps(run: dict, period: int):
    """(o_a, o_b, o_last, o_tile) in each cycle of a run; None while a short tile waits."""
    depth, pitch = run["depth"], -(-run["depth"] // WORD) * WORD
    for slot in range(run["a_tiles"] * run["b_tiles"]):
        i, j = divmod(slot, run["b_tiles"])
        end = slot == run["a_tiles"] * run["b_tiles"] - 1
        tile = {"slot": slot + run["c_half"] * TILES, "accumulate": run["accumulate"], "end": end,
                "half": run["c_half"]}
        yield from [None] * (max(period, 2, SETTLE if slot == 0 else 0) - depth)
        for k in range(depth):
            reads = ({"valid": 1, "first": k == 0, "address": start * WORD + n * pitch + k}
                     for start, n in ((run["a_start"], i), (run["b_start"], j)))
            yield *reads, k == depth - 1, tile


def test_model_covers_every_product_once():
    """Any pair of bytes that belong together meets exactly once, in the slot of its tile."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        run = random_run(rng)
        pitch = -(-run["depth"] // WORD) * WORD
        places = ([read["address"] - run[f"{port}_start"] * WORD
                   for port, read in zip("ab", reads, strict=True)] + [tile["slot"] % TILES]
                  for *reads, _, tile in filter(None, steps(run, 2)))
        met = [(a // pitch, b // pitch, slot, k) for a, b, slot in places
               for k in {a % pitch, b % pitch}]
        assert met == [(i, j, i * run["b_tiles"] + j, k) for i in range(run["a_tiles"])
                       for j in range(run["b_tiles"]) for k in range(run["depth"])]


@pytest.mark.parametrize("period", SEQUENCERS)
def test_runs_match_model(period):
    SEQUENCERS[period].run(runs_match_model, period=period)


async def runs_match_model(dut, rng, period):
    component = SEQUENCERS[period].component
    runs = [random_run(rng) for _ in range(300)]
    timeline = [list(steps(run, period)) for run in runs]
    length = sum(map(len, timeline)) + 30 * len(runs)
    valid, payload = [0] * length, [component.run.const(random_run(rng)).as_bits()] * length
    ready, busy, expected = [0] * length, [0] * length, [None] * length
    accepted, free = -1, 0              # when the last run was accepted, and the next one can be
    for run, cycles in zip(runs, timeline, strict=True):
        offered = int(rng.choice([accepted + 1, rng.integers(accepted + 1, free + 1), free + 9]))
        accepted = max(offered + 1, free)
        for t in range(offered, accepted + 1):
            valid[t], payload[t] = 1, component.run.const(run).as_bits()
        free, ready[accepted] = accepted + len(cycles), 1
        busy[accepted + 1:free + 1] = [1] * len(cycles)
        expected[accepted + 2:free + 2] = cycles

    got = await drive(dut, {"i_run__valid": valid, "i_run__payload": payload},
                      ["i_run__ready", "o_busy", "o_feeding", "o_a", "o_b", "o_last", "o_tile"])
    assert got["i_run__ready"] == ready
    assert got["o_busy"] == busy
    assert got["o_feeding"] == [int(step is not None) for step in expected]
    assert got["o_last"] == [int(step is not None and step[2]) for step in expected]
    read, tile = component.o_a.shape(), component.o_tile.shape()
    for t, step in enumerate(expected):
        if step is None:
            assert not read.from_bits(got["o_a"][t]).valid and not read.from_bits(got["o_b"][t]).valid
            continue
        for port, layout, value in zip(("o_a", "o_b", "o_tile"), (read, read, tile),
                                       (*step[:2], step[3]), strict=True):
            assert got[port][t] == layout.const(value).as_bits(), (
                f"cycle {t}: {port} is {layout.from_bits(got[port][t])}, expected {value}")
