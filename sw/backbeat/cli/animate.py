"""``backbeat animate``: the array at work, cycle by cycle, from the RTL's waveform."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from ..files import write_atomically
from . import app
from .options import Seed

Size = Annotated[int, typer.Argument(help="A is M K, B is K N.")]


@app.command()
def animate(m: Size, k: Size, n: Size,
            config: Annotated[str, typer.Option(help="Array: 4x4 or 8x8.")] = "4x4",
            seed: Seed = 0,
            out: Annotated[Path, typer.Option(help="File to write: .html can be stepped through, .svg "
                                                   "is an image that loops.")] = Path("beat.html"),
            vcd: Annotated[Path | None, typer.Option(help="Keep the waveform there.")] = None):
    """Draw operands and sums as they move through the simulated array (M K by K N)."""
    from ..animate import FORMATS, watch
    from ..animate.captions import what

    if out.suffix not in FORMATS:
        raise ValueError(f"out must end in {' or '.join(FORMATS)}, got {str(out)!r}")
    beat = watch(m, k, n, config, seed, vcd)
    write_atomically(out, FORMATS[out.suffix](beat).encode())
    expected = beat.a.astype(np.int64) @ beat.b
    wrong = np.argwhere(beat.c != expected)
    verdict = "C = A B exact"
    if len(wrong):
        at = tuple(int(x) for x in wrong[0])
        verdict = (f"{len(wrong)} of {beat.c.size} values of C are wrong, the first C{list(at)} = "
                   f"{beat.c[at]}, expected {expected[at]}")
    console = Console()
    console.print(f"seed {seed}, operands -9...9, from the waveform of the simulated RTL",
                  highlight=False)
    console.print(f"{what(beat)}: {beat.cycles} cycles, {verdict} -> {out}", highlight=False,
                  soft_wrap=True, markup=False)
    if len(wrong):
        raise typer.Exit(1)
