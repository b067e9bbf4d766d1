"""``backbeat bench`` and ``bench-scalesim``: the project's figures, as tables and JSON files."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..workloads import WORKLOADS
from . import app
from .options import Backend, ConfigName, JsonFile, Seed, table_console, write_json

#: What ``--only`` takes, in the order of measuring; the last four are about the RTL alone.
NAMES = (*WORKLOADS, "chains", "large", "models", "products", "simulation", "array", "training")
RTL_NAMES = NAMES[-4:]


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _table(title: str, rows: list[dict], columns: tuple[str, ...]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_text(row[c]) for c in columns))
    return table


def _verdict(row: dict) -> str:
    """Whether the target is reached; "?" without a clock, nothing without a target."""
    if row["target"] is None:
        return ""
    return f"{_text(row['met']) or '?'} (>= {row['target']})"


def _bounds_table(title: str, rows: list[dict]) -> Table:
    table = Table("run", title=title, title_justify="left", caption_justify="left", caption=(
        "MB moved, and how many times the bytes of each operand and result once (compulsory), and the "
        "minimum for the buffer size (fewest)"))
    for name in ("M", "N", "K", "out", "cycles", "bound", "by", "bound/cycles", "verdict", "MB moved",
                 "compulsory", "fewest", "exact"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        plain = ("run", "m", "n", "k", "out", "cycles", "bound", "bound_by", "of_bound")
        table.add_row(*(_text(row[name]) for name in plain), _verdict(row),
                      f"{(row['bytes_read'] + row['bytes_written']) / 1e6:.3f}",
                      f"{row['of_compulsory']:.2f}", f"{row['of_fewest']:.2f}", _text(row["exact"]))
    return table


def _progress() -> Progress:
    return Progress(SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(),
                    TimeElapsedColumn(), console=Console(stderr=True), transient=True)


def _console(json_file: str | None) -> Console:
    """For tables of a dozen columns."""
    console = table_console(stderr=json_file == "-")
    if not console.is_terminal:
        console.width = 170
    return console


def _sections(configs: list[str], array: str, backend: str, seed: int) -> dict:
    """{name: (title, columns of its table, function of a progress bar that returns its rows)}.

    No columns: rows of :func:`backbeat.bench.measure`, whose table is the same for all.
    """
    from .. import bench as measure

    def workload(name):
        return (f"{WORKLOADS[name].title}, on {array}", None,
                lambda track: measure.workload(name, backend, array, seed, track))

    return {
        **{name: workload(name) for name in WORKLOADS},
        "chains": (f"All products of these workloads below {measure.SINGLE:,} cycles, on {array}", None,
                   lambda track: measure.chains(backend, array, seed, track)),
        "large": ("Large products", None, lambda track: measure.large(backend, seed, track)),
        "models": (
            "Seconds of what is modelled, on all cores of this machine",
            ("what", "points", "seconds", "target"),
            lambda track: list(track(measure.models(), total=2))),
        "products": (
            "Products through the CFU door, INT32 out (8 bytes in or 4 out per cycle)",
            ("config", "m", "n", "k", "op", "cycles", "utilisation", "roofline", "exact"),
            lambda track: [row for config in track(configs)
                           for row in measure.door_products(config, seed)]),
        "simulation": (
            "Simulation of 512 x 512 x 512 from and to memory, per second of CPU time",
            ("config", "macs_per_cpu_s", "cycles_per_cpu_s", "utilisation", "exact"),
            lambda track: [measure.simulation_speed(config, seed) for config in track(configs)]),
        "array": (
            "From first to last MAC, operands loaded",
            ("config", "m", "n", "k", "cycles_of_macs", "utilisation", "exact"),
            lambda track: list(track(measure.array_utilisation("16x16", seed),
                                     total=len(measure.RESIDENT)))),
        "training": (
            "digits-mlp, 10 epochs",
            ("recipe", "backend", "test_accuracy", "cycles", "utilisation", "seconds", "weights"),
            lambda track: list(track(measure.training(seed), total=3))),
    }


@app.command()
def bench(config: Annotated[list[str] | None, typer.Option(
              help="Arrays of `products` and `simulation` (default: 16x16, 8x8).")] = None,
          seed: Seed = 0,
          only: Annotated[list[str] | None, typer.Option(
              metavar="NAME", help=f"Only this; may be repeated: {', '.join(NAMES)}.")] = None,
          array: Annotated[str, typer.Option(help="Array of the workloads.")] = "16x16",
          backend: Backend = "verilator",
          training: Annotated[bool, typer.Option(help="Also train digits-mlp both ways.")] = True,
          json_file: JsonFile = None):
    """Measure workloads, products, simulation speed, array utilisation and training on the RTL.

    On the backend model there are no cycles: it shows bounds and bytes, and leaves out the rest.
    """
    for name in only or ():
        if name not in NAMES:
            raise ValueError(f"only must be one of {', '.join(NAMES)}, got {name!r}")
    sections = _sections(config or ["16x16", "8x8"], array, backend, seed)
    console, report, exact = _console(json_file), {"seed": seed, "backend": backend}, True
    with _progress() as progress:
        for name in NAMES:
            if (name not in (only or NAMES) or name == "training" and not training
                    or name in RTL_NAMES and backend == "model"):
                continue
            title, columns, rows = sections[name]
            rows = report[name] = rows(partial(progress.track, description=title))
            exact &= all(row.get("exact", True) for row in rows)
            console.print(_table(title, rows, columns) if columns else _bounds_table(title, rows))
    write_json(report, json_file)
    if not exact:
        raise typer.Exit(1)


@app.command("bench-scalesim")
def bench_scalesim(
        python: Annotated[Path, typer.Option(help="Python of an environment with scalesim.")],
        config: ConfigName = "16x16", seed: Seed = 0, backend: Backend = "verilator",
        topology: Annotated[Path | None, typer.Option(
            exists=True, dir_okay=False, help="Topology file, instead of our own products.")] = None,
        limit: Annotated[int, typer.Option(
            help="Products of more cycles are not simulated by SCALE-Sim (10 s and 200 MB per 100,000): "
                 "their cycles are by the formula of its schedule.")] = 500_000,
        folder: Annotated[Path, typer.Option(help="For SCALE-Sim's files.")] = Path("build/scalesim"),
        json_file: JsonFile = None):
    """Compare cycles with SCALE-Sim's: its array without stalls, ours from memory to memory."""
    from .. import scalesim

    products = scalesim.PRODUCTS if topology is None else scalesim.read_topology(topology)
    with _progress() as progress:
        rows = scalesim.compare(products, backend, config, seed, python, folder, limit,
                                partial(progress.track, description=f"SCALE-Sim and ours, {config}"))
    title = f"Cycles of {config}: SCALE-Sim's array without stalls, ours from memory to memory"
    table = Table("product", title=title, title_justify="left")
    for name in ("M", "N", "K", "SCALE-Sim", "by", "out", "ours", "our bound", "ours/SCALE-Sim",
                 "below it", "exact"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        below = "" if row["below"] is None else _text(row["below"])
        if not row["possible"]:
            below += " (memory bound above)"
        plain = ("product", "m", "n", "k", "scalesim_cycles", "scalesim_by", "out", "cycles", "bound",
                 "ratio")
        table.add_row(*(_text(row[name]) for name in plain), below, _text(row["exact"]))
    _console(json_file).print(table)
    write_json({"seed": seed, "config": config, "backend": backend, "products": rows}, json_file)
    if not all(row["exact"] for row in rows):
        raise typer.Exit(1)
