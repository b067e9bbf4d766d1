"""Memory behind the core's AXI port, the rules of AXI, and a host that rings the doorbell."""

import logging
from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bus.drivers import BitDriver
from cocotbext.axi import AxiBus, AxiRam

from backbeat_rtl.cfu import Cfu
from backbeat_rtl.config import Config
from backbeat_rtl.descriptor_model import ChainResult
from backbeat_rtl.isa import RECORD_WORD, DescriptorOp, Error, Op, Port, Read, Write

from .cfu_bus import CfuDriver, CfuMonitor
from .commands import command, get, push
from .coverage import record
from .harness import Simulation
from .memory_image import BASE, SIZE, Chain, differences

__all__ = ["BASE", "CORES", "AxiRules", "Host", "Ram", "start"]

#: Two presets with small buffers, one where nothing is a power of two and a bank holds one word, and
#: one with several requantisers, whose columns are no multiple of 8.
CORES = {config.name: Simulation(Cfu, config=config) for config in (
    *map(Config.of, ("4x4", "8x8")), Config(rows=6, columns=5, depth=32, tiles=4, memory=True),
    Config(rows=4, columns=14, depth=64, tiles=8, requantisers=2, memory=True))}

#: Cycles after which a command that has not been answered never will be: FENCE takes 65,536.
WATCHDOG = 70_000
#: Answers 0 of FENCE, and no word moved meanwhile, after which a chain counts as hung.
FENCES = 3

PAGE, LARGEST_BURST = 4096, 256 * 8
OKAY, SLVERR, DECERR = 0, 2, 3
CHANNELS = ("ar", "r", "aw", "w", "b")


class _Refused(Exception):
    """What AxiRam turns into an error response."""


def pauses(rng, chance: float):
    """Cycles in which a channel stands still: single ones, and at times some dozens."""
    while True:
        for pause in (rng.random(256) < chance).tolist():
            if pause and rng.random() < 0.05:
                yield from [True] * int(rng.integers(10, 60))
            yield pause


class Ram(AxiRam):
    """An AXI memory of ``SIZE`` bytes at ``base``, ``BASE`` at first; elsewhere it answers DECERR.

    Parameters
    ----------
    stall : float
        Chance per cycle and channel of a pause.
    """

    def __init__(self, dut, rng, stall: float = 0):
        self.bytes, self.base = bytearray(SIZE), BASE
        logging.getLogger(f"cocotb.{dut._name}.m_axi").setLevel("ERROR")   # a line for every burst
        super().__init__(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.reset, mem=self.bytes)
        self.rng, self.faults, self.answer = rng, [], DECERR
        self.read_if._read, self.write_if._write = self._read, self._write
        self.channels = {name: getattr(self.read_if if name in ("ar", "r") else self.write_if,
                                       f"{name}_channel") for name in CHANNELS}
        for name in ("r", "b"):
            self._with_answer(self.channels[name], f"{name}resp")
        self.stall(stall)

    def stall(self, chance: float):
        """Another chance of pauses."""
        self.chance = chance
        for channel in self.channels.values():
            channel.set_pause_generator(pauses(self.rng, chance) if chance else None)
            channel.pause = False

    def freeze(self):
        """No channel moves any more, until ``stall``."""
        for channel in self.channels.values():
            channel.set_pause_generator(None)
            channel.pause = True

    @property
    def image(self) -> np.ndarray:
        """A copy of the contents; assign to change them."""
        return np.frombuffer(self.bytes, np.uint8).copy()

    @image.setter
    def image(self, values: np.ndarray):
        self.bytes[:] = values.tobytes()

    def _with_answer(self, channel, response: str):
        """AxiRam says SLVERR for every exception; the error chosen takes its place."""
        send = channel.send

        async def answer(transaction):
            if getattr(transaction, response) != OKAY:
                setattr(transaction, response, self.answer)
            await send(transaction)

        channel.send = answer

    def _place(self, address: int, length: int, kind: Error) -> int:
        place = address - self.base
        if not 0 <= place <= SIZE - length or any(
                error == kind and start < address + length and address < end
                for start, end, error in self.faults):
            raise _Refused
        return place

    async def _read(self, address: int, length: int):
        return self.read(self._place(address, length, Error.BUS_READ), length)

    async def _write(self, address: int, data: bytes):
        self.write(self._place(address, len(data), Error.BUS_WRITE), data)


class AxiRules:
    """Watches the pins, and fails at once where the master breaks a rule.

    Attributes
    ----------
    beats : dict
        Words transferred on "r" and "w".
    waits : dict
        Cycles in which the memory did not take what "ar", "aw" and "w" had to offer.
    """

    BURST = ("id", "addr", "len", "size", "burst")
    #: Payload that must not change while it waits.
    PAYLOAD = {"ar": BURST, "aw": BURST, "w": ("data", "strb", "last")}

    def __init__(self, dut):
        self.dut = dut
        self.pins = {channel: tuple(getattr(dut, f"m_axi_{channel}{pin}") for pin in ("valid", "ready"))
                     for channel in CHANNELS}
        self.payload = {channel: tuple(getattr(dut, f"m_axi_{channel}{pin}") for pin in pins)
                        for channel, pins in self.PAYLOAD.items()}
        self.beats = {"r": 0, "w": 0}
        self.waits = dict.fromkeys(self.PAYLOAD, 0)
        self._forget()
        cocotb.start_soon(self._watch())

    def _forget(self):
        self.reading = 0            # words asked for and not yet here
        self.writing = deque()      # beats that each write burst still wants
        self.unanswered = 0         # write bursts
        self.waiting = {}           # channel -> payload that was not taken

    @property
    def quiet(self) -> bool:
        """Nothing is under way."""
        return not (self.reading or self.unanswered or self.waiting)

    async def _watch(self):
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            if self.dut.reset.value:
                self._forget()
                continue
            # Addresses first: the first word may be taken in the cycle of its address.
            for channel in CHANNELS:
                valid, ready = self.pins[channel]
                if not valid.value:
                    assert channel not in self.waiting, f"{channel}valid dropped without a transfer"
                    continue
                taken = bool(ready.value)
                if channel in self.payload:
                    self._stable(channel, taken)
                if taken:
                    getattr(self, f"_{channel}")()

    def _stable(self, channel: str, taken: bool):
        payload = [int(pin.value) for pin in self.payload[channel]]
        before = self.waiting.pop(channel, payload)
        assert before == payload, f"{channel} changed from {before} to {payload} before it was taken"
        if not taken:
            self.waiting[channel] = payload
            self.waits[channel] += 1
        self.now = payload

    def _burst(self, channel: str) -> int:
        """The beats of the burst that has just been taken."""
        name, address, length, size, kind = self.now
        what = f"{channel}: burst of {length + 1} beats at {address:#x}"
        assert name == 0, f"{what} has the id {name}"
        assert size == 3, f"{what} has the size {size}, expected 3 (8 bytes)"
        assert kind == 1, f"{what} is of kind {kind}, expected 1 (INCR)"
        assert address % 8 == 0, f"{what} is not aligned"
        assert address % PAGE + 8 * (length + 1) <= PAGE, f"{what} crosses a multiple of {PAGE}"
        return length + 1

    def _ar(self):
        self.reading += self._burst("ar")

    def _r(self):
        self.reading -= 1
        assert self.reading >= 0, "a word that nobody asked for"
        self.beats["r"] += 1

    def _aw(self):
        self.writing.append(self._burst("aw"))
        self.unanswered += 1

    def _w(self):
        self.beats["w"] += 1
        assert self.writing, "a word of a write burst came before its address"
        self.writing[0] -= 1
        last = self.now[2]
        assert last == (self.writing[0] == 0), (
            f"wlast is {last}, and {self.writing[0]} beats of the burst are to come")
        if last:
            self.writing.popleft()

    def _b(self):
        self.unanswered -= 1


class Host:
    """Sends commands, waits for their responses, and carries out chains.

    Parameters
    ----------
    idle, stall : float
        Chance per cycle of holding back a command, and of refusing a response.
    """

    def __init__(self, dut, config: str, rng, ram: Ram, rules: AxiRules, idle: float = 0,
                 stall: float = 0):
        self.dut, self.ram, self.rules = dut, ram, rules
        self.config = CORES[config].component.core.engine.config
        self.driver = CfuDriver(dut, rng, idle, WATCHDOG)
        self.responses = deque()
        self.monitor = CfuMonitor(dut, self.responses.append)
        self.completed = 0      # what COMPLETED should say
        dut.rsp_ready.value = 1
        if stall:
            BitDriver(dut.rsp_ready, dut.clk).start(
                (int(rng.geometric(stall)) - 1, int(rng.geometric(1 - stall))) for _ in iter(int, 1))

    async def ask(self, commands) -> list[int]:
        """The responses, exactly one each."""
        await self.driver.send(commands, sync=False)
        patience = WATCHDOG
        while len(self.responses) < len(commands):
            await ClockCycles(self.dut.clk, 1)
            patience -= 1
            assert patience, f"{len(commands) - len(self.responses)} commands were not answered"
        assert len(self.responses) == len(commands), "a response that nobody asked for"
        responses = list(self.responses)
        self.responses.clear()
        return responses

    async def tell(self, commands):
        """Sends what must be answered with 0."""
        answers = await self.ask(commands)
        assert not any(answers), f"{commands[np.flatnonzero(answers)[0]]} was answered {answers}"

    async def get(self, *registers: Read) -> list[int]:
        return await self.ask([get(register) for register in registers])

    async def fence(self):
        """Waits until no descriptor is in progress."""
        still, moved = 0, self.beats()
        while still < FENCES:
            answer, = await self.get(Read.FENCE)
            assert answer in (0, 1), f"FENCE is {answer}"
            if answer:
                return
            still, moved = (0 if self.beats() != moved else still + 1), self.beats()
        raise AssertionError(f"not idle after {FENCES} FENCEs in which no word moved, "
                             f"COMPLETED is {(await self.get(Read.COMPLETED))[0]}")

    async def reset(self):
        await self.tell([command(Op.RESET)])
        self.completed = 0
        registers = Read.ERROR, Read.ERROR_VALUE, Read.COMPLETED, Read.FAILED, Read.MAX_ABS
        assert await self.get(*registers) == [0] * 5, "after RESET"

    async def quiet(self):
        """Waits until the memory has nothing to do."""
        patience = WATCHDOG
        while not self.rules.quiet:
            await ClockCycles(self.dut.clk, 1)
            patience -= 1
            assert patience, f"{self.rules.reading} words and {self.rules.unanswered} bursts never end"

    async def ring(self, address: int):
        await self.tell([command(Op.SET, Write.DOORBELL, address)])

    async def start(self, words: list[int]):
        """Pushes a descriptor and begins it."""
        pairs = np.array(words[:34], np.uint32).reshape(-1, 2)
        await self.tell([*push(Port.DESCRIPTOR, pairs), command(Op.SET, Write.START)])

    async def expect(self, result: ChainResult, what: str) -> tuple[int, int]:
        """Compares the registers with the model's; ERROR_VALUE is returned, of bus errors it is not
        compared."""
        await self.fence()
        self.completed += result.completed
        error, value, failed, completed, max_abs, status = await self.get(
            Read.ERROR, Read.ERROR_VALUE, Read.FAILED, Read.COMPLETED, Read.MAX_ABS, Read.STATUS)
        assert (error, failed, completed) == (result.error, result.failed, self.completed), (
            f"{what}: got {Error(error).name} of {failed:#x} (value {value:#x}), {completed} completed; "
            f"expected {result.error.name} of {result.failed:#x}, {self.completed} completed")
        if result.error not in (Error.BUS_READ, Error.BUS_WRITE):
            assert value == result.value, f"{what}: ERROR_VALUE {value:#x}, expected {result.value:#x}"
        if not error:
            assert max_abs == result.max_abs, f"{what}: MAX_ABS {max_abs}, expected {result.max_abs}"
        assert status & 8 == 0, f"{what}: STATUS is {status:#x} after FENCE"
        return value

    async def carry_out(self, chain: Chain, what: str = "", model=None) -> int:
        """Rings the doorbell and compares memory and registers with the model's. ERROR_VALUE.

        Parameters
        ----------
        model : (ChainResult, uint8 array)
            ``chain.run()`` if not given.
        """
        what = f"{what}: {chain}"
        result, expected = model or chain.run()
        self.ram.image, waits = chain.memory, self.rules.waits["w"]
        await self.tell([command(Op.SET, Write.MAX_ABS)])
        before, beats = await self.get(Read.CYCLES, Read.READ_BEATS, Read.WRITE_BEATS), self.beats()
        await self.ring(chain.address)
        value = await self.expect(result, what)
        await self.quiet()
        after, moved = await self.get(Read.CYCLES, Read.READ_BEATS, Read.WRITE_BEATS), self.beats()
        counted = [(b - a) % 2**32 for a, b in zip(before, after, strict=True)]
        if not result.error:
            assert counted[1:] == [b - a for a, b in zip(beats, moved, strict=True)], (
                f"{what}: READ_BEATS and WRITE_BEATS grew by {counted[1:]}, expected {moved} - {beats}")
        memory = self.ram.image
        difference = differences(chain, result, expected, memory)
        assert not difference, f"{difference}, in {what}"
        self._times(chain, result.completed, memory, before[0], counted[0], what)
        # AxiRam without pauses takes every word; addresses it does not always take at once.
        stalled = self.ram.chance > 0 or self.rules.waits["w"] > waits
        for descriptor in chain.descriptors[:result.completed]:
            self._record(descriptor.fields, stalled)
        return value

    def _record(self, f: dict, stalled: bool):
        if f["op"] != DescriptorOp.GEMM:
            return
        # What is left of K is one run if it is no more than last_chunk.
        record.product(
            self.config, op=("t" if f.get("a_across") else "n") + ("n" if f.get("b_across") else "t"),
            shape=(f["m"], f["n"], f["k"]), panels=(f["a_panel"], f["b_panel"]),
            chunk=max(f["chunk"], f["last_chunk"]), stalled=stalled,
            spec=(f.get("stochastic", 0), f.get("zero_point", 0), f["low"]) if f.get("requantise")
            else None)

    def beats(self) -> list[int]:
        return [self.rules.beats["r"], self.rules.beats["w"]]

    def _times(self, chain, completed, memory, before, cycles, what):
        """Records are in order: each begins before it ends, and none ends before the one before it."""
        last = 0
        for number, descriptor in enumerate(chain.descriptors[:completed]):
            record = memory[descriptor.address - chain.base + 4 * (RECORD_WORD + 2):][:8].view("<u4")
            begun, ended = ((record.astype(np.int64) - before) % 2**32).tolist()
            assert begun <= ended <= cycles and last <= ended, (
                f"{what}: descriptor {number} from {begun} to {ended}, the one before until {last}, "
                f"all in {cycles}")
            last = ended


def start(dut, config: str, rng, idle: float = 0, stall: float = 0) -> Host:
    """A memory, the rules of its port, and a host, with pauses everywhere."""
    return Host(dut, config, rng, Ram(dut, rng, stall), AxiRules(dut), idle, min(stall, 0.5))
