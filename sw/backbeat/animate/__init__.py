"""A picture of the beat: operands and sums moving through the array, from the RTL's own waveform.

``record`` has the traced RTL multiply, ``waveform`` reads its registers, ``beat`` says what they are,
``scene`` draws it, ``image`` writes it.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from backbeat_rtl.config import Config

from ..files import write_atomically
from .beat import Beat, check, follow, operands
from .image import FORMATS
from .record import record
from .waveform import TraceError, read_registers

__all__ = ["FORMATS", "Beat", "TraceError", "watch"]


def watch(m: int, k: int, n: int, config: "str | Config" = "4x4", seed: int = 0,
          vcd: "Path | None" = None) -> Beat:
    """Multiplies small random matrices, [m, k] by [k, n], on the simulated RTL, and looks on.

    Parameters
    ----------
    vcd : Path, optional
        Where the waveform is kept.

    Raises
    ------
    ValueError
        The product is too large to be looked at.
    TraceError
        The waveform does not show what the picture would say.
    ToolError, AcceleratorError, OSError
        As :func:`.record.record`.
    """
    config = Config.of(config)
    check(m, k, n, config)
    config = replace(config, memory=False)      # the array is the same, and compiles sooner
    a, b = operands(m, k, n, seed)
    with tempfile.TemporaryDirectory(prefix="backbeat-") as folder:
        path = Path(folder) / "beat.vcd"
        read = record(a, b, config, path)
        beat = follow(read_registers(path, config), a, b, config)
        if vcd is not None:
            write_atomically(vcd, path.read_bytes())
    if (read != beat.c).any():
        at = tuple(int(x) for x in np.argwhere(read != beat.c)[0])
        raise TraceError(f"C{list(at)} is {read[at]} to the core's commands, but {beat.c[at]} was "
                         "written to its accumulator")
    return beat
