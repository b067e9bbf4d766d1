"""Cycles that a plan takes, from the doorbell to the last acknowledgement: a bound, and a prediction."""

from collections import deque

from backbeat_rtl.config import WORD
from backbeat_rtl.isa import FETCHED_WORDS

from .memory import Memory, padded
from .plans import TABLES, Plan, Problem, ceil, chunks, steps

__all__ = ["LONGEST_WALK", "bound", "predict", "runs"]

#: Runs walked through of one plan: the rest of a large product goes on as its second half.
LONGEST_WALK = 800
#: Cycles, as measured: from the doorbell to the first word of an operand, but for the descriptor's
#: words and two latencies; from an operand's last word to the array; from a tile's last step to the
#: read-out of its sums; from the last word read out to the answer, but for two latencies.
_START, _FEED, _DRAIN, _END = 55, 13, 21, 40
#: Bytes of a descriptor that are read.
_DESCRIPTOR = 4 * FETCHED_WORDS
#: Read bursts, and panels, asked for ahead of their data, and write bursts not yet acknowledged; cycles,
#: beside the memory's latency, until the place of one is free again.
_READS, _LOADS, _READ_ROUND, _WRITES, _WRITE_ROUND = 30, 4, 6, 15, 8
#: From read-out to read-out; from a read-out to the load of a table that wants its place; from a table's
#: last word to its first use.
_TURN, _FREED, _FILLED = 4, 14, 14
#: Cycles between two waves of the read-out at least.
_WAVE = 4


def runs(p: Problem, plan: Plan) -> int:
    return (ceil(p.m, plan.a_panel) * ceil(p.n, plan.b_panel)
            * chunks(p.k, plan.chunk, plan.last_chunk))


def _tile(p: Problem, depth: int) -> int:
    """Cycles of a tile."""
    return max(depth, p.config.row_pairs, 2)


def _read_rate(p: Problem, depth: int) -> float:
    """Speed of a read-out beside tiles that add to sums, and need their read port to do so.

    Of a tile's cycles they take ``row_pairs``, in which no wave is sent; in the others, the first wave
    at once and more of them ``distance`` cycles apart.
    """
    c = p.config
    distance, tile = max(c.group, _WAVE), _tile(p, depth)
    free = tile - c.row_pairs
    if distance <= c.row_pairs:
        return min(1.0, ceil(free, distance) * distance / tile)
    return 1 - c.row_pairs * (c.row_pairs + 1) / (2 * distance * tile)


def _tiles(size: int, panel: int, lanes: int) -> int:
    """Tiles in all panels together."""
    return size // panel * ceil(panel, lanes) + ceil(size % panel, lanes)


def _panel(lanes: int, depth: int, across: bool, lane_count: int) -> tuple[int, int, int]:
    """Bytes and bursts of a panel, and the words of lanes that it fills: across lanes, a word belongs
    to one tile."""
    if not across:
        return lanes * padded(depth), lanes, lanes * ceil(depth, WORD) + 1
    words = lanes // lane_count * ceil(lane_count, WORD) + ceil(lanes % lane_count, WORD)
    return depth * padded(lanes), depth, depth * words + 1


def _taken(p: Problem, rows: int, columns: int) -> int:
    """Cycles in which the read-out takes rows of a macro-tile: waves at their distance, from which the
    joiner takes words; it is only on average that it must not be slower."""
    full, rest = divmod(columns, p.config.columns)
    words = full * _words(p, p.config.columns) + (_words(p, rest) if rest else 0)
    return rows * max((full + (rest > 0)) * max(p.config.group, _WAVE), words)


def _words(p: Problem, columns: int) -> int:
    """Cycles in which the joiner takes a wave: from group after group what makes words, or nothing."""
    group = p.config.group
    full, rest = divmod(columns, group)
    words = full * ceil(group * p.result_bytes, WORD) + (rest and ceil(rest * p.result_bytes, WORD))
    return words + ceil(p.config.columns, group) - full - (rest > 0)


def bound(p: Problem, plan: Plan, disturbed: bool = True) -> float:
    """Cycles if everything overlaps but the first panels and the last stripe.

    ``disturbed``: with an estimate of how long runs keep the read-out waiting.
    """
    c, rate = p.config, p.memory.effective
    count = chunks(p.k, plan.chunk, plan.last_chunk)
    last = p.k - (count - 1) * plan.chunk
    period = (count - 1) * _tile(p, plan.chunk) + _tile(p, last)
    compute = _tiles(p.m, plan.a_panel, c.rows) * _tiles(p.n, plan.b_panel, c.columns) * period
    moved = (plan.bytes_read + plan.bytes_written) / rate
    fill = (plan.a_panel + plan.b_panel) * padded(min(plan.chunk, p.k)) / rate
    # The first macro-tile cannot end before all of its panels are there, however fast the array is.
    tiles = ceil(plan.a_panel, c.rows) * ceil(plan.b_panel, c.columns)
    began = max(fill + tiles * (period - _tile(p, last)),
                (plan.a_panel + plan.b_panel) * padded(p.k) / rate)
    end = _stripe(p, *_last_stripe(p, plan))
    taken = _taken(p, p.m, p.n)
    if disturbed and count > 1 and 2 * plan.a_panel * plan.b_panel < p.m * p.n:
        # Cycles of a macro-tile in which the one before can be read out; the array waits for the rest.
        room = _tile(p, plan.chunk) + _read_rate(p, last) * _tile(p, last)
        room += (count - 2) * _read_rate(p, plan.chunk) * _tile(p, plan.chunk)
        compute += max(0, taken - compute * room / period)
    return max(moved, fill + compute + end, began + taken)


class _Bus:
    """When loads are through that come one after the other, and give way to stores."""

    def __init__(self, memory: Memory):
        self.rate, self.time, self.stored = memory.effective, 0.0, 0.0
        self.latency = memory.latency
        self.round = (memory.latency + _READ_ROUND) * memory.bandwidth / self.rate
        self.asked = 0.0            # when so much has been asked for, at its steady rate
        self.stores = deque()       # (begin, end, bytes per cycle), in order

    def load(self, ready: float, size: int, bursts: int, words: int = 0) -> float:
        """The end of a load that cannot be asked for before ``ready`` and fills ``words`` of lanes."""
        self.asked = max(self.asked, ready) + max(bursts / _READS, 1 / _LOADS) * self.round
        time = max(self.time, ready + self.latency)
        lanes = time + words
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
        # As many as may be under way are asked for at once.
        self.time = max(time + size / self.rate, lanes, self.asked - self.round + self.latency)
        return self.time

    def store(self, begin: float, end: float, size: int):
        """Bytes are written between ``begin`` and ``end``."""
        while self.stores and self.stores[0][1] <= self.time:
            self.stores.popleft()
        begin = max(begin, self.stored)
        length = max(end - begin, size / self.rate)
        self.stores.append((begin, begin + length, size / length))
        self.stored = begin + length


class _ReadOut:
    """Macro-tiles read out one after the other, their stripes as these become complete.

    ``time``: it has come so far. ``freed``: when the macro-tile before the last one was through, whose
    sums' place the next one wants.
    """

    def __init__(self, bus: _Bus):
        self.bus, self.time, self.freed, self.through = bus, 0.0, 0.0, 0.0
        self.stripes = deque()         # (complete, cycles, the macro-tile ends)

    def take(self, stripes: list[tuple[float, float]], size: int):
        """A macro-tile of ``size`` bytes: when each of its stripes can be, and how long it takes."""
        self.stripes += [(complete, cycles, number == len(stripes) - 1)
                         for number, (complete, cycles) in enumerate(stripes)]
        begin = end = max(self.time, stripes[0][0])
        for complete, cycles in stripes:
            end = max(end, complete) + cycles
        self.bus.store(begin, end, size)

    def advance(self, until: float, rate: float = 1.0):
        """Reads out until then, at that rate."""
        while self.stripes and rate > 0:
            complete, cycles, ends = self.stripes[0]
            begin = max(self.time, complete)
            if begin >= until:
                break
            end = begin + cycles / rate
            if end > until:
                self.stripes[0] = complete, cycles - (until - begin) * rate, ends
                self.time = until
                return
            self.time = end + _TURN * ends
            self.stripes.popleft()
            if ends:
                self.freed, self.through = self.through, end
        self.time = max(self.time, until)

    def finish(self, macro_tiles: int) -> float:
        """When that many macro-tiles are left that are not through."""
        while sum(ends for *_, ends in self.stripes) > macro_tiles:
            complete, cycles, _ = self.stripes[0]
            self.advance(max(self.time, complete) + cycles + 1e-6)
        return self.through


def predict(p: Problem, plan: Plan) -> int:
    """Predicted cycles: loads in order, as banks become free; runs in order, as panels and room for
    their sums are there; the read-out beside them, of all that is complete."""
    c, total = p.config, runs(p, plan)
    half, half_time = min(total, LONGEST_WALK) // 2, 0.0
    bus = _Bus(p.memory)
    bus.time = _START + 2 * p.memory.latency + _DESCRIPTOR / bus.rate
    a_banks, b_banks, tables = _Banks(c.banks), _Banks(c.banks), _Banks(TABLES)
    read_out = _ReadOut(bus)
    run_end = 0.0
    for number, (rows, i, columns, j, depth, k, last) in enumerate(steps(p, plan)):
        if number == LONGEST_WALK:
            rate = (run_end - half_time) / (number - half)
            run_end += (total - number) * rate
            return round(run_end) + _last(p, plan)
        if number == half:
            half_time = run_end
        ready = max(a_banks.loaded(bus, (i, k), *_panel(rows, depth, p.a_across, c.rows)),
                    b_banks.loaded(bus, (j, k), *_panel(columns, depth, p.b_across, c.columns)))
        begin = max(run_end, ready + _FEED)
        read_out.advance(begin)
        if k == 0:      # the half was that of the macro-tile before the last one
            begin = max(begin, read_out.finish(1))
        a_tiles, b_tiles = ceil(rows, c.rows), ceil(columns, c.columns)
        row = b_tiles * _tile(p, depth)
        run_end = begin + a_tiles * row
        a_banks.used((i, k), run_end)
        b_banks.used((j, k), run_end)
        if last:
            table = 0.0
            if p.table:     # the half was that of the macro-tile before the last one
                tables.release(read_out.finish(1) + _FREED)
                table = tables.loaded(bus, j, 16 * columns) + _FILLED
            read_out.take(_stripes(p, rows, columns, begin, _tile(p, depth), table),
                          rows * padded(columns * p.result_bytes))
        read_out.advance(run_end, _read_rate(p, depth) if k else 1.0)
    return round(max(read_out.finish(0), bus.stored)) + 2 * p.memory.latency + _END


def _stripes(p: Problem, rows: int, columns: int, begin: float, tile: int,
             table: float) -> list[tuple[float, float]]:
    """When each stripe of a macro-tile can be read out whose last run begins then, and how long that
    takes."""
    c = p.config
    out, wave = [], max(c.group, _WAVE)
    tiles, width = ceil(columns, c.columns), c.stripe * c.columns
    for row in range(0, rows, c.rows):
        height = min(c.rows, rows - row)
        for column in range(0, columns, width):
            taken = min(width, columns - column)
            # Its first row may be on its way when the last tile of it is complete.
            number = row // c.rows * tiles + ceil(column + taken, c.columns)
            complete = begin + number * tile + _drain(p) - (ceil(taken, c.columns) - 1) * wave
            out.append((max(complete, table), _stripe(p, height, taken)))
    return out


def _drain(p: Problem) -> int:
    """Cycles from a tile's last step to the read-out of its sums, which come pair of rows by pair."""
    return _DRAIN + max(_WAVE, p.config.row_pairs)


def _stripe(p: Problem, rows: int, columns: int) -> float:
    """Cycles in which a stripe is read out and stored, every row a burst."""
    return max(_taken(p, rows, columns), rows / _WRITES * (p.memory.latency + _WRITE_ROUND),
               rows * padded(columns * p.result_bytes) / p.memory.bandwidth)       # refresh: in all


def _last_stripe(p: Problem, plan: Plan) -> tuple[int, int]:
    """Rows and columns of the last stripe of C."""
    c = p.config
    columns, width = p.n % plan.b_panel or plan.b_panel, c.stripe * c.columns
    return ((p.m % plan.a_panel or plan.a_panel) % c.rows or c.rows), columns % width or width


def _last(p: Problem, plan: Plan) -> int:
    """Cycles from the last run's end to the answer."""
    return round(_stripe(p, *_last_stripe(p, plan))) + _drain(p) + 2 * p.memory.latency + _END


class _Banks:
    """What is held where, since when and until when."""

    def __init__(self, banks: int):
        self.keys, self.free = [None] * banks, [0.0] * banks
        self.place, self.ends, self.turn = {}, [0.0] * banks, 0

    def loaded(self, bus: _Bus, key, size: int, bursts: int = 1, words: int = 0) -> float:
        """When the panel is there; it is loaded if it is not held."""
        bank = self.place.get(key)
        if bank is None:
            bank = self.turn
            self.turn = (bank + 1) % len(self.keys)
            self.place.pop(self.keys[bank], None)
            self.keys[bank], self.place[key] = key, bank
            self.ends[bank] = bus.load(self.free[bank], size, bursts, words)
        return self.ends[bank]

    def release(self, time: float):
        """The bank that is filled next is free from then on."""
        self.free[self.turn] = time

    def used(self, key, end: float):
        """A run (store) that reads it ends then."""
        self.free[self.place[key]] = end
