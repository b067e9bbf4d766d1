"""The whole core over the CFU door: random products, bit for bit, with and without stalls."""

import time

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from backbeat.program import Job, collect, compile_job
from backbeat.tiler import plan
from backbeat_rtl.cfu import WAITING
from backbeat_rtl.isa import Read

from .cfu_bus import CORES, Door
from .commands import commands_of, get
from .coverage import record
from .products import oracle, random_job


@pytest.mark.parametrize(("config", "count"), [("4x4", 600), ("8x8", 400), ("16x16", 300)])
def test_products_match_model(config, count):
    CORES[config].run(products_match_model, config=config, count=count, idle=0, stall=0)


@pytest.mark.parametrize(("config", "count"), [("4x4", 300), ("8x8", 300), ("16x16", 50)])
@pytest.mark.parametrize(("idle", "stall"), [(0.1, 0.7), (0.6, 0.3)])
def test_products_survive_stalls(config, count, idle, stall):
    CORES[config].run(products_match_model, config=config, count=count, idle=idle, stall=stall)


async def products_match_model(dut, rng, config, count, idle, stall):
    door = Door(dut, config, rng, idle, stall)
    start = time.perf_counter()
    for number in range(count):
        job = random_job(rng, door.config.rows, door.config.columns)
        what = f"product {number}: {job.shape} {job.op} {job.spec and job.spec.rounding}"
        program = compile_job(job, door.config)
        responses = await door.send([*commands_of(program), get(Read.MAX_ABS)], what)
        # The core equals its model (the door sees to that); now the model against plain NumPy.
        position = 0
        for batch in program.batches:
            if batch.outputs is not None:
                batch.outputs[:] = responses[position:position + batch.count]
            position += batch.count
        np.testing.assert_array_equal(collect(program, job), oracle(job), err_msg=what)
        nest, spec = plan(*job.shape, door.config), job.spec
        record.product(door.config, op=job.op, shape=job.shape, panels=(nest.a_panel, nest.b_panel),
                       chunk=nest.chunk, stalled=stall > 0,
                       spec=spec and (spec.rounding == "stochastic", spec.zero_point, spec.low))
    await door.drain()
    seconds = time.perf_counter() - start
    dut._log.info(f"{count} products, {door.answered} commands, {count / seconds:.0f} products/s")


def test_largest_sums_match_model():
    CORES["4x4"].run(largest_sums_match_model)


async def largest_sums_match_model(dut, rng):
    """Up to 2^24 of either sign, each the largest for a while; the model is asked for MAX_ABS, too."""
    door = Door(dut, "4x4", rng)
    for k in (40, 70, 130, 260, 520, 1100):
        a, b = (rng.choice([-127, 127], (3, k)).astype(np.int8) for _ in range(2))
        b[0], b[1] = a[0], -a[1]
        program = compile_job(Job(a, b, "nt"), door.config)
        await door.send([*commands_of(program), get(Read.MAX_ABS)], f"sums of {k}")
    await door.drain()


@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.2, 0.5)])
def test_ready_stays_while_few_commands_wait(idle, stall):
    """VexRiscv makes a command of its own if it does not, see Cfu."""
    CORES["4x4"].run(ready_stays, idle=idle, stall=stall)


async def ready_stays(dut, rng, idle, stall):
    watching = cocotb.start_soon(watch_ready(dut))
    await products_match_model(dut, rng, "4x4", 50, idle, stall)
    watching.cancel()


async def watch_ready(dut):
    outstanding = 0
    while True:
        await RisingEdge(dut.clk)
        assert dut.cmd_ready.value or outstanding >= WAITING, f"not ready with {outstanding} waiting"
        outstanding += int(dut.cmd_valid.value) & int(dut.cmd_ready.value)
        outstanding -= int(dut.rsp_valid.value) & int(dut.rsp_ready.value)
