"""What descriptors do to memory: chains of whole products, in NumPy integers.

Says what the core leaves in memory and in its registers, not when. Memory is an image of bytes that
begins at the address ``base``; there is nothing outside of it. What the instruction set leaves
undefined (`step_y_rest` that is not the rest of `step_y`) is refused with a ValueError, since every
answer would be an invention.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from . import isa
from .config import WORD, Config
from .core_model import exact_matmul
from .epilogue_model import element_index, requantise
from .isa import DescriptorOp, Error, decode_descriptor

__all__ = ["ChainResult", "check", "run_chain", "run_descriptor"]


@dataclass(frozen=True)
class ChainResult:
    """What the core's registers say when the chain has ended.

    Attributes
    ----------
    completed : int
        Descriptors completed.
    error : Error
    value : int
        ERROR_VALUE. Of BUS_READ and BUS_WRITE the first word of the operand that errs, where the
        core has the address of the burst with it, or with another such word.
    failed : int
        Address of the descriptor that failed, 0 if none did or it was pushed.
    max_abs : int
        Largest accumulator magnitude of the last one completed; each begins at 0. What MAX_ABS is
        after an error depends on when it was met.
    """

    completed: int = 0
    error: Error = Error.NONE
    value: int = 0
    failed: int = 0
    max_abs: int = 0


class _Failure(Exception):
    """Ends a descriptor: (Error, value)."""


def check(words, config: Config) -> tuple[Error, int]:
    """The first rule that the descriptor breaks, and the value to report; (NONE, 0) if none.

    Parameters
    ----------
    words : sequence of int [at least FETCHED_WORDS]
        Unsigned.
    """
    for error, value, broken in _rules([int(word) for word in words], config):
        if broken:
            return error, value
    return Error.NONE, 0


def _rules(words: list[int], config: Config) -> Iterator[tuple[Error, int, bool]]:
    """Error, value, and whether the rule is broken, in the order in which the core looks."""
    d = _decode(words)
    yield Error.UNKNOWN, words[0], d["op"] not in set(DescriptorOp)
    if d["op"] == DescriptorOp.NONE:
        return
    yield Error.UNKNOWN, words[0], (d["gather_a"] and d["gather_b"]
                                    or d["sums"] and not d["columns_outer"])
    stored_a, stored_b = not d["gather_a"], not d["gather_b"]
    gathered = d["gather_a"] or d["gather_b"]
    for name, used in (("a", True), ("b", True), ("c", True), ("table", d["requantise"]),
                       ("sums_address", d["sums"]), ("a_pitch", stored_a), ("b_pitch", stored_b),
                       ("c_pitch", True), ("row_pitch", gathered), ("image_pitch", gathered),
                       ("b_wrap", stored_b and d["b_group"])):
        yield Error.ALIGNMENT, d[name], used and d[name] % WORD != 0
    m, n, k = d["m"], d["n"], d["k"]
    for size, largest in ((m, isa.MAX_DIMENSION), (n, isa.MAX_DIMENSION), (k, isa.MAX_K)):
        yield Error.DIMENSION, size, not 1 <= size <= largest
    if gathered:
        yield Error.DIMENSION, d["pixel"], d["pixel"] == 0 or d["pixel"] % WORD != 0
        for name in ("taps_x", "grid_y", "grid_x", "insert_y", "insert_x"):
            yield Error.DIMENSION, d[name], d[name] == 0
    yield Error.PITCH, d["a_pitch"], stored_a and (m if d["a_across"] else k) > d["a_pitch"]
    yield Error.PITCH, d["b_pitch"], stored_b and (n if d["b_across"] else k) > d["b_pitch"]
    yield Error.PITCH, d["c_pitch"], n * _result_bytes(d) > d["c_pitch"]

    a_panel, b_panel, chunk = d["a_panel"], d["b_panel"], d["chunk"]
    yield Error.PLAN, words[14], chunk == 0 or chunk < k and chunk % WORD != 0
    yield Error.PLAN, words[13], a_panel == 0 or a_panel < m and d["a_across"] and a_panel % WORD != 0
    yield Error.PLAN, words[13], b_panel == 0 or b_panel < n and b_panel % WORD != 0
    a_tiles, b_tiles = -(-min(a_panel, m) // config.rows), -(-min(b_panel, n) // config.columns)
    depth = _words(min(max(chunk, d["last_chunk"]), k)) * WORD
    yield Error.PLAN, words[13], a_tiles * depth > config.bank
    yield Error.PLAN, words[13], b_tiles * depth > config.bank
    yield Error.PLAN, words[13], a_tiles * b_tiles > config.tiles


def run_chain(memory: np.ndarray, address: int, config: Config, base: int = 0,
              faults: Sequence[tuple[int, int, Error]] = ()) -> ChainResult:
    """Carries out the chain whose first descriptor is at ``address``.

    Completed descriptors get their records: `done` and `max_abs`; `begun` and `ended` are left 0. Of
    one that fails nothing is written, though the core may have stored a part of its C by the time
    that it meets -128 or the end of memory.

    Parameters
    ----------
    memory : uint8 array [bytes], a multiple of 8
        Changed in place; byte ``i`` has the address ``base + i``.
    address : int
        Where SET DOORBELL points.
    config : Config
    base : int
        A multiple of 8.
    faults : sequence of (int, int, Error)
        From one address up to another the memory answers reads (BUS_READ) or writes (BUS_WRITE)
        with an error.

    Raises
    ------
    ValueError
        The chain returns to a descriptor, or one of them is undefined (says which word), or
        ``memory`` is no such array.
    """
    image = _Image(memory, base, faults)
    completed, max_abs, seen = 0, 0, set()
    while True:
        if address in seen:
            raise ValueError(f"the chain never ends: it comes back to the descriptor at {address:#x}")
        seen.add(address)
        try:
            if address % WORD:
                raise _Failure(Error.ALIGNMENT, address)
            words = image.read(image.index(np.array([address]), 4 * isa.FETCHED_WORDS)).view("<u4")[0]
            largest = _execute(image, words, config)
            record = np.array([1, largest, 0, 0], "<u4")
            image.write(image.index(np.array([address + 4 * isa.RECORD_WORD]), 16),
                        record[None].view(np.uint8))
        except _Failure as failure:
            return ChainResult(completed, *failure.args, failed=address, max_abs=max_abs)
        completed, max_abs = completed + 1, largest
        d = _decode(words)
        if d["last"]:
            return ChainResult(completed, max_abs=max_abs)
        address = d["next"]


def run_descriptor(memory: np.ndarray, words, config: Config, base: int = 0,
                   faults: Sequence[tuple[int, int, Error]] = ()) -> ChainResult:
    """Carries out one pushed descriptor; its `next`, `last` and `fence` mean nothing.

    Parameters
    ----------
    memory, base, faults
        See :func:`run_chain`.
    words : sequence of int [at least FETCHED_WORDS]
        As pushed.
    config : Config

    Raises
    ------
    ValueError
        See :func:`run_chain`.
    """
    try:
        return ChainResult(1, max_abs=_execute(_Image(memory, base, faults), words, config))
    except _Failure as failure:
        return ChainResult(0, *failure.args)


class _Image:
    """Memory in words of 8 bytes, which is how the core reads it."""

    def __init__(self, memory: np.ndarray, base: int, faults: Sequence[tuple[int, int, Error]]):
        if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
            raise ValueError(f"memory must be a contiguous vector of uint8, got {memory.dtype} of shape "
                             f"{memory.shape}")
        if memory.size % WORD or base % WORD:
            raise ValueError(f"memory and base must be multiples of {WORD} bytes, got {memory.size} "
                             f"bytes at {base:#x}")
        self.memory, self.base, self.words = memory, base, memory.view("<u8")
        self.faults = faults

    def index(self, starts: np.ndarray, size: int) -> np.ndarray:
        """Addresses of the words of rows of ``size`` bytes, int64 [rows, words]."""
        return (starts[:, None] + np.arange(_words(size)) * WORD) % 2**32

    def places(self, addresses: np.ndarray, wanted: "np.ndarray | bool", error: Error) -> np.ndarray:
        """Index into ``words`` of each word wanted, 0 of the others; fails at one that errs."""
        place = (addresses - self.base) // WORD
        bad = wanted & ((place < 0) | (place >= self.words.size))
        for start, end, kind in self.faults:
            if kind == error:
                bad |= wanted & (addresses + WORD > start) & (addresses < end)
        if bad.any():
            raise _Failure(error, int(addresses[bad][0]))
        return np.where(wanted, place, 0)

    def read(self, addresses: np.ndarray, wanted: "np.ndarray | bool" = True) -> np.ndarray:
        """The words there, 0 where not wanted: uint8 [rows, 8 * words]."""
        places = self.places(addresses, wanted, Error.BUS_READ)
        return np.where(wanted, self.words[places], 0).astype("<u8", copy=False).view(np.uint8)

    def write(self, addresses: np.ndarray, rows: np.ndarray):
        """Writes rows of bytes, uint8 [rows, bytes], to the words there; fails before it begins."""
        places = self.places(addresses, True, Error.BUS_WRITE)
        whole = rows.shape[1] // WORD
        self.words[places[:, :whole]] = rows[:, :whole * WORD].copy().view("<u8")
        if rest := rows.shape[1] % WORD:
            self.memory[places[:, whole:] * WORD + np.arange(rest)] = rows[:, whole * WORD:]


def _decode(words) -> dict[str, int]:
    raw = np.zeros(isa.DESCRIPTOR_WORDS, "<u4")
    raw[:isa.FETCHED_WORDS] = words[:isa.FETCHED_WORDS]
    return decode_descriptor(raw.tobytes())


def _words(size: int) -> int:
    return -(-size // WORD)


def _signed(value: int, width: int) -> int:
    return value - (value >> width - 1 << width)


def _result_bytes(d: dict[str, int]) -> int:
    return 1 if d["requantise"] else 4


def _execute(image: _Image, words, config: Config) -> int:
    """The largest accumulator magnitude; all of the descriptor but its record is written."""
    error, value = check(words, config)
    if error:
        raise _Failure(error, value)
    d = _decode(words)
    if d["op"] == DescriptorOp.NONE:
        return 0
    _refuse_undefined(d)
    m, n, k = d["m"], d["n"], d["k"]
    a = _operand(image, d, "a", (k, m) if d["a_across"] else (m, k))
    if (a == -128).any():
        raise _Failure(Error.OPERAND, 0)
    b = _operand(image, d, "b", (k, n) if d["b_across"] else (n, k))
    acc = exact_matmul(a.T if d["a_across"] else a, b if d["b_across"] else b.T)
    c = _requantised(image, d, acc) if d["requantise"] else acc
    sums = c.sum(axis=0, dtype=np.int64).astype("<i4")

    c = np.ascontiguousarray(c).view(np.uint8)
    addresses = image.index(d["c"] + np.arange(m) * d["c_pitch"], c.shape[1])
    image.places(addresses, True, Error.BUS_WRITE)      # before the sums are written
    if d["sums"]:
        image.write(image.index(np.array([d["sums_address"]]), 4 * n), sums[None].view(np.uint8))
    image.write(addresses, c)
    return max(int(acc.max()), -int(acc.min()))


def _refuse_undefined(d: dict[str, int]):
    """Raises for what no check of the core covers and no descriptor may have."""
    exact = {}
    if d["gather_a"] or d["gather_b"]:
        for axis, pitch in (("y", "row_pitch"), ("x", "pixel")):
            insert = d[f"insert_{axis}"]
            exact[f"origin_{axis}_rest"] = _signed(d[f"origin_{axis}"], 16) % insert
            for step in (f"step_{axis}", f"tap_{axis}"):
                exact[f"{step}_rest"] = d[step] % insert
                exact[f"{step}_bytes"] = d[step] // insert * d[pitch] % 2**32
    for name, value in exact.items():
        if d[name] != value:
            raise ValueError(f"descriptor: {name} must be {value}, got {d[name]}")


def _operand(image: _Image, d: dict[str, int], name: str, shape: tuple[int, int]) -> np.ndarray:
    """The operand as stored, int8 of that shape."""
    rows, columns = shape
    if d[f"gather_{name}"]:
        return image.read(*_gathered(d, d[name], rows, columns)).view(np.int8)[:, :columns]
    number, pitch = np.arange(rows), d[f"{name}_pitch"]
    starts = d[name] + number * pitch
    if name == "b" and d["b_group"]:
        starts += number // d["b_group"] * (_signed(d["b_wrap"], 32) - pitch)
    return image.read(image.index(starts, columns)).view(np.int8)[:, :columns]


def _gathered(d: dict[str, int], address: int, rows: int, columns: int):
    """Address of each word of pixels by taps, and whether it lies in the tensor."""
    pixel, grid_x, grid_y = d["pixel"], d["grid_x"], d["grid_y"]
    image, place = np.divmod(np.arange(rows)[:, None], grid_x * grid_y)
    tap, byte = np.divmod(np.arange(_words(columns)) * WORD, pixel)
    addresses, inside = address + image * d["image_pitch"] + byte, True
    for axis, number, window, pitch in (("y", place // grid_x, tap // d["taps_x"], d["row_pitch"]),
                                        ("x", place % grid_x, tap % d["taps_x"], pixel)):
        insert, origin = d[f"insert_{axis}"], _signed(d[f"origin_{axis}"], 16)
        position = number * d[f"step_{axis}"] + window * d[f"tap_{axis}"] + origin
        inside = inside & (position >= 0) & (position < d[f"limit_{axis}"]) & (position % insert == 0)
        # The address word is that of the origin, which may lie outside of the tensor.
        addresses = addresses + (position // insert - origin // insert) * pitch
    return addresses, inside


def _requantised(image: _Image, d: dict[str, int], acc: np.ndarray) -> np.ndarray:
    """INT8 of the accumulators, by the table in memory."""
    m, n = acc.shape
    entries = image.read(image.index(d["table"] + np.arange(n) * 16, 16)).view("<i4")
    clip = {name: _signed(d[name], 8) for name in ("zero_point", "low", "high")}
    return requantise(acc, entries[:, 0], entries[:, 1], entries[:, 2] & 63, **clip, seed=d["seed"],
                      stochastic=bool(d["stochastic"]), index=element_index(m, n))
