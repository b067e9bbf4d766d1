"""The picture of the beat: it shows what the RTL's registers held, and that is the array's rhythm."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from backbeat import animate
from backbeat.animate import TraceError, beat, scene, waveform
from backbeat.animate.captions import captions
from backbeat.animate.scene import Scene
from backbeat_rtl import array
from backbeat_rtl.config import Config

#: M, K, N: one tile and parts of one; two and four tiles back to back; short ones; as large as it gets.
SHAPES = [(3, 3, 2), (4, 4, 4), (1, 1, 1), (4, 5, 8), (7, 5, 6), (5, 1, 3), (4, 12, 16)]
#: Of the picture in docs/architecture.md.
EXAMPLE = 3, 3, 2


@pytest.fixture(scope="module")
def beats():
    """Each shape's, recorded once."""
    recorded = {}

    def get(*shape):
        if shape not in recorded:
            recorded[shape] = animate.watch(*shape, seed=1)
        return recorded[shape]
    return get


@pytest.mark.parametrize("shape", SHAPES)
def test_result_is_the_product(beats, shape):
    seen = beats(*shape)
    np.testing.assert_array_equal(seen.c, seen.a.astype(int) @ seen.b)
    assert seen.c.shape == (shape[0], shape[2]) and np.abs(seen.a).max() <= 9


@pytest.mark.parametrize("shape", SHAPES)
def test_operands_are_skewed_as_the_array_says(beats, shape):
    """Row pair p is p cycles late, column c c cycles: a step meets in PE(p, c) p + c after PE(0, 0)."""
    seen = beats(*shape)
    for tile, start in enumerate(seen.starts):
        for lane in range(4):
            row, column = seen.row(tile, lane), seen.column(tile, lane)
            for step in range(seen.k):
                for other in range(4):
                    if row is not None:
                        cycle = start + 2 + step + lane // 2 + other
                        assert seen.operand_a[cycle, lane, other] == seen.a[row, step], (tile, lane)
                    if column is not None and other < 2:
                        cycle = start + 2 + step + lane + other
                        assert seen.operand_b[cycle, other, lane] == seen.b[step, column], (tile, lane)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_grow_by_the_product_of_the_cycle_before(beats, shape):
    """Operands, their product a cycle later, its sum another one later, until the last step."""
    seen = beats(*shape)
    for drain in seen.drains:
        start = seen.starts[drain.tile] + drain.pair + drain.column
        for odd, lane in enumerate((2 * drain.pair, 2 * drain.pair + 1)):
            row, column = seen.row(drain.tile, lane), seen.column(drain.tile, drain.column)
            if row is None:
                continue
            products = seen.a[row].astype(int) * seen.b[:, column]
            cycles = start + np.arange(seen.k)
            np.testing.assert_array_equal(seen.product[cycles + 3, lane, drain.column], products)
            np.testing.assert_array_equal(seen.sum[cycles + 4, lane, drain.column], products.cumsum())
            assert drain.sums[odd] == seen.c[row, column] == products.sum()


def test_sums_leave_on_a_diagonal(beats):
    """PE(p, c) is picked p + c cycles after PE(0, 0), in the cycle in which its last product arrives."""
    seen = beats(4, 5, 8)
    for drain in seen.drains:
        last = seen.starts[drain.tile] + seen.k - 1
        assert drain.picked == last + array.LATENCY - beat.SUMS + drain.pair + drain.column
        assert drain.stored == drain.picked + beat.DRAIN
    assert len(seen.drains) == 2 * 2 * 4
    assert seen.cycles == 1 + max(drain.stored for drain in seen.drains)


def test_tiles_follow_back_to_back(beats):
    assert beats(4, 5, 8).starts == [0, 5]
    assert beats(7, 5, 6).starts == [0, 5, 10, 15]
    assert beats(4, 12, 16).starts == [0, 12, 24, 36]
    text = captions(beats(4, 5, 8))
    assert len(text) == beats(4, 5, 8).cycles
    assert "Tile 2 of 2 begins at the edge, right behind the one before." in text[5]


@pytest.mark.parametrize(("shape", "config", "message"), [
    ((0, 3, 2), "4x4", "M must be at least 1, got 0"),
    ((3, 13, 2), "4x4", "K must be at most 12 to be looked at, got 13"),
    ((17, 3, 2), "4x4", "M must be at most 16 to be looked at, 4 tiles of 4, got 17"),
    ((3, 3, 33), "8x8", "N must be at most 32 to be looked at, 4 tiles of 8, got 33"),
    ((9, 3, 8), "4x4", "M and N must make at most 4 tiles of 4x4 to be looked at, got 3 x 2 with M=9"),
    ((3, 3, 2), "16x16", "config must be at most 8x8 to be looked at, got 16x16"),
    ((3, 3, 2), "5x5", "config must be one of 4x4, 8x8, 16x16, 32x14, got '5x5'"),
])
def test_too_large_is_refused(shape, config, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        animate.watch(*shape, config)


@pytest.fixture(scope="module")
def vcd(tmp_path_factory):
    """The example's waveform, and the configuration of its core."""
    path = tmp_path_factory.mktemp("vcd") / "kept" / "beat.vcd"
    return path, animate.watch(*EXAMPLE, vcd=path).config


@pytest.mark.parametrize(("signal", "where", "file"), [
    ("o_p", "pe_0_0", "pe.py"), ("low_0", "array", "array.py"),
    ("update_3", "accumulators", "accumulators.py")])
def test_missing_signal_is_named(vcd, tmp_path, signal, where, file):
    path, config = vcd
    renamed = tmp_path / "renamed.vcd"
    renamed.write_text(re.sub(rf" {signal} ", f" {signal}_x ", path.read_text()))
    with pytest.raises(TraceError, match=rf"no {signal} in .*{where}: it is written in rtl/backbeat_rtl/"
                                         rf"{file}; .* SIGNALS of sw/backbeat/animate/waveform.py"):
        waveform.read_registers(renamed, config)


def test_register_without_a_name_is_missed_too(vcd, tmp_path):
    path, config = vcd
    renamed = tmp_path / "renamed.vcd"
    renamed.write_text(path.read_text().replace("$signal$8", "multiplied"))
    with pytest.raises(TraceError, match=r"no single nameless register of 33 bits \(product\)"):
        waveform.read_registers(renamed, config)


def test_signals_are_where_the_table_says():
    """The files that its messages send the reader to."""
    for source in waveform.SIGNALS.values():
        text = (Path(array.__file__).parent / source.file).read_text()
        stem = source.name.removesuffix("_{c}").removesuffix("_{u}")
        assert stem in text, source


def test_other_skew_is_noticed(vcd):
    """Labels are never those of another step: here an operand register is a cycle late."""
    path, config = vcd
    a, b = beat.operands(*EXAMPLE, 0)
    registers = waveform.read_registers(path, config)
    assert (beat.follow(registers, a, b, config).c == a.astype(int) @ b).all()
    late = registers.a.copy()
    late[1:, :, 1] = registers.a[:-1, :, 1]
    with pytest.raises(TraceError, match="cycle 3: operand a of row 0 in column 1 is 0, expected -2"):
        beat.follow(registers._replace(a=late), a, b, config)
    stray = registers.edge_b + (np.arange(4) == 3)
    with pytest.raises(TraceError, match="cycle 0: the edge of column 3 is 1, expected 0"):
        beat.follow(registers._replace(edge_b=stray), a, b, config)


def test_what_is_picked_and_stored_is_noticed(vcd):
    """One register of the way out holds something else, in the cycle in which it counts."""
    path, config = vcd
    a, b = beat.operands(*EXAMPLE, 0)
    registers = waveform.read_registers(path, config)
    for name, message in (
            ("low", "the drain does not pick P of"), ("new", "writes .* to its accumulators"),
            ("address", "does not write the sums of"), ("last", r"told of \d+ tiles, expected 1")):
        with pytest.raises(TraceError, match=message):
            beat.follow(registers._replace(**{name: getattr(registers, name) + 1}), a, b, config)


class Reader(HTMLParser):
    """Every tag is closed, and closes the one that is open."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.outside = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.outside += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "input", "rect", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another one"


def test_page_is_whole(beats):
    seen = beats(4, 5, 8)
    text = animate.FORMATS[".html"](seen)
    reader = Reader()
    reader.feed(text)
    assert not reader.open and not reader.outside and "@import" not in text
    assert not re.search(r"<!--\w+-->|@\w+@", text), "something was not filled in"
    assert re.findall(r"https?://[^\s\"']+", text) == ["http://www.w3.org/2000/svg"], "all is in it"
    ids = {attributes.get("id") for _, attributes in reader.tags}
    assert {"play", "back", "next", "cycle", "speed", "caption"} <= ids
    assert all("aria-label" in attributes or "title" in attributes
               for tag, attributes in reader.tags if tag in ("button", "input", "select"))
    assert "prefers-reduced-motion" in text and f'max="{seen.cycles - 1}"' in text
    ElementTree.fromstring(text[text.index("<svg"):text.index("</svg>") + 6])


@pytest.mark.parametrize("shape", [EXAMPLE, (7, 5, 6)])
def test_image_is_whole_and_says_what_was_recorded(beats, shape):
    seen = beats(*shape)
    text = animate.FORMATS[".svg"](seen)
    root = ElementTree.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    assert root.get("viewBox") and root.find(f"{name}title").text and root.find(f"{name}desc").text
    assert "prefers-reduced-motion" in text and "<script" not in text and "href" not in text
    shown = [element.text for element in root.iter(f"{name}text")]
    for value in (*seen.a.flat, *seen.b.flat):
        assert str(value).replace("-", "\N{MINUS SIGN}") in shown
    final = " ".join(shown).replace("\N{MINUS SIGN}", "-").split()
    assert all(str(value) in final for value in seen.c.flat)
    for caption in captions(seen):
        assert caption.split()[0] in " ".join(shown)


def seen_at(text: str, time, cycle: int) -> dict:
    """What the image shows near the end of a cycle: (class, x, y) of each text that is seen, and it."""
    percent = 100 * (cycle + 0.9) / (time.cycles + time.rest)
    rules = {}
    for name, frames in re.findall(r"@keyframes (\w+)\{((?:[^{}]+\{[^{}]*\})+)\}", text):
        states = sorted((100.0 if at == "to" else float(at.rstrip("%")), body)
                        for ats, body in re.findall(r"([^{}]+)\{([^{}]*)\}", frames)
                        for at in ats.split(","))
        before = [body for at, body in states if at <= percent][-1]
        after = [body for at, body in states if at >= percent][0]
        assert before == after, f"{name} is not still at the end of cycle {cycle}"
        rules[name] = before
    found = {}

    def walk(element, x: float, y: float):
        if still := re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
            x, y = float(still[1]), float(still[2])
        for name in element.get("class", "").split():
            if name in rules:
                if "opacity:0" in rules[name]:
                    return
                if place := re.search(r"translate\((.*)px,(.*)px\)", rules[name]):
                    x, y = float(place[1]), float(place[2])
        if element.tag.endswith("}text"):
            key = element.get("class"), x + float(element.get("x", 0)), y + float(element.get("y"))
            assert key not in found, f"{element.text} lies upon {found[key]} in cycle {cycle}"
            found[key] = element.text
        for child in element:
            walk(child, x, y)

    walk(ElementTree.fromstring(text), 0, 0)
    return found


@pytest.mark.parametrize("shape", [EXAMPLE, (4, 5, 8)])
def test_image_shows_each_register_in_its_cycle(beats, shape):
    beat_, drawn = beats(*shape), Scene(beats(*shape))
    text = animate.FORMATS[".svg"](beat_)
    for cycle in range(beat_.cycles):
        found = seen_at(text, drawn.time, cycle)
        expected = {}
        for tile, start in enumerate(beat_.starts):
            for lane, column in np.ndindex(4, 4):
                x, y = drawn.element(lane // 2, column)
                a_at, step = scene.A_AT[lane % 2], cycle - start - lane // 2 - column
                row, col = beat_.row(tile, lane), beat_.column(tile, column)
                if row is not None and 0 <= step - beat.OPERAND < beat_.k:
                    expected["n", x + a_at[0], y + a_at[1] + 6.5] = beat_.operand_a[cycle, lane, column]
                if col is not None and lane % 2 and 0 <= step - beat.OPERAND < beat_.k:
                    expected["n", x + scene.B_AT[0], y + scene.B_AT[1] + 6.5] = beat_.operand_b[
                        cycle, lane // 2, column]
                if row is None or col is None:
                    continue
                if 0 <= step - beat.SUM < beat_.k:
                    kind = "s fin" if step - beat.SUM == beat_.k - 1 else "s"
                    expected[kind, x + scene.NUMBERS_AT, y + a_at[1] + 18] = beat_.sum[
                        cycle, lane, column]
                if 0 <= step - beat.PRODUCT < beat_.k:
                    expected["p", x + scene.NUMBERS_AT, y + a_at[1] - 12] = beat_.product[
                        cycle, lane, column]
        inside = {key: int(value.replace("\N{MINUS SIGN}", "-")) for key, value in found.items()
                  if key[0] in ("n", "s", "s fin", "p") and key[1] > drawn.left
                  and drawn.top < key[2] < drawn.drain}
        assert inside == expected, f"cycle {cycle}"
    stored = {key: value for key, value in found.items() if key[2] > drawn.ram and key[0] == "n"}
    values = [int(value.replace("\N{MINUS SIGN}", "-")) for pair in stored.values()
              for value in pair.split(" · ")]
    assert sorted(values) == sorted(beat_.c.flat), "at the end, C is in the accumulators"


def test_image_of_the_docs_is_this_one():
    """docs/beat.svg: `backbeat animate 3 3 2 --out docs/beat.svg`."""
    kept = Path(__file__).parents[2] / "docs/beat.svg"
    assert animate.FORMATS[".svg"](animate.watch(*EXAMPLE)) == kept.read_text()
    assert kept.stat().st_size < 150_000


@pytest.mark.parametrize("suffix", ["html", "svg"])
def test_command_writes_and_says_so(run, tmp_path, suffix):
    out = tmp_path / f"new/beat.{suffix}"
    code, text, _ = run("animate", *EXAMPLE, "--out", out, "--seed", 7)
    assert code == 0 and "seed 7" in text
    assert text.splitlines()[-1] == f"3x3 by 3x2 on 4x4: 17 cycles, C = A B exact -> {out}"
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_command_fails_on_a_wrong_value(run, monkeypatch, tmp_path, beats):
    seen = beats(*EXAMPLE)
    wrong = beat.Beat(**{**vars(seen), "c": seen.c + np.array([[0, 0], [0, 1], [0, 0]])})
    monkeypatch.setattr(animate, "watch", lambda *arguments: wrong)
    code, text, _ = run("animate", *EXAMPLE, "--out", tmp_path / "beat.svg")
    assert code == 1 and "accumulators: not A B." in (tmp_path / "beat.svg").read_text()
    assert (f"1 of 6 values of C are wrong, the first C[1, 1] = {wrong.c[1, 1]}, "
            f"expected {seen.c[1, 1]}") in text


def test_command_refuses_another_suffix(run, tmp_path):
    code, _, err = run("animate", *EXAMPLE, "--out", tmp_path / "beat.gif")
    assert code == 1 and "out must end in .html or .svg, got" in err and not list(tmp_path.iterdir())


def test_untraced_library_is_another_one(monkeypatch, tmp_path):
    """Nothing else pays for the waveform: the flags are part of what a library is known by."""
    from backbeat.backends import build

    asked = []
    monkeypatch.setattr(build, "cached_library", lambda name, designs, main, depends, flags:
                        asked.append((name, designs[0].flags, flags)))
    for traced in (False, True):
        build.simulator_library(Config.of("4x4"), traced)
    assert asked == [("4x4", (), ["-DBB_MEMORY"]),
                     ("4x4-traced", ("--trace",), ["-DBB_MEMORY", *build.CXX_TRACE])]
