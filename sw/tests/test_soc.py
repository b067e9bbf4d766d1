"""Firmware on the small SoC: the library against the driver's models, and what it does with errors."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from backbeat.cli import app
from backbeat.errors import ToolError
from backbeat.memory import BASE
from backbeat.soc import Firmware, Soc, bench, build_firmware, programs
from backbeat.soc.toolchain import find_toolchain
from backbeat_rtl.config import Config
from backbeat_rtl.isa import MAX_RUN

CONFIG = "8x8"


@pytest.fixture
def rng():
    return np.random.default_rng(int(os.environ.get("SEED", 0)))


def run(source: str, tmp_path: Path, cycles: int = 3_000_000, image=None):
    """Exit code, console and main memory after a program."""
    path = tmp_path / "program.c"
    path.write_text(source)
    with Soc(CONFIG, build_firmware([path])) as soc:
        if image is not None:
            soc.image[1 << 16:(1 << 16) + len(image)] = image
        return soc.run(cycles), soc.console, soc.image.copy()


@pytest.fixture(scope="module")
def selftest():
    """Exit code and console."""
    return programs.selftest(CONFIG)


def core_cycles(console: str) -> list[int]:
    """Of the core, of each product that it made."""
    found = re.findall(r"^ok .* (\d+) cycles, software +\d+$", console, re.MULTILINE)
    return [int(text) for text in found]


def test_selftest_passes(selftest):
    code, console = selftest
    assert code == 0 and console.splitlines()[-1] == "PASS", console
    assert len(core_cycles(console)) == 12


def test_lanes_that_hold_more_than_a_run():
    config, shape = replace(Config.of("4x4"), depth=2048), (5, 6, MAX_RUN + 88)
    found = {way: programs.product(config, shape, way)["checksum"] for way in ("door", "software")}
    assert found["door"] == found["software"]


def test_ways_agree_and_the_core_is_faster():
    found = {way: programs.product(CONFIG, (24, 40, 56), way) for way in programs.WAYS}
    assert len({figures["checksum"] for figures in found.values()}) == 1
    cycles = [found[way]["cycles"] for way in programs.WAYS]
    assert cycles == sorted(cycles)
    # Software: at least a load, a multiplication and an addition for each of two MACs.
    assert found["software"]["cycles"] > 3 * 24 * 40 * 56
    assert found["memory"]["cycles"] > 24 * 40 * 56 / 64


GEMM = """
#include "backbeat.h"
#include "platform.h"
int main(void)
{
    int error = bb_open();
    int8_t *a = (int8_t *)0x40010000u;
    struct bb_product p = {.a = a, .b = a + %d, .c = a + %d, .m = %d, .n = %d, .k = %d,
                           .a_pitch = %d, .b_pitch = %d, .c_pitch = %d, .b_across = 1};
    struct bb_descriptor *d = (struct bb_descriptor *)0x40008000u;
    if (!error) error = bb_describe(d, &p);
    if (!error) error = bb_run(d, 1);
    bb_print("%%u %%u\\n", d->word[BB_DESCRIPTOR_MAX_ABS_WORD],
             d->word[BB_DESCRIPTOR_ENDED_WORD] - d->word[BB_DESCRIPTOR_BEGUN_WORD]);
    return error;
}
"""


def test_gemm_on_tensors_that_the_host_has_placed(rng, tmp_path):
    m, n, k = 70, 90, 100
    a = rng.integers(-127, 128, (m, 104), dtype=np.int8)
    b = rng.integers(-128, 128, (k, 96), dtype=np.int8)
    operands = np.concatenate([a.ravel(), b.ravel()]).view(np.uint8)
    c = len(operands)
    code, console, image = run(GEMM % (a.size, c, m, n, k, 104, 96, 4 * n), tmp_path, image=operands)
    assert code == 0, console
    out = image[(1 << 16) + c:][:4 * m * n].view(np.int32).reshape(m, n)
    expected = a[:, :k].astype(np.int32) @ b[:, :n].astype(np.int32)
    np.testing.assert_array_equal(out, expected)
    max_abs, cycles = map(int, console.split())
    assert max_abs == np.abs(expected).max()
    # The C planner's loop nest keeps the array as busy as that.
    assert m * n * k / 64 < cycles < 2 * m * n * k / 64


def test_bus_error_is_named_and_leaves_a_core_that_works(tmp_path):
    code, console, _ = run("""
#include "backbeat.h"
#include "platform.h"
int main(void)
{
    bb_open();
    int8_t *at = (int8_t *)0x40010000u;
    struct bb_product p = {.a = (void *)0x30000000u, .b = at, .c = at + 256, .m = 8, .n = 8, .k = 8,
                           .a_pitch = 8, .b_pitch = 8, .c_pitch = 32};
    int first = bb_gemm(&p);
    bb_print("%s %08x\\n", bb_error_name(first), bb_error_value());
    p.a = at;
    return bb_gemm(&p);
}
""", tmp_path)
    assert (code, console) == (0, "BUS_READ 30000000\n")


SHARED = """
#include "backbeat.h"
#include "platform.h"
int main(void)
{
    bb_open();
    int8_t *a = (int8_t *)0x40010000u;
    struct bb_product p = {.a = a, .b = a + 0x8000, .c = a + 0x10000, .m = 128, .n = 128, .k = 8,
                           .a_pitch = 8, .b_pitch = 8, .c_pitch = 512};
    struct bb_descriptor *d = (struct bb_descriptor *)0x40008000u;
    bb_describe(d, &p);
    for (int busy = 0; busy < 2; busy++) {
        bb_start(d, 1);
        while (busy && BB_STATUS_MOVING_OF(bb_get(STATUS)))
            for (int i = 0; i < 16; i++) *(volatile int *)0x40200000u = i;
        int error = bb_wait(d, 1);
        if (error) return error;
        bb_print("%u\\n", d->word[BB_DESCRIPTOR_ENDED_WORD] - d->word[BB_DESCRIPTOR_BEGUN_WORD]);
    }
    return 0;
}
"""


def test_cpu_and_core_share_the_memory(tmp_path):
    code, console, _ = run(SHARED, tmp_path)
    assert code == 0
    alone, beside = map(int, console.split())
    assert beside > 1.05 * alone, console


def test_exception_says_where_it_was(tmp_path):
    code, console, _ = run("""
int main(void) { __asm__ volatile(".word 0xffffffff"); return 0; }
""", tmp_path)
    assert code == 128 + 2 and re.match(r"trap: cause 2 at [0-9a-f]{8}, value ffffffff\n", console)


def test_exit_code_and_memory(tmp_path):
    code, console, image = run("""
#include "platform.h"
int initialised = 5, zero;
int main(void)
{
    *(int *)0x40000040u = initialised + zero;
    *(char *)0x40000045u = 7;
    bb_print("%d|%5u|%08x|%s|%c%%\\n", -42, 17, 0xBEA7, "text", 'c');
    return 3;
}
""", tmp_path)
    assert (code, console) == (3, "-42|   17|0000bea7|text|c%\n")
    assert image[0x40:0x48].tolist() == [5, 0, 0, 0, 0, 7, 0, 0]


def test_runs_no_longer_than_asked(tmp_path):
    path = tmp_path / "loop.c"
    path.write_text("int main(void) { for (;;) ; }")
    with Soc(CONFIG, build_firmware([path])) as soc:
        begin = soc.cycles
        assert soc.run(10_000) is None and soc.cycles - begin == 10_000


def test_library_for_other_compilers_is_the_same_program(rng, tmp_path, monkeypatch):
    """Whichever compiler is at hand, and Clang's code puts CFU instructions back to back."""
    pytest.importorskip("ziglang", reason="the ziglang package is not installed")
    monkeypatch.setenv("BACKBEAT_RISCV", "zig")
    assert find_toolchain().name.startswith("clang")
    assert programs.product(CONFIG, (9, 9, 24), "memory")["compiler"].startswith("clang")


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("BACKBEAT_RISCV", "riscv-nobody-elf-")
    with pytest.raises(ToolError, match="riscv-nobody-elf-.*install gcc-riscv64-unknown-elf"):
        build_firmware(["selftest.c"])


def test_compiler_errors_are_quoted(tmp_path):
    (tmp_path / "wrong.c").write_text("int main(void) { return nothing; }")
    with pytest.raises(ToolError, match="nothing"):
        build_firmware([tmp_path / "wrong.c"])


def test_firmware_that_does_not_fit_the_rom_is_refused(tmp_path):
    (tmp_path / "large.c").write_text("volatile int i; const char x[200000] = {1};"
                                      "int main(void) { return x[i]; }")
    with pytest.raises(ToolError, match="ROM|region|code"):
        build_firmware([tmp_path / "large.c"])


def test_two_at_a_time_end_in_any_order(tmp_path):
    path = tmp_path / "program.c"
    path.write_text("int main(void) { return 7; }")
    first, second = (Soc(CONFIG, build_firmware([path])) for _ in range(2))
    for soc in (second, first):
        assert soc.run(10_000) == 7
        soc.close()


def test_soc_wants_a_program():
    with pytest.raises(TypeError, match="program must be a Firmware, got NoneType"):
        Soc(CONFIG)


def test_command_line_with_a_memory_that_stalls(selftest):
    result = CliRunner().invoke(app, ["soc", "selftest", "--config", CONFIG, "--stall", "0.5"])
    assert result.exit_code == 0 and result.output.splitlines()[-1] == "PASS"
    calm, stalled = core_cycles(selftest[1]), core_cycles(result.output)
    # The last four do not use the memory port, and one product of one value hardly does.
    assert all(s > c for s, c in zip(stalled[:7], calm[:7], strict=True)), (stalled, calm)


def test_figures_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "_SMALL", CONFIG)      # one simulator fewer to build
    out = tmp_path / "soc.json"
    result = CliRunner().invoke(app, ["bench-soc", "--config", CONFIG, "--size", "32", "--no-training",
                                      "--json", str(out)])
    assert result.exit_code == 0, result.output
    product = json.loads(out.read_text())["product"]
    rows = {row["way"]: row for row in product["rows"]}
    assert rows["memory"]["times_software"] > rows["door"]["times_software"] > 1
    assert rows["software"]["times_software"] == 1
    assert product["naive_cycles_per_mac"] > rows["software"]["cycles_per_mac"]


def test_binary_is_that_of_the_sources(tmp_path):
    path = tmp_path / "a.c"
    path.write_text("int main(void) { return 1; }")
    first = build_firmware([path])
    path.write_text("int main(void) { return 2; }")
    assert first.binary != build_firmware([path]).binary
    assert isinstance(first, Firmware) and BASE == 0x4000_0000
