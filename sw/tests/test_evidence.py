"""What docs/numerics.md says of the numbers, in short form, and how its tables get there."""

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch

from backbeat.evidence import (
    EVIDENCE,
    Campaign,
    Report,
    gradients,
    handworked,
    overhead,
    parity,
    stall,
    unbiased,
)
from backbeat.evidence import __main__ as command
from backbeat.evidence.bounds import Bounded, Sum, product, softmax
from backbeat.evidence.document import fill
from backbeat.torch import NEAREST, RECIPES, Operand
from backbeat.torch.quantise import fractions, quantise

NUMERICS = Path(__file__).parents[2] / "docs/numerics.md"
EXACT = torch.float64


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As the campaign: small operations on several threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def short(directory):
    return Campaign(directory, short=True)


# The pair of stored weights.

def test_stored_weights_learn_with_stochastic_rounding_and_stall_without(tmp_path):
    report = stall.measure(short(tmp_path))
    nearest, stochastic = report.rows
    assert nearest["accuracy"] <= 0.2 and nearest["changed"] < 0.01
    assert stochastic["accuracy"] >= 0.8 and stochastic["changed"] > 0.3
    assert nearest["start"] == stochastic["start"]
    assert report.met


@pytest.mark.parametrize(("rounding", "accuracy", "changed", "met"), [
    ("nearest", 0.2, 0.01, True), ("nearest", 0.21, 0.01, False), ("nearest", 0.2, 0.011, False),
    ("stochastic", 0.8, 0.5, True), ("stochastic", 0.79, 0.5, False)])
def test_stall_is_judged_by_both(monkeypatch, tmp_path, rounding, accuracy, changed, met):
    monkeypatch.setattr(stall, "train", lambda *_: {
        "start": 0.1, "accuracy": accuracy, "changed": changed})
    rows = stall.measure(short(tmp_path)).rows
    assert next(row["met"] for row in rows if row["rounding"] == rounding) == met


@pytest.mark.parametrize("rounding", stall.ROUNDINGS)
def test_stored_weights_are_int8_multiples_of_the_scale(rounding):
    weight = torch.nn.Parameter(torch.tensor([0.3, -2.0, 0.004, 0.0]))
    optimiser = stall.StoredInt8([weight], lr=0.5, scale=2.0**-7, rounding=rounding)
    assert (weight * 128).tolist() == [38, -127, 1, 0], "to nearest at once, -127 at least"
    weight.grad = torch.tensor([0.0, 1.0, -0.0125, -8.0])       # in steps: 0, -64, 0.8, 512
    optimiser.step()
    values = (weight * 128).tolist()
    assert values[:2] == [38, -127] and values[3] == 127
    assert values[2] in ((2,) if rounding == "nearest" else (1, 2))
    assert optimiser.state[weight]["values"].dtype == torch.int8


def test_stored_weights_move_on_average_as_far_as_they_should():
    weight = torch.nn.Parameter(torch.zeros(20_000))
    optimiser = stall.StoredInt8([weight], lr=1.0, scale=1.0, rounding="stochastic")
    for _ in range(2):      # draws of their own in each step
        weight.grad = torch.full_like(weight, -0.3)
        optimiser.step()
    # Two draws for each: the standard error is 0.0046, and of the correlation 0.007.
    assert weight.mean().item() == pytest.approx(0.6, abs=0.02)
    assert (weight == 2).float().mean().item() == pytest.approx(0.09, abs=0.01)


def test_unknown_rounding_of_stored_weights_is_named():
    with pytest.raises(ValueError, match="rounding must be one of nearest, stochastic, got 'up'"):
        stall.StoredInt8([], 1.0, 1.0, "up")


# Stochastic rounding.

def test_stochastic_rounding_is_unbiased(tmp_path):
    """The recipe's quantiser, the epilogue's model and the RTL."""
    report = unbiased.measure(short(tmp_path))
    assert [row["value"] for row in report.rows] == list(unbiased.SHORT_VALUES)
    for row in report.rows:
        for where in unbiased.WHERE:
            assert row[where] <= unbiased.LIMIT, (where, row)
        assert row["rtl_mean"] == row["model_mean"]
    assert report.met


@pytest.mark.parametrize("fault", ["nearest", "shifted", "half the range"])
def test_a_biased_rounding_is_seen(monkeypatch, tmp_path, fault):
    def broken(values, rows, seed, _acc):
        x = torch.from_numpy(np.append(values, 127).astype(np.float32)).repeat(rows, 1)
        draws = {"nearest": None, "shifted": fractions(x.shape, (seed, 0), (0, 0, 0)) + 0.01,
                 "half the range": fractions(x.shape, (seed, 0), (0, 0, 0)) / 2}[fault]
        return quantise(x, 1, draws)[0].numpy()[:, :-1]

    monkeypatch.setattr(unbiased, "WHERE", dict.fromkeys(unbiased.WHERE, broken))
    assert not unbiased.measure(short(tmp_path)).met


@pytest.mark.parametrize(("value", "mean", "draws", "errors"), [
    (0.5, 0.5, 100, 0), (0.5, 0.55, 100, 1), (-0.1, -0.13, 100, 1), (3.0, 3.0, 100, 0),
    (3.0, 3.001, 100, inf), (126.5, 126.4, 400, 4)])
def test_distance_is_in_standard_errors(value, mean, draws, errors):
    assert unbiased.standard_errors(value, mean, draws) == pytest.approx(errors)


@pytest.mark.parametrize("values", [unbiased.VALUES, unbiased.SHORT_VALUES])
def test_operands_make_the_values(values):
    a, b, spec = unbiased.operands(np.array(values), 3, 0)
    assert a.shape == (3, 1) and (a == 1).all()
    made = b[0] * np.array(spec.multiplier) / 2.0**spec.shift
    # Far less than a standard error of 1,000,000 draws.
    np.testing.assert_allclose(made, values, atol=2.0**-19)


# The network worked by hand.

def test_published_digits_are_reproduced(tmp_path):
    report = handworked.measure(short(tmp_path))
    assert report.met, [row for row in report.rows if not row["met"]]
    assert len(report.rows) == 13
    found = {row["quantity"]: row["fp64"] for row in report.rows}
    for name, digits in (("out_h1", 9), ("out_o1", 9), ("E_total", 9), ("w5", 8)):
        assert f"{found[name]:.{digits}f}" == handworked.PUBLISHED[name]


@pytest.mark.parametrize("recipe", ["int8", "int8_dw16", "int8_per_tensor"])
def test_one_step_is_within_its_bound(recipe):
    exact, limits = handworked.step("fp32", EXACT), handworked.bounded(recipe)
    assert {name: value for name, (value, _) in limits.items()} == pytest.approx(exact, rel=1e-14)
    for seed in range(5):
        found = handworked.step(recipe, seed=seed)
        for name, (_, limit) in limits.items():
            assert abs(found[name] - exact[name]) <= limit < 0.002, (seed, name)


@pytest.mark.parametrize(("name", "value"), [("LR", 0.51), ("BIAS_OUTPUT", 0.61),
                                             ("INPUTS", ((0.05, 0.11),))])
def test_another_network_is_seen(monkeypatch, tmp_path, name, value):
    monkeypatch.setattr(handworked, name, value)
    assert not handworked.measure(short(tmp_path)).met


# Bounds.

X = torch.tensor([[1.0, -254.0], [0.0, 0.0]], dtype=EXACT)


@pytest.mark.parametrize(("operand", "along", "steps"), [
    (NEAREST, Sum((1,)), [[1, 1], [0, 0]]), (Operand("stochastic"), Sum((1,)), [[2, 2], [0, 0]]),
    (NEAREST, Sum((0,)), [[1 / 254, 1], [1 / 254, 1]]),
    (Operand(scale="tensor"), Sum((1,)), [[1, 1]] * 2),
    (Operand(bits=16), Sum((1,)), [[127 / 32384] * 2, [0, 0]])])
def test_operand_is_off_by_its_steps(operand, along, steps):
    rounded = Bounded.exact(X).rounded(operand, along)
    torch.testing.assert_close(rounded.error, torch.tensor(steps, dtype=EXACT), rtol=1e-3, atol=0)
    assert (rounded.value == X).all()


def test_single_element_of_a_sum_is_exact():
    assert not Bounded.exact(X[:, :1]).rounded(Operand("stochastic"), Sum((1,))).error.any()
    assert Bounded.exact(X[:, :1]).rounded(Operand(scale="tensor"), Sum((1,))).error.any()


def test_groups_have_scales_of_their_own():
    x = torch.tensor([[1.0, 2.0, 30.0, 40.0]], dtype=EXACT)
    assert Sum((2,), 1, 2).largest(x).tolist() == [[2.0, 2.0, 40.0, 40.0]]
    assert Sum((2,), 1, 4).single(x) and not Sum((2,), 1, 2).single(x)


def test_product_bound_is_reached_and_never_passed():
    """Of a sum of two: the worst that half a step of each operand can do."""
    a, b = (torch.tensor([v], dtype=EXACT) for v in ([127.0, 10.5], [127.0, 20.5]))
    found = product(lambda x, y: x @ y.mT, (NEAREST, NEAREST), Bounded.exact(a), Bounded.exact(b),
                    (Sum((1,)), Sum((1,))))
    assert found.value.item() == 127 * 127 + 10.5 * 20.5
    assert found.error.item() == pytest.approx(0.5 * (127 + 10.5 + 127 + 20.5) + 2 * 0.25, rel=1e-3)


def test_softmax_bound_holds_for_any_error():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 6, generator=generator, dtype=EXACT) * 3
    error = torch.rand(50, 6, generator=generator, dtype=EXACT)
    seen = torch.rand(50, 6, generator=generator) < 0.8
    seen[:, 0] = True
    bound = softmax(Bounded(scores, error), seen)
    for _ in range(200):
        signs = torch.randint(-1, 2, scores.shape, generator=generator)
        off = (scores + signs * error).masked_fill(~seen, -inf).softmax(-1) - bound.value
        assert (off.abs() <= bound.error).all()
    assert not bound.error[~seen].any() and (bound.error <= 1 + 1e-5).all()


# Gradients.

NAMES = [case.name for case in gradients.CASES]


@pytest.mark.parametrize("case", gradients.CASES, ids=NAMES)
def test_outputs_and_gradients_are_within_the_bound(case):
    for recipe in gradients.RECIPE_NAMES:
        for ill in (False, True):
            assert gradients.errors(case, recipe, ill, seed=3)["of_bound"] <= 1, (recipe, ill)


def test_bounds_of_a_linear_layer_are_those_of_its_scales():
    """Per row and column of each product, written out."""
    rng = np.random.default_rng(0)
    x, w, dy = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), rng.normal(size=(5, 4))
    x[:, 0] *= 100
    w[0] *= 100
    dy[:, 1] *= 100
    operands = [Bounded.exact(torch.from_numpy(v)) for v in (x, w)]
    found = gradients.CASES[0].bounds(RECIPES["int8"], operands,
                                      Bounded.exact(torch.from_numpy(dy)))

    def bound(a, b, steps):
        e_a = steps * abs(a).max(1, keepdims=True) / 127 * np.ones_like(a)
        e_b = 0.5 * abs(b).max(0, keepdims=True) / 127 * np.ones_like(b)
        return abs(a) @ e_b + e_a @ abs(b) + e_a @ e_b

    for limit, want in zip(found, (bound(x, w.T, 0.5), bound(dy, w, 1), bound(dy.T, x, 1)), strict=True):
        np.testing.assert_allclose(limit.error, want, rtol=1e-3)


@pytest.mark.parametrize("case", [c for c in gradients.CASES if c.name != "MultiheadAttention"],
                         ids=[n for n in NAMES if n != "MultiheadAttention"])
def test_too_few_scales_are_seen(case):
    """One per tensor is beyond the bound of one per vector, and far off."""
    found = gradients.errors(case, "int8_per_tensor", True, 3, bound_of="int8")
    assert found["of_bound"] > 1
    assert found["weight"] > 10 * gradients.errors(case, "int8", True, 3)["weight"]


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "bmm"])
def test_more_bits_of_the_output_gradient_make_better_weight_gradients(name):
    case = gradients.CASES[NAMES.index(name)]
    fine, plain = (gradients.errors(case, recipe, False, 3) for recipe in ("int8_dw16", "int8"))
    assert fine["weight"] < 0.75 * plain["weight"]
    assert all(fine[what] == plain[what] for what in ("output", "input")), "nothing else changes"


def test_one_operand_of_another_scale_is_seen(monkeypatch):
    case = gradients.CASES[0]
    coarse = replace(RECIPES["int8"], forward=(Operand("nearest", "tensor"), NEAREST))
    monkeypatch.setitem(RECIPES, "coarse", coarse)
    assert gradients.errors(case, "coarse", True, 3, bound_of="int8")["of_bound"] > 1


# Overhead.

def test_overhead_finds_where_the_time_goes(tmp_path):
    times, spent = overhead.step_times(1)
    assert len(times) == 1 and set(times[0]) == {"fp32", "int8"}
    assert set(spent) == {"draws", "quantise", "products", "step"} and min(spent.values()) > 0
    assert spent["step"] > spent["draws"] + spent["quantise"] + spent["products"]
    assert overhead.site.fractions is fractions, "nothing is timed any more"


def test_overhead_is_judged_by_its_ratio(tmp_path):
    spent = Counter(step=8.0, quantise=1.0, draws=2.0, products=4.0)
    for int8, met in ((0.4, True), (0.41, False)):
        campaign = Campaign(tmp_path / str(int8))
        campaign.kept("steps", {"steps": overhead.STEPS}, lambda n=int8: {
            "times": [{"fp32": 0.1, "int8": n}] * 3, "spent": spent})
        report = overhead.measure(campaign)
        assert report.met == met
        assert [row["ms"] for row in report.rows[2:]] == pytest.approx(
            [1000 * int8 * share for share in (1 / 8, 2 / 8, 4 / 8, 1 / 8)])


# Parity.

@pytest.mark.parametrize(("number", "mean", "worst", "met"), [
    (0, 0.1, -0.5, True), (0, 0.11, 0, False), (0, -0.11, -0.2, False), (0, 0, -0.51, False),
    (2, -0.5, -3, True), (2, -0.51, 0, False), (3, 3, 9, True), (3, 3.01, 3.01, False),
    (4, 0.25, 0.5, True), (4, 0.26, 0.5, False), (4, 0.2, 0.51, False), (4, -9, -9, True),
    (5, 1.5, 1.6, True), (5, 1.49, 9, False)])
def test_targets_are_as_stated(number, mean, worst, met):
    assert parity.TARGETS[number].met(mean, worst) == met


def test_targets_are_written_out():
    assert [str(target) for target in parity.TARGETS] == [
        "mean -0.1...+0.1; worst >= -0.5", "mean -0.1...+0.1; worst >= -0.5", "mean >= -0.5",
        "mean <= +3", "mean <= +0.25; worst <= +0.5", "mean >= +1.5"]


def test_parity_trains_in_pairs(tmp_path):
    report = parity.measure(short(tmp_path))
    row, = report.rows
    assert (row["task"], row["seeds"], row["epochs"], row["met"]) == ("digits-mlp", 2, 1, None)
    kept = json.loads((tmp_path / "digits-mlp" / "compare.json").read_text())
    assert row["mean"] == kept["recipes"]["int8"]["mean"]
    assert report.met, "too short to be judged"


# Reports, what is kept, and the document.

REPORT = Report("stall", "Two rows", {"name": "{name}", "off by": "{off:+.2f} pp"}, [
    {"name": "a", "off": 0.5, "met": True}, {"name": "b", "off": -1, "met": None}], "none")


def test_report_is_a_table():
    assert REPORT.markdown().splitlines() == [
        "Two rows. Target: none.", "", "| name | off by | target met |", "| --- | --- | --- |",
        "| a | +0.50 pp | yes |", "| b | -1.00 pp |  |"]
    assert REPORT.met and REPORT.table().row_count == 2
    missed = replace(REPORT, rows=[*REPORT.rows, {"name": "c", "off": 0, "met": False}])
    assert not missed.met and missed.cells()[-1] == ["c", "+0.00 pp", "NO"]
    unjudged = replace(REPORT, rows=REPORT.rows[1:])
    assert unjudged.cells()[0] == ["name", "off by"]


def test_campaign_goes_on_where_it_was_broken_off(tmp_path):
    campaign, made = Campaign(tmp_path), []

    def make():
        made.append(0)
        return {"n": len(made)}

    assert [campaign.kept("a", {"x": 1}, make) for _ in range(2)] == [{"n": 1}] * 2
    assert campaign.kept("a", {"x": 2}, make) == {"n": 2}, "other settings are measured anew"
    assert campaign.kept("b", {"x": 2}, make) == {"n": 3}
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(ValueError, match="b.json is broken .*: remove it"):
        campaign.kept("b", {"x": 2}, make)


TEXT = """Before.

<!-- numerics: stall -->
old
<!-- end stall -->
<!-- numerics: parity -->
<!-- end parity -->
After.
"""


def test_tables_go_between_their_marks(tmp_path):
    path = tmp_path / "numerics.md"
    path.write_text(TEXT)
    fill(path, REPORT)
    once = path.read_text()
    before, table, after = re.split(r"<!-- numerics: stall -->\n|<!-- end stall -->\n", once)
    assert before == "Before.\n\n" and after == TEXT.split("<!-- end stall -->\n")[1]
    assert table == f"\n{REPORT.markdown()}\n\nPrinted by `make numerics ARGS='--only stall'`.\n\n"
    fill(path, REPORT)
    assert path.read_text() == once


@pytest.mark.parametrize("text", ["", "<!-- numerics: stall -->\n", TEXT + TEXT,
                                  "<!-- end stall -->\n<!-- numerics: stall -->\n"])
def test_document_without_marks_is_left_alone(tmp_path, text):
    path = tmp_path / "numerics.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="must have the lines <!-- numerics: stall --> and"):
        fill(path, REPORT)
    assert path.read_text() == text


def test_document_has_a_table_for_all_evidence():
    text = NUMERICS.read_text()
    for name in EVIDENCE:
        assert text.count(f"<!-- numerics: {name} -->\n") == text.count(f"<!-- end {name} -->\n") == 1


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["backbeat.evidence", *map(str, arguments)])
    code = 0
    try:
        command.main()
    except SystemExit as exit_:
        code = exit_.code or 0
    out = capsys.readouterr()
    return code, out.out, out.err


def test_command_measures_and_leaves_the_document_alone_if_short(monkeypatch, capsys, tmp_path):
    arguments = ("--only", "handworked", "--out", tmp_path, "--document", tmp_path / "numerics.md")
    code, out, _ = run(monkeypatch, capsys, *arguments, "--short")
    assert code == 0 and "0.751365070" in out
    figures = json.loads((tmp_path / "handworked.json").read_text())
    assert figures["met"] is True and len(figures["rows"]) == 13
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 1 and "numerics.md" in err and err.count("\n") == 1
    (tmp_path / "numerics.md").write_text("<!-- numerics: handworked -->\n<!-- end handworked -->\n")
    code, *_ = run(monkeypatch, capsys, *arguments)
    assert code == 0 and "| w5 | 0.35891648 |" in (tmp_path / "numerics.md").read_text()


def test_command_fails_if_a_target_is_missed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(handworked, "LR", 0.6)
    code, out, _ = run(monkeypatch, capsys, "--only", "handworked", "--out", tmp_path, "--short")
    assert code == "a target is not met" and "NO" in out


def test_fresh_drops_what_was_kept(monkeypatch, capsys, tmp_path):
    campaigns = []

    def measure(campaign):
        campaigns.append(campaign)
        campaign.kept("a", {}, lambda: {"n": len(campaigns)})
        return REPORT

    monkeypatch.setitem(EVIDENCE, "stall", measure)
    for arguments, n in (((), 1), ((), 1), (("--fresh",), 3)):
        assert run(monkeypatch, capsys, "--only", "stall", "--short", "--out", tmp_path, "--jobs", 2,
                   *arguments)[0] == 0
        assert json.loads((tmp_path / "stall" / "a.json").read_text())["result"] == {"n": n}
    assert campaigns[0].short and campaigns[0].jobs == 2


def test_unknown_evidence_is_refused(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "--only", "luck")
    assert code == 2 and "'luck'" in err
