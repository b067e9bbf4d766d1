"""``backbeat sweep``: many cores and memories on many workloads, here or on a cluster."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..files import write_atomically
from . import app
from .options import table_console


def _table(title: str, front: list[dict]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("core", "bytes/cycle", "GMAC/s", "array", "pJ/MAC", "LUT", "DSP", "RAMB36"):
        table.add_column(name, justify="left" if name == "core" else "right")
    for f in sorted(front, key=lambda f: -f["gmacs_per_s"]):
        c = f["config"]
        table.add_row(f"{f['array']}, depth {c['depth']}, tiles {c['tiles']}", f"{f['bandwidth']:g}",
                      f"{f['gmacs_per_s']:.2f}", f"{f['utilisation']:.1%}", f"{f['pj_per_mac']:.2f}",
                      f"{f['lut']:,}", f"{f['dsp']:,}", f"{f['bram']:,}")
    return table


@app.command()
def sweep(out: Annotated[Path, typer.Option(help="Folder for results.jsonl (what has been found, to go "
                                                 "on from) and pareto.json.")],
          configs: Annotated[str, typer.Option(help="Arrays, separated by spaces: 32x14, "
                                                    "24x16:depth=1024,tiles=32 ...")]
          = "8x8 16x16 32x14",
          workloads: Annotated[str, typer.Option(help="Separated by spaces, as for report.")]
          = "resnet50 bert-base",
          bandwidths: Annotated[str, typer.Option(help="Bytes per cycle, separated by spaces.")] = "8",
          batch: Annotated[int | None, typer.Option(min=1)] = None,
          tokens: Annotated[int | None, typer.Option(min=1)] = None,
          clock: Annotated[float, typer.Option(help="Hertz.")] = 100e6,
          energies: Annotated[Path | None, typer.Option(help="TOML file with picojoules per action.")]
          = None,
          synth: Annotated[Path | None, typer.Option(help="build/synth.json, to fit resources to.")]
          = None,
          workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core if not "
                                                                  "given.")] = None,
          scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, "
                                                             "tcp://HOST:8786.")] = None):
    """Evaluate every core with every memory on every workload, and print the Pareto fronts."""
    from ..energy import DEFAULT, read_energies
    from ..hardware import Estimator
    from ..sweep import Journal, client, pareto, parse_config, points, run

    costs = DEFAULT if energies is None else read_energies(energies)
    estimator = Estimator(synth)
    try:
        widths = [float(width) for width in bandwidths.split()]
    except ValueError:
        raise ValueError(f"bandwidths must be numbers separated by spaces, got {bandwidths!r}") from None
    cores = [parse_config(text) for text in configs.split()]
    wanted = points(cores, widths, workloads.split(), batch, tokens)
    if not wanted:
        raise ValueError("there is nothing to sweep: give configs, bandwidths and workloads")
    console = table_console()
    settings = {"clock": clock, "energies": asdict(costs), "synth": list(estimator.weights)}
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(out / "results.jsonl", settings))
        missing = journal.missing(wanted)
        if len(missing) < len(wanted):
            console.print(f"{len(wanted) - len(missing)} of {len(wanted)} have been found before")
        if missing:
            workers_here = stack.enter_context(client(scheduler, workers))
            progress = stack.enter_context(Progress(
                TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                console=Console(stderr=True), transient=True))
            task = progress.add_task("", total=len(wanted), completed=len(wanted) - len(missing))
            for result in run(workers_here, missing, energies=costs, clock=clock, estimator=estimator):
                journal.add(result)
                progress.advance(task)
        found = [journal.found[point.key] for point in wanted]
    fronts = {name: pareto([f for f in found if f["workload"] == name]) for name in workloads.split()}
    write_atomically(out / "pareto.json", (json.dumps(fronts, indent=1) + "\n").encode())
    for name, front in fronts.items():
        console.print(_table(f"{name}: nothing beats these in throughput, LUT, DSP, RAMB36 and energy",
                             front))
    failed = [f for f in found if "error" in f]
    for f in failed[:5]:
        console.print(f"{f['array']} on {f['workload']}: {f['error']}", style="yellow", markup=False)
    console.print(f"{len(found) - len(failed)} of {len(found)} points, {len(failed)} without a plan -> "
                  f"{out / 'pareto.json'}", highlight=False)
