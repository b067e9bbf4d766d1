"""Where products are computed. A backend has ``name``, ``run(job) -> (c, Stats)`` and ``close()``."""

from backbeat_rtl.config import Config

__all__ = ["BACKENDS", "open_backend"]

BACKENDS = ("model", "verilator")


def open_backend(name: str, config: Config):
    """Opens a backend by name; imports only what it needs."""
    if name == "model":
        from .model import ModelBackend
        return ModelBackend(config)
    if name == "verilator":
        from .verilator import VerilatorBackend
        return VerilatorBackend(config)
    raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
