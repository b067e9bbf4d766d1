"""Where products are computed.

A backend has ``name``, ``run(jobs) -> (list of Result, Stats)`` and ``close()``.
"""

from backbeat_rtl.config import Config

from ..memory import Memory

__all__ = ["BACKENDS", "check_backend", "open_backend"]

#: Those that need no address, and what the others begin with.
BACKENDS, _LITEX = ("model", "verilator"), "litex:"


def check_backend(name: str):
    """Raises a ValueError, with what there is, if there can be no backend of that name."""
    if name not in BACKENDS and not name.startswith(_LITEX):
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} or {_LITEX}ADDRESS, "
                         f"got {name!r}")


def open_backend(name: str, config: Config | None, memory: Memory):
    """Opens a backend by name; imports only what it needs. None: the default configuration, or that of
    the core that is there."""
    check_backend(name)
    if name.startswith(_LITEX):
        from .litex import LitexBackend
        return LitexBackend(name.removeprefix(_LITEX), config, memory)
    config = config or Config.of("16x16")
    if name == "model":
        from .model import ModelBackend
        return ModelBackend(config, memory)
    from .verilator import VerilatorBackend
    return VerilatorBackend(config, memory)
