"""Any sequence of commands, sensible or not, gets from the core the answers that its model gives."""

import pytest

from backbeat_rtl.isa import Op

from .cfu_bus import CORES, Door
from .commands import command
from .random_commands import garbage, legal


@pytest.mark.parametrize(("config", "idle", "stall"), [
    ("6x5", 0, 0), ("6x5", 0.3, 0.5), ("8x8", 0, 0), ("4x4", 0.1, 0.1)])
def test_any_commands_are_answered_as_by_the_model(config, idle, stall):
    CORES[config].run(any_commands_are_answered, config=config, idle=idle, stall=stall)


async def any_commands_are_answered(dut, rng, config, idle, stall):
    door = Door(dut, config, rng, idle, stall)
    errors, products, batch = 0, 0, 0
    while door.driver.accepted < 40_000:
        model, batch = door.model, batch + 1
        if model.error and rng.random() < 0.3 or rng.random() < 0.003:
            errors += bool(model.error)
            commands = [command(Op.RESET, int(rng.integers(128)))]
        elif rng.random() < 0.01:
            commands = garbage(rng, model)
        else:
            commands = legal(rng, model)
        products += commands[0][0] == Op.READOUT and not model.error
        await door.send(commands, f"batch {batch}")
    await door.drain()
    dut._log.info(f"{errors} errors, {products} products")
    assert errors and products > 50
