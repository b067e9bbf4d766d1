"""Checkpoints that cannot be written, are damaged, or come from somebody who means harm."""

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import backbeat
from backbeat.files import is_whole, remember, write_atomically
from backbeat.train import Run, Settings, Trainer
from backbeat.train.data import Data, load

OPTIONS = ("--task", "digits-mlp", "--backend", "model", "--config", "4x4", "--batch", "128")


@pytest.fixture(scope="module")
def trainer():
    digits = load("digits", None, 0)
    data = Data(digits.train_x[:64], digits.train_y[:64], digits.test_x[:32], digits.test_y[:32])
    trainer = Trainer(Settings(task="digits-mlp", backend="model", config="4x4", epochs=1, batch=32),
                      data, backbeat.open("model", "4x4"))
    trainer.fit()
    return trainer


@pytest.fixture
def run(trainer, tmp_path) -> Run:
    run = Run(tmp_path / "run")
    run.create(trainer.settings, overwrite=False)
    run.save(trainer)
    return run


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def train(*arguments, largest: "int | None" = None) -> subprocess.CompletedProcess:
    """The command in a process that may write files of ``largest`` bytes: beyond that a write fails, as
    on a disk that is full."""
    def limit():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    # A cache of bytecode would be cut off, too.
    return subprocess.run([sys.executable, "-m", "backbeat", "train", *map(str, arguments)],
                          capture_output=True, text=True, preexec_fn=limit,
                          env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})


def test_full_disk_is_an_error_and_leaves_the_last_checkpoint(tmp_path):
    out, whole = tmp_path / "run", tmp_path / "whole"
    assert train(*OPTIONS, "--epochs", 1, "--out", out).returncode == 0
    before = files(out)
    # config.json can be written, half of a checkpoint, too.
    full = train("--resume", out, "--epochs", 2, largest=len(before["checkpoint.pt"]) // 2)
    assert full.returncode == 1 and full.stderr.startswith("backbeat: [Errno"), full.stderr
    assert len(full.stderr.splitlines()) == 1, full.stderr
    assert f"{out}/checkpoint.pt" in full.stderr and "File too large" in full.stderr, full.stderr
    after = files(out)
    assert after.keys() == before.keys(), "nothing half written is left behind"
    assert after["checkpoint.pt"] == before["checkpoint.pt"]
    resumed = train("--resume", out, "--epochs", 2)
    undisturbed = train(*OPTIONS, "--epochs", 2, "--out", whole)
    weights = [next(line for line in result.stdout.splitlines() if line.startswith("weights"))
               for result in (resumed, undisturbed)]
    assert weights[0] == weights[1]


def test_device_without_room_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    """A real ENOSPC: the temporary file is /dev/full."""
    target = tmp_path / "checkpoint.pt"
    write_atomically(target, b"the last one")

    def full(dir, prefix):
        path = f"{dir}/{prefix}12345678"
        os.symlink("/dev/full", path)
        return os.open(path, os.O_WRONLY), path

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(OSError, match=f"No space left on device: '{target}'"):
        write_atomically(target, b"x" * 100_000)
    assert files(tmp_path) == {"checkpoint.pt": b"the last one"}


def test_every_truncation_is_named(run, trainer):
    whole = run.checkpoint.read_bytes()
    for length in {0, 1, 30, len(whole) // 3, len(whole) - 23, len(whole) - 1}:
        run.checkpoint.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{run.checkpoint} is broken"):
            run.restore(trainer)


def test_no_flipped_bit_changes_what_is_resumed(run, trainer):
    """Most are in a tensor, where PyTorch itself would not notice."""
    whole, state = run.checkpoint.read_bytes(), trainer.state_dict()
    rng, noticed = np.random.default_rng(4), 0
    for at in rng.integers(len(whole), size=60).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        run.checkpoint.write_bytes(bytes(damaged))
        try:
            run.restore(trainer)
        except ValueError as error:
            assert str(error).startswith(f"{run.checkpoint} is broken")
            noticed += 1
        again = io.BytesIO(), io.BytesIO()
        for target, content in zip(again, (state, trainer.state_dict()), strict=True):
            torch.save(content, target)
        assert again[0].getvalue() == again[1].getvalue(), f"byte {at} of {len(whole)}"
    assert noticed > 50


class Harm:
    """What a pickle does that is loaded without care."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_carries_out_no_code(run, trainer, tmp_path):
    torch.save(trainer.state_dict() | {"history": Harm(tmp_path / "harm")}, run.checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint.pt is broken \(UnpicklingError\)"):
        run.restore(trainer)
    assert not (tmp_path / "harm").exists()
    # That it would have, the other way:
    torch.load(run.checkpoint, weights_only=False)
    assert (tmp_path / "harm").exists()


def test_what_a_killed_process_left_half_written_is_removed(run, trainer):
    for name in ("checkpoint.pt", "metrics.jsonl", "config.json"):
        (run.directory / f".{name}-abcd1234").write_bytes(b"half")
    (run.directory / ".notes").write_text("somebody's own")
    run.settings()
    assert {path.name for path in run.directory.iterdir()} == {
        "checkpoint.pt", "metrics.jsonl", "config.json", ".notes"}


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-1], lambda data: data + b"\0",
                                    lambda data: b"\0" + data[1:]])
def test_damage_to_a_cached_file_is_known(tmp_path, change):
    built, target = tmp_path / "built", tmp_path / "library.so"
    built.write_bytes(bytes(range(1, 256)))
    assert not is_whole(target)
    remember(built, target)
    assert is_whole(target) and not built.exists()
    target.write_bytes(change(target.read_bytes()))
    assert not is_whole(target)
