"""The processing element: both sums exact, whatever the low field of the accumulator goes through."""

from itertools import product

import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from backbeat_rtl.array_model import accumulate_packed
from backbeat_rtl.pe import COUNT_LAG, LATENCY, LOW, ProcessingElement

from .harness import Simulation, drive, pack, unpack

MAX_K = 65536
PE = Simulation(ProcessingElement, max_k=MAX_K)


def packed_pair(a0: int, a1: int) -> int:
    """A row pair as the array's edge packs it."""
    return pack([a0, a1 - (a0 < 0)], 8)


def signed(value: int, port: str) -> int:
    return unpack(value, PE.component.signature.members[port].shape.width, 1)[0]


def sums(p: int, count: int) -> tuple[int, int]:
    """The two sums that the packed accumulator and its wrap counter stand for."""
    return count << LOW | p & (1 << LOW) - 1, (p >> LOW) - count


def drifting(rng, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Operands whose low sum runs up and down through all quadrants, in steps of any size."""
    a0, a1 = rng.integers(-127, 128, (2, k))
    b = rng.choice([-128, -127, -100, 100, 127], k)
    direction = np.repeat(rng.choice([-1, 1], k), rng.integers(1, 30, k))[:k]
    return np.where(rng.random(k) < 0.8, np.abs(a0) * direction * np.sign(b), a0), a1, b


def edges(rng, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a0, a1 = rng.choice([-127, -1, 0, 1, 127], (2, k))
    return a0, a1, rng.choice([-128, -127, -1, 0, 1, 127], k)


def uniform(rng, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return *rng.integers(-127, 128, (2, k)), rng.integers(-128, 128, k)


def products(rng, count: int):
    """Operands of many products, K = 1 among them, some with zeros behind as in an idle array."""
    for _ in range(count):
        k = int(rng.choice([1, 2, 3, rng.integers(4, 60), rng.integers(60, 600)]))
        operands = [drifting, edges, uniform][rng.integers(3)](rng, k)
        idle = int(rng.choice([0, 0, 1, 7]))
        yield [np.append(x, np.zeros(idle, int)) for x in operands]


def quadrant_moves(products) -> tuple[set, set]:
    """(quadrant before, after) of every step within a product, and of every first step."""
    within, first, last = set(), set(), 0
    for a0, a1, b in products:
        quadrant = (accumulate_packed(a0, a1, b)[0] >> LOW - 2 & 3).tolist()
        within |= set(zip(quadrant, quadrant[1:], strict=False))
        first.add((last, quadrant[0]))
        last = quadrant[-1]
    return within, first


@pytest.mark.parametrize("operands", [drifting, edges, uniform])
def test_model_is_exact(operands):
    rng = np.random.default_rng(1)
    for k in (1, 2, 17, 1000, MAX_K):
        a0, a1, b = operands(rng, k)
        p, count = accumulate_packed(a0, a1, b)
        assert sums(int(p[-1]), int(count[-1])) == (a0 @ b, a1 @ b), f"{k=}"


def test_every_step_matches_model():
    PE.run(every_step_matches_model)


async def every_step_matches_model(dut, rng):
    stimulus = list(products(rng, 300))
    within, first = quadrant_moves(stimulus)
    assert within == {(q, (q + move) % 4) for q in range(4) for move in (-1, 0, 1)}
    assert first == {(q, new) for q in range(4) for new in (0, 3)}

    a0, a1, b = (np.concatenate(x).tolist() for x in zip(*stimulus, strict=True))
    starts = np.zeros(len(b), int)
    starts[np.cumsum([0] + [len(x[2]) for x in stimulus[:-1]])] = 1
    tail = [0] * (LATENCY + COUNT_LAG)
    got = await drive(dut, {
        "i_a": [packed_pair(*pair) for pair in zip(a0, a1, strict=True)] + tail,
        "i_b": [value & 0xFF for value in b] + tail,
        "i_first": starts.tolist() + tail,
    }, ["o_p", "o_count", "o_a", "o_b", "o_first"])

    assert got["o_first"][1:len(b) + 1] == starts.tolist()
    assert got["o_b"][1:len(b) + 1] == [value & 0xFF for value in b]
    assert got["o_a"][1:len(b) + 1] == [packed_pair(*x) for x in zip(a0, a1, strict=True)]
    t = 0
    for number, (x0, x1, y) in enumerate(stimulus):
        model = (values.tolist() for values in accumulate_packed(x0, x1, y))
        for step, expected in enumerate(zip(*model, strict=True)):
            found = (signed(got["o_p"][t + LATENCY], "o_p"),
                     signed(got["o_count"][t + LATENCY + COUNT_LAG], "o_count"))
            assert found == expected, (
                f"product {number}, step {step}: a0={x0[step]} a1={x1[step]} b={y[step]}: "
                f"got (p, count) {found}, expected {expected}")
            t += 1


def test_longest_sums_of_extremes_are_exact():
    PE.run(sums_of_extremes_are_exact)


async def sums_of_extremes_are_exact(dut, rng):
    extremes = product((2, MAX_K - 1, MAX_K), (-127, 127), (-127, 127), (-128, -127, 127))
    for k, a0, a1, b in extremes:
        dut.i_a.value, dut.i_b.value, dut.i_first.value = packed_pair(a0, a1), b & 0xFF, 1
        await ClockCycles(dut.clk, 1)
        dut.i_first.value = 0
        await ClockCycles(dut.clk, k - 1)
        dut.i_a.value = dut.i_b.value = 0
        await ClockCycles(dut.clk, LATENCY + COUNT_LAG + 1)
        got = sums(signed(int(dut.o_p.value), "o_p"), signed(int(dut.o_count.value), "o_count"))
        expected = k * a0 * b, k * a1 * b
        assert got == expected, f"{k=} {a0=} {a1=} {b=}: got {got}, expected {expected}"
