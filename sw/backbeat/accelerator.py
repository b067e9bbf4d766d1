"""The driver: checks products, makes them legal for the array, hands them to a backend."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.epilogue_model import Requantise

from .backends import open_backend
from .memory import Memory
from .products import OPS, Bmm, Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm, Lowered
from .resident import Tensor, for_result, from_array
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
        use (the same object) lies in device memory once. A :class:`Tensor` is there already.

        Parameters
        ----------
        products : sequence of Gemm, Bmm, Conv2d, Conv2dInputGradient, Conv2dWeightGradient

        Returns
        -------
        list
            What :meth:`gemm`, :meth:`conv2d` ... return for each: a Tensor in place of C if the product
            has ``keep``.

        Raises
        ------
        TypeError, ValueError
            Names the product's number (if there are several), the argument and its value. Nothing
            has been computed. Or the products do not fit the device memory.
        AcceleratorError
            The hardware reported an error or did not answer.
        """
        self._check_open()
        if not products:
            return []
        before = self._crossed()
        lowered = []
        for number, product in enumerate(products):
            if not isinstance(product, _PRODUCTS):
                names = ", ".join(p.__name__ for p in _PRODUCTS)
                raise TypeError(f"products must be of {names}, got {type(product).__name__} as number "
                                f"{number}")
            try:
                lowered.append(self._with_operands(product).lower(1 if self.memory is None else WORD))
            except (TypeError, ValueError) as error:
                if len(products) == 1:
                    raise
                raise type(error)(f"products[{number}]: {error}") from None
        kept: list[Tensor | None] = []
        try:
            for product, low in zip(products, lowered, strict=True):
                kept.append(for_result(self, low.kept, self._arena) if product.keep else None)
            results, self.last = self._backend.run([
                low.job if tensor is None or self._arena is None
                else replace(low.job, into=tensor.operand().address)
                for low, tensor in zip(lowered, kept, strict=True)])
            out = [self._finish(*each) for each in zip(lowered, results, kept, strict=True)]
        except BaseException:
            for tensor in filter(None, kept):
                tensor.free()
            raise
        self.products = []
        for product, result in zip(lowered, results, strict=True):
            stats = self._stats(result.stats)
            stats.products, stats.macs = product.job.batch, product.macs
            stats.compulsory_bytes = product.job.compulsory_bytes
            self.products.append(stats)
        self._stats(self.last)
        for name in ("products", "macs", "compulsory_bytes"):
            setattr(self.last, name, sum(getattr(s, name) for s in self.products))
        self._count(self.last, before)
        self.stats += self.last
        return out

    def _finish(self, low: Lowered, result, tensor: Tensor | None):
        """What the caller gets of a product."""
        if tensor is None:
            c = low.finish(result.c)
        else:
            c = tensor
            if self._arena is None:
                tensor.fill(low.finish(result.c))
        return (c, result.sums) if low.job.sums else c

    def _with_operands(self, product):
        """The product with its tensors as they lie."""
        found = {f.name: value for f in fields(product)
                 if isinstance(value := getattr(product, f.name), Tensor)}
        for name, tensor in found.items():
            tensor.check(name, self)
        return replace(product, **{n: t.operand() for n, t in found.items()}) if found else product

    def put(self, array: np.ndarray) -> Tensor:
        """Brings an array to the accelerator's side, once for all products that use it.

        Parameters
        ----------
        array : int8 array of at least 2 dimensions
            Is copied.

        Raises
        ------
        TypeError, ValueError
            Names what is wrong with it. Or the device memory is full: says how much is resident.
        AcceleratorError
            The device memory cannot be reached.
        """
        self._check_open()
        if not isinstance(array, np.ndarray) or array.dtype != np.int8:
            raise TypeError("array must be a numpy.ndarray of dtype int8, got "
                            f"{getattr(array, 'dtype', type(array).__name__)}")
        if array.ndim < 2 or not array.size:
            raise ValueError("array must have at least 2 dimensions and not be empty, got shape "
                             f"{array.shape}")
        before = self._crossed()
        try:
            return from_array(self, array, self._arena)
        finally:
            self._count(self.stats, before)

    def get(self, tensor: Tensor) -> np.ndarray:
        """The values of a tensor, as an array of its shape and dtype.

        Raises
        ------
        TypeError, ValueError
            It is no tensor, of another accelerator, or has been freed.
        AcceleratorError
            The device memory cannot be reached.
        """
        self._check_open()
        if not isinstance(tensor, Tensor):
            raise TypeError(f"tensor must be a Tensor, got {type(tensor).__name__}")
        tensor.check("tensor", self)
        before = self._crossed()
        try:
            return tensor.array().copy()
        finally:
            self._count(self.stats, before)

    @property
    def resident(self) -> int:
        """Bytes of device memory that tensors take."""
        return self._arena.resident if self._arena is not None else 0

    @property
    def _arena(self):
        return getattr(self._backend, "arena", None)

    def _check_open(self):
        if self._backend is None:
            raise ValueError("this accelerator is closed")

    def _crossed(self) -> tuple[int, int]:
        memory = self._arena.memory if self._arena is not None else None
        return (memory.uploaded, memory.downloaded) if memory is not None else (0, 0)

    def _count(self, stats: Stats, before: tuple[int, int]):
        up, down = self._crossed()
        stats.bytes_uploaded += up - before[0]
        stats.bytes_downloaded += down - before[1]

    def gemm(self, a: "np.ndarray | Tensor", b: "np.ndarray | Tensor", op: str = "nn", *,
             bias: np.ndarray | None = None, requantize: Requantise | None = None,
             column_sums: bool = False, keep: bool = False):
        """``C[M, N] = op(A) @ op(B)``, exact.

        Parameters
        ----------
        a : int8 array, row-major, or Tensor
            (M, K), or (K, M) if ``op[0]`` is "t". Full range -128...127, as ``b``.
        b : int8 array, row-major, or Tensor
            (K, N), or (N, K) if ``op[1]`` is "t".
        op : str
            "nn", "nt", "tn" or "tt".
        bias : int32 array [N]
            Added before requantisation; needs ``requantize``.
        requantize : Requantise
            INT8 result instead of INT32.
        column_sums : bool
            Also return the sum of each column of C.
        keep : bool
            C stays on the accelerator's side; see :meth:`get`.

        Returns
        -------
        c : int32 or, with ``requantize``, int8 array (M, N); with ``keep`` a Tensor
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
        return self.run([Gemm(a, b, op, bias, requantize, column_sums, keep)])[0]

    def bmm(self, a: "np.ndarray | Tensor", b: "np.ndarray | Tensor", op: str = "nn", *,
            keep: bool = False) -> "np.ndarray | Tensor":
        """A batch of products, ``C[i] = op(A[i]) @ op(B[i])``, exact; with a memory port one chain.

        Parameters
        ----------
        a, b : int8 arrays (B, ., .) or Tensors
            Each of their matrices as in :meth:`gemm`.
        op : str
        keep : bool
            As in :meth:`gemm`.

        Returns
        -------
        int32 array (B, M, N), with ``keep`` a Tensor

        Raises
        ------
        As :meth:`gemm`.
        """
        return self.run([Bmm(a, b, op, keep)])[0]

    def conv2d(self, x: "np.ndarray | Tensor", w: "np.ndarray | Tensor", *, stride=1, padding=0,
               dilation=1, bias: np.ndarray | None = None, requantize: Requantise | None = None,
               keep: bool = False) -> "np.ndarray | Tensor":
        """The convolution (as in deep learning: the cross-correlation) of images with filters, exact.

        Parameters
        ----------
        x : int8 array (N, H, W, C) or Tensor
        w : int8 array (K, R, S, C) or Tensor
        stride, padding, dilation : int or (int, int)
            As in PyTorch, (vertical, horizontal).
        bias, requantize, keep
            As in :meth:`gemm`, per filter.

        Returns
        -------
        int32 or, with ``requantize``, int8 array (N, P, Q, K); with ``keep`` a Tensor

        Raises
        ------
        As :meth:`gemm`; its K is R * S * C here.
        """
        return self.run([Conv2d(x, w, stride, padding, dilation, bias, requantize, keep)])[0]

    def conv2d_input_gradient(self, dy: "np.ndarray | Tensor", w: "np.ndarray | Tensor", size, *,
                              stride=1, padding=0, dilation=1, bias: np.ndarray | None = None,
                              requantize: Requantise | None = None,
                              keep: bool = False) -> "np.ndarray | Tensor":
        """The gradient of :meth:`conv2d`'s ``x`` (a transposed convolution of ``dy``), exact.

        A strided one is computed with zeros between the pixels of ``dy``.

        Parameters
        ----------
        dy : int8 array (N, P, Q, K) or Tensor
        w : int8 array (K, R, S, C) or Tensor
        size : int or (int, int)
            H, W.
        bias, requantize, keep
            As in :meth:`gemm`, per channel of ``x``.

        Returns
        -------
        int32 or, with ``requantize``, int8 array (N, H, W, C); with ``keep`` a Tensor

        Raises
        ------
        As :meth:`gemm`; its K is R * S * K here.
        """
        return self.run([Conv2dInputGradient(dy, w, size, stride, padding, dilation, bias,
                                             requantize, keep)])[0]

    def conv2d_weight_gradient(self, dy: "np.ndarray | Tensor", x: "np.ndarray | Tensor", kernel, *,
                               stride=1, padding=0, dilation=1, requantize: Requantise | None = None,
                               keep: bool = False) -> "np.ndarray | Tensor":
        """The gradient of :meth:`conv2d`'s ``w``, exact.

        Parameters
        ----------
        dy : int8 array (N, P, Q, K) or Tensor
        x : int8 array (N, H, W, C) or Tensor
        kernel : int or (int, int)
            R, S.
        requantize : Requantise
            INT8 result instead of INT32. One scale, or R * S * C of them: a column of the product is
            one weight of all filters. For stochastic rounding, a core with a memory port numbers
            the values with C filled up to a multiple of 8.
        keep : bool
            As in :meth:`gemm`.

        Returns
        -------
        int32 or, with ``requantize``, int8 array (K, R, S, C); with ``keep`` a Tensor

        Raises
        ------
        As :meth:`gemm`; its K is N * P * Q here.
        """
        return self.run([Conv2dWeightGradient(dy, x, kernel, stride, padding, dilation,
                                              requantize, keep)])[0]

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


def open(backend: str = "model", config: "str | Config | None" = None,  # noqa: A001
         memory: Memory | None = None) -> Accelerator:
    """An accelerator.

    Parameters
    ----------
    backend : str
        "model" (NumPy, bit-exact, no clock), "verilator" (the RTL itself, simulated), or
        "litex:ADDRESS": a SoC with the core, on a board or simulated. The address is HOST:PORT of a
        ``litex_server``, ``udp:HOST`` of a board's Etherbone, or a serial port with a UARTbone.
    config : str or Config, optional
        A preset ("4x4", "8x8", "16x16", "32x14") or your own; "16x16" if not given. With "litex:..."
        what the core must be; if not given, it is what it is.
    memory : Memory, optional
        What is behind the core's memory port; without it, the DDR2 of a Nexys A7. With "litex:..." its
        size does not matter: the SoC says how much it has.

    Raises
    ------
    ValueError
        Unknown backend or preset.
    ToolError
        The backend needs a program that is missing.
    AcceleratorError
        The SoC does not answer, or has another core.
    """
    config = None if config is None else Config.of(config)
    memory = Memory() if memory is None else memory
    if not isinstance(memory, Memory):
        raise TypeError(f"memory must be a Memory, got {type(memory).__name__}")
    opened = open_backend(backend, config, memory)
    return Accelerator(opened, opened.config, opened.memory)
