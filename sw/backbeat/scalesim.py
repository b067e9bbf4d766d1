"""Cycles that SCALE-Sim, a simulator of systolic arrays by others, gives for products of ours.

It runs in an environment of its own, as a program that is handed files; nothing here imports it.
"""

import csv
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backbeat_rtl.config import Config

from . import open as open_accelerator
from .bench import Run, Track, measure
from .errors import ToolError
from .workloads import Product
from .workloads.importers import topology

__all__ = ["PRODUCTS", "Estimate", "closed_form", "compare", "compute_cycles", "read_topology"]

#: (M, N, K): layers of an MLP and of attention, a cube, and sizes that fill no tile.
PRODUCTS = tuple(
    Product(f"{m}x{n}x{k}", "forward", "nt", m, n, k)
    for m, n, k in ((64, 128, 784), (256, 256, 256), (1024, 1024, 64), (1024, 64, 1024), (31, 32, 31)))

# Output-stationary like ours. CALC: the memory is as fast as the array asks, so that nothing stalls
# and the cycles are those of the array alone. Sizes of buffers then only shape its DRAM figures.
_CONFIG = """\
[general]
run_name = {name}

[architecture_presets]
ArrayHeight = {config.rows}
ArrayWidth = {config.columns}
IfmapSramSzkB = 64
FilterSramSzkB = 64
OfmapSramSzkB = 64
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = os
ReadRequestBuffer = 32
WriteRequestBuffer = 32

[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2

[sparsity]
SparsitySupport = False

[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""

# Its command line takes `-s N` and writes its traces all the same, 34 MB of 256 x 256 x 256; its class
# heeds it.
_RUN = """\
import sys
from scalesim.scale_sim import scalesim
config, topology, layout, out = sys.argv[1:]
scalesim(save_disk_space=True, verbose=False, config=config, topology=topology, layout=layout,
         input_type_gemm=True).run_scale(top_path=out)
"""


@dataclass(frozen=True)
class Estimate:
    """Compute cycles of a product; ``simulated``, or else by :func:`closed_form`."""

    cycles: int
    simulated: bool


def closed_form(product: Product, config: Config) -> int:
    """Cycles that SCALE-Sim's output-stationary schedule takes.

    Tile after tile, each from its first operand to its last result: K steps and the skews of both
    sides of the array. :func:`compute_cycles` holds every product that it does simulate against it.
    """
    tiles = -(-product.m // config.rows) * -(-product.n // config.columns)
    return tiles * (product.k + config.rows + config.columns - 2)


def compute_cycles(product: Product, config: Config, interpreter: Path, folder: Path,
                   limit: int) -> Estimate:
    """Cycles of one product, as many as SCALE-Sim counts, without stalls of its memory.

    It reports the number of the last cycle, counted from 0: one less than the cycles taken. It needs
    about 10 s and 200 MB per 100,000 cycles; products of more than ``limit`` cycles are computed by
    the formula that it follows.

    Parameters
    ----------
    product : Product
        A convolution is given as the product of matrices that it is.
    interpreter : Path
        Python of an environment with scalesim.
    folder : Path
        Where its input and output files go.

    Raises
    ------
    ToolError
        SCALE-Sim fails, reports stalls, or differs from :func:`closed_form`.
    """
    expected = closed_form(product, config)
    if expected > limit:
        return Estimate(expected, simulated=False)
    name = f"{config.name}-{product.m}x{product.n}x{product.k}"
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    files = {"config.cfg": _CONFIG.format(name=name, config=config),
             "topology.csv": f"Layer,M,N,K,\n{name},{product.m},{product.n},{product.k},\n",
             "layout.csv": "Layer,\n"}
    for file, text in files.items():
        (folder / file).write_text(text)
    report = folder / name / "COMPUTE_REPORT.csv"
    report.unlink(missing_ok=True)
    run = subprocess.run([interpreter, "-c", _RUN, *(folder / file for file in files), folder],
                         capture_output=True, text=True)
    if run.returncode or not report.exists():
        raise ToolError(f"SCALE-Sim failed on {name}:\n{run.stdout[-500:]}{run.stderr[-1500:]}")
    with report.open() as rows:
        row = next(csv.DictReader(rows, skipinitialspace=True))
    cycles, stalls = int(row["Total Cycles"]) + 1, int(row["Stall Cycles"])
    if stalls or cycles != expected:
        raise ToolError(f"SCALE-Sim took {cycles} cycles and {stalls} stalls for {name}, its schedule "
                        f"{expected}")
    return Estimate(cycles, simulated=True)


def compare(products: Sequence[Product], backend: str, config: str, seed: int, interpreter: Path,
            folder: Path, limit: int, track: Track = iter) -> list[dict]:
    """SCALE-Sim's cycles and ours of each product, INT8 and INT32 out.

    Ours include all traffic with memory. Where even the bound of array and memory is not below
    SCALE-Sim's cycles, no schedule of ours could be: ``possible`` is False.
    """
    rows = []
    with open_accelerator(backend, config) as acc:
        for product in track(products):
            estimate = compute_cycles(product, acc.config, interpreter, folder, limit)
            for int8 in (True, False):
                ours = measure(acc, Run(product.name, (product,), int8, None), seed)
                cycles = ours["cycles"]
                rows.append({
                    "product": product.name, "m": product.m, "n": product.n, "k": product.k,
                    "scalesim_cycles": estimate.cycles,
                    "scalesim_by": "simulation" if estimate.simulated else "formula",
                    **{name: ours[name] for name in ("out", "cycles", "bound", "bound_by", "exact")},
                    "ratio": cycles and round(cycles / estimate.cycles, 4),
                    "below": cycles and cycles < estimate.cycles,
                    "possible": ours["bound"] < estimate.cycles})
    return rows


def read_topology(path: Path) -> list[Product]:
    """The forward products of a topology file, see :func:`.workloads.importers.topology.read`."""
    return list(topology.read(path).products(training=False))
