"""``backbeat gemm``: one product, checked and measured."""

import time
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from . import app
from .options import AnyConfigName, Backend, JsonFile, Seed, write_json

Size = Annotated[int, typer.Argument(min=1)]


@app.command()
def gemm(m: Size, n: Size, k: Size,
         op: Annotated[str, typer.Option(help="nn, nt, tn or tt: A and B as they lie, or transposed.")]
         = "nn",
         backend: Backend = "verilator", config: AnyConfigName = None, seed: Seed = 0,
         int8: Annotated[bool, typer.Option("--int8", help="Requantise the result to INT8.")] = False,
         json_file: JsonFile = None):
    """Multiply two random INT8 matrices (M K by K N) and compare with NumPy."""
    from .. import Requantise, open
    from ..accelerator import OPS
    from ..measure import counters, figures, reference

    if op not in OPS:
        raise ValueError(f"op must be one of {', '.join(OPS)}, got {op!r}")
    rng = np.random.default_rng(seed)
    a = rng.integers(-127, 128, (m, k) if op[0] == "n" else (k, m), dtype=np.int8)
    b = rng.integers(-127, 128, (k, n) if op[1] == "n" else (n, k), dtype=np.int8)
    spec = Requantise(1 << 20, 32, rounding="stochastic", seed=seed) if int8 else None
    with open(backend, config) as acc:
        start = time.perf_counter()
        c = acc.gemm(a, b, op, requantize=spec)
        wall = time.perf_counter() - start
        out = figures(acc, (m, n, k), op, bool((c == reference(a, b, op, spec)).all()), wall)
        out |= counters(acc)
    write_json(out, json_file)
    if json_file != "-":
        for name, value in out.items():
            Console().print(f"{name:14} {value}", highlight=False)
    if not out["exact"]:
        raise typer.Exit(1)
