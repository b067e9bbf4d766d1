"""Backend ``verilator``: the generated Verilog, compiled into this process."""

import ctypes

import numpy as np

from backbeat_rtl.config import Config

from ..errors import AcceleratorError
from ..program import Batch
from .build import simulator_library
from .door import DoorBackend

__all__ = ["VerilatorBackend"]

#: Cycles without a response after which the core counts as hung. The longest run takes
#: depth * tiles = 65,536 cycles, and a command waits for two of them at most.
WATCHDOG = 1 << 18


class _Batch(ctypes.Structure):
    """``struct Batch`` of shim.cpp."""

    _fields_ = [
        ("function_id", ctypes.c_uint32), ("count", ctypes.c_uint32),
        ("input_0", ctypes.c_uint32), ("input_1", ctypes.c_uint32),
        ("inputs", ctypes.c_void_p), ("outputs", ctypes.c_void_p),
    ]


_BATCH = np.dtype(_Batch)


class VerilatorBackend(DoorBackend):
    """The RTL itself, in process, one library call per product.

    Parameters
    ----------
    config : Config
    """

    name = "verilator"

    def __init__(self, config: Config):
        super().__init__(config)
        self.library = ctypes.CDLL(str(simulator_library(config)))
        self.library.bb_open.restype = ctypes.c_void_p
        self.library.bb_cycles.restype = ctypes.c_uint64
        self.library.bb_run.restype = ctypes.c_int64
        self.handle = ctypes.c_void_p(self.library.bb_open())
        self.identify()

    def stall(self, seed: int, chance: float):
        """From now on, holds back commands and responses at random, each cycle with ``chance``."""
        self.library.bb_stall(self.handle, ctypes.c_uint64(seed or 1),
                              ctypes.c_uint32(int(chance * 65536)))

    def cycles(self) -> int:
        return self.library.bb_cycles(self.handle)

    def execute(self, batches: list[Batch]) -> int:
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
        start = self.cycles()
        status = self.library.bb_run(self.handle, table.ctypes.data_as(ctypes.c_void_p),
                                     ctypes.c_uint64(len(table)), ctypes.c_uint64(WATCHDOG))
        if status < 0:
            self.close()
            self.handle = ctypes.c_void_p(self.library.bb_open())
            self.busy = self.fed = 0
            raise AcceleratorError({
                -1: f"the core did not answer a command within {WATCHDOG} cycles",
                -2: "the core gave a response that no command asked for",
            }[status])
        return self.cycles() - start

    def close(self):
        if self.handle:
            self.library.bb_close(self.handle)
            self.handle = None
