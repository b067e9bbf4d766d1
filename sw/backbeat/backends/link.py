"""Ways from this host to the bus of a SoC.

They are LiteX's own: a ``litex_server`` that others may use too, Etherbone, or a UARTbone.
"""

import abc
import socket
import time
from collections.abc import Callable
from urllib.parse import parse_qsl

import numpy as np

from ..errors import ToolError
from ..memory import BASE

__all__ = ["Address", "Link", "LitexLink"]

#: Words of one frame: what the wire format can count.
BURST = 255
_MISSING = ("backend litex needs LiteX's host tools: install them with `pip install 'backbeat[litex]'` "
            "({})")


class Address:
    """What follows ``litex:``.

    ======================= =============================================================
    ``HOST:PORT``           a ``litex_server``
    ``udp:HOST[:PORT]``     Etherbone, without a server in between
    ``/dev/ttyUSB1``        a UARTbone at a serial port; any other URL of pyserial too
    ======================= =============================================================

    Behind a ``?`` may follow, joined by ``&``: ``timeout`` in seconds without a sign of life (10),
    ``mailbox``: where main memory begins, ``baud`` of a serial port (115200).

    Raises
    ------
    ValueError
        Names the part that is wrong.
    """

    def __init__(self, text: str):
        self.text = text
        self.target, _, query = text.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        try:
            self.timeout = float(options.pop("timeout", 10))
            self.base = int(options.pop("mailbox", hex(BASE)), 0)
            self.baud = int(float(options.pop("baud", 115200)))
        except ValueError as error:
            raise ValueError(f"litex:{text}: {error}") from None
        if options:
            raise ValueError(f"litex:{text}: options are timeout, mailbox and baud, got "
                             f"{', '.join(options)}")
        if not 0 < self.timeout < 3600:
            raise ValueError(f"litex:{text}: timeout must be a number of seconds, got {self.timeout}")
        self.kind, self.host, self.port = "server", "", 0
        kind, colon, rest = self.target.partition(":")
        if self.target.startswith("/") or "://" in self.target:
            self.kind = "serial"
        elif kind == "udp" and rest:
            self.kind = "udp"
            self.host, _, port = rest.partition(":")
            self.port = self._number(port or "1234")
        elif kind and colon:
            self.host, self.port = kind, self._number(rest)
        else:
            raise ValueError("backend litex needs an address: litex:HOST:PORT of a litex_server, "
                             "litex:udp:HOST of a board's Etherbone or litex:/dev/ttyUSB1 of a "
                             f"UARTbone, got 'litex:{text}'")

    def _number(self, text: str) -> int:
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise ValueError(f"litex:{self.text}: port must be 1...65535, got {text!r}")
        return int(text)

    def __str__(self):
        return f"litex:{self.target}"


class Link(abc.ABC):
    """Reads and writes words of 32 bits on a bus. What cannot be done is an OSError; what seems to have
    been done may have gone wrong all the same."""

    @abc.abstractmethod
    def reopen(self):
        """Connects, anew if it was."""

    @abc.abstractmethod
    def read(self, address: int, count: int) -> np.ndarray:
        """uint32 array [count]."""

    @abc.abstractmethod
    def write(self, address: int, words: np.ndarray):
        """Writes uint32 ``words`` from ``address`` on."""

    @abc.abstractmethod
    def close(self): ...


class LitexLink(Link):
    """One of LiteX's ``Comm`` classes or its ``RemoteClient``, a frame at a time.

    No bridge acknowledges a write, and some drop what comes too fast: each frame of a longer write is
    followed by reading its last word, which comes only when the frame has gone through.
    """

    def __init__(self, address: Address):
        self.address = address
        self._factory = _FACTORIES[address.kind](address)
        self._comm = None

    def reopen(self):
        self.close()
        comm = self._factory()
        try:
            comm.open()
        except BaseException:
            comm.close()
            raise
        self._comm = comm

    def read(self, address: int, count: int) -> np.ndarray:
        out = np.zeros(count, np.uint32)
        for begin in range(0, count, BURST):
            some = min(BURST, count - begin)
            words = self._call("read", address + 4 * begin, some)
            if len(words) != some:
                raise OSError(f"{len(words)} words instead of {some}")
            out[begin:begin + some] = words
        return out

    def write(self, address: int, words: np.ndarray):
        for begin in range(0, len(words), BURST):
            part = words[begin:begin + BURST]
            self._call("write", address + 4 * begin, part.tolist())
            if len(words) > BURST:
                self._call("read", address + 4 * (begin + len(part) - 1), 1)

    def _call(self, name: str, *arguments):
        if self._comm is None:
            raise ConnectionError("not connected")
        try:
            return getattr(self._comm, name)(*arguments)
        except OSError:
            raise
        except Exception as error:      # a garbled frame makes these stumble in many ways
            raise OSError(f"{type(error).__name__}: {error}") from error

    def close(self):
        comm, self._comm = self._comm, None
        if comm is not None:
            comm.close()


def _patience(address: Address) -> float:
    """Seconds for one frame's answer, of what there is until a sign of life."""
    return min(5.0, address.timeout / 4)


def _server(address: Address) -> Callable:
    try:
        from litex.tools.litex_client import RemoteClient
    except ImportError as error:
        raise ToolError(_MISSING.format(error)) from None

    class Client(RemoteClient):
        """Waits for a while only, and says that no answer came, instead of answering zeros."""

        def open(self):
            self.socket = socket.create_connection((self.host, self.port), _patience(address))
            self.binded = True
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._receive_server_info()

        def receive_packet(self, connection, addr_size):
            packet = super().receive_packet(connection, addr_size)
            if not packet:
                raise TimeoutError("no answer from the litex_server, or from the bridge behind it")
            return packet

    return lambda: Client(address.host, address.port)


def _udp(address: Address) -> Callable:
    try:
        from litex.tools.remote.comm_udp import CommUDP
    except ImportError as error:
        raise ToolError(_MISSING.format(error)) from None
    return lambda: CommUDP(address.host, address.port, timeout=_patience(address) / 10)


def _serial(address: Address) -> Callable:
    try:
        from litex.tools.remote.comm_uart import CommUART
    except ImportError as error:
        raise ToolError(_MISSING.format(error)) from None

    class Comm(CommUART):
        """Sends a frame as one, does not wait for ever, and leaves no half a frame for the next one."""

        def open(self):
            self.port.timeout = self.port.write_timeout = _patience(address)
            self._frame = bytearray()
            if connection := getattr(self.port, "_socket", None):       # of socket://
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def write(self, *arguments):
            super().write(*arguments)
            self._send()

        def _write(self, data):
            self._frame += bytes(data)

        def _send(self):
            frame, self._frame = self._frame, bytearray()
            super()._write(frame)

        def _read(self, length):
            self._send()
            data = self.port.read(length)
            if len(data) < length:
                time.sleep(0.2)         # the bridge forgets a frame that does not go on
                raise TimeoutError(f"{len(data)} of {length} bytes from {address.target}")
            return data

    return lambda: Comm(address.target, address.baud)


_FACTORIES = {"server": _server, "udp": _udp, "serial": _serial}
