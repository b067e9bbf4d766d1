"""``backbeat soc``: firmware on a simulated CPU beside the core."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import app
from .options import ConfigName, JsonFile, Seed, write_json

soc = typer.Typer(no_args_is_help=True, help="A RISC-V CPU and the core in one simulated SoC.")
app.add_typer(soc, name="soc")


def show(text: str):
    """What firmware prints, as it comes."""
    sys.stdout.write(text)
    sys.stdout.flush()


@soc.command()
def selftest(config: ConfigName = "16x16",
             stall: Annotated[float, typer.Option(min=0, max=0.95, help="Hold back the core's memory, "
                                                  "each channel with that chance per cycle.")] = 0,
             seed: Seed = 0):
    """Run the firmware library's self-test: the core against the same products in software."""
    from ..soc.programs import selftest

    code, _ = selftest(config, stall=stall, seed=seed, watch=show)
    if code:
        Console(stderr=True).print(f"the self-test ended with code {code}", style="red")
        raise typer.Exit(1)


@soc.command()
def train(task: Annotated[str, typer.Option(help="digits (64-32-10) or mnist (784-128-10).")] = "digits",
          config: ConfigName = "16x16",
          epochs: Annotated[float, typer.Option(min=0.001, help="Of whole batches of 32.")] = 1,
          software: Annotated[bool, typer.Option("--software", help="The CPU alone.")] = False,
          on_model: Annotated[bool, typer.Option("--model", help="In NumPy: the same bits, no clock.")]
          = False,
          data: Annotated[Path | None, typer.Option(help="Where MNIST's IDX files lie.")] = None,
          out: Annotated[Path | None, typer.Option(help="Write the weights there (.npy).")] = None,
          seed: Seed = 0, json_file: JsonFile = None):
    """Train on the device: integers only, by the CPU and the core, no host in between."""
    from ..soc.mlp_sizes import Network
    from ..soc.mlp_training import flat, train_in_model, train_on_soc
    from ..train.data import load

    networks = {"digits": Network(64, 32, 10), "mnist": Network(784, 128, 10, block=32)}
    if task not in networks:
        raise ValueError(f"--task must be one of {', '.join(networks)}, got {task!r}")
    if on_model and software:
        raise ValueError("--model and --software exclude each other")
    network = networks[task]
    samples = flat(load(task, data, seed), seed)
    name = f"{network.inputs}-{network.hidden}-{network.classes}"
    where = "model" if on_model else "VexRiscv alone" if software else f"VexRiscv and {config}"
    if on_model:
        trained = train_in_model(samples, network, epochs=epochs, seed=seed)
    else:
        with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                      TimeElapsedColumn(), console=Console(stderr=True)) as progress:
            bar = progress.add_task(f"training {name} on {where}")

            def watch(step: int, steps: int, right: int):
                seen = f", {right / (step * network.batch):.1%} right so far" if step else ""
                progress.update(bar, completed=step, total=steps,
                                description=f"training {name} on {where}{seen}")

            trained = train_on_soc(samples, network, epochs=epochs, seed=seed, config=config,
                                   software=software, watch=watch)
    figures = {"network": name, "on": where, "seed": seed, "steps": trained.steps,
               "batch": network.batch, "accuracy": trained.accuracy, "cycles": trained.cycles,
               "step_cycles": trained.step_cycles, "cpu_cycles": trained.cpu_cycles,
               "product_cycles": trained.product_cycles, "update_cycles": trained.update_cycles}
    if out is not None:
        _save(out, trained.mlp.master)
        figures["weights"] = str(out)
    write_json(figures, json_file)
    if json_file != "-":
        share = trained.cpu_cycles / max(trained.step_cycles, 1)
        cycles = "" if on_model else f", {trained.step_cycles:,} cycles a step, {share:.0%} the CPU's"
        Console().print(f"{name} on {where}: test accuracy {trained.accuracy:.2%} after {trained.steps} "
                        f"steps of {network.batch}{cycles}", highlight=False)


def _save(path: Path, weights):
    import io

    import numpy as np

    from ..files import write_atomically

    buffer = io.BytesIO()
    np.save(buffer, weights)
    write_atomically(path, buffer.getvalue())
