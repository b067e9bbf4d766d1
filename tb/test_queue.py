"""The short queue: entry by entry a queue, its flags true in every cycle."""

import gc
from collections import deque

import pytest
from cocotb.triggers import RisingEdge

from backbeat_rtl.queue import Queue

from .harness import Simulation

#: By depth, and whether buffered: two entries are registers, others a memory.
QUEUES = {(depth, buffered): Simulation(Queue, width=9, depth=depth, buffered=buffered)
          for depth, buffered in (
              (2, False), (3, False), (16, False), (17, False), (4, True), (32, True))}
#: Chances of writing and of reading: it fills, empties, and stays full, empty or in between.
PHASES = (0.9, 0.3), (0.3, 0.9), (1, 1), (1, 0), (0, 1), (0.5, 0.5), (1, 0.5), (0.5, 1)


@pytest.mark.parametrize("depth, buffered", QUEUES)
def test_flags_and_entries_match_model(depth, buffered):
    QUEUES[depth, buffered].run(flags_and_entries_match_model, depth=depth, buffered=buffered)


async def flags_and_entries_match_model(dut, rng, depth, buffered):
    """Behind the register of a buffered one an entry is shown a cycle later than it is held."""
    held, shown, seen = deque(), deque(), 0
    most = depth - buffered
    for cycle in range(6000):
        writing, reading = PHASES[cycle // max(25, 2 * depth) % len(PHASES)]
        write, read = rng.random() < writing, rng.random() < reading
        entry = int(rng.integers(2**9))
        dut.w_en.value, dut.r_en.value, dut.w_data.value = int(write), int(read), entry
        await RisingEdge(dut.clk)
        front = shown if buffered else held
        found = bool(dut.w_rdy.value), bool(dut.r_rdy.value)
        wanted = len(held) < most, bool(front)
        assert found == wanted, f"cycle {cycle}, {held}, {shown}: w_rdy, r_rdy {found}, not {wanted}"
        if hasattr(dut, "level"):
            assert int(dut.level.value) == len(held), f"cycle {cycle}: {dut.level.value}, {held}"
        if front:
            assert int(dut.r_data.value) == front[0], f"cycle {cycle}: {int(dut.r_data.value)} {front}"
        seen += read and bool(front)
        if read and front:
            front.popleft()
        if buffered and not shown and held:
            shown.append(held.popleft())
        if write and wanted[0]:
            held.append(entry)
    assert seen > 2000, f"{seen} entries prove little"


@pytest.mark.parametrize("depth, buffered", [(1, False), (64, False), (2, True), (65, True)])
@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_depth_out_of_range_is_refused(depth, buffered):
    with pytest.raises(ValueError, match=f"depth must be .*, got {depth}"):
        Queue(width=8, depth=depth, buffered=buffered)
    gc.collect()        # so that Amaranth complains of it now
