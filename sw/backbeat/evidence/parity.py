"""Recipes against fp32 at equal seeds, on five tasks, each with its target."""

from dataclasses import dataclass
from functools import partial
from math import inf

from ..train.compare import Comparison, compare
from .report import Campaign, Report

__all__ = ["TARGETS", "Target", "measure"]


@dataclass(frozen=True)
class Target:
    """Of the differences of a recipe from fp32: percentage points of accuracy, per cent of a loss.

    Parameters
    ----------
    mean : (float, float)
        From, to.
    worst : (float, float)
    """

    task: str
    recipe: str
    seeds: int
    mean: tuple[float, float]
    worst: tuple[float, float] = (-inf, inf)

    def met(self, mean: float, worst: float) -> bool:
        return (self.mean[0] <= mean <= self.mean[1]) and (self.worst[0] <= worst <= self.worst[1])

    def __str__(self):
        return "; ".join(f"{name} {_range(*limits)}" for name, limits in (
            ("mean", self.mean), ("worst", self.worst)) if limits != (-inf, inf))


def _range(low: float, high: float) -> str:
    if low == -inf:
        return f"<= {high:+g}"
    return f">= {low:+g}" if high == inf else f"{low:+g}...{high:+g}"


#: The last recipe of char-gpt is the negative control: it must lose, or the task shows nothing.
TARGETS = (
    Target("digits-mlp", "int8", 20, (-0.1, 0.1), (-0.5, inf)),
    Target("digits-cnn", "int8", 15, (-0.1, 0.1), (-0.5, inf)),
    Target("digits-vit", "int8", 5, (-0.5, inf)),
    Target("mlp-regression", "int8", 5, (-inf, 3.0)),
    Target("char-gpt", "int8", 5, (-inf, 0.25), (-inf, 0.5)),
    Target("char-gpt", "int8_per_tensor", 5, (1.5, inf)),
)
#: Of the tests: too short to reach a target.
SHORT_TARGETS, SHORT_EPOCHS, SHORT_SEEDS = TARGETS[:1], 1, 2


def measure(campaign: Campaign) -> Report:
    rows, targets = [], SHORT_TARGETS if campaign.short else TARGETS
    for task in dict.fromkeys(target.task for target in targets):
        of_task = [target for target in targets if target.task == task]
        seeds = SHORT_SEEDS if campaign.short else of_task[0].seeds
        comparison = Comparison(campaign.directory / task, task,
                                ["fp32", *(target.recipe for target in of_task)], seeds,
                                backend="model", epochs=SHORT_EPOCHS if campaign.short else None)
        figures = compare(comparison, campaign.jobs, partial(campaign.track, description=task))
        for target in of_task:
            found = figures["recipes"][target.recipe]
            rows.append({
                "task": task, "recipe": target.recipe, "seeds": seeds, "epochs": figures["epochs"],
                "metric": figures["metric"].removeprefix("test_"), "unit": figures["unit"],
                "fp32": figures["recipes"]["fp32"]["mean_metric"], "value": found["mean_metric"],
                "mean": found["mean"], "sd": found["sd"], "worst": found["worst"],
                "target": str(target),
                "met": None if campaign.short else target.met(found["mean"], found["worst"])})
    return Report(
        "parity", "Differences from fp32 at equal seeds, on the test part: in percentage points of the "
        "accuracy, per cent of the mean squared error, per cent of the loss",
        {"task": "{task}", "recipe": "{recipe}", "seeds": "{seeds}", "epochs": "{epochs}",
         "metric": "{metric}", "fp32": "{fp32:.4f}", "recipe's": "{value:.4f}",
         "mean": "{mean:+.2f} {unit}", "sd": "{sd:.2f}", "worst": "{worst:+.2f} {unit}",
         "target": "{target}"},
        rows)
