"""Recipes side by side: the same runs with the same seeds, and the differences in pairs."""

import io
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..accelerator import open
from ..errors import AcceleratorError
from ..files import write_atomically
from .data import load
from .settings import Settings
from .tasks import TASKS
from .trainer import Trainer

__all__ = ["Comparison", "compare", "differences", "picture", "train_once"]

#: What is compared: the first of them that a run has.
METRICS = ("test_accuracy", "test_mse", "test_loss")
#: Units of a difference: percentage points of an accuracy, per cent of anything else.
POINTS, PER_CENT = "pp", "%"


def train_once(settings: Settings) -> dict:
    """A whole run: the metrics of its last epoch, and the ``seconds`` of all.

    Raises
    ------
    As :class:`Trainer`; the message begins with recipe and seed.
    """
    try:
        data = load(TASKS[settings.task].data, settings.data and Path(settings.data), settings.seed)
        with open(settings.backend if settings.offloads else "model", settings.config) as acc:
            trainer = Trainer(settings, data, acc)
            trainer.fit()
    except (ValueError, TypeError, AcceleratorError) as error:
        raise type(error)(f"recipe {settings.recipe}, seed {settings.seed}: {error}") from None
    seconds = sum(epoch["seconds"] for epoch in trainer.history)
    return trainer.history[-1] | {"seconds": seconds}


def differences(values: list[float], base: list[float], unit: str) -> dict:
    """Mean, standard deviation and worst of what was lost or won, seed by seed.

    Parameters
    ----------
    values, base : list of float
        By seed: accuracies 0...1 for the unit "pp", losses for "%".

    Returns
    -------
    dict
        ``sd`` is None for a single seed. ``worst`` is the lowest difference of accuracies and the
        highest of losses.
    """
    values, base = np.array(values), np.array(base)
    each = 100 * (values - base if unit == POINTS else values / base - 1)
    return {"differences": each.tolist(), "mean": float(each.mean()),
            "sd": float(each.std(ddof=1)) if len(each) > 1 else None,
            "worst": float(each.min() if unit == POINTS else each.max())}


class Comparison:
    """A folder with a file per run, so that what is complete need not be made again.

    Parameters
    ----------
    directory : Path
    task : str
    recipes : sequence of str
        The others are compared with the first.
    seeds : int
        Every recipe is trained with the seeds 0...seeds - 1.
    options
        Other fields of :class:`Settings`, the same for all runs.

    Raises
    ------
    ValueError
        Names the setting and its value, here or in :class:`Settings`.
    """

    def __init__(self, directory: Path, task: str, recipes: Iterable[str], seeds: int, **options):
        self.directory, self.recipes = directory, tuple(recipes)
        if len(self.recipes) < 2 or len(set(self.recipes)) < len(self.recipes):
            raise ValueError("recipes must be two or more different ones, e.g. fp32,int8, got "
                             f"{','.join(self.recipes)}")
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {seeds}")
        self.runs = [Settings(task=task, recipe=recipe, seed=seed, **options)
                     for seed in range(seeds) for recipe in self.recipes]

    def path(self, run: Settings) -> Path:
        return self.directory / f"{run.recipe}-{run.seed}.json"

    def stored(self, run: Settings) -> dict | None:
        """The metrics of that run, if it is complete.

        Raises
        ------
        ValueError
            The file is broken, or of a run with other settings.
        """
        path = self.path(run)
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text())
            settings, metrics = content["settings"], content["metrics"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is broken ({error!r}): remove it") from None
        wanted = asdict(run)
        for name in sorted(wanted.keys() | settings.keys()):
            if settings.get(name) != wanted.get(name):
                raise ValueError(f"{path} is of a run with {name} {settings.get(name)}, now it is "
                                 f"{wanted.get(name)}: take another folder with --out, or remove this "
                                 "one")
        return metrics

    def results(self, jobs: int = 1) -> Iterator[tuple[Settings, dict]]:
        """Every run and its metrics, the stored ones first, each stored before it is returned.

        Parameters
        ----------
        jobs : int
            Runs at a time, each in a process of its own if it is more than one.

        Raises
        ------
        ValueError
            ``jobs`` is below 1; as :meth:`stored`, before anything is trained; as
            :func:`train_once`.
        """
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        metrics = {run: self.stored(run) for run in self.runs}
        yield from ((run, found) for run, found in metrics.items() if found is not None)
        for run, found in _train([run for run, found in metrics.items() if found is None], jobs):
            content = {"settings": asdict(run), "metrics": found}
            write_atomically(self.path(run), (json.dumps(content, indent=2) + "\n").encode())
            yield run, found

    def figures(self, metrics: dict[Settings, dict]) -> dict:
        """What the complete runs say."""
        some = next(iter(metrics.values()))
        metric = next(name for name in METRICS if name in some)
        unit = POINTS if metric == METRICS[0] else PER_CENT
        values = {recipe: [metrics[run][metric] for run in self.runs if run.recipe == recipe]
                  for recipe in self.recipes}
        shared = asdict(self.runs[0])
        for name in ("recipe", "seed"):
            del shared[name]
        base = values[self.recipes[0]]
        return shared | {
            "metric": metric, "unit": unit, "base": self.recipes[0], "seeds": len(base),
            "seconds": sum(m["seconds"] for m in metrics.values()),
            "recipes": {recipe: {"mean_metric": float(np.mean(found)), "values": found}
                        | (differences(found, base, unit) if recipe != self.recipes[0] else {})
                        for recipe, found in values.items()}}


def _train(runs: list[Settings], jobs: int) -> Iterator[tuple[Settings, dict]]:
    if jobs == 1 or len(runs) < 2:
        for run in runs:
            yield run, train_once(run)
        return
    # Forked, a process would inherit locks of threads that it does not have.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        futures = {pool.submit(train_once, run): run for run in runs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def compare(comparison: Comparison, jobs: int = 1,
            track: Callable[..., Iterable] = lambda runs, total: runs) -> dict:
    """Makes what is missing of a comparison, and writes compare.json and compare.png.

    Parameters
    ----------
    track : callable
        Of an iterable and its ``total``, returns it: for a progress bar.

    Returns
    -------
    dict
        The settings that all runs share, and for each recipe ``values`` by seed and their
        ``mean_metric``; for all but the first also the ``differences`` by seed, their ``mean``,
        ``sd`` and ``worst``, in ``unit``.
    """
    metrics = dict(track(comparison.results(jobs), total=len(comparison.runs)))
    figures = comparison.figures(metrics)
    write_atomically(comparison.directory / "compare.json",
                     (json.dumps(figures, indent=2) + "\n").encode())
    write_atomically(comparison.directory / "compare.png", picture(figures))
    return figures


def picture(figures: dict) -> bytes:
    """A dot per seed and recipe and a line at their mean: the metric, and the differences; PNG."""
    recipes = figures["recipes"]
    scale = 100 if figures["unit"] == POINTS else 1
    name = figures["metric"].replace("_", " ")
    panels = [(f"{name}, %" if scale == 100 else name,
               {recipe: np.array(found["values"]) * scale for recipe, found in recipes.items()}),
              (f"difference from {figures['base']}, {figures['unit']}",
               {recipe: np.array(found["differences"]) for recipe, found in recipes.items()
                if "differences" in found})]
    figure = Figure(figsize=(2 * (1.5 + len(recipes)), 3.6), layout="constrained")
    figure.suptitle(f"{figures['task']}, {figures['seeds']} seeds")
    for axis, (title, groups) in zip(figure.subplots(1, 2), panels, strict=True):
        for place, values in enumerate(groups.values()):
            # Side by side by seed, so that equal values do not hide each other.
            offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [0]
            axis.plot(place + np.array(offsets), values, ".", alpha=0.7)
            axis.hlines(values.mean(), place - 0.3, place + 0.3, colors="black", linewidth=1)
        axis.set_xticks(range(len(groups)), list(groups))
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.set_title(title, fontsize="medium")
        axis.grid(axis="y", alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
