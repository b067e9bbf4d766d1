"""Chooses the panels of a product that the core carries out from memory."""

from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from math import inf

from backbeat_rtl.config import WORD, Config

from .memory import Memory, padded

__all__ = ["NoPlanError", "Plan", "fewest_bytes", "plan"]


class NoPlanError(ValueError):
    """The buffers of this core are too small for the orientation of this product."""


@dataclass(frozen=True)
class Plan:
    """A loop nest over macro-tiles of C and chunks of K, as a descriptor has it.

    Attributes
    ----------
    a_panel, b_panel : int
        Rows and columns of C in a macro-tile.
    chunk : int
        Steps of K in a run.
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


#: Halves of the epilogue's table.
_TABLES = 2
#: Plans that are walked through, of all that fit, and how far above the lowest bound theirs may be. Runs
#: walked in all, and for one plan: the rest of a large product goes on as its second half.
_CANDIDATES, _SLACK, _WALK, _LONGEST_WALK = 64, 0.025, 36_000, 800
#: Smaller chunks than fit are tried too: the first run then starts earlier.
_CHUNK_DIVISORS = (1, 2, 4)
#: Cycles, as measured: from the doorbell to the first request for an operand, latency aside; from an
#: operand's last word to the array; from a run's end to its last sum in the accumulators; from the last
#: word stored to the answer, latency aside.
_START, _FEED, _DRAIN, _END = 140, 12, 40, 20
#: Of predictions that differ by less, that of the plan that moves the fewest bytes wins.
_TOLERANCE = 0.011


def _ceil(value: int, divisor: int) -> int:
    return -(-value // divisor)


@dataclass(frozen=True)
class _Problem:
    m: int
    n: int
    k: int
    a_across: bool
    b_across: bool
    config: Config
    memory: Memory
    result_bytes: int
    table: bool
    sums: bool
    a_inside: int | None
    b_inside: int | None


@lru_cache(maxsize=4096)
def plan(m: int, n: int, k: int, a_across: bool, b_across: bool, config: Config, memory: Memory,
         result_bytes: int, table: bool, sums: bool, a_inside: int | None = None,
         b_inside: int | None = None) -> Plan:
    """The plan that takes the fewest cycles and, among equals, moves the fewest bytes.

    Parameters
    ----------
    m, n, k : int
    a_across, b_across : bool
        The operand is stored with K as its rows.
    result_bytes : int
        1 or 4 bytes per value of C.
    table : bool
        C is requantised.
    sums : bool
        The sums of the columns of C are stored too.
    a_inside, b_inside : int, optional
        Bytes of the operand that are read, if it is gathered and others are zeros around and between
        the tensor's. The port makes those no faster.

    Raises
    ------
    NoPlanError
        No panel fits that is made of whole words.
    """
    problem = _Problem(m, n, k, a_across, b_across, config, memory, result_bytes, table, sums, a_inside,
                       b_inside)
    candidates = sorted(_legal(problem), key=lambda c: c[:2])
    if not candidates:
        raise _no_plan(problem)
    left, walked = _WALK, []
    for candidate in _promising(candidates):
        if len(walked) == _CANDIDATES:
            break
        runs = min(_LONGEST_WALK, _runs(problem, candidate))
        if walked and runs > left:
            break
        left -= runs
        walked.append(replace(candidate, cycles=max(
            _walk(problem, candidate), round(_bound(problem, candidate, disturbed=False)))))
    limit = min(p.cycles for p in walked) * (1 + _TOLERANCE)
    return _inside(problem, min((p for p in walked if p.cycles <= limit),
                                key=lambda p: (_moved(problem, p), p.cycles)))


def _promising(candidates: list[tuple[float, int, Plan]]) -> dict[Plan, None]:
    """Plans worth a walk, the best first: those that no other one beats in bound and bytes; then, in
    turn, those with the fewest bytes and those with the lowest bounds."""
    close = sorted((c for c in candidates if c[0] <= candidates[0][0] * (1 + _SLACK)),
                   key=lambda c: (c[1], c[0]))
    unbeaten, lowest = [], inf
    for candidate in close:
        if candidate[0] < lowest:
            lowest = candidate[0]
            unbeaten.append(candidate)
    in_turn = (c for pair in zip_longest(close, candidates[:_CANDIDATES]) for c in pair if c)
    return dict.fromkeys(c[2] for c in (*unbeaten, *in_turn))


def _inside(p: _Problem, plan_: Plan) -> Plan:
    """The plan with the bytes that are really read."""
    return replace(plan_, a_bytes=plan_.a_bytes if p.a_inside is None else p.a_inside,
                   b_bytes=plan_.b_bytes if p.b_inside is None else p.b_inside)


def _moved(p: _Problem, plan_: Plan) -> int:
    inside = _inside(p, plan_)
    return inside.bytes_read + inside.bytes_written


@lru_cache(maxsize=4096)
def fewest_bytes(m: int, n: int, k: int, a_across: bool, b_across: bool, config: Config,
                 result_bytes: int, table: bool, sums: bool = False, a_inside: int | None = None,
                 b_inside: int | None = None) -> int:
    """What the loop nest moves at least with these buffers, however long it takes.

    The minimum over all legal plans: for every number of row and column tiles, of the largest panels
    and the longest chunk that fit, since larger ones are loaded no more often. The compulsory bytes,
    each operand and result once, are the bound of any buffer size; this is that of this one.

    Parameters and errors are those of :func:`plan`; the memory does not matter.
    """
    p = _Problem(m, n, k, a_across, b_across, config, None, result_bytes, table, sums, a_inside,
                 b_inside)
    out = []
    for a_tiles in range(1, config.tiles + 1):
        a_panel = _largest(m, config.rows, a_tiles, a_across)
        for b_tiles in range(1, config.tiles // a_tiles + 1):
            b_panel = _largest(n, config.columns, b_tiles, b_across)
            chunk = min(k, config.bank // max(a_tiles, b_tiles) // WORD * WORD)
            if a_panel and b_panel and chunk:
                out += [_moved(p, _plan(p, a_panel, b_panel, chunk, columns_outer))
                        for columns_outer in ((True,) if sums else (False, True))]
    if not out:
        raise _no_plan(p)
    return min(out)


def _no_plan(p: _Problem) -> NoPlanError:
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
    panel = _ceil(_ceil(lanes, _ceil(lanes, tiles * lane_count)), lane_count) * lane_count
    return panel // WORD * WORD if whole_words else panel


def _legal(p: _Problem):
    """Yields (bound on cycles, bytes, plan) of each plan that fits the buffers."""
    c = p.config
    a_panels = {_panels(p.m, c.rows, t, p.a_across) for t in range(1, c.tiles + 1)} - {0}
    b_panels = {_panels(p.n, c.columns, t, True) for t in range(1, c.tiles + 1)} - {0}
    for a_panel in a_panels:
        a_tiles = _ceil(a_panel, c.rows)
        for b_panel in b_panels:
            b_tiles = _ceil(b_panel, c.columns)
            if a_tiles * b_tiles > c.tiles:
                continue
            capacity = c.bank // max(a_tiles, b_tiles) // WORD * WORD
            chunks = {min(p.k, _ceil(_ceil(p.k, _ceil(p.k, capacity // d)), WORD) * WORD)
                      for d in _CHUNK_DIVISORS if capacity // d >= WORD}
            for chunk in chunks:
                for columns_outer in (True,) if p.sums else (False, True):
                    candidate = _plan(p, a_panel, b_panel, chunk, columns_outer)
                    yield _bound(p, candidate), _moved(p, candidate), candidate


def _plan(p: _Problem, a_panel: int, b_panel: int, chunk: int, columns_outer: bool) -> Plan:
    """Counts what it loads.

    A scratchpad's banks, filled in turn, keep what is asked for in a cycle if it is no longer than
    there are banks. Otherwise each panel is gone just before it is wanted again.
    """
    rows, columns, chunks = _ceil(p.m, a_panel), _ceil(p.n, b_panel), _ceil(p.k, chunk)
    banks = p.config.banks
    if columns_outer:
        a_loads = 1 if rows * chunks <= banks else columns
        b_loads = 1 if chunks <= banks else rows
        table_loads = 1
    else:
        a_loads = 1 if chunks <= banks else columns
        b_loads = 1 if columns * chunks <= banks else rows
        table_loads = 1 if columns <= _TABLES else rows
    return Plan(
        a_panel, b_panel, chunk, columns_outer, a_loads, b_loads, table_loads if p.table else 0,
        a_bytes=p.k * padded(p.m) if p.a_across else p.m * padded(p.k),
        b_bytes=p.k * padded(p.n) if p.b_across else p.n * padded(p.k),
        table_bytes=16 * p.n,
        bytes_written=p.m * padded(p.n * p.result_bytes) + (padded(4 * p.n) if p.sums else 0))


def _runs(p: _Problem, plan_: Plan) -> int:
    return (_ceil(p.m, plan_.a_panel) * _ceil(p.n, plan_.b_panel) * _ceil(p.k, plan_.chunk))


def _tiles(size: int, panel: int, lanes: int) -> int:
    """Tiles in all panels together."""
    return size // panel * _ceil(panel, lanes) + _ceil(size % panel, lanes)


def _taken(p: _Problem, rows: int, columns: int) -> int:
    """Cycles in which the read-out takes a macro-tile."""
    c = p.config
    return rows * (columns // c.columns * c.group + min(columns % c.columns, c.group))


def _disturbed(p: _Problem, plan_: Plan) -> float:
    """By how much a read-out takes longer beside runs: tiles that add to sums need their read port."""
    chunks = _ceil(p.k, plan_.chunk)
    pairs = p.config.row_pairs
    return 1 / (1 - (chunks - 1) / chunks * pairs / (max(plan_.chunk, pairs) + 1))


def _bound(p: _Problem, plan_: Plan, disturbed: bool = True) -> float:
    """Cycles if everything overlaps but the first panels and the last macro-tile.

    ``disturbed``: with an estimate of how long runs keep the read-out waiting.
    """
    c, rate = p.config, p.memory.effective
    run = max(plan_.chunk, c.row_pairs)
    rest = p.k % plan_.chunk
    steps = p.k // plan_.chunk * run + (max(rest, c.row_pairs) if rest else 0)
    compute = (_tiles(p.m, plan_.a_panel, c.rows) * _tiles(p.n, plan_.b_panel, c.columns) * steps)
    moved = (plan_.bytes_read + plan_.bytes_written) / rate
    last = _taken(p, p.m % plan_.a_panel or plan_.a_panel, p.n % plan_.b_panel or plan_.b_panel)
    fill = (plan_.a_panel + plan_.b_panel) * padded(plan_.chunk) / rate
    first = compute / (_ceil(p.m, plan_.a_panel) * _ceil(p.n, plan_.b_panel))
    taken = _taken(p, p.m, p.n) * (_disturbed(p, plan_) if disturbed else 0)
    # The first macro-tile cannot end before all of its panels are there, however fast the array is.
    began = max(fill + first, (plan_.a_panel + plan_.b_panel) * padded(p.k) / rate)
    return max(moved, began + compute - first + last, began + taken)


class _Bus:
    """When loads are through that come one after the other, and give way to stores."""

    def __init__(self, rate: float):
        self.rate, self.time, self.stored = rate, 0.0, 0.0
        self.stores = deque()       # (begin, end, bytes per cycle), in order

    def load(self, ready: float, size: int) -> float:
        """The end of a load that cannot begin before ``ready``."""
        time = max(self.time, ready)
        for begin, end, taken in self.stores:
            if end <= time:
                continue
            if time + size / self.rate <= begin:
                break
            if begin > time:
                size -= (begin - time) * self.rate
                time = begin
            left = self.rate - taken
            if left > 0 and size <= left * (end - time):
                time += size / left
                size = 0
                break
            size -= left * (end - time)
            time = end
        self.time = time + size / self.rate
        return self.time

    def store(self, ready: float, size: int, cycles: int) -> float:
        """The end of a store that cannot begin before ``ready`` nor take less than ``cycles``."""
        begin = max(ready, self.stored)
        length = max(cycles, size / self.rate)
        while self.stores and self.stores[0][1] <= self.time:
            self.stores.popleft()
        self.stores.append((begin, begin + length, size / length))
        self.stored = begin + length
        return self.stored


def _walk(p: _Problem, plan_: Plan) -> int:
    """Predicted cycles: loads in order, as banks become free; runs in order, as panels and room for
    their sums are there; stores as their runs end."""
    total = _runs(p, plan_)
    half, half_time = min(total, _LONGEST_WALK) // 2, 0.0
    bus = _Bus(p.memory.effective)
    bus.time = _START + p.memory.latency
    banks = p.config.banks
    a_banks, b_banks = _Banks(banks), _Banks(banks)
    tables = _Banks(_TABLES)
    read_out = _ReadOut(bus)
    run_end = lost = 0.0
    for number, (rows, i, columns, j, depth, k, last) in enumerate(_steps(p, plan_)):
        if number == _LONGEST_WALK:
            rate = (run_end - half_time) / (number - half)
            return round(run_end + (total - number) * rate) + _last(p, plan_)
        if number == half:
            half_time = run_end
        a_size = depth * padded(rows) if p.a_across else rows * padded(depth)
        b_size = depth * padded(columns) if p.b_across else columns * padded(depth)
        ready = max(a_banks.loaded(bus, (i, k), a_size), b_banks.loaded(bus, (j, k), b_size))
        if p.table and k == 0:
            table_ready = tables.loaded(bus, j, 16 * columns)
        begin = max(run_end, ready + _FEED, read_out.freed if k == 0 else 0.0)
        tiles = _ceil(rows, p.config.rows) * _ceil(columns, p.config.columns)
        length = tiles * max(depth, p.config.row_pairs)
        run_end = begin + length
        lost += length * _drained(p, depth) ** 2
        a_banks.used((i, k), run_end)
        b_banks.used((j, k), run_end)
        if last:
            ready = run_end + _DRAIN
            if p.table:
                ready = max(ready, table_ready)
            end = read_out.store(ready, rows * padded(columns * p.result_bytes),
                                 _taken(p, rows, columns), run_end, lost)
            lost = 0.0
            if p.table:
                tables.used(j, end)
    return round(read_out.end) + p.memory.latency + _END


def _drained(p: _Problem, depth: int) -> float:
    """Share of a run's cycles in which sums go into the accumulators.

    A read-out that meets one waits: of the cycles of a run, it loses the square of this.
    """
    return p.config.row_pairs / max(depth, p.config.row_pairs)


class _ReadOut:
    """Macro-tiles stored one after the other, each while the next one is computed.

    ``end`` is that of the last; ``freed`` that of the one before, whose sums' place the next
    macro-tile wants.
    """

    def __init__(self, bus: _Bus):
        self.bus, self.end, self.freed = bus, 0.0, 0.0
        self.begin = self.cycles = 0.0

    def store(self, ready: float, size: int, cycles: int, run_end: float, lost: float) -> float:
        """Its end as far as is known; the runs that end at ``run_end`` took ``lost`` cycles from the
        store before."""
        span = run_end - self.begin
        if self.cycles > span - lost:       # the array waits for the rest, and takes nothing from it
            self.end = max(self.end, self.begin + self.cycles + lost)
        elif span > 0:
            self.end = max(self.end, self.begin + self.cycles * span / max(span - lost, 1))
        self.freed = self.end
        self.begin, self.cycles = max(ready, self.end), cycles
        self.end = self.bus.store(self.begin, size, cycles)
        return self.end


def _last(p: _Problem, plan_: Plan) -> int:
    """Cycles from the last run's end to the answer."""
    rows, columns = p.m % plan_.a_panel or plan_.a_panel, p.n % plan_.b_panel or plan_.b_panel
    size = rows * padded(columns * p.result_bytes)
    store = max(_taken(p, rows, columns), size / p.memory.effective)
    return round(store) + _DRAIN + p.memory.latency + _END


class _Banks:
    """What is held where, since when and until when."""

    def __init__(self, banks: int):
        self.keys, self.free = [None] * banks, [0.0] * banks
        self.place, self.ends, self.turn = {}, [0.0] * banks, 0

    def loaded(self, bus: _Bus, key, size: int) -> float:
        """When the panel is there; it is loaded if it is not held."""
        bank = self.place.get(key)
        if bank is None:
            bank = self.turn
            self.turn = (bank + 1) % len(self.keys)
            self.place.pop(self.keys[bank], None)
            self.keys[bank], self.place[key] = key, bank
            self.ends[bank] = bus.load(self.free[bank], size)
        return self.ends[bank]

    def used(self, key, end: float):
        """A run (store) that reads it ends then."""
        self.free[self.place[key]] = end


def _steps(p: _Problem, plan_: Plan):
    """The runs in order: rows and number of the row panel, columns and number of the column panel,
    depth and beginning of the chunk, and whether it is the macro-tile's last."""
    rows = [(min(plan_.a_panel, p.m - i), i) for i in range(0, p.m, plan_.a_panel)]
    columns = [(min(plan_.b_panel, p.n - j), j) for j in range(0, p.n, plan_.b_panel)]
    chunks = [(min(plan_.chunk, p.k - k), k) for k in range(0, p.k, plan_.chunk)]
    macro_tiles = (((r, c) for c in columns for r in rows) if plan_.columns_outer
                   else ((r, c) for r in rows for c in columns))
    for (height, i), (width, j) in macro_tiles:
        for depth, k in chunks:
            yield height, i, width, j, depth, k, k + depth >= p.k
