"""The tasks, and what a step can be made of: loading, optimisers, clipping, parts, overrides."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import backbeat
from backbeat import cli
from backbeat.train import TASKS, NotFiniteError, Run, Settings, Trainer
from backbeat.train.curves import curves
from backbeat.train.data import Data, load
from backbeat.train.optimisers import rate
from backbeat.train.text import CONTEXT, MODULES, read_text, windows
from backbeat.train.trainer import digest

NAMES = [name for name in TASKS if not name.startswith("mnist")]


def data_of(task, train=None, test=None, seed=0):
    data = load(TASKS[task].data, None, seed)
    return Data(data.train_x[:train], data.train_y[:train], data.test_x[:test], data.test_y[:test],
                data.scale)


def trainer(task, data, backend="model", config="4x4", workers=0, **options):
    settings = Settings(task=task, backend=backend, config=config, **options)
    return Trainer(settings, data, backbeat.open(backend, config), workers)


def timeless(history):
    return [{k: v for k, v in metrics.items() if k != "seconds"} for metrics in history]


# What the tasks are.

@pytest.mark.parametrize("task", NAMES)
def test_metrics_and_curves_are_the_tasks_own(task):
    t = trainer(task, data_of(task, 24, 8), epochs=2, batch=12)
    t.fit()
    metric = t.task.kind.metric
    assert list(t.history[0]) == ["epoch", "step", "train_loss", f"train_{metric}", "cycles", "macs",
                                  "utilisation", "seconds", "test_loss", f"test_{metric}", "weights"]
    assert t.history[1]["step"] == 4 and t.history[1]["macs"] > 0
    assert json.loads(json.dumps(t.history, allow_nan=False)) == t.history
    assert curves(t.history)[:4] == b"\x89PNG"


def test_vision_transformer_learns_the_digits():
    """At a higher rate than the task's, 7 epochs are enough to see it."""
    t = trainer("digits-vit", data_of("digits-vit"), recipe="fp32", epochs=7, lr=3e-3)
    t.fit()
    assert t.history[-1]["test_accuracy"] >= 0.95


@torch.no_grad()
def test_language_model_looks_back_only():
    model = TASKS["char-gpt"].network()
    x = torch.randint(256, (3, 10), generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 6] = (x[:, 6] + 1) % 256
    a, b = model(x), model(other)
    torch.testing.assert_close(a[:, :6], b[:, :6])
    assert all((a[:, t] - b[:, t]).abs().amax() > 1e-3 for t in range(6, 10))


@torch.no_grad()
def test_transformers_know_where_things_are():
    x = torch.full((1, 10), 7)
    outputs = TASKS["char-gpt"].network()(x)[0]
    assert (outputs[1:] - outputs[:-1]).abs().amax() > 1e-3
    image = torch.zeros(1, 1, 8, 8)
    image[..., :2, :2] = 1
    model = TASKS["digits-vit"].network()
    assert (model(image) - model(image.roll(2, -1))).abs().amax() > 1e-4


def test_language_model_learns_more_than_the_frequencies_of_characters():
    data = data_of("char-gpt", test=32)
    t = trainer("char-gpt", data, recipe="fp32", epochs=1, batch=8, lr=3e-3)
    assert t.samples == 800, "of all windows, a hundred batches"
    t.fit()
    shares = data.train_x[:, 0].bincount().double() / len(data.train_x)
    entropy = float(-(shares * shares.clamp(min=1e-12).log()).sum())
    loss = t.history[0]["test_loss"]
    print(entropy, loss)
    assert loss < entropy - 0.2


def test_regression_comes_near_the_noise():
    data = data_of("mlp-regression")
    t = trainer("mlp-regression", data, recipe="fp32")
    t.fit()
    mse, loss = (t.history[-1][f"test_{name}"] for name in ("mse", "loss"))
    assert 1.0 < mse < 2.6, "the noise has variance 1"
    with torch.no_grad():
        outputs = t.model.eval()(data.test_x)
    assert mse == pytest.approx(float(((outputs - data.test_y) * data.scale).square().mean()), rel=1e-5)
    assert mse == pytest.approx(loss * data.scale**2)


def test_deep_sigmoids_do_not_learn_and_cured_do():
    accuracy = {}
    for task in ("deep-sigmoid", "deep-sigmoid-cured"):
        t = trainer(task, data_of(task), recipe="fp32")
        linears = [m for m in t.model.modules() if isinstance(m, torch.nn.Linear)]
        assert len(linears) == 24
        t.fit()
        accuracy[task] = t.history[-1]["test_accuracy"]
    print(accuracy)
    assert accuracy["deep-sigmoid"] < 0.2 and accuracy["deep-sigmoid-cured"] > 0.93


@pytest.mark.parametrize("task", ["digits-vit", "char-gpt", "mlp-regression"])
def test_model_and_rtl_train_the_same_weights(task):
    runs, data = {}, data_of(task, 2, 1)
    if task == "char-gpt":
        # Shorter windows: on so small an array every character takes a while.
        data = Data(*(part[:, :6] for part in (data.train_x, data.train_y, data.test_x, data.test_y)))
    for backend in ("model", "verilator"):
        t = trainer(task, data, backend, epochs=1, batch=1)
        t.fit()
        t.acc.close()
        runs[backend] = t.history[0]
    for name in ("weights", "train_loss", "test_loss", "macs"):
        assert runs["model"][name] == runs["verilator"][name], name


# Text.

def test_windows_predict_the_next_byte_and_hold_the_end_out():
    text = bytes(np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8))
    x, y, test_x, test_y = windows(text)
    assert x.shape == y.shape == (2700 - CONTEXT, CONTEXT) and x.dtype == torch.int64
    for start in (0, 1, 2635):
        assert bytes(x[start].tolist()) == text[start:start + CONTEXT]
        assert bytes(y[start].tolist()) == text[start + 1:start + 1 + CONTEXT]
    assert bytes(test_x[0].tolist()) == text[2700:2700 + CONTEXT]
    assert bytes(test_y[-1].tolist()) == text[-CONTEXT:]
    assert x.untyped_storage().nbytes() == 3000 * 8, "views, no copies"


def test_every_byte_of_a_text_is_in_the_digest():
    text = bytearray(np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8))
    digests = {Data(*windows(bytes(text))).digest}
    for place in (0, 1500, 2699, 2700, 2999):
        other = text.copy()
        other[place] ^= 1
        digests.add(Data(*windows(bytes(other))).digest)
    assert len(digests) == 6


def test_default_text_is_the_standard_library():
    text = read_text(None)
    assert 500_000 < len(text) < 1_500_000 and list(MODULES) == sorted(MODULES)
    assert text == b"".join(Path(sys.modules[name].__file__).read_bytes() if name in sys.modules
                            else Path(__import__(name).__file__).read_bytes() for name in MODULES)


def test_own_text_is_learnt(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("Zwölf Boxkämpfer jagen Viktor. ".encode() * 60)
    data = load("text", path, 0)
    assert len(data.test_x) > 1
    t = trainer("char-gpt", data, epochs=1, batch=4, lr=3e-3, recipe="fp32")
    assert t.fit() and t.history[0]["test_loss"] < 2


def test_unusable_text_is_named(tmp_path):
    (tmp_path / "short").write_bytes(b"x" * 1299)
    with pytest.raises(ValueError, match="short has 1,299 bytes, at least 1,300 are needed"):
        load("text", tmp_path / "short", 0)
    with pytest.raises(ValueError, match="is a text file: .* is not one"):
        load("text", tmp_path, 0)
    with pytest.raises(ValueError, match="the others need none: got short"):
        load("friedman", Path("short"), 0)
    (tmp_path / "short").write_bytes(b"x" * 1300)
    load("text", tmp_path / "short", 0)


# Steps.

def test_adamw_cosine_and_clipping_are_plain_pytorch_bit_for_bit():
    data = data_of("char-gpt", 40, 4)
    ours = trainer("char-gpt", data, recipe="fp32", epochs=2, batch=16, lr=3e-3, seed=3)
    ours.fit()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = TASKS["char-gpt"].network()
        decayed = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() == 1]
        optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1},
                                       {"params": rest, "weight_decay": 0}], 1.0, betas=(0.9, 0.99))
        step, losses = 0, []
        for epoch in range(2):
            order = torch.randperm(40, generator=torch.Generator().manual_seed((3 << 20) + epoch))
            for batch in order.split(16):
                for group in optimiser.param_groups:
                    # Of six steps the first is the twentieth in which the rate rises.
                    group["lr"] = 3e-3 * (1 if step == 0 else 0.05 + 0.95 * (
                        1 + math.cos(math.pi * (step - 1) / 5)) / 2)
                optimiser.zero_grad()
                logits = model(data.train_x[batch])
                loss = F.cross_entropy(logits.view(-1, 256), data.train_y[batch].reshape(-1))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                losses.append(loss.item() * len(batch))
                step += 1
        torch.set_num_threads(threads)
    assert ours.history[1]["train_loss"] == sum(losses[3:]) / 40
    assert digest(model) == digest(ours.model)


def test_rate_rises_then_falls_as_a_cosine():
    settings = Settings(task="char-gpt", lr=2.0)
    rates = [rate(settings, step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0]) and rates[5] == 2.0
    assert all(a > b for a, b in zip(rates[5:], rates[6:], strict=False))
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert {rate(Settings(task="digits-mlp"), step, 10) for step in range(10)} == {0.1}


@pytest.mark.parametrize("task", ["digits-cnn", "char-gpt"])
def test_workers_change_no_bit_even_across_a_stop(task, tmp_path):
    """Dropout draws from the same generator as ever, whoever loads the images."""
    data, options = data_of(task, 30, 8), dict(epochs=2, batch=8, seed=4)
    here = trainer(task, data, **options)
    here.fit()
    for first, second in ((2, 0), (0, 2)):
        steps, there = [], trainer(task, data, workers=first, **options)
        assert not there.fit(on_step=lambda: steps.append(0), stop=lambda: len(steps) == 6)  # noqa: B023
        Run(tmp_path).save(there)
        there = trainer(task, data, workers=second, **options)
        Run(tmp_path).restore(there)
        assert there.fit() and timeless(there.history) == timeless(here.history)


def test_parts_of_a_batch_give_the_gradient_of_the_whole():
    data = data_of("digits-mlp", 100, 40)
    whole, parts = (trainer("digits-mlp", data, recipe="fp32", epochs=1, batch=37, accumulate=n)
                    for n in (1, 5))
    calls = []
    parts.model.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    for t in (whole, parts):
        t.fit()
    # Batches of 37, 37 and 26 images, then the test.
    assert calls == [8, 8, 7, 7, 7] * 2 + [6, 5, 5, 5, 5] + [40]
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for name in ("train_loss", "test_loss", "train_accuracy"):
        assert parts.history[0][name] == pytest.approx(whole.history[0][name], rel=1e-5)
    assert parts.history[0]["step"] == 3


def test_clipping_bounds_the_step():
    def moved(**options):
        t = trainer("digits-mlp", data_of("digits-mlp", 32, 8), recipe="fp32", epochs=1, batch=32,
                    lr=0.5, momentum=0, weight_decay=0, **options)
        before = [p.detach().clone() for p in t.model.parameters()]
        t.fit()
        return math.hypot(*(float((p.detach() - b).norm()) for p, b in
                            zip(t.model.parameters(), before, strict=True))) / 0.5

    free = moved()
    assert moved(clip=free * 2) == free
    assert moved(clip=free / 8) == pytest.approx(free / 8, rel=1e-5)


@pytest.mark.parametrize(("break_", "recipe", "match"), [
    (lambda t: t.model[3].weight.data.fill_(math.nan), "int8",
     r"step 2: the loss is nan, and the gradient of '1.weight' is the first that is not finite. The "
     r"weights are those of the step before; try a lower lr than 0.1, or clip"),
    (lambda t: t.model[-1].bias.data.fill_(math.inf), "fp32", "step 2: the loss is (nan|inf), and"),
    (lambda t: t.model[3].weight.register_hook(lambda g: g * math.inf), "fp32",
     r"step 2: the loss is 2\.\d+, and the gradient of '3.weight' is the first"),
])
def test_run_stops_when_it_is_not_finite(tmp_path, break_, recipe, match):
    t = trainer("digits-mlp", data_of("digits-mlp", 64, 8), recipe=recipe, epochs=1, batch=16)
    steps, run = [], Run(tmp_path)

    def after_step():
        steps.append(0)
        run.save(t)
        break_(t)

    with pytest.raises(NotFiniteError, match=match):
        t.fit(on_step=after_step)
    assert len(steps) == 1
    state = torch.load(run.checkpoint, weights_only=True)
    assert all(tensor.isfinite().all() for tensor in state["model"].values()) and state["position"] == 16
    if t.model[3].weight.isfinite().all():      # not what has been broken here
        np.testing.assert_array_equal(t.model[3].weight.detach(), state["model"]["3.weight"])


def test_exploding_last_step_is_found_in_the_evaluation():
    t = trainer("digits-mlp", data_of("digits-mlp", 16, 8), recipe="fp32", epochs=1, batch=16, lr=1e30)
    with pytest.raises(NotFiniteError, match="step 1: the test loss is (nan|inf); try a lower lr"):
        t.fit()
    assert not t.history


# Overrides.

def test_override_is_another_recipe_for_a_layer():
    weights = {}
    for overrides in ({}, {"1": "fp32"}, {"*": "fp32"}, {"1": "fp32", "*": "int8"}):
        t = trainer("digits-mlp", data_of("digits-mlp", 32, 8), epochs=1, batch=16, overrides=overrides)
        t.fit()
        weights[json.dumps(overrides)] = t.history[0]["weights"], t.history[0]["macs"]
    plain, first, all_, both = weights.values()
    assert plain[1] - first[1] == 32 * 2 * 64 * 128 and all_[1] == 0 and both == first
    assert len({plain, first, all_}) == 3
    assert not Settings(task="digits-mlp", overrides={"*": "fp32"}, recipe="fp32").offloads
    assert Settings(task="digits-mlp", overrides={"1": "int8"}, recipe="fp32").offloads


def command(monkeypatch, capsys, *arguments):
    """Exit code and stderr of ``backbeat train`` on the model."""
    monkeypatch.setattr(sys, "argv", ["backbeat", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, capsys.readouterr().err


def test_overrides_are_kept_in_the_run(monkeypatch, capsys, tmp_path):
    base = ("--task", "digits-mlp", "--backend", "model", "--epochs", 1, "--out", tmp_path)
    code, _ = command(monkeypatch, capsys, *base, "--override", "1=fp32", "--override", "[35]=int8_dw16")
    settings = Run(tmp_path).settings()
    assert code == 0 and settings.overrides == {"1": "fp32", "[35]": "int8_dw16"}
    assert hash(settings) == hash(Settings(**json.loads((tmp_path / "config.json").read_text())))
    code, error = command(monkeypatch, capsys, "--resume", tmp_path, "--override", "1=int8")
    assert code == 1 and "overrides cannot change in a run" in error
    code, _ = command(monkeypatch, capsys, "--resume", tmp_path, "--epochs", 2)
    assert code == 0 and Run(tmp_path).settings().overrides == settings.overrides


@pytest.mark.parametrize(("arguments", "match"), [
    (("--override", "1"), "--override must be PATTERN=RECIPE, got '1'"),
    (("--override", "1=int4"), "override '1': recipe must be one of"),
    (("--override", "nowhere=fp32"), "no layer matches 'nowhere'; layers are 0, 1"),
    (("--optimiser", "adam"), "optimiser must be one of sgd, adamw, got 'adam'"),
    (("--schedule", "step"), "schedule must be one of constant, cosine, got 'step'"),
    (("--accumulate", 65), "accumulate must be at most the batch of 64, got 65"),
    (("--clip", "inf"), "clip must be 0...inf, got inf"),
])
def test_bad_option_is_named(monkeypatch, capsys, tmp_path, arguments, match):
    code, error = command(monkeypatch, capsys, "--backend", "model", "--out", tmp_path, *arguments)
    assert code == 1 and match in error and error.count("\n") == 1, error


def test_length_of_a_run_with_a_cosine_is_fixed(monkeypatch, capsys, tmp_path):
    code, _ = command(monkeypatch, capsys, "--task", "mlp-regression", "--recipe", "fp32", "--epochs", 2,
                      "--out", tmp_path)
    assert code == 0
    code, error = command(monkeypatch, capsys, "--resume", tmp_path, "--epochs", 3)
    assert code == 1 and "epochs cannot change in a run with schedule cosine" in error
