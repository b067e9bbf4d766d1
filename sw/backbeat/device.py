"""Products as descriptors in device memory."""

from dataclasses import dataclass

import numpy as np

from backbeat_rtl import isa
from backbeat_rtl.config import Config
from backbeat_rtl.isa import DescriptorOp

from .memory import ALIGNMENT, Arena, Memory, padded
from .planner import plan
from .plans import NoPlanError, Plan
from .plans import fewest_bytes as fewest_planned
from .program import Job, Result
from .resident import Placed
from .stats import Stats

__all__ = ["DESCRIPTOR_BYTES", "FETCHED_BEATS", "RECORD_BEATS", "Chain", "Entry", "carriable",
           "collect", "compile_chain", "fewest_bytes", "footprint", "plan_job", "traffic"]

DESCRIPTOR_BYTES = 4 * isa.DESCRIPTOR_WORDS
#: Words of 8 bytes that the core reads of a descriptor, and that it writes into it.
FETCHED_BEATS, RECORD_BEATS = isa.FETCHED_WORDS // 2, (isa.DESCRIPTOR_WORDS - isa.RECORD_WORD) // 2


@dataclass(frozen=True)
class Entry:
    """Where a job of a chain lies in device memory.

    Attributes
    ----------
    address : int
        Of its descriptor.
    c, c_pitch, sums : int
    """

    job: Job
    plan: Plan
    address: int
    c: int
    c_pitch: int
    sums: int


@dataclass(frozen=True)
class Chain:
    """Descriptors that one doorbell carries out, and their entries in order."""

    address: int
    entries: tuple[Entry, ...]

    def find(self, address: int) -> int | None:
        """Number of the entry whose descriptor lies there."""
        return next((n for n, e in enumerate(self.entries) if e.address == address), None)


def plan_job(job: Job, config: Config, memory: Memory) -> Plan:
    """The plan of a job, with the bytes that it really reads where an operand is gathered.

    Raises
    ------
    NoPlanError
        The core's buffers are too small for it.
    """
    return plan(*job.shape, job.a_across, job.b_across, config, memory, job.result_bytes,
                job.spec is not None, job.sums, *job.inside)


def fewest_bytes(job: Job, config: Config) -> int:
    """What any plan of a job moves at least with the buffers of that core.

    Raises
    ------
    NoPlanError
        They are too small for it.
    """
    return fewest_planned(*job.shape, job.a_across, job.b_across, config, job.result_bytes,
                          job.spec is not None, job.sums, *job.inside)


def carriable(job: Job, config: Config, memory: Memory) -> bool:
    """Whether a descriptor can say it and the core's buffers can hold its panels."""
    m, n, k = job.shape
    gathers = [(g, x.shape) for g, x in ((job.gather_a, job.a), (job.gather_b, job.b)) if g]
    if (k > isa.MAX_K or max(m, n) > isa.MAX_DIMENSION
            or not all(gather.fits(shape) for gather, shape in gathers)):
        return False
    try:
        plan_job(job, config, memory)
    except NoPlanError:
        return False
    return True


def footprint(job: Job) -> int:
    """Bytes of device memory that a job needs at most, beside what stays there; less if it shares
    operands with others."""
    m, n, _ = job.shape
    operands = [x.size // x.shape[-1] * padded(x.shape[-1]) for x in (job.a, job.b)
                if not isinstance(x, Placed)]
    others = [m * job.c_pitch * (job.into is None), padded(4 * n) * job.sums,
              16 * n * (job.spec is not None), DESCRIPTOR_BYTES]
    return sum(padded(size, ALIGNMENT) for size in (*operands, *others))


def traffic(job: Job, config: Config, memory: Memory) -> Stats:
    """What a core with that memory would move for a job."""
    p = plan_job(job, config, memory)
    return Stats(bytes_read=p.bytes_read, bytes_written=p.bytes_written, descriptors=1)


def compile_chain(jobs: list[Job], config: Config, memory: Memory, arena: Arena) -> Chain:
    """Puts operands and descriptors into memory, and finds room for the results.

    No job reads what another writes, and no two write to one place: none needs a fence.

    Parameters
    ----------
    jobs : list of Job
        All of them :func:`carriable`.
    arena : Arena
        Is reset: what it has given out before is gone.

    Raises
    ------
    ValueError
        The memory is too small.
    """
    arena.reset()
    descriptors = arena.take(len(jobs) * DESCRIPTOR_BYTES)
    uploads, entries, raws = _Uploads(arena), [], []
    for number, job in enumerate(jobs):
        address = descriptors + number * DESCRIPTOR_BYTES
        last = number == len(jobs) - 1
        fields, entry = _descriptor(job, plan_job(job, config, memory), address, uploads)
        raw = isa.encode_descriptor(**fields, last=last, next=0 if last else address + DESCRIPTOR_BYTES)
        raws.append(np.frombuffer(raw, np.uint8))
        entries.append(entry)
    arena.memory.write(descriptors, np.stack(raws), DESCRIPTOR_BYTES)
    return Chain(descriptors, tuple(entries))


class _Uploads:
    """Operands in memory: an array that several jobs of a chain share is there once."""

    def __init__(self, arena: Arena):
        self.arena, self.known = arena, {}

    def __call__(self, array: "np.ndarray | Placed") -> tuple[int, int]:
        """Address of the array's rows (its last axis), and their pitch."""
        if isinstance(array, Placed):
            return array.address, array.pitch
        pitch = padded(array.shape[-1])
        key = array.ctypes.data, array.shape
        if key not in self.known:
            self.known[key] = self.arena.upload(array.reshape(-1, array.shape[-1]), pitch)
        return self.known[key], pitch


def _descriptor(job: Job, p: Plan, address: int, uploads: _Uploads) -> tuple[dict[str, int], Entry]:
    """Fields of a job's descriptor; its operands are in memory then."""
    m, n, k = job.shape
    a, a_pitch = uploads(job.a)
    b, b_pitch = uploads(job.b)
    c_pitch = job.c_pitch
    c = uploads.arena.take(m * c_pitch) if job.into is None else job.into
    entry = Entry(job, p, address, c, c_pitch,
                  uploads.arena.take(padded(4 * n)) if job.sums else 0)
    fields = {
        "op": DescriptorOp.GEMM, "a_across": job.a_across, "b_across": job.b_across, "m": m, "n": n,
        "k": k, "c": entry.c, "c_pitch": c_pitch, "sums": job.sums, "sums_address": entry.sums,
        "a_panel": p.a_panel, "b_panel": p.b_panel, "chunk": p.chunk, "last_chunk": p.last_chunk,
        "columns_outer": p.columns_outer,
    }
    if job.gather_a:
        offset, gather = job.gather_a.fields(job.a.shape)
        fields |= gather | {"gather_a": 1, "a": (a + offset) % 2**32}
    else:
        fields |= {"a": a, "a_pitch": a_pitch}
    if job.gather_b:
        offset, gather = job.gather_b.fields(job.b.shape)
        fields |= gather | {"gather_b": 1, "b": (b + offset) % 2**32}
    elif job.filters is not None:
        fields |= _last_tap_first(job.b.shape, b)
    else:
        fields |= {"b": b, "b_pitch": b_pitch}
    if job.spec is not None:
        fields |= _epilogue(job, uploads.arena)
    return fields, entry


def _last_tap_first(shape: tuple[int, int, int, int], address: int) -> dict[str, int]:
    """Filters (K, R, S, C) as a matrix whose rows are (tap, filter): from filter to filter of the last
    tap, then from the last filter back to the first, one tap before."""
    filters, taps_y, taps_x, channels = shape
    pitch = taps_y * taps_x * channels
    return {"b": address + pitch - channels, "b_pitch": pitch, "b_group": filters,
            "b_wrap": -(filters - 1) * pitch - channels}


def _epilogue(job: Job, arena: Arena) -> dict[str, int]:
    spec, n = job.spec, job.shape[1]
    multiplier, shift = spec.per_column(n)
    table = np.zeros((n, 4), dtype=np.int32)
    table[:, 0] = 0 if job.bias is None else job.bias
    table[:, 1], table[:, 2] = multiplier, shift
    return {"requantise": 1, "stochastic": spec.rounding == "stochastic", "seed": spec.seed,
            "zero_point": spec.zero_point, "low": spec.low, "high": spec.high,
            "table": arena.upload(table, 16)}


def collect(chain: Chain, arena: Arena) -> list[Result]:
    """The results of a chain that is complete; per product: cycles, bytes and maximum.

    Raises
    ------
    LookupError
        A descriptor has no record that it is done.
    """
    ranges = []
    for entry in chain.entries:
        m, n, _ = entry.job.shape
        ranges += [(entry.address, DESCRIPTOR_BYTES),
                   (entry.c, m * entry.c_pitch if entry.job.into is None else 0),
                   (entry.sums, 4 * n if entry.job.sums else 0)]
    found = iter(arena.memory.read(ranges))
    out = []
    for number, entry in enumerate(chain.entries):
        record, raw, sums = isa.decode_descriptor(next(found).tobytes()), next(found), next(found)
        if record["done"] != 1:
            raise LookupError(f"descriptor {number + 1} of {len(chain.entries)} at {entry.address:#x} "
                              f"has no record: done is {record['done']}")
        job, p = entry.job, entry.plan
        m, n, _ = job.shape
        kind = np.dtype(np.int32 if job.spec is None else np.int8)
        c = None        # the next chain overwrites the memory: copies of everything
        if job.into is None:
            c = raw.reshape(m, entry.c_pitch)[:, :n * kind.itemsize].copy().view(kind)
        out.append(Result(c, sums.copy().view(np.int32) if job.sums else None, Stats(
            cycles=(record["ended"] - record["begun"]) % 2**32, bytes_read=p.bytes_read,
            bytes_written=p.bytes_written, descriptors=1, max_abs=record["max_abs"])))
    return out
