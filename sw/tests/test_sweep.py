"""Sweeps: points, fronts, going on after an end, and the loss of a worker."""

import json
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from backbeat.cli import app
from backbeat.cost import Cost, cost
from backbeat.errors import ToolError
from backbeat.hardware import Estimator, Resources
from backbeat.memory import Memory
from backbeat.sweep import Journal, evaluate, pareto, parse_config, points, run
from backbeat.workloads import load
from backbeat_rtl.config import PRESETS, Config

SMALL = points([Config.of("4x4"), Config.of("8x8")], [4.0, 8.0], ["lenet5", "digits-mlp"], batch=4)


@pytest.mark.parametrize(("text", "expected"), [
    ("16x16", PRESETS["16x16"]), ("32x14:depth=1024", Config(32, 14, 1024, 32, 2)),
    ("24x12:tiles=16,requantisers=1", Config(24, 12, 2048, 16, 1)), ("2x3", Config(2, 3)),
    ("8x16", Config(8, 16, requantisers=4))])
def test_arrays_are_understood(text, expected):
    assert parse_config(text) == expected


@pytest.mark.parametrize(("text", "match"), [
    ("16", "ROWSxCOLUMNS.*got '16'"), ("8x8:depth", "NAME=NUMBER"),
    ("8x8:deep=4", "no deep; there are depth"), ("7x8", "rows must be even.*got 7"),
    ("8x8:depth=100", "depth must be a power of two.*100")])
def test_bad_arrays_are_named(text, match):
    with pytest.raises(ValueError, match=match):
        parse_config(text)


def test_points_are_all_with_each_other():
    assert len({p.key for p in SMALL}) == len(SMALL) == 8
    with_tokens = points([Config.of("8x8")], [8.0], ["lenet5", "bert-base"], tokens=64)
    assert [p.tokens for p in with_tokens] == [None, 64]
    with pytest.raises(ValueError, match="bandwidth must be"):
        points([Config.of("8x8")], [0.0], ["lenet5"])
    with pytest.raises(ValueError, match="lenet5"):
        points([Config.of("8x8")], [8.0], ["lenet"])


def test_evaluation_is_the_sum_of_costs():
    """Of a network with groups, behind a slow memory."""
    point, = points([Config.of("8x8")], [4.0], ["alexnet"], batch=4)
    found = evaluate(point, clock=1e6)
    total = sum((cost(p, point.config, Memory(bandwidth=point.bandwidth), walk=0).times(p.count)
                 for p in load(point.workload, 4).products()), Cost())
    counts = total.cycles, total.macs, total.dram
    assert (found["cycles"], found["macs"], found["dram_bytes"]) == counts
    assert found["samples_per_s"] == pytest.approx(4e6 / total.cycles)
    assert found["pj_per_mac"] == pytest.approx(found["energy_j"] / total.macs * 1e12)
    assert found["dsp"] == Estimator().resources(point.config).dsp and found["key"] == point.key


def test_core_that_is_too_small_is_told_not_raised():
    point, = points([Config(4, 14, 16, 4)], [8.0], ["digits-mlp"])
    found = evaluate(point)
    assert "hold no panels" in found["error"] and pareto([found]) == []


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12))
def test_front_is_what_nothing_beats(values):
    objectives = {"a": 1, "b": -1, "c": -1}
    found = [dict(zip("abc", v, strict=True)) for v in values]

    def beats(one, other):
        no_worse = all(sign * (one[n] - other[n]) >= 0 for n, sign in objectives.items())
        return no_worse and one != other

    assert pareto(found, objectives) == [f for f in found if not any(beats(o, f) for o in found)]


def test_estimates_are_those_that_were_synthesised(tmp_path):
    for name, found in {"8x8": (12_556, 40, 26), "16x16": (19_617, 144, 70),
                        "32x14": (17_759, 232, 77)}.items():
        estimated = Estimator().resources(Config.of(name))
        assert abs(estimated.lut - found[0]) <= 2 and estimated.dsp == found[1]
        assert abs(estimated.bram - found[2]) <= 1
    path = tmp_path / "synth.json"
    rows = {f"core_{name}": {"lut": lut, "dsp": 1, "ramb36": 1}
            for name, lut in (("8x8", 1232), ("16x16", 2328), ("32x14", 3224))}
    path.write_text(json.dumps(rows | {"array_8x8": {}}))
    assert abs(Estimator(path).resources(Config.of("16x16")).lut - 2328) <= 1
    path.write_text(json.dumps({"core_8x8": rows["core_8x8"]}))
    with pytest.raises(ValueError, match="holds 1 cores, three are needed"):
        Estimator(path)
    path.write_text("[")
    with pytest.raises(ValueError, match="not what `make synth` writes"):
        Estimator(path)
    assert isinstance(Estimator().resources(Config(64, 64, requantisers=4)), Resources)


def test_journal_goes_on_where_it_ended(tmp_path):
    path = tmp_path / "r" / "results.jsonl"
    with Journal(path, {"clock": 1}) as journal:
        assert journal.missing(SMALL) == SMALL
        for point in SMALL[:3]:
            journal.add({"key": point.key, "x": 1})
    with open(path, "a") as file:
        file.write('{"key": "cut o')
    with Journal(path, {"clock": 1}) as journal:
        assert journal.missing(SMALL) == SMALL[3:]
        journal.add({"key": SMALL[3].key})
    with Journal(path, {"clock": 1}) as journal:
        assert journal.missing(SMALL) == SMALL[4:] and journal.found[SMALL[0].key]["x"] == 1
    with pytest.raises(ValueError, match="other settings"):
        Journal(path, {"clock": 2})
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1], "{}", lines[2]]) + "\n")
    with pytest.raises(ValueError, match="line 3"):
        Journal(path, {"clock": 1})


def test_loss_of_a_worker_loses_no_point():
    distributed = pytest.importorskip("distributed")
    wanted = points([Config.of(name) for name in ("8x8", "16x16", "32x14")], [8.0],
                    ["mobilenet-v2", "resnet50", "googlenet", "bert-large"])
    with (distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                                   silence_logs=50) as cluster,
          distributed.Client(cluster) as client):
        killed, found = [], []
        for result in run(client, wanted):
            found.append(result)
            if not killed:
                killed += client.nthreads()
                pid, = client.run(os.getpid, workers=killed[:1]).values()
                os.kill(pid, signal.SIGKILL)
        assert killed[0] not in client.nthreads(), "it was not lost in time"
    assert sorted(f["key"] for f in found) == sorted(p.key for p in wanted)
    alone = {p.key: evaluate(p) for p in wanted}
    assert all(alone[f["key"]] == f for f in found)


def sweep(*arguments):
    return CliRunner().invoke(app, ["sweep", "--workers", "1", *arguments], catch_exceptions=False)


def test_command_writes_fronts_and_goes_on(tmp_path):
    options = ("--out", str(tmp_path), "--workloads", "lenet5 digits-mlp", "--batch", "4")
    done = sweep(*options, "--configs", "4x4 8x8")
    assert "4 of 4 points, 0 without a plan" in done.stdout
    fronts = json.loads((tmp_path / "pareto.json").read_text())
    assert [*fronts] == ["lenet5", "digits-mlp"]
    assert {f["array"] for f in fronts["lenet5"]} == {"4x4", "8x8"}
    done = sweep(*options, "--configs", "4x4 8x8 16x16")
    assert "4 of 6 have been found before" in done.stdout and "6 of 6 points" in done.stdout
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 7


def test_settings_that_make_no_sense_are_named(tmp_path):
    with pytest.raises(ValueError, match="bandwidths must be numbers.*'fast'"):
        sweep("--out", str(tmp_path), "--bandwidths", "fast")
    with pytest.raises(ValueError, match="nothing to sweep"):
        sweep("--out", str(tmp_path), "--configs", " ")
    pytest.importorskip("distributed")
    with pytest.raises(ToolError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        sweep("--out", str(tmp_path), "--workloads", "lenet5", "--scheduler", "tcp://127.0.0.1:9")
