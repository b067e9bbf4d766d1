"""Tensors that stay on the accelerator's side: the bits of plain calls, and nothing crosses twice."""

import gc
from itertools import product

import numpy as np
import pytest

import backbeat
from backbeat.memory import Arena, Memory
from backbeat.products import Bmm, Conv2d, Gemm

CONFIG = "4x4"
GEOMETRY = {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}


def random_int8(*shape, low=-127, seed=5):
    return np.random.default_rng([seed, *shape]).integers(low, 128, shape, dtype=np.int8)


@pytest.fixture(scope="module", params=["model", "verilator"])
def acc(request):
    with backbeat.open(request.param, CONFIG) as acc:
        yield acc


@pytest.fixture(scope="module")
def model():
    with backbeat.open("model", CONFIG) as acc:
        yield acc


@pytest.fixture
def device():
    """A simulated core with little memory."""
    with backbeat.open("verilator", CONFIG, Memory(size=1 << 16)) as acc:
        yield acc


def requantise(low, rounding="stochastic"):
    return backbeat.Requantise(1 << 20, 26, zero_point=3, rounding=rounding, seed=4, low=low)


def same(got, expected):
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def both(acc, array):
    """The array, and as a tensor."""
    return array, acc.put(array)


@pytest.mark.parametrize(("low_a", "low_b"), list(product((-127, -128), repeat=2)))
@pytest.mark.parametrize("op", ["nn", "nt", "tn", "tt"])
def test_product_of_tensors_is_that_of_arrays(acc, model, op, low_a, low_b):
    a = random_int8(*((13, 30) if op[0] == "n" else (30, 13)), low=low_a)
    b = random_int8(*((30, 21) if op[1] == "n" else (21, 30)), low=low_b)
    spec, w = requantise(low_a), random_int8(21, 9)
    c, (q, sums) = model.run([Gemm(a, b, op), Gemm(a, b, op, requantize=spec, column_sums=True)])
    assert (q == -128).any() == (low_a == -128)
    for x, y in product(both(acc, a), both(acc, b)):
        same(acc.gemm(x, y, op), c)
        same(acc.get(acc.gemm(x, y, op, keep=True)), c)
        kept, got = acc.gemm(x, y, op, requantize=spec, column_sums=True, keep=True)
        same(acc.get(kept), q)
        same(got, sums)
        same(acc.gemm(kept, w), model.gemm(q, w))
        same(acc.gemm(w, kept, "tt"), model.gemm(w, q, "tt"))
        same(acc.gemm(kept, w, requantize=spec), model.gemm(q, w, requantize=spec))


@pytest.mark.parametrize("low", [-127, -128])
def test_batch_of_tensors_is_that_of_arrays(acc, model, low):
    a, b = random_int8(3, 5, 9, low=low), random_int8(3, 9, 11, low=low)
    for x, y in product(both(acc, a), both(acc, b)):
        same(acc.bmm(x, y), model.bmm(a, b))
        same(acc.get(acc.bmm(x, y, keep=True)), model.bmm(a, b))


@pytest.mark.parametrize(("channels", "filters"), [(11, 9), (3, 4), (8, 16)])
@pytest.mark.parametrize("low", [-127, -128])
def test_convolution_and_gradients_of_tensors_are_those_of_arrays(acc, model, low, channels, filters):
    x, w = random_int8(2, 6, 5, channels, low=low), random_int8(filters, 3, 2, channels, low=low)
    spec, more = requantise(low), random_int8(5, 2, 2, filters)
    y, q = (model.conv2d(x, w, requantize=s, **GEOMETRY) for s in (None, spec))
    dy = random_int8(*y.shape, low=low)
    dx, dxq = (model.conv2d_input_gradient(dy, w, (6, 5), requantize=s, **GEOMETRY)
               for s in (None, spec))
    dw, dwq = (model.conv2d_weight_gradient(dy, x, (3, 2), requantize=s, **GEOMETRY)
               for s in (None, spec))
    for xs, ws in (both(acc, x), both(acc, w)), (both(acc, x)[::-1], both(acc, w)):
        for each_x, each_w, each_dy in zip(xs, ws, both(acc, dy), strict=True):
            same(acc.conv2d(each_x, each_w, **GEOMETRY), y)
            kept = acc.conv2d(each_x, each_w, requantize=spec, keep=True, **GEOMETRY)
            same(acc.get(kept), q)
            same(acc.conv2d(kept, more), model.conv2d(q, more))
            same(acc.conv2d_input_gradient(each_dy, each_w, (6, 5), **GEOMETRY), dx)
            same(acc.get(acc.conv2d_input_gradient(each_dy, each_w, (6, 5), requantize=spec, keep=True,
                                                   **GEOMETRY)), dxq)
            same(acc.conv2d_weight_gradient(each_dy, each_x, (3, 2), **GEOMETRY), dw)
            kept, gradient = (acc.conv2d_weight_gradient(
                each_dy, each_x, (3, 2), requantize=s, keep=True, **GEOMETRY) for s in (None, spec))
            same(acc.get(kept), dw)
            same(acc.get(gradient), dwq)
            # What fills up its channels is the zero point, not zero.
            same(acc.conv2d(gradient, gradient, padding=1), model.conv2d(dwq, dwq, padding=1))


def test_reshape_is_the_same_bytes(acc, model):
    x, w = random_int8(4, 3, 2, 16), random_int8(96, 7)
    tensor = acc.put(x)
    for shape in ((24, 16), (4, 96), (4, 6, 16), (2, -1, 16)):
        same(acc.get(tensor.reshape(*shape)), x.reshape(shape))
    same(acc.gemm(tensor.reshape(4, -1), w), model.gemm(x.reshape(4, -1), w))
    odd = acc.put(random_int8(4, 3))
    same(acc.get(odd.reshape(2, 2, 3)), acc.get(odd).reshape(2, 2, 3))
    with pytest.raises(ValueError, match=r"shape \(4, 3\) cannot become \(3, 4\): each row"):
        odd.reshape(3, 4)


def test_put_copies(acc):
    a = random_int8(4, 6)
    tensor, before = acc.put(a), a.copy()
    a[:] = 0
    same(acc.get(tensor), before)
    acc.get(tensor)[:] = 1
    same(acc.get(tensor), before)


def test_what_is_resident_does_not_cross_again(device):
    a, w = random_int8(24, 40), random_int8(40, 32)
    plain = device.gemm(a, w), device.last
    tensor = device.put(w)
    assert device.resident == tensor.nbytes == w.size
    assert device.stats.bytes_uploaded == plain[1].bytes_uploaded + w.size
    same(device.gemm(a, tensor), plain[0])
    assert device.last.bytes_uploaded == plain[1].bytes_uploaded - w.size
    assert device.last.bytes_downloaded == plain[1].bytes_downloaded > plain[0].nbytes
    spec = requantise(-127)
    hidden = device.gemm(a, tensor, requantize=spec, keep=True)
    assert device.last.bytes_downloaded < 200 < hidden.nbytes, "a record"
    device.gemm(hidden, tensor, "nt", keep=True)
    assert device.last.bytes_uploaded == 192, "a descriptor"
    assert device.last.bytes_downloaded == plain[1].bytes_downloaded - plain[0].nbytes
    assert device.last.bytes_read == device.products[0].bytes_read > 0


@pytest.mark.parametrize("how", ["free", "with", "collected", "reshaped"])
def test_memory_that_is_freed_is_used_again(device, how):
    a = random_int8(100, 400)
    for _ in range(3):      # only one of them fits
        tensor = device.put(a)
        same(device.get(tensor), a)
        if how == "free":
            tensor.free()
            tensor.free()
        elif how == "with":
            with tensor:
                pass
        elif how == "reshaped":
            view = tensor.reshape(200, 200)
            del tensor
            gc.collect()
            assert device.resident == a.size, "the reshape still refers to it"
            view.free()
        else:
            del tensor
            gc.collect()
        assert device.resident == 0


def test_residents_and_products_do_not_overwrite_each_other(device, model):
    """Much coming and going, in little memory: each tensor keeps its bytes."""
    rng, alive = np.random.default_rng(3), []
    for step in range(60):
        array = random_int8(*rng.integers(1, 60, 2), seed=step)
        if len(alive) > 8:
            alive.pop(int(rng.integers(len(alive))))[1].free()
        alive.append((array, device.put(array)))
        if step % 3 == 0:
            b = random_int8(array.shape[1], 23, seed=step)
            spec = requantise(-127)
            kept = device.gemm(alive[-1][1], b, requantize=spec, keep=True)
            alive.append((model.gemm(array, b, requantize=spec), kept))
        same(device.gemm(array, array, "nt"), model.gemm(array, array, "nt"))
        for expected, tensor in alive:
            same(device.get(tensor), expected)
    assert device.resident == sum(t.nbytes for _, t in alive)


def test_full_memory_says_how_much_is_resident(device):
    keep = [device.put(random_int8(100, 200)) for _ in range(3)]
    message = r"beside 60,000 bytes of 3 resident tensors"
    with pytest.raises(ValueError, match=f"no 20,000 bytes in one piece left of its 65,536.*{message}"):
        device.put(random_int8(100, 200))
    with pytest.raises(ValueError, match=f"these products need more than the .*{message}"):
        device.gemm(random_int8(100, 40), random_int8(40, 20))
    with pytest.raises(ValueError, match=f"no 20,800 bytes in one piece.*{message}"):
        device.gemm(keep[0], random_int8(100, 100), "tn", requantize=requantise(-127), keep=True)
    keep.pop()
    kept = device.gemm(keep[0], keep[1], "nt", requantize=requantise(-127), keep=True)
    assert device.resident == 40_000 + kept.nbytes == 40_000 + 100 * 104


def test_result_of_a_failed_run_is_given_back(device):
    a, b = random_int8(9, 30), random_int8(30, 12)
    device._backend.fault(0x40000000, 0x40000000 + (1 << 16))
    with pytest.raises(backbeat.AcceleratorError, match="BUS_READ") as caught:
        device.gemm(a, b, keep=True)
    device._backend.fault()
    assert device.resident == 0 and caught.tb, "though the traceback refers to everything"
    same(device.get(device.gemm(a, b, keep=True)), device.gemm(a, b))


def test_tensors_without_device_memory_work_too(model):
    config = backbeat.Config(4, 4, 16, 2, memory=False)
    a, b = random_int8(9, 30, low=-128), random_int8(30, 12)
    with backbeat.open("verilator", config) as door:
        x = door.put(a)
        kept = door.gemm(x, b, requantize=requantise(-127), keep=True)
        same(door.get(kept), model.gemm(a, b, requantize=requantise(-127)))
        same(door.gemm(kept, b, "nt"), model.gemm(door.get(kept), b, "nt"))
        assert door.resident == door.stats.bytes_uploaded == 0


def test_what_no_descriptor_can_say_can_be_kept(model):
    """Panels across words of 8 bytes do not fit so small a core: operands and result cross."""
    with backbeat.open("verilator", backbeat.Config(4, 4, 16, 2)) as acc:
        a, b = random_int8(9, 30), random_int8(30, 12)
        kept = acc.gemm(acc.put(a), acc.put(b), keep=True)
        assert acc.last.descriptors == 0
        same(acc.get(kept), model.gemm(a, b))


def test_lower_is_decided_once(device):
    """A -128 that may be there is looked for once; one that cannot be, never."""
    a, b = random_int8(16, 24), random_int8(24, 16)
    for low, looks in ((-127, 0), (-128, 1)):
        spec = requantise(low)
        kept = device.gemm(a, b, requantize=spec, keep=True)
        down = []
        for _ in range(2):
            device.gemm(kept, b, "nt", requantize=requantise(-127))
            down.append(device.last.bytes_downloaded)
        assert down[0] == down[1] + looks * kept.nbytes


@pytest.mark.parametrize(("error", "match", "call"), [
    (ValueError, "a has been freed: <Tensor .*freed", lambda g, t: (t.free(), g.gemm(t, t, "nt"))),
    (ValueError, "tensor has been freed", lambda g, t: (t.free(), g.get(t))),
    (ValueError, "this tensor has been freed", lambda g, t: (t.free(), t.reshape(6, 8))),
    (ValueError, "b is a tensor of another accelerator: <Tensor", lambda g, t: g.gemm(
        t, backbeat.open("model", CONFIG).put(random_int8(8, 6)))),
    (ValueError, "tensor is a tensor of another", lambda g, t: g.get(
        backbeat.open("model", CONFIG).put(random_int8(8, 6)))),
    (TypeError, "a must have dtype int8, got int32", lambda g, t: g.gemm(
        g.gemm(t, t, "nt", keep=True), t)),
    (ValueError, r"a must have 2 dimensions, got shape \(2, 3, 8\)", lambda g, t: g.gemm(
        t.reshape(2, 3, 8), t)),
    (ValueError, r"x must have 4 dimensions, got shape \(6, 8\)", lambda g, t: g.conv2d(t, t)),
    (ValueError, r"must agree in K for op 'nn'.*\(6, 8\)", lambda g, t: g.gemm(t, t)),
    (ValueError, r"products\[1\]: b has been freed", lambda g, t: (t.free(), g.run(
        [Gemm(random_int8(2, 6), random_int8(6, 2)), Gemm(random_int8(2, 6), t)]))),
    (ValueError, r"products\[1\]: a must have 3 dim", lambda g, t: g.run(
        [Bmm(t.reshape(2, 3, 8), t.reshape(2, 3, 8), "nt"), Bmm(t, t)])),
    (TypeError, "array must be a numpy.ndarray of dtype int8, got int16", lambda g, t: g.put(
        np.ones((2, 2), np.int16))),
    (TypeError, "dtype int8, got list", lambda g, t: g.put([1])),
    (ValueError, r"at least 2 dimensions and not be empty, got shape \(3,\)", lambda g, t: g.put(
        np.ones(3, np.int8))),
    (TypeError, "tensor must be a Tensor, got ndarray", lambda g, t: g.get(np.ones(3))),
    (ValueError, "this accelerator is closed", lambda g, t: (g.close(), g.put(random_int8(2, 2)))),
])
@pytest.mark.parametrize("backend", ["model", "verilator"])
def test_misuse_is_named(backend, error, match, call):
    with backbeat.open(backend, CONFIG) as acc:
        tensor = acc.put(random_int8(6, 8))
        with pytest.raises(error, match=match):
            call(acc, tensor)


def test_arena_gives_residents_what_nobody_has():
    arena = Arena(np.zeros(4096, np.uint8), reserved=100)
    first, second = arena.place(1000), arena.place(500, reach=2500)
    assert arena.resident == 1500 and first > second
    assert second + 2500 <= arena.memory.base + 4096, "so many bytes follow"
    room = arena.room
    assert arena.take(room - 28) == arena.memory.base + 128, "behind what is reserved"
    with pytest.raises(ValueError, match="1,500 bytes of 2 resident"):
        arena.take(1)
    arena.release(first, arena.generation)
    assert arena.place(900) > second and arena.resident == 1400
    arena.lose()
    arena.release(second, arena.generation - 1)
    assert arena.resident == 0 and arena.room == 4096 - 100


def test_conv_of_resident_pixels_with_few_channels_is_gathered(device, model):
    """The patches of an array are made by the driver; those of a tensor by the core."""
    x, w = random_int8(2, 6, 6, 3), random_int8(4, 3, 3, 3)
    assert Conv2d(x, w).lower(8).job.gather_a is None
    same(device.conv2d(device.put(x), w), model.conv2d(x, w))
    assert device.last.descriptors == 1


def test_nothing_depends_on_what_memory_happened_to_hold(device, model):
    """What fills up the channels of a kept result is zero, wherever it comes to lie."""
    x, w, more = random_int8(2, 5, 5, 8), random_int8(5, 3, 3, 8), random_int8(4, 2, 2, 5)
    spec = requantise(-127)
    device._backend.arena.image[:] = 0x80
    kept = device.conv2d(x, w, requantize=spec, keep=True)
    q = model.conv2d(x, w, requantize=spec)
    same(device.conv2d(kept, more), model.conv2d(q, more))
    same(device.conv2d(device.put(q), device.put(more)), model.conv2d(q, more))
    same(device.conv2d_weight_gradient(kept, kept, 1), model.conv2d_weight_gradient(q, q, 1))
