"""The core and its memory: chains of whole products, byte for byte, whatever the memory does."""

import time

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from backbeat.program import collect, compile_job
from backbeat_rtl.descriptor_model import ChainResult, run_descriptor
from backbeat_rtl.isa import (
    DESCRIPTOR_WORDS,
    FETCHED_WORDS,
    DescriptorOp,
    Error,
    Op,
    Port,
    Read,
    Write,
    encode,
)

from .commands import command, commands_of, get, load
from .descriptors import random_chain
from .memory_image import SIZE, Arena, Chain, Descriptor, words_of
from .memory_port import BASE, CORES, start
from .products import oracle, random_job

CONFIGS = list(CORES)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("stall", "count", "largest"), [(0, 60, 100), (0.1, 30, 60), (0.5, 20, 40)])
def test_chains_match_model(config, stall, count, largest):
    CORES[config].run(chains_match_model, config=config, stall=stall, count=count, largest=largest)


async def chains_match_model(dut, rng, config, stall, count, largest):
    """All of memory, the records, MAX_ABS, COMPLETED, the counted words and the rules of AXI; wherever
    the memory lies, so that every bit of an address counts."""
    host = start(dut, config, rng, idle=stall / 2, stall=stall)
    began = time.perf_counter()
    for number in range(count):
        chance = float(rng.choice([0, stall, 0.9])) if stall else 0
        host.ram.stall(chance)
        host.ram.base = base = int(rng.choice([
            BASE, 2**31 - SIZE // 2, SIZE * rng.integers(2**32 // SIZE - 1)]))
        # At 0.9 a product of thousands of small bursts takes a million cycles.
        chain = random_chain(rng, host.config, largest=min(largest, 25) if chance > 0.5 else largest,
                             arena=Arena(rng, base))
        await host.carry_out(chain, f"chain {number}")
    seconds = time.perf_counter() - began
    # Otherwise nothing has been shown.
    assert not stall or all(waits > 100 for waits in host.rules.waits.values()), host.rules.waits
    cycles, = await host.get(Read.CYCLES)
    dut._log.info(f"{count} chains, {host.completed} descriptors, {host.rules.beats}, {cycles} cycles, "
                  f"{cycles / seconds:.0f} cycles/s")


@pytest.mark.parametrize("channel", ["ar", "r", "aw", "w", "b"])
def test_one_slow_channel_changes_nothing(channel):
    CORES["4x4"].run(one_slow_channel_changes_nothing, channel=channel)


async def one_slow_channel_changes_nothing(dut, rng, channel):
    """The others at full speed: what waits for the slow one overflows if it can."""
    host = start(dut, "4x4", rng)
    slow = host.ram.channels[channel]

    def mostly():
        while True:
            yield from [True] * int(rng.integers(1, 80))
            yield from [False] * int(rng.integers(1, 4))

    slow.set_pause_generator(mostly())
    host.ram.chance = 0.9       # these count as stalled
    for number in range(6):
        await host.carry_out(random_chain(rng, host.config, largest=30), f"chain {number}")
    assert channel not in host.rules.waits or host.rules.waits[channel] > 100, host.rules.waits


def test_rows_of_sums_leave_room_for_rows():
    CORES["8x8"].run(rows_of_sums_leave_room_for_rows)


async def rows_of_sums_leave_room_for_rows(dut, rng):
    """Behind sums that wait for the port, INT8 rows are not sent as if those were INT8 too."""
    host = start(dut, "8x8", rng)

    def mostly():
        while True:
            yield from [True] * int(rng.integers(300, 900))
            yield from [False] * int(rng.integers(1, 80))

    host.ram.channels["w"].set_pause_generator(mostly())
    host.ram.chance = 0.9       # these count as stalled
    for number in range(8):
        # Few rows and many columns: the sums are most of what is stored.
        m, n, k, arena = int(rng.integers(1, 5)), 128 * int(rng.integers(2, 5)), 8, Arena(rng)
        (a, a_pitch), (b, b_pitch) = (
            arena.place(rng.integers(-127, 128, (rows, k), dtype=np.int8)) for rows in (m, n))
        table = np.stack([rng.integers(-999, 999, n), rng.integers(1 << 20, 1 << 24, n),
                          rng.integers(20, 30, n), np.zeros(n)], 1).astype("<i4")
        descriptor = Descriptor("sums", {
            "op": DescriptorOp.GEMM, "last": 1, "a": a, "b": b, "a_pitch": a_pitch, "b_pitch": b_pitch,
            "c": arena.take(m * n), "c_pitch": n, "m": m, "n": n, "k": k, "a_panel": 8, "b_panel": 128,
            "chunk": k, "last_chunk": 0, "columns_outer": 1, "sums": 1,
            "sums_address": arena.take(4 * n), "requantise": 1, "low": -128, "high": 127,
            "table": arena.take(16 * n)},
            arena.take(4 * DESCRIPTOR_WORDS))
        arena.put(descriptor.fields["table"] + 16 * np.arange(n), table)
        arena.put([descriptor.address], np.frombuffer(descriptor.raw, np.uint8)[None])
        await host.carry_out(Chain(host.config, [descriptor], arena.memory, BASE), f"product {number}")


@pytest.mark.parametrize("config", ["4x4", "4x14"])
def test_pushed_descriptor_matches_model(config):
    CORES[config].run(pushed_descriptor_matches_model, config=config)


async def pushed_descriptor_matches_model(dut, rng, config):
    """START does what the doorbell does, but leaves no record."""
    host = start(dut, config, rng, idle=0.1, stall=0.1)
    for number in range(12):
        chain = random_chain(rng, host.config, count=1, largest=40)
        words = words_of(chain.descriptors[0].raw)
        expected = chain.memory.copy()
        result = run_descriptor(expected, words[:FETCHED_WORDS], host.config, BASE)
        assert not result.error
        host.ram.image = chain.memory
        await host.tell([command(Op.SET, Write.MAX_ABS)])
        await host.start(words)
        what = f"descriptor {number}"
        await host.expect(result, f"{what}: {chain}")
        wrong = np.flatnonzero(host.ram.image != expected)
        assert not wrong.size, f"{what}: {wrong.size} bytes from {wrong[0] + BASE:#x}: {chain}"
        if number % 3 == 0:     # what was pushed is forgotten, and chains go on
            await host.carry_out(random_chain(rng, host.config, largest=30), f"after {what}")


@pytest.mark.parametrize("config", CONFIGS)
def test_door_and_descriptors_take_turns(config):
    CORES[config].run(door_and_descriptors_take_turns, config=config)


async def door_and_descriptors_take_turns(dut, rng, config):
    """Products over the CFU door before and after chains; neither leaves anything in the other's way."""
    host = start(dut, config, rng, idle=0.1, stall=0.1)
    for number in range(8):
        for _ in range(int(rng.integers(1, 3))):
            job = random_job(rng, host.config.rows, host.config.columns, 30)
            program = compile_job(job, host.config)
            responses = await host.ask(commands_of(program))
            position = 0
            for batch in program.batches:
                if batch.outputs is not None:
                    batch.outputs[:] = responses[position:position + batch.count]
                position += batch.count
            np.testing.assert_array_equal(collect(program, job), oracle(job), f"door product {number}")
        await host.carry_out(random_chain(rng, host.config, largest=30), f"chain {number}")


@pytest.mark.parametrize(("config", "stall"), [("4x4", 0), ("6x5", 0.3), ("8x8", 0), ("4x14", 0.3)])
def test_chain_after_reset_is_exact(config, stall):
    CORES[config].run(chain_after_reset_is_exact, config=config, stall=stall)


async def chain_after_reset_is_exact(dut, rng, config, stall):
    """RESET at any moment: the memory gets what it was promised, nothing beside the results of the
    chain that was given up changes, and the next one, begun at once or later, does not notice."""
    host = start(dut, config, rng, stall=stall)
    for number in range(25):
        arena = Arena(rng)
        first, second = (random_chain(rng, host.config, largest=size, arena=arena) for size in (60, 24))
        host.ram.image = arena.memory
        await host.ring(first.address)
        await ClockCycles(dut.clk, int(rng.choice([rng.integers(1, 60), rng.integers(60, 2000)])))
        await host.reset()
        if rng.random() < 0.5:
            await ClockCycles(dut.clk, int(rng.integers(1, 500)))
        await host.ring(second.address)
        # What the first chain had stored by then is what the memory has in its places.
        await finished(host, first, second, f"reset {number}")


async def finished(host, first, second, what):
    await host.fence()
    await host.quiet()
    memory = host.ram.image
    for descriptor in first.descriptors:
        mine = descriptor.written(memory, BASE)
        second.memory[mine] = memory[mine]
    result, expected = second.run()
    await host.expect(result, f"{what}: {second}")
    for descriptor in second.descriptors:
        place = descriptor.address - BASE + 4 * 46
        expected[place:place + 8] = memory[place:place + 8]
    wrong = np.flatnonzero(memory != expected)
    assert not wrong.size, f"{what}: {wrong.size} bytes from {wrong[0] + BASE:#x}: {first} / {second}"


@pytest.mark.parametrize("config", ["4x4", "4x14"])
def test_chain_after_reset_pin_is_exact(config):
    CORES[config].run(chain_after_reset_pin_is_exact, config=config)


async def chain_after_reset_pin_is_exact(dut, rng, config):
    """The pin resets the memory's side as well, so whatever is under way may be dropped."""
    host = start(dut, config, rng, stall=0.1)
    for number in range(15):
        first = random_chain(rng, host.config, largest=60)
        host.ram.image = first.memory
        ringing = cocotb.start_soon(host.ring(first.address))
        await ClockCycles(dut.clk, int(rng.integers(1, 1500)))
        ringing.cancel()
        dut.cmd_valid.value = 0
        dut.reset.value = 1
        await ClockCycles(dut.clk, int(rng.integers(2, 5)))
        dut.reset.value = 0
        host.responses.clear()
        host.completed = 0
        await ClockCycles(dut.clk, 1)
        await host.carry_out(random_chain(rng, host.config, largest=24), f"after reset pin {number}")


def test_fence_answers_0_while_a_chain_is_in_progress():
    CORES["4x4"].run(fence_answers_0_while_a_chain_is_in_progress)


async def fence_answers_0_while_a_chain_is_in_progress(dut, rng):
    """After 65,536 cycles of waiting: the memory stands still, but comes back before it counts as
    dead."""
    host = start(dut, "4x4", rng)
    chain = random_chain(rng, host.config, count=3, largest=60)
    while sum(d.fields["op"] == DescriptorOp.GEMM for d in chain.descriptors) < 3:
        chain = random_chain(rng, host.config, count=3, largest=60)
    host.ram.image = chain.memory
    assert await host.get(Read.FENCE) == [1]
    result, expected = chain.run()
    await host.ring(chain.address)

    async def trickle():
        for _ in range(12):     # moves for a moment, time and again
            host.ram.freeze()
            await ClockCycles(dut.clk, 10_000)
            host.ram.stall(0)
            await ClockCycles(dut.clk, 5)
        host.ram.stall(0)

    trickling = cocotb.start_soon(trickle())
    before, = await host.get(Read.CYCLES)
    answer, after = await host.get(Read.FENCE, Read.CYCLES)
    assert answer == 0, "FENCE is 1 while a chain is in progress"
    assert 65_536 <= after - before <= 65_600, f"FENCE took {after - before} cycles"
    await trickling
    await host.expect(ChainResult(result.completed, max_abs=result.max_abs), str(chain))


def test_stores_wait_while_hundreds_of_runs_go_on():
    CORES["4x4"].run(stores_wait_while_hundreds_of_runs_go_on)


async def stores_wait_while_hundreds_of_runs_go_on(dut, rng):
    """What waits for a number of runs still knows it when far more of them have ended since."""
    m, n, k, chunk = 80, 8, 1720, 8
    host, arena = start(dut, "4x4", rng), Arena(rng)
    (a, a_pitch), (b, b_pitch) = (
        arena.place(rng.integers(-127, 128, (rows, k), dtype=np.int8)) for rows in (m, n))
    descriptor = Descriptor("long", {
        "op": DescriptorOp.GEMM, "last": 1, "a": a, "b": b, "a_pitch": a_pitch, "b_pitch": b_pitch,
        "c": arena.take(m * 4 * n), "c_pitch": 4 * n, "m": m, "n": n, "k": k, "a_panel": 4, "b_panel": n,
        "chunk": chunk, "last_chunk": 0}, arena.take(4 * DESCRIPTOR_WORDS))
    arena.put([descriptor.address], np.frombuffer(descriptor.raw, np.uint8)[None])
    chain = Chain(host.config, [descriptor], arena.memory, BASE)
    writing = host.ram.channels["w"]

    async def hold_back():
        """Until the macro-tile that the stores have got stuck at lies more than 128 runs back."""
        writing.pause = True
        await ClockCycles(dut.clk, 45_000)
        writing.pause = False

    holding = cocotb.start_soon(hold_back())
    await host.carry_out(chain, "long")
    assert holding.done(), "the product was complete before writes went on"


@pytest.mark.parametrize("config", ["4x4", "4x14"])
def test_counters_say_what_waited_for_memory(config):
    CORES[config].run(counters_say_what_waited, config=config)


def steps(d: dict, config) -> int:
    """Of K that a descriptor's product feeds into the array."""
    if d["op"] != DescriptorOp.GEMM:
        return 0
    rows, columns = (sum(-(-min(d[panel], d[size] - at) // lanes) for at in range(0, d[size], d[panel]))
                     for size, panel, lanes in (("m", "a_panel", config.rows),
                                                ("n", "b_panel", config.columns)))
    return rows * columns * d["k"]


async def counters_say_what_waited(dut, rng, config):
    """The same products, first as fast as can be: what is only busy does not wait, what waits is busy,
    and a slow memory is waited for longer."""
    host = start(dut, config, rng)
    c = host.config
    assert await host.get(Read.SIZE) == [encode(
        "SIZE", depth=c.depth, tiles=c.tiles, banks=c.banks, memory=1)]
    counters = (Read.CYCLES, Read.FED, Read.LOAD_BUSY, Read.LOAD_WAIT, Read.RUN_WAIT, Read.STORE_BUSY,
                Read.STORE_WAIT)
    results, waits = 0, []
    while results < 1000:       # of few there may be none that waits
        chain = random_chain(rng, c, count=5, largest=60)
        results = sum(d.fields["m"] * d.fields["n"] for d in chain.descriptors
                      if d.fields["op"] == DescriptorOp.GEMM)
    model = chain.run()
    for chance in (0, 0.7):
        host.ram.stall(chance)
        before = await host.get(*counters)
        await host.carry_out(chain, f"pauses {chance}", model)
        after = await host.get(*counters)
        cycles, fed, load, load_wait, run_wait, store, store_wait = (
            (b - a) % 2**32 for a, b in zip(before, after, strict=True))
        assert fed == sum(steps(d.fields, c) for d in chain.descriptors), f"pauses {chance}: {fed} steps"
        assert load_wait < load < cycles and store_wait < store < cycles and run_wait < cycles, (
            f"pauses {chance}: {load_wait} of {load}, {store_wait} of {store}, {run_wait} in {cycles}")
        waits.append((load_wait, run_wait, store_wait))
    assert all(fast < slow for fast, slow in zip(*waits, strict=True)), f"{waits}: {chain}"
    for pause in 1, 2:
        await ClockCycles(dut.clk, pause)
        assert (still := await host.get(*counters[1:])) == after[1:], f"{still}: nothing was under way"


def test_words_before_a_bad_one_are_counted():
    CORES["4x4"].run(words_before_a_bad_one_are_counted)


async def words_before_a_bad_one_are_counted(dut, rng):
    """Of those that are pushed; what comes from memory has no part in it."""
    host = start(dut, "4x4", rng)
    for count in (0, 1, 5, 21):
        await host.reset()
        await host.tell([load(Port.A, depth=88, tiles=1, last=4),
                         *[command(Op.PUSH, Port.A, 7, 7)] * count])
        assert await host.ask([command(Op.PUSH, Port.A, 0x80), get(Read.ERROR_VALUE)]) == [
            Error.OPERAND, count]
