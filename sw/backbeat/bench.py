"""The figures of ``make bench``, each from the RTL, none asserted in a test."""

import time

import numpy as np

from . import open as open_accelerator
from .accelerator import Accelerator
from .measure import figures, reference

__all__ = ["PRODUCTS", "RESIDENT", "array_utilisation", "products", "simulation_speed", "training"]

#: (M, N, K, op): forward, input gradient and weight gradient of common layers, and the large cube.
PRODUCTS = (
    (64, 64, 64, "nn"), (32, 128, 64, "nt"), (128, 64, 32, "tn"), (128, 128, 784, "nt"),
    (128, 784, 128, "nn"), (128, 784, 128, "tn"), (256, 256, 256, "nn"), (1024, 64, 64, "nt"),
    (512, 512, 512, "nn"), (512, 512, 512, "nt"), (512, 512, 512, "tn"), (512, 512, 512, "tt"),
)

#: (row tiles, column tiles, K) of products that fit the buffers in one run of the 16x16.
RESIDENT = ((4, 8, 64), (4, 8, 128), (4, 4, 256), (4, 4, 512), (2, 2, 1024), (1, 1, 2048))


def _product(acc: Accelerator, rng, m: int, n: int, k: int, op: str) -> tuple[dict, float]:
    a = rng.integers(-127, 128, (m, k) if op[0] == "n" else (k, m), dtype=np.int8)
    b = rng.integers(-127, 128, (k, n) if op[1] == "n" else (n, k), dtype=np.int8)
    wall, cpu = time.perf_counter(), time.process_time()
    c = acc.gemm(a, b, op)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    exact = bool((c == reference(a, b, op)).all())
    return figures(acc, (m, n, k), op, exact, wall), cpu


def products(config: str, seed: int):
    """Yields the figures of each of ``PRODUCTS``, INT32 out, everything through the CFU door."""
    rng = np.random.default_rng(seed)
    with open_accelerator("verilator", config) as acc:
        for m, n, k, op in PRODUCTS:
            yield _product(acc, rng, m, n, k, op)[0]


def simulation_speed(config: str, seed: int, repeats: int = 5) -> dict:
    """Simulated MACs and cycles per second of CPU time, of 512 x 512 x 512 through ``gemm``.

    The median of ``repeats``, so that one disturbed run does not count.
    """
    rng = np.random.default_rng(seed)
    with open_accelerator("verilator", config) as acc:
        runs = sorted((_product(acc, rng, 512, 512, 512, "nt") for _ in range(repeats)),
                      key=lambda run: run[1])
        out, cpu = runs[repeats // 2]
    return {"config": config, "macs_per_cpu_s": round(out["macs"] / cpu),
            "cycles_per_cpu_s": round(out["cycles"] / cpu), "cpu_s": round(cpu, 3),
            "utilisation": out["utilisation"], "exact": all(r[0]["exact"] for r in runs)}


def array_utilisation(config: str, seed: int):
    """Yields utilisation between first and last MAC, operands loaded, for each of ``RESIDENT``.

    The run counter says how long operands entered the array's corner; the far corner's last MAC
    comes ``row_pairs + columns - 2`` cycles after.
    """
    rng = np.random.default_rng(seed)
    with open_accelerator("verilator", config) as acc:
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
