"""The driver: every shape and orientation, through the commands; and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backbeat
from backbeat.accelerator import Accelerator
from backbeat.backends.door import DoorBackend
from backbeat.measure import reference
from backbeat_rtl.config import Config
from backbeat_rtl.core_model import MAX_K, CoreModel, product
from backbeat_rtl.isa import Error

OPS = ("nn", "nt", "tn", "tt")
#: Cores without a memory port: operands and results pass through the door.
SMALLEST, ODD, WIDE = (Config(4, 4, 16, 2, memory=False), Config(4, 6, 32, 8, memory=False),
                       Config(8, 14, 64, 4, memory=False))


class CoreModelBackend(DoorBackend):
    """The commands carried out by the core's model: tests tiler and program without a simulator."""

    name = "core-model"

    def __init__(self, config):
        super().__init__(config)
        self.core = CoreModel(config)
        self.identify()

    def execute(self, batches):
        for batch in batches:
            for i in range(batch.count):
                inputs = (batch.input_0, batch.input_1) if batch.inputs is None else batch.inputs[i]
                response = self.core.execute(batch.function_id, *map(int, inputs))
                if batch.outputs is not None:
                    batch.outputs[i] = response
        return 0

    def close(self):
        pass


def operands(rng, m, n, k, op, low=-128):
    a = rng.integers(low, 128, (m, k) if op[0] == "n" else (k, m), dtype=np.int8)
    b = rng.integers(low, 128, (k, n) if op[1] == "n" else (n, k), dtype=np.int8)
    return a, b


def requantise(rng, n, rounding):
    return backbeat.Requantise(rng.integers(-2**24, 2**24, n), rng.integers(28, 36, n),
                               zero_point=int(rng.integers(-128, 128)), rounding=rounding,
                               seed=int(rng.integers(2**32)), low=-100, high=120)


@given(m=st.integers(1, 70), n=st.integers(1, 70), k=st.integers(1, 300), op=st.sampled_from(OPS),
       config=st.sampled_from([SMALLEST, ODD, WIDE]),
       int8=st.booleans(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_commands_of_any_shape_make_the_product(m, n, k, op, config, int8, seed):
    rng = np.random.default_rng(seed)
    a, b = operands(rng, m, n, k, op)
    acc = Accelerator(CoreModelBackend(config), config)
    spec = requantise(rng, n, "stochastic") if int8 else None
    np.testing.assert_array_equal(acc.gemm(a, b, op, requantize=spec), reference(a, b, op, spec))
    assert acc.last.max_abs == np.abs(reference(a, b, op).astype(np.int64)).max()


@given(m=st.integers(1, 40), n=st.integers(1, 40), k=st.integers(1, 3000), op=st.sampled_from(OPS),
       seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_model_backend_is_exact(m, n, k, op, seed):
    rng = np.random.default_rng(seed)
    a, b = operands(rng, m, n, k, op)
    with backbeat.open("model") as acc:
        np.testing.assert_array_equal(acc.gemm(a, b, op), reference(a, b, op))


@pytest.mark.parametrize("op", OPS)
def test_batch_is_its_products(op):
    rng = np.random.default_rng(2)
    (a, b), (full_a, full_b) = (
        [np.stack(x) for x in zip(*(operands(rng, 9, 6, 21, op, low) for _ in range(5)), strict=True)]
        for low in (-127, -128))
    expected, full = ([reference(x, y, op) for x, y in zip(*pair, strict=True)]
                      for pair in ((a, b), (full_a, full_b)))
    counted = []
    for acc in (backbeat.open("model", "4x4"), Accelerator(CoreModelBackend(ODD), ODD),
                backbeat.open("verilator", "4x4")):
        with acc:
            np.testing.assert_array_equal(acc.bmm(a, b, op), expected)
            stats, each = acc.last, acc.products
            np.testing.assert_array_equal(acc.bmm(full_a, full_b, op), full)
        assert (stats.products, stats.macs, len(each)) == (5, 5 * 9 * 6 * 21, 1)
        counted.append(stats)
    model, commands, simulated = counted
    assert model.compulsory_bytes == a.size + b.size + 4 * 5 * 9 * 6
    for name in ("bytes_read", "bytes_written", "descriptors"):
        assert getattr(model, name) == getattr(simulated, name)
    assert simulated.descriptors == 5 and commands.descriptors == 0


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_model_backend_equals_the_commands(rounding):
    rng = np.random.default_rng(3)
    a, b = operands(rng, 37, 29, 101, "tn")
    spec, bias = requantise(rng, 29, rounding), rng.integers(-9999, 9999, 29).astype(np.int32)
    got = Accelerator(CoreModelBackend(ODD), ODD).gemm(a, b, "tn", bias=bias, requantize=spec)
    with backbeat.open("model", ODD) as acc:
        np.testing.assert_array_equal(acc.gemm(a, b, "tn", bias=bias, requantize=spec), got)
    assert len(np.unique(got)) > 20, "a saturated result would prove nothing"


@pytest.mark.parametrize("acc", [
    backbeat.open("model"), Accelerator(CoreModelBackend(WIDE), WIDE)], ids=["model", "commands"])
def test_convolutions_without_a_memory_port(acc):
    """On the host they become the products of their patches."""
    rng = np.random.default_rng(6)
    x, w = (rng.integers(-128, 128, s, dtype=np.int8) for s in ((2, 5, 6, 3), (4, 3, 2, 3)))
    y = acc.conv2d(x, w, stride=2, padding=1)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x.astype(np.int64), ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 2), axis=(1, 2))
    windows = windows[:, ::2, ::2]                       # n p q c r s
    np.testing.assert_array_equal(y, np.einsum("npqcrs,krsc->npqk", windows, w.astype(np.int64)))
    dy = rng.integers(-128, 128, y.shape, dtype=np.int8)
    np.testing.assert_array_equal(
        acc.conv2d_weight_gradient(dy, x, (3, 2), stride=2, padding=1),
        np.einsum("npqk,npqcrs->krsc", dy.astype(np.int64), windows))
    dx = acc.conv2d_input_gradient(dy, w, (5, 6), stride=2, padding=1)
    # The gradient's definition: <dy, conv(e)> for each unit image e, by linearity.
    e = rng.integers(-9, 10, x.shape, dtype=np.int8)
    assert (dx.astype(np.int64) * e).sum() == (
        dy * acc.conv2d(e, w, stride=2, padding=1).astype(np.int64)).sum()


def test_run_of_nothing_is_nothing():
    with backbeat.open("model") as acc:
        assert acc.run([]) == []
        with pytest.raises(TypeError, match="products must be of Gemm, Bmm.*got tuple as number 0"):
            acc.run([(A, B)])


def test_longest_k_does_not_overflow():
    a = np.full((1, MAX_K), -128, np.int8)
    c, max_abs = product(a, a.T)
    assert c[0, 0] == max_abs == MAX_K * 2**14 < 2**31


A, B = np.ones((4, 6), np.int8), np.ones((6, 5), np.int8)
SPEC = backbeat.Requantise(1, 0)


@pytest.mark.parametrize(("error", "match", "call"), [
    (TypeError, "a must be a numpy.ndarray, got list", lambda g: g([[1]], B)),
    (TypeError, "b must have dtype int8, got float64", lambda g: g(A, B.astype(float))),
    (ValueError, r"a must have 2 dimensions, got shape \(4,\)", lambda g: g(A[:, 0].copy(), B)),
    (ValueError, r"b must not be empty, got shape \(6, 0\)", lambda g: g(A, np.ones((6, 0), np.int8))),
    (ValueError, "a must be C-contiguous", lambda g: g(A[:, ::2], B)),
    (ValueError, "b must be C-contiguous", lambda g: g(A, np.asfortranarray(B))),
    (ValueError, "op must be one of nn, nt, tn, tt, got 'xx'", lambda g: g(A, B, "xx")),
    (ValueError, r"agree in K for op 'nt': .*K=6.*K=5", lambda g: g(A, B, "nt")),
    (ValueError, "K of at most 131071.*got K=131072",
     lambda g: g(np.ones((1, 131072), np.int8), np.ones((131072, 1), np.int8))),
    (ValueError, "bias needs requantize", lambda g: g(A, B, bias=np.zeros(5, np.int32))),
    (TypeError, "bias must be .* int32, got int64",
     lambda g: g(A, B, bias=np.zeros(5, np.int64), requantize=SPEC)),
    (ValueError, r"bias must have shape \(5,\).*got \(4,\)",
     lambda g: g(A, B, bias=np.zeros(4, np.int32), requantize=SPEC)),
    (TypeError, "requantize must be a Requantise, got dict", lambda g: g(A, B, requantize={})),
    (ValueError, "multiplier must be one value or 5",
     lambda g: g(A, B, requantize=backbeat.Requantise((1, 2), 0))),
    (ValueError, "shift must be 0...62, got 63", lambda g: backbeat.Requantise(1, 63)),
    (ValueError, "rounding must be", lambda g: backbeat.Requantise(1, 0, rounding="up")),
    (ValueError, "backend must be one of model, verilator or litex:ADDRESS, got 'gpu'",
     lambda g: backbeat.open("gpu")),
    (ValueError, "config must be one of 4x4.*got '3x3'", lambda g: backbeat.open("model", "3x3")),
    (TypeError, "memory must be a Memory, got int", lambda g: backbeat.open("model", memory=3)),
    (ValueError, "rows must be even", lambda g: Config(rows=3)),
    (ValueError, "depth must be a power of two", lambda g: Config(depth=24)),
])
def test_bad_argument_is_named(error, match, call):
    with backbeat.open("model") as acc, pytest.raises(error, match=match):
        call(acc.gemm)


@pytest.mark.parametrize(("match", "b", "op"), [
    ("b must have 3 dimensions, got shape", B, "nn"),
    ("op must be one of nn, nt, tn, tt, got 'xx'", np.stack([B, B]), "xx"),
    (r"agree in their batch: a has shape \(2, 4, 6\), b \(3, 6, 5\)", np.stack([B] * 3), "nn"),
    (r"agree in K for op 'nt': a has shape \(2, 4, 6\) \(K=6\).*K=5", np.stack([B, B]), "nt"),
])
def test_bad_batch_is_named(match, b, op):
    with backbeat.open("model") as acc, pytest.raises(ValueError, match=match):
        acc.bmm(np.stack([A, A]), b, op)


def test_core_error_is_raised_and_the_core_works_again():
    acc = Accelerator(CoreModelBackend(SMALLEST), SMALLEST)
    acc._backend.core.execute(0b1111111_001)  # SET of a register that does not exist
    with pytest.raises(backbeat.AcceleratorError, match="ILLEGAL.*0x3f9") as caught:
        acc.gemm(A, B)
    assert caught.value.code == Error.ILLEGAL and caught.value.value == 0b1111111_001
    np.testing.assert_array_equal(acc.gemm(A, B), np.full((4, 5), 6))


def test_closed_accelerator_says_so():
    acc = backbeat.open("model")
    acc.close()
    acc.close()
    with pytest.raises(ValueError, match="closed"):
        acc.gemm(A, B)
