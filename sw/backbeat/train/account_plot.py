"""The picture of a memory account."""

import io

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from .account import KINDS, Account

__all__ = ["plot"]

#: Okabe and Ito's palette: told apart with any colour vision.
COLOURS = {"feature_maps": "#0072B2", "recomputed": "#56B4E9", "weights": "#E69F00",
           "gradients": "#009E73", "optimiser_state": "#CC79A7"}


def plot(account: Account) -> bytes:
    """Stacked bars of bytes by layer, and beside them the reuse distance of each map; PNG."""
    layers = account.layers
    figure = Figure(figsize=(11, 1.8 + 0.28 * len(layers)), layout="constrained")
    memory, reuse = figure.subplots(1, 2, sharey=True)
    left = [0] * len(layers)
    for kind, name in KINDS.items():
        if account.total(kind):
            widths = [getattr(layer, kind) for layer in layers]
            memory.barh(range(len(layers)), widths, left=left, color=COLOURS[kind], label=name)
            left = [x + width for x, width in zip(left, widths, strict=True)]
    memory.set_yticks(range(len(layers)), [layer.layer for layer in layers])
    memory.invert_yaxis()
    memory.set_xlabel(f"memory; feature maps at once: {EngFormatter('B', 1)(account.peak)}")
    memory.xaxis.set_major_formatter(EngFormatter("B"))
    figure.legend(loc="outside upper center", ncols=len(KINDS))
    rows = {layer.layer: row for row, layer in enumerate(layers)}
    for again in (False, True):
        points = [(m.distance, rows[m.layer]) for m in account.maps
                  if m.distance is not None and m.recomputed == again]
        if points:
            reuse.scatter(*zip(*points, strict=True), marker="x" if again else "o", alpha=0.8,
                          color=COLOURS["recomputed" if again else "feature_maps"])
    distances = [m.distance for m in account.maps if m.distance is not None]
    if distances and max(distances):
        # Logarithmic, but for what is used at once.
        reuse.set_xscale("symlog", linthresh=min(d for d in distances if d))
    reuse.set_xlabel("MACs until a feature map is used again")
    for axis in (memory, reuse):
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
