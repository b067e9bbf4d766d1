"""Imported workloads have the products of what they are imported from, or say what they lack."""

import sys

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from backbeat.workloads import Attention, Convolution, Linear, MatMul, Other, WorkloadError, load
from backbeat.workloads.importers import topology
from backbeat.workloads.importers.pytorch import from_module

# PyTorch modules ------------------------------------------------------------------------------------


class Mixture(nn.Module):
    """Products by layers, by functions, and by functions of functions."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.cross = nn.MultiheadAttention(32, 4, batch_first=True)
        self.depthwise = nn.Conv1d(8, 8, 3, groups=8, stride=2, padding=1)
        self.grouped = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2)
        self.table = nn.Parameter(torch.zeros(8, 32))
        self.embedding = nn.Embedding(20, 32)

    def forward(self, tokens):
        x = self.encoder(self.embedding(tokens))                        # [B, T, 32]
        x, _ = self.cross(x, x[:, :5], x[:, :5])
        y = torch.einsum("btd,kd->btk", x, self.table).mT               # [B, 8, T]
        y = self.depthwise(y)
        z = F.scaled_dot_product_attention(y, y[:, :3], y[:, :3])       # [B, 8, T / 2]
        self.grouped(z.reshape(len(z), 4, 2, -1))
        return y @ z.mT, self.table @ x.mT, torch.baddbmm(y, y @ y.mT, y), torch.mv(x[0], x[0, 0])


def test_all_products_are_seen_that_pytorch_counts():
    module, x = Mixture(), torch.zeros(3, 10, dtype=torch.int64)
    workload = from_module(module, x)
    # Of attention made by one operation, it counts nothing.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(x)
    # The one product of a matrix and a vector, it does not count.
    assert workload.macs == counter.get_total_flops() // 2 + 10 * 32
    assert workload.weights == sum(p.numel() for p in module.parameters())
    assert workload.batch == 3
    names = [layer.name for layer in workload.layers]
    assert len(set(names)) == len(names)
    assert {"embedding", "encoder.linear1", "cross.linear", "cross.linear #2", "depthwise", "grouped",
            "attention", "bmm", "baddbmm"} <= set(names)


def layer_of(workload, name):
    return next(layer for layer in workload.layers if layer.name == name)


def test_layers_have_the_sizes_of_their_calls():
    workload = from_module(Mixture(), torch.zeros(3, 10, dtype=torch.int64))
    depthwise = layer_of(workload, "depthwise")
    assert isinstance(depthwise, Convolution) and (depthwise.groups, depthwise.bias) == (8, True)
    assert depthwise.geometry.y == (3, 1, 5, 1) and depthwise.weights == 8 * 3 + 8
    grouped = layer_of(workload, "grouped")
    assert (grouped.groups, grouped.geometry.x, grouped.geometry.y) == (2, (3, 2, 5, 2), (3, 1, 4, 3))
    attention = layer_of(workload, "attention")
    assert attention == Attention("attention", 3, 8, 5, 3, 5)
    assert layer_of(workload, "baddbmm") == MatMul("baddbmm", 8, 5, 8, 3)
    assert isinstance(layer_of(workload, "embedding"), Other)
    # The table's second use finds its weights counted.
    first, second = (layer for layer in workload.layers
                     if isinstance(layer, Linear) and (layer.inputs, layer.outputs) == (32, 8))
    assert (first.weights, second.weights, first.batch, second.batch) == (8 * 32, 0, 30, 30)


def test_gradient_of_data_is_nobodys_and_that_of_an_embedding_somebodys():
    linear = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    flags = [layer.input_gradient for layer in from_module(linear, torch.zeros(2, 4)).layers]
    assert flags == [False, True]
    embedded = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4))
    workload = from_module(embedded, torch.zeros(2, 3, dtype=torch.int64))
    assert layer_of(workload, "1").input_gradient and layer_of(workload, "1").bias


def test_shared_and_unused_parameters_count_once():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    module.spare = nn.Parameter(torch.zeros(7))
    workload = from_module(module, torch.zeros(2, 4))
    assert [layer.weights for layer in workload.layers] == [20, 4, 7]
    assert workload.weights == sum(p.numel() for p in module.parameters())
    module.register_buffer("fixed", torch.zeros(4, 4))
    module.forward = lambda x: module[1](module[0](x)) @ module.fixed
    module.idle = nn.Linear(4, 4)
    fixed = from_module(module, torch.zeros(2, 4))
    assert isinstance(fixed.layers[2], Linear) and fixed.weights == workload.weights + 20
    twice = nn.Conv2d(2, 2, 3, padding=1)
    workload = from_module(nn.Sequential(twice, twice), torch.zeros(1, 2, 5, 5))
    assert [layer.weights for layer in workload.layers] == [2 * 2 * 9 + 2, 0]
    assert workload.layers[1].name == "0 #2"


def test_import_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {name: x.clone() for name, x in module.state_dict().items()}
    from_module(module, torch.ones(2, 1, 5, 5))
    after = module.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())
    assert not module[0]._forward_hooks and not module[0]._forward_pre_hooks
    assert module(torch.ones(2, 1, 5, 5)).shape == (2, 2, 3, 3)


class Decides(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.pairs = nn.Bilinear(4, 4, 2)

    def forward(self, x):
        return self.pairs(x, x)


class Each(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(3, 4, 5))

    def forward(self, x):
        return torch.bmm(x, self.weights)


@pytest.mark.parametrize(("module", "shape", "message"), [
    (nn.Sequential(nn.Sequential(nn.LSTM(4, 5))), (3, 2, 4), r"0\.0: an LSTM: its products wait"),
    (nn.Sequential(nn.GRU(4, 5)), (3, 2, 4), "0: a GRU: its products wait"),
    (nn.LSTMCell(4, 5), (3, 4), "LSTMCell: an LSTM"),
    (nn.Sequential(nn.Conv3d(4, 5, 3)), (3, 4, 6, 6, 6), "0: a 3-d convolution: the core gathers"),
    (nn.Sequential(nn.Conv2d(4, 3, 1), nn.ConvTranspose2d(3, 3, 3)), (3, 4, 6, 6),
     "1: a transposed 2-d convolution"),
    (nn.Sequential(Pairs()), (3, 4), "0.pairs: the products of _trilinear are not looked into"),
    (Each(), (3, 2, 4), "Each: bmm: a weight of its own for each of 3 matrices"),
    (nn.Sequential(Decides()), (3, 4), "0: does not run without values: DataDependent"),
    (nn.Sequential(nn.Linear(4, 4)), (3, 5), "0: does not run without values: RuntimeError"),
])
def test_what_a_module_lacks_is_named(module, shape, message, caplog):
    with pytest.raises(WorkloadError, match=f"cannot be lowered:\n(?s:.*)  {message}"):
        from_module(module, torch.zeros(shape))
    assert not caplog.records


def test_function_is_loaded_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "wl_example.py").write_text(
        "import torch\n"
        "def network(batch=2, tokens=5):\n"
        "    return torch.nn.Linear(4, 3), torch.zeros(batch, tokens, 4)\n"
        "def nothing():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert load("wl_example:network").layers[0].batch == 10
    workload = load("wl_example:network", 7, 6)
    assert workload.layers[0].batch == 42 and workload.batch == 7
    for text, batch, message in (
            ("wl_example:other", None, "wl_example:other: .*no attribute 'other'"),
            ("wl_missing:f", None, "No module named 'wl_missing'"),
            ("wl_example:nothing", None, "must return a module and its input, got int"),
            ("wl_example:nothing", 4, "cannot be called with {'batch': 4}")):
        with pytest.raises(WorkloadError, match=message):
            load(text, batch)
    assert sys.path == path


# ONNX files -----------------------------------------------------------------------------------------


def model(tmp_path, nodes, inputs, weights):
    """A file of these nodes; ``inputs`` and ``weights`` by name with their shapes."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
              for name, shape in inputs.items()]
    initialisers = [helper.make_tensor(name, TensorProto.FLOAT, shape,
                                       [0.0] * int(torch.Size(shape).numel()))
                    for name, shape in weights.items()]
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", values, [output], initialisers)
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def node(kind, *operands, name="", **attributes):
    return helper.make_node(kind, list(operands[:-1]), [operands[-1]], name or f"{kind}_{operands[-1]}",
                            **attributes)


def test_graph_has_the_products_of_the_same_module(tmp_path):
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.depthwise = nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=8, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.wide, self.head = nn.Linear(64, 32, bias=False), nn.Linear(32, 10)

        def forward(self, x):
            x = self.norm(self.depthwise(self.first(x)))        # [N, 8, 8, 8]
            x = self.wide(x.flatten(2))                         # [N, 8, 32]
            return self.head((x @ x.mT @ x).mean(1))

    path = model(tmp_path, [
        node("Conv", "x", "w1", "b1", "c1", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", "c1", "w2", "c2", group=8, pads=[1, 0, 1, 0]),
        node("BatchNormalization", "c2", "scale", "shift", "mean", "var", "n"),
        node("Reshape", "n", "shape", "r"),
        node("Transpose", "wide", "wide_t", perm=[1, 0]),
        node("MatMul", "r", "wide_t", "l"),
        node("Transpose", "l", "lt", perm=[0, 2, 1]),
        node("MatMul", "l", "lt", "s"),
        node("MatMul", "s", "l", "o"),
        node("ReduceMean", "o", "mean_o", axes=[1], keepdims=0),
        node("Gemm", "mean_o", "head", "bias", "y", transB=1)],
        {"x": ("N", 3, 16, 16)},
        {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 1), "scale": (8,), "shift": (8,), "mean": (8,),
         "var": (8,), "wide": (32, 64), "head": (10, 32), "bias": (10,)})
    proto = onnx.load(path)
    proto.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, (3,), [0, 8, 64]))
    onnx.save(proto, path)
    for batch in (1, 5):
        theirs = from_module(Same(), torch.zeros(batch, 3, 16, 16))
        ours = load(str(path), batch)
        products = [[(p.kind, p.op, p.m, p.n, p.k, p.count) for p in workload.products()]
                    for workload in (theirs, ours)]
        assert products[0] == products[1] and ours.batch == batch
    # Mean and variance are initializers, though no parameters.
    assert ours.weights == sum(p.numel() for p in Same().parameters()) + 16
    assert load(str(path)).batch == 1 and load(str(path)).macs * 5 == ours.macs
    assert [type(layer) for layer in ours.layers] == [
        Convolution, Convolution, Linear, MatMul, MatMul, Linear, Other]


@pytest.mark.parametrize(("attributes", "pads"), [
    ({"auto_pad": "SAME_UPPER"}, (0, 1, 0, 1)), ({"auto_pad": "SAME_LOWER"}, (1, 0, 1, 0)),
    ({"auto_pad": "VALID"}, (0, 0, 0, 0)), ({"pads": [2, 0, 1, 3]}, (0, 3, 2, 1))])
def test_uneven_padding_gives_the_result_of_pytorch(tmp_path, attributes, pads):
    """``pads`` as PyTorch has them: x before and after, then y."""
    path = model(tmp_path, [node("Conv", "x", "w", "y", strides=[2, 2], **attributes)],
                 {"x": (2, 3, 10, 8)}, {"w": (4, 3, 3, 3)})
    y = F.conv2d(F.pad(torch.zeros(2, 3, 10, 8), pads), torch.zeros(4, 3, 3, 3), stride=2)
    layer, = load(str(path)).layers
    assert layer.geometry.y == tuple(y.permute(0, 2, 3, 1).shape)
    assert layer.products()[0].k == 27 and not layer.input_gradient


def test_quantised_graph_is_read(tmp_path):
    """Weights behind DequantizeLinear, and the integer operations; a row of one dimension."""
    path = model(tmp_path, [
        node("DequantizeLinear", "w8", "s", "w"), node("Conv", "x", "w", "c"),
        node("Flatten", "c", "f"), node("QuantizeLinear", "f", "s", "z", "q"),
        node("MatMulInteger", "q", "m8", "y")], {"x": ("N", 2, 9)}, {"s": ()})
    proto = onnx.load(path)
    proto.graph.initializer.extend([
        helper.make_tensor("w8", TensorProto.INT8, (4, 2, 3), [0] * 24),
        helper.make_tensor("z", TensorProto.INT8, (), [0]),
        helper.make_tensor("m8", TensorProto.INT8, (28, 5), [0] * 140)])
    onnx.save(proto, path)
    convolution, matrix = load(str(path), 3).layers
    assert convolution.geometry.y == (3, 1, 7, 4) and convolution.weights == 24
    assert (matrix.batch, matrix.inputs, matrix.outputs, matrix.weights) == (3, 28, 5, 140)


def test_open_axes_are_tokens(tmp_path):
    path = model(tmp_path, [node("MatMul", "x", "w", "y"), node("MatMul", "w2", "y", "z")],
                 {"x": ("N", "T", 8)}, {"w": (8, 6), "w2": (5, 7)})
    first, second = load(str(path), 2, 7).layers
    assert not first.input_gradient and second.input_gradient
    assert first.batch == 14 and (second.batch, second.inputs, second.outputs) == (12, 7, 5)
    with pytest.raises(WorkloadError, match=r"m.onnx: axis 1 of input 'x' is open \(T\): tokens "):
        load(str(path), 2)


X, W = {"x": (2, 3, 8, 8)}, {"w": (3, 3, 3, 3)}


@pytest.mark.parametrize(("nodes", "inputs", "weights", "message"), [
    ([node("ConvTranspose", "x", "w", "y", name="up")], X, W, r"up \(ConvTranspose\): a transposed"),
    ([node("Conv", "x", "w", "y")], {"x": (2, 3, 8, 8, 8)}, {"w": (3, 3, 3, 3, 3)},
     r"Conv_y \(Conv\): a 3-d convolution"),
    ([node("Conv", "x", "v", "y")], X | {"v": (3, 3, 3, 3)}, {},
     "a convolution with filters that are computed"),
    ([node("LSTM", "x", "w", "r", "y", name="rnn", hidden_size=4)], {"x": (5, 2, 3)},
     {"w": (1, 16, 3), "r": (1, 16, 4)}, r"rnn \(LSTM\): a recurrent layer"),
    ([node("Einsum", "x", "y", equation="nchw->ncw")], X, {}, r"\(Einsum\): its equation"),
    ([node("FusedMatMul", "x", "x", "y", domain="com.microsoft")], X, {},
     r"\(FusedMatMul\): what it multiplies is not known: it is of the domain 'com.microsoft'"),
    ([node("NonZero", "x", "i"), node("Cast", "i", "c", to=1), node("MatMul", "c", "x", "y")],
     {"x": (4, 4)}, {}, r"MatMul_y \(MatMul\): the shape of 'c' is not known"),
    ([node("Conv", "x", "w", "y")], {"x": (2, 3, 2, 8)}, W, "filter is larger than the padded image"),
    ([node("MatMul", "x", "w", "y")], {"x": (4, 5, 3)}, {"w": (4, 3, 2)},
     "a weight of its own for each of 4 matrices"),
])
def test_node_that_cannot_be_lowered_is_named(tmp_path, nodes, inputs, weights, message):
    path = model(tmp_path, nodes, inputs, weights)
    with pytest.raises(WorkloadError, match=f"m.onnx cannot be lowered:\n(?s:.*){message}"):
        load(str(path))


def test_bad_onnx_file_is_named(tmp_path, monkeypatch):
    path = model(tmp_path, [node("Conv", "x", "w", "y")], X, W)
    with pytest.raises(WorkloadError, match="input 'x' has a batch of 2, which cannot be set to 3"):
        load(str(path), 3)
    assert load(str(path), 2).batch == load(str(path)).batch == 2
    relu = model(tmp_path, [node("Relu", "x", "y")], X, {})
    with pytest.raises(WorkloadError, match="m.onnx: no products"):
        load(str(relu))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(WorkloadError, match="needs the package onnx"):
        load(str(path))
    monkeypatch.undo()
    path.write_bytes(b"no protobuf")
    with pytest.raises(WorkloadError, match="m.onnx: no ONNX file"):
        load(str(path))
    with pytest.raises(FileNotFoundError):
        load(str(tmp_path / "missing.onnx"))


# Topology files, and what is none of them -----------------------------------------------------------

CONVOLUTIONS = ("Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, "
                "Num Filter, ")


def test_topology_has_layers_at_any_batch(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\ufeff" + CONVOLUTIONS + "Strides, \nConv1  ,224,220,7,5,3,64,2,\n")
    one, eight = load(str(path)), load(str(path), 8)
    assert (one.batch, eight.batch) == (1, 8) and eight.macs == 8 * one.macs
    assert one.weights == eight.weights == 64 * 7 * 5 * 3
    path.write_text(CONVOLUTIONS + "Stride Height, Stride Width\nc,9,9,3,3,2,4,2,1\n")
    layer, = topology.read(path).layers
    assert layer.geometry.y == (1, 4, 7, 4)
    path.write_text("Layer,M,N,K,\na,10,20,30,\n")
    assert load(str(path)).layers == (Linear("a", 10, 30, 20),)


@pytest.mark.parametrize(("text", "batch", "tokens", "message"), [
    ("Layer,M,N,K,\na,1,1,1,\n", 2, None, "t.csv: M of its products holds the batch, .* set to 2"),
    ("Layer,M,N,K,\na,1,1,1,\n", None, 2, "t.csv: a topology file has no tokens, got tokens=2"),
    (CONVOLUTIONS + "Strides,\nc,4,4,3,3,1,x,1,\n", None, None,
     "t.csv, line 2: sizes must be .* column 'num filter' is 'x'"),
])
def test_bad_topology_is_named(tmp_path, text, batch, tokens, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=message):
        load(str(path), batch, tokens)


@pytest.mark.parametrize(("text", "batch", "message"), [
    ("alexnte", None, "no workload 'alexnte', did you mean 'alexnet'\\? Known are lenet5, alexnet, .*"
                      "or a file .csv or .onnx, or package.module:function"),
    ("xyzzy", None, "no workload 'xyzzy'. Known are"),
    ("alexnet", 0, "batch must be at least 1, got 0")])
def test_unknown_workload_is_named(text, batch, message):
    with pytest.raises(WorkloadError, match=message):
        load(text, batch)
