"""Random commands for a core without a memory port, sensible ones and others."""

from itertools import product

import numpy as np

from backbeat_rtl.config import WORD
from backbeat_rtl.core_model import CoreModel, panel_words
from backbeat_rtl.isa import Op, Port, Read, Write, encode

from .commands import command, get, load, push, read, readout, run

__all__ = ["garbage", "legal"]


def words(rng, port: Port, count: int) -> np.ndarray:
    low = -127 if port == Port.A else -128
    uniform = rng.random() < 0.7
    values = rng.integers(low, 128, (count, WORD)) if uniform else rng.choice([low, 127], (count, WORD))
    return values.astype(np.int8).view("<u4")


def sizes(rng, config, port: Port) -> dict:
    """A legal panel; few depths, so that two panels often agree."""
    tiles = int(rng.choice([1, 1, 2, config.tiles, rng.integers(1, config.tiles + 1)]))
    longest = config.longest(tiles)
    lanes = config.rows if port == Port.A else config.columns
    if not longest:
        tiles, longest = 1, config.longest(1)
    return {"depth": min(int(rng.choice([1, 8, 8, 13, longest])), longest), "tiles": tiles,
            "last": int(rng.choice([1, lanes, rng.integers(1, lanes + 1)])),
            "half": int(rng.integers(2)), "across": bool(rng.integers(2))}


def legal(rng, model: CoreModel):
    """One or some commands that the core, being where it is, can carry out."""
    choices = ["get", "load", "load"]
    choices += ["push"] * 6 * len(model.loading)
    runs = [modes for modes in product((0, 1), repeat=4) if can_run(model, *modes)]
    choices += ["run"] * 4 if runs else []
    choices += ["read"] * 6 if model.words else ["set", "table"] + ["readout"] * 4 * len(model.products)
    kind = rng.choice(choices)
    if kind == "get":
        # MAX_ABS is still growing while a product is read.
        return [get(Read(r)) for r in rng.permutation(9)[:3] if r != Read.MAX_ABS or not model.words]
    if kind == "load":
        port = Port(int(rng.integers(2)))
        return [load(port, **sizes(rng, model.config, port))]
    if kind == "push":
        port = Port(int(rng.choice(list(model.loading))))
        _, shape, pushed = model.loading[port]
        missing = panel_words(model._lanes(port), *shape) - len(pushed)
        count = missing if rng.random() < 0.7 else int(rng.integers(1, missing + 1))
        return push(port, words(rng, port, count))
    if kind == "run":
        a, b, c, accumulate = runs[rng.integers(len(runs))]
        return [run(a_half=a, b_half=b, c_half=c, accumulate=accumulate)]
    if kind == "readout":
        return [readout(half=int(rng.choice(list(model.products))), requantise=bool(rng.integers(2)),
                        stochastic=bool(rng.integers(2)), index=int(rng.integers(2**32)))]
    if kind == "read":
        left = len(model.words)
        return read(left if rng.random() < 0.7 else int(rng.integers(1, left + 1)))
    if kind == "table":
        c = model.config
        tile, lane = int(rng.integers(c.tiles)), int(rng.integers(c.columns))
        count = int(rng.integers(1, c.table_size + 1))      # it begins again behind the last place
        entries = rng.integers(0, 2**32, (count, 2), dtype=np.uint32)
        entries[:, 0] &= 0xFF
        return [command(Op.SET, Write.TABLE, encode("TABLE", tile=tile, lane=lane)),
                command(Op.SET, Write.SHIFT, rng.integers(24, 44)), *push(Port.TABLE, entries)]
    values = {Write.SEED: 2**32, Write.PITCH: 100, Write.CLIP: 2**24, Write.MAX_ABS: 2**32}
    return [command(Op.SET, register, rng.integers(values[register]))
            for register in rng.permutation(list(values))[:rng.integers(1, 5)]]


def can_run(model: CoreModel, a: int, b: int, c: int, accumulate: int) -> bool:
    """Asks a copy of the model."""
    probe = CoreModel(model.config)
    probe.panels, probe.products = model.panels, dict(model.products)
    probe.words, probe.read_half = model.words, model.read_half
    return probe.execute(*run(a_half=a, b_half=b, c_half=c, accumulate=accumulate)) == 0


def garbage(rng, model: CoreModel):
    """Anything but new settings for values on their way; most of it fails."""
    settings = {Op.SET, Op.PUSH} if model.words else set()
    op = Op(int(rng.choice([*set(Op) - settings - {Op.RESET}])))
    funct7 = int(rng.choice([0, 1, 2, 3, rng.integers(128)]))
    inputs = [int(rng.integers(1 << int(rng.integers(33)))) for _ in range(2)]
    return [command(op, funct7, *inputs)]
