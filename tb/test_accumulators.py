"""The accumulator buffer: sums added or stored, and read out beside that, cycle by cycle."""

import numpy as np
import pytest

from backbeat_rtl.accumulators import LEAD, READ_LATENCY, UPDATE, Accumulators

from .harness import Simulation, drive, pack, unpack

SLOTS, WIDTH, CYCLES = 8, 32, 8000
BUFFERS = {(pairs, columns): Simulation(Accumulators, row_pairs=pairs, columns=columns, width=WIDTH,
                                        slots=SLOTS)
           for pairs, columns in ((3, 5), (2, 4))}


def tiles(rng, pairs: int):
    """(cycle, slot, accumulate, end, half): back to back or not, often twice into the same slot."""
    t, slot, previous = 0, 0, {}
    while t < CYCLES:
        if rng.random() < 0.6:
            slot = int(rng.integers(SLOTS))
        t = max(t, previous.get(slot, 0) + UPDATE)
        # Nothing to add to at first.
        yield t, slot, int(slot in previous and rng.random() < 0.7), *rng.integers(2, size=2).tolist()
        previous[slot] = t
        t += pairs + int(rng.choice([0, 0, 0, 1, 2, 40]))


@pytest.mark.parametrize(("pairs", "columns"), BUFFERS)
def test_updates_and_reads_match_model(pairs, columns):
    BUFFERS[pairs, columns].run(updates_and_reads_match_model, pairs=pairs, columns=columns)


async def updates_and_reads_match_model(dut, rng, pairs, columns):
    component = BUFFERS[pairs, columns].component
    length = CYCLES + 200
    i_tile, i_read = [0] * length, [0] * length
    sums = rng.integers(-2**31, 2**31, (length, columns, 2))
    ready, end, tile_end = [1] * length, [0] * length, [0] * length
    held = np.zeros((SLOTS, pairs, columns, 2), np.int32)   # the model
    visible = {}            # slot -> cycle of its last tile
    expected = {}           # (cycle, column) -> (its pair, what it is)
    next_read = 0

    def read_until(cycle: int):
        """Reads wherever no tile needs the port, of rows whose updates are through."""
        nonlocal next_read
        for t in range(next_read, cycle):
            slot, pair = int(rng.integers(SLOTS)), int(rng.integers(pairs))
            if t < next_read or slot not in visible or t + 1 < visible[slot] + 2 + pair + UPDATE:
                continue
            i_read[t] = component.read.const({"slot": slot, "pair": pair}).as_bits()
            if ready[t]:
                for c in range(columns):
                    expected[t + READ_LATENCY + c, c] = (
                        held[slot, pair, c].tolist(), f"{slot=} {pair=} column={c} read at {t}")
                next_read = t + 1

    schedule = list(tiles(rng, pairs))
    for t, _, accumulate, *_ in schedule:
        if accumulate:
            ready[t + 1:t + 1 + pairs] = [0] * pairs
    for t, slot, accumulate, last, half in schedule:
        read_until(t)
        i_tile[t] = component.tile.const({"valid": 1, "slot": slot, "accumulate": accumulate,
                                          "end": last, "half": half}).as_bits()
        for pair in range(pairs):
            for c in range(columns):
                step = sums[t + LEAD + pair + c, c]
                held[slot, pair, c] = (step + accumulate * held[slot, pair, c]).astype(np.int32)
        visible[slot] = t
        # The first cycle in which a read of the last pair sees its update.
        tile_end[t + pairs + UPDATE] = 1
        end[t + pairs + UPDATE] = last | half << 1 if last else 0

    got = await drive(dut, {
        "i_tile": i_tile, "i_read": i_read,
        "i_sums": [pack(row, WIDTH) for row in sums.reshape(length, -1).tolist()],
    }, ["o_read_ready", "o_stored", "o_tile_end", "o_end"])

    assert got["o_read_ready"] == ready and got["o_tile_end"] == tile_end
    assert [value if value & 1 else 0 for value in got["o_end"]] == end
    for (t, c), (value, what) in expected.items():
        found = unpack(got["o_stored"][t], 32, 2 * columns)[2 * c:2 * c + 2]
        assert found == value, f"{what}: got {found}, expected {value}"
    assert len(expected) > CYCLES // 4, "too few reads to prove anything"
