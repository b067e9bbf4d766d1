"""Backend ``model``: what the hardware returns, without the hardware."""

from backbeat_rtl import core_model
from backbeat_rtl.config import Config

from ..device import carriable, traffic
from ..memory import Memory
from ..program import Job, Result, column_sums
from ..stats import Stats

__all__ = ["ModelBackend"]


class ModelBackend:
    """Bit-exact and fast; no cycles.

    Bytes are those that the core would move by its plan, or the compulsory ones if it has no memory
    port.
    """

    name = "model"

    def __init__(self, config: Config, memory: Memory):
        self.config, self.memory = config, memory

    def run(self, jobs: list[Job]) -> tuple[list[Result], Stats]:
        results, total = [], Stats()
        for job in jobs:
            matrices = job.explicit()
            a = matrices.a.swapaxes(-1, -2) if job.a_across else matrices.a
            b = matrices.b if job.b_across else matrices.b.swapaxes(-1, -2)
            c, max_abs = core_model.product(a, b, job.bias, job.spec)
            stats = self._bytes(job)
            stats.max_abs = max_abs
            results.append(Result(c, column_sums(c) if job.sums else None, stats))
            total += stats
        return results, total

    def _bytes(self, job: Job) -> Stats:
        one = job.first()
        if self.config.memory and carriable(one, self.config, self.memory):
            return traffic(one, self.config, self.memory).times(job.batch)
        written = job.batch * job.shape[0] * job.shape[1] * job.result_bytes
        return Stats(bytes_read=job.compulsory_bytes - written, bytes_written=written)

    def close(self):
        pass
