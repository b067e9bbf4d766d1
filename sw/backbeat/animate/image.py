"""The picture as a file: an image that loops, or a page that can be stepped through."""

import json
from html import escape
from pathlib import Path

from .beat import Beat
from .captions import what
from .scene import SECONDS, STYLE, Scene

__all__ = ["FORMATS", "image", "page"]

PAGE = Path(__file__).with_name("page.html")
#: Of an image: whoever wants no motion gets one cycle of it.
_STILL = "@media(prefers-reduced-motion:reduce){.m{animation:none}}"


def title(beat: Beat) -> str:
    return f"The beat of the array: {what(beat)}"


def _description(beat: Beat) -> str:
    return ("Operands of A move right and operands of B down through a grid of processing elements, one "
            f"element a cycle, for {beat.cycles} cycles; each element adds up one pair of rows by one "
            "column, and complete sums leave downwards into the accumulators. Recorded from the RTL.")


def _svg(scene: Scene, alone: bool) -> str:
    beat, height = scene.beat, scene.height if alone else scene.height_bare
    body, style = scene.draw(captions=alone), _STILL if alone else ""
    return ('<svg xmlns="http://www.w3.org/2000/svg" role="img" '
            f'viewBox="0 0 {scene.width:g} {height:g}" aria-labelledby="title desc">\n'
            f'<title id="title">{escape(title(beat))}</title>\n'
            f'<desc id="desc">{escape(_description(beat))}</desc>\n'
            f"<style>\n{STYLE}\n{scene.time.style()}\n{style}</style>\n"
            f'<rect width="100%" height="100%" rx="12" fill="#fff"/>\n{body}\n</svg>\n')


def image(beat: Beat) -> str:
    """An SVG image: it loops, by CSS alone. The same text for the same beat."""
    scene = Scene(beat)
    return _svg(scene, alone=True)


def page(beat: Beat) -> str:
    """An HTML page around the image: play, pause, step, a slider, the keyboard. Needs nothing else."""
    scene = Scene(beat)
    svg = _svg(scene, alone=False)
    script = {"captions": scene.captions, "seconds": SECONDS, "cycles": beat.cycles}
    out = PAGE.read_text()
    for name, text in {
            "title": escape(title(beat)), "svg": svg, "width": f"{scene.width:g}",
            "ratio": f"{scene.width / scene.height_bare:.3f}",
            "last": str(beat.cycles - 1), "caption": escape(scene.captions[0]),
            "matrices": _matrices(beat), "description": escape(_description(beat)),
            "data": json.dumps(script).replace("<", "\\u003c")}.items():
        out = out.replace(f"<!--{name}-->", text).replace(f"@{name}@", text)
    return out


def _matrices(beat: Beat) -> str:
    tables = []
    for name, matrix in (("A", beat.a), ("B", beat.b), ("C", beat.c)):
        rows = "".join("<tr>" + "".join(f"<td>{value}</td>" for value in row) + "</tr>"
                       for row in matrix.tolist())
        tables.append(f'<table class="{name.lower()}"><caption>{name}</caption>{rows}</table>')
    return f"{tables[0]}<span>&middot;</span>{tables[1]}<span>=</span>{tables[2]}"


#: By the file's suffix.
FORMATS = {".html": page, ".svg": image}
