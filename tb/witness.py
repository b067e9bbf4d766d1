"""What stands between the driver and the core in a campaign, and holds every chain against its model."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

import backbeat
from backbeat.device import Chain, collect
from backbeat.memory import BASE, Arena
from backbeat.products import Lowered
from backbeat.program import Result
from backbeat_rtl import isa
from backbeat_rtl.descriptor_model import run_chain
from backbeat_rtl.isa import Error

from .products import Trial

__all__ = ["DECERR", "SLVERR", "Witness"]

SLVERR, DECERR = 2, 3
#: What the model of descriptors is told of memory: words ``begin`` to ``end - 1`` err when read or
#: written. It knows of no time: with TIMEOUT they are those of the descriptor that it ended.
Fault = tuple[int, int, Error]


class Witness:
    """Between driver and core: what a chain leaves in memory, against its model.

    Parameters
    ----------
    acc : Accelerator
        On backend verilator, with a memory port.

    Attributes
    ----------
    arm : callable
        Called with a chain before its doorbell; makes something go wrong, and returns what is called
        when the chain has ended: that ends it, and returns the list of faults that the model wants.
    faults : list of (int, int, Error)
        Those of the last chain.
    chain : Chain
        The last one.
    result : ChainResult
        The model's of it.
    """

    def __init__(self, acc: "backbeat.Accelerator"):
        self.acc, self.backend = acc, acc._backend
        self.ring, self.arm = self.backend._ring, nothing
        self.chain, self.faults, self.result = None, [], None
        self.expected, self.found = None, None      # memory, as the model and as the core left it
        self.backend._ring = self       # what carries out a chain and waits for its end

    def __call__(self, chain: Chain) -> tuple[int, int]:
        self.chain, self.expected = chain, self.backend.arena.image.copy()
        over = self.arm(chain)
        out = self.ring(chain)
        faults = over()
        self.found = self.backend.arena.image.copy()
        self.judge(faults)
        return out

    def judge(self, faults: list[Fault]):
        """Has the model carry out the chain, on what was in memory before it."""
        self.faults = faults
        late = [fault for fault in faults if fault[2] == Error.TIMEOUT]
        self.result = run_chain(
            self.expected, self.chain.address, self.backend.config, BASE,
            [(begin, end, Error.BUS_READ if (begin, end, error) in late else error)
             for begin, end, error in faults])
        if late:
            self.result = replace(self.result, error=Error.TIMEOUT, value=0)

    def carry_out(self, trials: list[Trial]) -> "backbeat.AcceleratorError | None":
        """Compares results, or the error of a fault, and memory; that error.

        Raises
        ------
        AssertionError
        """
        products = [trial.product for trial in trials]
        try:
            results, error = self.acc.run(products), None
        except backbeat.AcceleratorError as caught:
            results, error = [], caught
        model, chain = self.result, self.chain
        assert len(chain.entries) == len(trials), f"not every product goes through memory: {error}"
        difference = self.difference()
        assert not difference, f"{difference}, the error is {error}"
        if error is None:
            assert not model.error, f"no error, expected {model.error.name}"
            maxima = [stats.max_abs for stats in self.acc.products]
        else:
            assert model.error == error.code, f"{error}, expected {model.error.name}"
            number = chain.find(model.failed)
            assert f"descriptor {number + 1} of {len(trials)} at {model.failed:#x}" in str(error), (
                f"{error}, expected descriptor {number + 1}")
            assert number == model.completed
            done = collect(Chain(chain.address, chain.entries[:number]), Arena(self.found))
            results = [_finished(product.lower(8), result)
                       for product, result in zip(products, done, strict=False)]
            maxima = [result.stats.max_abs for result in done]
        for number, (trial, result, largest) in enumerate(zip(trials, results, maxima, strict=False)):
            difference = trial.difference(result)
            assert not difference, f"{difference}, in number {number} of the chain: {trial}"
            assert largest == trial.max_abs, (f"max_abs is {largest}, expected {trial.max_abs}, in "
                                              f"number {number} of the chain: {trial}")
        return error

    def difference(self) -> str:
        """Where memory is not as the model left it; empty if nowhere.

        Free are the times of a record, and what is to be written of a descriptor that failed.
        """
        expected, found = Arena(self.expected), Arena(self.found)
        for number, entry in enumerate(self.chain.entries[:self.result.completed + 1]):
            free = [(entry.address + 4 * (isa.RECORD_WORD + 2), 1, 8, 8)]
            if number == self.result.completed:
                m, n, _ = entry.job.shape
                free = [(entry.c, m, entry.c_pitch, n * entry.job.result_bytes)]
                free += [(entry.sums, 1, 4 * n, 4 * n)] if entry.job.sums else []
                if self.result.error in (Error.BUS_WRITE, Error.TIMEOUT):
                    free.append((entry.address + 4 * isa.RECORD_WORD, 1, 16, 16))
            for address, count, pitch, width in free:
                expected.rows(address, count, pitch)[:, :width] = (
                    found.rows(address, count, pitch)[:, :width])
        wrong = np.flatnonzero(self.found != self.expected)
        if not wrong.size:
            return ""
        first = wrong[0]
        return (f"{wrong.size} bytes of memory differ, the first at {BASE + first:#x}: got "
                f"{self.found[first]:#x}, expected {self.expected[first]:#x}")


def nothing(_chain: Chain) -> Callable[[], list[Fault]]:
    """Nothing goes wrong."""
    return list


def _finished(lowered: Lowered, result: Result):
    """What the driver makes of a result."""
    c = lowered.finish(result.c)
    return (c, result.sums) if lowered.job.sums else c
