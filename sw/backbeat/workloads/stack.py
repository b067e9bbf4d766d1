"""Builds lists of layers, keeping the shape of what the next one is given."""

from .layers import Convolution, Layer, Linear, Other
from .products import Geometry

__all__ = ["Stack"]


class Stack:
    """The layers of a convolutional network, one after the other.

    In the letters of the literature an image is (N, C, H, W), a layer has K filters of C x R x S taps
    and gives (N, K, P, Q); here H = W and R = S throughout.

    Parameters
    ----------
    batch : int
        N.
    channels, size : int
        C, and H = W, of the images.
    bias : bool
        Convolutions have one.
    norm : bool
        After each convolution comes a batch normalisation, of two parameters a channel.
    """

    def __init__(self, batch: int, channels: int, size: int, *, bias: bool = False, norm: bool = False):
        self.batch, self.channels, self.size, self.bias, self.norm = batch, channels, size, bias, norm
        self.layers: list[Layer] = []

    @property
    def elements(self) -> int:
        """N C H W of what the next layer is given."""
        return self.batch * self.channels * self.size**2

    def fork(self) -> "Stack":
        """A branch from here: its layers join the same list, this stack's shape stays."""
        branch = Stack(self.batch, self.channels, self.size, bias=self.bias, norm=self.norm)
        branch.layers = self.layers
        return branch

    def convolve(self, name: str, filters: int, taps: int, stride: int = 1, padding: int | None = None,
                 groups: int = 1) -> "Stack":
        """``padding`` keeps the size at stride 1 if not given. Returns itself."""
        geometry = Geometry(self.batch, self.size, self.size, self.channels // groups, filters // groups,
                            taps, taps, stride, taps // 2 if padding is None else padding)
        # Nobody asks for the gradient of the images.
        self.layers.append(Convolution(name, geometry, bool(self.layers), groups, self.bias))
        self.channels, self.size = filters, geometry.grid_y
        if self.norm:
            self.layers.append(Other(f"{name} norm", "batch normalisation", self.elements, self.elements,
                                     2 * filters))
        return self

    def pool(self, name: str, taps: int, stride: int, padding: int = 0, ceil: bool = False) -> "Stack":
        """Maximum or average; ``ceil``: a window that is partly outside counts, as in Caffe."""
        before, span = self.elements, self.size + 2 * padding - taps
        self.size = (-(-span // stride) if ceil else span // stride) + 1
        self.layers.append(Other(name, "pooling", before, self.elements))
        return self

    def average(self, name: str) -> "Stack":
        """Of each channel."""
        return self.pool(name, self.size, 1)

    def linear(self, name: str, outputs: int) -> "Stack":
        """Of all there is of a sample, with bias."""
        self.layers.append(Linear(name, self.batch, self.channels * self.size**2, outputs,
                                  bool(self.layers), bias=True))
        self.channels, self.size = outputs, 1
        return self
