"""A training process that is killed again and again, and resumed each time."""

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from .tally import Tally

__all__ = ["kills"]

#: Kills of a whole campaign and of a short one.
KILLS, SHORT = 20, 4
#: Checkpoints that a process has written when it is killed: one when it begins or goes on, then one for
#: each step. An epoch has 12 steps, so the run is long enough for all of them.
WRITTEN, EPOCHS, SHORT_EPOCHS = (0, 2, 3, 4, 5), 10, 2
#: Seconds behind a checkpoint in which the kill falls: a step and the writing of the next one.
BEHIND = 0.05


def kills(config: str, rng, tally: Tally, short: bool = False):
    """SIGKILL at random moments of a run, between its steps and while it writes a checkpoint, which it
    does after each; resumed each time it ends in the weights, the optimiser's state and the figures of a
    run that nobody has disturbed, bit for bit."""
    count = SHORT if short else KILLS
    tally.expect(count)
    # Forked from a process that has imported everything: each kill hits the training, not PyTorch's
    # imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tb.faults.training", "backbeat.cli.train", "backbeat.train",
                                     "sklearn.datasets", "torch._dynamo"])
    with tempfile.TemporaryDirectory() as folder:
        whole, run = Path(folder) / "whole", Path(folder) / "run"
        begin = ["--task", "digits-mlp", "--backend", "model", "--config", config, "--batch", "128",
                 "--epochs", str(SHORT_EPOCHS if short else EPOCHS),
                 "--seed", str(int(rng.integers(2**16)))]
        assert _finished(context, [*begin, "--out", str(whole)]), "the undisturbed run failed"
        done = 0
        while done < count:
            arguments = _next(begin, run)
            process = context.Process(target=_train, args=(arguments,))
            most = int(rng.choice(WRITTEN))
            with tally.position(f"kill {done} of {begin}"):
                process.start()
                _wait_for(process, run / "checkpoint.pt", most)
                time.sleep(float(rng.uniform(0, BEHIND)))
                process.kill()
                process.join()
                assert process.exitcode in (-9, 0), f"the run ended with {process.exitcode}"
                tally.faults += process.exitcode == -9
            done += 1
        with tally.position("the run that was killed", 0):
            assert _finished(context, _next(begin, run)), "the run cannot be finished"
            _compare(whole, run)


def _next(begin: list[str], run: Path) -> list[str]:
    """Resumes the run, if there is one already."""
    return (["--resume", str(run)] if (run / "checkpoint.pt").exists() else [*begin, "--out", str(run)])


def _train(arguments: list[str]):
    """In a process of its own: the command, with a checkpoint after every step."""
    from backbeat import cli
    from backbeat.cli import train

    train.CHECKPOINT_S = -1
    sys.argv = ["backbeat", "train", *arguments]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        cli.main()


def _finished(context, arguments: list[str]) -> bool:
    process = context.Process(target=_train, args=(arguments,))
    process.start()
    process.join()
    return process.exitcode == 0


def _wait_for(process, checkpoint: Path, count: int):
    """Until so many have been written, or the process has ended."""
    last, seen = _inode(checkpoint), 0
    while seen < count and process.is_alive():
        now = _inode(checkpoint)
        seen, last = seen + (now != last), now
        time.sleep(0.001)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _compare(whole: Path, run: Path):
    """
    Raises
    ------
    AssertionError
        Says what differs.
    """
    one, other = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, run))
    for state in (one, other):
        for metrics in (*state["history"], state["sums"]):
            del metrics["seconds"]
    difference = _difference(one, other, "checkpoint")
    assert not difference, difference
    left = sorted(path.name for path in run.iterdir())
    assert left == sorted(path.name for path in whole.iterdir()), f"left behind: {left}"


def _difference(one, other, name: str) -> str:
    """Where two states differ; empty if nowhere."""
    if isinstance(one, torch.Tensor):
        return "" if torch.equal(one, other) else f"{name} differs"
    if isinstance(one, dict) and one.keys() == other.keys():
        return next(filter(None, (_difference(one[k], other[k], f"{name}.{k}") for k in one)), "")
    if isinstance(one, list | tuple) and len(one) == len(other):
        return next(filter(None, (_difference(a, b, f"{name}[{n}]")
                                  for n, (a, b) in enumerate(zip(one, other, strict=True)))), "")
    return "" if one == other else f"{name} is {other}, expected {one}"
