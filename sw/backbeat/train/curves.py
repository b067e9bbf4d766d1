"""Pictures of a run."""

import io
from itertools import accumulate

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

__all__ = ["curves"]


def curves(history: list[dict]) -> bytes:
    """Loss and metric by epoch and, with a clock, the metric by cycles; PNG.

    Parameters
    ----------
    history : list of dict
        Metrics of at least one epoch.
    """
    metric = next(name[5:] for name in history[0]
                  if name.startswith("test_") and name != "test_loss")
    epochs = [metrics["epoch"] for metrics in history]
    cycles = list(accumulate(metrics["cycles"] / 1e6 for metrics in history))
    panels = [("loss", "epoch", epochs), (metric, "epoch", epochs)]
    if cycles[-1]:
        panels.append((metric, "million cycles in training", cycles))
    figure = Figure(figsize=(4 * len(panels), 3.6), layout="constrained")
    for axis, (what, over, x) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for part in ("train", "test"):
            axis.plot(x, [metrics[f"{part}_{what}"] for metrics in history], marker=".", label=part)
        axis.set_title(what)
        axis.set_xlabel(over)
        axis.grid(alpha=0.3)
        axis.legend()
        axis.xaxis.set_major_locator(MaxNLocator(integer=over == "epoch"))
        if what != "accuracy":
            axis.set_ylim(bottom=0)
        else:
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
