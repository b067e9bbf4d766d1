"""Plans of a product that the core carries out from memory: which there are, and the bytes they move."""

from dataclasses import dataclass, replace
from functools import lru_cache

from backbeat_rtl.config import WORD, Config

from .memory import Memory, padded

__all__ = ["TABLES", "NoPlanError", "Plan", "Problem", "ceil", "chunks", "fewest_bytes", "inside",
           "largest_plans", "legal_plans", "moved", "no_plan", "steps"]


class NoPlanError(ValueError):
    """The buffers of this core are too small for the orientation of this product."""


@dataclass(frozen=True)
class Plan:
    """A loop nest over macro-tiles of C and chunks of K, as a descriptor has it.

    Attributes
    ----------
    a_panel, b_panel : int
        Rows and columns of C in a macro-tile.
    chunk, last_chunk : int
        Steps of K in a run, and in the last run of a macro-tile at most.
    columns_outer : bool
        Column panels are the outer loop.
    a_loads, b_loads, table_loads : int
        How often each operand, and the epilogue's table, is read from memory as a whole.
    a_bytes, b_bytes, table_bytes : int
        Bytes of one such reading, in whole words.
    bytes_written : int
        Likewise, of C and of the sums of its columns.
    cycles : int
        Predicted, from the doorbell to the last acknowledgement.
    """

    a_panel: int
    b_panel: int
    chunk: int
    last_chunk: int
    columns_outer: bool
    a_loads: int
    b_loads: int
    table_loads: int
    a_bytes: int
    b_bytes: int
    table_bytes: int
    bytes_written: int
    cycles: int = 0

    @property
    def bytes_read(self) -> int:
        return (self.a_loads * self.a_bytes + self.b_loads * self.b_bytes
                + self.table_loads * self.table_bytes)


@dataclass(frozen=True)
class Problem:
    """What is to be planned; see :func:`backbeat.planner.plan`."""

    m: int
    n: int
    k: int
    a_across: bool
    b_across: bool
    config: Config
    memory: Memory | None
    result_bytes: int
    table: bool
    sums: bool
    a_inside: int | None
    b_inside: int | None


#: Halves of the epilogue's table.
TABLES = 2
#: Smaller chunks than fit are tried too: the first run then starts earlier. Where that counts, in
#: products of few macro-tiles, even smaller ones and a longer last one, beside which most of the
#: macro-tile is read out already.
_CHUNK_DIVISORS, _FEW, _FEW_DIVISORS, _LAST_WORDS = (1, 2, 4), 4, (1, 2, 4, 8), (8, 16, 32)


def ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


def chunks(k: int, chunk: int, last_chunk: int) -> int:
    """Runs of a macro-tile."""
    last = max(chunk, last_chunk)
    return 1 if k <= last else ceil(k - last, chunk) + 1


def moved(p: Problem, plan: Plan) -> int:
    """Bytes that are really read and written."""
    real = inside(p, plan)
    return real.bytes_read + real.bytes_written


def inside(p: Problem, plan: Plan) -> Plan:
    """The plan with the bytes that are really read: of gathered operands, those of the tensor."""
    return replace(plan, a_bytes=plan.a_bytes if p.a_inside is None else p.a_inside,
                   b_bytes=plan.b_bytes if p.b_inside is None else p.b_inside)


@lru_cache(maxsize=4096)
def fewest_bytes(m: int, n: int, k: int, a_across: bool, b_across: bool, config: Config,
                 result_bytes: int, table: bool, sums: bool = False, a_inside: int | None = None,
                 b_inside: int | None = None) -> int:
    """What the loop nest moves at least with these buffers, however long it takes.

    The minimum over all legal plans: for every number of row and column tiles, of the largest panels
    and the longest chunk that fit, since larger ones are loaded no more often. The compulsory bytes,
    each operand and result once, are the bound of any buffer size; this is that of this one.

    Parameters and errors are those of :func:`backbeat.planner.plan`; the memory does not matter.
    """
    p = Problem(m, n, k, a_across, b_across, config, None, result_bytes, table, sums, a_inside, b_inside)
    out = []
    for a_tiles in range(1, config.tiles + 1):
        a_panel = _largest(m, config.rows, a_tiles, a_across)
        for b_tiles in range(1, config.tiles // a_tiles + 1):
            b_panel = _largest(n, config.columns, b_tiles, b_across)
            chunk = min(k, config.bank // max(a_tiles, b_tiles) // WORD * WORD)
            if a_panel and b_panel and chunk:
                out += [moved(p, _plan(p, a_panel, b_panel, chunk, chunk, columns_outer))
                        for columns_outer in ((True,) if sums else (False, True))]
    if not out:
        raise no_plan(p)
    return min(out)


def no_plan(p: Problem) -> NoPlanError:
    return NoPlanError(f"the buffers of the {p.config.name} core (depth {p.config.depth}, tiles "
                       f"{p.config.tiles}) hold no panels of m={p.m}, n={p.n}, k={p.k} with "
                       f"a_across={p.a_across}, b_across={p.b_across}")


def _largest(lanes: int, lane_count: int, tiles: int, whole_words: bool) -> int:
    """Rows (columns) of the largest panel of so many tiles; 0 if there is none."""
    panel = tiles * lane_count
    return lanes if lanes <= panel else panel // WORD * WORD if whole_words else panel


def _panels(lanes: int, lane_count: int, tiles: int, whole_words: bool) -> int:
    """Rows (columns) of a panel of so many tiles, as even as possible; 0 if there is none."""
    if lanes <= tiles * lane_count:
        return lanes
    panel = ceil(ceil(lanes, ceil(lanes, tiles * lane_count)), lane_count) * lane_count
    return panel // WORD * WORD if whole_words else panel


def legal_plans(p: Problem):
    """Yields the plans worth a thought among those that fit the buffers."""
    c = p.config
    a_panels = {_panels(p.m, c.rows, t, p.a_across) for t in range(1, c.tiles + 1)} - {0}
    b_panels = {_panels(p.n, c.columns, t, True) for t in range(1, c.tiles + 1)} - {0}
    for a_panel in a_panels:
        a_tiles = ceil(a_panel, c.rows)
        for b_panel in b_panels:
            b_tiles = ceil(b_panel, c.columns)
            if a_tiles * b_tiles > c.tiles:
                continue
            few = ceil(p.m, a_panel) * ceil(p.n, b_panel) <= _FEW
            for chunk, last_chunk in _chunks(p, c.bank // max(a_tiles, b_tiles) // WORD * WORD, few):
                for columns_outer in (True,) if p.sums else (False, True):
                    yield _plan(p, a_panel, b_panel, chunk, last_chunk, columns_outer)


#: Tiles of a row panel that :func:`largest_plans` thinks of.
_TILES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def largest_plans(p: Problem):
    """Yields few of the legal plans: of some row panels, with the largest column panels and chunks."""
    c = p.config
    most = min(c.tiles, c.bank // WORD)     # tiles of a panel of which a bank holds a word
    for a_panel in {_panels(p.m, c.rows, t, p.a_across) for t in _TILES if t <= most} - {0}:
        a_tiles = ceil(a_panel, c.rows)
        for b_panel in {_panels(p.n, c.columns, min(c.tiles // a_tiles, most) // d, True)
                        for d in (1, 2, 4) if d <= min(c.tiles // a_tiles, most)} - {0}:
            b_tiles = ceil(b_panel, c.columns)
            capacity = c.bank // max(a_tiles, b_tiles) // WORD * WORD
            few = ceil(p.m, a_panel) * ceil(p.n, b_panel) <= _FEW
            for chunk in {min(p.k, ceil(ceil(p.k, ceil(p.k, capacity // d)), WORD) * WORD)
                          for d in (_FEW_DIVISORS if few else (1, 2)) if capacity // d >= WORD}:
                for columns_outer in (True,) if p.sums else (False, True):
                    yield _plan(p, a_panel, b_panel, chunk, chunk, columns_outer)


def _chunks(p: Problem, capacity: int, few: bool) -> set[tuple[int, int]]:
    """Chunks and last chunks of up to ``capacity`` steps."""
    even = {min(p.k, ceil(ceil(p.k, ceil(p.k, capacity // d)), WORD) * WORD)
            for d in (_FEW_DIVISORS if few else _CHUNK_DIVISORS) if capacity // d >= WORD}
    out = {(chunk, chunk) for chunk in even}
    if few:
        for chunk in {capacity // d // WORD * WORD for d in _FEW_DIVISORS if capacity // d >= WORD}:
            out |= {(chunk, last) for last in (WORD * words for words in _LAST_WORDS)
                    if chunk < last <= min(capacity, p.k - 1)}
    return out


def _plan(p: Problem, a_panel: int, b_panel: int, chunk: int, last_chunk: int,
          columns_outer: bool) -> Plan:
    """Counts what it loads.

    A scratchpad's banks, filled in turn, keep what is asked for in a cycle if it is no longer than
    there are banks. Otherwise each panel is gone just before it is wanted again.
    """
    rows, columns = ceil(p.m, a_panel), ceil(p.n, b_panel)
    runs, banks = chunks(p.k, chunk, last_chunk), p.config.banks
    if columns_outer:
        a_loads = 1 if rows * runs <= banks else columns
        b_loads = 1 if runs <= banks else rows
        table_loads = 1
    else:
        a_loads = 1 if runs <= banks else columns
        b_loads = 1 if columns * runs <= banks else rows
        table_loads = 1 if columns <= TABLES else rows
    return Plan(
        a_panel, b_panel, chunk, last_chunk, columns_outer, a_loads, b_loads,
        table_loads if p.table else 0,
        a_bytes=p.k * padded(p.m) if p.a_across else p.m * padded(p.k),
        b_bytes=p.k * padded(p.n) if p.b_across else p.n * padded(p.k),
        table_bytes=16 * p.n,
        bytes_written=p.m * padded(p.n * p.result_bytes) + (padded(4 * p.n) if p.sums else 0))


def steps(p: Problem, plan: Plan):
    """The runs in order: rows and number of the row panel, columns and number of the column panel,
    depth and beginning of the chunk, and whether it is the macro-tile's last."""
    rows = [(min(plan.a_panel, p.m - i), i) for i in range(0, p.m, plan.a_panel)]
    columns = [(min(plan.b_panel, p.n - j), j) for j in range(0, p.n, plan.b_panel)]
    last = p.k - chunks(p.k, plan.chunk, plan.last_chunk) * plan.chunk + plan.chunk
    begins = [(plan.chunk, k) for k in range(0, p.k - last, plan.chunk)] + [(last, p.k - last)]
    macro_tiles = (((r, c) for c in columns for r in rows) if plan.columns_outer
                   else ((r, c) for r in rows for c in columns))
    for (height, i), (width, j) in macro_tiles:
        for depth, k in begins:
            yield height, i, width, j, depth, k, k + depth == p.k
