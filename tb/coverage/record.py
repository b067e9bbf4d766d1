"""Bench-side: where a run leaves what it has reached, and a line per product that was right.

With ``COVERAGE=1`` the harness compiles Verilator's counters in, and each run leaves two files in
``build/coverage/runs/<directory of the build>``: ``.dat``, the counters, and ``.jsonl``, the products.
"""

import hashlib
import json
import os
from pathlib import Path

__all__ = ["FLAGS", "FOLDER", "covering", "files", "flags", "product", "recorded"]

FOLDER = Path(__file__).resolve().parents[2] / "build" / "coverage"
#: Verilator's: points at lines and branches, and with COVERAGE=toggle at every bit, at twice the cost.
FLAGS = {"1": ["--coverage-line"], "toggle": ["--coverage-line", "--coverage-toggle"]}


def covering() -> bool:
    return bool(os.environ.get("COVERAGE"))


def flags() -> list[str]:
    """For Verilator."""
    return FLAGS[os.environ["COVERAGE"]] if covering() else []


def files(build: Path, bench, arguments: dict) -> tuple[Path, Path]:
    """Of one run: the same for the same run of the same test, so that a repetition replaces it."""
    run = [bench.__module__, bench.__name__, json.dumps(arguments),
           os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]]
    folder = Path(os.environ.get("COVERAGE_RUNS") or FOLDER / "runs") / build.name
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("\0".join(run).encode()).hexdigest()[:16]
    for file in (found := (folder / f"{name}.dat", folder / f"{name}.jsonl")):
        file.unlink(missing_ok=True)
    return found


def product(config, *, op: str, shape, spec, panels, chunk: int, stalled: bool):
    """Notes a product that the RTL has carried out and whose result was the model's.

    Parameters
    ----------
    config : Config
    op : str
        Whether A and B are stored across: "nt" and so on, as the driver's.
    shape : (int, int, int)
        M, N and K.
    spec : (stochastic, zero_point, low) or None
        None: INT32. With a ``low`` that is the zero point it is a ReLU as well.
    panels : (int, int)
        Rows of A and columns of B that are in a macro-tile.
    chunk : int
        K of the longest run.
    stalled : bool
        Something was held back meanwhile: commands, responses, or a channel of the memory.
    """
    place = os.environ.get("COVERAGE_PRODUCTS")
    if not place:
        return
    line = {"array": [config.rows, config.columns], "op": op, "shape": list(shape),
            "spec": None if spec is None else [bool(spec[0]), int(spec[1]), int(spec[2])],
            "panels": list(panels), "chunk": chunk, "stalled": bool(stalled)}
    with open(place, "a") as file:
        file.write(json.dumps(line, default=int) + "\n")


def recorded(file: Path) -> list[dict]:
    """What :func:`product` has noted there."""
    return [json.loads(line) for line in file.read_text().splitlines()]
