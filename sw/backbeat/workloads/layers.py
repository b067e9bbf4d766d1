"""Layers: their products in training, their weights, and the sizes of their feature maps."""

import math
from dataclasses import dataclass

from .products import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Geometry, Product

__all__ = ["Attention", "Convolution", "Embedding", "Layer", "Linear", "MatMul", "Other", "Workload",
           "WorkloadError"]


class WorkloadError(ValueError):
    """There is no such workload, or it cannot be described or imported; says where and why."""


class Layer:
    """What every layer has. Figures are those of one layer, products those of all its repeats.

    Attributes
    ----------
    name : str
    repeat : int
        So many equal layers. Neighbours repeated equally often take turns, as in the blocks of a
        transformer.
    weights : int
        Parameters of one: those of its matrix or filters, its bias, or what a normalisation has.
    input_elements, output_elements : int
        Values of one's feature maps, the batch included.
    """

    def __post_init__(self):
        for name, value in vars(self).items():
            least = int(name not in ("weights", "input_elements", "output_elements"))
            if type(value) is int and value < least:
                raise WorkloadError(f"{self.name}: {name} must be at least {least}, got {value}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of one layer."""
        return sum(p.total_macs for p in self.products() if p.kind == FORWARD) // self.repeat

    @property
    def total_macs(self) -> int:
        """Those of all repeats."""
        return self.repeat * self.macs

    @property
    def total_weights(self) -> int:
        """Parameters of all repeats."""
        return self.repeat * self.weights

    def products(self) -> tuple[Product, ...]:
        """Of a training step: the forward ones first. Most layers have none."""
        return ()


@dataclass(frozen=True)
class Linear(Layer):
    """Y = X W^T of X (batch, inputs) and W (outputs, inputs).

    ``batch`` counts rows: of a transformer, sequences times tokens. ``tied``: its matrix is another
    layer's, and counted there.
    """

    name: str
    batch: int
    inputs: int
    outputs: int
    #: False where X is data: nobody asks for its gradient.
    input_gradient: bool = True
    bias: bool = False
    tied: bool = False
    repeat: int = 1

    @property
    def weights(self) -> int:
        return (not self.tied) * self.inputs * self.outputs + self.bias * self.outputs

    @property
    def input_elements(self) -> int:
        return self.batch * self.inputs

    @property
    def output_elements(self) -> int:
        return self.batch * self.outputs

    def products(self) -> tuple[Product, ...]:
        m, n, k, count = self.batch, self.outputs, self.inputs, self.repeat
        forward = Product(self.name, FORWARD, "nt", m, n, k, count=count)
        to_x = Product(self.name, INPUT_GRADIENT, "nn", m, k, n, count=count)
        to_w = Product(self.name, WEIGHT_GRADIENT, "tn", n, k, m, count=count)
        return (forward, to_x, to_w) if self.input_gradient else (forward, to_w)


@dataclass(frozen=True)
class Convolution(Layer):
    """A convolution layer; ``geometry`` is that of one of its ``groups``.

    Each group is a product of its own. A depthwise one has as many groups as channels: M = N P Q, N = 1
    and K = R S. ``tied``: its filters are another layer's, and counted there.
    """

    name: str
    geometry: Geometry
    input_gradient: bool = True
    groups: int = 1
    bias: bool = False
    tied: bool = False
    repeat: int = 1

    @property
    def weights(self) -> int:
        g = self.geometry
        return self.groups * ((not self.tied) * math.prod(g.w) + self.bias * g.filters)

    @property
    def input_elements(self) -> int:
        return self.groups * math.prod(self.geometry.x)

    @property
    def output_elements(self) -> int:
        return self.groups * math.prod(self.geometry.y)

    def products(self) -> tuple[Product, ...]:
        g, count = self.geometry, self.groups * self.repeat
        pixels, window = math.prod(g.y[:3]), math.prod(g.w[1:])
        forward = Product(self.name, FORWARD, "nt", pixels, g.filters, window, g, count)
        to_x = Product(self.name, INPUT_GRADIENT, "nn", math.prod(g.x[:3]), g.channels,
                       g.taps_y * g.taps_x * g.filters, g, count)
        to_w = Product(self.name, WEIGHT_GRADIENT, "tn", g.filters, window, pixels, g, count)
        return (forward, to_x, to_w) if self.input_gradient else (forward, to_w)


@dataclass(frozen=True)
class MatMul(Layer):
    """``count`` products C[m, n] = A B of two feature maps, each with a gradient."""

    name: str
    m: int
    n: int
    k: int
    count: int = 1
    repeat: int = 1
    weights = 0

    @property
    def input_elements(self) -> int:
        return self.count * (self.m + self.n) * self.k

    @property
    def output_elements(self) -> int:
        return self.count * self.m * self.n

    def products(self) -> tuple[Product, ...]:
        count = self.count * self.repeat
        return tuple(Product(f"{self.name} {text}", kind, op, *shape, count=count)
                     for text, kind, op, shape in (
                         ("C = A B",     FORWARD,        "nn", (self.m, self.n, self.k)),
                         ("dA = dC B^T", INPUT_GRADIENT, "nt", (self.m, self.k, self.n)),
                         ("dB = A^T dC", INPUT_GRADIENT, "tn", (self.k, self.n, self.m))))


@dataclass(frozen=True)
class Attention(Layer):
    """S = Q K^T and O = P V of each head, P the softmax of S.

    Per sequence and head Q is (tokens, width), K (keys, width), V (keys, value_width); in the letters
    of the literature P = tokens, M = keys, E = width, F = value_width, H = heads. A causal layer counts
    the full P M like any other: what its mask hides is computed, as the core has no triangular product.
    The projections before and after are layers of their own.
    """

    name: str
    heads: int
    tokens: int
    width: int
    #: As many as tokens, if not given.
    keys: int | None = None
    #: That of Q and K, if not given.
    value_width: int | None = None
    #: Sequences.
    batch: int = 1
    repeat: int = 1
    weights = 0

    @property
    def input_elements(self) -> int:
        """Of Q, K and V, as each head sees them."""
        p, m, e, f = self._sizes
        return self.batch * self.heads * (p * e + m * e + m * f)

    @property
    def score_elements(self) -> int:
        """Of S, which P takes the place of: a feature map between the two products."""
        p, m, _, _ = self._sizes
        return self.batch * self.heads * p * m

    @property
    def output_elements(self) -> int:
        p, _, _, f = self._sizes
        return self.batch * self.heads * p * f

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        return self.tokens, self.keys or self.tokens, self.width, self.value_width or self.width

    def products(self) -> tuple[Product, ...]:
        p, m, e, f = self._sizes
        count = self.batch * self.heads * self.repeat
        return tuple(Product(f"{self.name} {text}", kind, op, *shape, count=count)
                     for text, kind, op, shape in (
                         ("S = Q K^T",   FORWARD,        "nt", (p, m, e)),
                         ("O = P V",     FORWARD,        "nn", (p, f, m)),
                         ("dP = dO V^T", INPUT_GRADIENT, "nt", (p, m, f)),
                         ("dV = P^T dO", INPUT_GRADIENT, "tn", (m, f, p)),
                         ("dQ = dS K",   INPUT_GRADIENT, "nn", (p, e, m)),
                         ("dK = dS^T Q", INPUT_GRADIENT, "tn", (m, e, p))))


@dataclass(frozen=True)
class Embedding(Layer):
    """A row of a table (entries, width) for each of ``tokens`` indices: no product."""

    name: str
    tokens: int
    entries: int
    width: int
    repeat: int = 1

    @property
    def weights(self) -> int:
        return self.entries * self.width

    @property
    def input_elements(self) -> int:
        return self.tokens

    @property
    def output_elements(self) -> int:
        return self.tokens * self.width


@dataclass(frozen=True)
class Other(Layer):
    """A layer without products; ``what`` says what it is: pooling, a normalisation."""

    name: str
    what: str
    input_elements: int
    output_elements: int
    weights: int = 0
    repeat: int = 1


@dataclass(frozen=True)
class Workload:
    """Layers of one model, in the order in which they run, at one batch."""

    title: str
    layers: tuple[Layer, ...]
    #: Samples or sequences in it.
    batch: int = 1

    def products(self, training: bool = True) -> tuple[Product, ...]:
        """All products of a training step, or of a forward pass, layer by layer."""
        return tuple(product for layer in self.layers for product in layer.products()
                     if training or product.kind == FORWARD)

    @property
    def weights(self) -> int:
        """Parameters of all layers."""
        return sum(layer.total_weights for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a forward pass of the whole batch."""
        return sum(layer.total_macs for layer in self.layers)
