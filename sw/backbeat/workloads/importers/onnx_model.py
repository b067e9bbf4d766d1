"""The products of an ONNX file, from the shapes that its graph implies."""

import math
from pathlib import Path

from ..layers import Convolution, Layer, Linear, MatMul, Other, Workload, WorkloadError
from ..products import Geometry

__all__ = ["read"]

#: Places of A or X, B or the filters, and a bias among the inputs of what becomes a layer. The integer
#: ones have scales and zero points between them.
_MATRICES = {"MatMul": (0, 1, None), "Gemm": (0, 1, 2), "MatMulInteger": (0, 1, None),
             "QLinearMatMul": (0, 3, None)}
_CONVOLUTIONS = {"Conv": (0, 1, 2), "ConvInteger": (0, 1, None), "QLinearConv": (0, 3, 8)}
_REFUSED = {
    "ConvTranspose": "a transposed convolution", "DeformConv": "a deformable convolution",
    "LSTM": "a recurrent layer: its products wait for one another, step by step",
    "GRU": "a recurrent layer: its products wait for one another, step by step",
    "RNN": "a recurrent layer: its products wait for one another, step by step",
    "Einsum": "its equation is not looked into", "Attention": "only as MatMul, Softmax and MatMul",
    "LinearAttention": "its products are not looked into", "DFT": "its products are not looked into",
    "STFT": "its products are not looked into", "If": "which of its graphs runs is not known",
    "Loop": "how often its graph runs is not known", "Scan": "how often its graph runs is not known"}
_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


class _Refusal(Exception):
    """Why a node cannot be lowered."""


def read(path: Path, batch: int | None = None, tokens: int | None = None) -> Workload:
    """The layers of an ONNX file: of Conv, Gemm, MatMul and their integer forms, in the graph's order.

    Weights are what can be computed without an input, such as initializers, quantised ones too. Further
    floating-point initializers (embeddings, normalisations, biases added by themselves) count in one
    last layer. Values are not read: external data need not be there.

    Parameters
    ----------
    batch : int, optional
        For the first axis of the inputs, where the file leaves it open; 1 if not given.
    tokens : int, optional
        For every other axis that it leaves open.

    Raises
    ------
    WorkloadError
        Names the file and each node that cannot be lowered, with its operation and the reason; or an
        input whose size is missing or not the one asked for. Or the package ``onnx`` is missing.
    """
    try:
        import onnx
    except ImportError:
        raise WorkloadError(f"{path}: reading it needs the package onnx: "
                            "pip install -c constraints.txt -e '.[onnx]'") from None
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise WorkloadError(f"{path}: no ONNX file: {error}") from None
    graph = model.graph
    batch = _set_sizes(path, graph, batch, tokens)
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise WorkloadError(f"{path}: {error}") from None
    return _Graph(path, graph, onnx).workload(batch)


def _set_sizes(path: Path, graph, batch: int | None, tokens: int | None) -> int:
    """Gives the inputs' open axes their sizes, and forgets what depends on them; returns the batch."""
    initialisers = {x.name for x in graph.initializer}
    found = None
    for value in graph.input:
        if value.name in initialisers:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            asked = batch if axis == 0 else tokens
            if dim.HasField("dim_value") and dim.dim_value > 0:
                if axis == 0 and asked not in (None, dim.dim_value):
                    raise WorkloadError(f"{path}: input {value.name!r} has a batch of {dim.dim_value}, "
                                        f"which cannot be set to {asked}")
            elif axis and asked is None:
                raise WorkloadError(f"{path}: axis {axis} of input {value.name!r} is open "
                                    f"({dim.dim_param or 'no name'}): tokens must be given")
            else:
                dim.dim_value = asked or 1
            if axis == 0:
                found = found or dim.dim_value
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    return found or 1


class _Graph:
    """A graph with shapes, as far as they are known.

    Parameters
    ----------
    graph : onnx.GraphProto
    onnx : module
    """

    def __init__(self, path: Path, graph, onnx):
        self.path, self.graph, self.onnx = path, graph, onnx
        self.shapes = {x.name: tuple(x.dims) for x in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                self.shapes.setdefault(value.name, tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in dims))
        self.inputs = {x.name for x in graph.input} - {x.name for x in graph.initializer}
        #: Names of what needs no input, and the initializers each is made of.
        self.weights = {x.name: {x.name} for x in graph.initializer}
        self.counted: set[str] = set()

    def workload(self, batch: int) -> Workload:
        layers: list[Layer] = []
        refused = []
        for number, node in enumerate(self.graph.node):
            given = [name for name in node.input if name]
            if all(name in self.weights for name in given):
                made_of = set().union(*(self.weights[name] for name in given)) or set(node.output)
                self.weights |= {name: made_of for name in node.output}
            name = node.name or (node.output[0] if node.output else f"node {number}")
            try:
                layers += self._layers(node, name)
            except (_Refusal, ValueError) as error:
                refused.append(f"{name} ({node.op_type}): {error}")
        if refused:
            raise WorkloadError(f"{self.path} cannot be lowered:\n  " + "\n  ".join(refused))
        if not layers:
            raise WorkloadError(f"{self.path}: no products")
        floats = {getattr(self.onnx.TensorProto, name) for name in _FLOATS}
        # Those without an axis are scales and constants.
        left = sum(math.prod(x.dims) for x in self.graph.initializer
                   if x.name not in self.counted and x.dims and x.data_type in floats)
        if left:
            layers.append(Other("further initializers", "floating point, of no product", 0, 0, left))
        return Workload(self.path.stem, tuple(layers), batch)

    def _layers(self, node, name: str) -> list[Layer]:
        if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
            raise _Refusal(f"what it multiplies is not known: it is of the domain {node.domain!r}")
        if node.op_type in _REFUSED:
            raise _Refusal(_REFUSED[node.op_type])
        if any(output in self.weights for output in node.output):
            return []    # made once, not for every input
        for places, lower in ((_MATRICES, self._matrices), (_CONVOLUTIONS, self._convolution)):
            if node.op_type in places:
                operands = [node.input[i] if i is not None and i < len(node.input) else None
                            for i in places[node.op_type]]
                attributes = {x.name: self.onnx.helper.get_attribute_value(x) for x in node.attribute}
                return [lower(name, *operands, attributes)]
        return []

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None or None in shape:
            raise _Refusal(f"the shape of {name!r} is not known")
        return shape

    def _take(self, name: str | None) -> bool:
        """Counts a weight unless it has been counted; whether it was."""
        new = bool(name) and name in self.weights and not self.weights[name] <= self.counted
        if new:
            self.counted |= self.weights[name]
        return new

    def _matrices(self, name: str, a: str, b: str, bias: str | None, attributes: dict) -> Layer:
        shapes = [self._shape(x) for x in (a, b)]
        for i, across in enumerate(("transA", "transB")):
            if attributes.get(across):
                shapes[i] = shapes[i][::-1]
        a_shape = shapes[0] if len(shapes[0]) > 1 else (1, *shapes[0])
        b_shape = shapes[1] if len(shapes[1]) > 1 else (*shapes[1], 1)
        m, k, n = *a_shape[-2:], b_shape[-1]
        if a in self.weights and b not in self.weights:
            # W X is the transpose of X^T W^T.
            a, b, m, n, a_shape, b_shape = b, a, n, m, b_shape, a_shape
        if b not in self.weights:
            count = max(math.prod(a_shape[:-2]), math.prod(b_shape[:-2]))
            return MatMul(name, m, n, k, count)
        if math.prod(b_shape[:-2]) > 1:
            raise _Refusal(f"a weight of its own for each of {math.prod(b_shape[:-2])} matrices")
        return Linear(name, math.prod(a_shape[:-2]) * m, k, n, a not in self.inputs, self._take(bias),
                      not self._take(b))

    def _convolution(self, name: str, x: str, w: str, bias: str | None, attributes: dict) -> Layer:
        shape, filters = self._shape(x), self._shape(w)
        dims, groups = len(filters) - 2, attributes.get("group", 1)
        if dims > 2:
            raise _Refusal(f"a {dims}-d convolution: the core gathers images of two dimensions")
        if w not in self.weights:
            raise _Refusal("a convolution with filters that are computed")
        taps, size = filters[2:], shape[2:]
        stride, dilation = (tuple(attributes.get(key, (1,) * dims)) for key in ("strides", "dilations"))
        before, after = _pads(attributes, size, taps, stride, dilation)
        # The uneven part of a padding is laid around the image beforehand.
        padding = tuple(map(min, before, after))
        size = tuple(s + abs(b - a) for s, b, a in zip(size, before, after, strict=True))
        # One dimension is an image of one row.
        pad, one = (0,) * (2 - dims), (1,) * (2 - dims)
        geometry = Geometry(shape[0], *one, *size, shape[1] // groups, filters[0] // groups, *one, *taps,
                            one + stride, pad + padding, one + dilation)
        return Convolution(name, geometry, x not in self.inputs, groups, self._take(bias),
                           not self._take(w))


def _pads(attributes: dict, size, taps, stride, dilation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Before and after the image, along each axis."""
    dims, auto = len(size), attributes.get("auto_pad", b"NOTSET").decode()
    if auto == "NOTSET":
        pads = tuple(attributes.get("pads", (0,) * 2 * dims))
        return pads[:dims], pads[dims:]
    if auto == "VALID":
        return (0,) * dims, (0,) * dims
    total = [max(0, (-(-n // s) - 1) * s + d * (t - 1) + 1 - n)
             for n, t, s, d in zip(size, taps, stride, dilation, strict=True)]
    # SAME_LOWER has the larger half before; to sizes, that is the same.
    return tuple(t // 2 for t in total), tuple(-(-t // 2) for t in total)
