"""Where products are computed.

A backend has ``name``, ``run(jobs) -> (list of Result, Stats)`` and ``close()``.
"""

from backbeat_rtl.config import Config

from ..memory import Memory

__all__ = ["BACKENDS", "open_backend"]

#: Those that need no address.
BACKENDS = ("model", "verilator")


def open_backend(name: str, config: Config | None, memory: Memory):
    """Opens a backend by name; imports only what it needs. None: the default configuration, or that of
    the core that is there."""
    if name.startswith("litex:"):
        from .litex import LitexBackend
        return LitexBackend(name.removeprefix("litex:"), config, memory)
    config = config or Config.of("16x16")
    if name == "model":
        from .model import ModelBackend
        return ModelBackend(config, memory)
    if name == "verilator":
        from .verilator import VerilatorBackend
        return VerilatorBackend(config, memory)
    raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r} (or litex:ADDRESS)")
