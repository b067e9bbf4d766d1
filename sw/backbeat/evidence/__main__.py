"""``python -m backbeat.evidence``: measures what docs/numerics.md says, and writes its tables there."""

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..cli.options import table_console
from ..errors import AcceleratorError, ToolError
from . import EVIDENCE
from .document import fill
from .report import Campaign, write_json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backbeat.evidence", description=(
        "Measures what docs/numerics.md says. Results are kept and a campaign that was broken off goes "
        "on; a change of the source makes no difference to it: --fresh begins anew."))
    parser.add_argument("--only", action="append", metavar="NAME", choices=tuple(EVIDENCE),
                        help=f"may be repeated: {', '.join(EVIDENCE)}")
    parser.add_argument("--short", action="store_true",
                        help="as little as shows that it works; leaves the document alone")
    parser.add_argument("--fresh", action="store_true", help="drop what has been measured before")
    parser.add_argument("--jobs", type=int, default=1, help="training runs at a time")
    parser.add_argument("--out", type=Path, help="folder of the results (build/numerics)")
    parser.add_argument("--document", type=Path, default=Path("docs/numerics.md"))
    return parser


def _measure(options: argparse.Namespace, console: Console) -> bool:
    """Whether all targets are met."""
    out = options.out or Path("build") / ("numerics-short" if options.short else "numerics")
    met, screen = True, Console(stderr=True)
    for name in options.only or EVIDENCE:
        if options.fresh:
            shutil.rmtree(out / name, ignore_errors=True)
        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                      TimeElapsedColumn(), console=screen, transient=True,
                      disable=not screen.is_terminal) as progress:
            track = partial(_track, progress, name)
            report = EVIDENCE[name](Campaign(out / name, options.short, options.jobs, track))
        write_json(out / f"{name}.json", report.figures())
        console.print(report.table())
        if not options.short:
            fill(options.document, report)
        met &= report.met
    return met


def _track(progress: Progress, name: str, items, description: str = "", total: int | None = None):
    return progress.track(items, total, description=f"{name} {description}".rstrip())


def main():
    options = _parser().parse_args()
    # Small operations on several threads only wait for each other, and runs must not depend on them.
    torch.set_num_threads(1)
    console = table_console()
    if not console.is_terminal:
        console.width = 170
    try:
        met = _measure(options, console)
    except (ValueError, OSError, ToolError, AcceleratorError) as error:
        Console(stderr=True).print(f"backbeat.evidence: {error}", style="red", markup=False,
                                   soft_wrap=True)
        sys.exit(1)
    if not met:
        sys.exit("a target is not met")


if __name__ == "__main__":
    main()
