"""Backend ``model``: what the hardware returns, without the hardware."""

import numpy as np

from backbeat_rtl import core_model
from backbeat_rtl.config import Config

from ..program import Job
from ..stats import Stats

__all__ = ["ModelBackend"]


class ModelBackend:
    """Bit-exact and fast; counts bytes as compulsory traffic, and no cycles."""

    name = "model"

    def __init__(self, config: Config):
        self.config = config

    def run(self, job: Job) -> tuple[np.ndarray, Stats]:
        a = job.a.T if job.a_across else job.a
        b = job.b if job.b_across else job.b.T
        c, max_abs = core_model.product(a, b, job.bias, job.spec)
        return c, Stats(bytes_read=a.size + b.size, bytes_written=c.nbytes, max_abs=max_abs)

    def close(self):
        pass
