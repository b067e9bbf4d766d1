"""``backbeat train``: trains a task, every matrix product on the accelerator."""

import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import app
from .options import Backend, ConfigName, JsonFile, Seed, write_json
from .watching import tell_memory, watched

#: What may differ from the run that is resumed: how long it is, and where its data lie now.
CHANGEABLE = {"epochs", "data"}
#: Plus the signal: what a shell makes of a process that it has stopped.
INTERRUPTED = 128
#: Seconds between checkpoints within an epoch: what a crash can cost.
CHECKPOINT_S = 60

Above0 = Annotated[int | None, typer.Option(min=1, show_default="the task's")]
Rate = Annotated[float | None, typer.Option(min=0, show_default="the task's")]


@app.command()
def train(context: typer.Context,
          task: Annotated[str, typer.Option(
              help="digits-mlp, digits-cnn, digits-vit, mnist-mlp, mnist-cnn, char-gpt, mlp-regression, "
                   "deep-sigmoid or deep-sigmoid-cured.")] = "digits-mlp",
          backend: Backend = "verilator", config: ConfigName = "16x16",
          recipe: Annotated[str, typer.Option(help="int8 or another; fp32: PyTorch, to compare with.")]
          = "int8",
          overrides: Annotated[list[str] | None, typer.Option(
              "--override", metavar="PATTERN=RECIPE",
              help="Another recipe for the layers of these names, e.g. 'blocks.*=fp32'; repeatable.")]
          = None,
          optimiser: Annotated[str | None, typer.Option(help="sgd or adamw.",
                                                        show_default="the task's")] = None,
          schedule: Annotated[str | None, typer.Option(help="Of the learning rate: constant or cosine.",
                                                       show_default="the task's")] = None,
          epochs: Above0 = None, batch: Above0 = None,
          accumulate: Annotated[int, typer.Option(
              min=1, help="Compute a batch in this many parts, one after another.")] = 1,
          lr: Rate = None, momentum: Rate = None, weight_decay: Rate = None,
          clip: Annotated[float | None, typer.Option(
              min=0, help="Largest norm of the gradients; 0: any.", show_default="the task's")] = None,
          seed: Seed = 0,
          data: Annotated[Path | None, typer.Option(help="Directory of MNIST's files, or a text file "
                                                         "for char-gpt.")] = None,
          workers: Annotated[int, typer.Option(
              min=0, max=64, help="Processes that load data; the result is the same.")] = 0,
          timeout: Annotated[float, typer.Option(
              min=1, help="Under torchrun: seconds until a process that does not answer is given up; "
                          "more than its longest step.")] = 120,
          monitor: Annotated[bool, typer.Option(
              "--monitor", help="Watch over the numbers: amax, saturation, gradients; warn in words.")]
          = False,
          memory: Annotated[bool, typer.Option(
              "--memory", help="Before training, measure where the memory of a step goes.")] = False,
          plot: Annotated[bool, typer.Option("--plot", help="Draw it, too: memory.png.")] = False,
          out: Annotated[Path | None, typer.Option(show_default="runs/TASK",
                                                   help="Folder of the run.")] = None,
          resume: Annotated[Path | None, typer.Option(
              help="Folder of a run to go on with; its settings are taken from there.")] = None,
          overwrite: Annotated[bool, typer.Option("--overwrite",
                                                  help="Begin anew in a folder with a run.")] = False,
          json_file: JsonFile = None):
    """Train a network. Ctrl-C leaves a checkpoint; --resume goes on to the very same weights.

    Under torchrun --nproc-per-node N -m backbeat train ... N processes share each batch.
    """
    from .. import open
    from ..train import TASKS, Run, Settings, Trainer, join
    from ..train.data import load

    values = {"task": task, "backend": backend, "config": config, "recipe": recipe,
              "overrides": _overrides(overrides or []), "optimiser": optimiser, "schedule": schedule,
              "epochs": epochs, "batch": batch, "accumulate": accumulate, "lr": lr,
              "momentum": momentum, "weight_decay": weight_decay, "clip": clip, "seed": seed,
              "data": None if data is None else str(data)}
    if resume is None:
        settings = Settings(**values)
        run = Run(out or Path("runs") / settings.task)
    else:
        if overwrite or out not in (None, resume):
            raise ValueError("--resume goes on in the run's own folder: no --out, no --overwrite")
        run = Run(resume)
    with join(timeout) as ranks:
        if resume is not None:
            settings = _resumed(run.settings(ranks), values, context)
        console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True, quiet=ranks.rank > 0)
        samples = load(TASKS[settings.task].data, settings.data and Path(settings.data), settings.seed)
        if resume is None:
            run.create(settings, overwrite, ranks)
        # Where nothing is offloaded, no simulator needs compiling.
        with (open(settings.backend if settings.offloads else "model", settings.config) as acc,
              _interruptible() as interrupts):
            trainer = Trainer(settings, samples, acc, workers, ranks)
            if resume is not None:
                run.restore(trainer)
                if settings.epochs < trainer.epoch:
                    raise ValueError(f"epochs must be at least the {trainer.epoch} that are complete, "
                                     f"got {settings.epochs}")
                run.write_settings(settings, ranks)
            run.save(trainer)
            _begin(console, trainer)
            if (memory or plot) and not ranks.rank:
                tell_memory(console, Trainer(settings, samples, acc), run, plot)
            with watched(console, trainer, run) if monitor else nullcontext() as tell:
                done = _fit(console, run, trainer, interrupts, tell)
            run.draw(trainer)
    if not done:
        console.print(f"stopped after {trainer.position} of {trainer.samples} "
                      f"{trainer.task.kind.samples} of epoch {trainer.epoch + 1}; go on with: backbeat "
                      f"train --resume {run.directory}")
        raise typer.Exit(INTERRUPTED + (interrupts or [signal.SIGINT])[0])
    figures = _figures(trainer)
    write_json(figures, None if ranks.rank else json_file)
    console.print(f"weights {figures['weights']}")
    console.print(f"{_summary(figures, trainer)} -> {run.directory}")


def _overrides(texts: list[str]) -> dict[str, str]:
    """From PATTERN=RECIPE; a pattern may have = in it."""
    for text in texts:
        if "=" not in text:
            raise ValueError(f"--override must be PATTERN=RECIPE, got {text!r}")
    return {pattern: recipe for pattern, _, recipe in (text.rpartition("=") for text in texts)}


def _resumed(settings, values: dict, context: typer.Context):
    """The settings of a run, with what was given on the command line now."""
    given = {name: value for name, value in values.items()
             if context.get_parameter_source(name).name == "COMMANDLINE"}
    for name, value in given.items():
        old = getattr(settings, name)
        if name not in CHANGEABLE and value != old:
            raise ValueError(f"{name} cannot change in a run: it is {old}, got {value}")
        if name == "epochs" and value != old and settings.schedule != "constant":
            raise ValueError(f"epochs cannot change in a run with schedule {settings.schedule}, which "
                             f"was made for its length: it is {old}, got {value}")
    return replace(settings, **given)


def _begin(console: Console, trainer):
    settings, ranks, kind = trainer.settings, trainer.ranks, trainer.task.kind
    console.print(f"{_title(asdict(settings))}, seed {settings.seed}: {len(trainer.data.train_x):,} "
                  f"training and {len(trainer.data.test_x):,} test {kind.samples}")
    console.print(", ".join(
        [f"batch {settings.batch}" + (f" in {settings.accumulate} parts" * (settings.accumulate > 1)),
         f"{settings.optimiser}, lr {settings.lr}" + f" ({settings.schedule})",
         f"momentum {settings.momentum}", f"weight decay {settings.weight_decay}",
         *([f"clipped at {settings.clip}"] if settings.clip else [])]))
    if ranks.size > 1:
        console.print(f"{ranks.size} ranks, {-(-settings.batch // ranks.size)} {kind.samples} of a "
                      "batch each")
        if any(type(module).__name__.startswith("BatchNorm") for module in trainer.model.modules()):
            console.print("batch normalisation is over each rank's share, not over the whole batch: not "
                          "the same run as on one rank")
    console.print(str(trainer.report), markup=False)
    if trainer.report.state.step:
        console.print(f"resumed after step {trainer.report.state.step}")


def _fit(console: Console, run, trainer, interrupts: list, tell=None) -> bool:
    """Trains with a progress bar, and a checkpoint after each epoch, each minute and at Ctrl-C.

    ``tell`` is called after each epoch.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    metric = trainer.task.kind.metric
    with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"), TimeElapsedColumn(), console=console,
            transient=True, disable=not console.is_terminal or console.quiet) as progress:
        bar = progress.add_task("", total=trainer.samples, figures="")
        saved = time.monotonic()

        def on_step():
            nonlocal saved
            if time.monotonic() - saved > CHECKPOINT_S:
                run.save(trainer)
                saved = time.monotonic()
            progress.update(bar, completed=trainer.position, description=f"epoch {trainer.epoch + 1}",
                            figures=_metrics(trainer.metrics(), "train", metric))

        def on_epoch():
            run.save(trainer)
            metrics = trainer.history[-1]
            console.print(f"epoch {trainer.epoch:3}  train: {_metrics(metrics, 'train', metric)}  "
                          f"test: {_metrics(metrics, 'test', metric)}  {metrics['seconds']:.1f} s  "
                          f"weights {metrics['weights']}")
            if tell is not None:
                tell()

        done = trainer.fit(on_step, on_epoch, lambda: bool(interrupts))
        if not done:
            run.save(trainer)
    return done


@contextmanager
def _interruptible():
    """A list that the first Ctrl-C or SIGTERM makes non-empty; a second Ctrl-C interrupts as ever."""
    interrupts = []

    def handler(number, _frame):
        interrupts.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


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


def _value(metric: str, value: float) -> str:
    return f"{value * 100:6.2f} %" if metric == "accuracy" else f"{value:.4f}"


def _metrics(metrics: dict, part: str, metric: str) -> str:
    text = f"loss {metrics[f'{part}_loss']:.4f}, {metric} {_value(metric, metrics[f'{part}_{metric}'])}"
    return ", ".join([text, *(_cycles(metrics) if part == "train" else [])])


def _figures(trainer) -> dict:
    """Of the whole run; what is not a sum is of the last epoch."""
    history = trainer.history
    sums = {name: sum(m[name] for m in history) for name in ("cycles", "macs", "seconds")}
    return asdict(trainer.settings) | history[-1] | sums | {
        "utilisation": (sums["macs"] / (sums["cycles"] * trainer.acc.config.macs)
                        if sums["cycles"] else None),
        "ranks": trainer.ranks.size}


def _summary(figures: dict, trainer) -> str:
    metric = trainer.task.kind.metric
    # An accuracy says all; of a language model, nats per character are what is compared.
    loss = [] if metric == "accuracy" else [f"test loss {figures['test_loss']:.4f}"]
    return ", ".join([f"{_title(figures)}: " + ", ".join(
        [*loss, f"test {metric} {_value(metric, figures[f'test_{metric}']).strip()}"]),
        f"{figures['epoch']} epochs", *_cycles(figures), f"{figures['seconds']:.1f} s"])
