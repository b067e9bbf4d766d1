"""Random words over the command door: uniform ones, likely ones, and sensible ones."""

import numpy as np

from backbeat.memory import BASE
from backbeat_rtl import isa
from backbeat_rtl.core_model import CoreModel
from backbeat_rtl.isa import DESCRIPTOR_WORDS, FETCHED_WORDS, DescriptorOp, Error, Op, Port, Read, Write

from ..cfu_bus import TIMED
from ..commands import command, get
from ..random_commands import garbage, legal
from .core import SIZE, Core, product_commands
from .tally import Tally

__all__ = ["doorbells", "words"]

#: Words of a whole campaign and of a short one, and of a block; behind each block a product is made.
WORDS, SHORT, BLOCK = 1_000_000, 30_000, 2_000
#: Likewise of a core with a memory port, where much takes many cycles.
PORT_WORDS, PORT_SHORT, PORT_BLOCK = 100_000, 4_000, 100
#: Largest size of the products behind blocks.
LARGEST = 8
#: Commands that a failure quotes.
QUOTED = 6
#: How likely an operation is, in the order of Op: few are RESET, which would leave nothing to go wrong.
_OPS = (0.1, 0.1, 0.15, 0.35, 0.1, 0.08, 0.1, 0.02)
#: Inputs at which something ends.
_EDGES = (0, 1, 3, 4, 62, 63, 64, 127, 128, 255, 256, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0xFFFF_FFFF)
#: Operations whose answer is 0 or an error.
_ANSWERED_WITH_ERRORS = (Op.SET, Op.LOAD, Op.PUSH, Op.RUN, Op.READOUT)


def words(config: str, rng, tally: Tally, short: bool = False):
    """Every answer of a core without a memory port is that of its model, whatever it is sent; no
    command hangs it; and behind each block a RESET and a product, which is exact.

    Only what the instruction set leaves undefined is left out: settings that change, and a maximum
    that is asked for, while a product is being read.
    """
    total = SHORT if short else WORDS
    tally.expect(total)
    with Core(config, rng, memory=False, largest=LARGEST) as core:
        model = CoreModel(core.config)
        for first in range(0, total, BLOCK):
            kind = (_uniform, _likely, _sensible)[int(rng.integers(3))]
            commands, expected = _block(rng, model, kind, BLOCK)
            with tally.position(f"{core}: {kind.__name__[1:]} words {first} to {first + BLOCK - 1}",
                                BLOCK):
                answers = core.simulator.answers(commands)
                timed = np.isin(commands[:, 0], list(TIMED))
                wrong = np.flatnonzero((answers != expected) & ~timed)
                if wrong.size:
                    core.simulator.reopen()
                    raise AssertionError(_quote(commands, answers, expected, int(wrong[0])))
                core.simulator.answers(np.array([command(Op.RESET)], np.uint32))
                trial = core.product_is_exact()
                tally.faults += int(np.isin(commands[:, 0] & 7, _ANSWERED_WITH_ERRORS)[
                    (answers == expected) & (answers != 0)].sum())
            for one in (command(Op.RESET), *product_commands(trial, core.config)):
                model.execute(*one)         # a table outlives RESET


def _block(rng, model: CoreModel, kind, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Commands of a kind, uint32 [count or more, 3], and what the model has answered."""
    commands, expected = [], []
    while len(commands) < count:
        for one in kind(rng, model):
            if _defined(model, one[0]):
                commands.append(one)
                expected.append(int(model.execute(*one)))
    return np.array(commands, np.uint32), np.array(expected, np.uint32)


def _defined(model: CoreModel, function_id: int) -> bool:
    """Whether the instruction set says what that command does now."""
    undefined = (Op.SET, function_id >> 3), (Op.PUSH, Port.TABLE), (Op.GET, Read.MAX_ABS)
    return not model.words or (function_id & 7, function_id >> 3) not in undefined


def _uniform(rng, _model=None):
    """Ten and twice 32 random bits: one in eight is a RESET."""
    return rng.integers((1 << 10, 1 << 32, 1 << 32), size=(64, 3)).tolist()


def _likely(rng, _model=None):
    """Any operation, mostly one of its registers or ports, and inputs of any size, not seldom legal."""
    out = []
    for _ in range(64):
        op = Op(int(rng.choice(8, p=_OPS)))
        funct7 = int(rng.choice([0, 0, 1, 1, 2, 3, rng.integers(20), rng.integers(128)]))
        inputs = [int(rng.choice(_EDGES)) if rng.random() < 0.3 else
                  int(rng.integers(1 << int(rng.integers(33)))) for _ in range(2)]
        if op == Op.LOAD and rng.random() < 0.8:
            depth, tiles, last, half = rng.integers(0, (9, 3, 5, 4)).tolist()
            inputs = [isa.encode("LOAD.0", depth=depth, tiles=tiles, last=last), half]
        out.append(command(op, funct7, *inputs))
    return out


def _sensible(rng, model: CoreModel):
    """What the core can carry out where it is, and now and then something else."""
    if model.error and rng.random() < 0.3 or rng.random() < 0.003:
        return [command(Op.RESET, int(rng.integers(128)))]
    return garbage(rng, model) if rng.random() < 0.02 else legal(rng, model)


def _quote(commands, answers, expected, at: int) -> str:
    before = "; ".join(f"{Op(f & 7).name} {f >> 3} ({x:#x}, {y:#x})"
                       for f, x, y in commands[max(0, at - QUOTED):at + 1].tolist())
    return f"word {at}: got {answers[at]:#x}, expected {expected[at]:#x}; it and those before: {before}"


def doorbells(config: str, rng, tally: Tally, short: bool = False):
    """The same for a core with a memory port, doorbells, pushed descriptors and memory full of damaged
    ones among it. When what happens depends on when, there is no model of every answer; but the core
    answers each command, keeps to the rules of its bus, stays with its first error, and behind each
    block, which a RESET ends wherever it is, a product is exact."""
    total = PORT_SHORT if short else PORT_WORDS
    tally.expect(total)
    with Core(config, rng) as core:
        for first in range(0, total, PORT_BLOCK):
            commands = np.array(_port_block(rng, core), np.uint32)
            with tally.position(f"{core}: words {first} to {first + PORT_BLOCK - 1} of {config}",
                                PORT_BLOCK):
                core.simulator.answers(commands)
                error, = core.backend.get(Read.ERROR)
                assert error in set(Error), f"ERROR is {error}"
                answers = core.simulator.answers(np.array([command(Op.RUN, 99)] * 2, np.uint32))
                assert not error or (answers == error).all(), (
                    f"after {Error(error).name} commands are answered {answers}")
                tally.faults += error != Error.NONE
                core.backend.recover()
                assert core.backend._settled(), "the memory does not come to rest"
                core.product_is_exact()


def _port_block(rng, core: Core) -> list[tuple[int, int, int]]:
    """Uniform and likely words, with descriptors in memory and doorbells that find them."""
    image, places = core.backend.arena.image, []
    image[:] = rng.integers(0, 256, SIZE, dtype=np.uint8)
    for _ in range(4):
        places.append(int(rng.integers(SIZE // 8 - DESCRIPTOR_WORDS // 2)) * 8)
        image[places[-1]:places[-1] + 4 * DESCRIPTOR_WORDS] = np.frombuffer(
            _damaged(rng), np.uint8)
    out = []
    while len(out) < PORT_BLOCK:
        some = (_uniform if rng.random() < 0.5 else _likely)(rng)[:int(rng.integers(1, 12))]
        # A FENCE may take 65,536 cycles; few are enough.
        out += [one for one in some if one[0] != get(Read.FENCE)[0] or rng.random() < 0.02]
        ending = int(rng.integers(8))
        if ending < 2:
            out.append(command(Op.RESET))
        if ending < 4:
            address = BASE + int(rng.choice(places)) + int(rng.choice([0] * 15 + [4, SIZE]))
            out.append(command(Op.SET, Write.DOORBELL, address))
        elif ending == 4:
            pairs = np.frombuffer(_damaged(rng), "<u4")[:FETCHED_WORDS].reshape(-1, 2).tolist()
            out += [command(Op.PUSH, Port.DESCRIPTOR, *pair) for pair in pairs]
            out.append(command(Op.SET, Write.START))
    return out[:PORT_BLOCK]


def _damaged(rng) -> bytes:
    """A descriptor of a small product in that memory with none, one or some random bits."""
    m, n, k = rng.integers(1, 20, 3).tolist()
    a, b, c, table, sums = (BASE + rng.integers(SIZE // 8 - 600, size=5) * 8).tolist()
    raw = np.frombuffer(isa.encode_descriptor(
        op=DescriptorOp.GEMM, m=m, n=n, k=k, a=a, b=b, c=c, table=table, sums_address=sums,
        a_pitch=32, b_pitch=32, c_pitch=96, a_panel=4, b_panel=8, chunk=32, last=1, columns_outer=1,
        requantise=int(rng.integers(2)), sums=int(rng.integers(2)), low=128, high=127), "<u4").copy()
    for _ in range(int(rng.choice([0, 1, 1, 2, 5]))):
        raw[rng.integers(FETCHED_WORDS)] ^= np.uint32(1) << np.uint32(rng.integers(32))
    return raw.tobytes()
