"""Commands as (function_id, input_0, input_1)."""

import numpy as np

from backbeat.program import Program, panel
from backbeat_rtl import isa
from backbeat_rtl.isa import Op, Port, function_id

__all__ = ["command", "commands_of", "get", "load", "load_matrix", "push", "read", "readout", "run"]


def command(op: Op, funct7: int = 0, input_0: int = 0, input_1: int = 0) -> tuple[int, int, int]:
    return function_id(op, funct7), int(input_0), int(input_1)


def get(register: isa.Read):
    return command(Op.GET, register)


def load(port: Port, *, depth: int, tiles: int, last: int, half: int = 0, across: bool = False):
    return command(Op.LOAD, port, isa.encode("LOAD.0", depth=depth, tiles=tiles, last=last),
                   isa.encode("LOAD.1", half=half, across=across))


def push(port: Port, words: np.ndarray):
    """One PUSH per row of ``words`` (uint32 [n, 2])."""
    return [command(Op.PUSH, port, *pair) for pair in words.tolist()]


def load_matrix(port: Port, matrix: np.ndarray, lanes: int, half: int = 0, across: bool = False):
    """LOAD and PUSH of ``matrix[rows (columns), K]``."""
    rows, depth = matrix.shape
    tiles = -(-rows // lanes)
    stored = np.ascontiguousarray(matrix.T) if across else matrix
    last = rows - (tiles - 1) * lanes
    return [load(port, depth=depth, tiles=tiles, last=last, half=half, across=across),
            *push(port, panel(stored, slice(0, rows), slice(0, depth), across, lanes))]


def run(*, a_half: int = 0, b_half: int = 0, c_half: int = 0, accumulate: bool = False):
    return command(Op.RUN, 0, isa.encode("RUN.0", a_half=a_half, b_half=b_half, c_half=c_half,
                                         accumulate=accumulate))


def readout(*, half: int = 0, requantise: bool = False, stochastic: bool = False, index: int = 0):
    return command(Op.READOUT, 0, isa.encode("READOUT.0", half=half, requantise=requantise,
                                             stochastic=stochastic), index)


def read(words: int):
    return [command(Op.READ)] * words


def commands_of(program: Program) -> list[tuple[int, int, int]]:
    """The commands of a driver's program, one by one."""
    commands = []
    for batch in program.batches:
        inputs = ([(batch.input_0, batch.input_1)] * batch.count if batch.inputs is None
                  else batch.inputs.tolist())
        commands += [(batch.function_id, *pair) for pair in inputs]
    return commands
