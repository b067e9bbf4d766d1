"""64 bits of AXI4 on 32: every byte, strobe and response arrives, within the rules, at full speed."""

from collections import deque

import cocotb
import numpy as np
import pytest
from amaranth.lib.wiring import In, Out
from cocotb.triggers import ClockCycles, RisingEdge, Timer
from cocotbext.axi.axi_channels import (
    AxiARBus,
    AxiARSource,
    AxiARTransaction,
    AxiAWBus,
    AxiAWSource,
    AxiAWTransaction,
    AxiBBus,
    AxiBSink,
    AxiRBus,
    AxiRSink,
    AxiWBus,
    AxiWSource,
    AxiWTransaction,
)

from backbeat_rtl.axi_narrow import BURSTS

from .harness import Simulation
from .memory_image import SIZE
from .memory_port import PAGE, Ram, pauses
from .narrow_port import NarrowBench, NarrowRules

NARROW = Simulation(NarrowBench)
#: Reads are from the lower half of memory, writes go to the upper one.
HALF = SIZE // 2
PATIENCE = 2000


class Answers(Ram):
    """A memory of 32 bits whose responses are random, and kept in ``answers``."""

    def __init__(self, dut, rng, stall: float, errors: float):
        self.errors, self.answers = errors, {}
        super().__init__(dut, rng, stall)

    def _with_answer(self, channel, response: str):
        send, sent = channel.send, self.answers.setdefault(response, [])

        async def answer(transaction):
            error = int(self.rng.integers(2, 4)) if self.rng.random() < self.errors else 0
            setattr(transaction, response, error)
            sent.append(error)
            await send(transaction)

        channel.send = answer


def late(rng):
    """Cycles in which a channel stands still: most, and now and then until all else has been done."""
    while True:
        yield from [True] * int(rng.integers(1, rng.choice([200, PATIENCE - 500])))
        yield False


class Master:
    """Bursts of 64-bit words, all channels on their own."""

    def __init__(self, dut, rng, stall: float):
        parts = {"ar": (AxiARSource, AxiARBus), "r": (AxiRSink, AxiRBus), "aw": (AxiAWSource, AxiAWBus),
                 "w": (AxiWSource, AxiWBus), "b": (AxiBSink, AxiBBus)}
        for name, (kind, bus) in parts.items():
            channel = kind(bus.from_prefix(dut, "s_axi"), dut.clk, dut.reset)
            if stall:
                # Write data run ahead of their addresses.
                channel.set_pause_generator(late(rng) if name == "aw" else pauses(rng, stall))
            setattr(self, name, channel)
        self.words, self.responses = [], []
        cocotb.start_soon(self._take(self.r, self.words))
        cocotb.start_soon(self._take(self.b, self.responses))

    async def _take(self, sink, into):
        while True:
            into.append(await sink.recv())

    def ask(self, address: int, beats: int):
        self.ar.send_nowait(AxiARTransaction(arid=0, araddr=address, arlen=beats - 1, arsize=3,
                                             arburst=1))

    def announce(self, address: int, words: np.ndarray, strobes: np.ndarray):
        self.aw.send_nowait(AxiAWTransaction(awid=0, awaddr=address, awlen=len(words) - 1, awsize=3,
                                             awburst=1))
        for n, (word, strobe) in enumerate(zip(words.tolist(), strobes.tolist(), strict=True)):
            self.w.send_nowait(AxiWTransaction(wdata=word, wstrb=strobe, wlast=int(n == len(words) - 1)))


def random_burst(rng, largest: int, few: bool = False) -> tuple[int, int]:
    """Place in half a memory, and words: around the split, single ones, up to the end of a page.

    ``few``: of one word, but for some that are split, so that many can wait for their answers.
    """
    beats = int(rng.choice([1, 2, 127, 128, 129, 255, 256, rng.integers(1, 257)]))
    if few:
        beats = 129 if rng.random() < 0.4 else 1
    beats = min(beats, largest)
    room = PAGE // 8 - beats
    word = int(rng.choice([0, room, rng.integers(room + 1)]))
    return PAGE * int(rng.integers(HALF // PAGE)) + 8 * word, beats


@pytest.mark.parametrize(("stall", "errors", "largest", "count", "answered"), [
    (0, 0, 256, 24, 0), (0.1, 0.02, 256, 24, 0), (0.5, 0.3, 40, 24, 0), (0, 0.1, 256, 2 * BURSTS, 1500)])
def test_bursts_are_carried_out(stall, errors, largest, count, answered):
    NARROW.run(bursts_are_carried_out, stall=stall, errors=errors, largest=largest, count=count,
               answered=answered)


async def bursts_are_carried_out(dut, rng, stall, errors, largest, count, answered):
    """Two beats of 4 bytes for each word of 8, no fewer, no more, and of two responses the worse; from
    anywhere in memory. Nothing is answered before the cycle ``answered``: more cannot be under way."""
    ram, rules = Answers(dut, rng, stall, errors), NarrowRules(dut)
    master = Master(dut, rng, stall)
    # Equal seeds give equal numbers: with the complement each bit of an address is 0 and 1 somewhere.
    base = SIZE * int(rng.integers(2**32 // SIZE))
    ram.base = base = 2**32 - SIZE - base if stall else base
    ram.image = rng.integers(0, 256, SIZE, dtype=np.uint8)
    expected, stored = ram.image, ram.image.view("<u8")
    reads, writes = ([random_burst(rng, largest, answered > 0) for _ in range(count)] for _ in range(2))
    for name in "rb" if answered else "":
        ram.channels[name].set_pause_generator(cycle < answered for cycle in range(answered + 1))
    for place, beats in reads:
        master.ask(base + place, beats)
    for place, beats in writes:
        words = rng.integers(0, 2**64, beats, dtype=np.uint64)
        strobes = rng.choice([0, 0xF0, 0x0F, 0xFF, rng.integers(256)], beats)
        master.announce(base + HALF + place, words, strobes)
        mask = np.unpackbits(strobes.astype(np.uint8), bitorder="little").astype(bool)
        expected[HALF + place:][:8 * beats][mask] = words.astype("<u8").view(np.uint8)[mask]
    asked, sent = (sum(beats for _, beats in bursts) for bursts in (reads, writes))

    cycles, last, before = 0, 0, 0
    while len(master.words) < asked or len(master.responses) < len(writes):
        await ClockCycles(dut.clk, 1)
        progress = len(master.words) + rules.beats["w"] + len(master.responses)
        cycles, last, before = cycles + 1, last if progress == before else cycles, progress
        assert cycles - last < PATIENCE, (
            f"{len(master.words)} of {asked} words, {len(master.responses)} of {len(writes)} answers")
    await ClockCycles(dut.clk, 50)
    assert rules.quiet and rules.beats == {"r": 2 * asked, "w": 2 * sent}, rules.beats
    assert len(master.words) == asked and len(master.responses) == len(writes), "an answer too many"

    answers = np.array(ram.answers["rresp"]).reshape(-1, 2).max(axis=1)
    taken = 0
    for place, beats in reads:
        for n in range(beats):
            word = master.words[taken]
            found = int(word.rdata), int(word.rlast), int(word.rresp)
            wanted = int(stored[place // 8 + n]), int(n == beats - 1), int(answers[taken])
            assert found == wanted, (f"word {n} of {beats} at {place:#x}: got (data, last, response) "
                                     f"{found}, expected {wanted}")
            taken += 1
    answers = deque(ram.answers["bresp"])
    for (place, beats), response in zip(writes, master.responses, strict=True):
        wanted = max(answers.popleft() for _ in range(1 + (beats > 128)))
        assert int(response.bresp) == wanted, (
            f"write of {beats} at {place:#x}: response {int(response.bresp)}, expected {wanted}")
    assert not answers, f"{len(answers)} bursts of writes too many"
    wrong = np.flatnonzero(ram.image != expected)
    assert not wrong.size, f"{wrong.size} bytes differ, the first at {wrong[0] + base:#x}"
    dut._log.info(f"{asked} words read, {sent} written, {cycles} cycles, waits {rules.waits}")
    if stall:
        assert all(waits > 20 for waits in rules.waits.values()), rules.waits
    else:       # a beat per cycle
        assert answered < cycles < answered + 2 * max(asked, sent) + 40, f"{cycles} cycles"


def test_no_path_leads_through():
    NARROW.run(no_path_leads_through)


async def no_path_leads_through(dut, rng):
    """Within a cycle no output follows any input, whatever those do."""
    members = NARROW.component.signature.members
    inputs, outputs = ([(getattr(dut, name), member.shape) for name, member in members.items()
                        if member.flow == flow and "axi" in name] for flow in (In, Out))
    for cycle in range(2000):
        await RisingEdge(dut.clk)
        seen = []
        for _ in range(2):
            for pin, width in inputs:
                # As often as not something is valid, or ready.
                pin.value = int.from_bytes(rng.bytes(8), "little") & (1 << width) - 1
            await Timer(500, "ps")
            seen.append([int(pin.value) for pin, _ in outputs])
        assert seen[0] == seen[1], f"cycle {cycle}: " + ", ".join(
            pin._name for (pin, _), one, other in zip(outputs, *seen, strict=True) if one != other)
