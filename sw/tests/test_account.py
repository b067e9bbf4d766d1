"""The memory account against bytes and MACs counted by hand."""

import json

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import backbeat
from backbeat.torch import offload
from backbeat.train.account import OUTSIDE, account
from backbeat.train.account_plot import plot

#: Of a loss over 8 examples of 5 classes: logarithms of the shares, labels, the sum of their weights.
LOSS = [8 * 5 * 4, 8 * 8, 4]


def measure(model, x, forward=None, macs=None, optimiser=None):
    optimiser = optimiser or torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    y = torch.arange(len(x)) % 5

    def step():
        optimiser.zero_grad()
        F.cross_entropy((forward or model)(x), y).backward()
        optimiser.step()

    return account(model, step, macs, optimiser)


def mlp():
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 5))


#: MACs of its three products, forwards; each is as much again per gradient.
A, B, C = 8 * 20 * 30, 8 * 30 * 30, 8 * 30 * 5


def figures(result, *names):
    return {layer.layer: tuple(getattr(layer, name) for name in names) for layer in result.layers}


def maps(result, outside=False):
    return [(m.layer, m.shape, m.bytes, m.distance) for m in result.maps
            if outside or m.layer != OUTSIDE]


def test_mlp_is_as_counted_by_hand():
    result = measure(mlp(), torch.randn(8, 20))
    weights = {"0": 21 * 30, "2": 31 * 30, "4": 31 * 5}
    kept = {"0": 8 * 20, "1": 8 * 30, "3": 8 * 30}
    assert figures(result, "feature_maps", "recomputed", "weights", "gradients", "optimiser_state") == {
        layer: (4 * kept.get(layer, 0), 0, *[4 * weights.get(layer, 0)] * 3) for layer in "01234"
    } | {OUTSIDE: (sum(LOSS), 0, 0, 0, 0)}
    assert [layer.layer for layer in result.layers] == [*"01234", OUTSIDE]
    # The outputs of a ReLU are wanted first by the layer behind it, which makes both gradients of its
    # own then; the input by the first layer at last.
    assert maps(result) == [("0", (8, 20), 640, A + B + C + 2 * C + 2 * B),
                            ("1", (8, 30), 960, B + C + 2 * C),
                            ("3", (8, 30), 960, C)]
    assert result.macs == 3 * (A + B + C) - A       # no gradient of the input
    assert result.peak == result.total("feature_maps") == 640 + 960 + 960 + sum(LOSS)
    assert result.total("weights") == 4 * sum(weights.values())


def test_cnn_is_as_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                          nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5))
    result = measure(model, torch.randn(8, 1, 8, 8))
    pixels = 8 * 8 * 8
    assert figures(result, "feature_maps", "weights") == {
        "0": (pixels * 4, 4 * 9 * 4),
        "1": (pixels * 4 * 4 + 2 * 4 * 4, 2 * 4 * 4),      # its input, mean and deviation of a channel
        "2": (pixels * 4 * 4, 0),
        "3": (pixels // 4 * 4 * 8, 0),                     # which of the four was the largest, int64
        "5": (8 * 64 * 4, 65 * 5 * 4),
        OUTSIDE: (sum(LOSS), 0)}
    conv, linear = pixels * 9 * 4, 8 * 64 * 5
    assert result.macs == 2 * conv + 3 * linear
    distance = {m.layer: m.distance for m in result.maps}
    assert distance["0"] == conv + 3 * linear and distance["2"] == 3 * linear and distance["5"] == linear


def test_offloaded_model_keeps_the_same(monkeypatch):
    model, x = mlp(), torch.randn(8, 20)
    plain = measure(model, x)
    with backbeat.open("model", "4x4") as acc:
        offload(model, acc)
        result = measure(model, x, macs=lambda: acc.stats.macs)
    assert [m[:3] for m in maps(result, True)] == [m[:3] for m in maps(plain, True)]
    assert figures(result, "feature_maps", "gradients") == figures(plain, "feature_maps", "gradients")
    assert result.macs == plain.macs and result.peak == plain.peak
    # Here a product is complete when its operands are kept.
    assert [m[3] for m in maps(result)] == [B + C + 2 * C + 2 * B, C + 2 * C, 0]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.relu, self.head = nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 5)

    def forward(self, x):
        return self.head(self.relu(self.layer(self.relu(self.layer(x)))))


def test_layer_used_twice_keeps_both_and_has_its_weights_once():
    result = measure(Twice(), torch.randn(8, 20))
    assert figures(result, "feature_maps", "weights", "gradients", "optimiser_state") == {
        "layer": (640, *[21 * 20 * 4] * 3), "relu": (2 * 640, 0, 0, 0), "head": (0, *[21 * 5 * 4] * 3),
        OUTSIDE: (sum(LOSS), 0, 0, 0)}
    layer, head = 8 * 20 * 20, 8 * 20 * 5
    assert [m[3] for m in maps(result)] == [2 * layer + head + 2 * head + 2 * layer,
                                           layer + head + 2 * head, head]


def test_storage_counts_once_and_whole():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(10, 5), nn.Linear(10, 5)

        def forward(self, x):
            return self.a(x[:, :10]) + self.b(x[:, 10:])

    result = measure(Halves(), torch.randn(8, 20))
    assert maps(result)[0] == ("a", (8, 10), 8 * 20 * 4, 400) and len(maps(result)) == 1
    assert result.maps[0].saved == 400      # once more by b, which is the first to use it


def test_tied_weights_frozen_ones_and_adams_state():
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False), nn.Linear(6, 5))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    result = measure(model, torch.randn(8, 6), optimiser=optimiser)
    # Two moments, and a float32 that counts the steps.
    assert {k: v for k, v in figures(result, "weights", "gradients", "optimiser_state").items()
            if any(v)} == {"0": (144, 144, 2 * 144 + 4), "2": (30 * 4 + 20, 20, 2 * 20 + 4)}


def test_gradients_are_seen_before_the_step_clears_them():
    model, x = nn.Linear(6, 5), torch.randn(8, 6)

    def step():
        model(x).sum().backward()
        model.zero_grad()

    assert figures(account(model, step), "gradients", "optimiser_state") == {"Linear": (35 * 4, 0)}


def test_checkpointing_is_counted_from_the_recomputation_on():
    model = mlp()
    result = measure(model, torch.randn(8, 20),
                     lambda x: model[4](checkpoint(model[:4], x, use_reentrant=False)))
    # The output of the part lies in memory twice, but not at once: its first copy was for layer 4.
    assert figures(result, "feature_maps", "recomputed") == {
        "0": (0, 0), "1": (0, 960), "2": (0, 0), "3": (0, 960), "4": (960, 0),
        OUTSIDE: (640 + sum(LOSS), 0)}
    assert result.peak == 640 + 960 + 960
    assert result.macs == 3 * (A + B + C) - A + A + B
    again = {m.layer: m for m in result.maps if m.recomputed}
    assert again["1"].saved == A + B + C + 2 * C + A     # by the first layer's second product
    assert again["1"].distance == B and again["3"].distance == 0


@pytest.mark.parametrize("nested", [False, True])
def test_checkpointing_saves_feature_maps(nested):
    def part(layers):
        return lambda x: checkpoint(layers, x, use_reentrant=False)

    torch.manual_seed(0)
    model, x = nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(30, 30), nn.Tanh())),
                             nn.Linear(30, 5)), torch.randn(8, 30)

    def forward(x):
        for start in range(0, 16, 4):
            inner = (lambda x, s=start: part(model[s + 2:s + 4])(model[s:s + 2](x))) if nested else (
                model[start:start + 4])
            x = part(inner)(x)
        return model[16](x)

    plain, saving = measure(model, x), measure(model, x, forward)
    assert plain.peak == 9 * 960 + sum(LOSS)
    # Inputs of the four parts and what one of them has inside. (Of a nested one less.)
    assert 4 * 960 + sum(LOSS) <= saving.peak <= 7 * 960
    assert saving.total("feature_maps") == 5 * 960 + sum(LOSS)
    assert all(m.distance >= 0 for m in saving.maps if m.distance is not None)


def test_reentrant_checkpointing_is_counted_when_it_keeps():
    model = mlp()
    result = measure(model, torch.randn(8, 20), lambda x: model[4](
        checkpoint(model[2:4], model[:2](x), use_reentrant=True)))
    late = [m for m in result.maps if m.layer == "3"]
    assert [(m.bytes, m.saved) for m in late] == [(960, A + B + C + 2 * C + B)]
    assert result.peak == 640 + 960 + 960 + sum(LOSS)
    # That of layer 1 is the input of the recomputation, which keeps it once more when it has begun.
    assert [m[3] for m in maps(result)] == [A + B + 3 * C + B + 2 * B, 3 * C, C, 0]


def test_what_is_kept_again_later_is_another_map():
    model, x = mlp(), torch.randn(8, 20)

    def step():
        for _ in "ab":
            model(x).sum().backward()

    result = account(model, step)
    once = [("0", (8, 20), 640, A + B + C + 2 * C + 2 * B), ("1", (8, 30), 960, B + C + 2 * C),
            ("3", (8, 30), 960, C)]
    assert maps(result) == 2 * once and result.peak == 640 + 960 + 960


def test_hooks_of_others_count_what_they_keep():
    model = mlp()

    def halved(x):
        half = torch.autograd.graph.saved_tensors_hooks(
            lambda x: (x.half() if x.dtype == torch.float32 else x,), lambda packed: packed[0].float())
        with half:
            return model(x)

    assert figures(measure(model, torch.randn(8, 20), halved), "feature_maps")["1"] == (8 * 30 * 2,)


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_measuring_changes_no_bit(reentrant):
    gradients = []
    for measured in (False, True):
        torch.manual_seed(0)
        model, x = mlp(), torch.randn(8, 20, requires_grad=True)

        def step(model=model, x=x):
            y = model(x) if reentrant is None else model[3:](checkpoint(model[:3], x,
                                                                        use_reentrant=reentrant))
            y.square().sum().backward()

        account(model, step) if measured else step()
        gradients.append([x.grad, *(p.grad for p in model.parameters())])
    for plain, seen in zip(*gradients, strict=True):
        assert torch.equal(plain, seen)


def test_nothing_stays_behind():
    hooks = torch.autograd.graph.saved_tensors_hooks
    original, model = hooks.__init__, mlp()

    def fail():
        model(torch.randn(8, 20)).sum().backward()
        raise KeyError

    for step in (fail, lambda: model(torch.randn(8, 20)).sum().backward()):
        try:
            account(model, step)
        except KeyError:
            pass
        assert hooks.__init__ is original
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    y = model[0](torch.randn(8, 20))
    assert type(y.grad_fn._saved_mat1) is torch.Tensor


def test_table_dict_and_picture_have_every_layer():
    result = measure(mlp(), torch.randn(8, 20))
    plain = json.loads(json.dumps(result.as_dict()))
    assert plain["peak"] == result.peak and plain["totals"]["feature_maps"] == 2560 + sum(LOSS)
    assert [layer["layer"] for layer in plain["layers"]] == [*"01234", OUTSIDE]
    assert plain["layers"][0]["distance"] == plain["maps"][0]["distance"] == result.distance("0")
    console = Console(width=150, record=True, file=open("/dev/null", "w"))
    console.print(result.table())
    text = console.export_text()
    assert OUTSIDE in text and f"{result.distance('0'):,}" in text and "at most 2.8 kB" in text
    assert plot(result).startswith(b"\x89PNG")
