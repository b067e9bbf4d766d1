"""Reports: their figures against sums made here, and the page in a browser."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from backbeat.cli import app
from backbeat.cost import Cost, cost
from backbeat.energy import LEVELS, Energies
from backbeat.hardware import Estimator
from backbeat.memory import Memory
from backbeat.report import measured, page, read_accuracy, sheet
from backbeat.report.charts import CHARTS
from backbeat.report.scaling import ACCELERATORS, SIDES
from backbeat.report.sheet import KINDS
from backbeat.workloads import FORWARD, Embedding, Linear, Other, Workload, load
from backbeat_rtl.config import Config

MEMORY, CONFIG = Memory(), Config.of("8x8")
SMALL = Workload("small", (
    Linear("one", 16, 24, 40, input_gradient=False), Other("norm", "normalisation", 640, 640, 80),
    Linear("two", 16, 40, 8, repeat=3)), 16)


@pytest.fixture(scope="module")
def made():
    return sheet(load("digits-cnn", 8), CONFIG, MEMORY, 50e6, single=load("digits-cnn", 1))


def test_steps_are_all_products_and_add_up(made):
    products = made.workload.products()
    assert [s.product for s in made.steps] == [*products]
    total = sum((cost(p, CONFIG, MEMORY).times(p.count) for p in products), Cost())
    assert made.total() == total and sum((made.total(k) for k in KINDS.values()), Cost()) == total
    for s in made.steps:
        assert 0 < s.utilisation <= s.bound + 0.02 and s.bound <= 1
        assert s.cost.stalls == s.cost.cycles - s.cost.array_cycles > 0


def test_repeats_count_as_often_as_they_are():
    alone = sheet(replace(SMALL, layers=(*SMALL.layers[:2], replace(SMALL.layers[2], repeat=1))), CONFIG)
    once, three = alone.total(), sheet(SMALL, CONFIG).total()
    rest = alone.steps[0].cost + alone.steps[1].cost
    assert three.cycles - rest.cycles == 3 * (once.cycles - rest.cycles) > 0


def test_metrics_follow_from_the_steps(made):
    m, total = made.metrics, made.total()
    assert m["step_s"] == total.cycles / 50e6 and m["samples_per_s"] == pytest.approx(8 / m["step_s"])
    assert m["utilisation"] == pytest.approx(total.macs / 64 / total.cycles)
    assert m["macs_forward_per_sample"] == load("digits-cnn", 1).macs
    single = load("digits-cnn", 1).products(training=False)
    assert m["latency_batch_1_s"] == pytest.approx(
        sum(cost(p, CONFIG, MEMORY).cycles * p.count for p in single) / 50e6)
    assert m["power_w"] == pytest.approx(m["energy_per_sample_j"] * m["samples_per_s"])
    assert m["energy_step_j"] == pytest.approx(sum(
        made.energy(kind)[level] for kind in KINDS.values() for level in LEVELS))
    assert m["dram_bytes_step"] == total.dram_read + total.dram_written
    assert m["feature_map_bytes"] == sum(x.output_elements * x.repeat for x in made.workload.layers)


def test_reuse_distance_is_what_lies_between():
    found = {f.layer: f for f in sheet(SMALL, CONFIG).feature_maps}
    one, _, two = SMALL.layers
    backward = {x.name: sum(p.total_macs for p in x.products() if p.kind != FORWARD) for x in (one, two)}
    assert found["two"].distance == backward["two"]
    assert found["norm"].distance == two.total_macs + backward["two"] == 3 * two.macs * 3
    assert found["one"].distance == found["norm"].distance + backward["one"]
    assert found["two"].elements == 3 * 16 * 8


def test_products_that_are_run_are_marked(made):
    largest = sorted(s.product.macs for s in made.steps)[3]
    found = measured(made, largest)
    for before, after in zip(made.steps, found.steps, strict=True):
        assert replace(after, measured=None) == before
        assert (after.measured is not None) == (after.product.macs <= largest)
        if after.measured:
            assert abs(after.cost.cycles / after.product.count / after.measured - 1) < 0.2
    assert "No product was run on the RTL" in page(made)
    text, ran = page(found), [s for s in found.steps if s.measured]
    assert len(ran) >= 4
    assert f"{len(ran)} of {len(found.steps)} were run on the simulated RTL" in text
    assert all(f"<td>{s.measured:,}</td>" in text for s in ran)
    rows = found.as_dict()["products"]
    assert [row["measured_cycles"] for row in rows] == [s.measured for s in found.steps]


def test_resources_are_the_estimators(made):
    assert made.metrics["dsp"] == Estimator().resources(CONFIG).dsp
    assert made.metrics["gmacs_per_s_per_dsp"] * made.resources.dsp == pytest.approx(
        made.metrics["gmacs_per_s"])


def test_flexibility_is_what_the_macs_get(made):
    m, total = made.metrics, made.total().macs
    for name, share in (("half_the", 0.5), ("95_percent_of_the", 0.95)):
        floor = m[f"utilisation_of_{name}_macs"]
        above = [s.cost.macs for s in made.steps if s.utilisation >= floor]
        better = [s.cost.macs for s in made.steps if s.utilisation > floor]
        assert sum(above) >= share * total > sum(better)
    assert m["utilisation_least"] == min(s.utilisation for s in made.steps)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run."""
    folder = tmp_path_factory.mktemp("runs") / "cnn"
    result = CliRunner().invoke(app, ["train", "--task", "digits-cnn", "--backend", "model", "--config",
                                      "8x8", "--epochs", "1", "--seed", "3", "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def test_accuracy_is_that_of_the_run(trained, tmp_path):
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    found = read_accuracy(trained, "digits-cnn")
    assert (found.value, found.weights) == (last["test_accuracy"], last["weights"])
    result = CliRunner().invoke(app, ["report", "--workload", "digits-cnn", "--config", "8x8", "--run",
                                      str(trained), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "report.json").read_text())["accuracy"] == vars(found)
    assert (f"<dd>{last['test_accuracy']:.2%} (digits-cnn, int8 on model 8x8, 1 epoch, seed 3)</dd>"
            in (tmp_path / "index.html").read_text())


def test_accuracy_of_another_network_is_refused(trained):
    with pytest.raises(ValueError, match="cnn has trained digits-cnn, this report is of resnet50"):
        read_accuracy(trained, "resnet50")


@pytest.mark.parametrize(("text", "match"), [("", "no complete epoch"), ('{"a": 1}\n{', "line 2")])
def test_broken_metrics_are_named(trained, tmp_path, text, match):
    folder = shutil.copytree(trained, tmp_path / "broken")
    (folder / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=f"metrics.jsonl .*{match}"):
        read_accuracy(folder, "digits-cnn")


def test_energies_given_are_used():
    free = replace(Energies(), dram32=0, sram32=0, register_byte=0, add32=0)
    found = sheet(SMALL, CONFIG, energies=free)
    assert found.metrics["energy_step_j"] == pytest.approx(found.total().macs * 0.2e-12)


def test_ring_all_reduce_by_hand():
    found = {a["accelerators"]: a for a in sheet(SMALL, CONFIG, clock=1e6, link=1000).accelerators}
    assert [*found] == [*ACCELERATORS] and found[1]["efficiency"] == 1 and found[1]["reduce_s"] == 0
    assert found[2]["reduce_s"] == pytest.approx(4 * SMALL.weights / 1000)
    assert found[1024]["reduce_s"] == pytest.approx(2 * 1023 / 1024 * 4 * SMALL.weights / 1000)
    assert found[2]["step_s"] - found[2]["reduce_s"] == pytest.approx(found[1]["step_s"])


def test_larger_arrays_take_fewer_cycles_of_large_products():
    layer = Linear("large", 256, 1024, 1024, repeat=2)
    found = sheet(Workload("large", (layer,), 256), CONFIG).arrays
    assert [(a["rows"], a["columns"]) for a in found] == [(side, side) for side in SIDES]
    cycles = [a["cycles"] for a in found]
    assert cycles == sorted(cycles, reverse=True) and cycles[0] > 12 * cycles[2]
    macs = 2 * 3 * layer.macs
    assert all(a["utilisation"] == macs / a["cycles"] / a["rows"]**2 <= 1 for a in found)


@pytest.mark.parametrize(("options", "match"), [({"clock": 0}, "clock must be positive, got 0"),
                                                ({"link": -1.0}, "link must be positive, got -1")])
def test_bad_settings_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        sheet(SMALL, CONFIG, **options)


def test_workload_without_products_is_named():
    with pytest.raises(ValueError, match="nothing has no products"):
        sheet(Workload("nothing", (Embedding("e", 3, 4, 5),)), CONFIG)


class Checker(HTMLParser):
    """What is on the page; whatever comes from elsewhere is an error."""

    VOID = {"meta", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.svgs = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.svgs += tag == "svg"
        self.ids += [attrs["id"]] if "id" in attrs else []
        for name in ("src", "href", "xlink:href"):
            if name in attrs:
                assert re.match("#|data:", attrs[name]), f"{tag} wants {attrs[name]}"
                self.links += [attrs[name][1:]] if attrs[name].startswith("#") else []
        assert tag != "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"{tag} closes {self.open[-1:]}"
        self.open.pop()


def test_page_is_whole_and_needs_nothing_else(made):
    text, checker = page(made), Checker()
    checker.feed(text)
    assert not checker.open and checker.svgs == len(CHARTS)
    assert len(checker.ids) == len({*checker.ids}), "ids of two charts collide"
    assert {*checker.links} <= {*checker.ids}
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
    for s in made.steps:
        assert f"<td>{s.layer}</td><td>{s.kind}</td>" in text
    assert page(made) == text, "the same bytes for the same sheet"


def test_command_writes_page_json_and_action_counts(tmp_path):
    done = CliRunner().invoke(app, ["report", "--workload", "digits-mlp", "--batch", "4",
                                    "--config", "8x8", "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    assert "digits-mlp of backbeat train, batch 4 on 8x8:" in done.stdout
    figures = json.loads((tmp_path / "r/report.json").read_text())
    assert figures["source"] == "modelled" and figures["batch"] == 4
    assert len(figures["products"]) == len(load("digits-mlp", 4).products())
    components = json.loads((tmp_path / "r/actions.yaml").read_text())["action_counts"]["local"]
    macs = sum(p.total_macs for p in load("digits-mlp", 4).products())
    assert components[0] == {"name": "pe", "action_counts": [{"name": "multiply8", "counts": macs},
                                                             {"name": "add32", "counts": macs}]}
    assert [c["name"] for c in components] == ["pe", "registers", "scratchpad", "accumulators", "dram"]
    assert (tmp_path / "r/index.html").read_text().startswith("<!DOCTYPE html>")


def test_unknown_workload_is_named(tmp_path):
    with pytest.raises(ValueError, match="resnet50"):
        CliRunner().invoke(app, ["report", "--workload", "resnet-50", "--out", str(tmp_path)],
                           catch_exceptions=False)


CHROMIUM = shutil.which("chromium")
#: What a look at the page would find, in its title.
LOOK = """<script>addEventListener("load", () => {
  const charts = [...document.querySelectorAll("figure svg")].map(s => s.getBoundingClientRect());
  const wide = document.documentElement.scrollWidth > innerWidth;
  const reached = document.querySelectorAll("a[href], summary, [tabindex='0']").length;
  document.title = JSON.stringify({drawn: charts.filter(r => r.width > 200 && r.height > 80).length,
                                   wide, reached});
});</script>"""


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("width", [1200, 390])
def test_page_renders_in_a_browser(made, tmp_path, width):
    """All charts are drawn, nothing is wider than the window, and the console stays empty."""
    path = tmp_path / "index.html"
    path.write_text(page(made).replace("</body>", LOOK + "</body>"))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000",
         "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert seen["drawn"] == len(CHARTS) and not seen["wide"] and seen["reached"] > 2 * len(CHARTS), seen
