"""Plans of products in memory: legal, exact in what they count, and as fast as they say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import backbeat
from backbeat.device import fewest_bytes as fewest_bytes_of
from backbeat.device import plan_job
from backbeat.memory import Memory
from backbeat.planner import plan
from backbeat.plans import NoPlanError, fewest_bytes
from backbeat.products import OPS, Gemm
from backbeat.trial import Trial
from backbeat.workloads import WORKLOADS
from backbeat_rtl.config import PRESETS, Config

MEMORY = Memory()
CONFIGS = st.sampled_from([*PRESETS.values(), Config(2, 2, 16, 2), Config(6, 10, 64, 4),
                           Config(4, 14, 64, 8, requantisers=2)])


def padded(size):
    return -(-size // 8) * 8


class Banks:
    """What a scratchpad holds: filled in turn, what is held is not loaded again."""

    def __init__(self, count):
        self.keys, self.turn = [None] * count, 0

    def load(self, key) -> bool:
        if key in self.keys:
            return False
        self.keys[self.turn] = key
        self.turn = (self.turn + 1) % len(self.keys)
        return True


def walk(p, m, n, k, a_across, b_across, config, result_bytes, table):
    """Bytes read and written by the loop nest of the specification, and the elements computed."""
    a, b, tables = Banks(config.banks), Banks(config.banks), Banks(2)
    done = np.zeros((m, n), dtype=int)
    read = written = 0
    row_panels, column_panels = range(0, m, p.a_panel), range(0, n, p.b_panel)
    order = ([(i, j) for j in column_panels for i in row_panels] if p.columns_outer
             else [(i, j) for i in row_panels for j in column_panels])
    for i, j in order:
        rows, columns = min(p.a_panel, m - i), min(p.b_panel, n - j)
        start = 0
        while start < k:
            depth = k - start if k - start <= max(p.chunk, p.last_chunk) else p.chunk
            if a.load((i, start)):
                read += depth * padded(rows) if a_across else rows * padded(depth)
            if b.load((j, start)):
                read += depth * padded(columns) if b_across else columns * padded(depth)
            done[i:i + rows, j:j + columns] += depth
            start += depth
        if table and tables.load(j):
            read += 16 * columns
        written += rows * padded(columns * result_bytes)
    return read, written, done


@given(m=st.integers(1, 150), n=st.integers(1, 150), k=st.integers(1, 700), a_across=st.booleans(),
       b_across=st.booleans(), config=CONFIGS, int8=st.booleans(), sums=st.booleans())
@settings(max_examples=200, deadline=None)
def test_plan_is_legal_and_counts_what_it_moves(m, n, k, a_across, b_across, config, int8, sums):
    result_bytes = 1 if int8 else 4
    try:
        p = plan(m, n, k, a_across, b_across, config, MEMORY, result_bytes, int8, sums)
    except NoPlanError:
        # No word of 8 columns (rows, across) fits a bank.
        assert any(size > lanes and -(-8 // lanes) * 8 > config.bank
                   for size, lanes in ((n, config.columns), (m if a_across else 0, config.rows)))
        return
    a_tiles, b_tiles = -(-p.a_panel // config.rows), -(-p.b_panel // config.columns)
    deepest = min(k, max(p.chunk, p.last_chunk))
    assert max(a_tiles, b_tiles) * padded(deepest) <= config.bank
    assert a_tiles * b_tiles <= config.tiles
    assert p.chunk % 8 == 0 or p.chunk >= k
    assert p.b_panel % 8 == 0 or p.b_panel >= n
    assert not a_across or p.a_panel % 8 == 0 or p.a_panel >= m
    assert 1 <= p.a_panel <= m and 1 <= p.b_panel <= n and 1 <= p.chunk <= k
    assert p.columns_outer or not sums
    read, written, done = walk(p, m, n, k, a_across, b_across, config, result_bytes, int8)
    assert (p.bytes_read, p.bytes_written) == (read, written + (padded(4 * n) if sums else 0))
    assert (done == k).all()


@given(m=st.integers(1, 90), n=st.integers(1, 90), k=st.integers(1, 400), op=st.sampled_from(OPS),
       config=CONFIGS, int8=st.booleans(), sums=st.booleans(), data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_legal_plan_moves_fewer_than_the_fewest_bytes(m, n, k, op, config, int8, sums, data):
    """Any panels that the core accepts, counted by the walk; the minimum is that of one of them."""
    across, result_bytes = (op[0] == "t", op[1] == "n"), 1 if int8 else 4
    try:
        fewest = fewest_bytes(m, n, k, *across, config, result_bytes, int8, sums)
    except NoPlanError:
        with pytest.raises(NoPlanError):
            plan(m, n, k, *across, config, MEMORY, result_bytes, int8, sums)
        return
    a_panel, b_panel, chunk, last = (data.draw(st.integers(1, size)) for size in (m, n, k, k))
    a_panel = min(m, padded(a_panel)) if across[0] else a_panel
    b_panel, chunk = min(n, padded(b_panel)), min(k, padded(chunk))
    a_tiles, b_tiles = -(-a_panel // config.rows), -(-b_panel // config.columns)
    assume(a_tiles * b_tiles <= config.tiles)
    assume(max(a_tiles, b_tiles) * padded(max(chunk, last)) <= config.bank)
    p = replace(plan(m, n, k, *across, config, MEMORY, result_bytes, int8, sums), a_panel=a_panel,
                b_panel=b_panel, chunk=chunk, last_chunk=last,
                columns_outer=sums or data.draw(st.booleans()))
    read, written, _ = walk(p, m, n, k, *across, config, result_bytes, int8)
    assert fewest <= read + written + (padded(4 * n) if sums else 0)


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_move_little_more_than_the_fewest_bytes(name):
    config = Config.of("16x16")
    for product in WORKLOADS[name].products():
        for int8 in (True, False):
            job = Trial(product, int8, np.random.default_rng(0)).job().lower(8).job
            p, fewest = plan_job(job, config, MEMORY), fewest_bytes_of(job, config)
            assert fewest <= p.bytes_read + p.bytes_written <= 1.25 * fewest, (product, int8, p)


#: (config, M, N, K, op, bytes of a result): what the figures are made of.
BENCH = [("16x16", 512, 512, 512, "nt", 1), ("16x16", 512, 512, 512, "tn", 4),
         ("16x16", 1024, 1024, 64, "nt", 1), ("16x16", 128, 512, 784, "nt", 1),
         ("16x16", 512, 784, 128, "tn", 4), ("16x16", 12544, 64, 576, "nt", 1),
         ("16x16", 64, 576, 12544, "tn", 4), ("32x14", 256, 1024, 1024, "nt", 1),
         ("32x14", 256, 1024, 1024, "nn", 1), ("32x14", 1024, 1024, 256, "tn", 1),
         ("8x8", 512, 512, 512, "nt", 1), ("8x8", 256, 1024, 1024, "nn", 1)]


@pytest.mark.parametrize(("name", "m", "n", "k", "op", "result_bytes"), BENCH)
def test_plan_moves_few_bytes_in_few_cycles(name, m, n, k, op, result_bytes):
    config = Config.of(name)
    p = plan(m, n, k, op[0] == "t", op[1] == "n", config, MEMORY, result_bytes, result_bytes == 1,
             False)
    fewest = fewest_bytes(m, n, k, op[0] == "t", op[1] == "n", config, result_bytes, result_bytes == 1)
    # Of the weight gradient on 32x14 the leanest plans are 17 % slower: many sums for few steps.
    most = 1.9 if (name, op) == ("32x14", "tn") else 1.25
    assert fewest <= p.bytes_read + p.bytes_written <= most * fewest
    compute = -(-m // config.rows) * -(-n // config.columns) * k
    assert compute < p.cycles < 1.12 * max(compute, fewest / MEMORY.effective,
                                           m * n / config.requantisers)


def test_slow_memory_makes_another_plan():
    """Where the memory is the bound, fewer bytes are worth sums that have to wait."""
    fast, slow = (plan(1024, 1024, 256, True, True, Config.of("32x14"), memory, 1, True, False)
                  for memory in (MEMORY, Memory(bandwidth=1)))
    assert slow.bytes_read < fast.bytes_read and slow.cycles > fast.cycles


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(("m", "n", "k", "op"), [
    (80, 80, 80, "nn"), (128, 64, 300, "nt"), (9, 200, 64, "tt"), (256, 48, 96, "tn"),
    (31, 32, 31, "nn")])
@pytest.mark.parametrize("config", ["4x4", "8x8"])
def test_predicted_cycles_and_bytes_are_those_of_the_rtl(config, m, n, k, op, int8):
    rng = np.random.default_rng(0)
    a = rng.integers(-127, 128, (m, k) if op[0] == "n" else (k, m), dtype=np.int8)
    b = rng.integers(-127, 128, (k, n) if op[1] == "n" else (n, k), dtype=np.int8)
    spec = backbeat.Requantise(1 << 20, 32) if int8 else None
    with backbeat.open("verilator", config) as acc:
        acc.gemm(a, b, op, requantize=spec)
        p = plan_job(Gemm(a, b, op, None, spec).lower(8).job, acc.config, acc.memory)
        assert (acc.last.bytes_read, acc.last.bytes_written) == (p.bytes_read, p.bytes_written)
        assert acc.last.cycles == pytest.approx(p.cycles, rel=0.05, abs=100)
