"""The training loop. All that a step depends on is in its state, so it can stop between any two."""

import hashlib
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F

from ..accelerator import Accelerator
from ..torch import offload
from .data import Data
from .settings import Settings
from .tasks import TASKS, initialise

__all__ = ["Sums", "Trainer", "digest"]

#: Larger than in training: nothing is kept for a backward pass.
EVALUATION_BATCH = 256


def digest(model: nn.Module) -> str:
    """The first 12 digits of the SHA-256 of all parameters and buffers, in hex."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.contiguous().numpy())
    return sha.hexdigest()[:12]


@dataclass
class Sums:
    """Of the steps of an epoch."""

    images: int = 0
    correct: int = 0
    loss: float = 0.0
    cycles: int = 0
    macs: int = 0
    seconds: float = 0.0

    def metrics(self, array_macs: int) -> dict:
        """``seconds`` are of the training steps and of the evaluation so far."""
        return {"train_loss": self.loss / max(self.images, 1),
                "train_accuracy": self.correct / max(self.images, 1),
                "cycles": self.cycles, "macs": self.macs,
                "utilisation": self.macs / (self.cycles * array_macs) if self.cycles else None,
                "seconds": self.seconds}


@contextmanager
def _reproducible(rng: torch.Tensor | None = None):
    """One thread and random numbers of our own; both are the caller's again afterwards.

    The order of PyTorch's float sums depends on the number of threads. NumPy's products do not, but
    several threads at products as small as these only wait for each other on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"), torch.random.fork_rng(devices=[]):
            if rng is not None:
                torch.set_rng_state(rng)
            yield
    finally:
        torch.set_num_threads(threads)


class Trainer:
    """Trains a task's network.

    Parameters
    ----------
    settings : Settings
    data : Data
    acc : Accelerator

    Attributes
    ----------
    model : nn.Sequential
    report : OffloadReport
    epoch : int
        Epochs that are complete.
    position : int
        Images of the next one that have been trained on.
    sums : Sums
        Of the epoch begun.
    history : list of dict
        Metrics of the complete epochs.
    """

    def __init__(self, settings: Settings, data: Data, acc: Accelerator):
        self.settings, self.data, self.acc = settings, data, acc
        with _reproducible():
            torch.manual_seed(settings.seed)
            self.model = TASKS[settings.task].network()
            initialise(self.model)
            self.rng = torch.get_rng_state()
        self.report = offload(self.model, acc, settings.recipe, settings.seed)
        self.optimiser = torch.optim.SGD(self.model.parameters(), settings.lr,
                                         momentum=settings.momentum,
                                         weight_decay=settings.weight_decay)
        self.epoch = self.position = 0
        self.sums, self.history = Sums(), []

    def fit(self, on_step: Callable[[], None] = lambda: None,
            on_epoch: Callable[[], None] = lambda: None,
            stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains up to ``settings.epochs``.

        Parameters
        ----------
        on_step, on_epoch : callable
            Called after each.
        stop : callable
            Asked after each step; a later ``fit`` goes on as if there had been no break.

        Returns
        -------
        bool
            Whether it has come to the end.
        """
        images = len(self.data.train_x)
        with _reproducible(self.rng):
            while self.epoch < self.settings.epochs:
                order = torch.randperm(images, generator=torch.Generator().manual_seed(
                    (self.settings.seed << 20) + self.epoch))
                while self.position < images:
                    self._step(order[self.position:self.position + self.settings.batch])
                    on_step()
                    if stop():
                        return False
                start = time.perf_counter()
                test = self.evaluate(stop)
                if test is None:
                    return False
                self.sums.seconds += time.perf_counter() - start
                self.epoch, self.position = self.epoch + 1, 0
                self.history.append({"epoch": self.epoch, "step": self.report.state.step}
                                    | self.sums.metrics(self.acc.config.macs) | test
                                    | {"weights": digest(self.model)})
                self.sums = Sums()
                on_epoch()
        return True

    def _step(self, indices: torch.Tensor):
        start, cycles, macs = time.perf_counter(), self.acc.stats.cycles, self.acc.stats.macs
        x, y = self.data.train_x[indices], self.data.train_y[indices]
        self.model.train()
        self.optimiser.zero_grad()
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        self.optimiser.step()
        self.report.state.advance()
        self.rng = torch.get_rng_state()
        self.position += len(indices)
        s = self.sums
        s.images += len(indices)
        s.correct += int((logits.detach().argmax(1) == y).sum())
        s.loss += loss.item() * len(indices)
        s.cycles += self.acc.stats.cycles - cycles
        s.macs += self.acc.stats.macs - macs
        s.seconds += time.perf_counter() - start

    @torch.no_grad()
    def evaluate(self, stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Loss and accuracy on the test images, with the products where they are in training.

        None if told to stop.
        """
        self.model.eval()
        loss = correct = 0
        for x, y in zip(self.data.test_x.split(EVALUATION_BATCH),
                        self.data.test_y.split(EVALUATION_BATCH), strict=True):
            if stop():
                return None
            logits = self.model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            correct += int((logits.argmax(1) == y).sum())
        images = len(self.data.test_x)
        return {"test_loss": loss / images, "test_accuracy": correct / images}

    def state_dict(self) -> dict:
        """Tensors, numbers, strings, lists and dicts: loads with ``weights_only=True``."""
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
                "offload": self.report.state.state_dict(), "rng": self.rng, "epoch": self.epoch,
                "position": self.position, "sums": asdict(self.sums), "history": self.history,
                "data": self.data.digest}

    def load_state_dict(self, state: dict):
        """
        Raises
        ------
        ValueError
            It was trained on other data.
        """
        if state["data"] != self.data.digest:
            raise ValueError("the data are not those that the run began with")
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.report.state.load_state_dict(state["offload"])
        self.rng, self.sums, self.history = state["rng"], Sums(**state["sums"]), state["history"]
        self.epoch, self.position = state["epoch"], state["position"]
