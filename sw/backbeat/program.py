"""A product as batches of CFU commands, for any door that takes commands."""

from dataclasses import dataclass, field, replace

import numpy as np

from backbeat_rtl import isa
from backbeat_rtl.config import WORD, Config
from backbeat_rtl.epilogue_model import Requantise
from backbeat_rtl.isa import Op, Port, Write, function_id

from .gather import Gather
from .memory import padded
from .resident import Placed
from .stats import Stats
from .tiler import plan, steps

__all__ = ["Batch", "Job", "Program", "Result", "collect", "column_sums", "compile_job", "panel"]


@dataclass(frozen=True, eq=False)
class Job:
    """A checked product: ``op(a) @ op(b)`` with ``op`` as in :meth:`Accelerator.gemm`.

    ``a`` and ``b`` are C-contiguous int8, ``a`` without -128; or they lie in device memory. ``bias`` is
    int32 [N] or None. ``into``: address of device memory where C goes and stays.

    ``gather_a`` or ``gather_b`` says that the operand as stored is gathered from a tensor
    (N, H, W, C). ``filters`` says that ``b`` is a tensor (K, R, S, C) whose rows as stored are (tap,
    filter), the last tap first, and of whose channels the first ``filters`` are the columns.

    ``a`` [B, M, K] and ``b`` [B, K, N] (as ``op`` says) are a batch of B products, without ``bias``,
    ``spec`` and ``sums``.
    """

    a: "np.ndarray | Placed"
    b: "np.ndarray | Placed"
    op: str
    bias: np.ndarray | None = None
    spec: Requantise | None = None
    sums: bool = False
    gather_a: Gather | None = None
    gather_b: Gather | None = None
    filters: int | None = None
    into: int | None = None

    @property
    def a_across(self) -> bool:
        """Stored (K, M): a word of A lies across rows."""
        return self.op[0] == "t"

    @property
    def b_across(self) -> bool:
        """Stored (K, N): a word of B lies across columns."""
        return self.op[1] == "n"

    @property
    def stored(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of A and of B as stored (or gathered)."""
        a = self.gather_a.shape(self.a.shape) if self.gather_a else self.a.shape[-2:]
        if self.filters is not None:
            filters, taps_y, taps_x, _ = self.b.shape
            return a, (taps_y * taps_x * filters, self.filters)
        return a, self.gather_b.shape(self.b.shape) if self.gather_b else self.b.shape[-2:]

    @property
    def batch(self) -> int:
        """Number of products."""
        return len(self.a) if self.a.ndim == 3 else 1

    def members(self) -> "list[Job]":
        """The products of a batch, or itself."""
        if self.a.ndim != 3:
            return [self]
        step = self.shape[0] * self.c_pitch
        return [replace(self, a=a, b=b, into=None if self.into is None else self.into + n * step)
                for n, (a, b) in enumerate(zip(self.a, self.b, strict=True))]

    def first(self) -> "Job":
        """The first of a batch, or itself: they are all of one shape."""
        return replace(self, a=self.a[0], b=self.b[0]) if self.a.ndim == 3 else self

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, K."""
        a, b = self.stored
        k, m = a if self.a_across else a[::-1]
        return m, b[1 if self.b_across else 0], k

    @property
    def result_bytes(self) -> int:
        """Of a value of C."""
        return 4 if self.spec is None else 1

    @property
    def c_pitch(self) -> int:
        """Bytes from row to row of C in device memory."""
        return padded(self.shape[1] * self.result_bytes)

    @property
    def compulsory_bytes(self) -> int:
        """Each operand read once, a gathered tensor as it lies, and the result written once."""
        m, n, _ = self.shape
        return self.a.size + self.b.size + self.batch * m * n * self.result_bytes

    @property
    def inside(self) -> tuple[int | None, int | None]:
        """Bytes of A and of B that are no zeros around or between a tensor's; None if not gathered."""
        return tuple(None if gather is None else gather.bytes_inside(x.shape)
                     for gather, x in ((self.gather_a, self.a), (self.gather_b, self.b)))

    def explicit(self) -> "Job":
        """The same product of two matrices on the host that lie as they are."""
        a, b = (x.array() if isinstance(x, Placed) else x for x in (self.a, self.b))
        if self.gather_a:
            a = self.gather_a.matrix(a)
        if self.gather_b:
            b = self.gather_b.matrix(b)
        if self.filters is not None:
            b = b[:, ::-1, ::-1, :self.filters].transpose(1, 2, 0, 3)
            b = np.ascontiguousarray(b).reshape(self.stored[1])
        return Job(a, b, self.op, self.bias, self.spec, self.sums, into=self.into)


@dataclass
class Result:
    """C (None if it stays in device memory), the sums of its columns if the job wanted them, and what it
    took."""

    c: np.ndarray | None
    sums: np.ndarray | None
    stats: Stats


def column_sums(c: np.ndarray) -> np.ndarray:
    """int32 array [N]: the sum of each column, modulo 2^32."""
    return c.sum(axis=0, dtype=np.int64).astype(np.int32)


@dataclass(frozen=True)
class Batch:
    """``count`` commands with one function_id.

    Inputs are rows of ``inputs`` (uint32 [count, 2]) or, without it, all ``input_0, input_1``.
    Responses go to ``outputs`` (uint32 [count]) or, without it, must be zero.
    """

    function_id: int
    count: int = 1
    input_0: int = 0
    input_1: int = 0
    inputs: np.ndarray | None = None
    outputs: np.ndarray | None = None


@dataclass
class Program:
    """Batches in order, and where their results belong."""

    batches: list[Batch] = field(default_factory=list)
    results: list[tuple[slice, slice, np.ndarray]] = field(default_factory=list)

    def command(self, op: Op, funct7: int = 0, input_0: int = 0, input_1: int = 0):
        self.batches.append(Batch(function_id(op, funct7), 1, input_0, input_1))

    def words(self, port: Port, words: np.ndarray):
        self.batches.append(Batch(function_id(Op.PUSH, port), len(words), inputs=words))

    @property
    def bytes_read(self) -> int:
        """Operand bytes that go in (tables are not operands)."""
        pushes = function_id(Op.PUSH, Port.A), function_id(Op.PUSH, Port.B)
        return sum(b.count * WORD for b in self.batches if b.function_id in pushes)

    @property
    def bytes_written(self) -> int:
        """Result bytes that come out."""
        return sum(b.count * 4 for b in self.batches if b.function_id == function_id(Op.READ))

    @property
    def commands(self) -> int:
        return sum(b.count for b in self.batches)


def panel(matrix: np.ndarray, lanes: slice, k: slice, across: bool, tile: int) -> np.ndarray:
    """The operand words of a panel in the order in which LOAD wants them.

    Parameters
    ----------
    matrix : int8 array, (lanes, K) or, if ``across``, (K, lanes)
    lanes, k : slice
    tile : int
        Lanes of a tile.

    Returns
    -------
    uint32 array [words, 2]
    """
    if not across:
        part = matrix[lanes, k]
        words = np.zeros((part.shape[0], -(-part.shape[1] // WORD) * WORD), dtype=np.int8)
        words[:, :part.shape[1]] = part
    else:
        part = matrix[k, lanes]
        pitch = -(-tile // WORD) * WORD         # a tile begins at a word of its own
        whole, rest = divmod(part.shape[1], tile)
        words = np.zeros((part.shape[0], whole * pitch + -(-rest // WORD) * WORD), dtype=np.int8)
        steps = part.shape[0]
        if pitch == tile:
            words[:, :part.shape[1]] = part
        else:
            words[:, :whole * pitch].reshape(steps, whole, pitch)[:, :, :tile] = (
                part[:, :whole * tile].reshape(steps, whole, tile))
            words[:, whole * pitch:whole * pitch + rest] = part[:, whole * tile:]
    return words.reshape(-1).view("<u4").reshape(-1, 2)


def _load(program: Program, port: Port, half: int, words: np.ndarray, lanes: int, depth: int,
          across: bool, tile: int):
    tiles = -(-lanes // tile)
    program.command(
        Op.LOAD, port,
        isa.encode("LOAD.0", depth=depth, tiles=tiles, last=lanes - (tiles - 1) * tile),
        isa.encode("LOAD.1", half=half, across=across))
    program.words(port, words)


def _set_epilogue(program: Program, job: Job):
    """The settings that hold for the whole product."""
    spec, n = job.spec, job.shape[1]
    for register, value in ((Write.SEED, spec.seed), (Write.PITCH, n), (Write.CLIP, isa.encode(
            "CLIP", zero_point=spec.zero_point, low=spec.low, high=spec.high))):
        program.command(Op.SET, register, value)


def _table(program: Program, job: Job, columns: slice, state: dict):
    """Bias, multiplier and shift of the macro-tile's columns."""
    if state.get("columns") == columns:
        return
    state["columns"] = columns
    multiplier, shift = job.spec.per_column(job.shape[1])
    entries = np.zeros((columns.stop - columns.start, 2), dtype=np.int32)
    entries[:, 0] = 0 if job.bias is None else job.bias[columns]
    entries[:, 1] = multiplier[columns]
    program.command(Op.SET, Write.TABLE, 0)
    shifts = shift[columns]
    edges = np.flatnonzero(np.diff(shifts)) + 1
    for start, stop in zip([0, *edges], [*edges, len(shifts)], strict=True):
        program.command(Op.SET, Write.SHIFT, int(shifts[start]))
        program.words(Port.TABLE, entries[start:stop].view(np.uint32))


def _read(program: Program, job: Job, step, state: dict):
    """Reads a finished macro-tile."""
    rows, columns = (s.stop - s.start for s in (step.rows, step.columns))
    spec = job.spec
    if spec is not None:
        _table(program, job, step.columns, state)
    program.command(
        Op.READOUT, 0,
        isa.encode("READOUT.0", half=step.c_half, requantise=spec is not None,
                   stochastic=spec is not None and spec.rounding == "stochastic"),
        (step.rows.start * job.shape[1] + step.columns.start) & 0xFFFFFFFF)
    words = rows * (columns if spec is None else -(-columns // 4))
    outputs = np.empty(words, dtype=np.uint32)
    program.batches.append(Batch(function_id(Op.READ), words, outputs=outputs))
    program.results.append((step.rows, step.columns, outputs))


def compile_job(job: Job, config: Config) -> Program:
    """All commands of a product of two matrices that lie as they are.

    The panels of the next run are loaded while this one computes, and a macro-tile is read while
    the next one computes: commands are carried out in order, but RUN does not wait for its end.
    """
    program, state = Program(), {}
    program.command(Op.SET, Write.MAX_ABS)
    if job.spec is not None:
        _set_epilogue(program, job)
    finished = None
    for step in steps(plan(*job.shape, config)):
        depth = step.k.stop - step.k.start
        if step.load_a:
            _load(program, Port.A, step.a_half,
                  panel(job.a, step.rows, step.k, job.a_across, config.rows),
                  step.rows.stop - step.rows.start, depth, job.a_across, config.rows)
        if step.load_b:
            _load(program, Port.B, step.b_half,
                  panel(job.b, step.columns, step.k, job.b_across, config.columns),
                  step.columns.stop - step.columns.start, depth, job.b_across, config.columns)
        program.command(Op.RUN, 0, isa.encode("RUN.0", a_half=step.a_half, b_half=step.b_half,
                                              c_half=step.c_half, accumulate=step.accumulate))
        if finished is not None:
            _read(program, job, finished, state)
        finished = step if step.last_chunk else None
    _read(program, job, finished, state)
    return program


def collect(program: Program, job: Job) -> np.ndarray:
    """C from the words that the program's reads have returned."""
    m, n, _ = job.shape
    c = np.empty((m, n), dtype=np.int32 if job.spec is None else np.int8)
    for rows, columns, words in program.results:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        c[rows, columns] = words.view(c.dtype).reshape(height, -1)[:, :width]
    return c
