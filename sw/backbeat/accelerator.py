"""The driver: checks products, makes them legal for the array, hands them to a backend."""

from collections.abc import Sequence

import numpy as np

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.epilogue_model import Requantise

from .backends import open_backend
from .memory import Memory
from .products import OPS, Bmm, Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from .stats import Stats

__all__ = ["OPS", "Accelerator", "open"]

_PRODUCTS = (Gemm, Bmm, Conv2d, Conv2dInputGradient, Conv2dWeightGradient)


class Accelerator:
    """Exact INT8 products on one backend. Use as a context manager, or call :meth:`close`.

    Attributes
    ----------
    config : Config
    memory : Memory or None
        What is behind the core's memory port, if it has one.
    backend : str
        Name of the backend.
    stats, last : Stats
        Sums since opening (or :meth:`reset_stats`), and of the last call.
    products : list of Stats
        Of each product of the last call, in order. Those of one chain overlap in time; counters of
        the core exist for the whole chain only.
    """

    def __init__(self, backend, config: Config, memory: Memory | None = None):
        self._backend = backend
        self.backend, self.config = backend.name, config
        self.memory = memory if config.memory else None
        self.reset_stats()

    def reset_stats(self):
        """Starts counting anew."""
        self.stats, self.last, self.products = self._stats(Stats()), self._stats(Stats()), []

    def _stats(self, stats: Stats) -> Stats:
        stats.array_macs = self.config.macs
        stats.bytes_per_cycle = WORD if self.memory is None else self.memory.effective
        return stats

    def run(self, products: Sequence) -> list:
        """Makes products that are independent of each other, with a memory port as one chain.

        Loading, computing and storing overlap from product to product. An array that several of them
        use (the same object) lies in device memory once.

        Parameters
        ----------
        products : sequence of Gemm, Bmm, Conv2d, Conv2dInputGradient, Conv2dWeightGradient

        Returns
        -------
        list
            What :meth:`gemm`, :meth:`conv2d` ... return for each.

        Raises
        ------
        TypeError, ValueError
            Names the product's number (if there are several), the argument and its value. Nothing
            has been computed. Or the products do not fit the device memory.
        AcceleratorError
            The hardware reported an error or did not answer.
        """
        if self._backend is None:
            raise ValueError("this accelerator is closed")
        if not products:
            return []
        lowered = []
        for number, product in enumerate(products):
            if not isinstance(product, _PRODUCTS):
                names = ", ".join(p.__name__ for p in _PRODUCTS)
                raise TypeError(f"products must be of {names}, got {type(product).__name__} as number "
                                f"{number}")
            try:
                lowered.append(product.lower(1 if self.memory is None else WORD))
            except (TypeError, ValueError) as error:
                if len(products) == 1:
                    raise
                raise type(error)(f"products[{number}]: {error}") from None
        results, self.last = self._backend.run([p.job for p in lowered])
        self.products = []
        for product, result in zip(lowered, results, strict=True):
            stats = self._stats(result.stats)
            stats.products, stats.macs = product.job.batch, product.macs
            stats.compulsory_bytes = product.job.compulsory_bytes
            self.products.append(stats)
        self._stats(self.last)
        for name in ("products", "macs", "compulsory_bytes"):
            setattr(self.last, name, sum(getattr(s, name) for s in self.products))
        self.stats += self.last
        return [product.finish(result) for product, result in zip(lowered, results, strict=True)]

    def gemm(self, a: np.ndarray, b: np.ndarray, op: str = "nn", *, bias: np.ndarray | None = None,
             requantize: Requantise | None = None, column_sums: bool = False):
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
        column_sums : bool
            Also return the sum of each column of C.

        Returns
        -------
        c : int32 or, with ``requantize``, int8 array (M, N)
        sums : int32 array (N,), only with ``column_sums``
            Modulo 2^32.

        Raises
        ------
        TypeError, ValueError
            Names the argument and its value. K may be 1...131,071: beyond, the INT32 sum could
            overflow.
        AcceleratorError
            The hardware reported an error or did not answer.
        """
        return self.run([Gemm(a, b, op, bias, requantize, column_sums)])[0]

    def bmm(self, a: np.ndarray, b: np.ndarray, op: str = "nn") -> np.ndarray:
        """A batch of products, ``C[i] = op(A[i]) @ op(B[i])``, exact; with a memory port one chain.

        Parameters
        ----------
        a, b : int8 arrays (B, ., .)
            Each of their matrices as in :meth:`gemm`.
        op : str

        Returns
        -------
        int32 array (B, M, N)

        Raises
        ------
        As :meth:`gemm`.
        """
        return self.run([Bmm(a, b, op)])[0]

    def conv2d(self, x: np.ndarray, w: np.ndarray, *, stride=1, padding=0, dilation=1,
               bias: np.ndarray | None = None, requantize: Requantise | None = None) -> np.ndarray:
        """The convolution (as in deep learning: the cross-correlation) of images with filters, exact.

        Parameters
        ----------
        x : int8 array (N, H, W, C)
        w : int8 array (K, R, S, C)
        stride, padding, dilation : int or (int, int)
            As in PyTorch, (vertical, horizontal).
        bias, requantize
            As in :meth:`gemm`, per filter.

        Returns
        -------
        int32 or, with ``requantize``, int8 array (N, P, Q, K)

        Raises
        ------
        As :meth:`gemm`; its K is R * S * C here.
        """
        return self.run([Conv2d(x, w, stride, padding, dilation, bias, requantize)])[0]

    def conv2d_input_gradient(self, dy: np.ndarray, w: np.ndarray, size, *, stride=1, padding=0,
                              dilation=1, bias: np.ndarray | None = None,
                              requantize: Requantise | None = None) -> np.ndarray:
        """The gradient of :meth:`conv2d`'s ``x`` (a transposed convolution of ``dy``), exact.

        A strided one is computed with zeros between the pixels of ``dy``.

        Parameters
        ----------
        dy : int8 array (N, P, Q, K)
        w : int8 array (K, R, S, C)
        size : int or (int, int)
            H, W.
        bias, requantize
            As in :meth:`gemm`, per channel of ``x``.

        Returns
        -------
        int32 or, with ``requantize``, int8 array (N, H, W, C)

        Raises
        ------
        As :meth:`gemm`; its K is R * S * K here.
        """
        return self.run([Conv2dInputGradient(dy, w, size, stride, padding, dilation, bias,
                                             requantize)])[0]

    def conv2d_weight_gradient(self, dy: np.ndarray, x: np.ndarray, kernel, *, stride=1, padding=0,
                               dilation=1, requantize: Requantise | None = None) -> np.ndarray:
        """The gradient of :meth:`conv2d`'s ``w``, exact.

        Parameters
        ----------
        dy : int8 array (N, P, Q, K)
        x : int8 array (N, H, W, C)
        kernel : int or (int, int)
            R, S.
        requantize : Requantise
            INT8 result instead of INT32. One scale, or R * S * C of them: a column of the product is
            one weight of all filters. For stochastic rounding, a core with a memory port numbers
            the values with C filled up to a multiple of 8.

        Returns
        -------
        int32 or, with ``requantize``, int8 array (K, R, S, C)

        Raises
        ------
        As :meth:`gemm`; its K is N * P * Q here.
        """
        return self.run([Conv2dWeightGradient(dy, x, kernel, stride, padding, dilation,
                                              requantize)])[0]

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


def open(backend: str = "model", config: "str | Config" = "16x16",  # noqa: A001
         memory: Memory | None = None) -> Accelerator:
    """An accelerator.

    Parameters
    ----------
    backend : str
        "model" (NumPy, bit-exact, no clock) or "verilator" (the RTL itself, simulated).
    config : str or Config
        A preset ("4x4", "8x8", "16x16", "32x14") or your own.
    memory : Memory, optional
        What is behind the core's memory port; without it, the DDR3 of a Nexys A7.

    Raises
    ------
    ValueError
        Unknown backend or preset.
    ToolError
        The backend needs a program that is missing.
    """
    config, memory = Config.of(config), Memory() if memory is None else memory
    if not isinstance(memory, Memory):
        raise TypeError(f"memory must be a Memory, got {type(memory).__name__}")
    return Accelerator(open_backend(backend, config, memory), config, memory)
