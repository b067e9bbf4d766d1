"""The driver: checks a product, makes it legal for the array, hands it to a backend."""

import numpy as np

from backbeat_rtl.config import Config
from backbeat_rtl.core_model import MAX_K
from backbeat_rtl.epilogue_model import Requantise

from .backends import open_backend
from .program import Job
from .stats import Stats

__all__ = ["OPS", "Accelerator", "open"]

#: A as stored (M, K) or, "t", (K, M); B as stored (K, N) or, "t", (N, K).
OPS = ("nn", "nt", "tn", "tt")


def _operand(name: str, value) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(value).__name__}")
    if value.dtype != np.int8:
        raise TypeError(f"{name} must have dtype int8, got {value.dtype}")
    if value.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions, got shape {value.shape}")
    if not value.size:
        raise ValueError(f"{name} must not be empty, got shape {value.shape}")
    if not value.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous (row-major), got strides {value.strides}; "
                         f"use op instead of a transposed view, or numpy.ascontiguousarray")
    return value


def _bias(value, n: int) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype != np.int32:
        raise TypeError("bias must be a numpy.ndarray of dtype int32, got "
                        f"{getattr(value, 'dtype', type(value).__name__)}")
    if value.shape != (n,):
        raise ValueError(f"bias must have shape ({n},), one value per column of C, "
                         f"got {value.shape}")
    return value


def _swapped(op: str) -> str:
    """The op of the transposed product: ``C.T = op(B).T @ op(A).T``."""
    return ("n" if op[1] == "t" else "t") + ("t" if op[0] == "n" else "n")


def _without_minimum(job: Job) -> tuple[Job, bool]:
    """The same product with no -128 in A, and whether it comes out transposed.

    The packed side of the array takes -127...127. If only A has a -128 the operands change sides.
    Else A is split into its clamped part and the -1 that is missing where -128 was: those steps of
    K are appended once more, so accumulators and epilogue see nothing of it.
    """
    a, b = job.a, job.b
    low = a == -128
    if not low.any():
        return job, False
    if job.spec is None and not (b == -128).any():
        return Job(b, a, _swapped(job.op)), True
    axis = 0 if job.a_across else 1
    steps = np.flatnonzero(low.any(axis=1 - axis))
    rest = -np.take(low, steps, axis=axis).astype(np.int8)
    a = np.concatenate([np.maximum(a, -127), rest], axis=axis)
    axis = 0 if job.b_across else 1
    b = np.concatenate([b, np.take(b, steps, axis=axis)], axis=axis)
    return Job(a, b, job.op, job.bias, job.spec), False


class Accelerator:
    """Exact INT8 products on one backend. Use as a context manager, or call :meth:`close`.

    Attributes
    ----------
    config : Config
    backend : str
        Name of the backend.
    stats, last : Stats
        Sums since opening (or :meth:`reset_stats`), and of the last product.
    """

    def __init__(self, backend, config: Config):
        self._backend = backend
        self.backend, self.config = backend.name, config
        self.reset_stats()

    def reset_stats(self):
        """Starts counting anew."""
        self.stats = Stats(array_macs=self.config.macs)
        self.last = Stats(array_macs=self.config.macs)

    def gemm(self, a: np.ndarray, b: np.ndarray, op: str = "nn", *,
             bias: np.ndarray | None = None, requantize: Requantise | None = None) -> np.ndarray:
        """``C[M, N] = op(A) @ op(B)``, exact.

        Parameters
        ----------
        a : int8 array, row-major
            (M, K), or (K, M) if ``op[0]`` is "t". Full range -128...127, as ``b``.
        b : int8 array, row-major
            (K, N), or (N, K) if ``op[1]`` is "t".
        op : str
            "nn", "nt", "tn" or "tt".
        bias : int32 array [N]
            Added before requantisation; needs ``requantize``.
        requantize : Requantise
            INT8 result instead of INT32.

        Returns
        -------
        int32 or, with ``requantize``, int8 array (M, N)

        Raises
        ------
        TypeError, ValueError
            Names the argument and its value. K may be 1...131,071: beyond, the INT32 sum could
            overflow.
        AcceleratorError
            The hardware reported an error or did not answer.
        """
        if self._backend is None:
            raise ValueError("this accelerator is closed")
        a, b = _operand("a", a), _operand("b", b)
        if op not in OPS:
            raise ValueError(f"op must be one of {', '.join(OPS)}, got {op!r}")
        job = Job(a, b, op, bias, requantize)
        m, n, k = job.shape
        k_b = b.shape[0 if job.b_across else 1]
        if k != k_b:
            raise ValueError(f"a and b must agree in K for op {op!r}: a has shape {a.shape} "
                             f"(K={k}), b has shape {b.shape} (K={k_b})")
        if k > MAX_K:
            raise ValueError(f"a and b must have K of at most {MAX_K} so that INT32 cannot "
                             f"overflow, got K={k}; split the product and add the parts")
        if requantize is None and bias is not None:
            raise ValueError("bias needs requantize: an INT32 result is the bare product")
        if requantize is not None:
            if not isinstance(requantize, Requantise):
                raise TypeError(f"requantize must be a Requantise, got {type(requantize).__name__}")
            requantize.per_column(n)
            if bias is not None:
                _bias(bias, n)

        legal, transposed = _without_minimum(job)
        c, self.last = self._backend.run(legal)
        self.last.products, self.last.macs = 1, m * n * k
        self.last.array_macs = self.config.macs
        self.stats += self.last
        return np.ascontiguousarray(c.T) if transposed else c

    def close(self):
        """Releases the backend; a second call does nothing."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> "Accelerator":
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<Accelerator {self.config.name} on {self.backend}>"


def open(backend: str = "model", config: "str | Config" = "16x16") -> Accelerator:  # noqa: A001
    """An accelerator.

    Parameters
    ----------
    backend : str
        "model" (NumPy, bit-exact, no clock) or "verilator" (the RTL itself, simulated).
    config : str or Config
        A preset ("4x4", "8x8", "16x16", "32x14") or your own.

    Raises
    ------
    ValueError
        Unknown backend or preset.
    ToolError
        The backend needs a program that is missing.
    """
    config = Config.of(config)
    return Accelerator(open_backend(backend, config), config)
