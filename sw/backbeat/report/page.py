"""A report as one HTML file that needs nothing else."""

from html import escape

from ..energy import LEVELS
from .charts import CHARTS
from .sheet import KINDS, Sheet

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem;
       margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .6rem;
         margin: 0; }
.sheet div { border: 1px solid #bbb; border-radius: .4rem; padding: .5rem .7rem; }
.sheet dt { color: #444; font-size: .85rem; } .sheet dd { margin: 0; font-size: 1.15rem; }
figure { margin: 0; overflow-x: auto; } svg { width: 100%; min-width: 34rem; height: auto; }
.table { overflow-x: auto; }
.table:focus, figure:focus, summary:focus { outline: 3px solid #0072B2; }
table { border-collapse: collapse; font-size: .85rem; } caption { text-align: left; color: #444; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
nav a { margin-right: .8rem; display: inline-block; padding: .2rem 0; color: #0050a0; }
summary { cursor: pointer; padding: .4rem 0; } .note { color: #444; font-size: .9rem; }
"""
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"),
             (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def _number(value: float, unit: str = "") -> str:
    """Three digits and a prefix."""
    if not value:
        return f"0 {unit}".strip()
    scale, prefix = next((p for p in _PREFIXES if abs(value) >= p[0]), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}".strip()


def _metrics(sheet: Sheet) -> str:
    m = sheet.metrics
    shown = (
        ("accuracy, measured", str(sheet.accuracy or "train it, then --run")),
        ("weights", _number(m["weights"])),
        ("MACs of a forward pass, per sample", _number(m["macs_forward_per_sample"])),
        ("MACs of a training step", _number(m["macs_step"])),
        ("utilisation, training step", f"{m['utilisation']:.1%}"),
        ("utilisation, forward", f"{m['utilisation_forward']:.1%}"),
        ("flexibility: half of the MACs use", f"{m['utilisation_of_half_the_macs']:.1%} or more"),
        ("95 % of the MACs use", f"{m['utilisation_of_95_percent_of_the_macs']:.1%} or more"),
        ("the worst product uses", f"{m['utilisation_least']:.1%}"),
        ("throughput, training", f"{_number(m['samples_per_s'])} samples/s"),
        ("throughput, forward", f"{_number(m['inference_samples_per_s'])} samples/s"),
        ("arithmetic", f"{_number(m['gmacs_per_s'] * 1e9)}MAC/s"),
        ("time of a step", _number(m["step_s"], "s")),
        ("latency, forward at batch 1", _number(m["latency_batch_1_s"], "s")),
        ("memory traffic of a step", _number(m["dram_bytes_step"], "B")),
        ("MACs per byte of it", f"{1 / m['dram_bytes_per_mac']:.3g}"),
        ("times each operand and result once", f"{m['dram_of_compulsory']:.2f}"),
        ("memory bandwidth used", _number(m["dram_bytes_per_s"], "B/s")),
        ("energy of a step, estimated", _number(m["energy_step_j"], "J")),
        ("energy of a sample, estimated", _number(m["energy_per_sample_j"], "J")),
        ("energy of a MAC, estimated", f"{m['pj_per_mac']:.2f} pJ"),
        ("power, estimated", _number(m["power_w"], "W")),
        ("feature maps kept, INT8", _number(m["feature_map_bytes"], "B")),
        ("LUT, DSP48E1, RAMB36 of the core", f"{m['lut']:,} {m['dsp']:,} {m['bram']:,}"),
        ("arithmetic per DSP", f"{_number(m['gmacs_per_s_per_dsp'] * 1e9)}MAC/s"),
        ("arithmetic per 1,000 LUT", f"{_number(m['gmacs_per_s_per_klut'] * 1e9)}MAC/s"),
    )
    return '<dl class="sheet">' + "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in shown) + "</dl>"


def _table(caption: str, head: tuple[str, ...], rows) -> str:
    """Scrolls on its own, by keyboard too."""
    return (f'<div class="table" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
            f"<caption>{escape(caption)}</caption><thead><tr>"
            + "".join(f'<th scope="col">{escape(name)}</th>' for name in head) + "</tr></thead><tbody>"
            + "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
                      for row in rows) + "</tbody></table></div>")


def _measured(sheet: Sheet) -> str:
    """How far those products are off that were run."""
    off = sorted(abs(s.cost.cycles / s.product.count / s.measured - 1)
                 for s in sheet.steps if s.measured is not None)
    if not off:
        return "No product was run on the RTL (<code>--measure</code> does)."
    return (f"{len(off)} of {len(sheet.steps)} were run on the simulated RTL as well: predictions are "
            f"{off[len(off) // 2]:.1%} off in the median, {off[-1]:.1%} at worst.")


def _products(sheet: Sheet) -> str:
    head = ("layer", "kind", "count", "M", "N", "K", "cycles of one", "stalls", "on RTL", "array",
            "bound", "read",
            "written", "MACs per byte")
    return _table(
        "All products of a training step", head,
        ((s.layer, s.kind, f"{s.product.count:,}", f"{s.product.m:,}", f"{s.product.n:,}",
          f"{s.product.k:,}", f"{s.cost.cycles // s.product.count:,}",
          f"{s.cost.stalls // s.product.count:,}",
          "" if s.measured is None else f"{s.measured:,}", f"{s.utilisation:.1%}", f"{s.bound:.1%}",
          _number(s.cost.dram_read, "B"), _number(s.cost.dram_written, "B"), f"{s.intensity:.1f}")
         for s in sheet.steps))


def _energies(sheet: Sheet) -> str:
    by_kind = {kind: sheet.energy(kind) for kind in KINDS.values()}
    return _table("Energy of a step, estimated", ("", *KINDS.values(), "all"), (
        (level, *(_number(by_kind[kind][level], "J") for kind in by_kind),
         _number(sheet.energy()[level], "J")) for level in LEVELS))


def page(sheet: Sheet) -> str:
    """The whole report. Text is the same for equal sheets."""
    title = f"{sheet.workload.title} on {sheet.config.name}"
    core = (f"Array {sheet.config.name} at {_number(sheet.clock, 'Hz')}; memory of "
            f"{sheet.memory.bandwidth:g} bytes per cycle, {sheet.memory.latency} cycles of latency, "
            f"{1 - sheet.memory.effective / sheet.memory.bandwidth:.0%} lost to refresh; energies: "
            f"{sheet.energies.source}.")
    charts = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(title_)}'
        f'</h2><figure role="img" tabindex="0" aria-label="{escape(says)}">{draw(sheet)}</figure>'
        f'<p class="note">{escape(says)}.</p></section>'
        for name, (title_, says, draw) in CHARTS.items())
    links = "".join(f'<a href="#{name}">{escape(t)}</a>' for name, (t, *_) in CHARTS.items())
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>
<h1>{escape(title)}</h1>
<p>{escape(core)}</p>
<p class="note">Modelled: cycles and bytes are those of plans as the driver makes them, predicted and
not run (<code>backbeat validate</code> holds the predictions against the RTL). {_measured(sheet)}
Resources are fitted to syntheses by yosys, not routed. Forward products and input gradients give INT8,
weight gradients INT32. MACs of a strided convolution's input gradient count the zeros that the core
multiplies. Time is the accelerator's alone.</p>
<nav aria-label="Charts">{links}<a href="#products">All products</a></nav>
<section aria-labelledby="metrics"><h2 id="metrics">Metric sheet</h2>{_metrics(sheet)}</section>
{charts}
<section><h2 id="tables">Tables</h2><details open><summary>Energy</summary>{_energies(sheet)}</details>
<details id="products"><summary>All products</summary>{_products(sheet)}</details></section>
</main></body></html>
"""
