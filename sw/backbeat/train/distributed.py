"""Several processes that train together, one accelerator each: what they exchange."""

import atexit
import os
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn

__all__ = ["Ranks", "join"]


@dataclass(frozen=True)
class Ranks:
    """The processes of a run as one of them sees them. One alone exchanges nothing.

    Parameters
    ----------
    rank : int
        0...size - 1.
    size : int
    """

    rank: int = 0
    size: int = 1

    def share(self, total: int) -> int:
        """How many of that many samples are this rank's; the first ranks take what is left over."""
        return total // self.size + (self.rank < total % self.size)

    def slice(self, samples: list) -> list:
        """This rank's share of them."""
        start = self.rank * (len(samples) // self.size) + min(self.rank, len(samples) % self.size)
        return samples[start:start + self.share(len(samples))]

    def total(self, values: list) -> list:
        """Sums over all ranks, in float64."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        with self.exchange():
            distributed.all_reduce(_lent(tensor))
        return tensor.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is true on one of the ranks."""
        return self.total([bool(flag)])[0] > 0

    def first(self, make: Callable[[], bytes]) -> bytes:
        """What rank 0 makes, for all.

        Raises
        ------
        ConnectionError
            Rank 0 could not make it, and says itself why.
        """
        if self.size == 1:
            return make()
        data, error = b"", None
        if self.rank == 0:
            try:
                data = make()
            except Exception as reason:     # the others must not wait for it
                error = reason
        length = int(self._from_first(torch.tensor([-1 if error else len(data)])))
        if error is not None:
            raise error
        if length < 0:
            raise ConnectionError(f"rank {self.rank}: rank 0 has given up")
        if not length:
            return b""
        return self._from_first(torch.frombuffer(bytearray(data or length), dtype=torch.uint8)
                                ).numpy().tobytes()

    def _from_first(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, filled with rank 0's values."""
        with self.exchange():
            distributed.broadcast(_lent(tensor), 0)
        return tensor

    def same(self, what: str, text: str):
        """
        Raises
        ------
        ValueError
            ``text`` differs from rank 0's.
        """
        theirs = self.first(text.encode).decode()
        if self.any(theirs != text):
            raise ValueError(f"rank {self.rank}: {what} must be the same on all ranks")

    def spread(self, model: nn.Module):
        """Gives the buffers of rank 0 to all: normalisations count on each rank by themselves."""
        if self.size > 1:
            for buffer in model.buffers():
                self._from_first(buffer.detach())

    def replicate(self, model: nn.Module) -> nn.Module:
        """The model, with gradients that are the mean over the ranks."""
        if self.size == 1:
            return model
        with self.exchange():
            return nn.parallel.DistributedDataParallel(model)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Names the failures of an exchange.

        Raises
        ------
        ConnectionError
            Another rank is gone, or did not answer in time.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_exchange(error):
                raise
            reason = str(error).strip().splitlines()[0]
            raise ConnectionError(f"rank {self.rank}: another rank is gone or does not answer: {reason};"
                                  " go on from the last checkpoint with --resume") from error


def _is_exchange(error: RuntimeError) -> bool:
    """Whether it comes from an exchange; gloo has no class of its own for its errors."""
    return isinstance(error, distributed.DistError) or any(
        word in str(error).lower() for word in ("gloo", "connection", "timed out", "store"))


@contextmanager
def join(timeout: float) -> Iterator[Ranks]:
    """Meets the other processes that ``torchrun`` has started; without it, there are none.

    Parameters
    ----------
    timeout : float
        Seconds after which another rank that does not answer is given up.

    Raises
    ------
    ConnectionError
        They do not meet.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        yield Ranks()
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if os.environ["MASTER_ADDR"] in ("localhost", "127.0.0.1", "::1"):
        # All are on this machine, whose own name need not resolve.
        names = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
        if names:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", names.pop())
    with ranks.exchange():
        distributed.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    try:
        yield ranks
    except ConnectionError as error:
        _leave(error)
        raise
    except BaseException:
        _part()
        raise
    _part()


def _lent(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, for an exchange; it must not be kept behind it."""
    _lendings[:] = [lending for lending in _lendings if lending() is not None]
    _lendings.append(weakref.ref(tensor))
    return tensor


def _part(patience: float = 2.0):
    """Ends the exchange when gloo has given back what was lent to it.

    Its threads drop a tensor some time after the exchange is over, for which they need the
    interpreter's lock. A thread that asks for it when the interpreter ends is killed where it stands
    (by CPython before 3.14), in C++ that does not expect it, and the process aborts.

    Parameters
    ----------
    patience : float
        Seconds after which it ends in any case.
    """
    end = time.monotonic() + patience
    while any(lending() is not None for lending in _lendings) and time.monotonic() < end:
        time.sleep(0.001)
    distributed.destroy_process_group()


def _leave(error: ConnectionError):
    """Sees to it that this process can end although another one hangs.

    What is under way with the other would be waited for where the process group is freed, without
    end. So it is never freed: the error keeps it until the process ends, which then asks nobody.
    """
    def end():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    _left.append(error)
    atexit.register(end)


_left: list[ConnectionError] = []
_lendings: list[weakref.ref] = []
