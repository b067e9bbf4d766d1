"""``backbeat compare``: recipes at equal seeds, as paired differences."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import app
from .options import Backend, ConfigName, JsonFile, table_console, write_json


@app.command()
def compare(task: Annotated[str, typer.Option(help="As for `backbeat train`.")] = "digits-mlp",
            recipes: Annotated[str, typer.Option(
                help="Two or more, with commas; the others are compared with the first.")] = "fp32,int8",
            seeds: Annotated[int, typer.Option(help="Runs per recipe, with the seeds 0, 1, ...")] = 5,
            backend: Backend = "model", config: ConfigName = "16x16",
            epochs: Annotated[int | None, typer.Option(show_default="the task's")] = None,
            data: Annotated[Path | None, typer.Option(help="Of the task, where it needs one.")] = None,
            out: Annotated[Path | None, typer.Option(show_default="runs/compare-TASK",
                                                     help="Folder of the results.")] = None,
            jobs: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
            json_file: JsonFile = None):
    """Train with each recipe and seed, and show the differences. Complete runs are not made again."""
    from ..train.compare import Comparison
    from ..train.compare import compare as measure

    directory = out or Path("runs") / f"compare-{task}"
    comparison = Comparison(directory, task, recipes.split(","), seeds, backend=backend, config=config,
                            epochs=epochs, data=None if data is None else str(data))
    screen = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                  TimeElapsedColumn(), console=screen, transient=True,
                  disable=not screen.is_terminal) as progress:
        figures = measure(comparison, jobs, partial(progress.track, description=f"{task}, runs"))
    console = table_console(stderr=json_file == "-")
    console.print(_table(figures))
    console.print(f"-> {directory}/compare.json, compare.png", highlight=False, soft_wrap=True)
    write_json(figures, json_file)


def _table(figures: dict) -> Table:
    title = (f"{figures['task']}, epochs: {figures['epochs']}, seeds: {figures['seeds']}; differences "
             f"from {figures['base']} at equal seeds")
    table = Table("recipe", title=title, title_justify="left", min_width=len(title) + 1)
    for name in (figures["metric"].replace("_", " "), "mean", "sd", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    unit = figures["unit"]
    for recipe, found in figures["recipes"].items():
        metric = found["mean_metric"]
        cells = [f"{metric:.2%}" if unit == "pp" else f"{metric:.4f}"]
        for name, form in (("mean", "+.2f"), ("sd", ".2f"), ("worst", "+.2f")):
            value = found.get(name)
            cells.append("" if value is None else f"{value:{form}} {unit}")
        table.add_row(recipe, *cells)
    return table
