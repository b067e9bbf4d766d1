"""Recipes compared at equal seeds: the figures, what is kept, and the command line."""

import json
import multiprocessing
from pathlib import Path

import pytest

import backbeat
from backbeat.train import TASKS, Settings, Trainer
from backbeat.train import compare as module
from backbeat.train.compare import Comparison, compare, differences, picture
from backbeat.train.data import load

#: Test accuracies by recipe and seed: the order of the recipes differs from seed to seed.
ACCURACIES = {("fp32", 0): 0.5, ("fp32", 1): 0.9, ("int8", 0): 0.52, ("int8", 1): 0.89,
              ("int8_dw16", 0): 0.5, ("int8_dw16", 1): 0.87}


@pytest.fixture
def trained(monkeypatch):
    """The runs that are made, instead of training, as (recipe, seed)."""
    runs = []

    def train_once(settings):
        runs.append((settings.recipe, settings.seed))
        return {"test_accuracy": ACCURACIES[runs[-1]], "seconds": 1.0}

    monkeypatch.setattr(module, "train_once", train_once)
    return runs


def comparison(directory, recipes=("fp32", "int8", "int8_dw16"), seeds=2, **options):
    return Comparison(directory, "digits-mlp", recipes, seeds, backend="model", **options)


@pytest.mark.parametrize(("unit", "each", "mean", "worst"), [
    ("pp", [2.0, -2.0, 9.0], 3.0, -2.0), ("%", [4.0, -4.0, 30.0], 10.0, 30.0)])
def test_differences_are_paired_by_seed(unit, each, mean, worst):
    found = differences([0.52, 0.48, 0.39], [0.5, 0.5, 0.3], unit)
    assert found["differences"] == pytest.approx(each)
    assert [found["mean"], found["worst"]] == pytest.approx([mean, worst])
    variance = sum((d - mean) ** 2 for d in each) / 2
    assert found["sd"] == pytest.approx(variance ** 0.5)
    assert differences([1.0], [2.0], unit)["sd"] is None


def test_figures_are_those_of_the_runs(trained, tmp_path):
    figures = compare(comparison(tmp_path, epochs=3))
    assert len(trained) == 6
    assert [figures[name] for name in ("task", "epochs", "seeds", "base", "metric", "unit")] == [
        "digits-mlp", 3, 2, "fp32", "test_accuracy", "pp"]
    assert figures["recipes"]["fp32"] == {"values": [0.5, 0.9], "mean_metric": pytest.approx(0.7)}
    for recipe, each in (("int8", [2, -1]), ("int8_dw16", [0, -3])):
        assert figures["recipes"][recipe]["differences"] == pytest.approx(each), recipe
        assert figures["recipes"][recipe]["worst"] == pytest.approx(min(each)), recipe
    assert json.loads((tmp_path / "compare.json").read_text()) == figures
    assert (tmp_path / "compare.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("metrics", "metric", "unit"), [
    ({"test_loss": 2.0, "test_accuracy": 0.5}, "test_accuracy", "pp"),
    ({"test_loss": 2.0, "test_mse": 8.0}, "test_mse", "%"),
    ({"test_loss": 2.0, "test_perplexity": 7.4}, "test_loss", "%")])
def test_each_kind_of_task_has_its_metric(monkeypatch, tmp_path, metrics, metric, unit):
    monkeypatch.setattr(module, "train_once", lambda settings: metrics | {"seconds": 1.0})
    figures = compare(comparison(tmp_path, seeds=1))
    assert (figures["metric"], figures["unit"]) == (metric, unit)
    assert figures["recipes"]["int8"]["values"] == [metrics[metric]]


def test_complete_runs_are_not_made_again(monkeypatch, trained, tmp_path):
    whole = compare(comparison(tmp_path / "whole"))
    trained.clear()
    train_once, broken = module.train_once, tmp_path / "broken"

    def until_the_fourth(settings):
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train_once(settings)

    monkeypatch.setattr(module, "train_once", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        compare(comparison(broken))
    assert not (broken / "compare.json").exists()
    monkeypatch.setattr(module, "train_once", train_once)
    seen = []
    figures = compare(comparison(broken), track=lambda runs, total: [
        *(seen.append(total) or runs)])
    assert figures == whole and seen == [6]
    assert sorted(trained) == sorted(ACCURACIES), "each run once"
    trained.clear()
    assert compare(comparison(broken)) == whole and not trained
    # More seeds and other recipes go on from there too.
    compare(comparison(broken, ("int8", "int8_dw16"), 1))
    assert not trained


@pytest.mark.parametrize(("name", "value"), [("epochs", 3), ("lr", 0.5), ("config", "8x8")])
def test_runs_with_other_settings_are_not_taken(trained, tmp_path, name, value):
    compare(comparison(tmp_path))
    trained.clear()
    stored = getattr(Settings(task="digits-mlp", backend="model"), name)
    with pytest.raises(ValueError, match=f"fp32-0.json is of a run with {name} {stored}, now it is "
                                         f"{value}: take another folder with --out, or remove this"):
        compare(comparison(tmp_path, **{name: value}))
    assert not trained


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": {}}'])
def test_broken_result_is_named(trained, tmp_path, content):
    compare(comparison(tmp_path))
    (tmp_path / "int8-1.json").write_text(content)
    with pytest.raises(ValueError, match="int8-1.json is broken .*: remove it"):
        compare(comparison(tmp_path))


@pytest.mark.parametrize(("match", "recipes", "seeds", "options"), [
    ("recipes must be two or more different ones.*, got fp32$", ("fp32",), 2, {}),
    ("recipes must be two or more .*, got int8,int8$", ("int8", "int8"), 2, {}),
    ("recipe must be one of .*, got 'int4'", ("fp32", "int4"), 2, {}),
    ("seeds must be at least 1, got 0", ("fp32", "int8"), 0, {}),
    ("epochs must be 1...1000000, got 0", ("fp32", "int8"), 1, {"epochs": 0})])
def test_bad_comparison_is_named(tmp_path, match, recipes, seeds, options):
    with pytest.raises(ValueError, match=match):
        comparison(tmp_path, recipes, seeds, **options)


def test_number_of_jobs_is_checked(trained, tmp_path):
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        compare(comparison(tmp_path), jobs=0)


def test_a_run_that_fails_is_named(tmp_path):
    with pytest.raises(ValueError, match="^recipe int8, seed 0: .*loss|^recipe int8, seed 0: .*finite"):
        compare(comparison(tmp_path, ("int8", "fp32"), 1, epochs=1, lr=1e30))


def test_picture_takes_one_seed_and_many_recipes():
    recipes = {"fp32": {"values": [2.0]}} | {
        name: {"values": [2.1], "differences": [5.0]} for name in ("int8", "int8_dw16", "binary")}
    assert picture({"recipes": recipes, "unit": "%", "metric": "test_loss", "base": "fp32", "seeds": 1,
                    "task": "char-gpt"})[:4] == b"\x89PNG"


# The real thing.

def test_seconds_are_of_the_whole_run(monkeypatch):
    rows = [{"epoch": epoch, "seconds": 2.0, "test_loss": 1.0} for epoch in (1, 2, 3)]
    monkeypatch.setattr(module.Trainer, "fit", lambda trainer: trainer.history.extend(rows))
    metrics = module.train_once(Settings(task="digits-mlp", backend="model", epochs=3))
    assert metrics == {"epoch": 3, "seconds": 6.0, "test_loss": 1.0}


def test_command_compares_what_training_gives(run, monkeypatch, tmp_path):
    arguments = ("--task", "digits-mlp", "--seeds", 2, "--config", "4x4", "--out", tmp_path,
                 "--epochs", 1)
    code, out, _ = run("compare", *arguments, "--json", tmp_path / "figures.json")
    assert code == 0 and "fp32" in out and " pp" in out and f"-> {tmp_path}/compare.json" in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures == json.loads((tmp_path / "compare.json").read_text())
    settings = Settings(task="digits-mlp", backend="model", config="4x4", epochs=1, seed=1)
    with backbeat.open("model", "4x4") as acc:
        trainer = Trainer(settings, load(TASKS["digits-mlp"].data, None, 1), acc)
        trainer.fit()
    assert figures["recipes"]["int8"]["values"][1] == trainer.history[-1]["test_accuracy"]

    # Nothing is left to do.
    monkeypatch.setattr(module, "train_once", None)
    code, out, _ = run("compare", *arguments, "--json", "-")
    assert code == 0 and json.loads(out)["recipes"] == figures["recipes"]
    code, _, err = run("compare", *arguments[:-1], 2)
    assert code == 1 and err.count("\n") == 1 and "epochs 1, now it is 2: take another folder" in err


def test_processes_give_the_same_figures(tmp_path):
    one, two = (compare(comparison(Path(tmp_path, str(jobs)), ("fp32", "int8"), 1, epochs=1), jobs=jobs)
                for jobs in (1, 2))
    assert one["recipes"] == two["recipes"]
    assert not multiprocessing.active_children()
