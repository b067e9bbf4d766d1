"""The model of descriptors: against int64, against PyTorch, and against a walk byte by byte."""

import numpy as np
import pytest
import torch

from backbeat_rtl.config import Config
from backbeat_rtl.descriptor_model import ChainResult, check, run_chain, run_descriptor
from backbeat_rtl.epilogue_model import random_bits
from backbeat_rtl.isa import (
    DESCRIPTOR,
    RECORD_WORD,
    DescriptorOp,
    Error,
    decode_descriptor,
    encode_descriptor,
)

from .broken_rules import broken_rules
from .descriptors import random_chain, random_descriptor, random_plan
from .harness import seed
from .memory_image import BASE, Arena, Descriptor, differences, words_of

CONFIGS = [Config.of("4x4"), Config.of("8x8"), Config(rows=6, columns=5, depth=32, tiles=4),
           Config(rows=4, columns=14, depth=64, tiles=8, requantisers=2)]
NAMES = [config.name for config in CONFIGS]


def carry_out(arena: Arena, fields: dict, config: Config) -> int:
    """Changes ``arena.state``; the largest accumulator."""
    result = run_descriptor(arena.state, words_of(encode_descriptor(**fields)), config, arena.base)
    assert result == ChainResult(1, max_abs=result.max_abs), result
    return result.max_abs


def stored(memory: np.ndarray, address: int, pitch: int, shape, dtype, base: int = BASE) -> np.ndarray:
    """Copy of a matrix in memory."""
    size = shape[1] * np.dtype(dtype).itemsize
    return np.stack([memory[first:first + size].copy() for first in
                     address - base + pitch * np.arange(shape[0])]).view(dtype)


def result_of(memory: np.ndarray, f: dict) -> np.ndarray:
    return stored(memory, f["c"], f["c_pitch"], (f["m"], f["n"]), np.int8 if f["requantise"] else "<i4")


@pytest.mark.parametrize("op", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (9, 16, 24), (13, 1, 50), (31, 37, 33)])
def test_every_orientation_matches_int64(op, shape):
    m, n, k = shape
    rng, config = np.random.default_rng(seed()), Config.of("8x8")
    arena = Arena(rng)
    a = rng.integers(-127, 128, (m, k), dtype=np.int8)
    b = rng.integers(-128, 128, (k, n), dtype=np.int8)
    a_address, a_pitch = arena.place(a.T if op[0] == "t" else a)
    b_address, b_pitch = arena.place(b if op[1] == "n" else b.T)
    c_pitch = -(-4 * n // 8) * 8 + 8
    c, sums = arena.take(c_pitch * m), arena.take(4 * n)
    fields = {"op": DescriptorOp.GEMM, "a_across": op[0] == "t", "b_across": op[1] == "n", "sums": 1,
              "columns_outer": 1, "a": a_address, "a_pitch": a_pitch, "b": b_address, "b_pitch": b_pitch,
              "c": c, "c_pitch": c_pitch, "sums_address": sums, "m": m, "n": n, "k": k}
    fields |= random_plan(rng, m, n, k, op[0] == "t", config)
    max_abs = carry_out(arena, fields, config)
    expected = a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(stored(arena.state, c, c_pitch, (m, n), "<i4"), expected)
    np.testing.assert_array_equal(stored(arena.state, sums, 0, (1, n), "<i4")[0], expected.sum(axis=0))
    assert max_abs == np.abs(expected).max()
    # Nothing else has changed.
    written = stored(arena.memory, c, c_pitch, (m, n), "<i4")
    for row in range(m):
        first = c - BASE + row * c_pitch
        arena.state[first:first + 4 * n] = written[row].view(np.uint8)
    arena.state[sums - BASE:sums - BASE + 4 * n] = arena.memory[sums - BASE:sums - BASE + 4 * n]
    np.testing.assert_array_equal(arena.state, arena.memory)


def test_convolutions_match_torch():
    """Forward, and both gradients by autograd, over strides, paddings and dilations."""
    rng, config = np.random.default_rng(seed()), Config.of("8x8")
    seen = dict.fromkeys(("forward", "input gradient", "weight gradient"), 0)
    while min(seen.values()) < 40:
        arena = Arena(rng)
        descriptor = random_descriptor(rng, arena, config)
        if descriptor.kind not in seen or descriptor.fields["requantise"]:
            continue
        seen[descriptor.kind] += 1
        carry_out(arena, descriptor.fields, config)
        got = result_of(arena.state, descriptor.fields)
        expected = torch_convolution(descriptor)
        np.testing.assert_array_equal(got, expected.reshape(got.shape), str(descriptor))


def torch_convolution(descriptor: Descriptor) -> np.ndarray:
    """(N, P, Q, K), (N, H, W, C) or (K, R, S, C), in float64 of integers, which is exact."""
    geometry, tensor, other = descriptor.convolution

    def nchw(x):
        return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).double()

    def convolve(x, w):
        y = torch.nn.functional.conv2d(x, w, stride=geometry.stride, padding=geometry.padding,
                                       dilation=geometry.dilation)
        assert tuple(y.shape[2:]) == geometry.output
        return y

    if descriptor.kind == "forward":
        out = convolve(nchw(tensor), nchw(other))
    else:
        channels = tensor.shape[3] if descriptor.kind == "weight gradient" else other.shape[3]
        kernels = tensor.shape[3] if descriptor.kind == "input gradient" else other.shape[3]
        x = torch.zeros(geometry.images, channels, *geometry.size, dtype=torch.double)
        w = torch.zeros(kernels, channels, *geometry.taps, dtype=torch.double)
        if descriptor.kind == "input gradient":
            w, wanted, dy = nchw(other), x.requires_grad_(), nchw(tensor)
        else:
            x, wanted, dy = nchw(tensor), w.requires_grad_(), nchw(other)
        out, = torch.autograd.grad(convolve(x, w), wanted, dy)
    return out.permute(0, 2, 3, 1).numpy().astype(np.int64)


class Walk:
    """One descriptor, slowly: byte by byte, gathered positions step by step, Python's integers."""

    def __init__(self, memory: np.ndarray, fields: dict):
        self.memory = memory
        self.d = decode_descriptor(encode_descriptor(**fields))

    def byte(self, address: int) -> int:
        return int(self.memory[address - BASE:][:1].view(np.int8)[0])

    def word(self, address: int) -> int:
        return int.from_bytes(self.memory[address - BASE:][:4].tobytes(), "little", signed=True)

    def signed(self, name: str) -> int:
        width = next(x.width for word in DESCRIPTOR.values() for x in word if x.name == name)
        return self.d[name] - (self.d[name] >> width - 1 << width)

    def stored(self, name: str, rows: int, columns: int) -> list[list[int]]:
        d, address, out = self.d, self.d[name], []
        for row in range(rows):
            out.append([self.byte(address % 2**32 + column) for column in range(columns)])
            wrap = name == "b" and d["b_group"] and (row + 1) % d["b_group"] == 0
            address += self.signed("b_wrap") if wrap else d[f"{name}_pitch"]
        return out

    def position(self, axis: str, pitch: int, pixels: int, taps: int) -> tuple[bool, int]:
        """Whether it is in the tensor, and its bytes from that of the origin."""
        d = self.d
        at, rest, offset = self.signed(f"origin_{axis}"), d[f"origin_{axis}_rest"], 0
        for step, count in (("step", pixels), ("tap", taps)):
            for _ in range(count):
                at += d[f"{step}_{axis}"]
                rest += d[f"{step}_{axis}_rest"]
                offset += d[f"{step}_{axis}_bytes"]
                if rest >= d[f"insert_{axis}"]:
                    rest -= d[f"insert_{axis}"]
                    offset += pitch
        return 0 <= at < d[f"limit_{axis}"] and rest == 0, offset

    def gathered(self, name: str, rows: int, columns: int) -> list[list[int]]:
        d, out = self.d, []
        for row in range(rows):
            image, y, x = (row // d["grid_x"] // d["grid_y"], row // d["grid_x"] % d["grid_y"],
                           row % d["grid_x"])
            values = []
            for column in range(0, columns, d["pixel"]):
                tap = column // d["pixel"]
                in_y, at_y = self.position("y", d["row_pitch"], y, tap // d["taps_x"])
                in_x, at_x = self.position("x", d["pixel"], x, tap % d["taps_x"])
                address = d[name] + image * d["image_pitch"] + at_y + at_x
                values += [self.byte(address % 2**32 + c) if in_y and in_x else 0
                           for c in range(d["pixel"])]
            out.append(values[:columns])
        return out

    def operand(self, name: str, lanes: int, across: int) -> list[list[int]]:
        """As rows (columns) of the product by K."""
        shape = (self.d["k"], lanes) if across else (lanes, self.d["k"])
        out = (self.gathered if self.d[f"gather_{name}"] else self.stored)(name, *shape)
        return [list(column) for column in zip(*out, strict=True)] if across else out

    def requantised(self, acc: int, row: int, column: int) -> int:
        d, entry = self.d, self.d["table"] + 16 * column
        shift = self.word(entry + 8)
        value = (acc + self.word(entry)) * self.word(entry + 4)
        index = np.array([(row * d["n"] + column) % 2**32], np.uint32)
        fraction = int(random_bits(d["seed"], index)[0]) if d["stochastic"] else 1 << 31
        rounded = ((value << 32) + (fraction << shift)) >> 32 + shift
        return max(self.signed("low"), min(rounded + self.signed("zero_point"), self.signed("high")))

    def run(self) -> int:
        """Changes the memory. The largest accumulator magnitude."""
        d = self.d
        a, b = self.operand("a", d["m"], d["a_across"]), self.operand("b", d["n"], d["b_across"])
        acc = [[sum(x * y for x, y in zip(u, v, strict=True)) for v in b] for u in a]
        c = [[self.requantised(x, i, j) for j, x in enumerate(row)] for i, row in enumerate(acc)
             ] if d["requantise"] else acc
        size = 1 if d["requantise"] else 4
        results = [(d["c"] + i * d["c_pitch"] + size * j, size, x)
                   for i, row in enumerate(c) for j, x in enumerate(row)]
        if d["sums"]:
            results += [(d["sums_address"] + 4 * j, 4, sum(column)) for j, column in
                        enumerate(zip(*c, strict=True))]
        for address, size, x in results:
            self.memory[address - BASE:][:size] = np.frombuffer(
                (x % 256**size).to_bytes(size, "little"), np.uint8)
        return max(abs(x) for row in acc for x in row)


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_chains_match_a_walk_byte_by_byte(config):
    rng = np.random.default_rng(seed())
    for _ in range(20):
        chain = random_chain(rng, config, largest=24)
        result, memory = chain.run()
        expected, largest = chain.memory.copy(), []
        for descriptor in chain.descriptors:
            if descriptor.fields["op"] == DescriptorOp.GEMM:
                largest.append(Walk(expected, descriptor.fields).run())
            else:
                largest.append(0)
            record = descriptor.address - BASE + 4 * RECORD_WORD
            expected[record:record + 16] = np.array([1, largest[-1], 0, 0], "<u4").view(np.uint8)
        assert result == ChainResult(len(chain.descriptors), max_abs=largest[-1]), str(chain)
        assert not differences(chain, result, expected, memory), str(chain)


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_broken_rules_are_reported_in_order(config):
    rng = np.random.default_rng(seed())
    arena = Arena(rng)
    for name, changes, error, value in broken_rules(rng, config):
        fields = random_descriptor(rng, arena, config, 24).fields | changes
        words = words_of(encode_descriptor(**fields))
        words[0] |= 1 << 31     # no field: of the word nevertheless
        expected = words[value] if isinstance(value, int) else fields[value] % 2**32
        assert check(words, config) == (error, expected), name
        arena = Arena(rng)
    assert {error for _, _, error, _ in broken_rules(rng, config)} == {
        Error.UNKNOWN, Error.ALIGNMENT, Error.DIMENSION, Error.PITCH, Error.PLAN}


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_a_bad_descriptor_ends_the_chain(config):
    """What is before it is complete, and nothing else is touched."""
    rng = np.random.default_rng(seed())
    for name, changes, error, _value in broken_rules(rng, config):
        chain = random_chain(rng, config, largest=24)
        bad = int(rng.integers(len(chain.descriptors)))
        before = chain.memory.copy()
        if bad:
            chain.rewrite(bad - 1, last=1)
            _, before = chain.run()
            chain.rewrite(bad - 1, last=0)
        # By itself, so that neither place of the operands matters.
        chain.rewrite(bad, **{"op": DescriptorOp.GEMM, "columns_outer": 0} | changes)
        result, memory = chain.run()
        assert (result.completed, result.error, result.failed) == (
            bad, error, chain.descriptors[bad].address), name
        for descriptor in chain.descriptors[max(bad - 1, 0):bad + 1]:
            first = descriptor.address - BASE
            before[first:first + 176] = memory[first:first + 176]
        np.testing.assert_array_equal(memory, before, name)


def product(arena: Arena, **changes) -> dict:
    """Fields of 3 x 2 x 16, its operands in the arena."""
    a, a_pitch = arena.place(np.ones((3, 16), np.int8))
    b, b_pitch = arena.place(np.ones((2, 16), np.int8))
    return {"op": DescriptorOp.GEMM, "last": 1, "a": a, "a_pitch": a_pitch, "b": b, "b_pitch": b_pitch,
            "c": arena.take(24), "c_pitch": 8, "m": 3, "n": 2, "k": 16, "a_panel": 3, "b_panel": 2,
            "chunk": 16} | changes


SIZE = 1 << 19
END = BASE + SIZE
#: A of 16 rows of 3 bytes; A of three neighbouring pixels.
ROWS = {"a_pitch": 8, "a_across": 1, "m": 3}
PIXELS = {"gather_a": 1, "pixel": 16, "taps_x": 1, "grid_x": 9, "grid_y": 1, "limit_y": 1, "limit_x": 3,
          "step_x": 1, "step_x_bytes": 16, "insert_y": 1, "insert_x": 1}


@pytest.mark.parametrize(("changes", "error", "value"), [
    ({"a": END}, Error.BUS_READ, END),
    ({"a": END - 120} | ROWS, Error.BUS_READ, END),
    ({"a": END - 128} | ROWS, Error.NONE, 0),
    ({"a": 0}, Error.BUS_READ, 0),
    ({"b": BASE - 8}, Error.BUS_READ, BASE - 8),
    ({"b": 2**32 - 8, "b_pitch": 16}, Error.BUS_READ, 2**32 - 8),
    ({"b": END - 16, "b_group": 1, "b_wrap": 8}, Error.BUS_READ, END),
    ({"b": END - 16, "b_group": 1, "b_wrap": -8}, Error.NONE, 0),
    ({"requantise": 1, "table": END - 16}, Error.BUS_READ, END),
    ({"c": END - 16}, Error.BUS_WRITE, END),
    ({"c": END - 24}, Error.NONE, 0),
    ({"c": BASE - 8}, Error.BUS_WRITE, BASE - 8),
    ({"sums": 1, "columns_outer": 1, "sums_address": END}, Error.BUS_WRITE, END),
    (PIXELS | {"a": END - 32}, Error.BUS_READ, END),
    (PIXELS | {"a": END - 32, "limit_x": 2}, Error.NONE, 0),
])
def test_outside_of_memory_are_bus_errors(changes, error, value):
    rng, config = np.random.default_rng(seed()), Config.of("8x8")
    arena = Arena(rng, size=SIZE)
    fields = product(arena, **changes)
    arena.state[arena.state == 0x80] = 0
    before = arena.state.copy()
    result = run_descriptor(arena.state, words_of(encode_descriptor(**fields)), config, BASE)
    assert (result.error, result.value) == (error, value)
    assert error == Error.NONE or np.array_equal(arena.state, before)


def test_errors_of_the_chain_itself():
    rng, config = np.random.default_rng(seed()), Config.of("8x8")
    arena = Arena(rng)

    def run(fields, at=None, faults=()):
        address = arena.take(192)
        arena.put([address], np.frombuffer(encode_descriptor(**fields), np.uint8)[None])
        return address, run_chain(arena.memory.copy(), at or address, config, BASE, faults)

    nothing = {"op": DescriptorOp.NONE}
    _, result = run(nothing | {"next": END})
    assert result == ChainResult(1, Error.BUS_READ, END, END)
    _, result = run(nothing | {"next": BASE + 4})
    assert result == ChainResult(1, Error.ALIGNMENT, BASE + 4, BASE + 4)
    assert run({}, at=END - 128)[1] == ChainResult(0, Error.BUS_READ, END, END - 128)
    fields = product(arena)
    place, result = run(fields | {"last": 1})
    assert result == ChainResult(1, max_abs=16)
    arena.memory[fields["a"] - BASE + 9] = 0x80
    assert run_chain(arena.memory, place, config, BASE) == ChainResult(0, Error.OPERAND, 0, place)
    arena.memory[fields["a"] - BASE + 9] = 0x81
    for address, error in ((fields["a"], Error.BUS_READ), (fields["c"], Error.BUS_WRITE)):
        for kind in (Error.BUS_READ, Error.BUS_WRITE):
            faults = [(address + 3, address + 4, kind)]
            result = run_chain(arena.memory.copy(), place, config, BASE, faults)
            assert result == (ChainResult(0, error, address, place) if kind == error
                              else ChainResult(1, max_abs=127 - 15))


@pytest.mark.parametrize("changes", [
    {"step_x_rest": 1}, {"step_y_bytes": 1}, {"tap_y_bytes": 8}, {"origin_y_rest": 1}])
def test_refuses_what_is_undefined(changes):
    arena = Arena(np.random.default_rng(seed()))
    fields = product(arena, gather_a=1, pixel=8, taps_x=1, grid_x=9, grid_y=1, limit_y=1, limit_x=2,
                     insert_y=1, insert_x=1) | changes
    with pytest.raises(ValueError, match=next(iter(changes))):
        run_descriptor(arena.state, words_of(encode_descriptor(**fields)), Config.of("8x8"), BASE)
    with pytest.raises(ValueError, match="uint8"):
        run_descriptor(arena.state.view(np.int8), words_of(encode_descriptor(**fields)),
                       Config.of("8x8"), BASE)


def test_refuses_an_endless_chain():
    arena = Arena(np.random.default_rng(seed()))
    address = arena.take(192)
    arena.put([address], np.frombuffer(encode_descriptor(next=address), np.uint8)[None])
    with pytest.raises(ValueError, match=f"{address:#x}"):
        run_chain(arena.memory, address, Config.of("8x8"), BASE)
