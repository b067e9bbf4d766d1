"""RESET and the reset pin in every cycle of a small product, from memory and through the door."""

from dataclasses import replace

import numpy as np

from backbeat.memory import BASE, Arena
from backbeat.program import Batch
from backbeat_rtl import isa
from backbeat_rtl.isa import Op, Read, Write, function_id

from ..commands import command, get
from .core import Core, product_commands, some
from .tally import Tally

__all__ = ["door_pin", "door_reset", "port_pin", "port_reset"]

#: Products, or chains, of a whole campaign, and moments that a short one tries.
ROUNDS, SHORT = 6, 60
#: Cycles after a product's end that are tried, too.
BEHIND = 20
#: Largest size of products through the door: each of their commands takes a cycle at least.
LARGEST = 8

_RESET_WORDS = command(Op.RESET)
_FENCE = Batch(function_id(Op.GET, Read.FENCE))


def _doorbell(address: int) -> Batch:
    return Batch(function_id(Op.SET, Write.DOORBELL), input_0=address)


class _Interrupted(Exception):
    """Ends the driver's call in place of the chain's end."""


def port_reset(config: str, rng, tally: Tally, short: bool = False):
    """RESET in each cycle of a chain of two products, counted from the doorbell's answer, and an empty
    descriptor in the next. It is fetched whole, and when it is complete memory has come to rest: nothing
    but the results has been written, and the next product is exact."""
    def interrupt(core: Core, ring: Batch, cycle: int):
        empty, idle = core.empty_descriptor(), np.zeros(1, np.uint32)
        core.simulator.run([ring])
        core.simulator.wait(cycle)
        core.simulator.run([Batch(_RESET_WORDS[0]), _doorbell(empty), replace(_FENCE, outputs=idle)])
        found = [int(idle[0]), *core.backend.get(Read.ERROR, Read.COMPLETED)]
        assert found == [1, 0, 1], f"FENCE, ERROR, COMPLETED behind an empty descriptor are {found}"
        core.backend._count()

    _port(config, rng, tally, short, interrupt)


def port_pin(config: str, rng, tally: Tally, short: bool = False):
    """The pin, for one to three cycles, in each cycle from the doorbell on. It resets the memory's bus,
    too, so that what is under way on it is gone; the next product is begun at once."""
    def interrupt(core: Core, ring: Batch, cycle: int):
        core.simulator.run([ring, _FENCE], most=cycle)
        core.simulator.reset(int(rng.integers(1, 4)))
        core.backend.forget_counters()

    _port(config, rng, tally, short, interrupt)


def _port(config: str, rng, tally: Tally, short: bool, interrupt):
    for _ in range(1 if short else ROUNDS):
        with Core(config, rng) as core:
            trials = core.trials(2)
            what = "; ".join(map(str, trials))
            assert core.witness.carry_out(trials) is None
            moments = some(rng, list(range(core.acc.last.cycles + BEHIND)), SHORT if short else None)
            tally.expect(len(moments))
            for cycle in moments:
                with tally.position(f"{core}: {cycle} cycles after the doorbell of {what}"):
                    _interrupted(core, trials, cycle, interrupt)
                    core.product_is_exact()
                    tally.faults += 1


def _interrupted(core: Core, trials, cycle: int, interrupt):
    """Begins a chain and has it interrupted.

    Raises
    ------
    AssertionError
        Memory has been written where nothing of the chain belongs.
    """
    arena = core.backend.arena

    def ring(chain):
        before, used = arena.image.copy(), arena.used
        interrupt(core, _doorbell(chain.address), cycle)
        kept = Arena(arena.image.copy())
        for entry in chain.entries:
            m, n, _ = entry.job.shape
            own = [(entry.c, m, entry.c_pitch, n * entry.job.result_bytes),
                   (entry.address + 4 * isa.RECORD_WORD, 1, 16, 16)]
            own += [(entry.sums, 1, 4 * n, 4 * n)] if entry.job.sums else []
            for address, count, pitch, width in own:
                rows = (memory.rows(address, count, pitch) for memory in (kept, Arena(before)))
                next(rows)[:, :width] = next(rows)[:, :width]
        wrong = np.flatnonzero((kept.image != before)[:used])
        assert not wrong.size, f"memory was written at {BASE + wrong[0]:#x}, in none of the results"
        raise _Interrupted

    core.backend._ring = ring
    try:
        core.acc.run([trial.product for trial in trials])
    except _Interrupted:
        pass
    finally:
        core.backend._ring = core.witness


def door_reset(config: str, rng, tally: Tally, short: bool = False):
    """RESET behind each command of a product, at once or after as many cycles as something still goes
    on, and the next product at once."""
    for _ in range(1 if short else ROUNDS):
        with Core(config, rng, memory=False, largest=LARGEST) as core:
            commands = np.array(product_commands(core.trials(1)[0], core.config), np.uint32)
            waits = [0, *(int(rng.integers(1, 2**n)) for n in range(1, 8))]
            moments = [(sent, wait) for sent in range(1, len(commands) + 1) for wait in waits]
            moments = some(rng, moments, SHORT if short else None)
            tally.expect(len(moments))
            for sent, wait in moments:
                with tally.position(f"{core}: {wait} cycles after {sent} of {commands.tolist()}"):
                    core.simulator.answers(commands[:sent])
                    core.simulator.wait(wait)
                    registers = [_RESET_WORDS, get(Read.ERROR), get(Read.MAX_ABS)]
                    answers = core.simulator.answers(np.array(registers, np.uint32))
                    assert not answers.any(), f"RESET, ERROR, MAX_ABS were answered {answers}"
                    core.product_is_exact()
                    tally.faults += 1


def door_pin(config: str, rng, tally: Tally, short: bool = False):
    """The pin in each cycle of a product through the door: it cuts off commands and responses, a
    command that waits among them."""
    for _ in range(1 if short else ROUNDS):
        with Core(config, rng, memory=False, largest=LARGEST) as core:
            batches = [Batch(function, 1, *inputs) for function, *inputs in
                       product_commands(core.trials(1)[0], core.config)]
            moments = list(range(core.simulator.run(batches) + BEHIND))
            moments = some(rng, moments, SHORT if short else None)
            tally.expect(len(moments))
            for cycle in moments:
                with tally.position(f"{core}: in cycle {cycle} of {batches}"):
                    core.simulator.run(batches, most=cycle)
                    core.simulator.reset(int(rng.integers(1, 4)))
                    core.product_is_exact()
                    tally.faults += 1
