"""``backbeat bench-soc``: what the core is worth to the CPU beside it."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from . import app
from .options import ConfigName, JsonFile, Seed, table_console, write_json


@app.command("bench-soc")
def bench_soc(config: ConfigName = "16x16",
              size: Annotated[int, typer.Option(min=8, help="M = N = K of the product.")] = 256,
              seed: Seed = 0,
              training: Annotated[bool, typer.Option(help="Also steps of on-device training.")] = True,
              json_file: JsonFile = None):
    """Cycles of one product and of a training step, by the core and in software, on the small SoC."""
    from ..soc import bench

    with Console(stderr=True).status("Simulating") as status:
        def progress(what: str):
            status.update(f"Simulating {what}")

        out = {"product": bench.product_figures(config, size, progress)}
        if training:
            out["training"] = bench.training_figures(config, seed, progress)
    write_json(out, json_file)
    if json_file == "-":
        return
    console = table_console()
    product = out["product"]
    table = Table("way", "array", "cycles", "cycles per MAC", "times software", "target",
                  title=f"INT8 product {size}x{size}x{size}, INT32 result; {product['compiler']}",
                  title_justify="left", caption_justify="left", caption=(
                      f"the loop that one writes first takes {product['naive_cycles_per_mac']:.1f} "
                      "cycles per MAC"))
    for row in product["rows"]:
        table.add_row(row["way"], row["config"], f"{row['cycles']:,}", f"{row['cycles_per_mac']:.4f}",
                      f"{row['times_software']:,.1f}", _verdict(row))
    console.print(table)
    if training:
        table = Table("network", "batch", "cycles of a step", "in software", "times", "CPU's share",
                      "target", title="A step of on-device training", title_justify="left")
        for row in out["training"]["rows"]:
            table.add_row(row["network"], str(row["batch"]), f"{row['cycles']:,}",
                          f"{row['software_cycles']:,}", f"{row['times_software']:.1f}",
                          f"{row['cpu_share']:.0%}", _verdict(row))
        console.print(table)


def _verdict(row: dict) -> str:
    if row["target"] is None:
        return ""
    return f"{'yes' if row['times_software'] >= row['target'] else 'NO'} (>= {row['target']:,})"
