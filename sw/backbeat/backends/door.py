"""What all backends share that reach a core through its command door."""

import abc

import numpy as np

from backbeat_rtl import isa
from backbeat_rtl.config import Config
from backbeat_rtl.isa import ERRORS, Error, Op, Read, function_id

from ..errors import AcceleratorError
from ..program import Batch, Job, Program, collect, compile_job
from ..stats import Stats

__all__ = ["DoorBackend"]


class DoorBackend(abc.ABC):
    """Compiles a product to commands, has them carried out, and looks at what became of them."""

    name: str

    def __init__(self, config: Config):
        self.config = config

    @abc.abstractmethod
    def execute(self, batches: list[Batch]) -> int:
        """Carries out the batches in order and fills their outputs.

        Returns the number of clock cycles from the first command to the last response.
        """

    def get(self, *registers: Read) -> list[int]:
        """Values of those registers."""
        values = [np.zeros(1, dtype=np.uint32) for _ in registers]
        self.execute([Batch(function_id(Op.GET, r), outputs=v)
                      for r, v in zip(registers, values, strict=True)])
        return [int(v[0]) for v in values]

    def identify(self):
        """Compares the core's ID with the configuration that was asked for.

        Raises
        ------
        AcceleratorError
            It is another core, or none of ours.
        """
        identity, size = self.get(Read.ID, Read.SIZE)
        c = self.config
        found = isa.decode("ID", identity) | isa.decode("SIZE", size)
        expected = {"identity": isa.IDENTITY, "version": isa.VERSION, "rows": c.rows,
                    "columns": c.columns, "depth": c.depth, "tiles": c.tiles}
        for name, value in expected.items():
            if found[name] != value:
                raise AcceleratorError(f"the core reports {name} {found[name]}, expected {value}")
        self.busy, self.fed = self.get(Read.BUSY, Read.FED)

    def run(self, job: Job) -> tuple[np.ndarray, Stats]:
        program = compile_job(job, self.config)
        cycles = self.execute(program.batches)
        error, value, max_abs, busy, fed = self.get(
            Read.ERROR, Read.ERROR_VALUE, Read.MAX_ABS, Read.BUSY, Read.FED)
        if error:
            self.recover()
            raise AcceleratorError(
                f"the core reports {Error(error).name} ({ERRORS[Error(error)]}): value {value:#x}",
                Error(error), value)
        stats = self.account(program, cycles, busy, fed)
        stats.max_abs = max_abs
        return collect(program, job), stats

    def account(self, program: Program, cycles: int, busy: int, fed: int) -> Stats:
        """The counters are modulo 2**32."""
        stats = Stats(cycles=cycles, busy=(busy - self.busy) % 2**32, fed=(fed - self.fed) % 2**32,
                      bytes_read=program.bytes_read, bytes_written=program.bytes_written,
                      commands=program.commands)
        self.busy, self.fed = busy, fed
        return stats

    def recover(self):
        """After an error: reset, and start counting anew."""
        self.execute([Batch(function_id(Op.RESET))])
        self.busy, self.fed = self.get(Read.BUSY, Read.FED)
