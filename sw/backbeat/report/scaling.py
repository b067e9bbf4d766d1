"""What becomes of a training step on larger arrays, and on many accelerators."""

from collections.abc import Iterator
from dataclasses import replace

from backbeat_rtl.config import Config

from ..cost import Cost, cost
from ..memory import Memory
from ..workloads import Workload

__all__ = ["ACCELERATORS", "SIDES", "all_reduce", "arrays"]

#: Rows and columns of the arrays, and numbers of accelerators, that a report looks at.
SIDES, ACCELERATORS = (4, 8, 16, 32, 64), tuple(2**n for n in range(11))


def arrays(workload: Workload, config: Config, memory: Memory) -> Iterator[dict]:
    """Square arrays with this core's buffers and as many requantisers as there can be: {rows, columns,
    cycles, utilisation} of a step.

    Of bounds, not of predictions: they take a tenth of the time, and large products meet them.
    """
    for side in SIDES:
        core = replace(config, rows=side, columns=side,
                       requantisers=min(4, side // 4))
        total = sum((cost(p, core, memory, walk=0).times(p.count) for p in workload.products()), Cost())
        yield {"rows": side, "columns": side, "cycles": total.cycles,
               "utilisation": total.utilisation(core)}


def all_reduce(step_s: float, weights: int, link: float) -> Iterator[dict]:
    """Data-parallel training, each accelerator with a batch of its own: {accelerators, step_s,
    reduce_s, efficiency}.

    Gradients of 32 bits go round a ring: each of N accelerators sends 2 (N - 1) / N of them over its
    link, which takes ``link`` bytes per second. Nothing overlaps with it.
    """
    for count in ACCELERATORS:
        reduce_s = 2 * (count - 1) / count * 4 * weights / link
        yield {"accelerators": count, "step_s": step_s + reduce_s, "reduce_s": reduce_s,
               "efficiency": step_s / (step_s + reduce_s)}
