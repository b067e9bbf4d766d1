"""RESET, and the reset pin, at any moment: what follows is as if nothing had been."""

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from backbeat.program import compile_job
from backbeat_rtl.isa import Op, Read

from .cfu_bus import CORES, Door
from .commands import command, commands_of, get
from .products import random_job


def random_commands(rng, config, largest: int):
    return commands_of(compile_job(random_job(rng, config.rows, config.columns, largest), config))


@pytest.mark.parametrize("config", ["4x4", "6x5", "8x8"])
@pytest.mark.parametrize(("idle", "stall"), [(0, 0), (0.2, 0.5)])
def test_product_after_reset_command_is_exact(config, idle, stall):
    CORES[config].run(product_after_reset_command, config=config, idle=idle, stall=stall)


async def product_after_reset_command(dut, rng, config, idle, stall):
    """In the middle of loading, running or reading, at once or some cycles later."""
    door = Door(dut, config, rng, idle, stall)
    for number in range(300):
        commands = random_commands(rng, door.config, 40)
        await door.send(commands[:rng.integers(1, len(commands) + 1)], f"before reset {number}")
        if wait := int(rng.choice([0, 0, rng.integers(1, 10), rng.integers(10, 100)])):
            await ClockCycles(dut.clk, wait)
        await door.send([command(Op.RESET), get(Read.ERROR), get(Read.MAX_ABS)], f"reset {number}")
        await door.send(random_commands(rng, door.config, 16), f"product after reset {number}")
    await door.drain()


@pytest.mark.parametrize(("config", "stall"), [("4x4", 0), ("6x5", 0.5)])
def test_product_after_reset_pin_is_exact(config, stall):
    CORES[config].run(product_after_reset_pin, config=config, stall=stall)


async def product_after_reset_pin(dut, rng, config, stall):
    """The pin cuts off commands and responses, a waiting command among them."""
    door = Door(dut, config, rng, stall=stall)
    for number in range(300):
        commands = random_commands(rng, door.config, 40)
        sending = cocotb.start_soon(door.send(commands, f"before reset {number}"))
        await ClockCycles(dut.clk, int(rng.integers(1, len(commands) + 40)))
        sending.cancel()
        dut.cmd_valid.value = 0
        await door.reset(int(rng.integers(1, 4)))
        await door.send(random_commands(rng, door.config, 16), f"product after reset {number}")
    await door.drain()
