"""``backbeat validate``: what the planner predicts, and what the RTL does."""

from dataclasses import asdict
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from . import app
from .options import JsonFile, Seed, table_console, write_json

#: What the model is to reach: median and worst error.
MEDIAN, WORST = 0.02, 0.05


@app.command()
def validate(configs: Annotated[str, typer.Option(help="Arrays, separated by commas.")]
             = "8x8,16x16,32x14",
             products: Annotated[int, typer.Option(min=1, help="So many for each array and memory.")]
             = 80,
             seed: Seed = 0, json_file: JsonFile = None):
    """Compare predicted cycles and bytes of random products with the simulated RTL."""
    from backbeat_rtl.config import Config

    from ..validate import MEMORIES, SHORT, compare, random_products, summary

    console = table_console()
    console.print(f"seed {seed}")
    cores = [Config.of(name) for name in configs.split(",")]
    found = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(cores) * len(MEMORIES) * products)
        for config in cores:
            for memory in MEMORIES:
                progress.update(task, description=f"{config.name}, {memory} memory")
                rng = np.random.default_rng([seed, config.rows, config.columns, len(memory)])
                for one in compare(config, memory, random_products(rng, products), rng):
                    found.append(one)
                    progress.advance(task)
    table = Table("array", "memory", "products", "median error", "95 of 100 below", "worst",
                  f"below {SHORT:,} cycles: median, worst", "bytes right", "exact",
                  caption_justify="left", caption="worst: " + summary(found)["worst_product"])
    groups = [(config.name, memory) for config in cores for memory in MEMORIES]
    for name, memory in (*groups, ("all", "")):
        chosen = [c for c in found if name == "all" or (c.config, c.memory) == (name, memory)]
        s = summary(chosen)
        table.add_row(name, memory, f"{s['products']}", *(f"{s[key]:.2%}" for key in (
            "median", "p95", "worst")), f"{s['short']}: {s['short_median']}, {s['short_worst']} cycles",
            *(f"{s[key]} of {len(chosen)}" for key in ("bytes_right", "exact")))
    console.print(table)
    total = summary(found)
    met = total["median"] <= MEDIAN and total["worst"] <= WORST
    right = total["bytes_right"] == total["exact"] == len(found)
    write_json({"seed": seed, **total, "met": met,
                "comparisons": [asdict(c) | {"error": c.error} for c in found]}, json_file)
    console.print(f"{len(found)} products: median error {total['median']:.2%} (<= {MEDIAN:.0%}), worst "
                  f"{total['worst']:.2%} (<= {WORST:.0%}): {'met' if met else 'NOT met'}")
    if not right:
        raise typer.Exit(1)
