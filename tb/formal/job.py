"""One property in a process of its own, with a fault of the RTL if wanted.

``python -m tb.formal.job NAME [--fault FAULT]`` leaves ``result.json`` in ``build/formal``.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from .faults import break_module
from .solve import BUILD, Fault, Result, prove

__all__ = ["folder", "run"]


def folder(name: str, fault: str | None = None) -> str:
    """Where the files of a property (with that fault) are, below ``build/formal``."""
    return name if fault is None else re.sub(r"\W+", "_", f"{name}-{fault}")


def run(name: str, fault: Fault | None = None) -> Result:
    """Proves the property ``name``, or tries to with a fault, in a process of its own.

    One whose process fails, as where a fault matches no place of the source, has the outcome
    ``"error"``.
    """
    result = BUILD / folder(name, fault and fault.name) / "result.json"
    result.unlink(missing_ok=True)
    change = [fault.name, fault.module, fault.old, fault.new] if fault else []
    process = subprocess.Popen(
        [sys.executable, "-m", "tb.formal.job", name, *(["--fault", *change] if change else [])],
        cwd=Path(__file__).resolve().parents[2], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True)
    try:
        output, _ = process.communicate()
    except BaseException:
        process.terminate()         # it ends its solver
        process.communicate()
        raise
    if not result.exists():
        return Result(name, "error", 0, output.strip()[-3000:])
    return Result(**json.loads(result.read_text()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--fault", nargs=4, metavar=("NAME", "MODULE", "OLD", "NEW"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    fault = options.fault
    if fault:
        break_module(*fault[1:])
    from .registry import properties  # only now: it imports the RTL

    # The engine that the core has made for itself is not the one it is checked with.
    warnings.simplefilter("ignore", UnusedElaboratable)
    prove(properties()[options.name], folder(options.name, fault and fault[0]), covers=not fault)


if __name__ == "__main__":
    main()
