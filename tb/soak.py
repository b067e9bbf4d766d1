"""A long random campaign: ``python -m tb.soak --config 16x16 --products 10000``.

The driver and the RTL in process: products of every kind in chains, memories of every kind behind the
port, random pauses on all of its channels and at the door, and words of memory that answer with an
error. Results are compared with NumPy's, all of memory with the descriptors' model.
"""

import argparse
import random
import sys
import time

import numpy as np
from rich.progress import Progress

import backbeat
from backbeat.device import Chain
from backbeat.memory import BASE, Memory
from backbeat_rtl import isa
from backbeat_rtl.config import Config
from backbeat_rtl.isa import Error

from .products import Trial, random_convolution, random_gemm
from .witness import DECERR, SLVERR, Witness, nothing

__all__ = ["STRETCH", "campaign"]

#: Products with the same memory and chance of a pause; a campaign can begin with any stretch.
STRETCH = 50
#: Chances of a pause, per cycle.
PAUSES = (0, 0, 0.02, 0.1, 0.5, 0.8)
#: Of chains that meet a word of memory that cannot be read, or written.
FAULTS = 0.15
#: Of products that are convolutions or gradients of them.
CONVOLUTIONS = 0.4
#: Bytes of device memory, all of them compared after each chain; of operands and results of a chain
#: no more are begun beyond so many.
SIZE, FULL = 1 << 24, 1 << 21


def _trial(rng, config: Config) -> Trial:
    """Mostly as in the test benches, sometimes beyond what any buffer holds."""
    if rng.random() < CONVOLUTIONS:
        return random_convolution(rng, int(rng.choice([12, 40], p=[0.85, 0.15])))
    largest = int(rng.choice([80, 300, 1000], p=[0.77, 0.2, 0.03]))
    return random_gemm(rng, config.rows, config.columns, largest,
                       int(rng.choice([largest, 3000], p=[0.9, 0.1])))


def _chain(rng, config: Config, most: int) -> list[Trial]:
    """One to eight products; one may come twice, and is in memory once then."""
    out, size = [], 0
    for _ in range(min(most, int(rng.choice([1, 2, 3, 5, 8])))):
        again = out and rng.random() < 0.1
        out.append(out[int(rng.integers(len(out)))] if again else _trial(rng, config))
        size += out[-1].product.lower(8).job.compulsory_bytes
        if size > FULL:
            break
    return out


def _memory(rng) -> Memory:
    """The default, or one with a bandwidth, latency and refresh of its own."""
    if rng.random() < 0.2:
        return Memory(size=SIZE)
    interval = int(rng.integers(20, 1000))
    return Memory(float(8 * 2 ** rng.uniform(-2, 1)), int(300 ** rng.random()) - 1, interval,
                  int(interval * rng.choice([0, 0.05, 0.4])), SIZE)


class _Fault:
    """Has a word of memory that a chain needs err; see :attr:`.Witness.arm`."""

    def __init__(self, backend, rng):
        self.backend, self.rng = backend, rng

    def __call__(self, chain: Chain):
        begin, end, error = fault = _aim(self.backend, self.rng, chain)
        self.backend.fault(begin, end, int(self.rng.choice([SLVERR, DECERR])),
                           error == Error.BUS_READ, error == Error.BUS_WRITE)
        return lambda: self.backend.fault() or [fault]


def _aim(backend, rng, chain: Chain) -> tuple[int, int, Error]:
    """A word of a descriptor, operand or result; now and then one that nobody needs."""
    entry = chain.entries[rng.integers(len(chain.entries))]
    d = isa.decode_descriptor(backend.arena.rows(entry.address, 1, 4 * isa.DESCRIPTOR_WORDS)
                              [0].tobytes())
    m, n, _ = entry.job.shape
    spans = [(BASE, backend.arena.used, None),
             (entry.address, 4 * isa.FETCHED_WORDS, Error.BUS_READ),
             (entry.address + 4 * isa.RECORD_WORD, 16, Error.BUS_WRITE),
             (entry.c, m * entry.c_pitch, Error.BUS_WRITE)]
    spans += [(d[name], d[f"{name}_pitch"] * rows, Error.BUS_READ)
              for name, (rows, _) in zip("ab", entry.job.stored, strict=True)
              if not d[f"gather_{name}"] and not (name == "b" and d["b_group"])]
    if d["requantise"]:
        spans.append((d["table"], 16 * n, Error.BUS_READ))
    if d["sums"]:
        spans.append((d["sums_address"], 4 * n, Error.BUS_WRITE))
    begin, size, error = spans[rng.integers(len(spans))]
    word = begin + int(rng.integers(size)) // 8 * 8
    return word, word + 8, error or Error(rng.choice([Error.BUS_READ, Error.BUS_WRITE]))


def campaign(config: str, seed: int, products: int, first: int = 0, advance=lambda count: None) -> dict:
    """Products number ``first``, a multiple of STRETCH, and up.

    Parameters
    ----------
    advance : function of int
        Is told how many more are done.

    Returns
    -------
    dict
        "cycles" that it took, "chains", and those with "faults" that were met.

    Raises
    ------
    AssertionError
        Says which product differs where, and how to get there again.
    """
    if first % STRETCH:
        raise ValueError(f"first must be a multiple of {STRETCH}, got {first}")
    counts = {"cycles": 0, "chains": 0, "faults": 0}
    for begin in range(first, first + products, STRETCH):
        rng = np.random.default_rng([seed, begin])
        memory, pauses = _memory(rng), float(rng.choice(PAUSES))
        with backbeat.open("verilator", config, memory) as acc:
            witness, fault = Witness(acc), _Fault(acc._backend, rng)
            # Nothing may depend on what memory happens to hold.
            witness.backend.arena.image[:] = np.frombuffer(rng.bytes(SIZE), np.uint8)
            acc._backend.stall(int(rng.integers(1, 2**63)), pauses)
            done, end = begin, min(begin + STRETCH, first + products)
            while done < end:
                trials = _chain(rng, acc.config, end - done)
                try:
                    witness.arm = fault if rng.random() < FAULTS else nothing
                    witness.carry_out(trials)
                    counts["chains"] += 1
                    if witness.result.error:
                        counts["faults"] += 1
                        witness.arm = nothing       # and the core works again
                        witness.carry_out(trials)
                except (AssertionError, backbeat.AcceleratorError, LookupError) as error:
                    raise AssertionError(
                        f"{error}; in products {done} to {done + len(trials) - 1}, {memory}, pauses "
                        f"{pauses}, faults {witness.faults}; replay with python -m tb.soak --config "
                        f"{config} --seed {seed} --first {begin} --products "
                        f"{done + len(trials) - begin}") from error
                done += len(trials)
                advance(len(trials))
            counts["cycles"] += acc._backend.simulator.cycles()
    return counts


def main():
    parser = argparse.ArgumentParser(prog="python -m tb.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="16x16")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help=f"begin there, a multiple of {STRETCH}")
    arguments = parser.parse_args()
    print(f"{arguments.config}: {arguments.products} products, seed {arguments.seed}", flush=True)
    start = time.perf_counter()
    with Progress(transient=True) as progress:
        task = progress.add_task("products", total=arguments.products)
        try:
            counts = campaign(arguments.config, arguments.seed, arguments.products, arguments.first,
                              lambda count: progress.advance(task, count))
        except AssertionError as error:
            progress.stop()
            sys.exit(f"FAILED: {error}")
    seconds = time.perf_counter() - start
    print(f"all exact: {counts['chains']} chains, {counts['faults']} of them with a fault, "
          f"{arguments.products / seconds:.0f} products/s, "
          f"{counts['cycles'] / seconds / 1e3:.0f} kcycle/s")


if __name__ == "__main__":
    main()
