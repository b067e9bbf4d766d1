"""What offloading costs on the model backend: a training step against PyTorch's own in FP32."""

import time
from collections import Counter
from contextlib import contextmanager
from statistics import median
from unittest import mock

from ..accelerator import Accelerator, open
from ..torch import site
from ..train import TASKS, Settings, Trainer
from ..train.data import load
from .report import Campaign, Report

__all__ = ["LIMIT", "measure", "step_times"]

TASK = "char-gpt"
#: Of the time of a step, in times of PyTorch's.
LIMIT = 4.0
WARM_UP, STEPS, SHORT_STEPS = 3, 20, 2


@contextmanager
def _timed(spent: Counter):
    """Adds up the seconds within the draws, the quantiser and the accelerator."""
    def wrapped(name, function):
        def timed(*arguments, **options):
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - start
        return timed

    with (mock.patch.object(site, "fractions", wrapped("draws", site.fractions)),
          mock.patch.object(site, "quantised", wrapped("quantise", site.quantised)),
          mock.patch.object(Accelerator, "run", wrapped("products", Accelerator.run))):
        yield


def _step(trainer: Trainer) -> float:
    """Seconds of one more step, as the trainer counts them."""
    before = trainer.sums.seconds
    trainer.fit(stop=lambda: True)
    return trainer.sums.seconds - before


def step_times(steps: int, track=iter) -> tuple[list[dict[str, float]], Counter]:
    """Seconds of steps in fp32 and in int8, by turns; and what is spent where in int8, summed up.

    One thread, as in every training run.
    """
    with open("model") as acc:
        settings = [Settings(task=TASK, backend="model", recipe=recipe) for recipe in ("fp32", "int8")]
        data = load(TASKS[TASK].data, None, 0)
        trainers = {s.recipe: Trainer(s, data, acc) for s in settings}
        for trainer in trainers.values():
            for _ in range(WARM_UP):
                _step(trainer)
        # The parts are of steps of their own: a watch on thousands of calls takes time too.
        times, spent = [], Counter()
        for _ in track(range(steps)):
            times.append({recipe: _step(trainer) for recipe, trainer in trainers.items()})
            with _timed(spent):
                spent["step"] += _step(trainers["int8"])
    return times, spent


def measure(campaign: Campaign) -> Report:
    steps = SHORT_STEPS if campaign.short else STEPS
    found = campaign.kept("steps", {"steps": steps}, lambda: dict(zip(
        ("times", "spent"), step_times(steps, lambda r: campaign.track(r, total=len(r))), strict=True)))
    fp32, int8 = (median(each[recipe] for each in found["times"]) for recipe in ("fp32", "int8"))
    # Neighbouring steps have the same company on the machine.
    ratio = median(each["int8"] / each["fp32"] for each in found["times"])
    spent = found["spent"]
    spent["everything else"] = spent["step"] - sum(spent[n] for n in ("draws", "quantise", "products"))
    rows = [{"what": "fp32, by PyTorch", "ms": 1e3 * fp32, "times": 1.0, "met": None},
            {"what": "int8 on the model", "ms": 1e3 * int8, "times": ratio,
             "met": None if campaign.short else ratio <= LIMIT}]
    for what in ("quantise", "draws", "products", "everything else"):
        share = spent[what] / spent["step"]
        rows.append({"what": f"of it: {what}", "ms": 1e3 * int8 * share, "times": ratio * share,
                     "met": None})
    return Report(
        "overhead", f"A training step of {TASK} on one thread of a CPU, median of {steps}",
        {"step": "{what}", "ms": "{ms:.1f}", "times fp32": "{times:.2f}"}, rows,
        f"at most {LIMIT:g} times fp32")
