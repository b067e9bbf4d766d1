"""Backend ``verilator``: the generated Verilog, compiled into this process."""

import ctypes
from pathlib import Path

import numpy as np

from backbeat_rtl.config import Config

from ..errors import AcceleratorError
from ..memory import BASE, Memory
from ..program import Batch
from .build import simulator_library
from .door import DoorBackend

__all__ = ["CHANNELS", "Simulator", "VerilatorBackend"]

#: Cycles without a response after which the core counts as hung. The longest run takes
#: depth * tiles = 65,536 cycles, and a command waits for two of them at most.
WATCHDOG = 1 << 18
#: What bb_run() returns if it was told to end sooner.
_BROKEN_OFF = -4


class _Batch(ctypes.Structure):
    """``struct Batch`` of shim.cpp."""

    _fields_ = [
        ("function_id", ctypes.c_uint32), ("count", ctypes.c_uint32),
        ("input_0", ctypes.c_uint32), ("input_1", ctypes.c_uint32),
        ("inputs", ctypes.c_void_p), ("outputs", ctypes.c_void_p),
    ]


_BATCH = np.dtype(_Batch)
#: Of the memory's bus, in the order of ``Memory::Channel`` in memory.hpp.
CHANNELS = ("ar", "r", "aw", "w", "b")


class Simulator:
    """A compiled core, with its memory if it has a port for one.

    Parameters
    ----------
    library : Path
        See :func:`.build.simulator_library`.
    memory : Memory or None
        None for a core without a memory port.

    Attributes
    ----------
    image : uint8 array [memory.size]
        What the core finds at addresses ``BASE`` and up. Zeros that nobody has touched take no room.
    """

    def __init__(self, library: Path, memory: Memory | None):
        self.library = ctypes.CDLL(str(library))
        self.library.bb_open.restype = ctypes.c_void_p
        self.library.bb_cycles.restype = ctypes.c_uint64
        self.library.bb_run.restype = self.library.bb_wait.restype = ctypes.c_int64
        self.library.bb_broken.restype = ctypes.c_char_p
        if memory is not None:
            self.library.bb_struck.restype = ctypes.c_bool
            self.library.bb_moved.restype = ctypes.c_uint64
        self.memory = memory
        self.image = None if memory is None else np.zeros(memory.size, dtype=np.uint8)
        self.handle = None
        self.reopen()

    def reopen(self):
        """A fresh core; what is in memory stays."""
        self.close()
        self.handle = ctypes.c_void_p(self.library.bb_open())
        if self.memory is not None:
            m = self.memory
            self.library.bb_memory(
                self.handle, self.image.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(m.size),
                *map(ctypes.c_uint32, (BASE, round(m.bandwidth * 65536), m.latency,
                                       m.refresh_interval, m.refresh_cycles)))

    def stall(self, seed: int, chance: float):
        """From now on, holds back commands, responses and each channel of the memory at random, in
        each cycle with ``chance``."""
        self.library.bb_stall(self.handle, ctypes.c_uint64(seed or 1),
                              ctypes.c_uint32(int(chance * 65536)))

    def fault(self, begin: int = 0, end: int = 0, response: int = 2, reads: bool = True,
              writes: bool = True):
        """From now on, answers reads and/or writes of words that touch addresses ``begin`` to
        ``end - 1`` with ``response``: 2 (SLVERR) or 3 (DECERR). Without arguments: none."""
        self.library.bb_fault(self.handle, ctypes.c_uint64(begin), ctypes.c_uint64(end),
                              ctypes.c_uint32(response), ctypes.c_bool(reads), ctypes.c_bool(writes))

    def strike(self, channel: str | None = None, number: int = 0, response: int = 0):
        """Has a fault happen to one transfer on the memory's bus, or (no channel) to none any more.

        Parameters
        ----------
        channel : str
            One of :data:`CHANNELS`. Addresses are counted by burst, "r" and "w" by word, "b" by burst.
        number : int
            Of the transfer, 0 is the next one.
        response : int
            2 (SLVERR) or 3 (DECERR) of a transfer on "r", "w" or "b"; a word on "w" is not written then,
            and the burst is answered so. 0: the channel stands still from that transfer on, until the
            next call.
        """
        index = len(CHANNELS) if channel is None else CHANNELS.index(channel)
        self.library.bb_strike(self.handle, ctypes.c_uint32(index), ctypes.c_uint64(number),
                               ctypes.c_uint32(response))

    def struck(self) -> tuple[int, int] | None:
        """Addresses of the word that the last strike hit, and of its burst; None if it has hit none. Of
        "b" both are the burst's."""
        word, burst = ctypes.c_uint32(), ctypes.c_uint32()
        hit = self.library.bb_struck(self.handle, ctypes.byref(word), ctypes.byref(burst))
        return (word.value, burst.value) if hit else None

    def moved(self, channel: str) -> int:
        """Transfers on that channel since the last :meth:`strike`."""
        return self.library.bb_moved(self.handle, ctypes.c_uint32(CHANNELS.index(channel)))

    def trace(self, path: Path | None):
        """From now on, writes every signal in every cycle into a VCD file; None completes it. Of a
        library that was built ``traced``.

        Raises
        ------
        OSError
            It cannot be written.
        """
        self.library.bb_trace.restype = ctypes.c_bool
        if not self.library.bb_trace(self.handle, None if path is None else str(path).encode()):
            raise OSError(f"no waveform can be written to {path}")

    def cycles(self) -> int:
        return self.library.bb_cycles(self.handle)

    def reset(self, cycles: int = 1):
        """Pulls the reset pin, of the memory's bus too: what is under way on it is gone."""
        self.library.bb_reset(self.handle, ctypes.c_uint64(cycles))

    def wait(self, cycles: int):
        """Lets so many cycles pass without a command.

        Raises
        ------
        AcceleratorError
            As :meth:`run`.
        """
        self._check(self.library.bb_wait(self.handle, ctypes.c_uint64(cycles)))

    def run(self, batches: list[Batch], most: int | None = None) -> int:
        """Carries out the batches in order and fills their outputs; the cycles it took.

        Parameters
        ----------
        most : int, optional
            Cycles after which it breaks off, whatever has been sent and answered by then. Only
            :meth:`reset` makes sense of what comes after that.

        Raises
        ------
        AcceleratorError
            The core does not answer, or breaks a rule of the command door or of the memory's bus.
            It has been replaced by a fresh one.
        """
        table = np.zeros(len(batches), dtype=_BATCH)
        keep = []  # arrays whose memory the library reads
        for row, batch in zip(table, batches, strict=True):
            row["function_id"], row["count"] = batch.function_id, batch.count
            row["input_0"], row["input_1"] = batch.input_0, batch.input_1
            for name in ("inputs", "outputs"):
                array = getattr(batch, name)
                if array is not None:
                    array = np.ascontiguousarray(array) if name == "inputs" else array
                    keep.append(array)
                    row[name] = array.ctypes.data
        return self._run(table, most)

    def answers(self, commands: np.ndarray) -> np.ndarray:
        """The response to each command, uint32 [n]; ``commands`` are uint32 [n, 3]: function_id, and
        both inputs.

        Raises
        ------
        AcceleratorError
            As :meth:`run`.
        """
        out = np.zeros(len(commands), np.uint32)
        table = np.zeros(len(commands), dtype=_BATCH)
        table["function_id"], table["input_0"], table["input_1"] = commands.T
        table["count"] = 1
        table["outputs"] = out.ctypes.data + out.itemsize * np.arange(len(out), dtype=np.uint64)
        self._run(table)
        return out

    def _run(self, table: np.ndarray, most: int | None = None) -> int:
        start = self.cycles()
        self.library.bb_until(self.handle, ctypes.c_uint64(2**64 - 1 if most is None else start + most))
        self._check(self.library.bb_run(self.handle, table.ctypes.data_as(ctypes.c_void_p),
                                        ctypes.c_uint64(len(table)), ctypes.c_uint64(WATCHDOG)))
        return self.cycles() - start

    def _check(self, status: int):
        if status >= 0 or status == _BROKEN_OFF:
            return
        broken = self.library.bb_broken(self.handle).decode()
        self.reopen()
        raise AcceleratorError({
            -1: f"the core did not answer a command within {WATCHDOG} cycles",
            -2: "the core gave a response that no command asked for",
            -3: f"the core broke a rule of the memory's bus: {broken}",
        }[status])

    def close(self):
        if self.handle:
            self.library.bb_close(self.handle)
            self.handle = None


class VerilatorBackend(DoorBackend):
    """The RTL itself, in process, one library call per product or chain of products.

    Parameters
    ----------
    config : Config
    memory : Memory
        The model of a memory beside it, for a core with a memory port.
    """

    name = "verilator"

    def __init__(self, config: Config, memory: Memory):
        self.simulator = Simulator(simulator_library(config), memory if config.memory else None)
        super().__init__(config, memory, self.simulator.image)
        self.identify()

    def stall(self, seed: int, chance: float):
        """See :meth:`Simulator.stall`."""
        self.simulator.stall(seed, chance)

    def fault(self, *args, **kwargs):
        """See :meth:`Simulator.fault`."""
        self.simulator.fault(*args, **kwargs)

    def execute(self, batches: list[Batch]) -> int:
        try:
            return self.simulator.run(batches)
        except AcceleratorError:
            self.forget_counters()      # those of a fresh core
            raise

    def close(self):
        self.simulator.close()
