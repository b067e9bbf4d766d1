"""The beat of the array: what every register holds in every cycle of a product, and what that is called.

Values come from the waveform alone. Which step of which tile a register holds follows from the cycle in
which the array was told of the tile's last step, and from the delays of ``backbeat_rtl``; that it is so
is checked against the operands, value by value, so that no label can be wrong.
"""

from dataclasses import dataclass

import numpy as np

from backbeat_rtl import array, pe
from backbeat_rtl.config import Config
from backbeat_rtl.pe import LOW

from .waveform import Registers, TraceError

__all__ = ["DRAIN", "Beat", "Drain", "check", "follow", "operands"]

#: Cycles from the array's port to an operand register of PE(0, 0): the edge's register, and its own.
OPERAND = 2
PRODUCT, SUM = OPERAND + 1, 1 + pe.LATENCY
#: Cycles from a final P to its two sums, to the adder before its accumulator, and to the accumulator.
SUMS = array.LATENCY - SUM
DRAIN = SUMS + 2
#: What can be looked at: MACs of a side of the array, steps of K, tiles.
SIDE, STEPS, TILES = 8, 12, 4


def check(m: int, k: int, n: int, config: Config):
    """
    Raises
    ------
    ValueError
        Names the value that makes the picture too large to look at, and its limit.
    """
    for name, value in (("M", m), ("K", k), ("N", n)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if max(config.rows, config.columns) > SIDE:
        raise ValueError(f"config must be at most {SIDE}x{SIDE} to be looked at, got {config.name}")
    if k > STEPS:
        raise ValueError(f"K must be at most {STEPS} to be looked at, got {k}")
    down, right = -(-m // config.rows), -(-n // config.columns)
    for name, value, size, tiles in (("M", m, config.rows, down), ("N", n, config.columns, right)):
        if tiles > TILES:
            raise ValueError(f"{name} must be at most {TILES * size} to be looked at, {TILES} tiles of "
                             f"{size}, got {value}")
    if down * right > TILES:
        raise ValueError(f"M and N must make at most {TILES} tiles of {config.name} to be looked at, "
                         f"got {down} x {right} with M={m} and N={n}")


def operands(m: int, k: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A, int8 [m, k], and B, int8 [k, n], of -9...9."""
    rng = np.random.default_rng(seed)
    return rng.integers(-9, 10, (m, k), dtype=np.int8), rng.integers(-9, 10, (k, n), dtype=np.int8)


@dataclass(frozen=True)
class Drain:
    """A pair of sums on its way from its element to its accumulators.

    Attributes
    ----------
    tile, pair, column : int
    picked : int
        Cycle in which P is final, and the drain picks it.
    sums : tuple of int
        Of the pair's rows, as the array delivers them and the accumulators take them.
    stored : int
        First cycle in which the accumulators hold them.
    """

    tile: int
    pair: int
    column: int
    picked: int
    sums: tuple[int, int]
    stored: int


@dataclass(frozen=True, eq=False)
class Beat:
    """A product in the array. In cycle 0 the first operands are at its port.

    Attributes
    ----------
    config : Config
    a, b : int8 array [M, K], [K, N]
    c : int array [M, N]
        As the accumulators hold it at the end.
    starts : list of int
        Cycle in which the first step of each tile is at the port of row pair 0 and column 0.
    edge_a, edge_b : int array [cycles, rows], [cycles, columns]
        The registers between port and elements.
    operand_a, operand_b : int array [cycles, rows, columns], [cycles, row_pairs, columns]
    product, sum : int array [cycles, rows, columns]
        Multiplier's register and accumulator; of the latter both fields, taken apart with the wrap
        count that belongs to it and comes ``COUNT_LAG`` cycles later.
    drains : list of Drain
        Those that carry a value of C, in order.
    """

    config: Config
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    starts: list[int]
    edge_a: np.ndarray
    edge_b: np.ndarray
    operand_a: np.ndarray
    operand_b: np.ndarray
    product: np.ndarray
    sum: np.ndarray
    drains: list[Drain]

    @property
    def cycles(self) -> int:
        """From the first operand at the port to the last sum in its accumulator."""
        return len(self.sum)

    @property
    def k(self) -> int:
        return self.a.shape[1]

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return -(-self.b.shape[1] // self.config.columns)

    def row(self, tile: int, lane: int) -> "int | None":
        """The row of A and C that a row of the array works on; None: there is none, it is fed zeros."""
        row = tile // self.across * self.config.rows + lane
        return row if row < len(self.a) else None

    def column(self, tile: int, lane: int) -> "int | None":
        """Likewise, of B and C."""
        column = tile % self.across * self.config.columns + lane
        return column if column < self.b.shape[1] else None

    def fed(self, cycle: int) -> "tuple[int, int] | None":
        """Tile and step at the port of row pair 0 in that cycle; None: zeros."""
        for tile, start in enumerate(self.starts):
            if 0 <= cycle - start < self.k:
                return tile, cycle - start
        return None


def _sums(r: Registers) -> np.ndarray:
    """[cycles - COUNT_LAG, rows, columns]: P, taken apart as the drain does."""
    p, count = r.p[:len(r.p) - pe.COUNT_LAG], r.count[pe.COUNT_LAG:]
    low = (count << LOW) | (p & (1 << LOW) - 1)
    return np.stack([low, (p >> LOW) - count], axis=2).reshape(len(p), -1, p.shape[2])


def follow(r: Registers, a: np.ndarray, b: np.ndarray, config: Config) -> Beat:
    """The product that those registers have made.

    Parameters
    ----------
    r : Registers
    a, b : int8 array [M, K], [K, N]
        What the core has been given.
    config : Config

    Raises
    ------
    TraceError
        In some cycle a register does not hold what the picture would call it: says which, and what it
        holds.
    """
    (m, k), n = a.shape, b.shape[1]
    across = -(-n // config.columns)
    tiles = -(-m // config.rows) * across
    lasts = np.flatnonzero(r.last)
    if len(lasts) != tiles:
        raise TraceError(f"the array was told of {len(lasts)} tiles, expected {tiles}")
    base = int(lasts[0]) - k + 1
    beat = Beat(config, a, b, np.zeros((m, n), np.int64), [int(last) - k + 1 - base for last in lasts],
                *(x[base:] for x in (r.edge_a, r.edge_b, r.a, r.b, r.product, _sums(r))), [])
    for tile, start in enumerate(beat.starts):
        for pair in range(config.row_pairs):
            for lane in range(config.columns):
                if beat.row(tile, 2 * pair) is None or beat.column(tile, lane) is None:
                    continue
                drain = _drained(r, base, beat, tile, pair, lane, start + k - 1 + SUM)
                beat.drains.append(drain)
                for odd, value in enumerate(drain.sums):
                    if (row := beat.row(tile, 2 * pair + odd)) is not None:
                        beat.c[row, beat.column(tile, lane)] = value
    beat.drains.sort(key=lambda drain: (drain.picked, drain.pair))
    end = 1 + max(drain.stored for drain in beat.drains)
    beat = Beat(config, a, b, beat.c, beat.starts,
                *(x[:end] for x in (beat.edge_a, beat.edge_b, beat.operand_a, beat.operand_b,
                                    beat.product, beat.sum)), beat.drains)
    _check_operands(beat)
    return beat


def _check_operands(beat: Beat):
    """Each operand is where the picture says in each cycle, and everywhere else are zeros."""
    rows, columns, end = beat.config.rows, beat.config.columns, beat.cycles
    size = end + beat.k + rows + columns        # room for what passes after the last cycle
    a, b = np.zeros((size, rows, columns + 1), int), np.zeros((size, rows // 2 + 1, columns), int)
    for tile, start in enumerate(beat.starts):
        for lane in range(rows):
            if (row := beat.row(tile, lane)) is not None:
                for c in range(columns + 1):
                    at = start + 1 + lane // 2 + c
                    a[at:at + beat.k, lane, c] = beat.a[row]
        for lane in range(columns):
            if (column := beat.column(tile, lane)) is not None:
                for p in range(rows // 2 + 1):
                    at = start + 1 + lane + p
                    b[at:at + beat.k, p, lane] = beat.b[:, column]
    _expect(beat.edge_a[:, :, None], a[:end, :, :1], "the edge of row {0}")
    _expect(beat.edge_b[:, None], b[:end, :1], "the edge of column {1}")
    _expect(beat.operand_a, a[:end, :, 1:], "operand a of row {0} in column {1}")
    _expect(beat.operand_b, b[:end, 1:], "operand b of PE({0}, {1})")


def _expect(found: np.ndarray, expected: np.ndarray, where: str):
    for at in np.argwhere(found != expected)[:1]:
        cycle, *place = at.tolist()
        raise TraceError(f"cycle {cycle}: {where.format(*place)} is {found[tuple(at)]}, expected "
                         f"{expected[tuple(at)]}: the array's skew or delays are not those of "
                         "sw/backbeat/animate/beat.py")


def _drained(r: Registers, base: int, beat: Beat, tile: int, pair: int, lane: int,
             final: int) -> Drain:
    """A pair's way out, from the element to what is written into its accumulators."""
    picked = final + pair + lane
    at, where = base + picked, f"PE({pair}, {lane})"
    if r.low[at + 1, lane] != r.p[at, pair, lane] & (1 << LOW) - 1:
        raise TraceError(f"cycle {picked}: the drain does not pick P of {where}; it is expected to "
                         f"{SUM} cycles behind the tile's last step, plus row pair and column")
    bits = max((beat.config.row_pairs - 1).bit_length(), 1)
    stored = at + DRAIN
    if not r.write[stored - 1, lane] or r.address[stored - 1, lane] != (tile << bits) + pair:
        raise TraceError(f"cycle {picked + DRAIN - 1}: column {lane} does not write the sums of {where} "
                         f"to tile {tile} of its accumulators")
    sums = tuple(int(x) for x in r.sums[at + SUMS, :, lane])
    written = tuple(int(x) for x in r.new[stored - 1, :, lane])
    if written != sums:
        raise TraceError(f"cycle {picked + DRAIN - 1}: column {lane} writes {written} to its "
                         f"accumulators, where the array has delivered {sums}")
    return Drain(tile, pair, lane, picked, sums, picked + DRAIN)
