"""``backbeat train --monitor --memory --plot``: what is told beside the figures."""

import json

import pytest
from typer.testing import CliRunner

from backbeat.cli import app


def train(tmp_path, *options):
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "--backend", "model", "--epochs", "1", "--out", str(out),
                                      "--overwrite", *options])
    assert result.exit_code == 0, result.output
    return out, result.output


@pytest.mark.parametrize("recipe", ["int8", "fp32"])
def test_watching_changes_no_weight(tmp_path, recipe):
    plain, watched = (train(tmp_path, "--recipe", recipe, *options)
                      for options in ((), ("--monitor", "--memory", "--plot")))
    weights = [line for line in plain[1].splitlines() if line.startswith("weights")]
    assert weights and weights[0] in watched[1].splitlines()
    assert "health: nothing to worry about" in watched[1]
    out = watched[0]
    memory, health = (json.loads((out / name).read_text()) for name in ("memory.json", "health.json"))
    # Weights of 64-128-64-10, with biases; SGD with momentum keeps as much.
    parameters = 4 * (64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10)
    assert memory["totals"]["weights"] == memory["totals"]["optimiser_state"] == parameters
    assert memory["macs"] == 64 * (64 * 128 * 2 + 128 * 64 * 3 + 64 * 10 * 3)
    assert (out / "memory.png").read_bytes().startswith(b"\x89PNG")
    assert health["steps"] == 23 and health["findings"] == []
    assert ("input_saturated" in health["layers"][0]) and (
        (health["layers"][0]["input_saturated"] is None) == (recipe == "fp32"))


def test_vanishing_gradients_are_told_with_their_cure(tmp_path):
    out, output = train(tmp_path, "--task", "deep-sigmoid", "--monitor")
    assert output.count("warning: vanishing gradients in 1:") == 1 and "Try ReLU" in output
    assert [f["kind"] for f in json.loads((out / "health.json").read_text())["findings"]] == [
        "vanishing gradients"]
    _, output = train(tmp_path, "--task", "deep-sigmoid-cured", "--monitor")
    assert "warning" not in output and "health: nothing to worry about" in output


def test_a_run_that_breaks_is_still_told_of(tmp_path):
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "--backend", "model", "--lr", "1e30", "--monitor",
                                      "--out", str(out)])
    assert result.exit_code
    assert "warning: exploding gradients" in result.output
    assert json.loads((out / "health.json").read_text())["findings"][0]["kind"] == "exploding gradients"
