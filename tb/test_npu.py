"""The NPU door: commands as the core's model, products through 32 bits of AXI4, exceptions."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from backbeat_rtl.config import Config
from backbeat_rtl.core_model import CoreModel
from backbeat_rtl.isa import Error, Op, Port, Read, Write
from backbeat_rtl.verilog import npu_verilog

from .cfu_bus import TIMED
from .commands import command, get, load, load_matrix, read, readout, run
from .descriptors import random_chain
from .harness import Simulation
from .memory_image import SIZE, Arena
from .memory_port import BASE, WATCHDOG, Host, Ram
from .narrow_port import NarrowRules, NpuBench
from .test_core_garbage import garbage, legal

DOOR = Simulation(NpuBench, config=Config(rows=6, columns=5, depth=32, tiles=4, memory=False))
MEMORY = Simulation(NpuBench, config=Config.of("4x4"))

#: The slot's ports, from the platform's Platform/hw/srcs/NPU.v: (way, width, names).
SLOT = [
    ("input", 1, "clk rst_n NPU_start M_AXI_AWREADY M_AXI_WREADY M_AXI_BVALID M_AXI_ARREADY M_AXI_RLAST "
                 "M_AXI_RVALID"),
    ("input", 2, "M_AXI_BRESP M_AXI_RRESP"), ("input", 3, "funct3_i"), ("input", 4, "M_AXI_RID"),
    ("input", 7, "funct7_i"), ("input", 32, "rs1_i rs2_i M_AXI_RDATA"),
    ("output", 1, "NPU_done NPU_exception M_AXI_AWLOCK M_AXI_AWVALID M_AXI_WLAST M_AXI_WVALID "
                  "M_AXI_BREADY M_AXI_ARLOCK M_AXI_ARVALID M_AXI_RREADY"),
    ("output", 2, "M_AXI_AWBURST M_AXI_ARBURST"),
    ("output", 3, "M_AXI_AWSIZE M_AXI_AWPROT M_AXI_ARSIZE M_AXI_ARPROT"),
    ("output", 4, "M_AXI_AWCACHE M_AXI_AWQOS M_AXI_WSTRB M_AXI_ARCACHE M_AXI_ARQOS"),
    ("output", 8, "M_AXI_AWLEN M_AXI_ARLEN"), ("output", 16, "M_AXI_AWUSER M_AXI_ARUSER"),
    ("output", 32, "NPU_out M_AXI_AWADDR M_AXI_WDATA M_AXI_ARADDR"),
]


@pytest.mark.parametrize("memory", [True, False])
def test_npu_has_exactly_the_ports_of_the_slot(memory):
    text = npu_verilog(replace(Config.of("4x4"), memory=memory))
    top = re.search(r"^module NPU\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)[0]
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", top, re.MULTILINE)
    assert sorted((way, int(msb or 0) + 1, name) for way, msb, name in found) == sorted(
        (way, width, name) for way, width, names in SLOT for name in names.split())


class Cpu:
    """Gives a command and waits for it, as the platform's CPU does.

    Some starts are pulses, followed by noise on the operands, and some are held.

    Attributes
    ----------
    latencies : dict
        Op: the least cycles from start to done.
    """

    def __init__(self, dut, rng, idle: float = 0):
        self.dut, self.rng, self.idle, self.latencies = dut, rng, idle, {}
        dut.NPU_start.value = 0

    def _operands(self, function_id, input_0, input_1):
        self.dut.funct3_i.value, self.dut.funct7_i.value = function_id & 7, function_id >> 3
        self.dut.rs1_i.value, self.dut.rs2_i.value = input_0, input_1

    async def ask(self, function_id: int, input_0: int = 0, input_1: int = 0) -> tuple[int, bool]:
        """The answer, and whether there was an exception."""
        dut, rng, edge = self.dut, self.rng, RisingEdge(self.dut.clk)
        while rng.random() < self.idle:
            self._operands(*rng.integers(0, 1 << 10, 3).tolist())
            await edge
            assert not dut.NPU_done.value and not dut.NPU_exception.value, "done without a command"
        pulse = rng.random() < 0.5
        self._operands(function_id, input_0, input_1)
        dut.NPU_start.value = 1
        await edge
        waited = 0
        while not dut.NPU_done.value:
            if pulse:
                dut.NPU_start.value = 0
                self._operands(*rng.integers(0, 1 << 10, 3).tolist())
            assert not dut.NPU_exception.value, "an exception before its command is done"
            waited += 1
            assert waited < WATCHDOG, f"{Op(function_id & 7).name} {function_id >> 3} is not answered"
            await edge
        answer, exception = int(dut.NPU_out.value), bool(dut.NPU_exception.value)
        # The CPU sees done in this cycle; what it does is there in the next.
        dut.NPU_start.value = 0
        if rng.random() < 0.2:
            await edge
            assert not dut.NPU_done.value and not dut.NPU_exception.value, "done for two cycles"
            assert int(dut.NPU_out.value) == answer, "the answer has changed"
        op = Op(function_id & 7)
        self.latencies[op] = min(waited, self.latencies.get(op, waited))
        return answer, exception


def test_commands_are_answered_as_by_the_model():
    DOOR.run(commands_are_answered)


async def commands_are_answered(dut, rng):
    """... and an exception says that another than GET has left the core in an error."""
    cpu, model = Cpu(dut, rng, 0.1), CoreModel(DOOR.component.config)
    errors, products, count = 0, 0, 0
    while count < 6000:
        if model.error and rng.random() < 0.2 or rng.random() < 0.01:
            commands = [command(Op.RESET, int(rng.integers(128)))]
        elif model.error and rng.random() < 0.5:
            commands = [get(Read.ERROR), get(Read.ERROR_VALUE), *read(2)]
        elif rng.random() < 0.05:
            commands = garbage(rng, model)
        else:
            commands = legal(rng, model)
        products += commands[0][0] == Op.READOUT and not model.error
        for one in commands:
            op, expected = Op(one[0] & 7), int(model.execute(*one))
            answer, exception = await cpu.ask(*one)
            what = f"command {count}, {op.name} {one[0] >> 3} ({one[1]:#x}, {one[2]:#x})"
            assert one[0] in TIMED or answer == expected, f"{what}: got {answer:#x}, not {expected:#x}"
            assert exception == (op != Op.GET and model.error != 0), f"{what}: exception {exception}"
            errors, count = errors + exception, count + 1
    dut._log.info(f"{count} commands, {errors} exceptions, {products} products, {cpu.latencies}")
    assert errors > 50 and products > 20
    least = {Op.GET: 6, Op.SET: 6, Op.PUSH: 4, Op.RESET: 4, Op.READ: 7}
    assert {op: cpu.latencies[op] for op in least} == least, cpu.latencies


def test_a_word_that_looks_like_a_code_is_no_exception():
    DOOR.run(a_word_that_looks_like_a_code)


async def a_word_that_looks_like_a_code(dut, rng):
    cpu, rows = Cpu(dut, rng), DOOR.component.config.rows
    values = np.arange(1, 5, dtype=np.int8)[:, None]
    one = np.ones((1, 1), np.int8)
    for each in [*load_matrix(Port.A, values, rows), *load_matrix(Port.B, one, 5), run(), readout()]:
        assert await cpu.ask(*each) == (0, False)
    assert [await cpu.ask(*each) for each in read(4)] == [(n, False) for n in range(1, 5)]
    assert await cpu.ask(*read(1)[0]) == (Error.NO_RESULT, True)
    assert await cpu.ask(*get(Read.ERROR)) == (Error.NO_RESULT, False)


def test_every_bit_of_an_answer_arrives():
    MEMORY.run(every_bit_of_an_answer_arrives)


async def every_bit_of_an_answer_arrives(dut, rng):
    """Sums of either sign, with a memory port beside."""
    config = MEMORY.component.config
    cpu, shape = Cpu(dut, rng), (config.rows, config.bank)
    a, b = (rng.choice([-127, 127, rng.integers(-127, 128)], shape).astype(np.int8) for _ in range(2))
    for each in [*load_matrix(Port.A, a, config.rows), *load_matrix(Port.B, b, config.columns),
                 run(), readout()]:
        assert await cpu.ask(*each) == (0, False)
    words = [(await cpu.ask(*each))[0] for each in read(shape[0] * config.columns)]
    sums = a.astype(np.int32) @ b.T.astype(np.int32)
    assert words == sums.reshape(-1).view(np.uint32).tolist()
    # The same as INT8, by entries of the table that make zeros of them and add another bias each.
    for each in [command(Op.SET, Write.SHIFT, 40), command(Op.SET, Write.TABLE),
                 *(command(Op.PUSH, Port.TABLE, bias << 20, 1 << 20) for bias in range(config.columns)),
                 readout(requantise=1)]:
        assert await cpu.ask(*each) == (0, False)
    sums = sums.astype(np.int64) + (np.arange(config.columns) << 20)
    expected = np.clip((sums * 2**20 + 2**39) >> 40, -128, 127).astype(np.int8)
    words = [(await cpu.ask(*each))[0] for each in read(len(expected))]
    assert words == expected.view("<u4").reshape(-1).tolist()


def test_illegal_commands_are_exceptions():
    MEMORY.run(illegal_commands_are_exceptions)


async def illegal_commands_are_exceptions(dut, rng):
    """All that there are; and a -128 in A, which may have been loaded with other values, is one."""
    config = MEMORY.component.config
    cpu, count = Cpu(dut, rng), 0
    for port, n in product((Port.A, Port.B), range(9)):     # in each byte, and in none
        value = 128 << 8 * n
        model, words = CoreModel(config), (value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF)
        for one in (load(port, depth=8, tiles=1, last=4), command(Op.PUSH, port, *words)):
            expected = int(model.execute(*one))
            assert await cpu.ask(*one) == (expected, expected != 0), f"{port.name}, byte {n}"
        assert (expected != 0) == (port == Port.A and n < 8), "the model"
        assert await cpu.ask(*command(Op.RESET, 0, *words)) == (0, False)
    for function in range(1 << 10):
        known = {Op.GET: Read, Op.SET: Write, Op.PUSH: Port}.get(function & 7, ())
        if function >> 3 in [*known] or CoreModel(config).execute(function) != Error.ILLEGAL:
            continue
        answer, exception = await cpu.ask(function, 0, 0)
        what = f"{Op(function & 7).name} {function >> 3}"
        assert (answer, exception) == (Error.ILLEGAL, function & 7 != Op.GET), what
        assert await cpu.ask(*get(Read.ERROR)) == (Error.ILLEGAL, False), what
        assert await cpu.ask(*command(Op.RESET)) == (0, False), what
        count += 1
    assert count > 500, count


def test_reset_forgets_and_loses_no_command():
    DOOR.run(reset_forgets)


async def reset_forgets(dut, rng):
    """What is in progress is never answered; a command in the first cycle after a reset is."""
    cpu, edge = Cpu(dut, rng), RisingEdge(dut.clk)
    identity, _ = await cpu.ask(*get(Read.ID))
    for into, cycles in product(range(8), (1, 2, 5)):
        dut.funct3_i.value, dut.funct7_i.value, dut.NPU_start.value = Op.READ, 0, 1
        await edge
        dut.NPU_start.value = 0
        for _ in range(into):
            await edge
        dut.reset.value = 1
        for _ in range(cycles):
            await edge
        dut.reset.value = 0
        assert await cpu.ask(*get(Read.ID)) == (identity, False), f"after a reset in cycle {into}"
        assert await cpu.ask(*get(Read.ERROR)) == (0, False), f"after a reset in cycle {into}"
        for _ in range(10):
            await edge
            assert not dut.NPU_done.value, f"an answer of before the reset in cycle {into}"


class NpuHost(Host):
    """The benches' host, its commands one by one through the NPU door."""

    def __init__(self, dut, rng, stall: float):
        self.dut, self.config, self.completed = dut, MEMORY.component.config, 0
        self.ram, self.rules, self.cpu = Ram(dut, rng, stall), NarrowRules(dut), Cpu(dut, rng, stall / 2)

    async def ask(self, commands) -> list[int]:
        return [(await self.cpu.ask(*one))[0] for one in commands]

    def beats(self) -> list[int]:
        """Words of 8 bytes."""
        return [self.rules.beats["r"] // 2, self.rules.beats["w"] // 2]


@pytest.mark.parametrize(("stall", "count", "largest"), [(0, 8, 60), (0.3, 6, 40)])
def test_chains_match_model(stall, count, largest):
    MEMORY.run(chains_match_model, stall=stall, count=count, largest=largest)


async def chains_match_model(dut, rng, stall, count, largest):
    """All of memory, records, MAX_ABS, COMPLETED, the counted words and the rules of AXI."""
    host = NpuHost(dut, rng, stall)
    for number in range(count):
        host.ram.base = SIZE * int(rng.integers(2**32 // SIZE - 1))
        chain = random_chain(rng, host.config, largest=largest, arena=Arena(rng, host.ram.base))
        await host.carry_out(chain, f"chain {number}")
    assert not stall or all(waits > 20 for waits in host.rules.waits.values()), host.rules.waits
    dut._log.info(f"{count} chains, {host.completed} descriptors, {host.rules.beats}")


@pytest.mark.parametrize("kind", ["BUS_READ", "BUS_WRITE"])
def test_a_refused_burst_becomes_an_exception(kind):
    MEMORY.run(a_refused_burst, kind=kind)


async def a_refused_burst(dut, rng, kind):
    host, kind = NpuHost(dut, rng, 0.1), Error[kind]
    for upper in (0, 4):        # either half of a word
        while True:
            chain = random_chain(rng, host.config, largest=24, count=1)
            fields = chain.descriptors[0].fields
            plain = fields["op"] and not (fields.get("gather_a") or fields.get("gather_b"))
            if plain and fields["n"] * (1 if fields.get("requantise") else 4) > upper:
                break       # something is read and written there
        result, _ = chain.run()
        assert not result.error
        host.ram.answer, host.ram.image = 2, chain.memory       # SLVERR
        place = fields["a"] if kind == Error.BUS_READ else fields["c"]
        host.ram.faults = [(place + upper, place + upper + 1, kind)]
        await host.ring(chain.address)
        await host.fence()
        error, value, failed = await host.get(Read.ERROR, Read.ERROR_VALUE, Read.FAILED)
        assert (error, failed) == (kind, chain.address), f"{Error(error).name} of {failed:#x}: {chain}"
        assert BASE <= value <= place + upper, f"ERROR_VALUE {value:#x}, the fault is at {place:#x}"
        assert await host.cpu.ask(*command(Op.SET, Write.SEED, 1)) == (kind, True)
        assert await host.cpu.ask(*read(1)[0]) == (kind, True)
        assert await host.cpu.ask(*get(Read.ERROR)) == (kind, False)
        assert await host.cpu.ask(*command(Op.RESET)) == (0, False)
        host.completed, host.ram.faults = 0, []
        await host.quiet()
        await ClockCycles(dut.clk, 20)
        await host.carry_out(random_chain(rng, host.config, largest=24), f"after {kind.name}")
