"""What the core does with descriptors it cannot carry out, and with a memory that errs.

It says what, and whose, and how far it came: what comes before is complete, what comes after
untouched, and after RESET all is well again.
"""

import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from backbeat_rtl.config import WORD
from backbeat_rtl.descriptor_model import ChainResult, run_chain, run_descriptor
from backbeat_rtl.isa import (
    DESCRIPTOR_WORDS,
    FETCHED_WORDS,
    DescriptorOp,
    Error,
    Op,
    Port,
    Read,
    Write,
    decode,
)

from .broken_rules import broken_rules
from .commands import command, load_matrix, push, read, readout, run
from .descriptors import random_chain
from .memory_image import SIZE, Arena, Chain, Descriptor, linked, words_of
from .memory_port import BASE, CORES, DECERR, LARGEST_BURST, PAGE, SLVERR, start

CONFIGS = list(CORES)
END = BASE + SIZE


def product_in(rng, chain: Chain) -> "int | None":
    """Number of one of its products, if it has any."""
    products = [n for n, d in enumerate(chain.descriptors) if d.fields["op"] == DescriptorOp.GEMM]
    return int(rng.choice(products)) if products else None


def chain_with_product(rng, config, largest: int) -> tuple[Chain, int]:
    while True:
        chain = random_chain(rng, config, largest=largest)
        number = product_in(rng, chain)
        if number is not None:
            return chain, number


async def recover(host, rng, what: str):
    """The error stays, whatever one does; after RESET a chain is exact."""
    error, value = await host.get(Read.ERROR, Read.ERROR_VALUE)
    ignored = [command(Op.SET, Write.DOORBELL, BASE + 4), command(Op.SET, Write.START), command(Op.RUN),
               *push(Port.DESCRIPTOR, np.zeros((17, 2), np.uint32)), command(Op.PUSH, 9)]
    assert await host.ask(ignored) == [error] * len(ignored), f"after {what}"
    assert await host.get(Read.ERROR, Read.ERROR_VALUE) == [error, value], f"after {what}"
    await host.reset()
    await host.quiet()
    await host.carry_out(random_chain(rng, host.config, largest=16), f"after {what}")


@pytest.mark.parametrize("config", ["4x4", "6x5", "4x14"])
def test_broken_rules_end_the_chain(config):
    CORES[config].run(broken_rules_end_the_chain, config=config)


async def broken_rules_end_the_chain(dut, rng, config):
    """Every rule, somewhere in a chain: code, value, FAILED, COMPLETED, and all of memory."""
    host = start(dut, config, rng, stall=0.05)
    for name, changes, error, _ in broken_rules(rng, host.config):
        chain = random_chain(rng, host.config, largest=16)
        bad = int(rng.integers(len(chain.descriptors)))
        chain.rewrite(bad, op=DescriptorOp.GEMM, columns_outer=0)
        chain.rewrite(bad, **changes)
        result, expected = chain.run()
        assert (result.error, result.completed) == (error, bad), name
        await host.carry_out(chain, name, (result, expected))
        await recover(host, rng, name)


@pytest.mark.parametrize("config", ["4x4", "4x14"])
def test_panels_of_any_number_of_tiles(config):
    CORES[config].run(panels_of_any_number_of_tiles, config=config)


async def panels_of_any_number_of_tiles(dut, rng, config):
    """Each number of tiles in a macro-tile, up to more than there are, in either panel: what banks and
    accumulators hold is multiplied, the rest is refused."""
    host, refused = start(dut, config, rng), 0
    c = host.config
    for number in range(1, c.tiles + 2):
        for a_tiles, b_tiles in ((number, 1), (1, number), rng.integers(1, number, 2, endpoint=True)):
            m, n, k, arena = int(a_tiles) * c.rows, int(b_tiles) * c.columns, 8, Arena(rng)
            (a, a_pitch), (b, b_pitch) = (
                arena.place(rng.integers(-127, 128, (rows, k), dtype=np.int8)) for rows in (m, n))
            c_pitch = -(-4 * n // WORD) * WORD
            descriptor = Descriptor("panel", {
                "op": DescriptorOp.GEMM, "a": a, "b": b, "a_pitch": a_pitch, "b_pitch": b_pitch,
                "c": arena.take(m * c_pitch), "c_pitch": c_pitch, "m": m, "n": n, "k": k, "a_panel": m,
                "b_panel": n, "chunk": k, "last_chunk": 0}, arena.take(4 * DESCRIPTOR_WORDS))
            chain = linked(c, arena, [descriptor])
            result, expected = chain.run()
            assert result.error in (Error.NONE, Error.PLAN)
            await host.carry_out(chain, f"{a_tiles} by {b_tiles} tiles", (result, expected))
            if result.error:
                refused += 1
                await host.reset()
                await host.quiet()
    assert refused > 2, "nothing has been refused"


@pytest.mark.parametrize("config", ["4x4", "6x5"])
def test_broken_rules_of_pushed_descriptors(config):
    CORES[config].run(broken_rules_of_pushed_descriptors, config=config)


async def broken_rules_of_pushed_descriptors(dut, rng, config):
    """The same, without an address to report."""
    host = start(dut, config, rng)
    for name, changes, error, _ in broken_rules(rng, host.config):
        chain = random_chain(rng, host.config, count=1, largest=16)
        chain.rewrite(0, op=DescriptorOp.GEMM, columns_outer=0)
        chain.rewrite(0, **changes)
        words = words_of(chain.descriptors[0].raw)
        result = run_descriptor(chain.memory.copy(), words[:FETCHED_WORDS], host.config, BASE)
        assert (result.error, result.failed) == (error, 0), name
        host.ram.image = chain.memory
        await host.start(words)
        await host.expect(result, name)
        await host.quiet()
        assert np.array_equal(host.ram.image, chain.memory), f"{name}: memory has changed"
        await host.reset()
        if rng.random() < 0.2:
            await host.carry_out(random_chain(rng, host.config, largest=16), f"after {name}")


@pytest.mark.parametrize("config", CONFIGS)
def test_minus_128_in_a_is_reported(config):
    CORES[config].run(minus_128_in_a_is_reported, config=config)


async def minus_128_in_a_is_reported(dut, rng, config):
    """Anywhere in A, stored or gathered, and only there: not beside its rows, nor in B."""
    host = start(dut, config, rng, stall=0.05)
    reported = 0
    while reported < 20:
        # In small ones it is often in the last word of a panel, or the only one.
        chain, number = chain_with_product(rng, host.config, int(rng.choice([6, 40])))
        first, end = chain.descriptors[number].reads[0]
        chain.memory[int(rng.integers(first, end)) - BASE] = 0x80
        result, expected = chain.run()
        reported += result.error == Error.OPERAND
        await host.carry_out(chain, "-128", (result, expected))
        if result.error:
            await recover(host, rng, "-128")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("answer", [SLVERR, DECERR])
def test_errors_of_memory_are_reported(config, answer):
    CORES[config].run(errors_of_memory_are_reported, config=config, answer=answer)


async def errors_of_memory_are_reported(dut, rng, config, answer):
    """One word of an operand, a result or a descriptor cannot be read, or written."""
    host = start(dut, config, rng, stall=0.1)
    host.ram.answer = answer
    for number in range(20):
        kind, word, chain, result, expected = faulty_chain(rng, host.config, number % 3)
        host.ram.faults = [(word, word + 8, kind)]
        what = f"{kind.name} at {word:#x}"
        value = await host.carry_out(chain, what, (result, expected))
        assert value % 8 == 0 and value <= word < min(value + LARGEST_BURST, up(value + 1)), (
            f"{what}: no burst at {value:#x} holds it: {chain}")
        host.ram.faults = []
        await recover(host, rng, what)


def up(address: int) -> int:
    """The end of its page."""
    return -(-address // PAGE) * PAGE


def faulty_chain(rng, config, place: int):
    """A fault that the chain meets: in an operand, in a result, or in a descriptor."""
    while True:
        chain, number = chain_with_product(rng, config, 40)
        d = chain.descriptors[number]
        spans = (d.reads, d.writes, [(d.address, d.address + 4 * DESCRIPTOR_WORDS)])[place]
        first, end = spans[rng.integers(len(spans))]
        word = int(rng.integers(first // 8, -(-end // 8))) * 8
        kind = (Error.BUS_READ, Error.BUS_WRITE, rng.choice([Error.BUS_READ, Error.BUS_WRITE]))[place]
        memory = chain.memory.copy()
        result = run_chain(memory, chain.address, config, BASE, [(word, word + 8, Error(kind))])
        if result.error:
            return Error(kind), word, chain, result, memory


@pytest.mark.parametrize("config", ["4x4", "4x14"])
def test_operands_outside_of_memory_are_reported(config):
    CORES[config].run(operands_outside_of_memory_are_reported, config=config)


async def operands_outside_of_memory_are_reported(dut, rng, config):
    """Each operand and result in turn, beginning before the end of memory or behind it."""
    host = start(dut, config, rng, stall=0.1)
    for name in ("a", "b", "c", "table", "sums_address", "next") * 2:
        while True:
            chain, number = chain_with_product(rng, host.config, 40)
            # What is below memory may go on in it: C would, over operands.
            places = [END - 8, END, 2**32 - 8, 0] + [BASE - 8] * (name != "c")
            chain.rewrite(number, **{name: int(rng.choice(places))})
            if name == "next":
                chain.rewrite(number, last=0)
            if name == "a" and 0x80 in chain.memory[-8:]:
                continue        # -128 before the end of memory is an error itself, and the first one
            result, expected = chain.run()
            if result.error in (Error.BUS_READ, Error.BUS_WRITE):
                break
        value = await host.carry_out(chain, name, (result, expected))
        # No burst crosses a page, and the ends of memory are ends of pages.
        assert value % 8 == 0 and not BASE <= value < END, (
            f"{name}: the burst at {value:#x} is in memory: {chain}")
        await recover(host, rng, name)


def test_descriptors_in_impossible_places():
    CORES["4x4"].run(descriptors_in_impossible_places)


async def descriptors_in_impossible_places(dut, rng):
    """The doorbell, and `next`, at an address that is no multiple of 8."""
    host = start(dut, "4x4", rng)
    for bits in (1, 2, 4, 7):
        chain = random_chain(rng, host.config, largest=16)
        last = len(chain.descriptors) - 1
        chain.rewrite(last, last=0, next=chain.address + bits)
        result, expected = chain.run()
        assert result == ChainResult(last + 1, Error.ALIGNMENT, chain.address + bits,
                                     chain.address + bits, result.max_abs)
        await host.carry_out(chain, f"next with {bits}", (result, expected))
        await recover(host, rng, f"next with {bits}")
        await host.ring(chain.address + bits)
        await host.expect(ChainResult(0, Error.ALIGNMENT, chain.address + bits, chain.address + bits),
                          f"doorbell with {bits}")
        await recover(host, rng, f"doorbell with {bits}")


def test_commands_while_a_chain_is_in_progress():
    CORES["4x4"].run(commands_while_a_chain_is_in_progress)


async def commands_while_a_chain_is_in_progress(dut, rng):
    """Another doorbell, START or pushed descriptor is an error; GET is not."""
    host = start(dut, "4x4", rng)
    pushed = push(Port.DESCRIPTOR, np.array([[0x12345, 7]], np.uint32))[0]
    for bad in (command(Op.SET, Write.DOORBELL, BASE), command(Op.SET, Write.START, 3), pushed):
        chain, _ = chain_with_product(rng, host.config, 40)
        host.ram.image = chain.memory
        host.ram.freeze()       # so that it is in progress for certain
        await host.ring(chain.address)
        await ClockCycles(dut.clk, int(rng.integers(1, 100)))
        assert await host.get(Read.ERROR) == [0]
        assert (await host.get(Read.STATUS))[0] & 8
        assert await host.ask([bad]) == [Error.BUSY]
        assert await host.get(Read.ERROR, Read.ERROR_VALUE) == [Error.BUSY, bad[1]]
        host.ram.stall(0)
        await host.reset()
        await host.quiet()
        await host.carry_out(random_chain(rng, host.config, largest=16), "after BUSY")


def test_doorbell_while_a_product_is_read():
    CORES["4x4"].run(doorbell_while_a_product_is_read)


async def doorbell_while_a_product_is_read(dut, rng):
    """The read-out belongs to one master at a time: BUSY until the last word has been read. A panel is
    begun anew before it is complete, in either half."""
    host = start(dut, "4x4", rng)
    for half in (0, 1):
        for bad in (command(Op.SET, Write.DOORBELL, BASE), command(Op.SET, Write.START)):
            a, b = (rng.integers(-127, 128, (4, 8), dtype=np.int8) for _ in "ab")
            loads = [load_matrix(port, matrix, 4, half) for port, matrix in ((Port.A, a), (Port.B, b))]
            given_up = [one for words in loads for one in words[:2]]
            words = await host.ask([*given_up, *loads[0], *loads[1], run(a_half=half, b_half=half),
                                    readout(), *read(15), bad])
            expected = (a.astype(np.int64) @ b.T).ravel()[:15] % 2**32
            assert words[-16:-1] == expected.tolist() and not any(words[:-16])
            assert words[-1] == Error.BUSY
            assert await host.get(Read.ERROR, Read.ERROR_VALUE) == [Error.BUSY, bad[1]]
            await host.reset()
            await host.carry_out(random_chain(rng, host.config, largest=16), "after BUSY")


@pytest.mark.parametrize("channels", [["ar"], ["r"], ["aw"], ["w"], ["b"], ["ar", "r", "aw", "w", "b"]],
                         ids="-".join)
def test_a_dead_memory_is_reported(channels):
    CORES["4x4"].run(a_dead_memory_is_reported, channels=channels)


async def a_dead_memory_is_reported(dut, rng, channels):
    """TIMEOUT after 65,536 silent cycles, be it at the first address or the last word."""
    host = start(dut, "4x4", rng)
    chain, _ = chain_with_product(rng, host.config, 24)
    host.ram.image = chain.memory
    await host.ring(chain.address)
    await ClockCycles(dut.clk, int(rng.integers(1, 60)))
    for channel in channels:
        host.ram.channels[channel].pause = True
    await host.fence()
    error, value = await host.get(Read.ERROR, Read.ERROR_VALUE)
    assert (error, value) == (Error.TIMEOUT, 0)
    # A panel may have been cut off.
    assert not decode("STATUS", *await host.get(Read.STATUS))["moving"]
    for channel in channels:
        host.ram.channels[channel].pause = False
    await recover(host, rng, "a dead memory")
