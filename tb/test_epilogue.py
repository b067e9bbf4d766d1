"""The epilogue: model against exact fractions, RTL against the model, in range so rounding shows."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from cocotb.triggers import ClockCycles

from backbeat_rtl.epilogue import LATENCY, Epilogue, IndexHash
from backbeat_rtl.epilogue_model import random_bits, requantise

from .harness import Simulation, drive, unpack

TABLE_SIZE = 24
LOW, HIGH = -2**31, 2**31 - 1
EPILOGUE = Simulation(Epilogue, entries=TABLE_SIZE)
HASH = Simulation(IndexHash)


def in_range(rng, count: int):
    """Results within a few hundred, at every shift."""
    shift = rng.integers(0, 63, count)
    bits = np.minimum(shift + np.log2(rng.uniform(0.1, 300, count)), 61.9)          # of the product
    multiplier_bits = rng.uniform(np.clip(bits - 31, 0, 31), np.clip(bits, 0, 31))
    multiplier = (2**multiplier_bits).astype(int) * rng.choice([-1, 1], count)
    x = (2**(bits - multiplier_bits)).clip(0, HIGH).astype(int) * rng.choice([-1, 1], count)
    bias = rng.integers(-np.abs(x), np.abs(x), endpoint=True)
    return (x - bias).clip(LOW, HIGH), bias, multiplier, shift


def ties(rng, count: int):
    """Exactly n + 1/2, or the neighbouring representable value, for either sign of the multiplier."""
    shift = rng.integers(1, 52, count)
    power = np.maximum(shift - 1 - rng.integers(0, 22, count), 0).clip(0, 30)
    x = (2 * rng.integers(-140, 140, count) + 1 << shift - 1 - power) + rng.choice([0, 0, -1, 1], count)
    bias = rng.integers(-1000, 1000, count)
    return x - bias, bias, rng.choice([-1, 1], count) << power, shift


def extremes(rng, count: int):
    """The ends of every range."""
    ends = rng.choice([LOW, LOW + 1, -1, 0, 1, HIGH - 1, HIGH], (3, count))
    return *ends, rng.integers(0, 63, count)


def uniform(rng, count: int):
    """Saturates nearly always."""
    return *rng.integers(LOW, HIGH, (3, count), endpoint=True), rng.integers(0, 63, count)


CLASSES = [in_range, ties, extremes, uniform]


def thresholds(rng, fractions: np.ndarray):
    """Results to which a fraction (random, or a half) just carries, or just does not: each of its bits
    counts."""
    count = len(fractions)
    x = np.where(fractions <= 2**31, -fractions, 2**32 - fractions) - rng.integers(0, 2, count)
    bias = rng.integers(-1000, 1000, count)
    return (x - bias).clip(LOW, HIGH), bias, np.ones(count, int), np.full(count, 32)


def settings(rng) -> dict:
    low, high = sorted(rng.choice([-128, -127, -100, 0, 90, 126, 127], 2, replace=False).tolist())
    return {"zero_point": int(rng.choice([-128, -5, 0, 0, 3, 127])), "low": low, "high": high,
            "stochastic": bool(rng.integers(2)), "seed": int(rng.integers(2**32))}


@pytest.mark.parametrize("operands", CLASSES)
def test_model_is_exact(operands):
    rng = np.random.default_rng(1)
    unclipped = 0
    for _ in range(40):
        s, index = settings(rng), rng.integers(0, 2**32, 200)
        values = operands(rng, 200)
        got = requantise(*values, **s, index=index)
        fractions = random_bits(s["seed"], index) if s["stochastic"] else np.full(200, 2**31)
        for n, fraction in enumerate(fractions.tolist()):
            acc, bias, multiplier, shift = (int(value[n]) for value in values)
            exact = Fraction((acc + bias) * multiplier, 2**shift) + Fraction(fraction, 2**32)
            exact = floor(exact) + s["zero_point"]
            assert got[n] == min(max(exact, s["low"]), s["high"]), (acc, bias, multiplier, shift, s)
            unclipped += s["low"] < exact < s["high"]
    assert unclipped > 1000 or operands in (extremes, uniform), "saturated results would prove nothing"


def test_hash_matches_model():
    HASH.run(hash_matches_model)


async def hash_matches_model(dut, rng):
    indices = [0, 1, 2**32 - 1, *rng.integers(0, 2**32, 2000).tolist(), *range(500)]
    for seed in (0, 1, 2**32 - 1, *rng.integers(0, 2**32, 5).tolist()):
        got = await drive(dut, {"i_index": indices + [0] * IndexHash.LATENCY,
                                "i_seed": [seed] * (len(indices) + IndexHash.LATENCY)}, ["o"])
        expected = random_bits(seed, np.array(indices)).tolist()
        assert got["o"][IndexHash.LATENCY:] == expected, f"{seed=}"


def test_values_match_model():
    EPILOGUE.run(values_match_model)


def table_writes(rng, times: list[int], entries: list[list[int]], cycles: int):
    """Gives every value a table entry of its own, in place of that of the value before it.

    Written in the cycle behind that value, or in the cycle ahead of its own, or in between.
    """
    layout, i_table, i_table_valid = EPILOGUE.component.i_table.shape(), [0] * cycles, [0] * cycles
    for n, t in enumerate(times):
        written = times[n - TABLE_SIZE] + 1 if n >= TABLE_SIZE else n
        if rng.random() < 0.3 and not i_table_valid[t - 1]:
            written = t - 1
        while i_table_valid[written]:
            written += 1
        assert written < t
        entry = dict(zip(("bias", "multiplier", "shift"), (e[n] for e in entries), strict=True))
        i_table[written] = layout.const({"entry": n % TABLE_SIZE, "values": entry}).as_bits()
        i_table_valid[written] = 1
    return {"i_table": i_table, "i_table_valid": i_table_valid}


async def values_match_model(dut, rng):
    dut.i_requantise.value = 1
    layout, count = EPILOGUE.component.i_value.shape(), 400
    for phase in range(60):
        s = settings(rng)
        dut.i_clear.value, dut.i_stochastic.value, dut.i_seed.value = 1, int(s["stochastic"]), s["seed"]
        for name in ("zero_point", "low", "high"):
            getattr(dut, f"i_{name}").value = s[name] & 0xFF
        await ClockCycles(dut.clk, 1)
        dut.i_clear.value = 0

        values = np.array(CLASSES[phase % len(CLASSES)](rng, count))
        index = rng.integers(0, 2**32, count)
        every = 2 if s["stochastic"] else 8
        values[:, ::every] = thresholds(rng, random_bits(s["seed"], index[::every]).astype(np.int64)
                                        if s["stochastic"] else np.full(count // every, 2**31))
        (acc, *entries), index = values.tolist(), index.tolist()
        bubbles = (rng.random(count) < phase % 3 * 0.2) * rng.integers(1, 9, count)
        times = (TABLE_SIZE + np.cumsum(1 + bubbles)).tolist()
        cycles = times[-1] + LATENCY + 1
        bubble = layout.const({"acc": LOW, "entry": 1}).as_bits()
        i_value, i_valid = [bubble] * cycles, [0] * cycles
        for n, t in enumerate(times):
            i_valid[t] = 1
            i_value[t] = layout.const({"acc": acc[n], "entry": n % TABLE_SIZE,
                                       "index": index[n]}).as_bits()
        got = await drive(
            dut, {"i_value": i_value, "i_valid": i_valid, **table_writes(rng, times, entries, cycles)},
            ["o_value", "o_max_abs"])

        expected = requantise(acc, *entries, **s, index=np.array(index)).tolist()
        for n, t in enumerate(times):
            found = unpack(got["o_value"][t + LATENCY], 8, 1)[0]
            assert found == expected[n], (
                f"phase {phase}, value {n}: acc={acc[n]} (bias, multiplier, shift)="
                f"{[entry[n] for entry in entries]} index={index[n]} {s}: got {found}, "
                f"expected {expected[n]}")
        assert got["o_max_abs"][0] == 0, f"max_abs as phase {phase} begins"
        assert got["o_max_abs"][-1] == max(map(abs, acc)), f"max_abs of phase {phase}"
