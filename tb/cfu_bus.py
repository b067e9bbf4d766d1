"""The CFU bus: a driver, a monitor, and a door that holds every response against the core's model."""

from collections import deque
from dataclasses import replace

from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time
from cocotb_bus.drivers import BitDriver, BusDriver
from cocotb_bus.monitors import BusMonitor

from backbeat_rtl.cfu import Cfu
from backbeat_rtl.config import Config
from backbeat_rtl.core_model import CoreModel
from backbeat_rtl.isa import Op, Read, function_id

from .harness import PERIOD_NS, Simulation

__all__ = ["CORES", "CfuDriver", "CfuMonitor", "Door"]

#: Cores without a memory port: two presets with small buffers, the base, one where nothing is a power
#: of two, and the corner with the fewest rows and the most columns, where many runs are on their way
#: at once.
CORES = {config.name: Simulation(Cfu, config=replace(config, memory=False)) for config in (
    *map(Config.of, ("4x4", "8x8", "16x16")), Config(rows=6, columns=5, depth=32, tiles=4),
    Config(rows=2, columns=64, depth=16, tiles=2, requantisers=4))}

#: What depends on time; CoreModel knows nothing of it.
TIMED = {function_id(Op.GET, r) for r in (Read.STATUS, Read.CYCLES, Read.BUSY, Read.FED)}


class CfuDriver(BusDriver):
    """Sends lists of commands, one per cycle, or idles before each with a chance per cycle.

    The payload is garbage while there is no command.
    """

    _signals = ["valid", "ready", "payload_function_id", "payload_inputs_0", "payload_inputs_1"]

    def __init__(self, dut, rng, idle: float, watchdog: int):
        super().__init__(dut, "cmd", dut.clk)
        self.rng, self.idle, self.watchdog = rng, idle, watchdog
        self.accepted, self.waited = 0, 0
        self.bus.valid.value = 0

    async def _driver_send(self, commands, sync=True):
        edge, bus = RisingEdge(self.clock), self.bus
        for function_id_, input_0, input_1 in commands:
            while self.idle and self.rng.random() < self.idle:
                bus.valid.value = 0
                bus.payload_function_id.value = int(self.rng.integers(1 << 10))
                bus.payload_inputs_0.value = int(self.rng.integers(1 << 32))
                await edge
            bus.valid.value = 1
            bus.payload_function_id.value = function_id_
            bus.payload_inputs_0.value = input_0
            bus.payload_inputs_1.value = input_1
            await edge
            patience = self.watchdog
            while not bus.ready.value:
                self.waited, patience = self.waited + 1, patience - 1
                assert patience, f"no cmd_ready for {self.watchdog} cycles"
                await edge
            self.accepted += 1
        bus.valid.value = 0


class CfuMonitor(BusMonitor):
    """Hands on every response, and watches that one once offered stays until it is taken."""

    _signals = ["valid", "ready", "payload_outputs_0"]

    def __init__(self, dut, callback):
        super().__init__(dut, "rsp", dut.clk, reset=dut.reset, callback=callback)

    async def _monitor_recv(self):
        edge, bus = RisingEdge(self.clock), self.bus
        offered = None
        while True:
            await edge
            if self.in_reset:
                offered = None
                continue
            if not bus.valid.value:
                assert offered is None, "rsp_valid dropped without a transfer"
                continue
            payload = int(bus.payload_outputs_0.value)
            assert offered in (None, payload), f"response changed from {offered:#x} to {payload:#x}"
            offered = payload
            if bus.ready.value:
                offered = None
                self._recv(payload)


class Door:
    """Sends commands to the core and to its model: exactly one response each, and the same.

    Parameters
    ----------
    idle, stall : float
        Chance per cycle of holding back a command, and of refusing a response.
    """

    def __init__(self, dut, config: str, rng, idle: float = 0, stall: float = 0):
        self.dut, self.config = dut, CORES[config].component.core.engine.config
        self.model = CoreModel(self.config)
        self.expected, self.answered = deque(), 0
        self.timed = []         # responses that the model cannot know
        self.times = []         # and when they came, in cycles
        # A command waits for two of the longest runs at most.
        self.watchdog = 2 * self.config.depth * self.config.tiles + 1000
        self.driver = CfuDriver(dut, rng, idle, self.watchdog)
        self.monitor = CfuMonitor(dut, self._answer)
        dut.rsp_ready.value = 1
        if stall:
            BitDriver(dut.rsp_ready, dut.clk).start(
                (int(rng.geometric(stall)) - 1, int(rng.geometric(1 - stall))) for _ in iter(int, 1))

    def _answer(self, response: int):
        self.answered += 1
        assert self.answered <= self.driver.accepted, f"nobody asked for the response {response:#x}"
        command, expected, what, number = self.expected.popleft()
        if expected is None:
            self.timed.append(response)
            self.times.append(get_sim_time("ns") / PERIOD_NS)
        assert expected in (None, response), (
            f"{what}, command {number}, {Op(command[0] & 7).name} {command[0] >> 3} "
            f"({command[1]:#x}, {command[2]:#x}): got {response:#x}, expected {expected:#x}")

    async def send(self, commands, what: str = "") -> list[int]:
        """Returns once the last command is accepted. The model's responses."""
        responses = [self.model.execute(*command) for command in commands]
        for number, (command, response) in enumerate(zip(commands, responses, strict=True)):
            self.expected.append(
                (command, None if command[0] in TIMED else int(response), what, number))
        await self.driver.send(commands, sync=False)
        return responses

    async def reset(self, cycles: int = 1):
        """Pulls the reset pin; what has not been answered never will be."""
        self.dut.reset.value = 1
        await ClockCycles(self.dut.clk, cycles)
        self.dut.reset.value = 0
        self.expected.clear()
        self.answered = self.driver.accepted
        self.model.reset()

    async def drain(self, quiet: int = 20):
        """Waits for all responses, and that nothing more comes."""
        waited = 0
        while self.expected:
            last = self.answered
            await ClockCycles(self.dut.clk, 1)
            waited = waited + 1 if self.answered == last else 0
            assert waited < self.watchdog, f"{len(self.expected)} commands were not answered"
        await ClockCycles(self.dut.clk, quiet)
