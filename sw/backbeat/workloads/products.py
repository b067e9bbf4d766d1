"""The products that training does of a layer, and the least time they can take."""

import math
from dataclasses import dataclass

from backbeat_rtl.config import Config

__all__ = ["FORWARD", "INPUT_GRADIENT", "WEIGHT_GRADIENT", "Geometry", "Product"]

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = "forward", "input gradient", "weight gradient"


#: Of y and x.
Pair = tuple[int, int]


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _pair(value: int | Pair) -> Pair:
    return value if isinstance(value, tuple) else (value, value)


@dataclass(frozen=True)
class Geometry:
    """A convolution of one group: tensors (N, H, W, C), (K, R, S, C) and (N, P, Q, K).

    Stride, padding and dilation are one number for both axes, or a pair (y, x).

    Raises
    ------
    ValueError
        A size is below 1 (``padding``: below 0), or no filter fits into the padded image.
    """

    batch: int
    height: int
    width: int
    channels: int
    filters: int
    taps_y: int
    taps_x: int
    stride: int | Pair = 1
    padding: int | Pair = 0
    dilation: int | Pair = 1

    def __post_init__(self):
        for name, value in vars(self).items():
            if min(_pair(value)) < (name != "padding"):
                raise ValueError(f"{name} must be at least {int(name != 'padding')}, got {value}")
        for name in ("grid_y", "grid_x"):
            if getattr(self, name) < 1:
                raise ValueError(f"the filter is larger than the padded image: {self}")

    @property
    def grid_y(self) -> int:
        """Rows of the result, P."""
        return self._grid(0, self.height, self.taps_y)

    @property
    def grid_x(self) -> int:
        """Columns of the result, Q."""
        return self._grid(1, self.width, self.taps_x)

    def _moves(self, axis: int) -> tuple[int, int, int]:
        """Stride, padding and dilation along y (0) or x (1)."""
        return tuple(_pair(value)[axis] for value in (self.stride, self.padding, self.dilation))

    def _grid(self, axis: int, size: int, taps: int) -> int:
        stride, padding, dilation = self._moves(axis)
        return (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1

    @property
    def used_pixels(self) -> int:
        """Pixels of X that any tap meets: a stride beyond the filter skips the others."""
        def used(axis, grid, taps, size):
            stride, padding, dilation = self._moves(axis)
            positions = {p * stride + r * dilation - padding for p in range(grid) for r in range(taps)}
            return sum(0 <= position < size for position in positions)

        return (self.batch * used(0, self.grid_y, self.taps_y, self.height)
                * used(1, self.grid_x, self.taps_x, self.width))

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the image tensor."""
        return self.batch, self.height, self.width, self.channels

    @property
    def w(self) -> tuple[int, int, int, int]:
        """Shape of the filters."""
        return self.filters, self.taps_y, self.taps_x, self.channels

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the result."""
        return self.batch, self.grid_y, self.grid_x, self.filters


@dataclass(frozen=True)
class Product:
    """C[M, N] = op(A) op(B), of matrices or, with a geometry, of a convolution's tensors.

    ``kind`` is "forward", "input gradient" or "weight gradient". For a convolution M, N and K are
    those of the product that the hardware gathers:

    =============== =========== ============ =========== ==================================
    kind            M           N            K           A, B
    =============== =========== ============ =========== ==================================
    forward         N P Q       filters      R S C       X gathered, W
    input gradient  N H W       channels     R S filters dY gathered, W with its taps turned
    weight gradient filters     R S C        N P Q       dY transposed, X gathered
    =============== =========== ============ =========== ==================================

    The input gradient of a strided convolution is computed as the hardware does it: as a convolution
    of dY with zeros inserted between its pixels. Its MACs count those on the zeros, stride squared
    as many as the forward product has; its bytes do not, since the zeros are in no memory.

    ``count`` such products are made, alike but for their values: groups of a convolution, heads of
    attention, repeated layers. MACs, bytes and bounds are those of one.
    """

    name: str
    kind: str
    op: str
    m: int
    n: int
    k: int
    geometry: Geometry | None = None
    count: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one of them."""
        return self.m * self.n * self.k

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of all ``count``."""
        return self.count * self.macs

    def compulsory_bytes(self, result_bytes: int) -> int:
        """Bytes that any schedule moves: what is used of each operand, and the result, once.

        Of a gathered operand those are the pixels of its tensor. ``result_bytes`` are those of an
        element of C: 1 or 4.
        """
        if self.geometry is None:
            return self.m * self.k + self.k * self.n + result_bytes * self.m * self.n
        g = self.geometry
        x, w, y = g.used_pixels * g.channels, math.prod(g.w), math.prod(g.y)
        return {FORWARD:         x + w + result_bytes * y,
                INPUT_GRADIENT:  y + w + result_bytes * math.prod(g.x),
                WEIGHT_GRADIENT: y + x + result_bytes * w}[self.kind]

    def compute_bound(self, config: Config) -> int:
        """Cycles of the array if it never waits; it computes whole tiles."""
        return _ceil(self.m, config.rows) * _ceil(self.n, config.columns) * self.k

    def memory_bound(self, bytes_per_cycle: float, result_bytes: int) -> int:
        """Cycles for the compulsory bytes."""
        return int(-(-self.compulsory_bytes(result_bytes) // bytes_per_cycle))

    def bound(self, config: Config, bytes_per_cycle: float, result_bytes: int) -> int:
        """Cycles that no schedule on this array and memory can go below."""
        return max(self.compute_bound(config), self.memory_bound(bytes_per_cycle, result_bytes))
