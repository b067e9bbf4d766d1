"""The host's side of the mailbox in a SoC's main memory; the SoC's side is ``sw/firmware/server.c``.

Layout, words and codes are those of ``sw/firmware/server.h``, where the protocol is described.
"""

import secrets
import time
import zlib
from collections.abc import Callable
from enum import IntEnum

import numpy as np

from ..errors import AcceleratorError
from .link import Link

__all__ = ["BYTES", "CAPACITY", "Header", "Mailbox", "Order", "Refused", "Request", "Response", "Status",
           "Unexpected", "checksum"]

MAGIC, VERSION = 0x42624D42, 1
#: Bytes from the beginning of main memory, and the size of all of it.
RESPONSE, REQUEST, BYTES = 0x0100, 0x2800, 0x8000
#: Words of content of a request, and of a response.
CAPACITY = 2048


class Header(IntEnum):
    """Words of the header."""

    MAGIC   = 0
    VERSION = 1
    BASE    = 2
    SIZE    = 3
    BOOT    = 4
    CRC     = 5


class Response(IntEnum):
    """Words of the response."""

    ALIVE   = 0
    REFUSED = 1
    CRC     = 2
    NUMBER  = 3
    BOOT    = 4
    STATUS  = 5
    WORDS   = 6
    CONTENT = 7


class Request(IntEnum):
    """Words of the request."""

    POSTED  = 0
    CRC     = 1
    NUMBER  = 2
    WORDS   = 3
    CONTENT = 4


class Order(IntEnum):
    """The highest byte of an order's first word."""

    SAME   = 1
    EACH   = 2
    EXPECT = 3
    CRC    = 4
    CLEAR  = 5
    ANSWER = 1 << 23


class Status(IntEnum):
    """What became of a request."""

    DONE       = 0
    MALFORMED  = 1
    UNEXPECTED = 2


#: Times that something garbled is done again, and seconds to wait before the first of them (doubled
#: each time, up to the last).
TRIES, PAUSE, LONGEST_PAUSE = 12, 0.005, 1.0
#: Seconds until a request that shows no sign of life is posted again; doubled each time. From so many
#: on the connection is renewed before.
PATIENCE, DOUBTS = 0.25, 1.0
#: The sign of life grows by less than this from look to look; what jumps is garbled.
LIVELY = 1 << 16
#: Words of a response that are read at once, in one frame.
GLANCE = 255


class Refused(OSError):
    """The server has seen a request that is not whole."""


class Unexpected(Exception):
    """An EXPECT has found something else in memory: ``at`` is its place in the content."""

    def __init__(self, at: int):
        super().__init__(at)
        self.at = at


def checksum(words: np.ndarray) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(words).view(np.uint8).data)


class Mailbox:
    """Has requests carried out, each exactly once.

    Parameters
    ----------
    link : Link
        Is opened here.
    base : int
        Address of main memory.
    timeout : float
        Seconds without a sign of life after which the server counts as dead.
    name : str
        Of the link, for errors.

    Attributes
    ----------
    memory_base, memory_size : int
        Main memory; its first ``BYTES`` bytes are the mailbox.
    boot : int
        Another number after each start of the SoC.
    restarted : callable
        Is called when the SoC turns out to have been started anew.

    Raises
    ------
    AcceleratorError
        There is no server, or one of another version.
    """

    def __init__(self, link: Link, base: int, timeout: float = 10, name: str = "the SoC"):
        self.link, self.base, self.timeout, self.name = link, base, timeout, name
        self.boot, self._posts, self._connected = None, 0, False
        self._numbers: set[int] = set()     # upper halves of what requests have been called
        self._count = 0
        self.restarted: Callable[[], None] = lambda: None
        self.memory_base = self.memory_size = 0
        self._open()

    def _open(self):
        """Waits for a server, and learns where it stands."""
        begun, pause, trouble = time.monotonic(), PAUSE, None
        while True:
            try:
                self._connect()
                header = self.link.read(self.base, Header.CRC + 1)
                if header[Header.MAGIC] == MAGIC and header[Header.VERSION] != VERSION:
                    trouble = (f"its server speaks version {header[Header.VERSION]} of the mailbox, "
                               f"this driver {VERSION}: compile the firmware anew")
                elif header[Header.MAGIC] != MAGIC or checksum(header[:-1]) != header[-1]:
                    trouble = (f"there is no mailbox at {self.base:#x}; found "
                               + " ".join(f"{word:08x}" for word in header))
                else:
                    response = self._whole(self._glance(0))
                    if response is not None and response[Response.BOOT] == header[Header.BOOT]:
                        self.memory_base, self.memory_size, self.boot = map(
                            int, header[Header.BASE:Header.BOOT + 1])
                        self._numbers = {int(response[Response.NUMBER]) >> 16}
                        return
                    trouble = "its mailbox cannot be read whole"
            except OSError as error:
                self._connected, trouble = False, _say(error)
            if time.monotonic() - begun > self.timeout:
                self.close()
                raise self._dead(f"no answer within {self.timeout:g} s: {trouble}")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def call(self, content: np.ndarray, answers: int) -> np.ndarray:
        """Has orders carried out.

        Parameters
        ----------
        content : uint32 array, at most ``CAPACITY``
        answers : int
            Words that they answer with.

        Returns
        -------
        uint32 array [answers]

        Raises
        ------
        Unexpected
            An order EXPECT found something else; the orders behind it have not been carried out.
        AcceleratorError
            The server does not answer, or has been started anew since the last call.
        """
        number = self._next_number()
        body = np.concatenate([np.zeros(2, np.uint32), np.array([number, len(content)], np.uint32),
                               content.astype(np.uint32, copy=False)])
        body[Request.CRC] = checksum(body[Request.NUMBER:])
        response = self._carried_out(number, body, answers)
        if response[Response.BOOT] != self.boot:
            self.boot = int(response[Response.BOOT])
            self.restarted()
            raise AcceleratorError(f"{self.name} has been started anew: what was in its memory is lost, "
                                   "that of resident tensors, too")
        status, words = int(response[Response.STATUS]), response[Response.CONTENT:]
        if status == Status.UNEXPECTED:
            raise Unexpected(int(words[0]))
        if status != Status.DONE or len(words) != answers:
            raise AcceleratorError(f"{self.name} answers a request with {len(words)} words instead of "
                                   f"{answers}, status {status}: driver and firmware are of different "
                                   "versions")
        return words

    def _next_number(self) -> int:
        """One that no other host gives its requests, and that we do not give again."""
        if self._count % 2**16 == 0:
            self._session = secrets.randbits(16)
            self._numbers.add(self._session)
        self._count += 1
        return self._session << 16 | self._count % 2**16

    def _carried_out(self, number: int, body: np.ndarray, answers: int) -> np.ndarray:
        """Posts until the response is there."""
        trouble, refused, patience, alive = "it shows no sign of life", 0, PATIENCE, 0
        last_sign = posted = time.monotonic()
        waiting = False
        while True:
            try:
                self._connect()
                if not waiting:
                    self._post(body)
                    waiting, posted, pause = True, time.monotonic(), 0.0
                time.sleep(pause)
                pause = min(max(2 * pause, 1e-4), 0.01)
                head = self._glance(answers)
                response = self._whole(head)
                if response is not None:
                    if response[Response.NUMBER] == number:
                        return response
                    if (int(response[Response.NUMBER]) >> 16 not in self._numbers
                            and response[Response.BOOT] == self.boot):
                        raise AcceleratorError(f"somebody else uses {self.name} at the same time")
                if head[Response.REFUSED] == body[Request.POSTED]:
                    raise Refused("requests do not arrive whole")
                now, step = time.monotonic(), (int(head[Response.ALIVE]) - alive) % 2**32
                if 0 < step < LIVELY:
                    last_sign = posted = now
                elif now - posted > patience:
                    waiting, patience = False, 2 * patience
                    self._connected &= patience < DOUBTS
                alive = int(head[Response.ALIVE])
            except OSError as error:
                trouble, waiting = _say(error), False
                refused += 1
                self._connected &= isinstance(error, Refused)
                if refused < TRIES:
                    time.sleep(min(PAUSE * 2**refused, LONGEST_PAUSE))
            silent = time.monotonic() - last_sign
            if refused >= TRIES or silent > self.timeout:
                self._connected = False
                raise self._dead(f"a request was not answered, after {silent:.1f} s without a sign of "
                                 f"life and {refused} failures: {trouble}")

    def send(self, address: int, words: np.ndarray):
        """Writes uint32 words into memory; whether they have arrived an EXPECT has to say.

        Raises
        ------
        AcceleratorError
            There is no way to the SoC.
        """
        self._again(lambda: self.link.write(address, words))

    def receive(self, address: int, count: int) -> np.ndarray:
        """uint32 array [count] of what seems to be in memory; whether it is so a CRC has to say.

        Raises
        ------
        AcceleratorError
            There is no way to the SoC.
        """
        return self._again(lambda: self.link.read(address, count))

    def _again(self, access: Callable):
        begun = time.monotonic()
        for attempt in range(1, TRIES + 1):
            try:
                self._connect()
                return access()
            except OSError as error:
                self._connected, trouble = False, _say(error)
            if attempt > 2 and time.monotonic() - begun > self.timeout:
                break
            time.sleep(min(PAUSE * 2**attempt, LONGEST_PAUSE))
        raise self._dead(f"memory cannot be reached, {attempt} times: {trouble}")

    def _post(self, body: np.ndarray):
        self._posts = (self._posts + 1) % 256
        body[Request.POSTED] = (int(body[Request.NUMBER]) << 8 | self._posts) % 2**32
        at = self.base + REQUEST
        self.link.write(at + 4, body[1:])
        self.link.write(at, body[:1])

    def _glance(self, answers: int) -> np.ndarray:
        """The beginning of the response, all of it if it is short."""
        return self.link.read(self.base + RESPONSE, min(Response.CONTENT + answers, GLANCE))

    def _whole(self, head: np.ndarray) -> np.ndarray | None:
        """A response of which the beginning has been read; None if it is garbled, or half written."""
        words = int(head[Response.WORDS])
        if words > CAPACITY:
            return None
        missing = Response.CONTENT + words - len(head)
        if missing > 0:
            head = np.concatenate([head, self.link.read(self.base + RESPONSE + 4 * len(head), missing)])
        head = head[:Response.CONTENT + words]
        return head if checksum(head[Response.NUMBER:]) == head[Response.CRC] else None

    def _connect(self):
        if not self._connected:
            self.link.reopen()
            self._connected = True

    def _dead(self, what: str) -> AcceleratorError:
        return AcceleratorError(f"{self.name}: {what}; check that the SoC is powered and runs server.c, "
                                "that the bridge to it (litex_server, cable) works, and that nobody "
                                "else uses it")

    def forget_connection(self):
        """What comes through it is not to be trusted: the next access connects anew."""
        self._connected = False

    def close(self):
        self.link.close()
        self._connected = False


def _say(error: OSError) -> str:
    return str(error) or type(error).__name__
