"""Batches of samples, loaded in this process or in others."""

import signal
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, TensorDataset

from .data import Data
from .distributed import Ranks

__all__ = ["batches"]


def batches(data: Data, order: torch.Tensor, batch: int, ranks: Ranks, workers: int = 0) -> Iterator:
    """This rank's part of each batch, as ``x`` and ``y``.

    Parameters
    ----------
    data : Data
        Its training part.
    order : int64 tensor [N]
        The samples of all batches.
    batch : int
        Samples in a batch of all ranks together; the last one may be smaller.
    ranks : Ranks
    workers : int
        Processes that load. What comes does not depend on it.
    """
    # A rank that a small last batch leaves without a sample takes one, and has to count it as none.
    parts = [ranks.slice(part) or part[:1] for part in map(torch.Tensor.tolist, order.split(batch))
             if part]
    # A generator of its own: what the loader draws must not move ours.
    loader = DataLoader(TensorDataset(data.train_x, data.train_y), batch_size=None, sampler=parts,
                        num_workers=workers, generator=torch.Generator())
    # A signal may be for the whole group of processes. The run decides where it stops; those that load
    # inherit that they do not hear it, and end with the run.
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        loaded = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    yield from loaded
