"""What becomes of a model that is offloaded, and what is left to PyTorch."""

import copy
import warnings
from functools import partial

import pytest
import torch
from offload_cases import Call, SelfAttention, relative
from torch import nn
from torch.nn import functional as F
from torch.overrides import get_testing_overrides
from torch.utils.checkpoint import checkpoint

from backbeat.torch import NEAREST, STOCHASTIC, Operand, Recipe, offload
from backbeat.torch.operations import OPERATIONS


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.table = nn.Embedding(8, 8)
        self.recurrent = nn.LSTM(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.act = nn.ReLU()
        self.double = nn.Linear(8, 8).double()
        self.head = nn.Linear(8, 2)
        self.tied = self.head


def test_report_lists_what_stays_on_the_host(acc):
    model = Odd()
    keys, classes = list(model.state_dict()), [type(m) for m in model.modules()]
    report = offload(model, acc, overrides={"st*": "int8_dw16"})
    assert report.offloaded == ["stem", "attention", "head"]
    assert report.host == {
        "depthwise": "a depthwise convolution: one channel per group leaves the array empty",
        "norm": "BatchNorm2d is not offloaded", "table": "Embedding is not offloaded",
        "recurrent": "LSTM is not offloaded", "double": "weights of torch.float64",
    }
    assert str(report).splitlines()[2:4] == [
        "head: accelerator",
        "depthwise: host, a depthwise convolution: one channel per group leaves the array empty"]
    assert list(model.state_dict()) == keys and [type(m) for m in model.modules()] == classes


class Functional(nn.Module):
    """Products that are no layers, in a module of their own."""

    def __init__(self):
        super().__init__()
        self.inner = Call(lambda x: torch.einsum("ij,kj->ik", x, x) @ x)
        self.wide = Call(lambda x: (x.double() @ x.T.double()).float())

    def forward(self, x):
        return self.inner(x) + self.wide(x) + x @ x.T


def test_report_grows_with_what_the_model_does(acc):
    model = Functional()
    report = offload(model, acc)
    assert not report.offloaded and not report.host
    model(torch.ones(3, 3))
    assert report.offloaded == ["inner.matmul", "matmul"]
    assert report.host == {"inner.einsum": "einsum is not offloaded",
                           "wide.matmul": "operands of torch.float64"}


@pytest.mark.parametrize("spoil", [
    lambda: (nn.Linear(3, 2).double(), torch.ones(2, 3, dtype=torch.float64)),
    lambda: (nn.Linear(3, 2), torch.ones(0, 3)),
    lambda: (nn.Conv2d(3, 3, 1, groups=3), torch.ones(1, 3, 2, 2)),
    lambda: (Call(lambda x: x @ x), torch.eye(3, dtype=torch.int64)),
    lambda: (Call(lambda x: x @ x.to_dense()), torch.eye(3).to_sparse()),
], ids=["float64", "empty", "depthwise", "integers", "sparse"])
def test_what_is_not_supported_is_left_to_pytorch(acc, products, spoil):
    model, x = spoil()
    expected = model(x)
    offload(model, acc)
    assert torch.equal(model(x), expected) and not products


def test_autocast_does_not_reach_the_accelerator(acc):
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    offload(layer, acc)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), expected)
        assert torch.equal(layer(x.bfloat16()), layer(x.bfloat16().float()))


def test_wrong_shapes_raise_what_pytorch_raises(acc):
    for model, x in ((nn.Linear(3, 2), torch.ones(2, 4)), (nn.Conv2d(3, 2, 3), torch.ones(1, 2, 5, 5)),
                     (nn.Conv2d(3, 2, 3), torch.ones(1, 3, 2, 2)), (Call(lambda x: x @ x),
                                                                    torch.ones(2, 3)),
                     (Call(lambda x: x @ x[0, 0]), torch.ones(2, 2))):
        with pytest.raises(RuntimeError) as expected:
            model(x)
        offload(model, acc)
        with pytest.raises(RuntimeError) as got:
            model(x)
        assert str(got.value) == str(expected.value)


@pytest.mark.parametrize(("layer", "shape"), [
    (nn.Linear(3, 4, bias=False), (5, 2, 3)), (nn.Conv2d(3, 4, 3, bias=False), (2, 3, 6, 6)),
    (nn.Conv2d(4, 4, 3, groups=2, bias=False), (2, 4, 6, 6)),
    (nn.Conv2d(3, 4, 3, bias=False), (3, 6, 6)), (nn.ConvTranspose1d(3, 4, 3, bias=False), (5, 3, 7)),
], ids=["linear", "convolution", "groups", "single", "transposed"])
def test_an_activation_may_work_in_place(acc, layer, shape):
    x, results = torch.randn(shape), []
    for inplace in (False, True):
        model = nn.Sequential(copy.deepcopy(layer), nn.ReLU(inplace))
        offload(model, acc)
        y = model(x)
        y.sum().backward()
        results.append((y.detach(), model[0].weight.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other) and one.any()


def test_arguments_that_we_do_not_know_are_left_to_pytorch(acc, products):
    a = torch.randn(3, 3)
    for call, expected in ((lambda a: torch.matmul(a, a, out=torch.empty(3, 3)), a @ a),
                           (lambda a: torch.mm(a, mat2=a), a @ a),
                           (lambda a: torch.baddbmm(a[None], batch1=a[None], batch2=a[None]),
                            (a + a @ a)[None])):
        model = Call(call)
        report = offload(model, acc)
        torch.testing.assert_close(model(a), expected)
        assert list(report.host) == ["matmul"] and report.host["matmul"].startswith("called with ")
    assert not products


def test_a_hook_that_raises_leaves_no_trace(acc, products):
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))

    def broken(*_):
        raise RuntimeError("a hook of the user's")

    handles = [module.register_forward_pre_hook(broken) for module in (model, model[1], model[1][0])]
    offload(model, acc)
    for handle in handles:
        with warnings.catch_warnings(), pytest.raises(RuntimeError, match="a hook of the user's"):
            warnings.simplefilter("error")
            model(torch.ones(2, 3))
        handle.remove()
    del products[:]
    torch.ones(2, 3) @ torch.ones(3, 2)
    assert not products
    model(torch.ones(2, 3))
    assert len(products) == 3


def test_nothing_is_caught_outside_of_the_model(acc, products):
    model = nn.Linear(3, 3)
    offload(model, acc)
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 5))
    torch.ones(2, 3) @ torch.ones(3, 2)
    assert not products
    model(torch.ones(2, 3))
    assert len(products) == 1


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_bit(acc, reentrant):
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        block = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        model = Call(partial(checkpoint, block, use_reentrant=reentrant) if recompute else block)
        model.block = block
        offload(model, acc, seed=3)
        x = torch.randn(5, 6, requires_grad=True)
        model(x).square().sum().backward()
        results.append([x.grad, *(p.grad for p in block.parameters())])
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


def test_weights_that_are_shared_get_all_their_gradients(acc):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 6)
            self.twice = nn.Linear(6, 6)

        def forward(self, x):
            return F.linear(self.twice(self.twice(self.table(x))), self.table.weight)

    torch.manual_seed(0)
    model, x = Tied(), torch.arange(7)
    exact = copy.deepcopy(model).double()
    report = offload(model, acc)
    for m in (model, exact):
        m(x).square().sum().backward()
    for got, expected in zip(model.parameters(), exact.parameters(), strict=True):
        assert relative(got.grad, expected.grad) < 0.03
    assert report.offloaded == ["twice", "linear"]


def test_overrides_choose_recipes_by_name(acc, products):
    model = nn.Sequential()
    model.first, model.second, model.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    report = offload(model, acc, overrides={"head": "fp32", "s*": "int8_dw16", "*": "int8"})
    assert report.offloaded == ["first", "second"] and report.host == {"head": "recipe fp32"}
    model(torch.randn(3, 4)).sum().backward()
    assert [p.op for p in products] == ["nt", "nt", "nn", "tn", "tn", "tn"]


def test_overrides_reach_the_parts_of_an_attention(acc, products):
    model = nn.Sequential()
    model.inner = SelfAttention()
    report = offload(model, acc, overrides={"*.scores": "fp32"})
    model(torch.randn(3, 9, 16))
    assert report.host == {"inner.inner.attention.scores": "recipe fp32"}
    assert [type(p).__name__ for p in products] == ["Gemm", "Bmm", "Gemm"]


def test_copy_of_a_model_shares_the_accelerator(acc, products):
    layer = nn.Linear(3, 4)
    offload(layer, acc)
    twin = copy.deepcopy(layer)
    assert twin.weight is not layer.weight
    assert torch.equal(twin(torch.ones(1, 3)), layer(torch.ones(1, 3))) and len(products) == 2


def test_observer_sees_every_operand(acc):
    model, seen = nn.Sequential(nn.Linear(5, 4)), []
    offload(model, acc).state.observer = seen.append
    x = torch.randn(3, 5, requires_grad=True)
    model(x).sum().backward()
    assert [(o.layer, o.product.name, o.operand) for o in seen] == [
        ("0", "FORWARD", "input"), ("0", "FORWARD", "weight"),
        ("0", "INPUT_GRADIENT", "output gradient"), ("0", "INPUT_GRADIENT", "weight"),
        ("0", "WEIGHT_GRADIENT", "output gradient"), ("0", "WEIGHT_GRADIENT", "input")]
    for o in seen:
        assert (o.values * o.scales - o.x).abs().max() <= o.scales.max()


def test_every_operation_can_be_overridden():
    known = get_testing_overrides()
    assert all(function in known for function in OPERATIONS)


@pytest.mark.parametrize(("match", "call"), [
    ("recipe must be one of binary, fp32, int8, int8_dw16, int8_per_tensor, or a file.*got 'int4'",
     lambda m, acc: offload(m, acc, "int4")),
    ("there is no file none.py with a recipe", lambda m, acc: offload(m, acc, "none.py")),
    (r"seed must be 0...2\*\*64 - 1, got -1", lambda m, acc: offload(m, acc, seed=-1)),
    (r"rank must be 0...2\*\*32 - 1, got -1", lambda m, acc: offload(m, acc, rank=-1)),
    ("overrides: no layer matches 'head'; layers are 0",
     lambda m, acc: offload(m, acc, overrides={"head": "fp32"})),
    ("layer 'Sequential' is offloaded already", lambda m, acc: [offload(m, acc) for _ in range(2)]),
    ("rounding must be one of nearest, stochastic, got 'up'", lambda m, acc: Operand("up")),
    ("bits must be one of 8, 16, got 4", lambda m, acc: Operand(bits=4)),
    ("only the output gradient can be rounded stochastically, got forward",
     lambda m, acc: Recipe("r", forward=(STOCHASTIC, NEAREST))),
])
def test_bad_argument_is_named(acc, match, call):
    with pytest.raises(ValueError, match=match):
        call(nn.Sequential(nn.Linear(2, 2)), acc)
