"""The small SoC: VexRiscv and our core, compiled into this process."""

import ctypes
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from backbeat_rtl.config import Config

from ..backends.build import Design, cached_library, cfu_design, hardware_sources
from ..errors import AcceleratorError, ToolError
from ..memory import BASE, Memory
from .toolchain import ROM_BYTES, SRAM_BYTES, Firmware

__all__ = ["Soc"]

MAIN = Path(__file__).with_name("soc.cpp")
#: The variant with a CFU that LiteX calls full+cfu: 4 KiB of instruction and of data cache,
#: multiplication and division.
_VARIANT = "VexRiscv_FullCfu.v"
_PACKAGE = "pythondata-cpu-vexriscv"
#: Cycles per call of the library while somebody watches.
_SLICE = 1 << 18


def _cpu() -> Design:
    """Somebody else's Verilog: its warnings are none of ours."""
    spec = find_spec("pythondata_cpu_vexriscv")
    if spec is None or spec.origin is None:
        raise ToolError(f"no CPU: install the package with `pip install {_PACKAGE}`")
    path = Path(spec.origin).parent / "verilog" / _VARIANT
    return Design("VexRiscv", path.read_text, ("-Wno-lint", "-Wno-style"))


def soc_library(config: Config) -> Path:
    """The shared library that simulates the SoC, cached or built now; see ``soc.cpp``."""
    core, flags = cfu_design(config)
    return cached_library(f"soc-{config.name}", [_cpu(), core], MAIN,
                          [repr(config), version(_PACKAGE), *hardware_sources()], flags)


class Soc:
    """A CPU and a core on one memory. Use as a context manager, or call :meth:`close`.

    Parameters
    ----------
    config : str or Config
        Of the core.
    program : Firmware
        Begins to run with the first :meth:`run`.
    memory : Memory, optional
        Main memory, as the core sees it; 64 MiB if not given.

    Attributes
    ----------
    image : uint8 array [memory.size]
        Main memory from address ``BASE`` on. Writing to it is what a host bridge does.

    Raises
    ------
    ToolError
        A tool to build the simulator is missing.
    """

    def __init__(self, config: "str | Config" = "16x16", program: Firmware | None = None,
                 memory: Memory | None = None):
        if not isinstance(program, Firmware):
            raise TypeError(f"program must be a Firmware, got {type(program).__name__}")
        self.config, self.program = Config.of(config), program
        self.memory = memory = Memory(size=64 << 20) if memory is None else memory
        self.handle = None
        self.library = ctypes.CDLL(str(soc_library(self.config)))
        self.library.soc_open.restype = ctypes.c_void_p
        for name in ("soc_cycles", "soc_console"):
            getattr(self.library, name).restype = ctypes.c_uint64
        self.library.soc_run.restype = ctypes.c_int64
        self.library.soc_broken.restype = ctypes.c_char_p
        self.image = np.zeros(memory.size, dtype=np.uint8)
        u32, u64 = ctypes.c_uint32, ctypes.c_uint64
        self.handle = ctypes.c_void_p(self.library.soc_open(
            program.binary, u64(len(program.binary)), u64(ROM_BYTES), u64(SRAM_BYTES),
            self.image.ctypes.data_as(ctypes.c_void_p), u64(memory.size), u32(BASE),
            u32(round(memory.bandwidth * 65536)), u32(memory.latency), u32(memory.refresh_interval),
            u32(memory.refresh_cycles)))

    @property
    def cycles(self) -> int:
        """Clock cycles since reset."""
        return self.library.soc_cycles(self.handle)

    @property
    def console(self) -> str:
        """All that the firmware has printed."""
        return self._printed(0)

    def _printed(self, begin: int) -> str:
        size = self.library.soc_console(self.handle, None, ctypes.c_uint64(-1), ctypes.c_uint64(0))
        text = ctypes.create_string_buffer(max(size - begin, 0) + 1)
        self.library.soc_console(self.handle, text, ctypes.c_uint64(begin),
                                 ctypes.c_uint64(max(size - begin, 0)))
        return text.value.decode("ascii", "replace")

    def stall(self, seed: int, chance: float):
        """From now on, holds back each channel of the core's memory at random, with that chance per
        cycle."""
        self.library.soc_stall(self.handle, ctypes.c_uint64(seed or 1),
                               ctypes.c_uint32(int(chance * 65536)))

    def run(self, cycles: int, watch: Callable[[str], None] | None = None) -> int | None:
        """Runs on.

        Parameters
        ----------
        cycles : int
            At most.
        watch : callable, optional
            Is called with what has been printed since its last call, now and then.

        Returns
        -------
        int or None
            The firmware's exit code; None if it has not finished.

        Raises
        ------
        AcceleratorError
            The core broke a rule of the memory's bus.
        """
        seen = len(self.console) if watch else 0
        while cycles > 0:
            part = min(cycles, _SLICE)
            cycles -= part
            status = self.library.soc_run(self.handle, ctypes.c_uint64(part))
            if watch and (text := self._printed(seen)):
                seen += len(text)
                watch(text)
            if status == -3:
                broken = self.library.soc_broken(self.handle).decode()
                raise AcceleratorError(f"the core broke a rule of the memory's bus: {broken}")
            if status >= 0:
                return status
        return None

    def close(self):
        if self.handle:
            self.library.soc_close(self.handle)
            self.handle = None

    def __enter__(self) -> "Soc":
        return self

    def __exit__(self, *_):
        self.close()
