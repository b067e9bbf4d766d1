"""The command line. One file per command; each imports what it needs when it is called."""

import sys

import typer
from rich.console import Console

from ..errors import AcceleratorError, ToolError

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Backbeat: a systolic array that learns.")

from . import (  # noqa: E402, F401  (each adds its command to app)
    animate,
    bench,
    bench_soc,
    compare,
    doctor,
    gemm,
    report,
    soc,
    sweep,
    train,
    validate,
    verilog,
    workloads,
)


def main():
    """Runs the command line; an error of the user's or the machine's is one line, not a trace."""
    try:
        app()
    except (ValueError, TypeError, OSError, ToolError, AcceleratorError) as error:
        Console(stderr=True).print(f"backbeat: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
