"""A TCP proxy that damages the bytes that pass through it."""

import contextlib
import socket
import threading
import time

__all__ = ["FAULTS", "Proxy"]

#: What happens to a piece of the stream: it is lost, comes twice, has a bit changed, or comes late.
FAULTS = ("drop", "duplicate", "flip", "delay")


class Proxy:
    """Between a host and the bridge of a SoC.

    Parameters
    ----------
    target : int
        TCP port of the bridge.
    rng : numpy.random.Generator

    Attributes
    ----------
    port : int
        To connect to instead.
    passed : list of int
        Bytes since :meth:`arm`, from the host and to it.
    happened : int
        Faults since then.
    """

    def __init__(self, target: int, rng):
        self.target, self.rng, self.sockets = target, rng, []
        self.lock = threading.Lock()
        self.arm()
        self.listener = socket.create_server(("localhost", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, fault: str = "", direction: int = 0, at: int = 0, size: int = 1, again: int = 0):
        """From now on: something happens to ``size`` bytes of a direction, once so many have passed.

        Parameters
        ----------
        fault : str
            One of :data:`FAULTS`; "": nothing happens.
        direction : int
            0: from the host, 1: to it.
        at, again : int
            Bytes until it happens, and from then on until it happens again (0: never).
        """
        with self.lock:
            self.fault, self.direction, self.at, self.size, self.again = (
                fault, direction, at, size, again)
            self.passed, self.happened = [0, 0], 0

    def _accept(self):
        while True:
            try:
                host, _ = self.listener.accept()
                bridge = socket.create_connection(("localhost", self.target))
            except OSError:
                return
            for s in (host, bridge):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets += [host, bridge]
            for source, sink, direction in ((host, bridge, 0), (bridge, host, 1)):
                threading.Thread(target=self._pass, args=(source, sink, direction), daemon=True).start()

    def _pass(self, source, sink, direction: int):
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                for part, wait in self._damaged(data, direction):
                    time.sleep(wait)
                    sink.sendall(part)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()

    def _damaged(self, data: bytes, direction: int):
        """The parts to send, and the seconds to wait before each."""
        with self.lock:
            begin = self.passed[direction]
            self.passed[direction] += len(data)
            place = self.at - begin
            if not self.fault or direction != self.direction or not 0 <= place < len(data):
                return [(data, 0.0)]
            self.happened += 1
            self.at = self.at + self.again if self.again else -1
            before, hit, after = (data[:place], data[place:place + self.size],
                                  data[place + self.size:])
            if self.fault == "delay":
                return [(before, 0.0), (hit + after, float(self.rng.uniform(0.05, 0.5)))]
            if self.fault == "flip":
                changed = bytearray(hit)
                changed[int(self.rng.integers(len(hit)))] ^= 1 << int(self.rng.integers(8))
                hit = bytes(changed)
            else:
                hit = hit * (2 if self.fault == "duplicate" else 0)
            return [(before + hit + after, 0.0)]

    def close(self):
        self.listener.close()
        for s in self.sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
