"""Figures of a product."""

import numpy as np

from backbeat_rtl.epilogue_model import Requantise, element_index, requantise

from .accelerator import Accelerator

__all__ = ["counters", "figures", "reference"]


def reference(a: np.ndarray, b: np.ndarray, op: str, spec: Requantise | None = None) -> np.ndarray:
    """The product by NumPy's int64 arithmetic: slow, and owes nothing to the models' fast paths."""
    a, b = (x.astype(np.int64) for x in (a.T if op[0] == "t" else a, b.T if op[1] == "t" else b))
    c = (a @ b).astype(np.int32)
    if spec is None:
        return c
    multiplier, shift = spec.per_column(c.shape[1])
    return requantise(c, 0, multiplier, shift, zero_point=spec.zero_point, low=spec.low,
                      high=spec.high, stochastic=spec.rounding == "stochastic", seed=spec.seed,
                      index=element_index(*c.shape))


def figures(acc: Accelerator, shape: tuple[int, int, int], op: str, exact: bool,
            wall: float) -> dict:
    """What ``backbeat gemm`` prints, of the last product of ``acc``."""
    m, n, k = shape
    last = acc.last
    return {
        "m": m, "n": n, "k": k, "op": op, "config": acc.config.name, "backend": acc.backend,
        "exact": exact, "cycles": last.cycles, "macs": last.macs,
        "utilisation": last.utilisation and round(last.utilisation, 4),
        "roofline": round(last.roofline, 4),
        "bytes_read": last.bytes_read, "bytes_written": last.bytes_written,
        "wall_s": round(wall, 4),
    }


def counters(acc: Accelerator) -> dict[str, int]:
    """What else the core has counted in the last call; zeros on backends that have no clock."""
    return {name: getattr(acc.last, name) for name in (
        "busy", "fed", "load_busy", "load_wait", "run_wait", "store_busy", "store_wait", "max_abs",
        "commands", "descriptors")}
