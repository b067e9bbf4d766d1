"""Backend ``litex``: the core in a SoC, simulated or on a board, over the SoC's host bridge."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import Progress

from backbeat_rtl import isa
from backbeat_rtl.config import PRESETS, Config
from backbeat_rtl.isa import Op, Read, function_id

from ..errors import AcceleratorError
from ..memory import DeviceMemory, Memory, padded
from ..program import Batch
from .door import DoorBackend
from .link import Address, Link, LitexLink
from .mailbox import BYTES, CAPACITY, TRIES, Mailbox, Order, Unexpected, checksum

__all__ = ["LinkMemory", "LitexBackend"]

_NOTHING = np.zeros(0, np.uint32)
#: Words of an order EXPECT.
_EXPECT = 4
#: Bytes that are checked, and if need be moved again, as one.
PIECE = 1 << 16
#: Ranges that are so close together are moved as one.
NEAR = 256
#: From so many bytes on a progress bar is shown: they take seconds.
MUCH = 1 << 18


class LinkMemory(DeviceMemory):
    """Main memory of a SoC. Whatever crosses is compared with checksums that the SoC computes, and moved
    again if they differ.

    Parameters
    ----------
    mailbox : Mailbox
    """

    def __init__(self, mailbox: Mailbox):
        super().__init__()
        self.mailbox = mailbox
        self.base, self.size = mailbox.memory_base, mailbox.memory_size
        self._pending: list[tuple[int, np.ndarray]] = []        # uint8, whole words

    def _write(self, address: int, rows: np.ndarray, pitch: int):
        out = np.zeros((len(rows), pitch), np.uint8)
        out[:, :rows.shape[1]] = rows
        # What has never been sent because something went wrong must not be expected there later.
        self._pending = [(at, raw) for at, raw in self._pending
                         if at + len(raw) <= address or address + out.size <= at]
        self._pending.append((address, out.reshape(-1)))

    def flush(self):
        self.call(_NOTHING, 0)

    def clear(self, address: int, size: int):
        self.call(_order(Order.CLEAR, address, size), 0)

    def call(self, orders: np.ndarray, answers: int) -> np.ndarray:
        """Has orders carried out when all that has been written is there; see :meth:`.Mailbox.call`."""
        pieces = self._gathered()
        self._pending = []
        with _shown("Writing to the device", sum(len(raw) for _, raw in pieces)) as advance:
            for address, raw in pieces:
                self.mailbox.send(address, raw.view(np.uint32))
                advance(len(raw))
        most = CAPACITY // _EXPECT
        while len(pieces) > (CAPACITY - len(orders)) // _EXPECT:
            self._checked(pieces[:most])
            pieces = pieces[most:]
        if not pieces and not len(orders):
            return orders
        return self._checked(pieces, orders, answers)

    def _checked(self, pieces: list[tuple[int, np.ndarray]], orders: np.ndarray = _NOTHING,
                 answers: int = 0) -> np.ndarray:
        """Has orders carried out once all pieces are there; those that are not are sent again."""
        failures = 0
        while True:
            expected = [_order(Order.EXPECT, at, len(raw), checksum(raw)) for at, raw in pieces]
            try:
                return self.mailbox.call(np.concatenate([*expected, orders]), answers)
            except Unexpected as found:
                first = found.at // _EXPECT
                failures = failures + 1 if first == 0 else 1
                pieces = pieces[first:]
            address, raw = pieces[0]
            if failures == TRIES:
                raise AcceleratorError(f"{self.mailbox.name}: {len(raw):,} bytes at {address:#x} have "
                                       f"not arrived whole, {TRIES} times: check the bridge to the SoC")
            self.mailbox.forget_connection()
            self.mailbox.send(address, raw.view(np.uint32))

    def _gathered(self) -> list[tuple[int, np.ndarray]]:
        """What is to be written, in pieces; neighbours together."""
        out: list[list] = []
        for address, raw in self._pending:
            if out and out[-1][0] + out[-1][2] <= address <= out[-1][0] + padded(out[-1][2], 64):
                gap = address - out[-1][0] - out[-1][2]
                out[-1][1] += [np.zeros(gap, np.uint8), raw]
                out[-1][2] += gap + len(raw)
            else:
                out.append([address, [raw], len(raw)])
        pieces = []
        for address, parts, _ in out:
            raw = np.concatenate(parts)
            pieces += [(address + at, raw[at:at + PIECE]) for at in range(0, len(raw), PIECE)]
        return pieces

    def _read(self, ranges: list[tuple[int, int]]) -> list[np.ndarray]:
        spans = _spans(ranges)
        pieces = [(at, min(PIECE, end - at)) for begin, end in spans for at in range(begin, end, PIECE)]
        found: dict[int, np.ndarray] = {}
        if self._pending:
            self.flush()
        with _shown("Reading from the device", sum(size for _, size in pieces)) as advance:
            for first in range(0, len(pieces), CAPACITY // 3):
                some = pieces[first:first + CAPACITY // 3]
                expected = self.mailbox.call(np.concatenate([_order(Order.CRC, *p) for p in some]),
                                             len(some))
                for (address, size), crc in zip(some, expected, strict=True):
                    found[address] = self._receive(address, size, crc)
                    advance(size)
        whole = [(begin, np.concatenate([found[at] for at in range(begin, end, PIECE)]))
                 for begin, end in spans]
        return [next(raw[address - begin:address - begin + size] for begin, raw in whole
                     if begin <= address and address + size <= begin + len(raw)) if size else
                np.zeros(0, np.uint8) for address, size in ranges]

    def _receive(self, address: int, size: int, crc: int) -> np.ndarray:
        for _ in range(TRIES):
            words = self.mailbox.receive(address, size // 4)
            if checksum(words) == crc:
                return words.view(np.uint8)
            self.mailbox.forget_connection()
        raise AcceleratorError(f"{self.mailbox.name}: {size:,} bytes at {address:#x} cannot be read "
                               f"whole, {TRIES} times: check the bridge to the SoC")


def _order(order: Order, *words: int) -> np.ndarray:
    return np.array([order << 24, *words], np.uint32)


def _spans(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(begin, end) of whole words that cover the ranges, near ones together."""
    out: list[tuple[int, int]] = []
    for address, size in sorted(r for r in ranges if r[1]):
        begin, end = address // 4 * 4, padded(address + size, 4)
        if out and begin <= out[-1][1] + NEAR:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((begin, end))
    return out


class _shown:
    """A progress bar, if there is much to do."""

    def __init__(self, title: str, total: int):
        self._bar = Progress(console=Console(stderr=True), transient=True) if total >= MUCH else None
        self._title, self._total = title, total

    def __enter__(self):
        if self._bar is None:
            return lambda _size: None
        self._bar.start()
        task = self._bar.add_task(self._title, total=self._total)
        return lambda size: self._bar.advance(task, size)

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.stop()


class LitexBackend(DoorBackend):
    """A core beside a CPU that runs ``sw/firmware/server.c``.

    Parameters
    ----------
    address : str
        What follows ``litex:``; see :class:`.link.Address`.
    config : Config or None
        Must be that of the core. None: whatever the core is.
    memory : Memory
        What plans are made for; its size is that which the SoC reports.
    link : Link, optional
        Instead of the one that the address names.

    Raises
    ------
    ValueError
        The address makes no sense.
    ToolError
        LiteX's host tools are not installed.
    AcceleratorError
        There is no server, or a core of another kind.
    """

    name = "litex"

    def __init__(self, address: str, config: Config | None, memory: Memory, link: Link | None = None):
        where = Address(address)
        self.mailbox = Mailbox(link or LitexLink(where), where.base, where.timeout, str(where))
        self.image, self.doubtful = LinkMemory(self.mailbox), False
        try:
            found = self._core()
            super().__init__(found if config is None else config,
                             replace(memory, size=self.image.size), self.image, BYTES)
            self.mailbox.restarted = self._restarted
            self.recover()
            self.identify()
        except BaseException:
            self.mailbox.close()
            raise

    def _core(self) -> Config:
        """The configuration that the core reports; how many requantisers it has it does not say."""
        identity, size = self.get(Read.ID, Read.SIZE)
        found = isa.decode("ID", identity) | isa.decode("SIZE", size)
        if found["identity"] != isa.IDENTITY or found["version"] != isa.VERSION:
            raise AcceleratorError(f"{self.mailbox.name}: the core reports identity "
                                   f"{found['identity']:#x}, version {found['version']}; expected "
                                   f"{isa.IDENTITY:#x}, {isa.VERSION}")
        sizes = {name: found[name] for name in ("rows", "columns", "depth", "tiles")}
        memory = bool(found["memory"])
        for preset in PRESETS.values():
            if all(getattr(preset, name) == value for name, value in sizes.items()):
                return replace(preset, memory=memory)
        return Config(**sizes, memory=memory)

    def _restarted(self):
        """Nothing is as it was."""
        self.doubtful = True
        if self.arena is not None:
            self.arena.lose()

    def execute(self, batches: list[Batch]) -> int:
        if self.doubtful:
            self._reset_at_once()
            self.doubtful = False
        try:
            return self._execute(batches)
        except AcceleratorError:
            # What the core is doing nobody knows, nor what it still writes.
            self.doubtful = self.unsettled = True
            raise

    def _reset_at_once(self):
        """Ahead of all that waits to be written: the core may be writing there itself."""
        (orders, _), = _requests([Batch(function_id(Op.RESET))])
        self.mailbox.call(orders, 0)
        self.forget_counters()

    def _execute(self, batches: list[Batch]) -> int:
        begin, end = np.zeros((2, 1), np.uint32)
        cycles = function_id(Op.GET, Read.CYCLES)
        for orders, outputs in _requests([Batch(cycles, outputs=begin), *batches,
                                          Batch(cycles, outputs=end)]):
            answers = self.image.call(orders, sum(map(len, outputs)))
            for output in outputs:
                output[:], answers = answers[:len(output)], answers[len(output):]
        reset = any(batch.function_id & 7 == Op.RESET for batch in batches)
        return int(end[0]) if reset else (int(end[0]) - int(begin[0])) % 2**32

    def close(self):
        self.mailbox.close()


def _requests(batches: list[Batch]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Orders that fit a request, and where their answers go."""
    room, answers = CAPACITY, CAPACITY
    parts, outputs = [], []
    for batch in batches:
        done = 0
        while done < batch.count:
            each = batch.inputs is not None
            count = min(batch.count - done, (room - 2) // 2 if each else batch.count)
            count = count if batch.outputs is None else min(count, answers)
            if room < 4 or count < 1:
                yield np.concatenate(parts), outputs
                room, answers, parts, outputs = CAPACITY, CAPACITY, [], []
                continue
            kind = (Order.EACH if each else Order.SAME) << 24
            inputs = (batch.inputs[done:done + count].reshape(-1) if each
                      else np.array([batch.input_0, batch.input_1], np.uint32))
            if batch.outputs is not None:
                kind |= Order.ANSWER
                outputs.append(batch.outputs[done:done + count])
                answers -= count
            parts += [np.array([kind | batch.function_id, count], np.uint32), inputs.astype(np.uint32)]
            room -= 2 + inputs.size
            done += count
    yield np.concatenate(parts), outputs
