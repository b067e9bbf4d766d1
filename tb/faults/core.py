"""A simulated core with products to carry out, for campaigns that disturb them."""

from dataclasses import replace

import numpy as np

import backbeat
from backbeat.memory import Memory
from backbeat.program import compile_job
from backbeat_rtl import isa
from backbeat_rtl.config import Config
from backbeat_rtl.isa import DescriptorOp

from ..commands import commands_of
from ..products import Trial, random_convolution, random_gemm
from ..witness import Witness

__all__ = ["SIZE", "Core", "product_commands", "some"]

#: Bytes of device memory: all of them are compared after each chain.
SIZE = 1 << 16
#: Bytes of a chain's operands and results: a fault in each of its cycles takes the square of them.
LARGEST_CHAIN = 1500
#: Chances of a pause per cycle, on all channels.
PAUSES = (0, 0, 0.1, 0.5)
#: Products that are made after a fault, in turn.
OTHERS = 12


class Core:
    """An accelerator on backend verilator, chains for it, and a witness between the two.

    Parameters
    ----------
    config : str
        Name of a preset.
    rng : numpy.random.Generator
        Chooses memory, pauses and products.
    memory : bool
        Whether the core has a memory port.
    largest : int
        Of M, N and K, about.
    """

    def __init__(self, config: str, rng, memory: bool = True, largest: int = 12):
        self.rng, self.largest = rng, largest
        self.config = replace(Config.of(config), memory=memory)
        slow = Memory(float(8 * 2 ** rng.uniform(-1, 0.5)), int(rng.integers(40)),
                      int(rng.integers(50, 500)), int(rng.integers(5)), SIZE)
        self.acc = backbeat.open("verilator", self.config, slow)
        self.backend = self.acc._backend
        self.simulator = self.backend.simulator
        self.witness = Witness(self.acc) if memory else None
        self.pause = float(rng.choice(PAUSES))
        self.backend.stall(int(rng.integers(1, 2**63)), self.pause)
        self.others = [self.trials(1) for _ in range(OTHERS)]
        self._next = 0

    def trials(self, count: int) -> list[Trial]:
        """Products that fit the memory as one chain, a convolution among them at times."""
        while True:
            made = [self._trial() for _ in range(count)]
            if sum(trial.product.lower(8).job.compulsory_bytes for trial in made) < LARGEST_CHAIN:
                return made

    def _trial(self) -> Trial:
        if self.config.memory and self.rng.random() < 0.3:
            return random_convolution(self.rng, 8)
        return random_gemm(self.rng, self.config.rows, self.config.columns, self.largest, self.largest)

    def product_is_exact(self) -> Trial:
        """Another product, at once; that product.

        Raises
        ------
        AssertionError, AcceleratorError
        """
        self._next = (self._next + 1) % len(self.others)
        trials = self.others[self._next]
        if self.witness is not None:
            error = self.witness.carry_out(trials)
            assert error is None, f"the product after that: {error}"
            return trials[0]
        difference = trials[0].difference(self.acc.run([trials[0].product])[0])
        assert not difference, f"the product after that: {difference}, {trials[0]}"
        return trials[0]

    def empty_descriptor(self) -> int:
        """The address of a descriptor that does nothing, in memory that nobody uses."""
        raw = isa.encode_descriptor(op=DescriptorOp.NONE, last=1)
        return self.backend.arena.upload(np.frombuffer(raw, np.uint8)[None], len(raw))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.acc.close()

    def __str__(self):
        return f"{self.config.name}, pauses {self.pause}, {self.backend.memory}"


def some(rng, positions: list, most: int | None) -> list:
    """All of them, or so many, in order."""
    if most is None or len(positions) <= most:
        return positions
    return [positions[n] for n in sorted(rng.choice(len(positions), most, replace=False))]


def product_commands(trial: Trial, config: Config) -> list[tuple[int, int, int]]:
    """What the driver sends through the door for a product."""
    return commands_of(compile_job(trial.product.lower(8).job.explicit(), config))
