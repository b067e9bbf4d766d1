"""Training: data, the loop, stopping and going on, and the command line."""

import copy
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import backbeat
from backbeat import cli
from backbeat.train import TASKS, Run, Settings, Trainer
from backbeat.train.data import Data, load
from backbeat.train.idx import read_idx
from backbeat.train.trainer import digest


@pytest.fixture(scope="module")
def digits():
    return load("digits", None, 0)


def trainer(data, task="digits-cnn", backend="model", config="4x4", **options):
    settings = Settings(task=task, backend=backend, config=config, **options)
    return Trainer(settings, data, backbeat.open(backend, config))


def small(data, train=96, test=40):
    return Data(data.train_x[:train], data.train_y[:train], data.test_x[:test], data.test_y[:test])


def timeless(history):
    return [{k: v for k, v in metrics.items() if k != "seconds"} for metrics in history]


# Data.

def idx(array):
    return (bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
            + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("name", ["x-idx3-ubyte", "x-idx3-ubyte.gz"])
def test_idx_file_is_read(tmp_path, name):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4), dtype=np.uint8)
    path = tmp_path / name
    path.write_bytes(gzip.compress(idx(images), mtime=0) if name.endswith("gz") else idx(images))
    np.testing.assert_array_equal(read_idx(path, 3), images)


GOOD = idx(np.zeros((5, 3, 4)))


@pytest.mark.parametrize(("data", "match", "name"), [
    (b"\x89PNG" + GOOD[4:], "x is not an IDX file of 3 dimensions: it begins with 89504e47, expected "
     "00000803", "x"),
    (b"\0\0\x08\x01" + GOOD[4:], "begins with 00000801", "x"),
    (b"\0\0\x0d\x03" + GOOD[4:], "begins with 00000d03", "x"),
    (b"", "begins with nothing", "x"),
    (GOOD[:-1], "x has 75 bytes, but its header says 76", "x"),
    (GOOD + b"\0", "x has 77 bytes, but its header says 76", "x"),
    (GOOD[:11], "x has 11 bytes, but its header alone has 16", "x"),
    (gzip.compress(GOOD, mtime=0)[:-9], "x.gz is not a whole gzip file", "x.gz"),
    (gzip.compress(GOOD, mtime=0)[:15] + b"\xff" * 20, "x.gz is not a whole gzip file", "x.gz"),
    (GOOD, "x.gz is not a whole gzip file", "x.gz"),
])
def test_broken_idx_file_is_named(tmp_path, data, match, name):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=match):
        read_idx(tmp_path / name, 3)


def mnist(directory, part, count, size=28, labels=None, seed=0, mark="-", end=""):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10 if labels is None else labels
    pack = gzip.compress if end else bytes
    for kind, array in (("images-idx3", rng.integers(0, 256, (count, size, size))),
                        ("labels-idx1", labels)):
        name = f"{part}-{kind}-ubyte{end}".replace("-idx", f"{mark}idx")
        (directory / name).write_bytes(pack(idx(np.asarray(array))))


def test_mnist_with_a_test_part_is_not_split(tmp_path):
    mnist(tmp_path, "train", 40)
    mnist(tmp_path, "t10k", 20, seed=1, mark=".", end=".gz")
    data = load("mnist", tmp_path, 0)
    assert data.train_x.shape == (40, 1, 28, 28) and data.test_x.shape == (20, 1, 28, 28)
    assert data.train_y.tolist() == [*range(10)] * 4
    assert abs(float(data.train_x.mean())) < 1e-5 and abs(float(data.train_x.std()) - 1) < 1e-4


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_mnist_of_one_part_is_split_by_seed(tmp_path, part):
    mnist(tmp_path, part, 50)
    data, again, other = (load("mnist", tmp_path, seed) for seed in (3, 3, 4))
    assert (len(data.train_x), len(data.test_x)) == (40, 10)
    assert sorted(data.test_y.tolist()) == [*range(10)]
    assert data.digest == again.digest != other.digest


def test_digits_are_split_and_normalised():
    data = load("digits", None, 1)
    assert data.train_x.shape == (1437, 1, 8, 8) and data.test_x.shape == (360, 1, 8, 8)
    shares = [y.bincount(minlength=10) / len(y) for y in (data.train_y, data.test_y)]
    assert (shares[0] - shares[1]).abs().max() < 0.003
    assert abs(float(data.train_x.mean())) < 1e-5 and abs(float(data.train_x.std()) - 1) < 1e-3
    assert data.digest != load("digits", None, 2).digest


@pytest.mark.parametrize(("match", "make"), [
    ("no MNIST in .*: looked for train-images-idx3-ubyte and .*https://", lambda d: None),
    ("has 30 images, .* has 31 labels", lambda d: mnist(d, "train", 30, labels=np.zeros(31))),
    ("has 0 images", lambda d: mnist(d, "train", 0)),
    ("images of 27 x 27 pixels, expected 28 x 28", lambda d: mnist(d, "t10k", 30, size=27)),
    ("has a label 10, expected 0...9", lambda d: mnist(d, "train", 11, labels=np.arange(11))),
])
def test_unusable_mnist_is_named(tmp_path, match, make):
    make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        load("mnist", tmp_path, 0)


# Training.

def test_fp32_is_plain_pytorch_bit_for_bit(digits):
    ours = trainer(digits, recipe="fp32", epochs=2, batch=100, seed=5)
    ours.fit()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = TASKS["digits-cnn"].network()
        optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.8, weight_decay=1e-4)
        for epoch in range(2):
            order = torch.randperm(1437, generator=torch.Generator().manual_seed((5 << 20) + epoch))
            total = 0.0
            for batch in order.split(100):
                optimiser.zero_grad()
                loss = F.cross_entropy(model(digits.train_x[batch]), digits.train_y[batch])
                loss.backward()
                optimiser.step()
                total += loss.item() * len(batch)
            assert ours.history[epoch]["train_loss"] == total / 1437
    torch.set_num_threads(threads)
    assert [type(m) for m in model] == [type(m) for m in ours.model]
    assert digest(model) == digest(ours.model)
    accuracy = (model.eval()(digits.test_x).argmax(1) == digits.test_y).double().mean()
    assert ours.history[-1]["test_accuracy"] == float(accuracy)


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_mlp_learns_as_well_in_int8(digits, seed):
    accuracy = {}
    for recipe in ("int8", "fp32"):
        t = trainer(digits, "digits-mlp", recipe=recipe, seed=seed)
        assert t.fit() and t.epoch == 10
        accuracy[recipe] = t.history[-1]["test_accuracy"]
    print(accuracy)
    assert accuracy["int8"] >= 0.97
    assert accuracy["int8"] >= accuracy["fp32"] - 0.005


def test_products_are_counted(digits):
    t = trainer(small(digits, train=40), "digits-mlp", epochs=1, batch=16)
    t.fit()
    layers = [(64, 128), (128, 64), (64, 10)]
    # Forward and weight gradient of each, input gradient of all but the first.
    assert t.history[0]["macs"] == 40 * (3 * sum(k * n for k, n in layers) - 64 * 128)
    assert t.history[0]["step"] == 3
    assert t.history[0]["cycles"] == 0 and t.history[0]["utilisation"] is None


@pytest.mark.parametrize("task", ["digits-mlp", "digits-cnn"])
def test_model_and_rtl_train_the_same_weights(digits, task):
    runs = {}
    for backend in ("model", "verilator"):
        t = trainer(small(digits, train=36, test=20), task, backend, epochs=1, batch=16)
        t.fit()
        t.acc.close()
        runs[backend] = t.history
    clocked = runs["verilator"][0]
    assert clocked["cycles"] * 16 * clocked["utilisation"] == pytest.approx(clocked["macs"])
    for metric in ("weights", "train_loss", "test_loss", "test_accuracy", "macs"):
        assert runs["model"][0][metric] == clocked[metric], metric


def test_runs_differ_by_seed_only(digits):
    a, b, c = (trainer(small(digits), epochs=1, seed=seed) for seed in (1, 1, 2))
    for t in (a, b, c):
        t.fit()
    assert timeless(a.history) == timeless(b.history)
    assert a.history[0]["weights"] != c.history[0]["weights"]


@pytest.mark.parametrize("stop_at", [1, 5, 6, 9])
def test_stopped_run_goes_on_to_the_same_bits(digits, tmp_path, stop_at):
    """6 steps an epoch; at the sixth the stop comes before the evaluation."""
    data, options = small(digits), dict(epochs=2, batch=16, seed=3)
    whole = trainer(data, **options)
    assert whole.fit()

    first, steps = trainer(data, **options), []
    assert not first.fit(on_step=lambda: steps.append(0), stop=lambda: len(steps) == stop_at)
    assert first.position == (stop_at % 6 or 6) * 16 and first.epoch == (stop_at - 1) // 6
    run = Run(tmp_path)
    run.save(first)
    torch.manual_seed(99)       # nothing may depend on what the process has drawn before
    second = trainer(data, **options)
    run.restore(second)
    assert second.fit()
    assert second.history[-1]["weights"] == whole.history[-1]["weights"]
    assert timeless(second.history) == timeless(whole.history)
    momentum = [t.optimiser.state_dict()["state"][0]["momentum_buffer"] for t in (whole, second)]
    np.testing.assert_array_equal(*momentum)


def test_stop_during_evaluation_loses_nothing(digits):
    whole, broken = (trainer(digits, epochs=1, batch=500) for _ in range(2))
    whole.fit()
    asked = []
    # Asked after each of 3 steps, then before each of 2 batches of the evaluation.
    assert not broken.fit(stop=lambda: asked.append(0) or len(asked) == 5)
    assert broken.position == 1437 and broken.epoch == 0
    assert broken.fit()
    assert timeless(broken.history) == timeless(whole.history)


def test_training_leaves_the_process_as_it_was(digits):
    seen = []
    threads, rng = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        t = trainer(small(digits), epochs=1)
        t.fit(on_step=lambda: seen.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 2 and set(seen) == {1}
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(torch.get_rng_state(), rng)


def test_digest_sees_every_bit_of_parameters_and_buffers():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    twin = copy.deepcopy(model)
    assert digest(model) == digest(twin) and re.fullmatch("[0-9a-f]{12}", digest(model))
    twin[1].running_mean[1] += 1e-7
    assert digest(model) != digest(twin)


def test_checkpoint_of_other_data_is_refused(digits, tmp_path):
    run = Run(tmp_path)
    run.save(trainer(digits))
    with pytest.raises(ValueError, match="cannot resume .*: the data are not those"):
        run.restore(trainer(small(digits)))


@pytest.mark.parametrize("change", [lambda data: data[:len(data) // 2], lambda data: b"",
                                    lambda data: b"nonsense"])
def test_broken_checkpoint_is_named(digits, tmp_path, change):
    run = Run(tmp_path)
    run.save(trainer(digits))
    run.checkpoint.write_bytes(change(run.checkpoint.read_bytes()))
    with pytest.raises(ValueError, match="checkpoint.pt is broken"):
        run.restore(trainer(digits))


def test_broken_config_is_named(digits, tmp_path):
    run = Run(tmp_path)
    run.create(Settings(task="digits-mlp"), overwrite=False)
    with pytest.raises(FileNotFoundError, match="no run to resume in .*: no checkpoint.pt"):
        run.settings()
    run.save(trainer(digits))
    assert run.settings() == Settings(task="digits-mlp")
    for text in ("{", '{"tusk": 1}', '{"task": "digits-mlp", "lr": "x"}', "[]"):
        run.config.write_text(text)
        with pytest.raises(ValueError, match="config.json is broken"):
            run.settings()


@pytest.mark.parametrize(("match", "options"), [
    ("task must be one of digits-mlp, .* got 'cifar'", dict(task="cifar")),
    ("backend must be one of .* or litex:ADDRESS, got .gpu.", dict(backend="gpu")),
    ("config must be one of", dict(config="1x1")),
    ("recipe must be one of", dict(recipe="int4")),
    ("epochs must be 1...1000000, got 0", dict(epochs=0)),
    ("lr must be 0...inf, got nan", dict(lr=float("nan"))), ("lr must be", dict(lr=float("inf"))),
    ("momentum must be 0...1, got 1.5", dict(momentum=1.5)), ("seed must be", dict(seed=-1)),
])
def test_bad_setting_is_named(match, options):
    with pytest.raises(ValueError, match=match):
        Settings(**{"task": "digits-mlp"} | options)


def test_a_soc_is_a_backend_to_train_on():
    """As far as that here: what it takes to reach one is in test_litex.py and test_nexys_a7.py."""
    assert Settings(task="digits-mlp", backend="litex:udp:board").backend == "litex:udp:board"


# The command line.

def command(monkeypatch, capsys, *arguments):
    """Exit code, lines of stdout, lines of stderr of ``backbeat train``."""
    monkeypatch.setattr(sys, "argv", ["backbeat", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr()
    return ended.value.code or 0, out.out.splitlines(), out.err.splitlines()


RUN = ("--task", "digits-cnn", "--backend", "model", "--config", "4x4", "--batch", "128")


def metrics_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_command_writes_the_run(monkeypatch, capsys, tmp_path):
    out, report = tmp_path / "run", tmp_path / "report.json"
    code, lines, _ = command(monkeypatch, capsys, *RUN, "--epochs", 2, "--out", out, "--json", report)
    assert code == 0
    assert re.fullmatch(r"digits-cnn int8 on model 4x4: test accuracy \d+\.\d\d %, 2 epochs, "
                        rf"\d+\.\d s -> {out}", lines[-1])
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", "config.json", "curves.png",
                                                     "metrics.jsonl"]
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    metrics, figures = metrics_of(out), json.loads(report.read_text())
    assert [m["epoch"] for m in metrics] == [1, 2]
    assert {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "cycles", "macs",
            "utilisation", "seconds", "weights"} <= metrics[0].keys()
    assert lines[-2] == f"weights {metrics[1]['weights']}"
    assert figures["macs"] == metrics[0]["macs"] + metrics[1]["macs"] and figures["seed"] == 0
    assert "seed 0" in lines[0]

    # Again: neither by mistake, nor with traces of the old run.
    code, _, errors = command(monkeypatch, capsys, *RUN, "--out", out)
    assert code == 1 and re.match(".*holds a run already: go on with --resume", errors[0])
    code, *_ = command(monkeypatch, capsys, *RUN, "--epochs", 1, "--out", out, "--overwrite")
    assert code == 0 and timeless(metrics_of(out)) == timeless(metrics[:1])

    # And on, to the same end.
    code, lines, _ = command(monkeypatch, capsys, "--resume", out, "--epochs", 2)
    assert code == 0 and timeless(metrics_of(out)) == timeless(metrics)
    code, lines, errors = command(monkeypatch, capsys, "--resume", out, "--epochs", 1)
    assert code == 1 and errors == ["backbeat: epochs must be at least the 2 that are complete, got 1"]
    code, lines, errors = command(monkeypatch, capsys, "--resume", out, "--lr", 1)
    assert code == 1 and errors == ["backbeat: lr cannot change in a run: it is 0.05, got 1.0"]


def test_checkpoints_are_written_within_an_epoch(monkeypatch, capsys, tmp_path):
    positions = []
    save = Run.save

    def note(run, trainer):
        positions.append(trainer.position)
        save(run, trainer)

    monkeypatch.setattr(Run, "save", note)
    command(monkeypatch, capsys, *RUN, "--epochs", 1, "--out", tmp_path / "minute")
    assert positions == [0, 0], "at the start and the end; no minute has passed"
    monkeypatch.setattr("backbeat.cli.train.CHECKPOINT_S", -1)
    command(monkeypatch, capsys, *RUN, "--epochs", 1, "--out", tmp_path / "step")
    assert positions[2:] == [0, *range(128, 1437, 128), 1437, 0]


def test_json_on_stdout_is_all_there_is(monkeypatch, capsys, tmp_path):
    code, lines, errors = command(monkeypatch, capsys, *RUN, "--recipe", "fp32", "--epochs", 1, "--out",
                                  tmp_path, "--json", "-")
    figures = json.loads("\n".join(lines))
    assert code == 0 and (figures["recipe"], figures["ranks"]) == ("fp32", 1)
    assert errors[-1].startswith("digits-cnn fp32 by PyTorch: test accuracy")


@pytest.mark.parametrize(("arguments", "match"), [
    (["--task", "cifar"], "task must be one of"),
    (["--task", "mnist-mlp"], "MNIST needs --data DIRECTORY: looked for"),
    (["--task", "mnist-mlp", "--data", "nowhere"], "no MNIST in nowhere"),
    (["--data", "somewhere"], "--data is for the mnist tasks and char-gpt"),
    (["--resume", "nowhere"], "no run to resume in nowhere"),
    (["--resume", "nowhere", "--overwrite"], "no --out, no --overwrite"),
    (["--lr", "1e30", "--backend", "model", "--epochs", "1"], "step 2: the loss is .* lower lr"),
])
def test_error_is_one_line(monkeypatch, capsys, tmp_path, arguments, match):
    monkeypatch.chdir(tmp_path)
    code, _, errors = command(monkeypatch, capsys, *arguments)
    assert code == 1 and len(errors) == 1 and re.match(f"backbeat: .*{match}", errors[0]), errors


def loads(pid):
    """Whether a process has another that loads, and has its handlers: SIGBUS is one of them."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        masks = [re.search(r"SigCgt:\t(\w+)", Path(f"/proc/{child}/status").read_text())[1]
                 for child in children]
    except OSError:
        return False
    return any(int(mask, 16) >> (signal.SIGBUS - 1) & 1 for mask in masks)


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)],
                         ids=["Ctrl-C in the first epoch", "SIGTERM in a later one"])
def test_stopped_command_leaves_a_run_that_goes_on_to_the_same_weights(monkeypatch, capsys, tmp_path,
                                                                       number, after):
    """The signal is for the processes that load, too, as from a terminal."""
    out = tmp_path / "run"
    options = (*RUN, "--task", "digits-mlp", "--batch", "16")
    process = subprocess.Popen(
        [sys.executable, "-m", "backbeat", "train", *options, "--epochs", "1000", "--workers", "1",
         "--out", out], stdout=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"})
    watchdog = threading.Timer(600, process.kill)      # so long only on a machine that is busy otherwise
    watchdog.start()
    for line in process.stdout:
        if line.startswith("epoch" if after else "batch"):
            break
    while process.poll() is None and not loads(process.pid):
        pass
    os.killpg(process.pid, number)
    rest = process.stdout.read().splitlines()
    watchdog.cancel()
    assert process.wait() == 128 + number
    stopped = re.fullmatch(r"stopped after (\d+) of 1437 images of epoch (\d+); go on with: "
                           rf"backbeat train --resume {out}", rest[-1])
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert [int(n) for n in stopped.groups()] == [state["position"], state["epoch"] + 1]
    epochs = len(metrics_of(out)) + 1
    assert epochs > after
    code, *_ = command(monkeypatch, capsys, "--resume", out, "--epochs", epochs)
    assert code == 0
    whole = tmp_path / "whole"
    command(monkeypatch, capsys, *options, "--epochs", epochs, "--out", whole)
    assert timeless(metrics_of(out)) == timeless(metrics_of(whole))
