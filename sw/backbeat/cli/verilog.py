"""``backbeat verilog``: the hardware as one file."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..files import write_atomically
from . import app
from .options import ConfigName


@app.command()
def verilog(config: ConfigName = "16x16",
            memory: Annotated[bool, typer.Option(help="With the memory port (an AXI4 master), or with "
                                                      "the CFU's ports alone.")] = True,
            npu: Annotated[bool, typer.Option("--npu", help="Module NPU with the AAML platform's ports "
                                              "and a 32-bit AXI4 master, instead of Cfu.")] = False,
            out: Annotated[Path, typer.Option(help="File to write.")] = Path("cfu.v")):
    """Write cfu.v, the core as one file. --no-memory: for LiteX's cpu_cfu and CFU-Playground."""
    from backbeat_rtl.config import Config
    from backbeat_rtl.verilog import cfu_verilog, npu_verilog

    if npu and not memory:
        raise ValueError("--npu and --no-memory exclude each other: that platform has a memory port")
    with Console(stderr=True).status(f"Generating the {config} core"):
        text = npu_verilog(config) if npu else cfu_verilog(replace(Config.of(config), memory=memory))
    write_atomically(out, text.encode())
    Console().print(f"{out}: module {'NPU' if npu else 'Cfu'}, {config}, "
                    f"{len(text.splitlines()):,} lines", soft_wrap=True, highlight=False)
