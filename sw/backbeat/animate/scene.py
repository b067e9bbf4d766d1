"""The picture: queues, edge, elements, drain and accumulators, and what moves through them."""

import textwrap
from html import escape

from .beat import DRAIN, OPERAND, PRODUCT, SUM, SUMS, Beat
from .captions import captions, number, say_sums, what
from .timeline import Timeline

__all__ = ["Scene"]

#: Seconds of a cycle, and cycles for which the result stays.
SECONDS, REST = 1.25, 4
#: An element, and from one to the next; an operand; from place to place in a queue.
WIDTH, HEIGHT, RIGHT, DOWN = 120, 150, 129, 160
CHIP_W, CHIP_H, QUEUE_A, QUEUE_B = 34, 28, 38, 33
#: Places of a queue that are seen, at most.
QUEUED = 6
#: A register of the drain, and a row pair in the accumulators.
STAGE, STORED = 27, 32
#: In an element: centres of b, of both a, and of products and sums.
B_AT, A_AT, NUMBERS_AT = (79, 24), ((24, 71), (24, 125)), 79

#: Colours of Okabe and Ito, which everybody can tell apart: blue, orange, bluish green.
STYLE = """\
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1d2430}
text{font-variant-numeric:tabular-nums}
.n{font-size:20px;font-weight:600;text-anchor:middle}
.a rect{fill:#0072b2;stroke:#0072b2}.a text{fill:#fff}
.b rect{fill:#e69f00;stroke:#e69f00}.b text{fill:#1d1300}
.c rect{fill:#007d5c;stroke:#007d5c}.c text{fill:#fff}
.a,.b,.c{stroke-width:2}.a text,.b text,.c text{stroke:none}
.a.o rect,.b.o rect,.c.o rect{fill:#fff}
.a.o text{fill:#005a8d}.b.o text{fill:#7a5200}.c.o text{fill:#006047}
.pe{fill:#f4f6f9;stroke:#b9c1cc;stroke-width:1.5}.un{opacity:.45}
.on{fill:#fff;stroke:#56657a;stroke-width:2}
.slot{fill:none;stroke:#b9c1cc;stroke-width:1.2;stroke-dasharray:3 3}
.ram{fill:#eef4f1;stroke:#8fb5a6;stroke-width:1.2}
.done{fill:#007d5c}
.p{font-size:18px;text-anchor:middle;fill:#56606e}
.s{font-size:23px;font-weight:700;text-anchor:middle}
.old{fill:#a3abb6;font-weight:500}.fin{fill:#fff}
.l{font-size:17px;fill:#56606e}.r{text-anchor:end}.mid{text-anchor:middle}
.t{font-size:21px;font-weight:700}.cy{font-size:46px;font-weight:700}
.cap{font-size:21px}
.w .n{font-size:17px}.w.v .n{font-size:15px}
.bar{fill:#dde2e8}.at{fill:#0072b2}"""


class Scene:
    """Draws a beat, once; motion is the style sheet's.

    Parameters
    ----------
    beat : Beat

    Attributes
    ----------
    width, height : float
        Of everything; ``height_bare`` without caption and progress.
    captions : list of str
    time : Timeline
    """

    def __init__(self, beat: Beat):
        self.beat, self.captions = beat, captions(beat)
        config, k = beat.config, beat.k
        self.pairs, self.columns = config.row_pairs, config.columns
        self.time = Timeline(beat.cycles, SECONDS, REST, still=SUM)
        used = min(self.columns, beat.b.shape[1])
        self.queue_a = min(k * len(beat.starts) + self.pairs - 1, QUEUED)
        self.queue_b = min(k * len(beat.starts) + used - 1, QUEUED)
        self.left = max(222, 16 + self.queue_a * QUEUE_A + 58)
        self.top = max(268, 62 + self.queue_b * QUEUE_B + 52)
        self.drain = self.top + self.pairs * DOWN + 10
        self.ram = self.drain + (DRAIN - 1) * STAGE + 16
        self.height_bare = self.ram + len(beat.starts) * self.pairs * STORED + 16
        self.width = max(self.left + self.columns * RIGHT + 8, 640)
        self.parts: list[str] = []

    @property
    def height(self) -> float:
        return self.height_bare + 3 * 27 + 26

    def element(self, pair: int, column: int) -> tuple[float, float]:
        """Its corner."""
        return self.left + column * RIGHT, self.top + pair * DOWN

    def draw(self, captions: bool) -> str:
        """The elements of an SVG image, with or without captions."""
        self.parts = []
        self._fixed()
        self._elements()
        self._operands()
        self._numbers()
        self._drained()
        if captions:
            self._captions()
        return "\n".join(self.parts)

    def add(self, *parts: str):
        self.parts += parts

    def rect(self, centre, size, kind: str, attributes: str = "", radius: float = 6):
        (x, y), (w, h) = centre, size
        self.add(f'<rect x="{x - w / 2:g}" y="{y - h / 2:g}" width="{w:g}" height="{h:g}" '
                 f'rx="{radius:g}" class="{kind}"{attributes}/>')

    def text(self, x: float, y: float, kind: str, text: str, attributes: str = ""):
        """``attributes`` go to a group of its own, as they carry a class."""
        line = f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'
        self.add(f"<g {attributes}>{line}</g>" if attributes else line)

    def chip(self, kind: str, tile: int, text: str, attributes: str, size=(CHIP_W, CHIP_H)):
        w, h = size
        kind += " o" * (tile % 2) + " w" * (len(text) > 9) + " v" * (len(text) > 10)
        self.add(f'<g {attributes}><g class="{kind}"><rect x="{-w / 2:g}" y="{-h / 2:g}" width="{w:g}" '
                 f'height="{h:g}" rx="7"/><text y="6.5" class="n">{text}</text></g></g>')

    # What stands still.

    def _fixed(self):
        self.text(16, 32, "t", what(self.beat).replace("x", "\N{MULTIPLICATION SIGN}"))
        self.text(16, 82, "l", "cycle")
        for cycle in range(self.beat.cycles):
            self.text(70, 82, "cy", str(cycle), self.time.shown(cycle, cycle))
        for line, (kind, sign, text) in enumerate((
                ("a", "a", "row of A, to the right"), ("b", "b", "column of B, down"),
                ("p", "+ab", "product register"), ("s", "Σ", "sum so far"), ("c", "Σ", "complete"))):
            y = 116 + line * 31
            if kind in "abc":
                self.chip(kind, 0, sign, f'transform="translate(34 {y})"')
            else:
                self.text(34, y + 7, kind, sign)
            self.text(62, y + 5, "l", text)
        for column in range(self.columns):
            x, _ = self.element(0, column)
            self.text(x + B_AT[0], 52, "l mid", f"column {column}")
            self.rect((x + B_AT[0], self.top - 30), (CHIP_W + 8, CHIP_H + 6), "slot")
            if not self._used(column=column):
                self.text(x + B_AT[0], self.top - 56, "l mid", "zeros")
            for stage in range(1, DRAIN):
                self.rect((x + WIDTH / 2, self._stage(stage)), (WIDTH - 6, 22), "slot")
            for slot in range(len(self.beat.starts) * self.pairs):
                self.rect((x + WIDTH / 2, self._slot(slot)), (WIDTH, STORED - 3), "ram", radius=3)
        for lane in range(self.beat.config.rows):
            y = self._lane(lane)
            self.rect((self.left - 34, y), (CHIP_W + 8, CHIP_H + 6), "slot")
            self.text(16, y - 20, "l", f"row {lane}")
            if not self._used(lane=lane):
                self.text(self.left - 62, y + 5, "l r", "zeros")
        for first, last, text in ((1, 2, "pick the pair"), (3, 5, "wait for its wrap count"),
                                  (SUMS, SUMS, "two sums apart"), (SUMS + 1, SUMS + 1, "add")):
            y = (self._stage(first) + self._stage(last)) / 2
            self.text(self.left - 14, y + 5, "l r", text)
            self.add(f'<path class="slot" d="M{self.left - 6} {self._stage(first) - 10}v'
                     f'{self._stage(last) - self._stage(first) + 20}"/>')
        for slot in range(len(self.beat.starts) * self.pairs):
            tile, pair = divmod(slot, self.pairs)
            rows = [r for r in (self.beat.row(tile, 2 * pair + odd) for odd in (0, 1)) if r is not None]
            name = " and ".join(map(str, rows))
            if rows:
                column = self.beat.column(tile, 0)
                self.text(self.left - 14, self._slot(slot) + 5, "l r",
                          f"C, row{'s' * (len(rows) > 1)} {name}"
                          + (f", from column {column}" if self.beat.across > 1 else ""))

    def _used(self, lane: int = 0, column: int = 0) -> bool:
        """Whether a value of C is ever made there."""
        beat = self.beat
        return any(beat.row(tile, lane) is not None and beat.column(tile, column) is not None
                   for tile in range(len(beat.starts)))

    def _lane(self, lane: int) -> float:
        return self.top + lane // 2 * DOWN + A_AT[lane % 2][1]

    def _stage(self, stage: int) -> float:
        return self.drain + (stage - 0.5) * STAGE

    def _slot(self, slot: int) -> float:
        return self.ram + (slot + 0.5) * STORED

    # What moves.

    def _elements(self):
        beat = self.beat
        for pair in range(self.pairs):
            for column in range(self.columns):
                x, y = self.element(pair, column)
                used = self._used(2 * pair, column)
                centre = x + WIDTH / 2, y + HEIGHT / 2
                self.rect(centre, (WIDTH, HEIGHT), "pe" + " un" * (not used), radius=10)
                for start in beat.starts if used else ():
                    first = start + OPERAND + pair + column
                    self.add(f"<g {self.time.shown(first, first + beat.k - 1)}>")
                    self.rect(centre, (WIDTH, HEIGHT), "on", radius=10)
                    self.add("</g>")
                self.text(x + 8, y + 18, "l", f"{pair},{column}")
                for at in (B_AT, *A_AT):
                    self.rect((x + at[0], y + at[1]), (CHIP_W, CHIP_H), "slot")

    def _operands(self):
        beat = self.beat
        for tile, start in enumerate(beat.starts):
            for step in range(beat.k):
                for lane in range(beat.config.rows):
                    if beat.row(tile, lane) is not None:
                        at = start + step + lane // 2
                        value = beat.operand_a[at + OPERAND, lane, 0]
                        self.chip("a", tile, number(value), self.time.moving(
                            at - self.queue_a, self._way_of_a(lane)))
                for lane in range(self.columns):
                    if beat.column(tile, lane) is not None:
                        at = start + step + lane
                        value = beat.operand_b[at + OPERAND, 0, lane]
                        self.chip("b", tile, number(value), self.time.moving(
                            at - self.queue_b, self._way_of_b(lane)))

    def _way_of_a(self, lane: int) -> list:
        y, edge = self._lane(lane), self.left - 34
        way = [(edge - 6 - QUEUE_A * (d + 1), y, d < self.queue_a) for d in range(self.queue_a, -1, -1)]
        way.append((edge, y, True))
        way += [(self.left + c * RIGHT + A_AT[0][0], y, True) for c in range(self.columns)]
        return [*way, (way[-1][0] + RIGHT - 36, y, False)]

    def _way_of_b(self, lane: int) -> list:
        x, edge = self.element(0, lane)[0] + B_AT[0], self.top - 30
        way = [(x, edge - 4 - QUEUE_B * (d + 1), d < self.queue_b) for d in range(self.queue_b, -1, -1)]
        way.append((x, edge, True))
        way += [(x, self.top + p * DOWN + B_AT[1], True) for p in range(self.pairs)]
        return [*way, (x, way[-1][1] + DOWN - 40, False)]

    def _numbers(self):
        """Products and sums of the elements that make a value of C."""
        beat = self.beat
        for tile, start in enumerate(beat.starts):
            for lane in range(beat.config.rows):
                for column in range(self.columns):
                    if beat.row(tile, lane) is None or beat.column(tile, column) is None:
                        continue
                    first = start + lane // 2 + column
                    x, y = self.element(lane // 2, column)
                    x, y = x + NUMBERS_AT, y + A_AT[lane % 2][1]
                    for step in range(beat.k):
                        at = first + step + PRODUCT
                        if at < beat.cycles:
                            value = int(beat.product[at, lane, column])
                            self.text(x, y - 12, "p", ("+" if value >= 0 else "") + number(value),
                                      self.time.shown(at, at))
                    self._sums(tile, lane, column, first + SUM, x, y)

    def _sums(self, tile: int, lane: int, column: int, first: int, x: float, y: float):
        beat = self.beat
        final = first + beat.k - 1
        until = beat.cycles - 1
        if tile + 1 < len(beat.starts):     # the next tile's first product replaces it
            until = beat.starts[tile + 1] + lane // 2 + column + SUM - 1
        at = first
        while at < min(final, beat.cycles):
            last = at
            while last + 1 < final and beat.sum[last + 1, lane, column] == beat.sum[at, lane, column]:
                last += 1
            self.text(x, y + 18, "s", number(beat.sum[at, lane, column]), self.time.shown(at, last))
            at = last + 1
        shown = self.time.shown(final, final)
        self.add(f"<g {shown}>")
        self.rect((x, y + 9), (72, 27), "done")
        self.text(x, y + 18, "s fin", number(beat.sum[final, lane, column]))
        self.add("</g>")
        if until > final:
            self.text(x, y + 18, "s old", number(beat.sum[final + 1, lane, column]),
                      self.time.shown(final + 1, until))

    def _drained(self):
        for d in self.beat.drains:
            x, y = self.element(d.pair, d.column)
            x += WIDTH / 2
            way = [(x, y + HEIGHT / 2, False)]
            way += [(x, self._stage(stage), True) for stage in range(1, DRAIN)]
            way.append((x, self._slot(d.tile * self.pairs + d.pair), True))
            self.chip("c", d.tile, say_sums(d, self.beat), self.time.moving(d.picked, way),
                      (WIDTH - 8, 24))

    def _captions(self):
        """And how far it is: what an image has that cannot be asked."""
        most = int(self.width / 11.2)     # of a wide font
        for cycle, caption in enumerate(self.captions):
            self.add(f"<g {self.time.shown(cycle, cycle)}>")
            for line, text in enumerate(textwrap.wrap(caption, most)[:3]):
                self.text(16, self.height_bare + 22 + line * 27, "cap", text)
            self.add("</g>")
        y, step = self.height - 14, (self.width - 32) / self.beat.cycles
        for cycle in range(self.beat.cycles):
            box = f'x="{16 + cycle * step:.1f}" y="{y:g}" width="{step - 3:.1f}" height="5" rx="2.5"'
            self.add(f'<rect {box} class="bar"/>',
                     f'<g {self.time.shown(cycle, self.beat.cycles)}><rect {box} class="at"/></g>')
