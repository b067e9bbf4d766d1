"""The core where commands come as close together as they can."""

import numpy as np
import pytest

from backbeat.program import panel
from backbeat_rtl.isa import MAX_RUN, Error, Op, Port, Read, Write, encode

from .cfu_bus import CORES, Door
from .commands import command, get, load, load_matrix, push, read, readout, run

CONFIGS = ["4x4", "6x5", "2x64"]
TABLE = [command(Op.SET, Write.TABLE, 0), command(Op.SET, Write.SHIFT, 20)]


def operands(rng, m: int, n: int, k: int):
    a, b = rng.integers(-127, 128, (m, k)), rng.integers(-128, 128, (n, k))
    return a.astype(np.int8), b.astype(np.int8)


def loads(config, a, b, half: int = 0):
    return [*load_matrix(Port.A, a, config.rows, half), *load_matrix(Port.B, b, config.columns, half)]


@pytest.mark.parametrize("config", CONFIGS)
def test_accumulation_onto_one_tile_is_exact(config):
    CORES[config].run(accumulation_onto_one_tile, config=config)


async def accumulation_onto_one_tile(dut, rng, config):
    """Long and short runs in any order: each reads the sums that the one before has just written."""
    door = Door(dut, config, rng)
    rows, columns = door.config.rows, door.config.columns
    for tiles, depth in ((1, 1), (1, 2), (1, 8), (2, 1), (2, door.config.longest(2))):
        pairs = [operands(rng, tiles * rows, columns, k) for k in (depth, 1)]
        halves = [0, *rng.integers(2, size=20).tolist()]
        await door.send([
            *loads(door.config, *pairs[0], 0), *loads(door.config, *pairs[1], 1),
            *(run(a_half=half, b_half=half, accumulate=n > 0) for n, half in enumerate(halves)),
            readout()], f"{tiles=} {depth=}")
        got = await door.send(read(tiles * rows * columns), f"{tiles=} {depth=}")
        products = [a.astype(int) @ b.T.astype(int) for a, b in pairs]
        assert got == [c & 0xFFFFFFFF for c in sum(products[half] for half in halves).ravel().tolist()]
    await door.drain()


@pytest.mark.parametrize("config", CONFIGS)
def test_many_short_runs_queue_up(config):
    CORES[config].run(many_short_runs, config=config)


async def many_short_runs(dut, rng, config):
    """More of them than the core counts; a load and a read-out wait for all of them."""
    door = Door(dut, config, rng)
    a, b = operands(rng, 1, 1, 1)
    for _ in range(20):
        await door.send([
            *loads(door.config, a, b, 1), *loads(door.config, a, b),
            *(run(c_half=c) for c in rng.integers(2, size=40).tolist()), run(c_half=1),
            *load_matrix(Port.A, -a, door.config.rows), readout(half=1), *read(1),
            run(), readout(), *read(1)])
    await door.drain()


@pytest.mark.parametrize("config", CONFIGS)
def test_load_waits_for_the_half_in_use(config):
    CORES[config].run(load_waits_for_the_half_in_use, config=config)


async def load_waits_for_the_half_in_use(dut, rng, config):
    """Words of the next panel arrive while the run has only begun, or its last lane is still read."""
    door = Door(dut, config, rng)
    c = door.config
    for number in range(60):
        side = int(rng.integers(1, 3))
        depth = int(rng.choice([1, 8, c.longest(side)]))
        half, across = number % 2, bool(rng.integers(2))
        a, b = operands(rng, side * c.rows, c.columns, depth)
        other = operands(rng, side * c.rows, c.columns, depth)
        reloads = [load_matrix(Port.A, other[0], c.rows, half, across),
                   load_matrix(Port.B, other[1], c.columns, half, across)][::rng.choice([-1, 1])]
        await door.send([*loads(c, a, b, half), run(a_half=half, b_half=half), *reloads[0], *reloads[1],
                         run(a_half=half, b_half=half, c_half=1)], f"product {number}")
        for c_half in (0, 1):
            await door.send([readout(half=c_half), *read(side * c.rows * c.columns)],
                            f"product {number}, half {c_half}")
    await door.drain()


@pytest.mark.parametrize("config", CONFIGS)
def test_load_and_readout_wait_for_all_runs(config):
    CORES[config].run(load_and_readout_wait_for_all_runs, config=config)


async def load_and_readout_wait_for_all_runs(dut, rng, config):
    """Up to twelve runs of the same panels add to the same sums; then other panels, or the sums."""
    door = Door(dut, config, rng)
    c = door.config
    depth = c.longest(1)
    for number in range(24):
        half, c_half = number % 2, number // 2 % 2
        (a, b), other = (operands(rng, c.rows, c.columns, depth) for _ in range(2))
        runs = [run(a_half=half, b_half=half, c_half=c_half, accumulate=n > 0)
                for n in range(1 + number // 2)]
        which = number % 3
        reload = [load_matrix(Port.A, other[0], c.rows, half),
                  load_matrix(Port.B, other[1], c.columns, half), []][which]
        await door.send([*loads(c, a, b, half), *runs, *reload, readout(half=c_half),
                         *read(c.rows * c.columns)], f"{len(runs)} runs, {which=}")
    await door.drain()


def test_load_waits_for_the_last_lane():
    """The wide array's last lane reads a short panel long after the first lane has."""
    CORES["16x16"].run(load_waits_for_the_last_lane)


async def load_waits_for_the_last_lane(dut, rng):
    door = Door(dut, "16x16", rng)
    lanes = slice(0, 16)
    for depth in (*range(1, 10), 16, 24):
        a, b = operands(rng, 16, 16, depth)
        other = np.ascontiguousarray(operands(rng, 16, 16, depth)[1].T)
        # Across lanes, the second word already reaches the far half of them.
        await door.send([
            *loads(door.config, a, b), run(),
            load(Port.B, depth=depth, tiles=1, last=16, across=True),
            *push(Port.B, panel(other, lanes, slice(0, depth), True, 16)), run(c_half=1),
            readout(), *read(256), readout(half=1), *read(256)], f"{depth=}")
    await door.drain()


@pytest.mark.parametrize("config", CONFIGS)
def test_run_sees_the_word_before_it(config):
    CORES[config].run(run_sees_the_word_before_it, config=config)


async def run_sees_the_word_before_it(dut, rng, config):
    """One step of K, one word per panel: the run is the very next command."""
    door = Door(dut, config, rng)
    c = door.config
    side = min(c.rows, c.columns)
    for number in range(60):
        first, second = (Port.A, Port.B) if number % 2 else (Port.B, Port.A)
        words = rng.integers(-127, 128, (2, 8), dtype=np.int8).view("<u4")
        await door.send([load(first, depth=1, tiles=1, last=side, across=True),
                         load(second, depth=1, tiles=1, last=side, across=True),
                         *push(first, words[:1]), *push(second, words[1:]), run(), readout(),
                         *read(side**2), get(Read.MAX_ABS), command(Op.SET, Write.MAX_ABS)],
                        f"product {number}")
    await door.drain()


@pytest.mark.parametrize("config", CONFIGS)
def test_int32_and_int8_may_alternate(config):
    CORES[config].run(int32_and_int8_alternate, config=config)


async def int32_and_int8_alternate(dut, rng, config):
    """A read-out begins when the last word of the one before has just been read."""
    door = Door(dut, config, rng)
    c = door.config
    for number in range(60):
        m, n = int(rng.integers(1, 2 * c.rows)), int(rng.integers(1, 2 * c.columns))
        await door.send([*TABLE, *[command(Op.PUSH, Port.TABLE, 3, 2**18)] * n,
                         *loads(c, *operands(rng, m, n, 5)), run()], f"product {number}")
        for requantise in rng.integers(2, size=4).tolist():
            await door.send([readout(requantise=requantise, index=number),
                             *read(m * (-(-n // 4) if requantise else n)), get(Read.MAX_ABS)],
                            f"product {number}, {requantise=}")
        await door.send([command(Op.SET, Write.MAX_ABS)])
    await door.drain()


@pytest.mark.parametrize("config", CONFIGS)
def test_counters_and_status_tell_the_truth(config):
    CORES[config].run(counters_and_status, config=config)


async def counters_and_status(dut, rng, config):
    door = Door(dut, config, rng)
    c = door.config
    a, b = operands(rng, 2 * c.rows, c.columns, 8)
    commands = loads(c, a, b)
    counters = [get(Read.CYCLES), get(Read.BUSY), get(Read.FED), get(Read.STATUS)]
    await door.send([*counters, *commands[:3], get(Read.STATUS), *commands[3:], get(Read.STATUS), run(),
                     get(Read.STATUS), readout(), get(Read.STATUS), *read(a.shape[0] * b.shape[0]),
                     *counters])
    await door.drain()
    cycles, busy, fed, idle, loading, loaded, running, reading, *after = door.timed
    assert (idle, loaded) == (0, 0) and after[3] == 0
    assert loading == encode("STATUS", loading=1, running=0, reading=0, moving=0)
    assert running == encode("STATUS", loading=0, running=1, reading=0, moving=0)
    assert reading == encode("STATUS", loading=0, running=1, reading=1, moving=0)
    assert (after[1] - busy, after[2] - fed) == (16, 16), "two tiles of eight steps"
    assert after[0] - cycles == door.times[-4] - door.times[0]


def test_longest_run_is_exact_and_a_longer_one_refused():
    CORES["16x16"].run(longest_run, config="16x16")


async def longest_run(dut, rng, config):
    """Of operands at their limits: the counters in the array are as wide as that. Lanes hold more."""
    door = Door(dut, config, rng)
    c = door.config
    assert MAX_RUN < c.depth
    signs = rng.choice([-1, 1], (c.rows, 1)), rng.choice([-128, 127], (c.columns, 1))
    a, b = (np.broadcast_to(s, (len(s), MAX_RUN)).astype(np.int8) for s in (127 * signs[0], signs[1]))
    await door.send([*loads(c, a, b), run(), run(accumulate=True), readout()], "the longest run")
    got = await door.send(read(c.rows * c.columns), "the longest run")
    assert got == [v & 0xFFFFFFFF for v in (2 * a.astype(int) @ b.T.astype(int)).ravel().tolist()]
    for port in Port.A, Port.B:
        longer = load(port, depth=MAX_RUN + 1, tiles=1, last=1)
        assert await door.send([longer, command(Op.RESET, 0)], "a longer one") == [Error.SIZE, 0]
    await door.drain()
