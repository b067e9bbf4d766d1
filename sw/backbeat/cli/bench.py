"""``backbeat bench``: the project's figures, as a table and a JSON file."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import app
from .options import JsonFile, Seed, table_console, write_json


def _table(title: str, rows: list[dict], columns: tuple[str, ...]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v := row[c], int) and not isinstance(v, bool)
                        else str(v) for c in columns))
    return table


@app.command()
def bench(config: Annotated[list[str] | None, typer.Option(help="Arrays (default: 16x16, 8x8).")]
          = None,
          seed: Seed = 0,
          training: Annotated[bool, typer.Option(help="Also train digits-mlp both ways.")] = True,
          json_file: JsonFile = None):
    """Measure products, simulation speed, array utilisation and training on the RTL."""
    from .. import bench as measure

    configs = config or ["16x16", "8x8"]
    console, progress = table_console(stderr=json_file == "-"), Console(stderr=True)
    report = {"seed": seed, "products": [], "simulation": [], "array": []}
    for name in configs:
        with progress.status(f"{name}: products"):
            report["products"] += measure.products(name, seed)
        with progress.status(f"{name}: simulation speed"):
            report["simulation"].append(measure.simulation_speed(name, seed))
    with progress.status("16x16: array utilisation"):
        report["array"] = list(measure.array_utilisation("16x16", seed))
    console.print(
        _table("Products through the CFU door, INT32 out (8 bytes in or 4 out per cycle)",
               report["products"], ("config", "m", "n", "k", "op", "cycles", "utilisation",
                                    "roofline", "exact")),
        _table("Simulation of 512 x 512 x 512 through acc.gemm, per second of CPU time",
               report["simulation"], ("config", "macs_per_cpu_s", "cycles_per_cpu_s", "exact")),
        _table("From first to last MAC, operands loaded",
               report["array"], ("config", "m", "n", "k", "cycles_of_macs", "utilisation",
                                 "exact")))
    if training:
        with progress.status("16x16: digits-mlp, three times"):
            report["training"] = list(measure.training(seed))
        console.print(_table("digits-mlp, 10 epochs", report["training"],
                             ("recipe", "backend", "test_accuracy", "cycles", "utilisation",
                              "seconds", "weights")))
    write_json(report, json_file)
