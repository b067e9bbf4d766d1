"""A small SoC in simulation: VexRiscv, our core beside it, and firmware in C for the two."""

from .simulator import Soc
from .toolchain import Firmware, build_firmware

__all__ = ["Firmware", "Soc", "build_firmware"]
