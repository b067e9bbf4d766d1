"""``backbeat report``: the metric sheet of a workload on a configuration."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from ..files import write_atomically
from . import app
from .options import ConfigName


@app.command()
def report(workload: Annotated[str, typer.Option(help="A name that `backbeat workloads` lists, a .csv "
                                                      "or .onnx file, or package.module:function.")],
           out: Annotated[Path, typer.Option(help="Folder for index.html, report.json and "
                                                  "actions.yaml.")],
           config: ConfigName = "32x14",
           batch: Annotated[int | None, typer.Option(min=1, help="Samples in a training step.")]
           = None,
           tokens: Annotated[int | None, typer.Option(min=1, help="Of a transformer's sequence.")]
           = None,
           clock: Annotated[float, typer.Option(help="Hertz.")] = 100e6,
           bandwidth: Annotated[float, typer.Option(help="Bytes per cycle of the memory.")] = 8.0,
           energies: Annotated[Path | None, typer.Option(help="TOML file with picojoules per action.")]
           = None,
           synth: Annotated[Path | None, typer.Option(help="build/synth.json, to fit resources to.")]
           = None,
           run: Annotated[Path | None, typer.Option(help="Folder of a `backbeat train` run of this "
                                                       "network, for its accuracy.")] = None,
           measure: Annotated[float, typer.Option(help="Run products of up to so many MACs on the "
                                                       "simulated RTL, too.")] = 0,
           link: Annotated[float, typer.Option(help="Bytes per second between accelerators.")] = 1.25e9):
    """Throughput, latency, energy, traffic and scaling of a training step, as a page and as JSON."""
    from backbeat_rtl.config import Config

    from ..energy import DEFAULT, read_energies
    from ..hardware import Estimator
    from ..memory import Memory
    from ..report import measured, page, read_accuracy, sheet
    from ..workloads import load

    console = Console(stderr=True)
    accuracy = None if run is None else read_accuracy(run, workload)
    trained = load(workload, batch, tokens)
    single = load(workload, 1, tokens) if trained.batch > 1 else trained

    def shown(what):
        return lambda steps: track(steps, what, console=console, transient=True)

    made = sheet(trained, Config.of(config), replace(Memory(), bandwidth=bandwidth), clock,
                 single=single, link=link,
                 energies=DEFAULT if energies is None else read_energies(energies),
                 estimator=Estimator(synth), accuracy=accuracy, track=shown("products"))
    made = measured(made, int(measure), shown("on the RTL"))
    write_atomically(out / "index.html", page(made).encode())
    write_atomically(out / "report.json", (json.dumps(made.as_dict(), indent=1) + "\n").encode())
    # JSON is YAML, too.
    write_atomically(out / "actions.yaml", (json.dumps(made.accelergy(), indent=1) + "\n").encode())
    m = made.metrics
    Console().print(
        f"{trained.title} on {config}: {m['utilisation']:.1%} of the array, {m['samples_per_s']:.3g} "
        f"samples/s in training, {m['energy_per_sample_j']:.3g} J a sample (estimated) -> "
        f"{out / 'index.html'}", highlight=False, soft_wrap=True, markup=False)
