"""Layers of real models, the products that training does of them, and the least time they can take."""

from dataclasses import dataclass

from backbeat_rtl.config import Config

__all__ = ["WORKLOADS", "Attention", "Convolution", "Geometry", "Linear", "Product", "Workload"]

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = "forward", "input gradient", "weight gradient"


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


@dataclass(frozen=True)
class Geometry:
    """A convolution of one group: tensors (N, H, W, C), (K, R, S, C) and (N, P, Q, K).

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
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < (name != "padding"):
                raise ValueError(f"{name} must be at least {int(name != 'padding')}, got {value}")
        for name in ("grid_y", "grid_x"):
            if getattr(self, name) < 1:
                raise ValueError(f"the filter is larger than the padded image: {self}")

    @property
    def grid_y(self) -> int:
        """Rows of the result, P."""
        return self._grid(self.height, self.taps_y)

    @property
    def grid_x(self) -> int:
        """Columns of the result, Q."""
        return self._grid(self.width, self.taps_x)

    def _grid(self, size: int, taps: int) -> int:
        return (size + 2 * self.padding - self.dilation * (taps - 1) - 1) // self.stride + 1

    @property
    def used_pixels(self) -> int:
        """Pixels of X that any tap meets: a stride beyond the filter skips the others."""
        def used(grid, taps, size):
            positions = {p * self.stride + r * self.dilation - self.padding
                         for p in range(grid) for r in range(taps)}
            return sum(0 <= position < size for position in positions)

        return (self.batch * used(self.grid_y, self.taps_y, self.height)
                * used(self.grid_x, self.taps_x, self.width))

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


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


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
    """

    name: str
    kind: str
    op: str
    m: int
    n: int
    k: int
    geometry: Geometry | None = None

    @property
    def macs(self) -> int:
        return self.m * self.n * self.k

    def compulsory_bytes(self, result_bytes: int) -> int:
        """Bytes that any schedule moves: what is used of each operand, and the result, once.

        Of a gathered operand those are the pixels of its tensor. ``result_bytes`` are those of an
        element of C: 1 or 4.
        """
        if self.geometry is None:
            return self.m * self.k + self.k * self.n + result_bytes * self.m * self.n
        g = self.geometry
        x, w, y = g.used_pixels * g.channels, _size(g.w), _size(g.y)
        return {FORWARD:         x + w + result_bytes * y,
                INPUT_GRADIENT:  y + w + result_bytes * _size(g.x),
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


@dataclass(frozen=True)
class Linear:
    """Y = X W^T of X (batch, inputs) and W (outputs, inputs)."""

    name: str
    batch: int
    inputs: int
    outputs: int
    #: False where X is data: nobody asks for its gradient.
    input_gradient: bool = True

    def products(self) -> tuple[Product, ...]:
        forward = Product(self.name, FORWARD, "nt", self.batch, self.outputs, self.inputs)
        to_x = Product(self.name, INPUT_GRADIENT, "nn", self.batch, self.inputs, self.outputs)
        to_w = Product(self.name, WEIGHT_GRADIENT, "tn", self.outputs, self.inputs, self.batch)
        return (forward, to_x, to_w) if self.input_gradient else (forward, to_w)


@dataclass(frozen=True)
class Convolution:
    """A convolution layer with bias-free filters."""

    name: str
    geometry: Geometry
    input_gradient: bool = True

    def products(self) -> tuple[Product, ...]:
        g = self.geometry
        pixels, window = _size(g.y[:3]), _size(g.w[1:])
        forward = Product(self.name, FORWARD, "nt", pixels, g.filters, window, g)
        to_x = Product(self.name, INPUT_GRADIENT, "nn", _size(g.x[:3]), g.channels,
                       g.taps_y * g.taps_x * g.filters, g)
        to_w = Product(self.name, WEIGHT_GRADIENT, "tn", g.filters, window, pixels, g)
        return (forward, to_x, to_w) if self.input_gradient else (forward, to_w)


@dataclass(frozen=True)
class Attention:
    """S = Q K^T and O = P V of each head, P the softmax of S; Q, K, V (tokens, width)."""

    name: str
    heads: int
    tokens: int
    width: int

    def products(self) -> tuple[Product, ...]:
        square, tall = (self.tokens, self.tokens, self.width), (self.tokens, self.width, self.tokens)
        return tuple(
            Product(f"{self.name} head {head} {text}", kind, op, *shape)
            for head in range(self.heads)
            for text, kind, op, shape in (
                ("S = Q K^T",   FORWARD,        "nt", square),
                ("O = P V",     FORWARD,        "nn", tall),
                ("dP = dO V^T", INPUT_GRADIENT, "nt", square),
                ("dV = P^T dO", INPUT_GRADIENT, "tn", tall),
                ("dQ = dS K",   INPUT_GRADIENT, "nn", tall),
                ("dK = dS^T Q", INPUT_GRADIENT, "tn", tall)))


@dataclass(frozen=True)
class Workload:
    """Layers of one model."""

    title: str
    layers: tuple[Linear | Convolution | Attention, ...]

    def products(self) -> tuple[Product, ...]:
        """All products of a training step, layer by layer."""
        return tuple(product for layer in self.layers for product in layer.products())


def _mlp(batch: int, *widths: int) -> Workload:
    layers = (Linear(f"{inputs}-{outputs}", batch, inputs, outputs, input_gradient=number > 0)
              for number, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)))
    return Workload(f"MLP {'-'.join(map(str, widths))}, batch {batch}", tuple(layers))


def _resnet18(batch: int) -> Workload:
    """The distinct convolutions of its four stages; each stage but the first halves the image."""
    def convolution(taps, channels, filters, size, stride):
        name = f"{taps}x{taps} {channels}-{filters} {size}x{size}" + (" stride 2" if stride == 2 else "")
        return Convolution(name, Geometry(batch, size, size, channels, filters, taps, taps, stride,
                                          padding=taps // 2))

    layers = [convolution(3, 64, 64, 56, 1)]
    for filters, size in ((128, 56), (256, 28), (512, 14)):
        layers += [convolution(3, filters // 2, filters, size, 2),
                   convolution(1, filters // 2, filters, size, 2),
                   convolution(3, filters, filters, size // 2, 1)]
    return Workload(f"ResNet-18, distinct convolutions from 56x56 down, batch {batch}", tuple(layers))


def _transformer(tokens: int, width: int, heads: int, hidden: int) -> Workload:
    return Workload(
        f"Transformer block, width {width}, {heads} heads, {tokens} tokens, hidden {hidden}",
        (*(Linear(f"projection {name}", tokens, width, width) for name in "QKV"),
         Attention("attention", heads, tokens, width // heads),
         Linear("projection O", tokens, width, width),
         Linear("FFN up", tokens, width, hidden), Linear("FFN down", tokens, hidden, width)))


#: What ``backbeat bench`` measures, by the name that ``--only`` takes.
WORKLOADS = {
    "mlp": _mlp(128, 784, 512, 512, 10),
    "resnet18": _resnet18(4),
    "transformer": _transformer(tokens=256, width=256, heads=4, hidden=1024),
}
