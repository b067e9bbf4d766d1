"""The memory port by itself: bursts and words through stalls, its orderly end, and silence."""

from collections import deque

import pytest
from cocotb.triggers import ClockCycles

from backbeat_rtl.config import WORD
from backbeat_rtl.memory_port import PAGE, SILENCE, Burst, MemoryPort, ReadWord, WriteWord

from .harness import Simulation
from .memory_port import AxiRules
from .streams import Pulses, Sink, Source, bits, cycle, drain, fields

PORT = Simulation(MemoryPort)
OKAY, SLVERR, DECERR = 0, 2, 3


class Pins:
    """The port's pins under the names that they have on the core."""

    def __init__(self, dut):
        self.dut, self.clk, self.reset = dut, dut.clk, dut.rst

    def __getattr__(self, name: str):
        return getattr(self.dut, name.replace("m_axi_", "axi__"))


def content(address: int) -> int:
    """What is in memory there."""
    return (address + 8) * 0x9E3779B97F4A7C15 % 2**64


def response(address: int) -> int:
    """Every third page or so answers with an error, of either kind."""
    return (OKAY, OKAY, SLVERR, OKAY, OKAY, DECERR, OKAY)[address // PAGE % 7]


class Memory:
    """Answers in order. Each channel stands still by chance.

    Attributes
    ----------
    beats : list of (int, int, int)
        Address, strobe and bytes of every word written.
    """

    def __init__(self, dut, rng, stall: float = 0):
        self.dut, self.rng, self.stall = dut, rng, stall
        self.pins = {name: getattr(dut, f"axi__{name}") for name in (
            "araddr", "arlen", "arvalid", "arready", "rdata", "rresp", "rlast", "rvalid", "rready",
            "awaddr", "awlen", "awvalid", "awready", "wdata", "wstrb", "wlast", "wvalid", "wready",
            "bresp", "bvalid", "bready")}
        self.reads, self.bursts, self.answers, self.beats = deque(), deque(), deque(), []
        self.under_way = 0      # bursts asked for and not answered
        self.offered = {"r": False, "b": False}
        for name in ("arready", "awready", "wready", "rvalid", "bvalid"):
            self.pins[name].value = 0

    def drive(self):
        go = (self.rng.random(5) >= self.stall).tolist()
        for name, ready in zip(("arready", "awready", "wready"), go, strict=False):
            self.pins[name].value = int(ready)
        for channel, waiting, may in (("r", self.reads, go[3]), ("b", self.answers, go[4])):
            self.offered[channel] = bool(waiting) and (self.offered[channel] or may)
            self.pins[f"{channel}valid"].value = int(self.offered[channel])
        if self.offered["r"]:
            address, last = self.reads[0]
            self.pins["rdata"].value, self.pins["rresp"].value = content(address), response(address)
            self.pins["rlast"].value = int(last)
        if self.offered["b"]:
            self.pins["bresp"].value = self.answers[0]

    def sample(self) -> bool:
        assert not (self.under_way and self.dut.inner__quiet.value), "quiet while bursts are under way"
        taken = {channel for channel in ("ar", "r", "aw", "w", "b")
                 if self.pins[f"{channel}valid"].value and self.pins[f"{channel}ready"].value}
        value = {name: int(pin.value) for name, pin in self.pins.items()} if taken else {}
        if "r" in taken:
            self.under_way -= self.reads.popleft()[1]
            self.offered["r"] = False
        if "b" in taken:
            self.answers.popleft()
            self.under_way -= 1
            self.offered["b"] = False
        if "ar" in taken:
            self.reads += [(value["araddr"] + WORD * n, n == value["arlen"])
                           for n in range(value["arlen"] + 1)]
        if "aw" in taken:
            self.bursts.append([value["awaddr"], value["awlen"] + 1])
        self.under_way += ("ar" in taken) + ("aw" in taken)
        if "w" in taken:
            assert self.bursts, "a word of a write burst came before its address"
            burst = self.bursts[0]
            self.beats.append((burst[0], value["wstrb"], value["wdata"]))
            answer = response(burst[0])
            burst[:] = burst[0] + WORD, burst[1] - 1
            if not burst[1]:
                self.bursts.popleft()
                self.answers.append(answer)
        return bool(taken)


def random_burst(rng, largest: int) -> tuple[int, int]:
    """Address and beats: single words, the longest ones, up to the end of a page."""
    beats = int(rng.choice([1, largest, rng.integers(1, largest + 1)]))
    room = PAGE // WORD - beats
    place = int(rng.choice([0, room, rng.integers(room + 1)]))
    return PAGE * int(rng.choice([0, rng.integers(2**20), 2**20 - 1])) + WORD * place, beats


class Traffic:
    """The port's user and its memory."""

    def __init__(self, dut, rng, stall: float):
        dut.inner__flush.value = 0
        self.dut, self.rng = dut, rng
        self.rules, self.memory = AxiRules(Pins(dut)), Memory(dut, rng, stall)
        self.read, self.write, self.write_word = self.sources = [
            Source(dut, f"inner__{name}", rng, stall / 2) for name in ("read", "write", "write_word")]
        self.word = Sink(dut, "inner__word", rng, stall)
        self.written, self.was_read, self.was_written = self.pulses = [
            Pulses(dut, f"inner__{name}") for name in ("written", "was_read", "was_written")]
        self.all = [*self.sources, self.word, self.memory, *self.pulses]

    def begin(self, count: int, largest: int = 256):
        """Gives itself that many bursts in each direction to do, and forgets the ones before."""
        self.asked = [random_burst(self.rng, largest) for _ in range(count)]
        self.announced = [random_burst(self.rng, largest) for _ in range(count)]
        self.data = [(int(self.rng.integers(1, 256)), int.from_bytes(self.rng.bytes(WORD), "little"))
                     for _, beats in self.announced for _ in range(beats)]
        for source, bursts in ((self.read, self.asked), (self.write, self.announced)):
            source.words += [bits(Burst, address=address, length=beats - 1) for address, beats in bursts]
        self.write_word.words += [bits(WriteWord, bytes=word, strobe=strobe)
                                  for strobe, word in self.data]
        self.write_word.sent = 0
        self.word.words.clear()
        self.memory.beats.clear()
        for pulse in self.pulses:
            pulse.values.clear()

    def check(self, what: str):
        """All of it has been done."""
        addresses = [address + WORD * n for address, beats in self.asked for n in range(beats)]
        assert len(self.word.words) == len(addresses), f"{what}: words read"
        for n, (word, address) in enumerate(zip(self.word.words, addresses, strict=True)):
            word = fields(ReadWord, word)
            found, wanted = (word.bytes, word.error), (content(address), response(address) != OKAY)
            assert found == wanted, f"{what}, word {n} of {address:#x}: got {found}, expected {wanted}"
        places = [address + WORD * n for address, beats in self.announced for n in range(beats)]
        wanted = [(place, *word) for place, word in zip(places, self.data, strict=True)]
        for n, (beat, word) in enumerate(zip(self.memory.beats, wanted, strict=False)):
            assert beat == word, f"{what}, beat {n}: got {beat}, expected {word}"
        assert len(self.memory.beats) == len(wanted), f"{what}: words written"
        errors = [value >> 1 for value in self.written.values]
        assert errors == [response(address) != OKAY for address, _ in self.announced], f"{what}: written"
        assert len(self.was_read.values) == len(addresses), f"{what}: was_read"
        assert len(self.was_written.values) == len(wanted), f"{what}: was_written"
        self.check_quiet(what)

    def check_quiet(self, what: str):
        assert self.dut.inner__quiet.value and self.rules.quiet and not self.memory.under_way, (
            f"{what}: quiet is {self.dut.inner__quiet.value}, {self.memory.under_way} bursts and "
            f"{self.rules.reading} words under way")


@pytest.mark.parametrize(("stall", "largest"), [(0, 256), (0.1, 256), (0.6, 24), (0.4, 1)])
def test_bursts_are_carried_out(stall, largest):
    PORT.run(bursts_are_carried_out, stall=stall, largest=largest)


async def bursts_are_carried_out(dut, rng, stall, largest):
    """In order, with their errors, within the rules of AXI; a word per cycle if nothing stalls."""
    traffic = Traffic(dut, rng, stall)
    traffic.begin(60, largest)
    before = len(traffic.data), sum(beats for _, beats in traffic.asked)
    cycles = 0
    while any(source.words for source in traffic.sources) or not dut.inner__quiet.value:
        await cycle(dut, *traffic.all)
        cycles += 1
        assert cycles < 60_000, f"{[len(source.words) for source in traffic.sources]} words are left"
    await drain(dut, *traffic.all)
    traffic.check(f"{stall=}")
    if not stall:
        assert cycles < max(before) + 40, f"{cycles} cycles for {before} words"


@pytest.mark.parametrize("stall", [0, 0.3, 0.7])
def test_flush_keeps_every_promise(stall):
    PORT.run(flush_keeps_every_promise, stall=stall)


async def flush_keeps_every_promise(dut, rng, stall):
    """At any moment: every beat announced comes, those that nobody gave a word without a strobe.

    What is given up is not seen by the user, and after it the port works as before.
    """
    traffic = Traffic(dut, rng, stall)
    unwritten = 0
    for number in range(60):
        largest = int(rng.choice([1, 8, 40, 120]))
        traffic.begin(20, largest)
        for _ in range(int(rng.integers(0, 12 * largest))):
            await cycle(dut, *traffic.all)
        what = f"flush {number} of bursts up to {largest}"
        hold = int(rng.choice([1, 1, rng.integers(2, 60)]))
        dut.inner__flush.value = 1
        await cycle(dut, *traffic.all)
        for source in traffic.sources:      # its user is being reset
            source.forget()
        seen, written = len(traffic.word.words), len(traffic.written.values)
        traffic.word.waiting = None
        begun = traffic.read.sent, traffic.write.sent
        if number % 2:                      # and may want something new at once
            for source in (traffic.read, traffic.write):
                source.words.append(bits(Burst, address=PAGE, length=0))
        for t in range(20_000):
            dut.inner__flush.value = int(t + 1 < hold)
            if dut.inner__quiet.value and t >= hold:
                break
            await cycle(dut, *traffic.all)
        assert (traffic.read.sent, traffic.write.sent) == begun, f"{what}: a burst began in it"
        for source in traffic.sources:
            source.forget()
        traffic.check_quiet(what)
        assert len(traffic.word.words) == seen, f"{what}: a word came after it"
        assert len(traffic.written.values) == written, f"{what}: an answer came after it"
        given = traffic.data[:traffic.write_word.sent]
        got = [beat[1:] for beat in traffic.memory.beats]
        assert got[:len(given)] == given, f"{what}: words given before it"
        assert not any(strobe for strobe, _ in got[len(given):]), f"{what}: a strobe without a word"
        unwritten += len(got) - len(given)

        if number % 4 == 0:
            traffic.begin(4, largest)
            await drain(dut, *traffic.all)
            traffic.check(f"{what}, and then")
    assert unwritten > 200, f"{unwritten} beats without a word prove little"


def test_silence_is_reported():
    PORT.run(silence_is_reported)


async def silence_is_reported(dut, _rng):
    """After 65,536 cycles without a transfer while something is due, and not when nothing is."""
    for name in ("arready", "rvalid", "awready", "wready", "bvalid", "rresp", "bresp"):
        getattr(dut, f"axi__{name}").value = 0
    for name in ("read__valid", "write__valid", "write_word__valid", "flush"):
        getattr(dut, f"inner__{name}").value = 0
    dut.inner__word__ready.value = 1

    async def silent_after(cycles: int, what: str):
        await ClockCycles(dut.clk, cycles)
        assert not dut.inner__silent.value, f"{what}: silent too early"
        await ClockCycles(dut.clk, 1)
        assert dut.inner__silent.value, f"{what}: not silent a cycle later"

    await ClockCycles(dut.clk, SILENCE + 16)
    assert not dut.inner__silent.value, "silent though nothing is due"
    dut.inner__read__payload.value, dut.inner__read__valid.value = bits(Burst, address=8, length=1), 1
    await ClockCycles(dut.clk, 1)
    dut.inner__read__valid.value = 0
    await silent_after(SILENCE, "address not taken")
    dut.axi__arready.value = 1
    await ClockCycles(dut.clk, 1)
    dut.axi__arready.value = 0
    await ClockCycles(dut.clk, 2)
    assert not dut.inner__silent.value, "silent after a transfer"
    await silent_after(SILENCE - 2, "words do not come")
    dut.axi__rvalid.value = 1
    await ClockCycles(dut.clk, 2)
    dut.axi__rvalid.value = 0
    await ClockCycles(dut.clk, 4)
    assert dut.inner__quiet.value and not dut.inner__silent.value, "all words are here"
