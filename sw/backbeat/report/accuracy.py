"""The accuracy of a report: of a run of ``backbeat train``."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Accuracy", "read_accuracy"]


@dataclass(frozen=True)
class Accuracy:
    """What a run has come to, on data that it was not trained with.

    Attributes
    ----------
    task : str
    metric : str
        ``"accuracy"`` (of 0...1), or what else such networks are judged by.
    value : float
    how : str
        Recipe, backend, core, epochs and seed.
    weights : str
        Their hash.
    """

    task: str
    metric: str
    value: float
    how: str
    weights: str

    def __str__(self):
        value = f"{self.value:.2%}" if self.metric == "accuracy" else f"{self.metric} {self.value:.4g}"
        return f"{value} ({self.task}, {self.how})"


def read_accuracy(directory: Path, workload: str) -> Accuracy:
    """Of the run in that folder.

    Parameters
    ----------
    directory : Path
    workload : str
        What the report is of, as it was named.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no run, it is broken or has no complete epoch; or it is of another network.
    """
    from ..train.run import Run
    from ..train.tasks import TASKS

    run = Run(directory)
    settings, last = run.settings(), run.last()
    if workload != settings.task:
        raise ValueError(f"{directory} has trained {settings.task}, this report is of {workload}: take "
                         "a run of that, or report without --run")
    metric, epochs = TASKS[settings.task].kind.metric, last["epoch"]
    return Accuracy(settings.task, metric, last[f"test_{metric}"],
                    f"{settings.recipe} on {settings.backend} {settings.config}, "
                    f"{epochs} epoch{'s' * (epochs > 1)}, seed {settings.seed}", last["weights"])
