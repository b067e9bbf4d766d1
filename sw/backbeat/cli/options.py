"""Options that several commands share."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..files import write_atomically

__all__ = ["AnyConfigName", "Backend", "ConfigName", "JsonFile", "Seed", "table_console", "write_json"]

Backend = Annotated[str, typer.Option(help="model (NumPy, bit-exact), verilator (the RTL) or "
                                          "litex:ADDRESS (a SoC).")]
ConfigName = Annotated[str, typer.Option("--config", help="Array: 4x4, 8x8, 16x16 or 32x14.")]
AnyConfigName = Annotated[str | None, typer.Option(
    "--config", help="Array: 4x4, 8x8, 16x16 or 32x14; 16x16, or whatever a SoC has, if not given.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
JsonFile = Annotated[str | None, typer.Option("--json", help="Write the figures there; - is stdout.")]


def table_console(stderr: bool = False) -> Console:
    """For tables: as wide as the terminal, and where there is none wide enough for ours."""
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console.width = 120
    return console


def write_json(figures: dict, target: str | None):
    """The figures to a file or, for "-", to stdout; nowhere for None."""
    if target is None:
        return
    text = json.dumps(figures, indent=2) + "\n"
    if target == "-":
        print(text, end="")
    else:
        write_atomically(Path(target), text.encode())
