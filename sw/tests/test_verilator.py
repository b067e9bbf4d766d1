"""Backend verilator: the RTL in process, its cache, and what happens when something is missing."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import backbeat
from backbeat.backends import build
from backbeat.device import FETCHED_BEATS
from backbeat.measure import reference
from backbeat.memory import BASE, Memory
from backbeat.products import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from backbeat.program import Batch
from backbeat_rtl import isa
from backbeat_rtl.isa import Error, Op, function_id

RNG = np.random.default_rng(5)
A = RNG.integers(-128, 128, (13, 70), dtype=np.int8)
B = RNG.integers(-128, 128, (70, 21), dtype=np.int8)


@pytest.fixture(scope="module", params=[True, False], ids=["memory", "door"])
def acc(request):
    config = replace(backbeat.Config.of("4x4"), memory=request.param)
    with backbeat.open("verilator", config) as acc:
        yield acc


@pytest.mark.parametrize("low_a", [-127, -128])
@pytest.mark.parametrize("low_b", [-127, -128])
@pytest.mark.parametrize("op", ["nn", "nt", "tn", "tt"])
def test_full_range_is_exact_whichever_side_has_the_minimum(acc, op, low_a, low_b):
    a, b = np.maximum(A, low_a), np.maximum(B, low_b)
    a, b = (np.ascontiguousarray(x) for x in (a.T if op[0] == "t" else a, b.T if op[1] == "t" else b))
    np.testing.assert_array_equal(acc.gemm(a, b, op), reference(a, b, op))


def test_same_bits_as_the_model_whatever_the_array():
    spec = backbeat.Requantise(tuple(range(2**20, 2**20 + 21)), 31, rounding="stochastic", seed=9)
    results = []
    for backend, config in (("model", "16x16"), ("verilator", "4x4"), ("verilator", "8x8")):
        with backbeat.open(backend, config) as acc:
            results.append(acc.gemm(A, B, requantize=spec))
    assert len(np.unique(results[0])) > 50
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_stalls_change_cycles_but_no_bit(acc):
    straight, cycles = acc.gemm(A, B), acc.last.cycles
    acc._backend.stall(seed=3, chance=0.8)
    try:
        np.testing.assert_array_equal(acc.gemm(A, B), straight)
        assert acc.last.cycles > 1.1 * cycles
    finally:
        acc._backend.stall(seed=0, chance=0)


def test_statistics_count_what_happened(acc):
    acc.reset_stats()
    acc.gemm(np.ones((8, 16), np.int8), np.ones((12, 16), np.int8), "nt")
    assert acc.last.macs == 8 * 12 * 16
    assert acc.last.bytes_written == 8 * 12 * 4
    assert acc.last.fed == acc.last.macs // 16, "whole tiles feed the array in every cycle of a run"
    assert acc.last.bytes_read >= (8 + 12) * 16
    assert acc.last.max_abs == 16
    assert acc.last.descriptors == acc.config.memory
    if acc.config.memory:
        assert acc.last.bytes_read == acc.products[0].bytes_read, "as planned"
        assert acc.last.load_busy and acc.last.store_busy
    assert 0 < acc.last.utilisation < 1
    first = acc.last.cycles
    acc.gemm(np.ones((8, 16), np.int8), np.ones((12, 16), np.int8), "nt")
    assert acc.stats.products == 2 and acc.stats.cycles == first + acc.last.cycles


def test_counters_of_the_memory_port_add_up():
    """Every word loaded is counted once, and a slower memory shows where it is waited for."""
    deep, flat = {}, {}         # mostly loads, mostly stores
    for memory in (Memory(), Memory(bandwidth=1)):
        with backbeat.open("verilator", "4x4", memory=memory) as acc:
            for out, k in ((deep, 128), (flat, 8)):
                a, b = (RNG.integers(-127, 128, (48, k), dtype=np.int8) for _ in "ab")
                acc.gemm(a, b, "nt")
                out[memory.bandwidth] = acc.last
    for s in (*deep.values(), *flat.values()):
        assert s.load_busy - s.load_wait == s.bytes_read // 8 + FETCHED_BEATS
        assert s.fed == s.macs // 16 and s.fed <= s.busy
        # The array runs, or waits for panels; before the first panel and behind the last run it rests.
        assert s.busy + s.run_wait < s.cycles
        assert s.load_busy < s.cycles and s.store_wait <= s.store_busy < s.cycles
    assert deep[1].cycles > deep[1].bytes_read and flat[1].cycles > flat[1].bytes_written
    # A word takes eight cycles then.
    assert deep[1].load_wait > 6 * deep[1].bytes_read // 8 and deep[1].load_wait > 2 * deep[8].load_wait
    assert deep[1].run_wait > deep[8].run_wait + deep[1].cycles // 3
    assert flat[1].store_wait > flat[8].store_wait + flat[1].cycles // 3


def test_chain_of_products_and_convolutions_is_that_of_the_model(acc):
    """Whichever way the operands come: gathered from memory, or as patches through the door."""
    rng = np.random.default_rng(11)
    x, w = (rng.integers(-128, 128, s, dtype=np.int8) for s in ((2, 6, 5, 11), (9, 3, 2, 11)))
    geometry = {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}
    dy = rng.integers(-127, 128, (2, 3, 5, 9), dtype=np.int8)
    spec = backbeat.Requantise(1 << 20, 33, rounding="stochastic", seed=5, low=0)
    products = [Conv2d(x, w, **geometry), Gemm(A, B, column_sums=True),
                Conv2dInputGradient(dy, w, (6, 5), **geometry), Gemm(A, B, requantize=spec),
                Conv2dWeightGradient(dy, x, (3, 2), **geometry),
                Conv2d(x, w, requantize=spec, **geometry)]
    with backbeat.open("model", acc.config) as model:
        expected = model.run(products)
        for _ in range(2):
            for got, want in zip(acc.run(products), expected, strict=True):
                np.testing.assert_array_equal(got[0] if isinstance(got, tuple) else got,
                                              want[0] if isinstance(want, tuple) else want)
                if isinstance(got, tuple):
                    np.testing.assert_array_equal(got[1], want[1])
            assert acc.last.max_abs == model.last.max_abs
            assert [p.max_abs for p in acc.products] == [p.max_abs for p in model.products]
        if acc.config.memory:
            assert acc.last.descriptors == len(products)
            assert acc.last.bytes_read == model.last.bytes_read
            assert acc.last.bytes_written == model.last.bytes_written
            assert max(p.cycles for p in acc.products) < acc.last.cycles < 1.1 * sum(
                p.cycles for p in acc.products), "products of a chain overlap"


@pytest.mark.parametrize(("reads", "response"), [(True, 2), (False, 3)])
def test_bus_error_names_the_descriptor_and_the_core_works_again(reads, response):
    with backbeat.open("verilator", "4x4") as acc:
        products = [Gemm(np.maximum(A, low), B) for low in (-127, -126, -125)]
        acc.run(products)
        second = isa.decode_descriptor(acc._backend.arena.rows(BASE + 192, 1, 192)[0].tobytes())
        at = second["a"] if reads else second["c"] + 8 * 24
        acc._backend.fault(at, at + 1, response, reads, not reads)
        with pytest.raises(backbeat.AcceleratorError, match="descriptor 2 of 3 at 0x400000c0") as caught:
            acc.run(products)
        assert caught.value.code == (Error.BUS_READ if reads else Error.BUS_WRITE)
        acc._backend.fault()
        np.testing.assert_array_equal(acc.gemm(A, B), reference(A, B, "nn"))


def test_memory_that_was_asked_for_is_behind_the_core():
    a, b = np.maximum(A, -127), B
    cycles = []
    for memory in (Memory(), Memory(bandwidth=1), Memory(latency=500)):
        with backbeat.open("verilator", "4x4", memory=memory) as acc:
            np.testing.assert_array_equal(acc.gemm(a, b), reference(a, b, "nn"))
            cycles.append(acc.last.cycles)
            assert acc.last.roofline <= acc.last.bytes_per_cycle * acc.last.macs / 16 / (
                acc.last.compulsory_bytes)
    assert cycles[1] > 1.5 * cycles[0] and cycles[2] > cycles[0] + 1500


def test_core_error_is_raised_and_the_core_works_again(acc):
    acc._backend.execute([Batch(function_id(Op.RESET)), Batch(function_id(Op.RUN))])
    with pytest.raises(backbeat.AcceleratorError, match="NOT_LOADED") as caught:
        acc.gemm(A, B)
    assert caught.value.code == Error.NOT_LOADED
    np.testing.assert_array_equal(acc.gemm(A, B), reference(A, B, "nn"))


def test_core_of_another_size_is_refused(acc):
    config = acc._backend.config
    acc._backend.config = backbeat.Config.of("8x8")
    try:
        with pytest.raises(backbeat.AcceleratorError, match="rows 4, expected 8"):
            acc._backend.identify()
    finally:
        acc._backend.config = config
    assert isa.decode("ID", acc._backend.get(isa.Read.ID)[0])["identity"] == isa.IDENTITY


def test_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKBEAT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(backbeat.ToolError, match="'no-such-compiler' is not on PATH; install g"):
        backbeat.open("verilator", "4x4")
    assert not list(tmp_path.glob("*.so"))


def test_failing_tool_is_quoted(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKBEAT_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "CXX_FLAGS", ["-fno-such-flag"])
    with pytest.raises(backbeat.ToolError, match="(?s)compiling .* failed.*-fno-such-flag"):
        backbeat.open("verilator", "4x4")


def test_old_verilator_on_path_gives_way_to_the_package(monkeypatch, tmp_path):
    old = tmp_path / "verilator"
    old.write_text("#!/bin/sh\necho Verilator 5.006 2023-01-22 rev x\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert build.find_verilator()[0] != old
    old.write_text("#!/bin/sh\necho Verilator 5.040 2025-08-30 rev x\n")
    assert build.find_verilator()[0] == old


def test_two_processes_build_one_library(tmp_path):
    code = ("import backbeat, numpy as np\n"
            "with backbeat.open('verilator', backbeat.Config(2, 2, 16, 2)) as acc:\n"
            "    print(acc.gemm(np.ones((3, 3), np.int8), np.ones((3, 3), np.int8)).sum())")
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                                  env=os.environ | {"BACKBEAT_CACHE": str(tmp_path)}) for _ in range(2)]
    assert [p.communicate(timeout=300)[0] for p in processes] == [b"27\n"] * 2
    assert len(list(tmp_path.glob("*.so"))) == 1
    assert not list(tmp_path.glob("build-*")), "work directories are removed"


def tiny(tmp_path):
    """A library that is compiled in seconds, through the same cache as all, and what it answers."""
    main = tmp_path / "tiny.cpp"
    main.write_text('#include "VTiny.h"\n'
                    'extern "C" int answer() { VTiny tiny; tiny.a = 20; tiny.eval(); return tiny.q; }\n')
    design = build.Design("Tiny", lambda: "module Tiny(input [7:0] a, output [7:0] q);\n"
                                          "  assign q = a + 8'd22;\nendmodule\n")
    library = build.cached_library("tiny", [design], main, [])
    # In a process of its own, which the library might end if it is damaged.
    answer = subprocess.run([sys.executable, "-c", "import ctypes, sys\n"
                             "print(ctypes.CDLL(sys.argv[1]).answer())", library],
                            capture_output=True, text=True)
    assert answer.stdout == "42\n", answer
    return library


def test_damaged_library_is_built_anew(tmp_path, monkeypatch, capfd):
    """Cut off, or one bit of it changed; loading either might end the process."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in build.cache_directory().glob("verilated*"):     # need not be compiled again
        shutil.copy(path, cache)
    monkeypatch.setenv("BACKBEAT_CACHE", str(cache))
    library = tiny(tmp_path)
    whole = library.read_bytes()
    assert tiny(tmp_path) == library and not capfd.readouterr().err, "a whole one is taken as it is"
    for damaged in (whole[:len(whole) // 2], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]):
        library.write_bytes(damaged)
        assert tiny(tmp_path) == library and len(library.read_bytes()) == len(whole)
        assert "is not as it was built" in capfd.readouterr().err
