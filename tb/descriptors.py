"""Random chains of descriptors.

Fields that a descriptor does not use are random as well.
"""

from dataclasses import dataclass

import numpy as np

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.descriptor_model import check, run_descriptor
from backbeat_rtl.isa import (
    DESCRIPTOR,
    DESCRIPTOR_WORDS,
    FETCHED_WORDS,
    DescriptorOp,
    Error,
    encode_descriptor,
)

from .memory_image import Arena, Chain, Descriptor, linked, padding, up, words_of
from .products import RESULTS, random_operand, random_requantise, random_size

__all__ = ["gathered", "place_results", "place_tensor", "random_chain", "random_descriptor",
           "random_plan", "stored_operand"]

#: Kinds of products, and how often.
KINDS = {"plain": 0.55, "forward": 0.11, "input gradient": 0.12, "weight gradient": 0.11, "gather": 0.11}

#: Fields that only gathered operands have.
GATHER = [f.name for word in range(20, 33) for f in DESCRIPTOR[word]]


def random_plan(rng, m: int, n: int, k: int, a_across: bool, config: Config) -> "dict | None":
    """A legal plan, any; None if there seems to be none for such sizes."""
    def log(largest):
        return int(round(largest ** rng.random()))

    for _ in range(100):
        depth = WORD * log(config.bank // WORD)
        chunk, last_chunk = depth, int(rng.choice([0, rng.integers(depth + 1)]))
        if depth >= k:
            longest, depth = int(rng.choice([k, depth, 65535, rng.integers(k, 65536)])), up(k)
            chunk, last_chunk = longest, int(rng.choice([0, rng.integers(65536)]))
            if rng.random() < 0.3:
                chunk, last_chunk = WORD * log(depth // WORD), longest
        elif last_chunk and rng.random() < 0.7:
            chunk, last_chunk = WORD * log(depth // WORD), depth
        tiles = min(config.bank // depth, config.tiles)
        a_tiles = tiles if rng.random() < 0.1 else log(tiles)
        b_tiles = log(min(tiles, config.tiles // a_tiles))
        panels = []
        for size, lanes, count, words in ((m, config.rows, a_tiles, a_across),
                                          (n, config.columns, b_tiles, True)):
            panel = lanes * count - int(rng.choice([0, rng.integers(lanes)]))
            if panel >= size:
                panels.append(int(rng.choice([size, panel, 65535])))
            else:
                panels.append(panel // WORD * WORD if words else panel)
        if all(panels):
            return {"a_panel": panels[0], "b_panel": panels[1], "chunk": chunk,
                    "last_chunk": last_chunk}
    return None


def random_chain(rng, config: Config, count: "int | None" = None, largest: int = 80,
                 arena: "Arena | None" = None) -> Chain:
    """One to five descriptors.

    Parameters
    ----------
    largest : int
        Of M, N and K, about.
    arena : Arena
        A new one if none is given. Two chains in one arena have nothing in common.
    """
    arena = arena or Arena(rng)
    descriptors, unfenced = [], []
    for _ in range(count or int(rng.integers(1, 6))):
        if rng.random() < 0.05:
            new = Descriptor("nothing", {"op": DescriptorOp.NONE, **{
                f.name: int(rng.integers(1 << f.width)) for word, fields in DESCRIPTOR.items()
                if word < FETCHED_WORDS for f in fields if f.name != "op"}})
        else:
            new = random_descriptor(rng, arena, config, largest, descriptors)
        before = [span for d in unfenced for span in d.writes]
        read = [span for d in unfenced for span in d.reads]
        fence = (_meet(new.reads, before) or _meet(new.writes, before) or _meet(new.writes, read)
                 or rng.random() < 0.1)
        unfenced = [new] if fence else [*unfenced, new]
        new.fields["fence"] = int(fence)
        new.address = arena.take(4 * DESCRIPTOR_WORDS)
        if new.fields["op"] == DescriptorOp.GEMM:
            result = run_descriptor(arena.state, words_of(new.raw)[:FETCHED_WORDS], config,
                                    arena.base)
            assert not result.error, f"{new}: {result}"
        descriptors.append(new)
    return linked(config, arena, descriptors, end=int(rng.integers(2**31)))


def _meet(spans, others) -> bool:
    return any(a < d and c < b for a, b in spans for c, d in others)


def random_descriptor(rng, arena: Arena, config: Config, largest: int = 80,
                      earlier: "list[Descriptor] | None" = None) -> Descriptor:
    """A product, its operands in the arena; it may use what ``earlier`` ones leave there."""
    kinds = {"plain": _plain, "forward": _forward, "input gradient": _input_gradient,
             "weight gradient": _weight_gradient, "gather": _gather}
    while True:
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        result = str(rng.choice(list(RESULTS), p=list(RESULTS.values())))
        found = kinds[kind](rng, arena, config, largest, result, earlier or [])
        if found is not None:
            break
    fields, reads, *convolution = found
    descriptor = Descriptor(kind, {"op": DescriptorOp.GEMM} | fields, reads=reads,
                            convolution=tuple(convolution) or None)
    f = descriptor.fields
    f["columns_outer"] = int(rng.random() < 0.5)
    f["sums"] = int(f["columns_outer"] and rng.random() < 0.5)
    place_results(rng, arena, config, descriptor, result, earlier or [])
    unused = [] if f["requantise"] else ["table", "zero_point", "low", "high", "seed", "stochastic"]
    unused += [] if f["sums"] else ["sums_address"]
    unused += [] if f.get("b_group") else ["b_wrap"]
    unused += ["b_group"] if f.get("gather_b") else []
    unused += [] if f.get("gather_a") or f.get("gather_b") else GATHER
    unused += [f"{name}_pitch" for name in "ab" if f.get(f"gather_{name}")]
    widths = {x.name: x.width for word in DESCRIPTOR.values() for x in word}
    for name in unused:
        f[name] = int(rng.integers(1 << widths[name])) if rng.random() < 0.5 else 0
    assert check(words_of(descriptor.raw), config)[0] == Error.NONE, descriptor
    return descriptor


def place_results(rng, arena, config, descriptor, result, earlier):
    """C, its table and its sums: C in a free place, or on an operand that is not needed any more."""
    f = descriptor.fields
    m, n = f["m"], f["n"]
    f["requantise"] = int(result != "int32")
    if f["requantise"]:
        trial = np.concatenate([arena.state, np.zeros(m * up(4 * n), np.uint8)])
        probe = f | {"requantise": 0, "sums": 0, "c_pitch": up(4 * n),
                     "c": arena.base + arena.state.size}
        done = run_descriptor(trial, words_of(encode_descriptor(**probe)), config, arena.base)
        assert not done.error, f"{descriptor}: {done}"
        acc = trial[arena.state.size:].view(np.int32).reshape(m, -1)[:, :n]
        most = 20 if result == "ties" else 5000
        bias = rng.integers(-most, most, n)
        spec = random_requantise(rng, acc + bias, result)
        multiplier, shift = spec.per_column(n)
        table = np.stack([bias, multiplier, shift, rng.integers(-2**31, 2**31, n)], axis=1)
        table[:, 3] *= rng.random() < 0.2
        f["table"] = arena.take(16 * n)
        arena.put(f["table"] + 16 * np.arange(n), table.astype(np.int64).astype("<i4"))
        descriptor.reads.append((f["table"], f["table"] + 16 * n))
        f |= {"zero_point": spec.zero_point, "low": spec.low, "high": spec.high,
              "seed": spec.seed, "stochastic": int(spec.rounding == "stochastic")}
    row = n * (1 if f["requantise"] else 4)
    f["c_pitch"] = up(row) + padding(rng)
    size = f["c_pitch"] * (m - 1) + row
    own = descriptor.reads
    places = [start for d in earlier for start, end in d.reads + d.writes
              if start % WORD == 0 and end - start >= size and not _meet([(start, start + size)], own)]
    if places and rng.random() < 0.2:
        f["c"] = int(rng.choice(places))
    else:
        f["c"] = arena.take(size)
    descriptor.writes.append((f["c"], f["c"] + size))
    if f["sums"]:
        f["sums_address"] = arena.take(4 * n)
        descriptor.writes.append((f["sums_address"], f["sums_address"] + 4 * n))


def stored_operand(rng, arena, name: str, matrix: np.ndarray) -> tuple[dict, tuple[int, int]]:
    """Fields of an operand as stored; B's rows sometimes in groups."""
    rows, columns = matrix.shape
    if name == "a" or rng.random() < 0.6:
        address, pitch = arena.place(matrix)
        return ({name: address, f"{name}_pitch": pitch},
                (address, address + pitch * (rows - 1) + columns))
    group = int(rng.integers(1, rows + 1))
    if rng.random() < 0.5:      # groups one behind the other
        pitch = up(columns) + padding(rng)
        wrap = pitch + padding(rng)
    else:                       # rows of the groups between each other, upwards or downwards
        pitch = up(columns) * -(-rows // group) + padding(rng)
        wrap = -(group - 1) * pitch + up(columns) * int(rng.choice([-1, 1]))
    number = np.arange(rows)
    offset = number // group * ((group - 1) * pitch + wrap) + number % group * pitch
    size = int(offset.max() - offset.min()) + columns
    address = arena.take(size) - int(offset.min())
    arena.put(address + offset, matrix)
    first = address + int(offset.min())
    return {"b": address, "b_pitch": pitch, "b_group": group, "b_wrap": wrap}, (first, first + size)


def _sizes(rng, config, largest) -> list[int]:
    """M, N and K."""
    return [random_size(rng, lanes, largest) for lanes in (config.rows, config.columns, 8)]


def _plain(rng, arena, config, largest, result, earlier):
    """Operands stored, or one of them what an earlier descriptor leaves."""
    m, n, k = _sizes(rng, config, largest)
    f = {"a_across": int(rng.integers(2)), "b_across": int(rng.integers(2))}
    taken = {}
    choices = [d for d in earlier if d.writes]
    if choices and rng.random() < 0.5:
        source = choices[rng.integers(len(choices))].fields
        name = "a" if source["requantise"] and rng.random() < 0.7 else "b"
        row = source["n"] * (1 if source["requantise"] else 4)
        rows, columns = source["m"], min(row, largest)
        start = source["c"] - arena.base
        stored = np.lib.stride_tricks.as_strided(arena.state[start:], (rows, columns),
                                                 (source["c_pitch"], 1)).view(np.int8)
        if name == "b" or not (stored == -128).any():
            taken[name] = ({name: source["c"], f"{name}_pitch": source["c_pitch"]},
                           (source["c"], source["c"] + source["c_pitch"] * (rows - 1) + columns))
            if name == "a":
                m, k = (columns, rows) if f["a_across"] else (rows, columns)
            else:
                n, k = (columns, rows) if f["b_across"] else (rows, columns)
    sizes = _fits(rng, config, m, n, k, bool(f["a_across"]))
    if sizes is None:
        return None
    f |= sizes
    reads = []
    for name, shape, low in (("a", (k, m) if f["a_across"] else (m, k), -127),
                             ("b", (k, n) if f["b_across"] else (n, k), -128)):
        fields, span = taken.get(name) or stored_operand(
            rng, arena, name, random_operand(rng, shape, low, result))
        f |= fields
        reads.append(span)
    return f, reads


@dataclass(frozen=True)
class _Geometry:
    """One axis pair of a convolution: sizes (y, x) of tensor, kernel and output."""

    images: int
    size: tuple
    taps: tuple
    stride: tuple
    padding: tuple
    dilation: tuple

    @property
    def output(self) -> tuple:
        return tuple((h + 2 * p - d * (r - 1) - 1) // s + 1 for h, r, s, p, d in zip(
            self.size, self.taps, self.stride, self.padding, self.dilation, strict=True))


def _geometry(rng) -> _Geometry:
    """A small convolution whose output is not empty."""
    while True:
        def pair(low, high):
            values = rng.integers(low, high, 2, endpoint=True).tolist()
            return tuple(values if rng.random() < 0.5 else values[:1] * 2)

        size = pair(1, 7) if rng.random() < 0.9 else (int(rng.integers(33, 40)), 1)
        found = _Geometry(images=int(rng.integers(1, 3)), size=size, taps=pair(1, 3),
                          stride=pair(1, 3), padding=pair(0, 2), dilation=pair(1, 2))
        if min(found.output) > 0:
            return found


def place_tensor(rng, arena, values: np.ndarray) -> tuple[dict, int, tuple[int, int]]:
    """Places a tensor int8 (N, H, W, C), rows and images padded: its pitches, address and span."""
    images, height, width, pixel = values.shape
    row_pitch = width * pixel + padding(rng)
    image_pitch = height * row_pitch + padding(rng)
    size = (images - 1) * image_pitch + (height - 1) * row_pitch + width * pixel
    address = arena.take(size)
    starts = (address + np.arange(images)[:, None] * image_pitch
              + np.arange(height) * row_pitch).ravel()
    arena.put(starts, values.reshape(len(starts), -1))
    return ({"row_pitch": row_pitch, "image_pitch": image_pitch, "pixel": pixel},
            address, (address, address + size))


def gathered(name: str, tensor: dict, address: int, size, *, taps_x: int, grid, origin, step, tap,
             insert) -> dict:
    """Fields of the operand gathered from a tensor at ``address``; pairs are (y, x)."""
    f = {f"gather_{name}": 1, "taps_x": taps_x} | tensor
    for number, axis, pitch in ((0, "y", tensor["row_pitch"]), (1, "x", tensor["pixel"])):
        o, s, t, i = (int(pair[number]) for pair in (origin, step, tap, insert))
        f |= {f"grid_{axis}": grid[number], f"limit_{axis}": (size[number] - 1) * i + 1,
              f"origin_{axis}": o, f"origin_{axis}_rest": o % i, f"insert_{axis}": i,
              f"step_{axis}": s, f"step_{axis}_rest": s % i, f"step_{axis}_bytes": s // i * pitch,
              f"tap_{axis}": t, f"tap_{axis}_rest": t % i, f"tap_{axis}_bytes": t // i * pitch}
        address += o // i * pitch
    return f | {name: address}


def _fits(rng, config, m, n, k, across) -> "dict | None":
    """Fields of the sizes and of a plan for them."""
    plan = random_plan(rng, m, n, k, across, config)
    return plan and {"m": m, "n": n, "k": k} | plan


def _forward(rng, arena, config, largest, result, _earlier):
    """Y (N, P, Q, K) of X (N, H, W, C) and W (K, R, S, C)."""
    g = _geometry(rng)
    (p, q), (r, s), c = g.output, g.taps, int(rng.choice([8, 16]))
    outputs = random_size(rng, config.columns, min(largest, 40))
    f = _fits(rng, config, g.images * p * q, outputs, r * s * c, False)
    if f is None:
        return None
    x = random_operand(rng, (g.images, *g.size, c), -127, result)
    w = random_operand(rng, (outputs, r, s, c), -128, result)
    tensor, address, span = place_tensor(rng, arena, x)
    f |= gathered("a", tensor, address, g.size, taps_x=s, grid=g.output,
                  origin=[-pad for pad in g.padding], step=g.stride, tap=g.dilation, insert=(1, 1))
    stored, weights = stored_operand(rng, arena, "b", w.reshape(outputs, -1))
    return f | stored, [span, weights], g, x, w


def _input_gradient(rng, arena, config, largest, result, _earlier):
    """dX (N, H, W, C) of dY (N, P, Q, K) and W (K, R, S, C), whose taps are passed backwards."""
    g = _geometry(rng)
    (r, s), k = g.taps, int(rng.choice([8, 16]))
    c = random_size(rng, config.columns, min(largest, 24))
    f = _fits(rng, config, g.images * g.size[0] * g.size[1], c, r * s * k, False)
    if f is None:
        return None
    dy = random_operand(rng, (g.images, *g.output, k), -127, result)
    w = random_operand(rng, (k, r, s, c), -128, result)
    tensor, address, span = place_tensor(rng, arena, dy)
    f |= gathered("a", tensor, address, g.output, taps_x=s, grid=g.size,
                  origin=[pad - d * (taps - 1) for d, taps, pad in zip(
                      g.dilation, g.taps, g.padding, strict=True)],
                  step=(1, 1), tap=g.dilation, insert=g.stride)
    pixel = up(c)
    weights = arena.take(k * r * s * pixel)
    arena.put(weights + pixel * np.arange(k * r * s), w.reshape(-1, c))
    f |= {"b_across": 1, "b": weights + (r * s - 1) * pixel, "b_pitch": r * s * pixel, "b_group": k,
          "b_wrap": -(k - 1) * r * s * pixel - pixel}
    return f, [span, (weights, weights + k * r * s * pixel)], g, dy, w


def _weight_gradient(rng, arena, config, largest, result, _earlier):
    """dW (K, R, S, C) of dY (N, P, Q, K) and X (N, H, W, C)."""
    g = _geometry(rng)
    (r, s), c = g.taps, int(rng.choice([8, 16]))
    outputs = random_size(rng, config.rows, min(largest, 40))
    pixels = g.images * g.output[0] * g.output[1]
    f = _fits(rng, config, outputs, r * s * c, pixels, True)
    if f is None:
        return None
    x = random_operand(rng, (g.images, *g.size, c), -128, result)
    dy = random_operand(rng, (g.images, *g.output, outputs), -127, result)
    tensor, address, span = place_tensor(rng, arena, x)
    f |= gathered("b", tensor, address, g.size, taps_x=s, grid=g.output,
                  origin=[-pad for pad in g.padding], step=g.stride, tap=g.dilation, insert=(1, 1))
    stored, gradient = stored_operand(rng, arena, "a", dy.reshape(pixels, outputs))
    return f | stored | {"a_across": 1, "b_across": 1}, [gradient, span], g, x, dy


def _gather(rng, arena, config, largest, result, _earlier):
    """Any operand, gathered in steps that no convolution has; rows end within an image, columns
    within a tap."""
    f = {"a_across": int(rng.integers(2)), "b_across": int(rng.integers(2))}
    m, n, k = _sizes(rng, config, largest)
    sizes = _fits(rng, config, m, n, k, bool(f["a_across"]))
    if sizes is None:
        return None
    f |= sizes
    name = str(rng.choice(["a", "b"]))
    shapes = {"a": (k, m) if f["a_across"] else (m, k), "b": (k, n) if f["b_across"] else (n, k)}
    rows, columns = shapes[name]
    grid = rng.integers(1, 7, 2).tolist()
    images, c = -(-rows // (grid[0] * grid[1])), int(rng.choice([8, 16, 24]))
    size = rng.integers(1, 6, 2).tolist()
    taps_x = int(rng.integers(1, 5))
    lows = {"a": -127, "b": -128}
    tensor, address, span = place_tensor(
        rng, arena, random_operand(rng, (images, *size, c), lows[name], result))
    f |= gathered(name, tensor, address, size, taps_x=taps_x, grid=grid,
                  origin=rng.integers(-9, 10, 2), step=rng.choice([0, 1, 1, 2, 3, 5, 255], 2),
                  tap=rng.choice([0, 1, 1, 2, 4, 7, 255], 2), insert=rng.choice([1, 1, 2, 3, 7], 2))
    other = "b" if name == "a" else "a"
    stored, operand = stored_operand(rng, arena, other,
                                     random_operand(rng, shapes[other], lows[other], result))
    return f | stored, [span, operand] if name == "a" else [operand, span]
