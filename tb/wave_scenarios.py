"""Canonical scenarios: short, and the same in every cycle whenever they are run.

Each drives a 4x4 core, the Verilog that users get, and what it returns is held against the models on
the way. They say themselves what is sent and how descriptors divide their products: nothing in them
depends on the driver, whose plans may change.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from cocotb.triggers import ClockCycles, SimTimeoutError, with_timeout

from backbeat_rtl.descriptor_model import run_chain, run_descriptor
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

from . import cfu_bus, memory_port
from .cfu_bus import Door
from .commands import command, get, load_matrix, read, readout, run
from .descriptors import gathered, place_tensor
from .harness import PERIOD_NS
from .memory_image import BASE, Arena, Descriptor, linked, up, words_of

__all__ = ["CORES", "SCENARIOS", "Scenario"]

CONFIG, SEED = "4x4", 1
#: Cycles after which a scenario hangs. Its waveform grows by some kilobytes in each.
LONGEST = 3000
LANES = 4
#: The core of a scenario, by whether it has a memory port.
CORES = {False: cfu_bus.CORES[CONFIG].parameters["config"],
         True: memory_port.CORES[CONFIG].parameters["config"]}


@dataclass(frozen=True)
class Scenario:
    """One of them.

    Attributes
    ----------
    name : str
    bench : coroutine function
        As :mod:`tb.harness` runs it.
    memory : bool
        It wants a memory port.
    """

    name: str
    bench: Callable
    memory: bool

    @property
    def about(self) -> str:
        return self.bench.__doc__.splitlines()[0]


SCENARIOS: dict[str, Scenario] = {}


def _scenario(memory: bool):
    """Registers a bench by its name. Its numbers do not depend on the seed of the run."""
    def register(bench):
        @functools.wraps(bench)
        async def play(dut, _rng):
            try:
                await with_timeout(bench(dut, np.random.default_rng(SEED)), LONGEST * PERIOD_NS, "ns")
            except SimTimeoutError:
                raise AssertionError(f"not over after {LONGEST} cycles") from None

        SCENARIOS[bench.__name__] = Scenario(bench.__name__, play, memory)
        return play

    return register


def _int8(rng, *shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape, dtype=np.int8)


def _operands(rng, m: int, n: int, k: int, half: int = 0, across: str = "") -> list:
    """Loads A (m, k) and B (n, k) into a half; those named in ``across`` come across the lanes."""
    return [*load_matrix(Port.A, _int8(rng, m, k), LANES, half, "a" in across),
            *load_matrix(Port.B, _int8(rng, n, k), LANES, half, "b" in across)]


async def _commands(dut, commands, **door):
    door = Door(dut, CONFIG, **door)
    await door.send(commands)
    await door.drain()


@_scenario(memory=False)
async def one_tile(dut, rng):
    """One tile, 4x4x8 to INT32, both operands along K (NT), and the counters."""
    await _commands(dut, [
        *_operands(rng, 4, 4, 8), run(), readout(), *read(16),
        *map(get, (Read.MAX_ABS, Read.STATUS, Read.CYCLES, Read.BUSY, Read.FED))], rng=rng)


@_scenario(memory=False)
async def orientation_nn(dut, rng):
    """One ragged tile, 3x4x5, B across its lanes (NN)."""
    await _commands(dut, [*_operands(rng, 3, 4, 5, across="b"), run(), readout(), *read(12)], rng=rng)


@_scenario(memory=False)
async def orientation_tn(dut, rng):
    """One ragged tile, 4x3x5, both operands across their lanes (TN)."""
    await _commands(dut, [*_operands(rng, 4, 3, 5, across="ab"), run(), readout(), *read(12)], rng=rng)


@_scenario(memory=False)
async def orientation_tt(dut, rng):
    """One ragged tile, 3x3x6, A across its lanes (TT)."""
    await _commands(dut, [*_operands(rng, 3, 3, 6, across="a"), run(), readout(), *read(9)], rng=rng)


@_scenario(memory=False)
async def tiles_back_to_back(dut, rng):
    """2x2 tiles, and 2x1 that are loaded, queued and begun beside them."""
    await _commands(dut, [
        *_operands(rng, 8, 5, 8), run(), *_operands(rng, 5, 4, 8, half=1),
        run(a_half=1, b_half=1, c_half=1), readout(), *read(40), readout(half=1), *read(20)], rng=rng)


@_scenario(memory=False)
async def shortest_tiles(dut, rng):
    """2x2 tiles of one step of K: each waits for the drain of the one before it."""
    await _commands(dut, [*_operands(rng, 6, 6, 1), run(), readout(), *read(36)], rng=rng)


@_scenario(memory=False)
async def k_in_chunks(dut, rng):
    """K = 13 in two runs, 8 and 5 steps, the second adding to the sums of the first."""
    await _commands(dut, [
        *_operands(rng, 4, 8, 8), run(), *_operands(rng, 4, 8, 5, half=1),
        run(a_half=1, b_half=1, accumulate=True), readout(), *read(32)], rng=rng)


def _requantised(rng, columns: int, stochastic: bool) -> list:
    """A product of 5 rows, K = 8, requantised; a multiplier and a shift per column."""
    settings = [command(Op.SET, Write.SEED, int(rng.integers(2**32))),
                command(Op.SET, Write.PITCH, columns),
                command(Op.SET, Write.CLIP, encode("CLIP", zero_point=3, low=-90, high=100)),
                command(Op.SET, Write.TABLE, 0)]
    for column in range(columns):
        bias, multiplier = rng.integers(-5000, 5000), rng.integers(2**24, 2**26)
        settings += [command(Op.SET, Write.SHIFT, 32 + column % 3),
                     command(Op.PUSH, Port.TABLE, int(bias) % 2**32, int(multiplier))]
    return [*settings, *_operands(rng, 5, columns, 8), run(),
            readout(requantise=True, stochastic=stochastic, index=1000), *read(5 * -(-columns // 4)),
            get(Read.MAX_ABS)]


@_scenario(memory=False)
async def requantised_to_nearest(dut, rng):
    """5x6x8 to INT8 in ragged tiles: bias, multiplier, shift, zero point and clipping."""
    await _commands(dut, _requantised(rng, 6, False), rng=rng)


@_scenario(memory=False)
async def requantised_stochastically(dut, rng):
    """The same, rounded by the hash of seed and element index."""
    await _commands(dut, _requantised(rng, 6, True), rng=rng)


@_scenario(memory=False)
async def back_pressure(dut, rng):
    """A tile through a CPU that holds back commands and responses."""
    await _commands(dut, [*_operands(rng, 4, 4, 8), run(), readout(), *read(16)], rng=rng, idle=0.3,
                    stall=0.5)


@_scenario(memory=False)
async def soft_reset(dut, rng):
    """RESET in the middle of a run of 2x2 tiles, and the next product at once."""
    await _commands(dut, [
        *_operands(rng, 8, 8, 16), run(), command(Op.RESET), get(Read.ERROR),
        *_operands(rng, 4, 4, 3), run(), readout(), *read(16)], rng=rng)


@_scenario(memory=False)
async def refused_commands(dut, rng):
    """RUN of nothing, -128 in A and a size beyond the buffers, and that nothing is done until RESET."""
    bad = np.full((4, 8), -128, np.int8)
    await _commands(dut, [
        run(), get(Read.ERROR), get(Read.ERROR_VALUE), *load_matrix(Port.B, _int8(rng, 4, 8), LANES),
        command(Op.RESET), *load_matrix(Port.A, bad, LANES)[:2], get(Read.ERROR),
        command(Op.RESET), command(Op.LOAD, Port.A, encode("LOAD.0", depth=129, tiles=1, last=4)),
        get(Read.ERROR), command(Op.RESET),
        *_operands(rng, 2, 2, 2), run(), readout(), *read(4)], rng=rng)


def _product(rng, arena: Arena, m: int, n: int, k: int, *, int8: bool = False, a: "int | None" = None,
             **changes) -> Descriptor:
    """C of A (m, k) and B (n, k) as stored, INT32 or INT8; ``a``: where A is, if it is there already."""
    unit = 1 if int8 else 4
    b, b_pitch = arena.place(_int8(rng, n, k))
    a, a_pitch = (a, up(k)) if a else arena.place(_int8(rng, m, k))
    fields = {
        "op": DescriptorOp.GEMM, "a": a, "a_pitch": a_pitch, "b": b, "b_pitch": b_pitch,
        "c": arena.take(up(n * unit) * m), "c_pitch": up(n * unit), "m": m, "n": n, "k": k,
        "a_panel": 8, "b_panel": 8, "chunk": 8, "last_chunk": 0, "requantise": int(int8), "sums": 0}
    if int8:
        table = np.stack([rng.integers(-5000, 5000, n), rng.integers(2**24, 2**26, n),
                          rng.integers(32, 35, n), np.zeros(n)], 1).astype("<i4")
        fields |= {"table": arena.take(16 * n), "zero_point": -2, "low": -128, "high": 127,
                   "seed": int(rng.integers(2**31))}
        arena.put(fields["table"] + 16 * np.arange(n), table)
    # What may be read and what is written, for the report of a difference.
    return Descriptor("product", fields | changes, arena.take(4 * DESCRIPTOR_WORDS),
                      reads=[(a, a + a_pitch * m), (b, b + b_pitch * n)],
                      writes=[(fields["c"], fields["c"] + fields["c_pitch"] * m)])


async def _carry_out(host, arena: Arena, descriptors: list[Descriptor]):
    """A chain in which nothing is wrong."""
    chain = linked(host.config, arena, descriptors)
    result, memory = chain.run()
    assert not result.error, f"{result}: {chain}"
    await host.carry_out(chain, model=(result, memory))


@_scenario(memory=True)
async def descriptor(dut, rng):
    """One descriptor, 6x7x8 to INT32: fetched, checked, loaded, run, stored, recorded, and counted."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    await _carry_out(host, arena, [_product(rng, arena, 6, 7, 8)])
    await host.get(Read.LOAD_BUSY, Read.LOAD_WAIT, Read.RUN_WAIT, Read.STORE_BUSY, Read.STORE_WAIT)


@_scenario(memory=True)
async def pushed_descriptor(dut, rng):
    """One descriptor that the CPU pushes, 4x4x8: begun by START, without a record."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    words = words_of(_product(rng, arena, 4, 4, 8).raw)
    expected = arena.memory.copy()
    result = run_descriptor(expected, words[:FETCHED_WORDS], host.config, BASE)
    host.ram.image = arena.memory
    await host.start(words)
    await host.expect(result, "pushed")
    assert np.array_equal(host.ram.image, expected), "memory is not what the model leaves"


@_scenario(memory=True)
async def chain(dut, rng):
    """Two descriptors: INT8 in macro-tiles and chunks with column sums; behind a fence, one of its C."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    # No -128, which the second one's A may not have.
    first = _product(rng, arena, 6, 8, 13, int8=True, a_panel=4, low=-127, stochastic=1,
                     columns_outer=1, sums=1, sums_address=arena.take(32))
    second = _product(rng, arena, 6, 4, 8, a=first.fields["c"], fence=1)
    await _carry_out(host, arena, [first, second])


@_scenario(memory=True)
async def loads_far_ahead(dut, rng):
    """4x32x8 to INT8 in four macro-tiles: loads run ahead until both halves of the table are in use."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    await _carry_out(host, arena, [_product(rng, arena, 4, 32, 8, int8=True)])


@_scenario(memory=True)
async def gathered_operand(dut, rng):
    """A 2x2 convolution over a padded 2x2 image of 8 channels: A is gathered, with its zeros."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    taps, grid, channels = (2, 2), (3, 3), 8
    product = _product(rng, arena, 9, 4, 4 * channels, a_panel=4, b_panel=4, chunk=4 * channels)
    tensor, address, span = place_tensor(rng, arena, _int8(rng, 1, 2, 2, channels))
    product.fields |= tensor | gathered(
        "a", tensor, address, (2, 2), taps_x=taps[1], grid=grid, origin=(-1, -1), step=(1, 1),
        tap=(1, 1), insert=(1, 1))
    product.reads[0] = span
    await _carry_out(host, arena, [product])


@_scenario(memory=True)
async def memory_stalls(dut, rng):
    """A descriptor, 6x7x8, with pauses on every channel of the memory and at the door."""
    host, arena = memory_port.start(dut, CONFIG, rng, idle=0.2, stall=0.3), Arena(rng)
    await _carry_out(host, arena, [_product(rng, arena, 6, 7, 8)])


async def _fault(dut, rng, kind: Error, where: str):
    """The memory answers one word with an error; then RESET, and a descriptor that does nothing."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    product = _product(rng, arena, 4, 4, 8)
    chain, word = linked(host.config, arena, [product]), product.fields[where]
    host.ram.faults = [(word, word + 8, kind)]
    expected = chain.memory.copy()
    result = run_chain(expected, chain.address, host.config, BASE, host.ram.faults)
    assert result.error == kind
    await host.carry_out(chain, model=(result, expected))
    host.ram.faults = []
    await host.reset()
    nothing = Descriptor("nothing", {"op": DescriptorOp.NONE}, arena.take(4 * DESCRIPTOR_WORDS))
    await _carry_out(host, arena, [nothing])


@_scenario(memory=True)
async def bus_error_on_read(dut, rng):
    """A word of B cannot be read: the chain stops when all is calm, and RESET clears it."""
    await _fault(dut, rng, Error.BUS_READ, "b")


@_scenario(memory=True)
async def bus_error_on_write(dut, rng):
    """A word of C cannot be written: the chain stops at once, and RESET clears it."""
    await _fault(dut, rng, Error.BUS_WRITE, "c")


@_scenario(memory=True)
async def refused_descriptor(dut, rng):
    """A descriptor whose panels do not fit the buffers: nothing is loaded, FAILED has its address."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    product = _product(rng, arena, 4, 4, 8, a_panel=0)
    await host.carry_out(linked(host.config, arena, [product]))
    assert await host.get(Read.ERROR) == [Error.PLAN]


@_scenario(memory=True)
async def reset_in_chain(dut, rng):
    """RESET while words are under way: what memory was promised it gets, and the next chain is exact."""
    host, arena = memory_port.start(dut, CONFIG, rng), Arena(rng)
    first, second = (linked(host.config, arena, [_product(rng, arena, 4, 4, k)]) for k in (24, 8))
    host.ram.image = arena.memory
    await host.ring(first.address)
    # The first words of A are here and the rest is asked for.
    await ClockCycles(dut.clk, 80)
    await host.reset()
    await host.quiet()
    assert np.array_equal(host.ram.image, arena.memory), "stored, although given up before"
    await host.carry_out(second)
