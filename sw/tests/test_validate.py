"""The cycle model against the simulated RTL, and what is said of the difference."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from backbeat.cli import app
from backbeat.products import OPS
from backbeat.validate import (
    LARGEST,
    MEMORIES,
    MOST_MACS,
    SHORT,
    Comparison,
    compare,
    random_products,
    summary,
)
from backbeat.workloads import FORWARD, Product
from backbeat_rtl.config import Config

PRODUCT = Product("3x4x5", FORWARD, "nt", 3, 4, 5)


def comparison(predicted: int, cycles: int, **options) -> Comparison:
    return replace(Comparison("4x4", "board", PRODUCT, True, predicted, cycles, True, True), **options)


def test_products_are_of_all_kinds_and_sizes():
    found = random_products(np.random.default_rng(1), 400)
    assert {p.op for p, _ in found} == {*OPS} and {int8 for _, int8 in found} == {True, False}
    for size in ("m", "n", "k"):
        sizes = [getattr(p, size) for p, _ in found]
        assert min(sizes) == 1 and LARGEST // 2 < max(sizes) <= LARGEST
        assert sum(s % 8 != 0 for s in sizes) > 300, "ragged"
    assert max(p.macs for p, _ in found) <= MOST_MACS


def test_summary_tells_long_products_in_parts_and_short_ones_in_cycles():
    found = [comparison(2040, 2000), comparison(3800, 4000, bytes_right=False), comparison(5000, 5000),
             comparison(SHORT + 100, SHORT - 1, exact=False), comparison(90, 100)]
    assert summary(found) == {
        "products": 3, "median": 0.02, "p95": pytest.approx(0.047), "worst": 0.05,
        "worst_product": "3x4x5 nt INT8 on 4x4, board memory: 3,800 predicted, 4,000 measured",
        "short": 2, "short_median": 55, "short_worst": 101, "bytes_right": 4, "exact": 4}
    assert summary([])["products"] == summary([])["worst"] == 0


@pytest.mark.parametrize("memory", MEMORIES)
def test_predictions_are_those_of_the_rtl(memory):
    rng = np.random.default_rng(5)
    found = list(compare(Config.of("8x8"), memory, random_products(rng, 40), rng))
    assert all(c.exact and c.bytes_right for c in found)
    total = summary(found)
    assert total["products"] > 12 and total["median"] < 0.02 and total["worst"] < 0.05, total
    # A longer start alone would not do for products of every length.
    assert total["short"] > 5 and total["short_median"] < 50, total


def test_command_prints_and_writes_the_figures(tmp_path):
    path = tmp_path / "validate.json"
    done = CliRunner().invoke(app, ["validate", "--configs", "4x4", "--products", "3", "--seed", "2",
                                    "--json", str(path)])
    assert done.exit_code == 0, done.output
    figures = json.loads(path.read_text())
    assert figures["seed"] == 2 and len(figures["comparisons"]) == 6
    assert "6 products: median error" in done.stdout
    with pytest.raises(ValueError, match="5x5"):
        CliRunner().invoke(app, ["validate", "--configs", "5x5"], catch_exceptions=False)
