"""The charts of a report, as SVG text."""

import io
import re

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from ..energy import LEVELS
from .sheet import KINDS, Sheet

__all__ = ["CHARTS"]

#: Okabe and Ito's palette: told apart with any colour vision; markers and hatches besides.
KIND_COLOURS = dict(zip(KINDS.values(), ("#0072B2", "#E69F00", "#009E73"), strict=True))
MARKERS = dict(zip(KINDS.values(), "o^s", strict=True))
LEVEL_COLOURS = dict(zip(LEVELS, ("#D55E00", "#F0E442", "#56B4E9", "#CC79A7", "#0072B2"), strict=True))
#: Layers of a chart; of more, the first ones of equal shape are shown and the rest left to the table.
MOST_LAYERS = 60
_WIDTH = 7.2


def _svg(figure: Figure, name: str) -> str:
    """Text that is the same for equal figures, with ids of its own."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    # Scales with the page instead of having a size.
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 aria-hidden="true"', text, count=1)
    return re.sub(r'(id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)


def _figure(height: float):
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axis = figure.subplots()
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    return figure, axis


def roofline(sheet: Sheet) -> str:
    figure, axis = _figure(4.2)
    peak = sheet.config.macs * sheet.clock / 1e9
    rate = sheet.memory.effective * sheet.clock / 1e9
    intensities = [s.intensity for s in sheet.steps]
    low, high = min(intensities) / 2, max([*intensities, peak / rate]) * 2
    axis.plot([low, peak / rate, high], [low * rate, peak, peak], color="black", linewidth=1,
              label="roof")
    for kind, colour in KIND_COLOURS.items():
        steps = [s for s in sheet.steps if s.kind == kind]
        axis.scatter([s.intensity for s in steps], [peak * s.utilisation for s in steps], color=colour,
                     marker=MARKERS[kind], alpha=0.75, label=kind, s=24, linewidths=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("MACs per byte moved")
    axis.set_ylabel("GMAC/s")
    axis.legend()
    return _svg(figure, "roofline")


def _layers(sheet: Sheet) -> list[str]:
    """Layers with products, those of repeated shape once."""
    shown, shapes = {}, set()
    for s in sheet.steps:
        shape = (s.product.kind, s.product.m, s.product.n, s.product.k, s.product.geometry)
        if s.layer in shown or len(shown) < MOST_LAYERS and shape not in shapes:
            shown[s.layer] = None
            shapes.add(shape)
    return [*shown]


def utilisation(sheet: Sheet) -> str:
    layers = _layers(sheet)
    figure, axis = _figure(1.2 + 0.2 * len(layers))
    rows = {layer: row for row, layer in enumerate(layers)}
    for kind, colour in KIND_COLOURS.items():
        steps = [s for s in sheet.steps if s.kind == kind and s.layer in rows]
        axis.scatter([s.utilisation for s in steps], [rows[s.layer] for s in steps], color=colour,
                     marker=MARKERS[kind], label=kind, s=26, alpha=0.85, linewidths=0)
    axis.set_yticks(range(len(layers)), layers, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.02)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel("of the array's multipliers")
    figure.legend(loc="outside upper center", ncols=3)
    return _svg(figure, "utilisation")


def energy(sheet: Sheet) -> str:
    figure, axis = _figure(2.4)
    kinds = [*KINDS.values()]
    left = [0.0] * len(kinds)
    for level, hatch in zip(LEVELS, ("", "//", "..", "xx", ""), strict=True):
        widths = [sheet.energy(kind)[level] for kind in kinds]
        axis.barh(kinds, widths, left=left, color=LEVEL_COLOURS[level], label=level, hatch=hatch,
                  edgecolor="white")
        left = [x + width for x, width in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(EngFormatter("J"))
    axis.set_xlabel("energy of a training step, estimated")
    figure.legend(loc="outside upper center", ncols=len(LEVELS))
    return _svg(figure, "energy")


def traffic(sheet: Sheet) -> str:
    layers = _layers(sheet)
    figure, axis = _figure(1.2 + 0.2 * len(layers))
    rows = {layer: row for row, layer in enumerate(layers)}
    left = [0.0] * len(layers)
    for kind, colour in KIND_COLOURS.items():
        widths = [0.0] * len(layers)
        for s in sheet.steps:
            if s.kind == kind and s.layer in rows:
                widths[rows[s.layer]] += s.cost.dram
        axis.barh(range(len(layers)), widths, left=left, color=colour, label=kind)
        left = [x + width for x, width in zip(left, widths, strict=True)]
    axis.set_yticks(range(len(layers)), layers, fontsize=7)
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(EngFormatter("B"))
    axis.set_xlabel("read from and written to memory in a step")
    figure.legend(loc="outside upper center", ncols=3)
    return _svg(figure, "traffic")


def feature_maps(sheet: Sheet) -> str:
    figure, axis = _figure(3.4)
    maps = [f for f in sheet.feature_maps if f.elements]
    axis.scatter([max(f.distance, 1) for f in maps], [f.elements for f in maps], color="#0072B2",
                 alpha=0.75, s=26, linewidths=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter(EngFormatter(" MAC"))
    axis.yaxis.set_major_formatter(EngFormatter("B"))
    axis.set_xlabel("MACs until the gradient wants it again")
    axis.set_ylabel("feature map, INT8")
    return _svg(figure, "feature-maps")


def _scaling(name: str, xs: list[int], bars: list[float], bar_label: str, bar_format, line: list[float],
             line_label: str, ticks: list[str]) -> str:
    figure, axis = _figure(3.2)
    places = range(len(xs))
    axis.bar(places, bars, color="#56B4E9", label=bar_label)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(bar_format)
    axis.set_ylabel(bar_label)
    axis.set_xticks(places, ticks, fontsize=8)
    other = axis.twinx()
    other.plot(places, line, color="#D55E00", marker="o", label=line_label)
    other.set_ylim(0, 1.05)
    other.yaxis.set_major_formatter(PercentFormatter(1))
    other.set_ylabel(line_label)
    return _svg(figure, name)


def arrays(sheet: Sheet) -> str:
    found = sheet.arrays
    return _scaling("arrays", [a["rows"] for a in found], [a["cycles"] / sheet.clock for a in found],
                    "time of a step", EngFormatter("s"), [a["utilisation"] for a in found],
                    "utilisation", [f"{a['rows']}x{a['columns']}" for a in found])


def accelerators(sheet: Sheet) -> str:
    found = sheet.accelerators
    batch = sheet.workload.batch
    return _scaling("accelerators", [a["accelerators"] for a in found],
                    [batch * a["accelerators"] / a["step_s"] for a in found], "samples per second",
                    EngFormatter(), [a["efficiency"] for a in found], "efficiency",
                    [f"{a['accelerators']:,}" for a in found])


#: Title, what it says to somebody who does not see it, and what draws it.
CHARTS = {
    "roofline": ("Roofline", "GMAC/s of every product over MACs per byte, below the roof of array and "
                 "memory", roofline),
    "utilisation": ("Utilisation by layer", "Part of the multipliers in use, for each layer and kind of "
                    "product; of layers of equal shape the first", utilisation),
    "energy": ("Energy by kind and level", "Joules of forward products, input and weight gradients, "
               "split by where they go", energy),
    "traffic": ("Traffic by layer", "Bytes between core and memory for each layer and kind of product",
                traffic),
    "feature-maps": ("Feature maps", "Size of every layer's output over the MACs until it is used "
                     "again", feature_maps),
    "arrays": ("Larger arrays", "Time and utilisation of a step on square arrays", arrays),
    "accelerators": ("Many accelerators", "Samples per second and efficiency with a ring all-reduce",
                     accelerators),
}
