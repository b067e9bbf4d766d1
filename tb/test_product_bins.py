"""Every kind of product, each in its turn: what the random ones of other benches may not draw."""

import numpy as np
import pytest

from backbeat_rtl.config import WORD
from backbeat_rtl.isa import DESCRIPTOR_WORDS, DescriptorOp

from .coverage import record
from .coverage.bins import AXES, bin_of, bins
from .descriptors import place_results, random_plan, stored_operand
from .memory_image import Arena, Descriptor, linked
from .memory_port import BASE, CORES, start
from .products import random_operand

CONFIG = "4x4"
#: Of the bins of each test, so many are drawn, unless coverage is counted: then it is all of them.
SOME = 12


@pytest.mark.parametrize("orientation", AXES["orientation"])
@pytest.mark.parametrize("stall", [0, 0.2])
def test_kinds_of_products_match_model(orientation, stall):
    CORES[CONFIG].run(kinds_of_products_match_model, orientation=orientation, stall=stall)


async def kinds_of_products_match_model(dut, rng, orientation, stall):
    host = start(dut, CONFIG, rng, stall=stall)
    wanted = [kind for kind in bins()
              if kind[0] == orientation and kind[3] == ("stalled" if stall else "none")]
    rng.shuffle(wanted)
    wanted = wanted if record.covering() else wanted[:SOME]
    for begin in range(0, len(wanted), 6):
        arena = Arena(rng)
        descriptors = [product_of(rng, arena, host.config, kind, stall > 0)
                       for kind in wanted[begin:begin + 6]]
        chain = linked(host.config, arena, descriptors)
        await host.carry_out(chain, f"kinds {begin} and up")
    assert bool(host.rules.waits["w"]) == (stall > 0), host.rules.waits


def product_of(rng, arena: Arena, config, kind: tuple, stalled: bool) -> Descriptor:
    """One of that bin."""
    orientation, ragged, epilogue, _, _ = kind
    ends = set(ragged) if ragged != "none" else set()
    f = {"op": DescriptorOp.GEMM, "a_across": int(orientation[0] == "t"),
         "b_across": int(orientation[1] == "n"), "requantise": int(epilogue != "int32")}
    f |= {"stochastic": int("stochastic" in epilogue), "zero_point": int(rng.integers(-20, 20)),
          "columns_outer": int(rng.integers(2)), "fence": int(rng.random() < 0.2)}
    f["low"] = f["zero_point"] if "relu" in epilogue else -128
    f["high"] = int(rng.choice([127, 100]))
    for _ in range(10_000):
        m, n, k = (_size(rng, unit, most, name in ends) for name, unit, most in (
            ("m", config.rows, 4), ("n", config.columns, 4), ("k", WORD, 6)))
        plan = random_plan(rng, m, n, k, bool(f["a_across"]), config)
        if plan and bin_of({
                "array": [config.rows, config.columns], "op": orientation, "shape": [m, n, k],
                "spec": [f["stochastic"], f["zero_point"], f["low"]] if f["requantise"] else None,
                "panels": [plan["a_panel"], plan["b_panel"]],
                "chunk": max(plan["chunk"], plan["last_chunk"]), "stalled": stalled}) == kind:
            break
    else:
        raise AssertionError(f"no sizes and plan found for {kind}")
    f |= {"m": m, "n": n, "k": k, "sums": int(f["columns_outer"] and rng.random() < 0.3)} | plan
    reads = []
    for name, shape, low in (("a", (k, m) if f["a_across"] else (m, k), -127),
                             ("b", (k, n) if f["b_across"] else (n, k), -128)):
        fields, span = stored_operand(rng, arena, name, random_operand(rng, shape, low, "in range"))
        f |= fields
        reads.append(span)
    descriptor = Descriptor(" ".join(kind), f, reads=reads)
    epilogue = {name: f[name] for name in ("stochastic", "zero_point", "low", "high")}
    place_results(rng, arena, config, descriptor, "in range" if f["requantise"] else "int32", [])
    f |= epilogue       # that of the bin, not the one drawn
    descriptor.address = arena.take(4 * DESCRIPTOR_WORDS)
    return descriptor


def _size(rng, unit: int, most: int, ragged: bool) -> int:
    """Up to ``most`` units, the last one whole or not; one unit as often as more."""
    units = 1 if rng.random() < 0.5 else int(rng.integers(2, most, endpoint=True))
    return unit * units - (int(rng.integers(1, unit)) if ragged else 0)


def test_kinds_are_those_of_the_bins():
    """A product is of the bin that it was drawn for, whatever the random numbers."""
    config, rng = CORES[CONFIG].component.core.engine.config, np.random.default_rng(1)
    for kind in bins()[::37]:
        f = product_of(rng, Arena(rng, BASE), config, kind, kind[3] == "stalled").fields
        assert f["k"] % WORD == 0 or "k" in kind[1]
