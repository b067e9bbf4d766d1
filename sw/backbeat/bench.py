"""The figures of ``make bench``, each from the RTL, none asserted in a test."""

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from backbeat_rtl.config import WORD, Config

from . import open as open_accelerator
from .accelerator import Accelerator
from .device import fewest_bytes
from .measure import figures, reference
from .memory import Memory
from .trial import Trial
from .workloads import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, WORKLOADS, Product

__all__ = ["DOOR_PRODUCTS", "LARGE", "RESIDENT", "Run", "array_utilisation", "chains",
           "door_products", "large", "measure", "models", "runs", "simulation_speed", "small_products",
           "training", "workload"]

#: Passes a list on, item by item, and may show how far it is.
Track = Callable[[list], Iterable]

#: What everything with a memory port is measured with.
MEMORY = Memory()
#: Bound from which a product is measured alone; smaller ones go in chains, those of each workload and
#: those of all. The first panels in and the last results out, some thousands of cycles, are for nothing
#: to hide behind.
SINGLE = 50_000
#: Parts of the bound that a product alone, and the chain of all small ones, are to reach.
TARGET_SINGLE, TARGET_CHAIN = 0.95, 0.85

#: {config: (target, products)}, INT8 out: large products, and the three orientations of training on
#: the array with more rows than columns. The 8x8 is there to be seen, with nothing to reach.
LARGE = {
    config: (target, tuple(Product(f"{m}x{n}x{k} {op}", FORWARD, op, m, n, k) for m, n, k, op in shapes))
    for config, target, shapes in (
        ("16x16", TARGET_SINGLE, ((512, 512, 512, "nt"), (1024, 1024, 64, "nt"))),
        ("32x14", TARGET_SINGLE, ((256, 1024, 1024, "nt"), (256, 1024, 1024, "nn"),
                                  (1024, 1024, 256, "tn"))),
        ("8x8",   None,          ((512, 512, 512, "nt"), (1024, 1024, 64, "nt"))))}

#: (M, N, K, op) through the CFU door: forward, input gradient and weight gradient of common layers,
#: and the large cube.
DOOR_PRODUCTS = (
    (64, 64, 64, "nn"), (32, 128, 64, "nt"), (128, 64, 32, "tn"), (128, 128, 784, "nt"),
    (128, 784, 128, "nn"), (128, 784, 128, "tn"), (256, 256, 256, "nn"), (1024, 64, 64, "nt"),
    (512, 512, 512, "nn"), (512, 512, 512, "nt"), (512, 512, 512, "tn"), (512, 512, 512, "tt"),
)

#: (row tiles, column tiles, K) of products that fit the buffers in one run of the 16x16.
RESIDENT = ((4, 8, 64), (4, 8, 128), (4, 4, 256), (4, 4, 512), (2, 2, 1024), (1, 1, 2048))


@dataclass(frozen=True)
class Run:
    """Products that one doorbell starts: one alone, or a chain of small ones.

    ``target`` is the part of the bound to reach, None where nobody asks.
    """

    name: str
    products: tuple[Product, ...]
    int8: bool
    target: float | None

    def bounds(self, config: Config) -> list[tuple[int, str]]:
        """Least cycles of each product, and whether array or memory sets them."""
        out = []
        for p in self.products:
            array, memory = p.compute_bound(config), p.memory_bound(MEMORY.effective, self.result_bytes)
            out.append((array, "array") if array >= memory else (memory, "memory"))
        return out

    @property
    def result_bytes(self) -> int:
        return 1 if self.int8 else 4


_SHORT = {FORWARD: "forward", INPUT_GRADIENT: "dX", WEIGHT_GRADIENT: "dW"}


def _alone(product: Product, int8: bool) -> Run:
    return Run(f"{product.name}, {_SHORT[product.kind]}", (product,), int8, TARGET_SINGLE)


def small_products(products: Iterable[Product], int8: bool, config: Config) -> tuple[Product, ...]:
    """Those with a bound below ``SINGLE``."""
    return tuple(p for p in products if _alone(p, int8).bounds(config)[0][0] < SINGLE)


def runs(products: tuple[Product, ...], config: Config) -> list[Run]:
    """How a workload is measured: each large product alone, INT8 and INT32, the small ones in chains."""
    small = {int8: small_products(products, int8, config) for int8 in (True, False)}
    alone = [_alone(p, int8) for p in products for int8 in small if p not in small[int8]]
    return alone + [Run(f"{len(chain)} smaller in one chain", chain, int8, None)
                    for int8, chain in small.items() if chain]


def measure(acc: Accelerator, run: Run, seed: int) -> dict:
    """Cycles of a run against its bound, the bytes it moved against two bounds, and its exactness.

    ``compulsory_bytes`` are those of each operand and result once, of convolutions of the tensors: no
    buffers, however large, need less. ``fewest_bytes`` are the minimum for the buffers of this core, see
    :func:`.planner.fewest_bytes`; of convolutions they are those of the gathered matrix, which the core
    reads tap by tap.
    """
    rng = np.random.default_rng(seed)
    trials = [Trial(product, run.int8, rng) for product in run.products]
    jobs = [trial.job() for trial in trials]
    wall = time.perf_counter()
    results = acc.run(jobs)
    wall = time.perf_counter() - wall
    last = acc.last
    bounds = run.bounds(acc.config)
    members = []
    for number, (trial, result) in enumerate(zip(trials, results, strict=True)):
        p = trial.product
        members.append({
            "product": p.name, "kind": p.kind, "op": p.op, "m": p.m, "n": p.n, "k": p.k,
            "cycles": acc.products[number].cycles or None, "bound": bounds[number][0],
            "bound_by": bounds[number][1], "compulsory_bytes": p.compulsory_bytes(run.result_bytes),
            "fewest_bytes": fewest_bytes(jobs[number].lower(WORD).job, acc.config),
            "exact": bool(np.array_equal(result, trial.expected()))})
    bound, compulsory, fewest = (sum(member[name] for member in members)
                                 for name in ("bound", "compulsory_bytes", "fewest_bytes"))
    moved = last.bytes_read + last.bytes_written
    cycles = last.cycles or None
    share = bound / cycles if cycles else None
    return {
        "config": acc.config.name, "backend": acc.backend, "run": run.name,
        "out": "int8" if run.int8 else "int32",
        **({name: members[0][name] for name in ("m", "n", "k")} if len(members) == 1
           else dict.fromkeys(("m", "n", "k"))),
        "macs": last.macs, "cycles": cycles, "bound": bound,
        "bound_by": " + ".join(sorted({member["bound_by"] for member in members})),
        "of_bound": share and round(share, 4),
        "bytes_read": last.bytes_read, "bytes_written": last.bytes_written,
        "compulsory_bytes": compulsory, "of_compulsory": round(moved / compulsory, 3),
        "fewest_bytes": fewest, "of_fewest": round(moved / fewest, 3),
        "target": run.target,
        "met": None if share is None or run.target is None else share >= run.target,
        "exact": all(member["exact"] for member in members), "wall_s": round(wall, 2),
        "members": members}


def workload(name: str, backend: str, config: str, seed: int, track: Track = iter) -> list[dict]:
    """Figures of the runs of one of ``WORKLOADS``, see :func:`runs` and :func:`measure`."""
    with open_accelerator(backend, config) as acc:
        return [measure(acc, run, seed)
                for run in track(runs(WORKLOADS[name].products(), acc.config))]


def chains(backend: str, config: str, seed: int, track: Track = iter) -> list[dict]:
    """Figures of all small products of all ``WORKLOADS`` in one chain, INT8 and INT32."""
    products = tuple(p for w in WORKLOADS.values() for p in w.products())
    with open_accelerator(backend, config) as acc:
        todo = []
        for int8 in (True, False):
            small = small_products(products, int8, acc.config)
            if small:
                todo.append(Run(f"{len(small)} products in one chain", small, int8, TARGET_CHAIN))
        return [measure(acc, run, seed) for run in track(todo)]


def large(backend: str, seed: int, track: Track = iter) -> list[dict]:
    """Figures of ``LARGE``."""
    out = []
    for config, run in track([(config, Run(f"{config}: {product.name}", (product,), True, target))
                              for config, (target, products) in LARGE.items() for product in products]):
        with open_accelerator(backend, config) as acc:
            out.append(measure(acc, run, seed))
    return out


def _product(acc: Accelerator, rng, m: int, n: int, k: int, op: str) -> tuple[dict, float]:
    a = rng.integers(-127, 128, (m, k) if op[0] == "n" else (k, m), dtype=np.int8)
    b = rng.integers(-127, 128, (k, n) if op[1] == "n" else (n, k), dtype=np.int8)
    wall, cpu = time.perf_counter(), time.process_time()
    c = acc.gemm(a, b, op)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    exact = bool((c == reference(a, b, op)).all())
    return figures(acc, (m, n, k), op, exact, wall), cpu


def _without_memory(config: str) -> Config:
    return replace(Config.of(config), memory=False)


def door_products(config: str, seed: int):
    """Yields the figures of each of ``DOOR_PRODUCTS``, INT32 out, of a core without a memory port."""
    rng = np.random.default_rng(seed)
    with open_accelerator("verilator", _without_memory(config)) as acc:
        for m, n, k, op in DOOR_PRODUCTS:
            yield _product(acc, rng, m, n, k, op)[0]


def simulation_speed(config: str, seed: int, repeats: int = 5) -> dict:
    """Simulated MACs and cycles per second of CPU time, of 512 x 512 x 512 from and to memory.

    The median of ``repeats``, so that one disturbed run does not count.
    """
    rng = np.random.default_rng(seed)
    with open_accelerator("verilator", config) as acc:
        trials = sorted((_product(acc, rng, 512, 512, 512, "nt") for _ in range(repeats)),
                        key=lambda trial: trial[1])
        out, cpu = trials[repeats // 2]
    return {"config": config, "macs_per_cpu_s": round(out["macs"] / cpu),
            "cycles_per_cpu_s": round(out["cycles"] / cpu), "cpu_s": round(cpu, 3),
            "utilisation": out["utilisation"], "exact": all(trial[0]["exact"] for trial in trials)}


def array_utilisation(config: str, seed: int):
    """Yields utilisation between first and last MAC, operands loaded, for each of ``RESIDENT``.

    The core has no memory port, so that the door decides when a run begins: with all it needs there.
    The run counter says how long operands entered the array's corner; the far corner's last MAC
    comes ``row_pairs + columns - 2`` cycles after.
    """
    rng = np.random.default_rng(seed)
    with open_accelerator("verilator", _without_memory(config)) as acc:
        c = acc.config
        for row_tiles, column_tiles, k in RESIDENT:
            m, n = row_tiles * c.rows, column_tiles * c.columns
            out, _ = _product(acc, rng, m, n, k, "nt")
            span = acc.last.busy + c.row_pairs + c.columns - 2
            yield {"config": config, "m": m, "n": n, "k": k, "exact": out["exact"],
                   "cycles_of_macs": span, "utilisation": round(out["macs"] / c.macs / span, 4)}


def training(seed: int, epochs: int = 10):
    """Yields digits-mlp trained by PyTorch in FP32, and in INT8 on the model and on the RTL.

    The last two must end in the same weights.
    """
    from .train import TASKS, Settings, Trainer
    from .train.data import load

    for recipe, backend in (("fp32", "model"), ("int8", "model"), ("int8", "verilator")):
        settings = Settings("digits-mlp", backend=backend, recipe=recipe, epochs=epochs, seed=seed)
        with open_accelerator(backend, settings.config) as acc:
            trainer = Trainer(settings, load(TASKS[settings.task].data, None, seed), acc)
            trainer.fit()
        macs, cycles = (sum(m[name] for m in trainer.history) for name in ("macs", "cycles"))
        yield {"recipe": recipe, "backend": "pytorch" if recipe == "fp32" else backend, "seed": seed,
               "test_accuracy": round(trainer.history[-1]["test_accuracy"], 4), "cycles": cycles,
               "utilisation": round(macs / (cycles * acc.config.macs), 4) if cycles else None,
               "seconds": round(sum(m["seconds"] for m in trainer.history), 1),
               "weights": trainer.history[-1]["weights"]}


def models():
    """Yields the seconds that a report and a sweep take, the latter in a process for each core."""
    from .report import page, sheet
    from .sweep import client, parse_config, points, run
    from .workloads import load

    start = time.monotonic()
    made = sheet(load("resnet50", 32), Config.of("32x14"), single=load("resnet50", 1))
    page(made)
    yield {"what": "report of ResNet-50 in training, batch 32, on 32x14", "points": len(made.steps),
           "seconds": round(time.monotonic() - start, 1), "target": 10}
    start = time.monotonic()
    configs = [parse_config(f"{rows}x{columns}:depth={depth},tiles={tiles}")
               for rows, columns, depth, tiles in itertools.product(
                   (8, 16, 24, 32, 48), (8, 14, 16, 24, 28), (512, 1024), (16, 32))]
    wanted = points(configs, (4, 8), ("alexnet", "resnet50", "mobilenet-v2", "bert-base", "gpt-3"))
    with client() as workers:
        found = sum("error" not in result for result in run(workers, wanted))
    yield {"what": "sweep of 200 configurations on AlexNet, ResNet-50, MobileNetV2, BERT-Base, GPT-3",
           "points": found, "seconds": round(time.monotonic() - start, 1), "target": 120}
