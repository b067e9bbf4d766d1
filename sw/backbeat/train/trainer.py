"""The training loop. All that a step depends on is in its state, so it can stop between any two."""

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from ..accelerator import Accelerator
from ..torch import offload
from .data import Data
from .distributed import Ranks
from .loading import batches
from .optimisers import optimiser, rate
from .settings import Settings
from .tasks import TASKS

__all__ = ["NotFiniteError", "Sums", "Trainer", "digest"]

#: Larger than in training: nothing is kept for a backward pass.
EVALUATION_BATCH = 256


class NotFiniteError(ValueError):
    """A loss or a gradient is infinite or NaN: the run cannot go on."""


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

    samples: int = 0
    hits: int = 0
    loss: float = 0.0
    cycles: int = 0
    macs: int = 0
    seconds: float = 0.0


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
    workers : int
        Processes that load batches. The result does not depend on it.
    ranks : Ranks
        With several, every batch is divided among them, and the gradient is the mean over the whole
        batch as ever. Normalisations over a batch see the rank's share only.

    Attributes
    ----------
    model : nn.Module
    task : Task
    report : OffloadReport
    samples : int
        In an epoch.
    epoch : int
        Epochs that are complete.
    position : int
        Samples of the next one that have been trained on.
    sums : Sums
        Of the epoch begun, over all ranks but for ``seconds``.
    history : list of dict
        Metrics of the complete epochs.
    health : Health, optional
        Is told of each step's gradients.

    Raises
    ------
    ValueError
        An override matches no layer, or the data are not the same on all ranks.
    """

    def __init__(self, settings: Settings, data: Data, acc: Accelerator, workers: int = 0,
                 ranks: Ranks | None = None):
        self.settings, self.data, self.acc, self.workers = settings, data, acc, workers
        self.ranks = ranks = Ranks() if ranks is None else ranks
        self.task = TASKS[settings.task]
        self.samples = len(data.train_x)
        if self.task.batches is not None:
            self.samples = min(self.samples, self.task.batches * settings.batch)
        if ranks.size > 1:
            ranks.same("the data", data.digest)
        with _reproducible():
            torch.manual_seed(settings.seed)
            self.model = self.task.network()
            self.rng = torch.get_rng_state()
        self.report = offload(self.model, acc, settings.recipe, settings.seed, settings.overrides,
                              ranks.rank)
        self.replica = ranks.replicate(self.model)
        self.optimiser = optimiser(settings, self.model)
        self.epoch = self.position = 0
        self.sums, self.history = Sums(), []
        self.health = None

    def fit(self, on_step: Callable[[], None] = lambda: None,
            on_epoch: Callable[[], None] = lambda: None,
            stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains up to ``settings.epochs``.

        Parameters
        ----------
        on_step, on_epoch : callable
            Called after each.
        stop : callable
            Asked after each step; a later ``fit`` goes on as if there had been no break. One rank
            stops all.

        Returns
        -------
        bool
            Whether it has come to the end.

        Raises
        ------
        NotFiniteError
            A loss or gradient is. The weights are those of the step before.
        ConnectionError
            Another rank is gone or does not answer.
        """
        with _reproducible(self.rng):
            while self.epoch < self.settings.epochs:
                order = torch.randperm(len(self.data.train_x), generator=torch.Generator().manual_seed(
                    (self.settings.seed << 20) + self.epoch))[self.position:self.samples]
                for x, y in batches(self.data, order, self.settings.batch, self.ranks, self.workers):
                    self._step(x, y)
                    on_step()
                    if self.ranks.any(stop()):
                        return False
                start = time.perf_counter()
                test = self.evaluate(stop)
                if test is None:
                    return False
                self.sums.seconds += time.perf_counter() - start
                self.epoch, self.position = self.epoch + 1, 0
                self.history.append({"epoch": self.epoch, "step": self.report.state.step}
                                    | self.metrics() | test | {"weights": digest(self.model)})
                self.sums = Sums()
                on_epoch()
        return True

    def metrics(self) -> dict:
        """Of the epoch begun. ``seconds`` are of its steps and of the evaluation so far."""
        s = self.sums
        return self._measured("train", s.loss / max(s.samples, 1), s.hits / max(s.samples, 1)) | {
            "cycles": s.cycles, "macs": s.macs,
            "utilisation": s.macs / (s.cycles * self.acc.config.macs) if s.cycles else None,
            "seconds": s.seconds}

    def _measured(self, part: str, loss: float, hits: float) -> dict[str, float]:
        kind = self.task.kind
        return {f"{part}_loss": loss, f"{part}_{kind.metric}": kind.measure(loss, hits, self.data.scale)}

    def _step(self, x: torch.Tensor, y: torch.Tensor):
        start, cycles, macs = time.perf_counter(), self.acc.stats.cycles, self.acc.stats.macs
        settings, ranks, step = self.settings, self.ranks, self.report.state.step
        total = min(settings.batch, self.samples - self.position)
        if ranks.rank:
            # Only rank 0's generator is in checkpoints; that of the others starts from the step.
            torch.manual_seed(int(np.random.SeedSequence(
                (settings.seed, ranks.rank, step)).generate_state(1, np.uint64)[0]))
        self.model.train()
        self.optimiser.zero_grad()
        loss, hits = self._gradients(x, y, total)
        loss, hits, cycles, macs = ranks.total([
            loss, hits, self.acc.stats.cycles - cycles, self.acc.stats.macs - macs])
        if self.health is not None:
            self.health.step()
        self._check(loss / total)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(settings, step, settings.epochs * -(-self.samples // settings.batch))
        self.optimiser.step()
        self.report.state.advance()
        self.rng = torch.get_rng_state()
        self.position += total
        s = self.sums
        s.samples += total
        s.hits += int(hits)
        s.loss += loss
        s.cycles += int(cycles)
        s.macs += int(macs)
        s.seconds += time.perf_counter() - start

    def _gradients(self, x: torch.Tensor, y: torch.Tensor, total: int) -> tuple[float, int]:
        """Those of the mean loss of the whole batch; the sums of loss and hits over this rank's share.

        The replica divides by the number of ranks what it sums over them, whatever their shares.
        """
        share = self.ranks.share(total)
        parts = [part for part in zip(x.tensor_split(self.settings.accumulate),
                                      y.tensor_split(self.settings.accumulate), strict=True)
                 if len(part[0])]
        loss = hits = 0
        for number, (part_x, part_y) in enumerate(parts, 1):
            count = min(len(part_x), share)
            last = number == len(parts) or self.ranks.size == 1
            with self.ranks.exchange(), nullcontext() if last else self.replica.no_sync():
                outputs = self.replica(part_x)
                part_loss = self.task.kind.loss(outputs, part_y)
                (part_loss * (self.ranks.size * count / total)).backward()
            loss += part_loss.item() * count
            hits += self.task.kind.hits(outputs.detach(), part_y) if count else 0
        return loss, hits

    def _check(self, loss: float):
        """Clips the gradients, and sees to it that they and the loss are finite."""
        named = [(name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([gradient for _, gradient in named])
        broken = None
        if not (math.isfinite(loss) and norm.isfinite()):
            broken = next((name for name, gradient in named if not gradient.isfinite().all()), None)
        if broken is not None or not math.isfinite(loss):
            raise NotFiniteError(
                f"step {self.report.state.step + 1}: the loss is {loss:.4g}"
                + (f", and the gradient of {broken!r} is the first that is not finite" if broken else "")
                + f". The weights are those of the step before; try a lower lr than {self.settings.lr}, "
                + ("or clip the gradients" if not self.settings.clip
                   else f"or clip the gradients below {self.settings.clip}"))
        if self.settings.clip:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.settings.clip, norm)

    @torch.no_grad()
    def evaluate(self, stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Loss and metric on the test part, with the products where they are in training.

        None if told to stop.

        Raises
        ------
        NotFiniteError
            The loss is.
        """
        self.ranks.spread(self.model)
        self.model.eval()
        parts = list(zip(self.data.test_x.split(EVALUATION_BATCH),
                         self.data.test_y.split(EVALUATION_BATCH), strict=True))
        # Each batch is one rank's: the others add zeros, which changes no bit.
        losses, hits, stopped = [0.0] * len(parts), [0] * len(parts), False
        for number in range(self.ranks.rank, len(parts), self.ranks.size):
            stopped = bool(stop())
            if stopped:
                break
            x, y = parts[number]
            outputs = self.model(x)
            losses[number] = self.task.kind.loss(outputs, y, reduction="sum").item()
            hits[number] = self.task.kind.hits(outputs, y)
        if self.ranks.any(stopped):
            return None
        loss = sum(self.ranks.total(losses)) / self.data.test_y.numel()
        if not math.isfinite(loss):
            raise NotFiniteError(f"step {self.report.state.step}: the test loss is {loss}; try a lower "
                                 f"lr than {self.settings.lr}")
        return self._measured("test", loss, sum(self.ranks.total(hits)) / len(self.data.test_x))

    def state_dict(self) -> dict:
        """Tensors, numbers, strings, lists and dicts: loads with ``weights_only=True``.

        Rank 0's is all there is to keep, whatever the number of ranks.
        """
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
