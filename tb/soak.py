"""A long random campaign: ``python -m tb.soak --config 16x16 --products 10000``.

The driver and the RTL in process, with random idle and back-pressure at the door, against int64.
"""

import argparse
import random
import sys
import time

import numpy as np
from rich.progress import track

import backbeat
from backbeat.measure import reference

from .products import oracle, random_job

__all__ = ["campaign"]

#: Products in a row with the same chance of a stall, and those chances.
STRETCH, CHANCES = 50, (0, 0.1, 0, 0.5, 0.02, 0.8)


def _size(rng) -> int:
    """Mostly as in the test benches, sometimes beyond what any buffer holds."""
    return int(rng.choice([80, 300, 1000], p=[0.85, 0.13, 0.02]))


def campaign(acc: backbeat.Accelerator, seed: int, products) -> int:
    """Multiplies; ``products`` iterates over their numbers, from 0. Returns the cycles it took.

    Raises
    ------
    AssertionError
        Says which product differs where, and how to get there again.
    """
    rng, config = np.random.default_rng(seed), acc.config
    for number in products:
        if number % STRETCH == 0:
            acc._backend.stall(int(rng.integers(1, 2**63)), CHANCES[number // STRETCH % len(CHANCES)])
        job = random_job(rng, config.rows, config.columns, _size(rng), low=-128)
        what = (f"product {number}, {job.op} of M, N, K = {job.shape}, {job.spec}; replay with "
                f"python -m tb.soak --config {config.name} --seed {seed} --products {number + 1}")
        try:
            c = acc.gemm(job.a, job.b, job.op, bias=job.bias, requantize=job.spec)
        except backbeat.AcceleratorError as error:
            raise AssertionError(f"{error} in {what}") from error
        expected = oracle(job)
        if not np.array_equal(c, expected):
            i, j = np.argwhere(c != expected)[0]
            raise AssertionError(f"C[{i}, {j}] is {c[i, j]}, expected {expected[i, j]}, in {what}")
        largest = np.abs(reference(job.a, job.b, job.op).astype(np.int64)).max()
        assert acc.last.max_abs == largest, f"max_abs {acc.last.max_abs}, expected {largest}, in {what}"
    return acc.stats.cycles


def main():
    parser = argparse.ArgumentParser(prog="python -m tb.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="16x16")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--products", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"{arguments.config}: {arguments.products} products, seed {arguments.seed}", flush=True)
    with backbeat.open("verilator", arguments.config) as acc:
        start = time.perf_counter()
        try:
            cycles = campaign(acc, arguments.seed, track(range(arguments.products), "products"))
        except AssertionError as error:
            sys.exit(f"FAILED: {error}")
        seconds = time.perf_counter() - start
    print(f"all exact: {arguments.products / seconds:.0f} products/s, "
          f"{cycles / seconds / 1e3:.0f} kcycle/s")


if __name__ == "__main__":
    main()
