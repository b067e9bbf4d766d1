"""Holds the planner's predictions of cycles and bytes against the RTL."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backbeat_rtl.config import Config

from . import open as open_accelerator
from .device import plan_job
from .memory import Memory
from .products import OPS
from .trial import Trial
from .workloads import FORWARD, Product

__all__ = ["LARGEST", "MEMORIES", "MOST_MACS", "SHORT", "Comparison", "compare", "random_products",
           "summary"]

#: Memories behind the core: the board's, and one of half its bandwidth and twice its latency.
MEMORIES = {"board": Memory(), "slow": Memory(bandwidth=4, latency=60)}
#: Largest M, N and K, and most MACs of a product.
LARGEST, MOST_MACS = 512, 16_000_000
#: Cycles below which a product is short: a refresh of 39 cycles that comes or not is 2 % of that
#: already. Such products are told of in cycles.
SHORT = 2000


@dataclass(frozen=True)
class Comparison:
    """A product's prediction and its measurement."""

    config: str
    memory: str
    product: Product
    int8: bool
    predicted: int
    cycles: int
    bytes_right: bool
    exact: bool

    @property
    def off(self) -> int:
        """Cycles that were predicted too many."""
        return self.predicted - self.cycles

    @property
    def error(self) -> float:
        """The same, as a part of the cycles measured."""
        return self.off / self.cycles

    def __str__(self):
        kind = f"{self.product.op} {'INT8' if self.int8 else 'INT32'}"
        return (f"{self.product.name} {kind} on {self.config}, {self.memory} memory: "
                f"{self.predicted:,} predicted, {self.cycles:,} measured")


def random_products(rng: np.random.Generator, count: int) -> list[tuple[Product, bool]]:
    """Of all orientations and of sizes of every magnitude, few of them multiples of anything; and
    whether the result is INT8."""
    out = []
    while len(out) < count:
        m, n, k = np.exp(rng.uniform(0, np.log(LARGEST + 1), 3)).astype(int).tolist()
        if m * n * k <= MOST_MACS:
            op, int8 = OPS[len(out) % len(OPS)], bool(rng.integers(2))
            out.append((Product(f"{m}x{n}x{k}", FORWARD, op, m, n, k), int8))
    return out


def compare(config: Config, memory: str, products: list[tuple[Product, bool]],
            rng: np.random.Generator) -> Iterator[Comparison]:
    """Runs products, each alone, on the simulated RTL of that core.

    Parameters
    ----------
    config : Config
    memory : str
        A name of :data:`MEMORIES`.
    products : list of (Product, bool)
        And whether the result is requantised to INT8.
    rng : numpy.random.Generator
        Of the operands.
    """
    behind = MEMORIES[memory]
    with open_accelerator("verilator", config, behind) as acc:
        for product, int8 in products:
            trial = Trial(product, int8, rng)
            planned = plan_job(trial.job().lower(8).job, config, behind)
            result, = acc.run([trial.job()])
            yield Comparison(
                config.name, memory, product, int8, planned.cycles, acc.last.cycles,
                (planned.bytes_read, planned.bytes_written) == (acc.last.bytes_read,
                                                                acc.last.bytes_written),
                bool((result == trial.expected()).all()))


def summary(found: list[Comparison]) -> dict:
    """Figures of comparisons; errors as parts of the cycles measured, of short products as cycles.

    Returns
    -------
    dict
        ``products``, ``median``, ``p95``, ``worst``, and the worst one's text ``worst_product``;
        ``short``, ``short_median``, ``short_worst``; ``bytes_right``, ``exact``: of how many.
    """
    long = sorted((c for c in found if c.cycles >= SHORT), key=lambda c: abs(c.error))
    errors = np.array([abs(c.error) for c in long] or [0.0])
    short = np.array([abs(c.off) for c in found if c.cycles < SHORT] or [0])
    return {
        "products": len(long), "median": float(np.median(errors)),
        "p95": float(np.quantile(errors, 0.95)), "worst": float(errors[-1]),
        "worst_product": str(long[-1]) if long else "",
        "short": len(found) - len(long), "short_median": int(np.median(short)),
        "short_worst": int(short.max()), "bytes_right": sum(c.bytes_right for c in found),
        "exact": sum(c.exact for c in found)}
