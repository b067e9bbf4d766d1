"""One small product on the traced RTL: a VCD file, and what the core's read commands returned."""

from pathlib import Path

import numpy as np

from backbeat_rtl import isa
from backbeat_rtl.config import Config
from backbeat_rtl.isa import Op, Port, function_id

from ..backends.build import simulator_library
from ..backends.verilator import Simulator
from ..errors import AcceleratorError
from ..program import Batch, Program, panel

__all__ = ["record"]


def record(a: np.ndarray, b: np.ndarray, config: Config, path: Path) -> np.ndarray:
    """Multiplies on the core through its command door, and writes every signal of it to ``path``.

    Both panels are loaded before the one run begins, so that its tiles follow each other without a
    gap, which the driver's plans, made for the fewest cycles in all, need not do.

    Parameters
    ----------
    a : int8 array [M, K], -127...127
    b : int8 array [K, N]
        They must fit one run: see :func:`.frames.check`.
    config : Config
        Without a memory port.

    Returns
    -------
    int32 array [M, N]
        C, as read from the core.

    Raises
    ------
    ToolError
        The simulator cannot be built.
    AcceleratorError
        The core reports an error, or stops answering.
    OSError
        The file cannot be written.
    """
    (m, k), n = a.shape, b.shape[1]
    program, c, error = Program(), np.empty((m, n), np.int32), np.zeros(1, np.uint32)
    for port, matrix, lanes, size, across in ((Port.A, a, m, config.rows, False),
                                              (Port.B, b, n, config.columns, True)):
        tiles = -(-lanes // size)
        program.command(Op.LOAD, port,
                        isa.encode("LOAD.0", depth=k, tiles=tiles, last=lanes - (tiles - 1) * size),
                        isa.encode("LOAD.1", half=0, across=across))
        program.words(port, panel(matrix, slice(0, lanes), slice(0, k), across, size))
    program.command(Op.RUN, 0, isa.encode("RUN.0", a_half=0, b_half=0, c_half=0, accumulate=0))
    program.command(Op.READOUT, 0, isa.encode("READOUT.0", half=0, requantise=0, stochastic=0))
    program.batches += [
        Batch(function_id(Op.READ), m * n, outputs=c.reshape(-1).view(np.uint32)),
        Batch(function_id(Op.GET, isa.Read.ERROR), outputs=error)]
    simulator = Simulator(simulator_library(config, traced=True), None)
    try:
        simulator.trace(path)
        simulator.run(program.batches)
        simulator.trace(None)
    finally:
        simulator.close()
    if error[0]:
        raise AcceleratorError(f"the core reports {isa.ERRORS[isa.Error(int(error[0]))]}")
    return c
