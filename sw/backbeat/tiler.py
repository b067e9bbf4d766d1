"""Cuts a product of any size into panels that fit the buffers."""

from dataclasses import dataclass
from functools import lru_cache

from backbeat_rtl.config import WORD, Config

__all__ = ["Plan", "Step", "door_cycles", "plan", "steps"]


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


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

    @property
    def runs(self) -> int:
        return _ceil(self.m, self.a_panel) * _ceil(self.n, self.b_panel) * _ceil(self.k, self.chunk)


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


#: Plans that are simulated, of all that fit: those with the lowest bound.
_CANDIDATES = 40
#: Runs walked through in all: a product of so many runs is long enough for the bound to be close.
_WALK = 20_000
#: Cycles from a command to its effect at the far end of the array, roughly.
_LATENCY = 57
#: Cycles of a command that moves no word.
_COMMAND = 3


@lru_cache(maxsize=4096)
def plan(m: int, n: int, k: int, config: Config) -> Plan:
    """The loop nest that takes the fewest cycles at a door of one word or value per cycle.

    All panel sizes that fit are tried (some hundreds, once per shape): first by a bound, then the
    best of them by a walk through their runs.
    """
    plans = sorted(_feasible(m, n, k, config), key=lambda p: max(
        p.words + m * n, _compute(m, n, k, config)))
    walks = max(1, min(_CANDIDATES, _WALK // plans[0].runs))
    return min(plans[:walks], key=lambda p: door_cycles(p, config))


def _compute(m: int, n: int, k: int, config: Config) -> int:
    """Cycles of the array for a panel product."""
    return _ceil(m, config.rows) * _ceil(n, config.columns) * max(k, config.row_pairs)


def _feasible(m: int, n: int, k: int, config: Config):
    """All plans whose panels fit the halves."""
    row_tiles, column_tiles = _ceil(m, config.rows), _ceil(n, config.columns)
    for a_tiles in range(1, min(row_tiles, config.tiles) + 1):
        for b_tiles in range(1, min(column_tiles, config.tiles // a_tiles) + 1):
            # Equal panels: no short rest at the end that leaves the array waiting for words.
            a_panels, b_panels = _ceil(row_tiles, a_tiles), _ceil(column_tiles, b_tiles)
            capacity = config.longest(max(a_tiles, b_tiles))
            if (not capacity or _ceil(row_tiles, a_panels) != a_tiles
                    or _ceil(column_tiles, b_panels) != b_tiles):
                continue
            chunks = _ceil(k, capacity)
            chunk = _ceil(_ceil(k, chunks), WORD) * WORD
            for rows_outer in (True, False):
                outer, inner = (a_panels, b_panels) if rows_outer else (b_panels, a_panels)
                # The two halves of the outer operand keep up to two chunks over the inner loop.
                outer_loads = 1 if chunks <= 2 else inner
                inner_loads = 1 if inner * chunks <= 2 else outer
                a_loads, b_loads = ((outer_loads, inner_loads) if rows_outer
                                    else (inner_loads, outer_loads))
                yield Plan(m, n, k, a_tiles * config.rows, b_tiles * config.columns, chunk,
                           rows_outer, (a_loads * m + b_loads * n) * _ceil(k, WORD))


def door_cycles(p: Plan, config: Config) -> int:
    """Cycles of a plan: commands in order at the door, runs in order behind it.

    A load waits for the runs that use its half, a run for room in the queue of one, a read for the
    end of its runs; everything else overlaps.
    """
    door = started = ended = 0
    a_free, b_free = [0, 0], [0, 0]
    finished = None
    for step in steps(p):
        rows, columns, k = (s.stop - s.start for s in (step.rows, step.columns, step.k))
        if step.load_a:
            door = max(door, a_free[step.a_half]) + _COMMAND + rows * _ceil(k, WORD)
        if step.load_b:
            door = max(door, b_free[step.b_half]) + _COMMAND + columns * _ceil(k, WORD)
        door = max(door, started) + _COMMAND
        started = max(door, ended)
        ended = started + _compute(rows, columns, k, config)
        a_free[step.a_half] = b_free[step.b_half] = ended + _LATENCY
        if finished:
            door = max(door, finished[0]) + _COMMAND + finished[1]
        finished = (ended + _LATENCY, rows * columns) if step.last_chunk else None
    return max(door, finished[0]) + finished[1]


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
