"""What all backends share that reach a core through its command door."""

import abc

import numpy as np

from backbeat_rtl import isa
from backbeat_rtl.config import WORD, Config
from backbeat_rtl.isa import ERRORS, DescriptorOp, Error, Op, Read, Write, function_id

from ..device import (
    DESCRIPTOR_BYTES,
    FETCHED_BEATS,
    RECORD_BEATS,
    Chain,
    carriable,
    collect,
    compile_chain,
    footprint,
)
from ..errors import AcceleratorError
from ..memory import Arena, DeviceMemory, Memory
from ..program import Batch, Job, Program, Result, column_sums, compile_job
from ..program import collect as collect_program
from ..stats import Stats

__all__ = ["DoorBackend"]

#: Registers that count since reset, and what Stats calls them.
_COUNTERS = {Read.BUSY: "busy", Read.FED: "fed"}
_MEMORY_COUNTERS = _COUNTERS | {
    Read.READ_BEATS: "bytes_read", Read.WRITE_BEATS: "bytes_written", Read.LOAD_BUSY: "load_busy",
    Read.LOAD_WAIT: "load_wait", Read.RUN_WAIT: "run_wait", Read.STORE_BUSY: "store_busy",
    Read.STORE_WAIT: "store_wait"}
#: Of these, each is as good a sign of life.
_PROGRESS = (Read.COMPLETED, Read.READ_BEATS, Read.WRITE_BEATS)
#: Fences (of 65,536 cycles) in a row without progress after which a chain counts as hung. The longest
#: run takes depth * tiles = 131,072 cycles at most.
_PATIENCE = 4
#: Times that a memory which has been silent is asked whether it is back: until something moves it still
#: counts as dead, and answers at once.
_SETTLING = 16


def _modulo(value: int) -> int:
    """Counters have 32 bits."""
    return value % 2**32


def _together(results: list[Result]) -> Result:
    """Of the products of a batch."""
    total = Stats()
    for result in results:
        total += result.stats
    kept = results[0].c is None
    return Result(None if kept else np.stack([result.c for result in results]), None, total)


class DoorBackend(abc.ABC):
    """Has products carried out and looks at what became of them.

    With a memory port, a list of jobs is one chain of descriptors in memory. Without one, and for what
    no descriptor can say, a product's operands and results pass through the door as commands.

    Parameters
    ----------
    config : Config
    memory : Memory, optional
        With ``config.memory``: what is behind the port.
    image : DeviceMemory or uint8 array [memory.size], optional
        And what is in it.
    reserved : int
        Bytes at its beginning that are not ours.
    """

    name: str

    def __init__(self, config: Config, memory: Memory | None = None,
                 image: "DeviceMemory | np.ndarray | None" = None, reserved: int = 0):
        self.config, self.memory = config, memory
        self.arena = Arena(image, reserved) if config.memory and image is not None else None
        self.counters = _MEMORY_COUNTERS if config.memory else _COUNTERS
        self.unsettled = False      # something of an abandoned product may still reach memory
        self.forget_counters()

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
                    "columns": c.columns, "depth": c.depth, "tiles": c.tiles, "banks": c.banks,
                    "memory": int(c.memory)}
        for name, value in expected.items():
            if found[name] != value:
                raise AcceleratorError(f"the core reports {name} {found[name]}, expected {value}")
        self._count()

    def run(self, jobs: list[Job]) -> tuple[list[Result], Stats]:
        """Makes all products. The results in order, and the counters of all of them together.

        Raises
        ------
        AcceleratorError
            The core reports an error or makes no progress. It has been reset.
        ValueError
            A product does not fit the device memory.
        """
        batches = [job.members() for job in jobs]
        results, total = self._run_members([job for batch in batches for job in batch])
        flat = iter(results)
        return [_together([next(flat) for _ in batch]) if job.a.ndim == 3 else next(flat)
                for job, batch in zip(jobs, batches, strict=True)], total

    def _run_members(self, jobs: list[Job]) -> tuple[list[Result], Stats]:
        results, total = [None] * len(jobs), Stats()
        chain = [n for n, job in enumerate(jobs)
                 if self.arena is not None and carriable(job, self.config, self.memory)]
        for part in self._parts(chain, jobs):
            through_memory, stats = self._run_chain([jobs[n] for n in part])
            for number, result in zip(part, through_memory, strict=True):
                results[number] = result
            total += stats
        for number, job in enumerate(jobs):
            if results[number] is None:
                results[number] = self._run_commands(job)
                total += results[number].stats
        return results, total

    def _parts(self, chain: list[int], jobs: list[Job]) -> list[list[int]]:
        """The numbers of jobs, in as few chains as fit the device memory."""
        parts, room = [], 0
        for number in chain:
            need = footprint(jobs[number])
            if not parts or need > room:
                parts.append([])
                room = self.arena.room
            parts[-1].append(number)
            room -= need
        return parts

    def _run_commands(self, job: Job) -> Result:
        job = job.explicit()
        program = compile_job(job, self.config)
        cycles = self.execute(program.batches)
        self._raise_error()
        c = collect_program(program, job)
        max_abs, = self.get(Read.MAX_ABS)
        sums = column_sums(c) if job.sums else None
        if job.into is not None:
            rows = c.view(np.uint8).reshape(len(c), -1)
            self.arena.memory.write(job.into, rows, job.c_pitch)
            c = None
        return Result(c, sums, self._account(program, cycles, max_abs))

    def _account(self, program: Program, cycles: int, max_abs: int) -> Stats:
        stats = Stats(cycles=cycles, commands=program.commands, max_abs=max_abs, **self._count())
        stats.bytes_read, stats.bytes_written = program.bytes_read, program.bytes_written
        return stats

    def _run_chain(self, jobs: list[Job]) -> tuple[list[Result], Stats]:
        if self.unsettled and not self._settled():
            raise AcceleratorError("the memory behind the core has been silent since a product was "
                                   f"abandoned ({ERRORS[Error.TIMEOUT]})", Error.TIMEOUT, 0)
        chain = compile_chain(jobs, self.config, self.memory, self.arena)
        before, = self.get(Read.COMPLETED)
        cycles, commands = self._ring(chain)
        self._raise_error(chain)
        completed, = self.get(Read.COMPLETED)
        if _modulo(completed - before) != len(jobs):
            self.recover()
            raise AcceleratorError(f"the core completed {_modulo(completed - before)} of {len(jobs)} "
                                   "descriptors and reports no error")
        try:
            results = collect(chain, self.arena)
        except LookupError as error:
            self.recover()
            raise AcceleratorError(str(error)) from None
        counts = self._count()
        # The descriptors themselves are commands, not operands or results.
        counts["bytes_read"] = WORD * (counts["bytes_read"] - FETCHED_BEATS * len(jobs))
        counts["bytes_written"] = WORD * (counts["bytes_written"] - RECORD_BEATS * len(jobs))
        return results, Stats(cycles=cycles, commands=commands, descriptors=len(jobs),
                              max_abs=max(r.stats.max_abs for r in results), **counts)

    def _ring(self, chain: Chain) -> tuple[int, int]:
        """Has the chain carried out; cycles from the doorbell on, and commands."""
        idle = np.zeros(1, dtype=np.uint32)
        fence = Batch(function_id(Op.GET, Read.FENCE), outputs=idle)
        cycles = self.execute([Batch(function_id(Op.SET, Write.DOORBELL), input_0=chain.address), fence])
        commands, silent, signs = 2, 0, None
        while not idle[0]:
            values = np.zeros((len(_PROGRESS), 1), dtype=np.uint32)
            cycles += self.execute([fence, *(Batch(function_id(Op.GET, r), outputs=v)
                                             for r, v in zip(_PROGRESS, values, strict=True))])
            commands += 1 + len(_PROGRESS)
            silent = silent + 1 if signs == values.tobytes() else 0
            signs = values.tobytes()
            if silent == _PATIENCE:
                self.recover()
                self.unsettled = not self._settled()
                raise AcceleratorError(f"the core made no progress on {len(chain.entries)} descriptors "
                                       f"at {chain.address:#x} for {_PATIENCE} x 65,536 cycles")
        return cycles, commands

    def _raise_error(self, chain: Chain | None = None):
        """If the core reports an error: resets it and raises.

        Raises
        ------
        AcceleratorError
        """
        error, value = self.get(Read.ERROR, Read.ERROR_VALUE)
        if not error:
            return
        where = ""
        if chain is not None:
            failed, = self.get(Read.FAILED)
            number = chain.find(failed)
            where = f"descriptor at {failed:#x}, none of this chain: "
            if number is not None:
                job = chain.entries[number].job
                where = (f"descriptor {number + 1} of {len(chain.entries)} at {failed:#x} ({job.op} of "
                         f"M, N, K = {job.shape}): ")
        self.recover()
        if chain is not None:
            self.unsettled = not self._settled()
        raise AcceleratorError(f"{where}the core reports {Error(error).name} "
                               f"({ERRORS[Error(error)]}): value {value:#x}", Error(error), value)

    def _settled(self) -> bool:
        """Whether all that an abandoned product had begun to write has arrived by the time this returns.

        The host must not reuse that memory before. RESET does not wait for it, but a descriptor behind
        RESET does: it is not fetched until the memory has acknowledged everything. This one is empty.
        """
        try:
            address = self.arena.take(DESCRIPTOR_BYTES)
        except ValueError:
            self.arena.reset()
            return False
        nothing = isa.encode_descriptor(op=DescriptorOp.NONE, last=1)
        self.arena.memory.write(address, np.frombuffer(nothing, np.uint8)[None], DESCRIPTOR_BYTES)
        self.unsettled, tries = True, _SETTLING
        while self.unsettled and tries:
            self.execute([Batch(function_id(Op.SET, Write.DOORBELL), input_0=address)])
            idle, completed = self.get(Read.FENCE, Read.COMPLETED)
            self.unsettled, tries = not completed, tries - 1 if idle else 0
            self.recover()
        return not self.unsettled

    def _count(self) -> dict[str, int]:
        """What each counter has counted since the last call."""
        values = dict(zip(self.counters.values(), self.get(*self.counters), strict=True))
        out = {name: _modulo(value - self.last[name]) for name, value in values.items()}
        self.last = values
        return out

    def forget_counters(self):
        """The core is a fresh one."""
        self.last = dict.fromkeys(self.counters.values(), 0)

    def recover(self):
        """After an error: reset, and start counting anew."""
        self.execute([Batch(function_id(Op.RESET))])
        self._count()
