"""A memory of random bytes with descriptors in it, and what it holds when they have been carried out.

Everything a descriptor names lies somewhere among random bytes, so that whatever is written beside
it, or read from beside it, shows.
"""

from dataclasses import dataclass, field

import numpy as np

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.descriptor_model import ChainResult, run_chain
from backbeat_rtl.isa import (
    DESCRIPTOR,
    DESCRIPTOR_WORDS,
    RECORD_WORD,
    DescriptorOp,
    Error,
    encode_descriptor,
)

__all__ = ["BASE", "SIZE", "Arena", "Chain", "Descriptor", "differences", "linked", "padding", "up",
           "words_of"]

#: Where the memory begins, and its bytes.
BASE, SIZE = 0x4000_0000, 1 << 19

#: Errors that a product may meet when a part of it is stored.
HALFWAY = (Error.OPERAND, Error.BUS_READ, Error.BUS_WRITE, Error.TIMEOUT)


def words_of(raw: bytes) -> list[int]:
    """The 32-bit words of a descriptor."""
    return np.frombuffer(raw, "<u4").tolist()


def up(size: int, unit: int = WORD) -> int:
    return -(-size // unit) * unit


def padding(rng) -> int:
    """Bytes between rows: mostly none."""
    return WORD * int(rng.choice([0, 0, 0, 1, 2, rng.integers(3, 40)]))


class Arena:
    """An image of memory, and what the descriptors so far make of it.

    Attributes
    ----------
    memory : uint8 array
        Before the first descriptor.
    state : uint8 array
        After the last.
    """

    def __init__(self, rng, base: int = BASE, size: int = SIZE):
        self.rng, self.base = rng, base
        self.memory = rng.integers(0, 256, size, dtype=np.uint8)
        self.state = self.memory.copy()
        self.taken = []         # (first byte, end)

    def take(self, size: int) -> int:
        """Address of that many free bytes, the last eight rounded up, anywhere or behind others."""
        size, limit = up(size), self.memory.size
        for _ in range(1000):
            first = int(self.rng.integers(0, (limit - size) // WORD)) * WORD
            if self.taken and self.rng.random() < 0.3:
                first = self.taken[self.rng.integers(len(self.taken))][1]
            if first + size <= limit and all(first >= end or first + size <= start
                                             for start, end in self.taken):
                self.taken.append((first, first + size))
                return self.base + first
        raise ValueError(f"no room for {size} bytes among {len(self.taken)} in {limit} bytes")

    def put(self, addresses, rows: np.ndarray):
        """Writes row i to address i."""
        rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
        index = np.asarray(addresses)[:, None] - self.base + np.arange(rows.shape[1])
        self.memory[index] = self.state[index] = rows

    def place(self, rows: np.ndarray) -> tuple[int, int]:
        """Writes a matrix to a free place; its address and pitch."""
        rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
        pitch = up(rows.shape[1]) + padding(self.rng)
        address = self.take(pitch * (len(rows) - 1) + rows.shape[1])
        self.put(address + pitch * np.arange(len(rows)), rows)
        return address, pitch


@dataclass
class Descriptor:
    """One of a chain, and what it touches.

    Attributes
    ----------
    reads, writes : list of (int, int)
        Ranges of addresses, with their gaps; the first is that of A (of C).
    convolution : tuple or None
        (geometry, tensor [N, H, W, C] that is gathered, other operand) if it is one.
    """

    kind: str
    fields: dict
    address: int = 0
    reads: list = field(default_factory=list)
    writes: list = field(default_factory=list)
    convolution: "tuple | None" = None

    @property
    def raw(self) -> bytes:
        return encode_descriptor(**self.fields)

    def written(self, image: np.ndarray, base: int, record: bool = True) -> np.ndarray:
        """Mask of the bytes of the image that it writes; one that is pushed has no record."""
        mask, f = np.zeros(image.size, bool), self.fields
        if record:
            mask[self.address - base:][4 * RECORD_WORD:4 * DESCRIPTOR_WORDS] = True
        if f["op"] == DescriptorOp.GEMM:
            rows = f["c"] - base + f["c_pitch"] * np.arange(f["m"])[:, None]
            places = [rows + np.arange(f["n"] * (1 if f["requantise"] else 4))]
            if f["sums"]:
                places.append(f["sums_address"] - base + np.arange(4 * f["n"]))
            for place in places:
                mask[place[(place >= 0) & (place < mask.size)]] = True
        return mask

    def __str__(self):
        f = self.fields
        if f["op"] != DescriptorOp.GEMM:
            return f"{self.kind} at {self.address:#x}"
        flags = " ".join(name.name for name in DESCRIPTOR[0][1:] if f.get(name.name))
        return (f"{self.kind} at {self.address:#x}: M, N, K = {f['m']}, {f['n']}, {f['k']}, panels "
                f"{f['a_panel']}, {f['b_panel']}, chunk {f['chunk']} {f['last_chunk']}, {flags}")


@dataclass
class Chain:
    """Descriptors in memory.

    Attributes
    ----------
    memory : uint8 array
        The image that the chain begins with.
    """

    config: Config
    descriptors: list
    memory: np.ndarray
    base: int

    @property
    def address(self) -> int:
        return self.descriptors[0].address

    def run(self) -> tuple[ChainResult, np.ndarray]:
        """The model's answer, and its image afterwards."""
        memory = self.memory.copy()
        return run_chain(memory, self.address, self.config, self.base), memory

    def rewrite(self, number: int, **changes):
        """Changes fields of a descriptor, in memory too."""
        descriptor = self.descriptors[number]
        descriptor.fields |= changes
        first = descriptor.address - self.base
        self.memory[first:first + 4 * DESCRIPTOR_WORDS] = np.frombuffer(descriptor.raw, np.uint8)

    def __str__(self):
        return "; ".join(map(str, self.descriptors))


def linked(config: Config, arena: Arena, descriptors: list[Descriptor], end: int = 0) -> Chain:
    """Makes each descriptor name the next one, and writes them to their addresses.

    ``end`` is what the last one names, which nobody reads.
    """
    following = [descriptor.address for descriptor in descriptors[1:]] + [end]
    for number, (descriptor, address) in enumerate(zip(descriptors, following, strict=True), 1):
        descriptor.fields |= {"last": int(number == len(descriptors)), "next": address}
        arena.put([descriptor.address], np.frombuffer(descriptor.raw, np.uint8)[None])
    return Chain(config, descriptors, arena.memory, arena.base)


def differences(chain: Chain, result: ChainResult, expected: np.ndarray, memory: np.ndarray) -> str:
    """Where ``memory`` is not what the model left: empty if nowhere.

    Free are when a descriptor began and ended, and the result of one that broke off halfway.
    """
    wrong = memory != expected
    for descriptor in chain.descriptors[:result.completed]:
        times = descriptor.address - chain.base + 4 * (RECORD_WORD + 2)
        wrong[times:times + 8] = False
    for descriptor in chain.descriptors:
        if result.error in HALFWAY and descriptor.address == result.failed:
            wrong &= ~descriptor.written(memory, chain.base, record=result.error == Error.BUS_WRITE)
    if not wrong.any():
        return ""
    first = int(np.flatnonzero(wrong)[0])
    owner = [f"{what} of descriptor {n}" for n, descriptor in enumerate(chain.descriptors)
             for what in ("reads", "writes") for start, end in getattr(descriptor, what)
             if start <= first + chain.base < end]
    owner += [f"word {(first + chain.base - descriptor.address) // 4} of descriptor {n}"
              for n, descriptor in enumerate(chain.descriptors)
              if 0 <= first + chain.base - descriptor.address < 4 * DESCRIPTOR_WORDS]
    return (f"{wrong.sum()} bytes differ, the first at {first + chain.base:#x} "
            f"({' and '.join(owner) or 'in none of its places'}): got {memory[first]:#x}, "
            f"expected {expected[first]:#x}")
