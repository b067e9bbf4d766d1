"""``backbeat train``: trains a task, every matrix product on the accelerator."""

import signal
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import app
from .options import Backend, ConfigName, JsonFile, Seed, write_json

#: What may differ from the run that is resumed: how long it is, and where its images lie now.
CHANGEABLE = {"epochs", "data"}
INTERRUPTED = 130
#: Seconds between checkpoints within an epoch: what a crash can cost.
CHECKPOINT_S = 60

Above0 = Annotated[int | None, typer.Option(min=1, show_default="the task's")]
Rate = Annotated[float | None, typer.Option(min=0, show_default="the task's")]


@app.command()
def train(context: typer.Context,
          task: Annotated[str, typer.Option(help="digits-mlp, digits-cnn, mnist-mlp or mnist-cnn.")]
          = "digits-mlp",
          backend: Backend = "verilator", config: ConfigName = "16x16",
          recipe: Annotated[str, typer.Option(help="int8, or fp32: PyTorch, to compare with.")] = "int8",
          epochs: Above0 = None, batch: Above0 = None, lr: Rate = None, momentum: Rate = None,
          weight_decay: Rate = None, seed: Seed = 0,
          data: Annotated[Path | None, typer.Option(help="Directory of MNIST's files.")] = None,
          out: Annotated[Path | None, typer.Option(show_default="runs/TASK",
                                                   help="Folder of the run.")] = None,
          resume: Annotated[Path | None, typer.Option(
              help="Folder of a run to go on with; its settings are taken from there.")] = None,
          overwrite: Annotated[bool, typer.Option("--overwrite",
                                                  help="Begin anew in a folder with a run.")] = False,
          json_file: JsonFile = None):
    """Train a network. Ctrl-C leaves a checkpoint; --resume goes on to the very same weights."""
    from .. import open
    from ..train import TASKS, Run, Settings, Trainer
    from ..train.data import load

    values = {"task": task, "backend": backend, "config": config, "recipe": recipe, "epochs": epochs,
              "batch": batch, "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "seed": seed,
              "data": None if data is None else str(data)}
    if resume is None:
        settings = Settings(**values)
        run = Run(out or Path("runs") / settings.task)
    else:
        if overwrite or out not in (None, resume):
            raise ValueError("--resume goes on in the run's own folder: no --out, no --overwrite")
        run = Run(resume)
        settings = _resumed(run.settings(), values, context)
    console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True)
    images = load(TASKS[settings.task].data, settings.data and Path(settings.data), settings.seed)
    if resume is None:
        run.create(settings, overwrite)
    # With fp32 nothing is offloaded: no simulator needs compiling.
    with (open("model" if settings.recipe == "fp32" else settings.backend, settings.config) as acc,
          _interruptible() as interrupts):
        trainer = Trainer(settings, images, acc)
        if resume is not None:
            run.restore(trainer)
            if settings.epochs < trainer.epoch:
                raise ValueError(f"epochs must be at least the {trainer.epoch} that are complete, got "
                                 f"{settings.epochs}")
            run.write_settings(settings)
        run.save(trainer)
        _begin(console, trainer)
        done = _fit(console, run, trainer, interrupts)
        run.draw(trainer)
    if not done:
        console.print(f"stopped after {trainer.position} of {len(images.train_x)} images of epoch "
                      f"{trainer.epoch + 1}; go on with: backbeat train --resume {run.directory}")
        raise typer.Exit(INTERRUPTED)
    figures = _figures(trainer)
    write_json(figures, json_file)
    console.print(f"weights {figures['weights']}")
    console.print(f"{_summary(figures)} -> {run.directory}")


def _resumed(settings, values: dict, context: typer.Context):
    """The settings of a run, with what was given on the command line now."""
    given = {name: value for name, value in values.items()
             if context.get_parameter_source(name).name == "COMMANDLINE"}
    for name, value in given.items():
        old = getattr(settings, name)
        if name not in CHANGEABLE and value != old:
            raise ValueError(f"{name} cannot change in a run: it is {old}, got {value}")
    return replace(settings, **given)


def _begin(console: Console, trainer):
    settings, data = trainer.settings, trainer.data
    console.print(f"{_title(asdict(settings))}, seed {settings.seed}: {len(data.train_x):,} training "
                  f"and {len(data.test_x):,} test images")
    console.print(f"batch {settings.batch}, lr {settings.lr}, momentum {settings.momentum}, "
                  f"weight decay {settings.weight_decay}")
    console.print(str(trainer.report), markup=False)
    if trainer.report.state.step:
        console.print(f"resumed after step {trainer.report.state.step}")


def _fit(console: Console, run, trainer, interrupts: list) -> bool:
    """Trains with a progress bar, and a checkpoint after each epoch, each minute and at Ctrl-C."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    images = len(trainer.data.train_x)
    with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"), TimeElapsedColumn(), console=console,
            transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=images, figures="")
        saved = time.monotonic()

        def on_step():
            nonlocal saved
            if time.monotonic() - saved > CHECKPOINT_S:
                run.save(trainer)
                saved = time.monotonic()
            metrics = trainer.sums.metrics(trainer.acc.config.macs)
            progress.update(bar, completed=trainer.position, description=f"epoch {trainer.epoch + 1}",
                            figures=_metrics(metrics, "train"))

        def on_epoch():
            run.save(trainer)
            metrics = trainer.history[-1]
            console.print(f"epoch {trainer.epoch:3}  train: {_metrics(metrics, 'train')}  "
                          f"test: {_metrics(metrics, 'test')}  {metrics['seconds']:.1f} s  "
                          f"weights {metrics['weights']}")

        done = trainer.fit(on_step, on_epoch, lambda: bool(interrupts))
        if not done:
            run.save(trainer)
    return done


@contextmanager
def _interruptible():
    """A list that the first Ctrl-C makes non-empty; the second one interrupts as ever."""
    interrupts = []

    def handler(number, _frame):
        interrupts.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    old = signal.signal(signal.SIGINT, handler)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, old)


def _title(settings: dict) -> str:
    place = ("by PyTorch" if settings["recipe"] == "fp32"
             else f"on {settings['backend']} {settings['config']}")
    return f"{settings['task']} {settings['recipe']} {place}"


def _cycles(figures: dict) -> list[str]:
    """Simulated cycles and utilisation, where there is a clock."""
    if not figures["cycles"]:
        return []
    return [f"{figures['cycles'] / 1e6:.1f} M cycles",
            f"utilisation {figures['utilisation'] * 100:.0f} %"]


def _metrics(metrics: dict, part: str) -> str:
    text = f"loss {metrics[f'{part}_loss']:.4f}, accuracy {metrics[f'{part}_accuracy'] * 100:6.2f} %"
    return ", ".join([text, *(_cycles(metrics) if part == "train" else [])])


def _figures(trainer) -> dict:
    """Of the whole run; what is not a sum is of the last epoch."""
    history = trainer.history
    sums = {name: sum(m[name] for m in history) for name in ("cycles", "macs", "seconds")}
    return asdict(trainer.settings) | history[-1] | sums | {
        "utilisation": (sums["macs"] / (sums["cycles"] * trainer.acc.config.macs)
                        if sums["cycles"] else None)}


def _summary(figures: dict) -> str:
    return ", ".join([f"{_title(figures)}: test accuracy {figures['test_accuracy'] * 100:.2f} %",
                      f"{figures['epoch']} epochs", *_cycles(figures), f"{figures['seconds']:.1f} s"])
