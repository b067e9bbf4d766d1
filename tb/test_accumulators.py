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
    i_tile, i_read, i_read_valid = [0] * length, [0] * length, [0] * length
    sums = rng.integers(-2**31, 2**31, (length, columns, 2))
    ready, end = [1] * length, [0] * length
    held = np.zeros((SLOTS, pairs, columns, 2), np.int32)   # the model
    visible = {}            # slot -> cycle of its last tile
    expected = {}           # cycle -> (value, what it is)
    next_read = 0

    def read_until(cycle: int):
        """Reads wherever no tile needs the port, of rows whose updates are through."""
        nonlocal next_read
        for t in range(next_read, cycle):
            slot, pair, odd = int(rng.integers(SLOTS)), int(rng.integers(pairs)), int(rng.integers(2))
            if t < next_read or slot not in visible or t + 1 < visible[slot] + 2 + pair + UPDATE:
                continue
            count = int(rng.integers(1, columns + 1))
            i_read[t] = component.row.const(
                {"slot": slot, "pair": pair, "odd": odd, "columns": count}).as_bits()
            i_read_valid[t] = 1
            if ready[t]:
                for c in range(count):
                    expected[t + READ_LATENCY + c] = (
                        int(held[slot, pair, c, odd]), f"{slot=} {pair=} {odd=} column={c} read at {t}")
                next_read = t + count

    schedule = list(tiles(rng, pairs))
    for t, *_ in schedule:
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
        end[t + pairs + columns + UPDATE] = last | half << 1 if last else 0

    got = await drive(dut, {
        "i_tile": i_tile, "i_read": i_read, "i_read_valid": i_read_valid,
        "i_sums": [pack(row, WIDTH) for row in sums.reshape(length, -1).tolist()],
    }, ["o_read_ready", "o_value", "o_value_valid", "o_end"])

    assert got["o_read_ready"] == ready
    assert [value if value & 1 else 0 for value in got["o_end"]] == end
    assert got["o_value_valid"] == [int(t in expected) for t in range(length)]
    for t, (value, what) in expected.items():
        found = unpack(got["o_value"][t], 32, 1)[0]
        assert found == value, f"{what}: got {found}, expected {value}"
    assert len(expected) > CYCLES // 4, "too few reads to prove anything"
