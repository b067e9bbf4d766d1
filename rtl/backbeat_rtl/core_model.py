"""What the hardware returns: command by command over a door, and product by product.

The only place that knows. ``CoreModel`` answers every command as the core does, timing aside;
``product`` is the sum of it for a whole GEMM, and what the ``model`` backend computes.
"""

import numpy as np

from . import isa
from .config import WORD, Config
from .epilogue_model import Requantise, element_index, requantise
from .isa import MAX_K, Error, Op, Port, Read, Write

__all__ = ["MAX_K", "CoreModel", "exact_matmul", "panel_lanes", "panel_words", "product"]

#: Products of this K are exact in float32: K * 2**14 <= 2**24.
_FLOAT_K = 1024


def exact_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a[..., M, K] @ b[..., K, N]`` of INT8 in INT32, by float32 products of 1,024 steps at most."""
    out = None
    for k in range(0, a.shape[-1], _FLOAT_K):
        part = (a[..., k:k + _FLOAT_K].astype(np.float32)
                @ b[..., k:k + _FLOAT_K, :].astype(np.float32)).astype(np.int32)
        out = part if out is None else np.add(out, part, out=out)
    return out


def product(a: np.ndarray, b: np.ndarray, bias=None, spec: Requantise | None = None):
    """What the accelerator returns for ``a[M, K] @ b[K, N]``, or for a batch of such products.

    Returns
    -------
    c : int32 or int8 array [..., M, N]
        INT8 if ``spec`` is given; then of one product only.
    max_abs : int
        Largest magnitude of the accumulators.
    """
    acc = exact_matmul(a, b)
    max_abs = max(int(acc.max()), -int(acc.min()))
    if spec is None:
        return acc, max_abs
    multiplier, shift = spec.per_column(acc.shape[1])
    c = requantise(acc, 0 if bias is None else bias, multiplier, shift, zero_point=spec.zero_point,
                   low=spec.low, high=spec.high, stochastic=spec.rounding == "stochastic",
                   seed=spec.seed, index=element_index(*acc.shape))
    return c, max_abs


def panel_words(lanes: int, depth: int, tiles: int, last: int, across: bool) -> int:
    """Operand words of a panel."""
    if across:
        return depth * ((tiles - 1) * -(-lanes // WORD) + -(-last // WORD))
    return ((tiles - 1) * lanes + last) * -(-depth // WORD)


def panel_lanes(words: np.ndarray, lanes: int, depth: int, tiles: int, last: int,
                across: bool) -> np.ndarray:
    """The panel that those words make.

    Parameters
    ----------
    words : int8 array [panel_words, 8]

    Returns
    -------
    int8 array [(tiles - 1) * lanes + last, depth]
    """
    rows = (tiles - 1) * lanes + last
    if not across:
        return words.reshape(rows, -1)[:, :depth]
    panel, steps = [], words.reshape(depth, -1, WORD)
    groups = -(-lanes // WORD)
    for tile in range(tiles):
        chunk = steps[:, tile * groups:(tile + 1) * groups].reshape(depth, -1)
        panel.append(chunk[:, :lanes if tile < tiles - 1 else last].T)
    return np.concatenate(panel)


class CoreModel:
    """Answers commands like :class:`backbeat_rtl.core.Core`, minus the waiting.

    Counters (CYCLES, BUSY, FED) and STATUS depend on timing; they read as zero here.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config
        self.reset()

    def reset(self):
        self.error, self.error_value = Error.NONE, 0
        self.panels = {}            # (port, half) -> int8 [rows, depth], its (tiles, last)
        self.loading = {}           # port -> [half, (depth, tiles, last, across), words]
        self.products = {}          # half -> int32 [rows, columns]
        self.words, self.read_half = [], None
        self.registers = {Write.SEED: 0, Write.PITCH: 0, Write.CLIP: 0x7F8000, Write.SHIFT: 0,
                          Write.TABLE: 0}
        self.max_abs = 0
        if not hasattr(self, "table"):  # a memory: survives a reset
            self.table = np.zeros((self.config.table_size, 3), dtype=np.int64)
        self.pushed = 0

    def execute(self, function_id: int, input_0: int = 0, input_1: int = 0) -> int:
        """The response to one command."""
        op, funct7 = Op(function_id & 7), function_id >> 3
        if op == Op.RESET:
            self.reset()
            return 0
        if self.error and op != Op.GET:
            return self.error
        result = getattr(self, f"_{op.name.lower()}")(funct7, input_0, input_1)
        if not isinstance(result, Error):
            return result
        if result and not self.error:
            self.error = result
            self.error_value = {
                Error.ILLEGAL: function_id, Error.NO_LOAD: function_id,
                Error.OPERAND: self.pushed,
                Error.NO_RESULT: function_id if op == Op.READ else input_0,
            }.get(result, input_0)
        return self.error if self.error and op == Op.GET else result

    def push_words(self, port: int, words: np.ndarray) -> int:
        """Like ``execute`` of a PUSH per row of ``words`` (uint32 [n, 2]); the responses or-ed."""
        status = 0
        for input_0, input_1 in words.tolist():
            status |= self.execute(isa.function_id(Op.PUSH, port), input_0, input_1)
        return status

    def _get(self, register, _input_0, _input_1):
        c = self.config
        values = {
            Read.ID: isa.encode("ID", version=isa.VERSION, rows=c.rows, columns=c.columns,
                                identity=isa.IDENTITY),
            Read.SIZE: isa.encode("SIZE", depth=c.depth, tiles=c.tiles, banks=c.banks,
                                   memory=c.memory),
            Read.ERROR: int(self.error), Read.ERROR_VALUE: self.error_value,
            Read.MAX_ABS: self.max_abs,
            Read.STATUS: 0, Read.CYCLES: 0, Read.BUSY: 0, Read.FED: 0,
        }
        return values.get(register, Error.ILLEGAL)

    def _set(self, register, value, _input_1):
        limits = {Write.SHIFT: 63}
        if register == Write.TABLE:
            place = isa.decode("TABLE", value)
            if value >> 16 or place["tile"] >= self.config.tiles or (
                    place["lane"] >= self.config.columns):
                return Error.SIZE
            value = place["tile"] * self.config.columns + place["lane"]
        if register == Write.MAX_ABS:
            self.max_abs = 0
        elif register not in self.registers:
            return Error.ILLEGAL
        elif value >= limits.get(register, 1 << 32):
            return Error.SIZE
        else:
            self.registers[register] = value
        return Error.NONE

    def _lanes(self, port):
        return self.config.rows if port == Port.A else self.config.columns

    def _load(self, port, input_0, input_1):
        if port > Port.B:
            return Error.ILLEGAL
        c, size, mode = self.config, isa.decode("LOAD.0", input_0), isa.decode("LOAD.1", input_1)
        depth, tiles, last = size["depth"], size["tiles"], size["last"]
        if (not 1 <= tiles <= c.tiles or not 1 <= last <= self._lanes(port) or depth == 0
                or depth > c.longest(tiles)):
            return Error.SIZE
        if port in self.loading:
            self.panels.pop((port, self.loading[port][0]), None)
        self.panels.pop((port, mode["half"]), None)
        self.loading[port] = [mode["half"], (depth, tiles, last, bool(mode["across"])), []]
        self.pushed = 0
        return Error.NONE

    def _push(self, port, input_0, input_1):
        if port > Port.TABLE:
            return Error.ILLEGAL
        if port == Port.TABLE:
            column = self.registers[Write.TABLE]
            signed = np.array([input_0, input_1], dtype=np.uint32).view(np.int32)
            self.table[column] = [*signed, self.registers[Write.SHIFT]]
            self.registers[Write.TABLE] = (column + 1) % self.config.table_size
            return Error.NONE
        if port not in self.loading:
            return Error.NO_LOAD
        word = np.array([input_0, input_1], dtype="<u4").view(np.int8)
        if port == Port.A and (word == -128).any():
            return Error.OPERAND
        half, shape, words = self.loading[port]
        words.append(word)
        self.pushed += 1
        lanes = self._lanes(port)
        if len(words) == panel_words(lanes, *shape):
            self.panels[port, half] = panel_lanes(np.stack(words), lanes, *shape), shape[1]
            del self.loading[port]
        return Error.NONE

    def _run(self, funct7, input_0, _input_1):
        if funct7:
            return Error.ILLEGAL
        run = isa.decode("RUN.0", input_0)
        a_key, b_key = (Port.A, run["a_half"]), (Port.B, run["b_half"])
        if a_key not in self.panels or b_key not in self.panels:
            return Error.NOT_LOADED
        (a, a_tiles), (b, b_tiles) = self.panels[a_key], self.panels[b_key]
        old = self.products.get(run["c_half"])
        if a.shape[1] != b.shape[1] or run["accumulate"] and (
                old is None or old.shape != (a.shape[0], b.shape[0])):
            return Error.DEPTH
        if b_tiles > self.config.tiles // a_tiles:
            return Error.SIZE
        if self.words and self.read_half == run["c_half"]:
            return Error.BUSY
        acc = exact_matmul(a, b.T)
        self.products[run["c_half"]] = acc + old if run["accumulate"] else acc
        return Error.NONE

    def _readout(self, funct7, input_0, input_1):
        if funct7:
            return Error.ILLEGAL
        mode = isa.decode("READOUT.0", input_0)
        if mode["half"] not in self.products:
            return Error.NO_RESULT
        if self.words:
            return Error.BUSY
        acc = self.products[mode["half"]]
        rows, columns = acc.shape
        self.max_abs = max(self.max_abs, int(np.abs(acc.astype(np.int64)).max()))
        self.read_half = mode["half"]
        if not mode["requantise"]:
            self.words = acc.view(np.uint32).ravel()[::-1].tolist()
            return Error.NONE
        pitch = self.registers[Write.PITCH]
        index = (input_1 + np.arange(rows, dtype=np.uint64)[:, None] * np.uint64(pitch)
                 + np.arange(columns, dtype=np.uint64)).astype(np.uint32)
        clip = {k: v - 256 if v > 127 else v
                for k, v in isa.decode("CLIP", self.registers[Write.CLIP]).items()}
        bias, multiplier, shift = self.table[:columns].T
        c = requantise(acc, bias, multiplier, shift, **clip, stochastic=bool(mode["stochastic"]),
                       seed=self.registers[Write.SEED], index=index)
        padded = np.zeros((rows, -(-columns // 4) * 4), dtype=np.int8)
        padded[:, :columns] = c
        self.words = padded.view("<u4").ravel()[::-1].tolist()
        return Error.NONE

    def _read(self, funct7, _input_0, _input_1):
        if funct7:
            return Error.ILLEGAL
        if not self.words:
            return Error.NO_RESULT
        return self.words.pop()
