"""Descriptors in device memory: carried out by their model they make the products; gradients too."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import backbeat
from backbeat.accelerator import Accelerator
from backbeat.backends.door import DoorBackend
from backbeat.device import carriable, plan_job
from backbeat.gather import Gather
from backbeat.measure import reference
from backbeat.memory import BASE, Arena, Memory
from backbeat.products import OPS, Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from backbeat_rtl import epilogue_model, isa
from backbeat_rtl.config import Config
from backbeat_rtl.core_model import CoreModel
from backbeat_rtl.descriptor_model import run_chain
from backbeat_rtl.epilogue_model import element_index
from backbeat_rtl.isa import Error, Op, Read, Write, function_id

MEMORY = Memory(size=1 << 22)
CONFIGS = [Config.of("4x4"), Config.of("8x8"), Config(rows=6, columns=5, depth=64, tiles=4),
           Config(rows=4, columns=14, depth=64, tiles=8, requantisers=2)]


class DescriptorBackend(DoorBackend):
    """A core made of models: commands by ``CoreModel``, chains by ``run_chain``."""

    name = "descriptor-model"

    def __init__(self, config: Config, memory: Memory = MEMORY):
        self.core, self.chains = CoreModel(config), 0
        self.registers = {r: 0 for r in Read if r >= Read.COMPLETED}
        rng = np.random.default_rng(1)
        # Nothing may depend on what memory happens to hold.
        super().__init__(config, memory, rng.integers(0, 256, memory.size, dtype=np.uint8))
        self.identify()

    def execute(self, batches):
        for batch in batches:
            for i in range(batch.count):
                inputs = (batch.input_0, batch.input_1) if batch.inputs is None else batch.inputs[i]
                response = self._answer(batch.function_id, *map(int, inputs))
                if batch.outputs is not None:
                    batch.outputs[i] = response
        return len(batches)

    def _answer(self, function, input_0, input_1):
        if function == function_id(Op.SET, Write.DOORBELL) and not self.core.error:
            result = run_chain(self.arena.image, input_0, self.config, BASE)
            self.chains += 1
            self.registers[Read.COMPLETED] += result.completed
            self.core.error, self.core.error_value = result.error, result.value
            self.registers[Read.FAILED] = result.failed
            return 0
        if function & 7 == Op.GET and function >> 3 in self.registers:
            return 1 if function >> 3 == Read.FENCE else self.registers[function >> 3]
        return self.core.execute(function, input_0, input_1)

    def close(self):
        pass


def open_models(config, memory=MEMORY):
    return Accelerator(DescriptorBackend(config, memory), config, memory)


def random_int8(rng, shape, low=-128):
    return rng.integers(low, 128, shape, dtype=np.int8)


def requantise(rng, n, rounding="stochastic"):
    return backbeat.Requantise(rng.integers(-2**24, 2**24, n), rng.integers(28, 36, n),
                               zero_point=int(rng.integers(-128, 128)), rounding=rounding,
                               seed=int(rng.integers(2**32)), low=-100, high=120)


@given(m=st.integers(1, 70), n=st.integers(1, 70), k=st.integers(1, 200), op=st.sampled_from(OPS),
       config=st.sampled_from(CONFIGS), int8=st.booleans(), sums=st.booleans(),
       low=st.sampled_from([-127, -128]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_descriptor_of_any_shape_makes_the_product(m, n, k, op, config, int8, sums, low, seed):
    rng = np.random.default_rng(seed)
    a = random_int8(rng, (m, k) if op[0] == "n" else (k, m), low)
    b = random_int8(rng, (k, n) if op[1] == "n" else (n, k), low)
    spec = requantise(rng, n) if int8 else None
    acc = open_models(config)
    got = acc.gemm(a, b, op, requantize=spec, column_sums=sums)
    expected = reference(a, b, op, spec)
    c = got[0] if sums else got
    assert c.dtype == expected.dtype
    np.testing.assert_array_equal(c, expected)
    if sums:
        np.testing.assert_array_equal(got[1], expected.sum(axis=0, dtype=np.int32))
    assert acc.last.max_abs == np.abs(reference(a, b, op).astype(np.int64)).max()
    assert acc.last.macs == m * n * k


def convolution(rng):
    """A random geometry: images, filters, and the keywords."""
    while True:
        n, h, w, c, k = (int(v) for v in rng.integers(1, (4, 12, 12, 20, 20), endpoint=True))
        r, s = (int(v) for v in rng.integers(1, 4, 2))
        geometry = {"stride": tuple(rng.integers(1, 4, 2).tolist()),
                    "padding": tuple(rng.integers(0, 3, 2).tolist()),
                    "dilation": tuple(rng.integers(1, 3, 2).tolist())}
        if (h + 2 * geometry["padding"][0] > geometry["dilation"][0] * (r - 1)
                and w + 2 * geometry["padding"][1] > geometry["dilation"][1] * (s - 1)):
            return (n, h, w, c), (k, r, s, c), geometry


def with_torch(x, w, geometry, dy=None):
    """PyTorch's convolution of exact float64, or its two gradients, in our layout."""
    def lay(t):
        return torch.from_numpy(t.astype(np.float64)).permute(0, 3, 1, 2).contiguous().requires_grad_()
    x, w = lay(x), lay(w)
    y = torch.nn.functional.conv2d(x, w, **geometry)
    if dy is None:
        return y.detach().permute(0, 2, 3, 1).numpy().astype(np.int32)
    y.backward(lay(dy).detach())
    return [g.grad.permute(0, 2, 3, 1).numpy().astype(np.int32) for g in (x, w)]


@given(config=st.sampled_from(CONFIGS), memory=st.booleans(), low=st.sampled_from([-127, -128]),
       seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_convolution_and_its_gradients_equal_pytorch(config, memory, low, seed):
    rng = np.random.default_rng(seed)
    images, filters, geometry = convolution(rng)
    x, w = random_int8(rng, images, low), random_int8(rng, filters, low)
    acc = open_models(config) if memory else backbeat.open("model", config)
    y = acc.conv2d(x, w, **geometry)
    np.testing.assert_array_equal(y, with_torch(x, w, geometry))
    assert acc.last.max_abs == np.abs(y.astype(np.int64)).max()
    dy = random_int8(rng, y.shape, low)
    dx = acc.conv2d_input_gradient(dy, w, images[1:3], **geometry)
    dw = acc.conv2d_weight_gradient(dy, x, filters[1:3], **geometry)
    expected = with_torch(x, w, geometry, dy)
    np.testing.assert_array_equal(dx, expected[0])
    np.testing.assert_array_equal(dw, expected[1])
    if memory:
        assert acc.stats.descriptors == acc.stats.products == 3, "all of them through memory"


@pytest.mark.parametrize(("channels", "gathered"), [(1, False), (3, False), (4, True), (8, True)])
def test_only_few_channels_become_patches_before(channels, gathered):
    x, w, dy = (np.ones(shape, np.int8) for shape in ((2, 6, 6, channels), (4, 3, 3, channels),
                                                      (2, 4, 4, 4)))
    forward, gradient = Conv2d(x, w).lower(8).job, Conv2dWeightGradient(dy, x, 3).lower(8).job
    assert (forward.gather_a is not None, gradient.gather_b is not None) == (gathered, gathered)
    assert forward.shape[2] == gradient.shape[1] == 9 * (8 if gathered else channels)
    assert Conv2d(x, w).lower(1).job.gather_a is not None, "nothing is filled up without a port"


@pytest.mark.parametrize("low", [-127, -128])
def test_requantised_convolution_is_that_of_its_sums(low):
    rng = np.random.default_rng(8)
    x, w = random_int8(rng, (2, 7, 9, 5), low), random_int8(rng, (11, 3, 2, 5), low)
    spec, bias = requantise(rng, 11), rng.integers(-9999, 9999, 11).astype(np.int32)
    patches = Gather((4, 9), (3, 2), (2, 1), (1, 2), (-1, -1)).matrix(x)
    results = []
    for acc in (open_models(CONFIGS[0]), backbeat.open("model", "8x8")):
        results.append(acc.conv2d(x, w, stride=(2, 1), padding=1, dilation=(1, 2), bias=bias,
                                  requantize=spec))
        np.testing.assert_array_equal(
            results[-1].reshape(-1, 11),
            acc.gemm(patches, w.reshape(11, -1), "nt", bias=bias, requantize=spec))
    assert results[0].dtype == np.int8 and len(np.unique(results[0])) > 20
    np.testing.assert_array_equal(*results)


@given(config=st.sampled_from(CONFIGS), memory=st.booleans(), low=st.sampled_from([-127, -128]),
       one=st.booleans(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_requantised_gradients_are_those_of_their_sums(config, memory, low, one, seed):
    rng = np.random.default_rng(seed)
    images, filters, geometry = convolution(rng)
    x, w = random_int8(rng, images, low), random_int8(rng, filters, low)
    acc = open_models(config) if memory else backbeat.open("model", config)
    dy = random_int8(rng, with_torch(x, w, geometry).shape, low)
    sums = with_torch(x, w, geometry, dy)
    channels, weights = filters[3], int(np.prod(filters[1:]))
    bias = rng.integers(-9999, 9999, channels).astype(np.int32)
    spec = requantise(rng, 1 if one else channels)
    dx = acc.conv2d_input_gradient(dy, w, images[1:3], bias=bias, requantize=spec, **geometry)
    shape = dx.size // channels, channels
    np.testing.assert_array_equal(dx, expected_int8(
        sums[0].reshape(shape), bias, spec, element_index(*shape)).reshape(dx.shape))
    spec = requantise(rng, 1 if one else weights)
    dw = acc.conv2d_weight_gradient(dy, x, filters[1:3], requantize=spec, **geometry)
    # A column of C for each channel of whole words.
    index = element_index(filters[0], weights // channels * (channels + -channels % 8))
    index = index.reshape(*filters[:3], -1)[..., :channels].reshape(filters[0], weights)
    np.testing.assert_array_equal(dw, expected_int8(
        sums[1].reshape(filters[0], weights), 0, spec, index).reshape(filters))
    assert dx.dtype == dw.dtype == np.int8
    if memory:
        assert acc.stats.descriptors == acc.stats.products == 2, "both of them through memory"


def expected_int8(sums, bias, spec, index):
    multiplier, shift = spec.per_column(sums.shape[1])
    return epilogue_model.requantise(
        sums, bias, multiplier, shift, zero_point=spec.zero_point, low=spec.low, high=spec.high,
        stochastic=spec.rounding == "stochastic", seed=spec.seed, index=index)


def test_chain_is_one_doorbell_and_shares_operands():
    rng = np.random.default_rng(4)
    x, w, dy = (random_int8(rng, s, -127) for s in ((33, 21), (17, 21), (33, 17)))
    spec = requantise(rng, 17)
    acc = open_models(CONFIGS[1])
    y, (dw, sums), dx, q = acc.run([
        Gemm(x, w, "nt"), Gemm(dy, x, "tn", column_sums=True), Gemm(dy, w),
        Gemm(x, w, "nt", requantize=spec)])
    np.testing.assert_array_equal(y, reference(x, w, "nt"))
    np.testing.assert_array_equal(dw, reference(dy, x, "tn"))
    np.testing.assert_array_equal(sums, dw.sum(axis=0))
    np.testing.assert_array_equal(dx, reference(dy, w, "nn"))
    np.testing.assert_array_equal(q, reference(x, w, "nt", spec))
    assert acc._backend.chains == 1
    assert [p.macs for p in acc.products] == [33 * 17 * 21] * 4 and acc.last.products == 4
    descriptors = acc._backend.arena.rows(BASE, 4, 192)
    addresses = [isa.decode_descriptor(d.tobytes()) for d in descriptors]
    assert addresses[0]["a"] == addresses[1]["b"] == addresses[3]["a"], "X is in memory once"
    assert not any(d["fence"] for d in addresses)


def test_what_no_descriptor_can_say_goes_through_the_door():
    """Panels across words of 8 bytes do not fit the buffers of so small a core."""
    config = Config(4, 4, 16, 2)
    rng = np.random.default_rng(2)
    a, b = random_int8(rng, (9, 30)), random_int8(rng, (30, 3))
    acc = open_models(config)
    wide = np.ascontiguousarray(np.tile(b, 4))
    narrow, c = acc.run([Gemm(a, b), Gemm(a, wide)])
    np.testing.assert_array_equal(narrow, reference(a, b, "nn"))
    np.testing.assert_array_equal(c, reference(a, wide, "nn"))
    assert acc.last.descriptors == 1 and acc.last.products == 2
    assert carriable(Gemm(a, b).lower(8).job, config, MEMORY)
    assert not carriable(Gemm(a, wide).lower(8).job, config, MEMORY)


def test_error_names_the_descriptor_and_the_core_works_again():
    rng = np.random.default_rng(3)
    a, b = random_int8(rng, (9, 30), -127), random_int8(rng, (30, 12))
    acc = open_models(CONFIGS[0])
    backend = acc._backend
    original = backend._ring

    def ring(chain):    # a pitch that is no multiple of 8, in the second descriptor
        backend.arena.rows(chain.entries[1].address + 4 * 7, 1, 4)[0, 0] = 36
        return original(chain)

    backend._ring = ring
    with pytest.raises(backbeat.AcceleratorError, match=(
            r"descriptor 2 of 3 at 0x400000c0 \(nn of M, N, K = \(9, 12, 30\)\).*ALIGNMENT.*0x24")) as e:
        acc.run([Gemm(a, b)] * 3)
    assert e.value.code == Error.ALIGNMENT and e.value.value == 36
    backend._ring = original
    np.testing.assert_array_equal(acc.gemm(a, b), reference(a, b, "nn"))


class Silent(DescriptorBackend):
    """Takes chains and never completes them."""

    def _answer(self, function, input_0, input_1):
        if function == function_id(Op.GET, Read.FENCE):
            return 0
        return super()._answer(function, input_0, input_1)


class Forgetful(DescriptorBackend):
    """Completes chains and leaves no record."""

    def _answer(self, function, input_0, input_1):
        out = super()._answer(function, input_0, input_1)
        if function == function_id(Op.SET, Write.DOORBELL):
            self.arena.rows(input_0 + 4 * isa.RECORD_WORD, 1, 4)[:] = 0
        return out


@pytest.mark.parametrize(("backend", "match"), [
    (Silent, "made no progress on 1 descriptors at 0x40000000"),
    (Forgetful, "descriptor 1 of 1 at 0x40000000 has no record"),
])
def test_hung_or_wrong_core_is_an_error(backend, match):
    acc = Accelerator(backend(CONFIGS[0]), CONFIGS[0], MEMORY)
    with pytest.raises(backbeat.AcceleratorError, match=match):
        acc.gemm(np.ones((4, 6), np.int8), np.ones((6, 5), np.int8))


def test_full_memory_is_an_error():
    acc = open_models(CONFIGS[0], Memory(size=1 << 16))
    a = np.ones((300, 300), np.int8)
    with pytest.raises(ValueError, match="more than the 65,536 bytes of device memory"):
        acc.gemm(a, a)
    np.testing.assert_array_equal(acc.gemm(a[:9], a[:, :9].copy()), np.full((9, 9), 300))


def test_products_that_are_too_many_for_the_memory_are_several_chains():
    acc = open_models(CONFIGS[0], Memory(size=1 << 14))
    rung = []
    ring = acc._backend._run_chain
    acc._backend._run_chain = lambda jobs: rung.append(len(jobs)) or ring(jobs)
    rng = np.random.default_rng(5)
    a, b = random_int8(rng, (20, 17, 24)), random_int8(rng, (20, 24, 19))
    np.testing.assert_array_equal(acc.bmm(a, b), a.astype(np.int32) @ b.astype(np.int32))
    assert len(rung) > 2 and sum(rung) == 20 and rung[0] == max(rung) > 3
    assert acc.stats.descriptors == 20


def test_arena_gives_each_its_own_bytes():
    arena = Arena(np.zeros(4096, np.uint8))
    array = np.arange(15, dtype=np.int8).reshape(5, 3)
    address, other = arena.upload(array, 8), arena.upload(array + 1, 16)
    np.testing.assert_array_equal(arena.rows(address, 5, 8)[:, :3], array)
    np.testing.assert_array_equal(arena.rows(other, 5, 16)[:, :3], array + 1)
    assert address % 64 == other % 64 == 0
    with pytest.raises(ValueError, match="4,096 bytes"):
        arena.take(4096)


def test_bytes_of_a_gathered_operand_leave_out_the_padding():
    x, w = np.ones((2, 4, 4, 8), np.int8), np.ones((8, 3, 3, 8), np.int8)
    job = Conv2d(x, w, padding=1).lower(8).job
    assert job.gather_a.matrix(x).sum() == job.gather_a.bytes_inside(x.shape) == 2 * 8 * 10 * 10
    assert plan_job(job, Config.of("16x16"), MEMORY).bytes_read == 1600 + 576


X, W, DY = (np.ones(s, np.int8) for s in ((2, 5, 6, 3), (4, 3, 3, 3), (2, 3, 4, 4)))


@pytest.mark.parametrize(("error", "match", "product"), [
    (TypeError, "x must have dtype int8, got float64", Conv2d(X.astype(float), W)),
    (ValueError, r"w must have 4 dimensions, got shape \(4, 27\)", Conv2d(X, W.reshape(4, 27))),
    (ValueError, r"agree in C: x has shape \(2, 5, 6, 3\)", Conv2d(X, W[..., :2])),
    (ValueError, "stride must be an int of at least 1 or a pair of them, got 0", Conv2d(X, W, 0)),
    (ValueError, r"padding must be .* got \(1, 2, 3\)", Conv2d(X, W, padding=(1, 2, 3))),
    (ValueError, r"kernel of \(3, 3\) with dilation \(3, 3\) must fit images of \(5, 6\)",
     Conv2d(X, W, dilation=3)),
    (ValueError, "bias needs requantize", Conv2d(X, W, bias=np.zeros(4, np.int32))),
    (ValueError, r"dy and w must agree in K: .*\(2, 3, 4, 4\)", Conv2dInputGradient(DY, W[:3], (5, 6))),
    (ValueError, r"dy must have shape \(2, 4, 4, K\) .* got \(2, 3, 4, 4\)",
     Conv2dInputGradient(DY, W, 6)),
    (ValueError, "size must be an int of at least 1", Conv2dInputGradient(DY, W, "6")),
    (ValueError, r"dy must have shape \(2, 4, 5, K\)", Conv2dWeightGradient(DY, X, 2)),
    (ValueError, r"bias must have shape \(3,\)", Conv2dInputGradient(
        DY, W, (5, 6), bias=np.zeros(4, np.int32), requantize=backbeat.Requantise(1, 9))),
    (ValueError, "bias needs requantize", Conv2dInputGradient(
        DY, W, (5, 6), bias=np.zeros(3, np.int32))),
    (ValueError, r"shift must be one value or 27 \(the columns of C\)", Conv2dWeightGradient(
        DY, X, 3, requantize=backbeat.Requantise(1, (9, 9, 9)))),
    (ValueError, "K of at most 131071.*K=131072",
     Conv2dWeightGradient(np.ones((2, 256, 256, 1), np.int8), np.ones((2, 256, 256, 1), np.int8), 1)),
])
def test_bad_argument_is_named(error, match, product):
    with backbeat.open("model") as acc:
        with pytest.raises(error, match=match):
            acc.run([product])
        with pytest.raises(error, match=r"products\[1\]: .*" + match):
            acc.run([Gemm(np.ones((1, 1), np.int8), np.ones((1, 1), np.int8)), product])


@pytest.mark.parametrize(("match", "parameters"), [
    ("bandwidth must be .* got 0", {"bandwidth": 0}), ("latency must be .* got -1", {"latency": -1}),
    ("refresh_cycles must be .* got 9 of 9", {"refresh_interval": 9, "refresh_cycles": 9}),
    ("size must be a multiple of 8 .* got 5000001", {"size": 5_000_001}),
])
def test_impossible_memory_is_named(match, parameters):
    with pytest.raises(ValueError, match=match):
        Memory(**parameters)
