"""Cuts a product of any size into panels that fit the buffers."""

from dataclasses import dataclass
from functools import lru_cache

from backbeat_rtl.config import WORD, Config

__all__ = ["Plan", "Step", "plan", "steps"]


@dataclass(frozen=True)
class Plan:
    """A loop nest over macro-tiles of C and chunks of K.

    ``a_panel`` rows, ``b_panel`` columns and ``chunk`` steps of K per run; ``rows_outer`` says that
    the row panels are the outer loop. ``words`` are the operand words it moves.
    """

    m: int
    n: int
    k: int
    a_panel: int
    b_panel: int
    chunk: int
    rows_outer: bool
    words: int


@dataclass(frozen=True)
class Step:
    """One run: which panels, in which halves, and whether they have to be loaded first."""

    rows: slice
    columns: slice
    k: slice
    a_half: int
    b_half: int
    c_half: int
    load_a: bool
    load_b: bool
    accumulate: bool
    last_chunk: bool


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


@lru_cache(maxsize=4096)
def plan(m: int, n: int, k: int, config: Config) -> Plan:
    """The loop nest with the fewest cycles at a door that moves one word per cycle.

    Loading, computing and reading overlap; what cannot is the first panels' load and the last
    macro-tile's reading. All feasible panel sizes are tried (some hundreds, once per shape).
    """
    row_tiles, column_tiles = _ceil(m, config.rows), _ceil(n, config.columns)
    compute = row_tiles * column_tiles * max(k, config.row_pairs)
    best = None
    for a_tiles in range(1, min(row_tiles, config.tiles) + 1):
        for b_tiles in range(1, min(column_tiles, config.tiles // a_tiles) + 1):
            # Equal panels: no short rest at the end that leaves the array waiting for words.
            a_panels, b_panels = _ceil(row_tiles, a_tiles), _ceil(column_tiles, b_tiles)
            if (_ceil(row_tiles, a_panels), _ceil(column_tiles, b_panels)) != (a_tiles, b_tiles):
                continue
            capacity = config.depth // max(a_tiles, b_tiles) // WORD * WORD
            if not capacity:
                continue
            chunks = _ceil(k, capacity)
            chunk = _ceil(_ceil(k, chunks), WORD) * WORD
            k_words = _ceil(k, WORD)
            for rows_outer in (True, False):
                outer, inner = (a_panels, b_panels) if rows_outer else (b_panels, a_panels)
                # The two halves of the outer operand keep up to two chunks over the inner loop.
                outer_loads = 1 if chunks <= 2 else inner
                inner_loads = 1 if inner * chunks <= 2 else outer
                a_loads, b_loads = ((outer_loads, inner_loads) if rows_outer
                                    else (inner_loads, outer_loads))
                words = (a_loads * m + b_loads * n) * k_words
                a_panel = min(a_tiles * config.rows, m)
                b_panel = min(b_tiles * config.columns, n)
                cycles = (max(words + m * n, compute) + (a_panel + b_panel) * chunk // WORD
                          + a_panel * b_panel)
                if best is None or cycles < best[0]:
                    best = cycles, Plan(m, n, k, a_tiles * config.rows, b_tiles * config.columns,
                                        chunk, rows_outer, words)
    return best[1]


class _Halves:
    """Which panels a scratchpad holds; the half used longest ago gives way."""

    def __init__(self):
        self.keys, self.newest = [None, None], 1

    def get(self, key) -> tuple[int, bool]:
        """Half of that panel, and whether it has to be loaded."""
        load = key not in self.keys
        if load:
            self.keys[1 - self.newest] = key
        self.newest = self.keys.index(key)
        return self.newest, load


def steps(p: Plan):
    """The runs of a plan, in order."""
    a_halves, b_halves = _Halves(), _Halves()
    row_panels = [slice(r, min(r + p.a_panel, p.m)) for r in range(0, p.m, p.a_panel)]
    column_panels = [slice(c, min(c + p.b_panel, p.n)) for c in range(0, p.n, p.b_panel)]
    chunks = [slice(k, min(k + p.chunk, p.k)) for k in range(0, p.k, p.chunk)]
    macro_tiles = ([(r, c) for r in row_panels for c in column_panels] if p.rows_outer
                   else [(r, c) for c in column_panels for r in row_panels])
    for number, (rows, columns) in enumerate(macro_tiles):
        for k in chunks:
            a_half, load_a = a_halves.get((rows.start, k.start))
            b_half, load_b = b_halves.get((columns.start, k.start))
            yield Step(rows, columns, k, a_half, b_half, number % 2, load_a, load_b,
                       accumulate=k.start > 0, last_chunk=k.stop == p.k)
