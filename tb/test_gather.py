"""The gatherer: the segments of a rectangle cover what the model says, word by word."""

import numpy as np
import pytest

from backbeat_rtl import descriptor_model
from backbeat_rtl.config import WORD
from backbeat_rtl.gather import GATHER_FIELDS, Gather, Move, Rectangle, Segment

from .harness import Simulation
from .streams import Sink, Source, bits, cycle, drain, fields

GATHER = Simulation(Gather)
SIGNED = {"origin_y", "origin_x"}

#: Where a word comes from: an address, or nowhere.
Word = int | None


def geometry(chosen: dict[str, int], **more: int) -> dict[str, int]:
    """The fields of a descriptor, from what is free to choose in them."""
    d = chosen | more
    for axis, unit in (("y", d["row_pitch"]), ("x", d["pixel"])):
        insert = d[f"insert_{axis}"]
        d[f"origin_{axis}_rest"] = d[f"origin_{axis}"] % insert
        for name in (f"step_{axis}", f"tap_{axis}"):
            d[f"{name}_rest"] = d[name] % insert
            d[f"{name}_bytes"] = d[name] // insert * unit % 2**32
    return d


def _forward(rng):
    """Strides and dilations, padding on all sides."""
    return {f"{name}_{axis}": int(rng.integers(1, 4)) for name in ("step", "tap") for axis in "yx"} | {
        "insert_y": 1, "insert_x": 1}


def _backward(rng):
    """Zeros between the pixels of the tensor, of another number in each direction."""
    return {"step_y": 1, "step_x": 1, "tap_y": int(rng.integers(1, 4)), "tap_x": int(rng.integers(1, 4)),
            "insert_y": int(rng.integers(1, 5)), "insert_x": int(rng.integers(1, 5))}


def _anything(rng):
    """Steps that no convolution has, up to the largest, whole multiples of the insertion or not."""
    steps = {}
    for axis in "yx":
        insert = steps[f"insert_{axis}"] = int(rng.choice([1, 2, 5, 85, 255]))
        for name in ("step", "tap"):
            steps[f"{name}_{axis}"] = int(rng.choice([insert, insert, insert, 255, 7]))
    return steps


def _divided(rng):
    """In one direction several steps, or taps, until there is a pixel again."""
    steps, axis = _forward(rng), rng.choice(["y", "x"])
    insert, parts = [(6, (2, 3)), (12, (3, 4, 6)), (16, (4, 8))][rng.integers(3)]
    steps[f"insert_{axis}"] = insert
    for name in ("step", "tap"):
        steps[f"{name}_{axis}"] = int(rng.choice(parts))
    return steps


CLASSES = {"forward": _forward, "backward": _backward, "divided": _divided, "anything": _anything}


def tensor(rng, steps: dict[str, int]) -> dict[str, int]:
    """A random tensor, grid and number of taps for these steps."""
    pixel, d = WORD * int(rng.choice([1, 1, 2, 5])), dict(steps)
    for axis in "yx":
        insert, step, tap = (steps[f"{name}_{axis}"] for name in ("insert", "step", "tap"))
        size = int(rng.integers(1, 4 + (3 * step + 2 * tap) // insert))
        d[f"limit_{axis}"] = (size - 1) * insert + 1
        d[f"origin_{axis}"] = int(rng.choice([0, 0, -insert, -rng.integers(insert + 3)]))
        d[f"grid_{axis}"] = int(rng.integers(1, 5))
        if axis == "x":
            d["row_pitch"] = pixel * size + WORD * int(rng.integers(0, 3))
    height = (d["limit_y"] - 1) // steps["insert_y"] + 1
    image_pitch = d["row_pitch"] * height + WORD * int(rng.integers(0, 3))
    if rng.random() < 0.4:      # addresses in which every bit counts, and that begin again at 0
        d["row_pitch"], image_pitch = (WORD * rng.integers(2**29, size=2)).tolist()
    return geometry(d, pixel=pixel, taps_x=int(rng.integers(1, 4)), image_pitch=image_pitch)


#: What is counted so far that the upper bits of counters and positions take part.
FAR = "grid_x", "grid_y", "taps_x", "taps_y", "pixel", "pixel", "pixel", "grid_y", "grid_x"


def far_out(rng, d: dict[str, int], way: str, step: int) -> tuple[int, int]:
    """Makes a tensor long in one way; rows and columns of a matrix that is, too. With large steps one
    soon leaves it, with small ones never."""
    if way == "pixel":      # entered in its midst, often enough in its upper half
        d.update(geometry(d, pixel=WORD * int(rng.integers(2**12, 2**13)), grid_y=2, grid_x=2, taps_x=2))
        return 4, 2 * d["pixel"]
    count = int(rng.integers(9000, 10000))
    if way.startswith("taps"):
        count = min(count, (2**18 - 1) // d["pixel"])       # bytes of a rectangle have 18 bits
    d |= {"limit_y": 2**16 - 1, "limit_x": 2**16 - 1, "grid_y": 1, "grid_x": 1, "taps_x": 1}
    if way != "taps_y":     # of those there are as many as the matrix has columns for
        d[way] = count
    axis = way[-1]
    d.update(geometry(d, **{f"step_{axis}": step, f"tap_{axis}": step}))
    # Some rows more than the grid is long, so that it is seen to begin anew.
    return (count + 30, d["pixel"]) if way.startswith("grid") else (1, d["pixel"] * count)


def port_value(d: dict[str, int]) -> int:
    return bits(GATHER.component.fields, **{f.name: d[f.name] for f in GATHER_FIELDS})


def gathered(d: dict[str, int], address: int, rows: int, columns: int) -> list[list[Word]]:
    """The model's words of the whole matrix."""
    unsigned = {name: value % 2**16 if name in SIGNED else value for name, value in d.items()}
    addresses, inside = descriptor_model._gathered(unsigned, address, rows, columns)
    return np.where(inside, addresses % 2**32, None).tolist()


class Walk:
    """Rectangles of a matrix, each beginning where one before it began or ended, or at zero.

    Parameters
    ----------
    rows, columns : int
        Of the matrix, ``columns`` in bytes.
    """

    def __init__(self, rng, rows: int, columns: int):
        self.rng, self.rows, self.columns = rng, rows, columns
        self.places = {"row": (0, 0), "column": (0, 0)}     # of the last one: begin, end
        self.first = True

    def _move(self, way: str, extent: int, unit: int) -> tuple[int, int, int]:
        """Move, begin, and size; at least something is left behind ``begin``."""
        here, after = self.places[way]
        moves = [Move.ZERO] if self.first else [Move.ZERO, Move.SAME] + 3 * [Move.NEXT] * (
            after < extent and after % unit == 0)
        move = int(self.rng.choice(moves))
        begin = {Move.ZERO: 0, Move.SAME: here, Move.NEXT: after}[move]
        size = int(self.rng.integers(1, extent - begin + 1))
        if self.rng.random() < 0.8:     # a chunk; otherwise it may end inside of a word
            size = min(-(-size // unit) * unit, extent - begin)
        self.places[way] = begin, begin + size
        return move, begin, size

    def rectangle(self) -> tuple[dict[str, int], slice, slice]:
        """Its fields, and the rows and words of the matrix that it covers."""
        row_move, row, rows = self._move("row", self.rows, 1)
        column_move, column, size = self._move("column", self.columns, WORD)
        self.first = False
        return ({"rows": rows, "bytes": size, "row_move": row_move, "column_move": column_move},
                slice(row, row + rows), slice(column // WORD, -(-(column + size) // WORD)))


def words_of(segments) -> list[tuple[Word, bool, bool]]:
    """Every word of the segments, with the marks of the last one of each: end of row, end."""
    out = []
    for s in segments:
        count = -(-s.bytes // WORD)
        for n in range(count):
            last = n == count - 1
            out.append((None if s.zero else (s.address + n * WORD) % 2**32,
                        bool(s.row_end and last), bool(s.end and last)))
    return out


def expected_words(matrix, rows: slice, columns: slice) -> list[tuple[Word, bool, bool]]:
    part = [row[columns] for row in matrix[rows]]
    return [(word, n == len(row) - 1, n == len(row) - 1 and i == len(part) - 1)
            for i, row in enumerate(part) for n, word in enumerate(row)]


@pytest.mark.parametrize("steps", CLASSES)
@pytest.mark.parametrize("stall", [0, 0.5])
def test_rectangles_match_model(steps, stall):
    GATHER.run(rectangles_match_model, steps=steps, stall=stall)


async def rectangles_match_model(dut, rng, steps, stall):
    source, sink = Source(dut, "i", rng, stall / 2), Sink(dut, "o", rng, stall)
    inside = total = 0
    for number in range(100):
        d = tensor(rng, CLASSES[steps](rng))
        rows = d["grid_y"] * d["grid_x"] * int(rng.integers(1, 4))
        columns = d["pixel"] * d["taps_x"] * int(rng.integers(1, 4))
        far = FAR[number] if number < len(FAR) else None
        if stall and far not in ("pixel", "grid_y"):    # each takes a while
            far = None
        if far:
            rows, columns = far_out(rng, d, far, 255 if number < FAR.index("pixel") else 5)
        address = int(rng.choice([0, 2**31, 2**32 - 64])) + WORD * int(rng.integers(0, 2**20))
        matrix = gathered(d, address, rows, columns)
        dut.i_fields.value, dut.i_address.value = port_value(d), address % 2**32
        for _ in range(2):      # it wants them some time before
            await cycle(dut)
        walk, expected, rectangles = Walk(rng, rows, columns - int(rng.integers(0, WORD))), [], []
        for _ in range(10 if far in (None, "pixel") else 2):
            rectangle, *part = walk.rectangle()
            expected += expected_words(matrix, *part)
            rectangles.append(rectangle)
            source.words.append(bits(Rectangle, **rectangle))
        await drain(dut, source, sink)

        what = f"tensor {number}, {rectangles} of {rows} x {walk.columns} with {d}"
        segments = [fields(Segment, word) for word in sink.words]
        sink.words.clear()
        got = words_of(segments)
        for n, (found, wanted) in enumerate(zip(got, expected, strict=False)):
            assert found == wanted, f"{what}, word {n}: got {found}, expected {wanted}"
        assert len(got) == len(expected), what
        size = sum(segment.bytes for segment in segments)
        assert size == sum(r["rows"] * r["bytes"] for r in rectangles), f"{what}: {size} bytes"
        assert max(segment.bytes for segment in segments) <= d["pixel"], f"{what}: beyond a pixel"
        if not far:
            inside += sum(word[0] is not None for word in expected)
            total += len(expected)
    assert 0.05 < inside / total < 0.95, f"{inside} of {total} words in memory prove little"
