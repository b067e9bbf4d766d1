"""The figures as Markdown, and as one page of HTML."""

from html import escape
from itertools import product

from .bins import AXES, bins
from .merge import Figures

__all__ = ["html", "markdown"]

KINDS = ("lines", "branches", "bits")

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .15em .6em; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr:nth-child(even) { background: #f5f5f5; }
code { font: 12px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
.bar { display: inline-block; width: 9em; height: .8em; background: #e3b6b0; }
.bar i { display: block; height: 100%; background: #4a8f6a; }
.heat td { padding: 0; width: 1.5em; font-size: 10px; text-align: center; border: 1px solid white; }
.heat td.name { padding: 0 .5em; font-size: 13px; text-align: left; white-space: nowrap; }
.heat th { font-size: 11px; padding: 0 .2em; text-align: center; }
"""


def _row(name: str, values: dict) -> list[str]:
    cells = [name]
    for kind in KINDS:
        reached, most = values[kind]
        cells += [f"{reached:,} / {most:,}", f"{100 * reached / most:.1f} %"] if most else ["", ""]
    return cells


def _rows(found: Figures) -> list[list[str]]:
    total = {kind: found.total(kind) for kind in KINDS}
    return [*(_row(name, values) for name, values in found.blocks.items()), _row("in all", total)]


def _sentence(found: Figures) -> str:
    reached = sum(found.bins[kind] > 0 for kind in bins())
    return (f"{reached:,} of {len(bins()):,} kinds of products, {sum(found.bins.values()):,} products; "
            f"{sum(found.excluded.values())} points excluded.")


def markdown(found: Figures) -> str:
    """The table per block and the totals."""
    head = ["block", "lines", "", "branches", "", "bits", ""]
    lines = ["# Coverage", "", "| " + " | ".join(head) + " |", "|---" + "|---:" * 6 + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(found)]
    lines += ["", _sentence(found)]
    if found.excluded:
        lines += ["", "Excluded:", ""]
        lines += [f"- {block}: {reason} ({count})" for (block, reason), count in found.excluded.items()]
    if found.missed:
        lines += ["", "Lines not reached:", ""]
        lines += [f"- {place.block}: `{place.text}` ({place.where})" for place in found.missed]
    return "\n".join(lines) + "\n"


def _bar(reached: int, most: int) -> str:
    if not most:
        return "<td></td>"
    percent = f"{100 * reached / most:.1f}"
    return (f'<td title="{reached} of {most}"><span class="bar"><i style="width:{percent}%"></i></span> '
            f"{percent} %</td>")


def _heat(found: Figures) -> str:
    """Orientation, stall and raggedness across, size and epilogue down; the shade is how many."""
    across = list(product(AXES["orientation"], AXES["stall"], AXES["ragged"]))
    ragged = len(AXES["ragged"])
    head = "".join(f'<th colspan="{ragged}">{orientation} {"stalled" if stall == "stalled" else ""}</th>'
                   for orientation, stall in product(AXES["orientation"], AXES["stall"]))
    second = "".join(f"<th>{'·' if name == 'none' else name}</th>" for _, _, name in across)
    rows = []
    for size, epilogue in product(AXES["size"], AXES["epilogue"]):
        cells = []
        for orientation, stall, name in across:
            count = found.bins[orientation, name, epilogue, stall, size]
            colour = f"hsl(150 35% {max(40, 90 - 6 * count.bit_length())}%)" if count else "#d05040"
            cells.append(f'<td style="background:{colour}" title="{orientation} {stall} {name}: '
                         f'{count}">{min(count, 999) or ""}</td>')
        rows.append(f'<tr><td class="name">{size}, {epilogue}</td>{"".join(cells)}</tr>')
    return (f'<table class="heat"><tr><th></th>{head}</tr><tr><th></th>{second}</tr>'
            f'{"".join(rows)}</table>')


def html(found: Figures) -> str:
    """One file, without anything from elsewhere."""
    total = {kind: found.total(kind) for kind in KINDS}
    rows = "".join(f"<tr><td>{escape(name)}</td>{''.join(_bar(*values[kind]) for kind in KINDS)}</tr>"
                   for name, values in [*found.blocks.items(), ("in all", total)])
    missed = "".join(f"<tr><td>{escape(place.block)}</td><td><code>{escape(place.text)}</code></td>"
                     f"<td><code>{escape(place.where)}</code></td></tr>" for place in found.missed)
    left = "".join(f"<li>{escape(block)}: {escape(reason)} ({count})</li>"
                   for (block, reason), count in found.excluded.items())
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Coverage</title>'
            f"<style>{_STYLE}</style><h1>Coverage</h1><p>{_sentence(found)}</p>"
            f"<table><tr><th>block</th><th>lines</th><th>branches</th><th>bits</th></tr>{rows}</table>"
            f"<h2>Lines not reached</h2><table>{missed or '<tr><td>none</td></tr>'}</table>"
            f"<h2>Excluded</h2><ul>{left or '<li>nothing</li>'}</ul>"
            f"<h2>Kinds of products</h2><p>Letters: of M, N and K those that are no whole number of "
            f"tiles or words. Numbers: products.</p>{_heat(found)}</html>\n")
