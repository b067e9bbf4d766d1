"""``backbeat verilog``: the hardware as one file."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..files import write_atomically
from . import app
from .options import ConfigName


@app.command()
def verilog(config: ConfigName = "16x16",
            out: Annotated[Path, typer.Option(help="File to write.")] = Path("cfu.v")):
    """Write cfu.v: the core with the CFU door, one flattened file for LiteX's cpu_cfu."""
    from backbeat_rtl.verilog import cfu_verilog

    with Console(stderr=True).status(f"Generating the {config} core"):
        text = cfu_verilog(config)
    write_atomically(out, text.encode())
    Console().print(f"{out}: module Cfu, {config}, {len(text.splitlines()):,} lines", soft_wrap=True,
                    highlight=False)
