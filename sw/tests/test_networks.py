"""Known networks: their tables give the published counts, and the products of PyTorch's modules."""

import json

import pytest
import torch
from torch import nn

from backbeat.train.networks import Gpt
from backbeat.train.tasks import TASKS
from backbeat.workloads import (
    NETWORKS,
    Attention,
    Convolution,
    Geometry,
    Linear,
    MatMul,
    Other,
    WorkloadError,
)
from backbeat.workloads.importers.pytorch import from_module
from backbeat.workloads.ours import TASKS as OURS
from backbeat.workloads.transformers import Transformer

#: What others count, to the last parameter: torchvision 0.2x (`num_params`), the checkpoints of Hugging
#: Face, and LeNet-5 and AlexNet worked out by hand.
WEIGHTS = {"lenet5": 61_706, "alexnet": 60_965_224, "vgg16": 138_357_544, "resnet50": 25_557_032,
           "squeezenet": 1_248_424, "mobilenet-v2": 3_504_872, "bert-base": 109_482_240,
           "bert-large": 335_141_888, "llama-7b": 6_738_415_616}

#: {name: (least and largest of our weights, and of our MACs, by the published ones)}.
TOLERANCE = {
    "lenet5":       ((1.02, 1.04), (1.20, 1.24)),
    "alexnet":      ((0.99, 1.01), (0.999, 1.001)),
    "vgg16":        ((0.99, 1.01), (0.99, 1.01)),
    "googlenet":    ((0.99, 1.01), (1.00, 1.01)),
    "resnet50":     ((0.99, 1.01), (0.98, 1.00)),
    "squeezenet":   ((0.99, 1.01), (0.99, 1.01)),
    "mobilenet-v2": ((1.03, 1.04), (0.99, 1.01)),
    "bert-base":    ((0.99, 1.01), (0.90, 0.92)),
    "bert-large":   ((0.98, 1.00), (1.27, 1.29)),
    "llama-7b":     ((0.99, 1.01), (1.14, 1.15)),
    "gpt-3":        ((0.99, 1.01), (0.92, 0.93)),
}


def shapes(workload):
    """(M, N, K) and how often, of the forward products; those of 1x1 maps are Linear as well."""
    return [(p.m, p.n, p.k, p.count) for p in workload.products(training=False)]


@pytest.mark.parametrize("name", TOLERANCE)
def test_counts_are_the_published_ones_within_what_the_documentation_says(name):
    network = NETWORKS[name]
    workload = network.at()
    for (least, most), ours, theirs in zip(TOLERANCE[name], (workload.weights, workload.macs),
                                           (network.published.weights, network.published.macs),
                                           strict=True):
        assert least <= ours / theirs <= most
    assert workload.weights == WEIGHTS.get(name, workload.weights)
    assert {name for name, network in NETWORKS.items() if network.published} == TOLERANCE.keys()


def test_alexnet_has_the_macs_of_its_two_halves():
    layers = NETWORKS["alexnet"].at().layers
    macs = {kind: sum(layer.macs for layer in layers if isinstance(layer, kind))
            for kind in (Convolution, Linear)}
    assert macs == {Convolution: 665_784_864, Linear: 58_621_952}


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_multiplies_macs_and_feature_maps_and_no_weights(name):
    one, three = NETWORKS[name].at(1), NETWORKS[name].at(3)
    assert (three.batch, three.macs, three.weights) == (3, 3 * one.macs, one.weights)
    for a, b in zip(one.layers, three.layers, strict=True):
        assert (b.name, b.weights, b.macs) == (a.name, a.weights, 3 * a.macs)
        assert (b.input_elements, b.output_elements) == (3 * a.input_elements, 3 * a.output_elements)


@pytest.mark.parametrize("name", [name for name in TOLERANCE if NETWORKS[name].tokens is None])
def test_layers_of_a_chain_fit_together(name):
    """What a layer gives is what a later one takes: branches begin and end in such a place."""
    layers = NETWORKS[name].at(2).layers
    given = {2 * 3 * 224**2, 2 * 3 * 227**2, 2 * 32**2}
    joined = 0
    for layer in layers:
        # The outputs of branches are joined along the channels, or added.
        joined += layer.output_elements
        assert layer.input_elements in given or layer.input_elements <= joined
        given.add(layer.output_elements)
    assert layers[-1].output_elements == 2 * (10 if name == "lenet5" else 1000)


def vgg16():
    layers, channels = [], 3
    for k in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(channels, k, 3, padding=1), nn.ReLU()] if k else [nn.MaxPool2d(2)]
        channels = k or channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(),
                         nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))


def alexnet():
    def block(c, k, taps, *options, groups=1, pool=False):
        return [nn.Conv2d(c, k, taps, *options, groups=groups), nn.ReLU(), *[nn.MaxPool2d(3, 2)] * pool]

    return nn.Sequential(
        *block(3, 96, 11, 4, pool=True), *block(96, 256, 5, 1, 2, groups=2, pool=True),
        *block(256, 384, 3, 1, 1), *block(384, 384, 3, 1, 1, groups=2),
        *block(384, 256, 3, 1, 1, groups=2, pool=True), nn.Flatten(), nn.Linear(9216, 4096),
        nn.Linear(4096, 4096), nn.Linear(4096, 1000))


class Bottleneck(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.shortcut = (nn.Sequential(nn.Conv2d(c, 4 * k, 1, stride, bias=False), nn.BatchNorm2d(4 * k))
                         if c != 4 * k else nn.Identity())
        self.body = nn.Sequential(
            nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k), nn.ReLU(),
            nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k), nn.ReLU(),
            nn.Conv2d(k, 4 * k, 1, bias=False), nn.BatchNorm2d(4 * k))

    def forward(self, x):
        return nn.functional.relu(self.shortcut(x) + self.body(x))


def resnet50():
    blocks, c = [], 64
    for k, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(depth):
            blocks.append(Bottleneck(c, k, 1 if number else stride))
            c = 4 * k
    return nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                         nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(2048, 1000))


class Inverted(nn.Module):
    def __init__(self, c, k, expansion, stride):
        super().__init__()
        wide = c * expansion
        narrow = [nn.Conv2d(c, wide, 1, bias=False), nn.BatchNorm2d(wide)] if expansion > 1 else []
        self.body = nn.Sequential(
            *narrow, nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.Conv2d(wide, k, 1, bias=False), nn.BatchNorm2d(k))

    def forward(self, x):
        return self.body(x)


def mobilenet_v2():
    blocks, c = [], 32
    for line in ("1 16 1 1", "6 24 2 2", "6 32 3 2", "6 64 4 2", "6 96 3 1", "6 160 3 2", "6 320 1 1"):
        t, k, n, s = map(int, line.split())
        for number in range(n):
            blocks.append(Inverted(c, k, t, 1 if number else s))
            c = k
    return nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), *blocks,
                         nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


@pytest.mark.parametrize(("name", "make", "size"), [
    ("alexnet", alexnet, 227), ("vgg16", vgg16, 224), ("resnet50", resnet50, 224),
    ("mobilenet-v2", mobilenet_v2, 224)])
def test_table_is_the_network_of_pytorch(name, make, size):
    """Product by product, from modules that take no memory."""
    with torch.device("meta"):
        module, x = make(), torch.empty(2, 3, size, size)
    theirs, ours = from_module(module, x), NETWORKS[name].at(2)
    assert shapes(theirs) == shapes(ours)
    assert theirs.weights == ours.weights == sum(p.numel() for p in module.parameters())
    training = [[(p.kind, p.m, p.n, p.k, p.count) for p in w.products()] for w in (theirs, ours)]
    assert training[0] == training[1]


def test_transformer_is_that_of_pytorch():
    """A small one of the same class as GPT-3, but for one matrix for Q, K and V."""
    with torch.device("meta"):
        module = Gpt(vocabulary=50, context=24, width=32, heads=4, blocks=3)
        x = torch.empty(2, 16, dtype=torch.int64)
    theirs = from_module(module, x)
    ours = Transformer(50, blocks=3, width=32, heads=4, hidden=128, positions=24)(2, 16)
    assert theirs.macs == sum(layer.total_macs for layer in ours)
    assert theirs.weights == sum(layer.total_weights for layer in ours)
    assert theirs.weights == sum(p.numel() for p in module.parameters())


def test_macs_of_a_transformer_follow_the_formula():
    length, d, f, v, blocks = 384, 4096, 11_008, 32_000, 32
    assert NETWORKS["llama-7b"].at(1, length).macs == (
        blocks * (4 * d**2 * length + 2 * length**2 * d + 3 * d * f * length) + d * v * length)
    length, d, f, blocks = 128, 768, 3072, 12
    assert NETWORKS["bert-base"].at(1, length).macs == (
        blocks * (4 * d**2 * length + 2 * length**2 * d + 2 * d * f * length) + d**2)


def test_repeated_layer_counts_as_often():
    once, often = Linear("l", 5, 7, 3, bias=True), Linear("l", 5, 7, 3, bias=True, repeat=96)
    assert often.macs == once.macs == 5 * 7 * 3 and often.weights == once.weights == 3 * 7 + 3
    assert often.total_macs == 96 * once.macs and often.total_weights == 96 * once.weights
    assert [p.count for p in often.products()] == [96, 96, 96]
    assert sum(p.total_macs for p in often.products()) == 3 * often.total_macs


def test_groups_are_products_of_their_own():
    x, w = torch.empty(2, 8, 9, 9), torch.empty(12, 2, 3, 3)
    y = nn.functional.conv2d(x, w, groups=4)
    layer = Convolution("c", Geometry(2, 9, 9, 2, 3, 3, 3), groups=4, bias=True)
    assert (layer.input_elements, layer.output_elements) == (x.numel(), y.numel())
    assert layer.weights == w.numel() + 12 and layer.macs == y.numel() * w[0].numel()
    assert {p.count for p in layer.products()} == {4}


def test_attention_counts_sequences_heads_and_full_squares():
    layer = Attention("a", heads=3, tokens=10, width=4, keys=7, value_width=5, batch=2)
    q, k, v = torch.empty(2, 3, 10, 4), torch.empty(2, 3, 7, 4), torch.empty(2, 3, 7, 5)
    out = nn.functional.scaled_dot_product_attention(q, k, v)
    assert layer.output_elements == out.numel() and layer.score_elements == 2 * 3 * 10 * 7
    assert layer.input_elements == q.numel() + k.numel() + v.numel()
    assert layer.macs == 2 * 3 * 10 * 7 * (4 + 5)
    # Each gradient has the MACs of one of the two, and the shape of what it is of.
    assert sum(p.total_macs for p in layer.products()) == 3 * layer.macs
    by_name = {p.name.split()[1]: (p.m, p.n) for p in layer.products()}
    assert by_name == {"S": (10, 7), "O": (10, 5), "dP": (10, 7), "dV": (7, 5), "dQ": (10, 4),
                       "dK": (7, 4)}


def test_product_of_feature_maps_has_no_weights():
    layer = MatMul("m", 4, 5, 6, count=3)
    assert layer.weights == 0 and layer.macs == 3 * 4 * 5 * 6
    assert (layer.input_elements, layer.output_elements) == (3 * (4 + 5) * 6, 3 * 4 * 5)
    assert [(p.op, p.m, p.n) for p in layer.products()] == [("nn", 4, 5), ("nt", 4, 6), ("tn", 6, 5)]


def test_own_networks_are_those_that_are_trained():
    assert set(OURS) <= set(TASKS)
    for name in OURS:
        expected = sum(p.numel() for p in TASKS[name].network().parameters())
        assert NETWORKS[name].at(4).weights == expected, name
    assert NETWORKS["digits-mlp"].at(1).macs == 64 * 128 + 128 * 64 + 64 * 10


@pytest.mark.parametrize(("make", "message"), [
    (lambda: NETWORKS["bert-base"].at(1, 513), "tokens must be at most 512, .* got 513"),
    (lambda: NETWORKS["vgg16"].at(1, 7), "VGG-16 has no tokens, got tokens=7"),
    (lambda: Attention("a", 0, 4, 4), "a: heads must be at least 1, got 0"),
    (lambda: Linear("l", 4, 4, 4, repeat=0), "l: repeat must be at least 1, got 0"),
    (lambda: Other("o", "pooling", 1, 1, weights=-1), "o: weights must be at least 0, got -1"),
])
def test_impossible_size_is_named(make, message):
    with pytest.raises(WorkloadError, match=message):
        make()


def test_command_lists_all_networks(run):
    code, out, _ = run("workloads", "--json", "-")
    rows = {row["name"]: row for row in json.loads(out)["workloads"]}
    assert code == 0 and list(rows) == list(NETWORKS)
    assert rows["gpt-3"]["macs"] == NETWORKS["gpt-3"].at(1).macs
    assert rows["alexnet"]["published"]["macs"] == 724e6 and rows["mlp"]["published"] is None
    code, out, _ = run("workloads")
    assert code == 0 and all(f" {name} " in out for name in NETWORKS)
    assert "724.41 M" in out and "174.60 G" in out


def test_command_lists_the_products_of_one(run):
    code, out, _ = run("workloads", "alexnet", "--batch", 4, "--json", "-")
    figures = json.loads(out)
    assert code == 0 and figures["batch"] == 4 and figures["macs"] == 4 * NETWORKS["alexnet"].at(1).macs
    conv2 = next(layer for layer in figures["layers"] if layer["name"] == "conv2")
    assert conv2["products"][0] == {"name": "conv2", "kind": "forward", "op": "nt", "m": 4 * 27**2,
                                    "n": 128, "k": 1200, "count": 2, "macs": 4 * 27**2 * 128 * 1200}
    assert [p["kind"] for p in conv2["products"]] == ["forward", "input gradient", "weight gradient"]
    code, out, _ = run("workloads", "gpt-3", "--tokens", 64)
    assert code == 0 and "Q K^T" in out and "9,216" in out      # 96 heads of 96 blocks


def test_command_refuses_in_one_line(run):
    code, out, err = run("workloads", "resnet-50")
    assert code == 1 and not out and err.count("\n") == 1
    assert "no workload 'resnet-50', did you mean 'resnet50'? Known are lenet5, alexnet" in err
    code, _, err = run("workloads", "--batch", 4)
    assert code == 1 and "--batch and --tokens are for one workload" in err
