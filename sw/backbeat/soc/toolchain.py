"""Firmware for the CPU beside the core: finds a compiler, compiles, keeps what it has compiled."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ..backends.build import cache_directory, run_tool
from ..errors import ToolError
from ..files import write_atomically

__all__ = ["FIRMWARE", "Firmware", "Toolchain", "build_firmware", "find_toolchain"]

#: Where the C sources lie in the repository.
FIRMWARE = Path(__file__).parents[2] / "firmware"
#: The library, linked to every program.
LIBRARY = ("start.S", "backbeat.c", "door.c", "software.c", "platform.c", "trap.c")
#: The small SoC's memories, see soc.cpp; LiteX puts ROM and SRAM at the same addresses.
ROM, ROM_BYTES, SRAM, SRAM_BYTES = 0, 128 << 10, 0x1000_0000, 64 << 10
PREFIXES = ("riscv64-unknown-elf-", "riscv32-unknown-elf-", "riscv-none-elf-")
#: -ffreestanding and -fno-tree-loop-distribute-patterns: our memcpy() must not become a call of itself.
FLAGS = ("-O2", "-g0", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib",
         "-ffunction-sections", "-fdata-sections", "-fno-builtin")


@dataclass(frozen=True)
class Toolchain:
    """A compiler for bare RV32IM.

    Attributes
    ----------
    name : str
        With its version, for reports.
    compile, link : tuple of str
        Commands, without files.
    objcopy : tuple of str
    """

    name: str
    command: tuple[str, ...]
    objcopy: tuple[str, ...]


@dataclass(frozen=True)
class Firmware:
    """A program in binary, as it lies in ROM.

    Attributes
    ----------
    binary : bytes
    compiler : str
        Who made it.
    """

    binary: bytes
    compiler: str = field(default="", compare=False)


def _version(command: tuple[str, ...]) -> str:
    text = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"\d+\.\d+\.\d+", text)
    return match[0] if match else "?"


def find_toolchain() -> Toolchain:
    """GCC for RISC-V on PATH, else the ``ziglang`` package's Clang.

    ``BACKBEAT_RISCV`` chooses: ``zig``, or the prefix of a GCC such as ``riscv64-unknown-elf-``.

    Raises
    ------
    ToolError
        There is neither; says how to get one.
    """
    wish = os.environ.get("BACKBEAT_RISCV", "")
    prefixes = () if wish == "zig" else (wish,) if wish else PREFIXES
    for prefix in prefixes:
        if shutil.which(f"{prefix}gcc") and shutil.which(f"{prefix}objcopy"):
            gcc = f"{prefix}gcc"
            return Toolchain(f"gcc {_version((gcc,))}",
                             (gcc, "-march=rv32im_zicsr", "-mabi=ilp32", "-mcmodel=medany"),
                             (f"{prefix}objcopy",))
    if wish in ("", "zig") and find_spec("ziglang"):
        zig = (sys.executable, "-m", "ziglang")
        return Toolchain(f"clang {_version((*zig, 'cc'))}",
                         (*zig, "cc", "-target", "riscv32-freestanding", "-mcpu=generic_rv32+m+zicsr",
                          "-mcmodel=medium", "-fno-sanitize=all", "-Wno-unused-command-line-argument"),
                         (*zig, "objcopy"))
    raise ToolError("no RISC-V compiler" + (f" {wish!r} (BACKBEAT_RISCV)" if wish else "")
                    + ": install gcc-riscv64-unknown-elf (Debian, Ubuntu: apt install "
                    "gcc-riscv64-unknown-elf), or `pip install ziglang`")


def _define(name: str, value) -> str:
    return f"-D{name}" if value is True else f"-D{name}={value}"


def build_firmware(sources: Iterable["str | Path"], defines: Mapping[str, object] | None = None, *,
                   rom: int = ROM, rom_bytes: int = ROM_BYTES, ram: int = SRAM,
                   ram_bytes: int = SRAM_BYTES, include: Iterable[Path] = (),
                   toolchain: Toolchain | None = None) -> Firmware:
    """Compiles a program and the library, or takes what has been compiled before.

    Parameters
    ----------
    sources : names of files in ``sw/firmware``, or paths
        The library is added.
    defines : dict, optional
        Macros; True defines one without a value.
    rom, rom_bytes, ram, ram_bytes : int
        Where code lies, and where data and stack go: addresses and sizes in bytes.
    include : folders of further headers
    toolchain : Toolchain, optional
        Instead of the one that :func:`find_toolchain` finds.

    Raises
    ------
    ToolError
        There is no compiler, or it reports an error (quoted).
    """
    tools = toolchain or find_toolchain()
    paths = [FIRMWARE / source for source in (*sources, *LIBRARY)]
    flags = [*FLAGS, *(_define(*item) for item in sorted((defines or {}).items())),
             *(f"-I{folder}" for folder in (FIRMWARE, *include))]
    script = (f"MEMORY {{ code (rx) : ORIGIN = {rom:#x}, LENGTH = {rom_bytes:#x}\n"
              f"         data (rwx) : ORIGIN = {ram:#x}, LENGTH = {ram_bytes:#x} }}\n"
              + (FIRMWARE / "firmware.ld").read_text())
    headers = [p for folder in (FIRMWARE, *include) for p in sorted(Path(folder).rglob("*.h"))]
    parts = [tools.name, *tools.command, *flags, script, *(p.read_text() for p in (*paths, *headers))]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    target = cache_directory() / "firmware" / f"{paths[0].stem}-{digest}.bin"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
            write_atomically(target, _compile(tools, paths, flags, script, Path(folder), rom_bytes))
    return Firmware(target.read_bytes(), tools.name)


def _compile(tools: Toolchain, paths: list[Path], flags: list[str], script: str, folder: Path,
             rom_bytes: int) -> bytes:
    elf, binary, linker = (folder / f"firmware.{kind}" for kind in ("elf", "bin", "ld"))
    linker.write_text(script)
    for command, what in (
            ([*tools.command, *flags, *map(str, paths), f"-Wl,-T,{linker}", "-Wl,--gc-sections", "-o",
              str(elf)],
             "compiling the firmware"),
            ([*tools.objcopy, "-O", "binary", str(elf), str(binary)], "objcopy")):
        run_tool(command, what)
    raw = binary.read_bytes()
    if len(raw) > rom_bytes:
        raise ToolError(f"the firmware has {len(raw):,} bytes, the ROM {rom_bytes:,}")
    return raw
