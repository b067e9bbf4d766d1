"""A bitstream for the Nexys A7-100T: ``make bitstream`` with Vivado or openXC7, ``make load``.

Whatever is missing, the files that a bitstream is made of are written first: Verilog, constraints,
Vivado's script, firmware, csr.json.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from backbeat.errors import ToolError
from backbeat.files import write_atomically

from .synth import MAPPING

__all__ = ["PART", "build", "load", "missing"]

ROOT = Path(__file__).parents[1]
PART, PACKAGE = "xc7a100tcsg324-1", "xc7a100tcsg324"
#: Where openXC7's installer puts its data bases, unless these variables say otherwise.
OPENXC7 = {"CHIPDB": "/snap/openxc7/current/opt/nextpnr-xilinx/chipdb",
           "PRJXRAY_DB_DIR": "/snap/openxc7/current/opt/nextpnr-xilinx/external/prjxray-db"}
PROGRAMS = {"vivado": ("vivado",),
            "openxc7": ("yosys", "nextpnr-xilinx", "fasm2frames", "xc7frames2bit")}
LOADER = "openFPGALoader"

#: Mapped as `make synth` maps, whose figures are thus those of the bits.
YOSYS = ("read_verilog {sources}" + MAPPING +
         "tee -o utilisation.rpt stat\nwrite_json {top}.json\n")


@dataclass(frozen=True)
class Made:
    """What a flow leaves behind, as files."""

    bitstream: Path
    utilisation: Path
    timing: Path


def missing(flow: str) -> list[str]:
    """Programs and data bases that a flow needs and that are not there."""
    out = [name for name in PROGRAMS[flow] if not shutil.which(name)]
    if flow == "openxc7":
        for variable, name in (("CHIPDB", f"{PACKAGE}.bin"),
                               ("PRJXRAY_DB_DIR", f"artix7/{PART}/part.yaml")):
            path = _database(variable) / name
            if not path.exists():
                out.append(f"{path} ({variable})")
    return out


def _database(variable: str) -> Path:
    return Path(os.environ.get(variable) or OPENXC7[variable])


def _call(command: list, work: Path, log: str, output: str | None = None):
    """Runs a program in ``work``; both its outputs go to ``log``, or the first one to ``output``."""
    with (open(work / log, "a") as err, open(work / (output or log), "w" if output else "a") as out):
        result = subprocess.run([str(part) for part in command], cwd=work, stdout=out, stderr=err)
    if result.returncode:
        said = "\n".join((work / log).read_text(errors="replace").splitlines()[-12:])
        raise ToolError(f"{command[0]} failed with exit code {result.returncode}:\n{said}\n"
                        f"(see {work / log})")


def vivado(sources: list[Path]) -> Made:
    """Runs the script that LiteX has written."""
    work, top = sources[-1].parent, sources[-1].stem
    made = Made(work / f"{top}.bit", work / f"{top}_utilization_place.rpt", work / f"{top}_timing.rpt")
    for path in (made.bitstream, made.utilisation, made.timing, work / "vivado.out"):
        path.unlink(missing_ok=True)        # those of an earlier run
    _call(["vivado", "-mode", "batch", "-source", f"{top}.tcl"], work, "vivado.out")
    return made


def open_constraints(xdc: str) -> str:
    """Of Vivado's constraints those that nextpnr-xilinx knows: pins, and the periods of their clocks."""
    return "".join(f"{line}\n" for line in xdc.splitlines()
                   if "get_ports" in line and line.startswith(("set_property", "create_clock")))


def openxc7(sources: list[Path]) -> Made:
    """yosys, nextpnr-xilinx and Project X-Ray, in a folder of their own."""
    gateware, top = sources[-1].parent, sources[-1].stem
    work = gateware.parent / "openxc7"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for path in (*sources, *gateware.glob("*.init")):
        shutil.copy(path, work)
    (work / f"{top}.xdc").write_text(open_constraints((gateware / f"{top}.xdc").read_text()))
    (work / "synth.ys").write_text(YOSYS.format(
        sources=" ".join(path.name for path in sources), top=top, hidden="w:*", pads=""))
    rays = _database("PRJXRAY_DB_DIR") / "artix7"
    _call(["yosys", "-q", "-l", "yosys.log", "synth.ys"], work, "yosys.out")
    _call(["nextpnr-xilinx", "--chipdb", _database("CHIPDB") / f"{PACKAGE}.bin", "--xdc", f"{top}.xdc",
           "--json", f"{top}.json", "--fasm", f"{top}.fasm"], work, "nextpnr.log")
    _call(["fasm2frames", "--part", PART, "--db-root", rays, f"{top}.fasm"], work, "frames.log",
          f"{top}.frames")
    _call(["xc7frames2bit", "--part_file", rays / PART / "part.yaml", "--part_name", PART, "--frm_file",
           f"{top}.frames", "--output_file", f"{top}.bit"], work, "frames.log")
    return Made(work / f"{top}.bit", work / "utilisation.rpt", work / "nextpnr.log")


FLOWS = {"vivado": vivado, "openxc7": openxc7}


def build(sources: list[Path], folder: Path, flow: str | None = None) -> Path:
    """Makes ``backbeat.bit``, ``utilisation.rpt`` and ``timing.rpt`` in a folder; the first's path.

    Parameters
    ----------
    sources : list of Path
        Verilog; the last is LiteX's, with constraints, script and ROMs beside it.
    flow : "vivado" or "openxc7", optional
        The first of them that is there.

    Raises
    ------
    ToolError
        No flow is complete (names what each lacks), or one failed.
    """
    lacking = {name: missing(name) for name in ([flow] if flow else FLOWS)}
    chosen = next((name for name, what in lacking.items() if not what), None)
    if chosen is None:
        raise ToolError("no tools to make a bitstream with. " + " ".join(
            f"{name} lacks: {', '.join(what)}." for name, what in lacking.items())
            + f" What it would be made of is in {folder}.")
    with Console(stderr=True).status(f"Making a bitstream with {chosen} (half an hour; logs are in "
                                     f"{sources[-1].parent.parent})"):
        made = FLOWS[chosen](sources)
    for path, name in ((made.utilisation, "utilisation.rpt"), (made.timing, "timing.rpt"),
                       (made.bitstream, "backbeat.bit")):
        if not path.exists():
            raise ToolError(f"{chosen} ended without an error but has not written {path}")
        write_atomically(folder / name, path.read_bytes())
    return folder / "backbeat.bit"


def load(folder: Path):
    """Puts a bitstream into a board's FPGA, until it loses power.

    Raises
    ------
    ToolError
        There is no bitstream or no program for it, or no board.
    """
    path = folder / "backbeat.bit"
    if not path.exists():
        raise ToolError(f"there is no {path}: make it with `make bitstream CONFIG={folder.name}`")
    if not shutil.which(LOADER):
        raise ToolError(f"{LOADER} is not on PATH (Debian, Ubuntu: apt install openfpgaloader)")
    code = subprocess.run([LOADER, "-b", "nexys_a7_100", str(path)]).returncode
    if code:
        raise ToolError(f"{LOADER} failed with exit code {code}: is the board connected and on, and may "
                        "you use its USB device?")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="32x14", help="of the core (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="default: build/nexys_a7/CONFIG")
    parser.add_argument("--clock", type=float, default=100.0, help="MHz (default: %(default)s)")
    parser.add_argument("--flow", choices=list(FLOWS), help="default: the first that is there")
    parser.add_argument("--load", action="store_true", help="load what has been made")
    options = parser.parse_args()
    folder = options.out or ROOT / "build" / "nexys_a7" / options.config
    try:
        if options.load:
            return load(folder)
        from fpga.nexys_a7 import board
        sources = board(options.config, folder, options.clock * 1e6)
        print(f"written: {build(sources, folder, options.flow)}")
    except (ToolError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
