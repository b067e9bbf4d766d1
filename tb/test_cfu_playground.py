"""The project for CFU-Playground: its ports, the core in C++ against the model, its self-test."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backbeat.backends.build import compiler, find_verilator
from backbeat_rtl.config import Config
from backbeat_rtl.core_model import CoreModel
from backbeat_rtl.isa import Op, Port, Read, Write, encode
from backbeat_rtl.isa_export import c_header
from fpga.cfu_playground import PROJECT, project

from .commands import command, get, load, load_matrix, push, read, readout, run
from .harness import BUILD, FLAGS, seed
from .test_core_garbage import garbage, legal
from .test_verilog import CFU_PORTS

HERE = Path(__file__).parent
COMMANDS = 20_000
CONFIGS = {config.name: config for config in (
    *map(Config.of, ("4x4", "8x8")), Config(rows=6, columns=5, depth=32, tiles=4),
    Config(rows=10, columns=12, depth=32, tiles=4))}
#: What common/Makefile compiles with.
STRICT = ("-std=c++11 -fno-rtti -fno-exceptions -Werror -Wall -Wextra -Wsign-compare -Wdouble-promotion "
          "-Wshadow -Wunused-variable -Wmissing-field-initializers -Wunused-function -Wswitch -Wvla "
          "-Wstrict-aliasing -Wno-unused-parameter").split()
RISCV = "riscv64-unknown-elf-g++"
#: Faults in software_cfu.cc: what to replace, by what.
FAULTS = {
    "rounding":         ("0x80000000u", "0x7F000000u"),
    "fraction":         ("below << (32 - s)", "below << (31 - s)"),
    "row stride":       ("p.stride = ceil_div(depth, WORD) * WORD", "p.stride = depth"),
    "error value":      ("return fail(BB_ERROR_OPERAND, pushed)", "return fail(BB_ERROR_OPERAND, in0)"),
    "first error stays": ("if (!error) {", "if (true) {"),
    "busy":             ("if (reading() && read_half == half)", "if (reading() && !read_half)"),
    "table after reset": ("  clip = 0x7f8000;\n  return 0;", "  clip = 0x7f8000;\n  table[0].bias = 0;\n"
                                                             "  return 0;"),
}


def written(folder: Path, files: dict, **changes) -> Path:
    """The project's files and stand-ins for those of CFU-Playground; the sources' folder.

    ``changes``: of a source, by its stem: (what, by what).
    """
    for path, text in files.items():
        if path.stem in changes:
            old, new = changes[path.stem]
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path}"
            text = text.replace(old, new)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for name in ("cfu", "menu", "perf", "proj_menu", "software_cfu"):
        (folder / "src" / f"{name}.h").write_text('#include "cfu_playground.hpp"\n')
    return folder / "src"


def built(source: Path) -> Path:
    """The program of the project's sources."""
    program = source.parent / "program"
    subprocess.run([compiler(), *STRICT, "-O1", "-I", HERE, *sorted(source.glob("*.cc")),
                    HERE / "cfu_playground.cpp", "-o", program], check=True)
    return program


def ties(rng, model: CoreModel) -> list:
    """Reads a product with settings with which many values lie halfway between two.

    If there is none it makes one, behind a RESET, which the table survives.
    """
    config, shift = model.config, int(rng.integers(16, 32))
    entries = np.stack([rng.integers(-99, 99, config.table_size),
                        1 << shift - rng.integers(4, 8, config.table_size)], 1).astype(np.uint32)
    table = [command(Op.SET, Write.TABLE), command(Op.SET, Write.SHIFT, shift),
             *push(Port.TABLE, entries)]
    clip = command(Op.SET, Write.CLIP, encode("CLIP", zero_point=0, low=-128, high=127))
    if model.products:
        half = int(rng.choice(list(model.products)))
        rows, columns = model.products[half].shape
        made = []
    else:
        half, (rows, columns) = 0, rng.integers(1, [config.rows, config.columns], endpoint=True).tolist()
        a, b = (rng.integers(-127, 128, (lanes, 3), dtype=np.int8) for lanes in (rows, columns))
        made = [command(Op.RESET), *load_matrix(Port.A, a, config.rows),
                *load_matrix(Port.B, b, config.columns), run()]
    return [*table, *made, clip, readout(half=half, requantise=True), *read(rows * -(-columns // 4))]


def mistake(rng, model: CoreModel) -> list:
    """A command that fails, or may, and what is to be seen of it; then RESET, mostly."""
    port = int(rng.choice([Port.A, Port.B]))
    if rng.random() < 0.2:
        return [load(Port.A, depth=16, tiles=1, last=2),
                *[command(Op.PUSH, Port.A)] * int(rng.integers(4)),
                command(Op.PUSH, Port.A, *rng.permutation([0x80 << 8 * int(rng.integers(4)), 7])),
                get(Read.ERROR_VALUE), command(Op.RESET)]
    wrong = [
        command(Op.PUSH, port, 1, 2),
        command(Op.GET, int(rng.integers(9, 128))), command(Op.SET, int(rng.integers(6, 128)), 5),
        command(Op.SET, Write.SHIFT, int(rng.integers(60, 70))),
        command(Op.SET, Write.TABLE, int(rng.integers(2 << 16))),
        load(port, depth=int(rng.integers(40)), tiles=int(rng.integers(model.config.tiles + 2)),
             last=int(rng.integers(model.config.columns + 2))),
        run(a_half=int(rng.integers(2)), accumulate=True), readout(half=int(rng.integers(2))),
        command(Op.READ, int(rng.integers(2))), command(Op.RUN, 1), *garbage(rng, model)]
    return [wrong[rng.integers(len(wrong))], command(Op.GET, int(rng.integers(12))), get(Read.ERROR),
            get(Read.ERROR_VALUE), *([command(Op.RESET, 9)] if rng.random() < 0.9 else [])]


def random_commands(rng, config: Config, count: int):
    """Commands of all kinds, (funct3, funct7, inputs) each, and the model's answers."""
    model, commands, answers, kinds = CoreModel(config), [], [], {op: 0 for op in Op}
    while len(commands) < count:
        kind = rng.random()
        some = [command(Op.RESET)] if model.error and kind < 0.3 else (
            mistake if kind < 0.05 else
            ties if kind < 0.15 and not model.words else legal)(rng, model)
        for one in some:
            answers.append(int(model.execute(*one)))
            commands.append((one[0] & 7, one[0] >> 3, *one[1:]))
            kinds[Op(one[0] & 7)] += not model.error
    assert min(kinds.values()) > 5, kinds     # carried out, not only refused
    return np.array(commands, np.uint32), np.array(answers, np.uint32)


def answers_of(program: Path, commands: np.ndarray) -> np.ndarray:
    done = subprocess.run([program, "commands"], input=commands.tobytes(), capture_output=True,
                          check=True, timeout=60)
    return np.frombuffer(done.stdout, np.uint32)


@pytest.fixture(scope="module")
def files() -> dict:
    return project("4x4")


@pytest.fixture(scope="module")
def program_of_4x4():
    """Commands and answers."""
    config = replace(Config.of("4x4"), memory=False)
    return random_commands(np.random.default_rng(seed()), config, COMMANDS)


def test_project_is_complete(tmp_path):
    done = subprocess.run([sys.executable, "-m", "fpga.cfu_playground", "--out", tmp_path, "--config",
                           "4x4"], capture_output=True, text=True, check=True, cwd=HERE.parent)
    found = {str(path.relative_to(tmp_path / PROJECT)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"cfu.v", "Makefile", "README.md", "src/backbeat_isa.h", "src/proj_menu.cc",
                     "src/software_cfu.cc"}, done.stdout
    files = {path: (tmp_path / PROJECT / path).read_text() for path in found}
    assert files["src/backbeat_isa.h"] == c_header()
    assert not [name for name, text in files.items() if re.search(r"@[A-Z]+@", text)]
    top = re.search(r"^module Cfu\(.*?^endmodule", files["cfu.v"], re.MULTILINE | re.DOTALL)[0]
    ports = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", top, re.MULTILINE)
    assert {(way, int(msb or 0) + 1, name) for way, msb, name in ports} == CFU_PORTS
    assert "include ../proj.mk" in files["Makefile"]


@pytest.mark.parametrize("name", CONFIGS)
def test_software_cfu_answers_as_the_model(name, tmp_path):
    config = replace(CONFIGS[name], memory=False)
    program = built(written(tmp_path, project(config)))
    commands, expected = random_commands(np.random.default_rng(seed()), config, COMMANDS)
    found = answers_of(program, commands)
    assert len(found) == len(expected)
    wrong = np.flatnonzero(found != expected)
    assert not wrong.size, (
        f"{wrong.size} answers, the first to command {wrong[0]}, {Op(commands[wrong[0]][0]).name} "
        f"{commands[wrong[0]][1:].tolist()}: got {found[wrong[0]]:#x}, expected {expected[wrong[0]]:#x}")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_software_cfu_is_found(fault, files, program_of_4x4, tmp_path):
    commands, expected = program_of_4x4
    found = answers_of(built(written(tmp_path, files, software_cfu=FAULTS[fault])), commands)
    assert not np.array_equal(found, expected)


def menu(program: Path, item: str) -> str:
    return subprocess.run([program, item], capture_output=True, text=True, check=True, timeout=60).stdout


def test_self_test_passes_with_the_software_cfu(files, tmp_path):
    program = built(written(tmp_path, files))
    output = menu(program, "t")
    assert output.endswith("PASS\n") and " 0 failures" in output, output
    assert int(re.search(r"(\d+) comparisons", output)[1]) > 1000, output
    assert menu(program, "p").endswith("PASS\n")


@pytest.mark.parametrize("fault", ["rounding", "row stride"])
def test_self_test_finds_a_fault(fault, files, tmp_path):
    output = menu(built(written(tmp_path, files, software_cfu=FAULTS[fault])), "t")
    assert output.endswith("FAIL\n"), output


def test_self_test_passes_on_the_rtl(files):
    """The same menu in front of ``cfu.v`` itself."""
    verilator, environment, version = find_verilator()
    harness = [HERE / "cfu_playground.cpp", HERE / "cfu_playground.hpp"]
    key = hashlib.sha256("\0".join([*files.values(), *(path.read_text() for path in harness), version,
                                    os.uname().machine]).encode()).hexdigest()[:16]
    folder = BUILD / f"cfu_playground-{key}"
    program = folder / "program"
    if not program.exists():
        source = written(folder, files)
        model = folder / "cpp"
        subprocess.run([verilator, "--cc", "--top-module", "Cfu", "--prefix", "VCfu", "-O3", *FLAGS,
                        "--Mdir", model, folder / "cfu.v"], check=True, env=os.environ | environment)
        root = environment.get("VERILATOR_ROOT") or subprocess.run(
            [verilator, "--getenv", "VERILATOR_ROOT"], check=True, capture_output=True,
            text=True).stdout.strip()
        include = Path(root) / "include"
        subprocess.run([compiler(), "-O1", "-std=gnu++20", "-DRTL", "-I", HERE, "-I", model, "-I",
                        include, "-I", include / "vltstd", source / "proj_menu.cc", harness[0],
                        *sorted(model.glob("*.cpp")), include / "verilated.cpp",
                        include / "verilated_threads.cpp", "-pthread", "-o", folder / "linked"],
                       check=True)
        os.replace(folder / "linked", program)
    output = menu(program, "t")
    assert output.endswith("PASS\n") and " 0 failures" in output, output
    products = menu(program, "p")
    assert products.endswith("PASS\n"), products
    # The core has counted.
    assert all(int(line.split()[-1]) > 0 for line in products.splitlines()[1:-1]), products
    print(output, products)


@pytest.mark.skipif(not shutil.which(RISCV), reason=f"no {RISCV}")
def test_sources_compile_for_the_cpu(files, tmp_path):
    """With the flags of CFU-Playground, and the instructions' funct7 as constants."""
    source = written(tmp_path, files)
    (source / "stdio.h").write_text(
        'extern "C" int printf(const char *, ...) __attribute__((format(printf, 1, 2)));\n'
        'extern "C" int puts(const char *);\n')
    for name in ("proj_menu", "software_cfu"):
        subprocess.run([RISCV, *STRICT, "-march=rv32im", "-mabi=ilp32", "-ffreestanding", "-fno-builtin",
                        "-O3", "-I", HERE, "-I", source, "-c", source / f"{name}.cc", "-o",
                        tmp_path / f"{name}.o"], check=True)
