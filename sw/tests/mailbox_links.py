"""Ways to a simulated SoC, and what can go wrong on them."""

import contextlib
import socket
import sys
import threading
from pathlib import Path

import numpy as np

from backbeat.backends.link import Link
from backbeat.memory import BASE

#: Cycles that the SoC runs while a word is read or written.
PER_READ, PER_WRITE = 3000, 100


def import_litex() -> bool:
    """Whether LiteX is there, in this environment or in that of `make soc-litex`."""
    try:
        import litex  # noqa: F401
    except ImportError:
        version = "python{}.{}".format(*sys.version_info)
        packages = Path(__file__).parents[2] / "build/litex-venv/lib" / version / "site-packages"
        if not (packages / "litex").is_dir():
            return False
        sys.path.append(str(packages))
    return True


class SocBus:
    """The memory of a SoC that runs on while it is looked at."""

    def __init__(self, soc):
        self.soc, self.reads, self.writes = soc, 0, 0

    def read_words(self, address: int, count: int) -> np.ndarray:
        self.soc.run(PER_READ)
        self.reads += 1
        return self.soc.image[address - BASE:address - BASE + 4 * count].view("<u4").copy()

    def write_words(self, address: int, words: np.ndarray):
        self.writes += 1
        raw = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
        self.soc.image[address - BASE:address - BASE + raw.size] = raw
        self.soc.run(PER_WRITE)


class SocLink(Link):
    """Straight to the memory. Faults happen to frames at random, each with ``chance``.

    ``fault``: "lose" a write, "garble" a bit of what is written or read, "repeat" a write, "late": a
    write comes once more after the next one; "fail": reads raise.
    """

    def __init__(self, soc, fault: str = "", chance: float = 0.0, seed: int = 1):
        self.bus, self.fault, self.chance = SocBus(soc), fault, chance
        self.rng, self.happened, self.opened, self.last = np.random.default_rng(seed), 0, 0, None

    def reopen(self):
        self.opened += 1

    def close(self):
        pass

    def happens(self, *faults: str) -> bool:
        hit = self.fault in faults and self.rng.random() < self.chance
        self.happened += hit
        return hit

    def garbled(self, words):
        words = words.copy()
        words[self.rng.integers(len(words))] ^= np.uint32(1) << np.uint32(self.rng.integers(32))
        return words

    def read(self, address, count):
        if self.happens("fail"):
            raise TimeoutError("nothing came")
        words = self.bus.read_words(address, count)
        return self.garbled(words) if self.happens("garble") else words

    def write(self, address, words):
        for begin in range(0, len(words), 255):
            frame = address + 4 * begin, words[begin:begin + 255]
            if self.happens("lose"):
                continue
            if self.happens("garble"):
                frame = frame[0], self.garbled(frame[1])
            self.bus.write_words(*frame)
            if self.happens("repeat"):
                self.bus.write_words(*frame)
            if self.last is not None and self.happens("late"):
                self.bus.write_words(*self.last)
            # A frame of operands may be late, too, but not so late that they have become others.
            self.last = frame if frame[0] < BASE + 0x8000 else None


class CommUART(SocBus):
    """As LiteX's server wants it. It asks a comm of this name for more than a word at a time."""

    def open(self):
        pass

    def close(self):
        pass

    def read(self, address, length=None, burst="incr"):
        if burst == "fixed":
            return [int(self.read_words(address, 1)[0]) for _ in range(length)]
        return self.read_words(address, length).tolist()

    def write(self, address, words, burst="incr"):
        self.write_words(address, np.array(words, np.uint32))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


class Proxy:
    """Passes bytes on to a TCP port; :meth:`cut` breaks all connections, ``mute`` swallows answers."""

    def __init__(self, target: int):
        self.target, self.mute, self.connections = target, False, []
        self.listener = socket.create_server(("localhost", 0))
        self.port, self.accepted = self.listener.getsockname()[1], 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            server = socket.create_connection(("localhost", self.target))
            self.connections += [client, server]
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink, answers):
        try:
            while data := source.recv(4096):
                if not (answers and self.mute):
                    sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            self._end(s)

    def _end(self, s):
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)
        s.close()

    def cut(self):
        """All that is connected now."""
        while self.connections:
            self._end(self.connections.pop())

    def close(self):
        self.listener.close()
        self.cut()
