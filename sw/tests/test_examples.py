"""The examples run, and show what they say."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from backbeat import PRESETS

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    """What an example prints."""
    done = subprocess.run([sys.executable, EXAMPLES / name, *map(str, arguments)], text=True,
                          capture_output=True, env=os.environ | {"PYTHONWARNINGS": "error::UserWarning"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracies(out):
    return [float(share) for share in re.findall(r"test accuracy ([\d.]+)%", out)]


def test_own_network_learns_on_the_accelerator():
    out = run("offload_your_model.py", "--steps", 20, "--config", "4x4")
    for layer in ("convolution", "attention.linear", "attention.attention", "head"):
        assert f"\n{layer}: accelerator\n" in out
    assert "norm: host, LayerNorm is not offloaded" in out
    assert re.search(r"[\d,]{5,} products, [\d.]+ M MACs, largest sum [\d,]+", out)
    accuracy, = accuracies(out)
    assert accuracy > 60


def test_own_recipe_is_used_where_its_pattern_says():
    out = run("add_a_recipe.py", "--steps", 20)
    everywhere, between, ternary = accuracies(out)
    # The same weights, images and draws: three figures alike would be one recipe three times.
    assert len({everywhere, between, ternary}) > 1 and min(everywhere, between, ternary) > 50


def test_own_array_computes_the_same():
    out = run("larger_array.py", "--backend", "model", "--size", 100)
    assert "16x16: 256 MACs per cycle" in out and "24x16: 384 MACs per cycle" in out
    assert out.count("result exact: True") == 2 and "cycles," not in out


def test_arrays_are_compared_in_cycles(monkeypatch, capsys):
    example = runpy.run_path(str(EXAMPLES / "larger_array.py"))
    monkeypatch.setitem(example["main"].__globals__, "ARRAYS", [PRESETS["4x4"], PRESETS["4x4"]])
    monkeypatch.setattr(sys, "argv", ["larger_array.py", "--size", "40"])
    example["main"]()
    out = capsys.readouterr().out
    assert out.count("result exact: True") == 2 and out.count("cycles, utilisation") == 2
    assert re.search(r"^(0.9|1.0)\d times as fast on 4x4, of 1.00 possible$", out, re.M)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_says_how_to_run_it(path):
    assert f"python examples/{path.name}" in path.read_text().split('"""')[1]
