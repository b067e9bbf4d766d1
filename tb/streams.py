"""The streams of a bare module, driven a cycle at a time."""

from collections import deque
from types import SimpleNamespace

from cocotb.triggers import RisingEdge

__all__ = ["Pulses", "Sink", "Source", "bits", "cycle", "drain", "fields"]

#: Cycles without a word on any stream after which a bench counts as hung.
PATIENCE = 2000
#: ... and after which, with nothing left to be offered, nothing more is expected.
CALM = 64


def bits(layout, **values) -> int:
    """A structure as a port value; nested ones are dicts."""
    return layout.const(values).as_bits()


def fields(layout, value: int) -> SimpleNamespace:
    """The fields of a flat structure of unsigned ones, by their names."""
    return SimpleNamespace(**{name: value >> field.offset & (1 << field.width) - 1
                              for name, field in layout})


class Source:
    """Offers words, with pauses in which the payload is noise; what is offered stays until taken.

    Parameters
    ----------
    name : str
        Of the ports, without ``__valid``.
    idle : float
        Chance per cycle of offering nothing.

    Attributes
    ----------
    words : deque of int
        Still to be sent.
    sent : int
        Words taken so far.
    """

    def __init__(self, dut, name: str, rng, idle: float = 0):
        self.payload, self.valid, self.ready = (
            getattr(dut, f"{name}__{pin}") for pin in ("payload", "valid", "ready"))
        self.rng, self.idle, self.words, self.offering, self.sent = rng, idle, deque(), False, 0
        self.size, self.valid.value = len(self.payload), 0

    def drive(self):
        if not self.offering:
            self.offering = bool(self.words) and self.rng.random() >= self.idle
            self.payload.value = self.words[0] if self.offering else (
                int.from_bytes(self.rng.bytes(self.size // 8 + 1)) & (1 << self.size) - 1)
        self.valid.value = int(self.offering)

    def sample(self) -> bool:
        taken = self.offering and bool(self.ready.value)
        if taken:
            self.words.popleft()
            self.offering = False
            self.sent += 1
        return taken

    def forget(self):
        """Takes back what it offers, and all that would have followed."""
        self.words.clear()
        self.offering = False


class Sink:
    """Takes words, with pauses, and fails if one that is offered changes or goes away.

    Parameters
    ----------
    stall : float
        Chance per cycle of not taking one.
    steady : bool
        Once ready it stays so until it gets a word, as a FIFO does.
    """

    def __init__(self, dut, name: str, rng, stall: float = 0, steady: bool = False):
        self.payload, self.valid, self.ready = (
            getattr(dut, f"{name}__{pin}") for pin in ("payload", "valid", "ready"))
        self.name, self.rng, self.stall, self.steady = name, rng, stall, steady
        self.words, self.taking, self.waiting = [], False, None
        self.ready.value = 0

    def drive(self):
        self.taking = self.taking and self.steady or self.rng.random() >= self.stall
        self.ready.value = int(self.taking)

    def sample(self) -> bool:
        offered = int(self.payload.value) if self.valid.value else None
        assert self.waiting in (None, offered), (
            f"{self.name} offered {self.waiting:#x}, and then {offered} before it was taken")
        taken = self.taking and offered is not None
        self.waiting = None if taken else offered
        if taken:
            self.words.append(offered)
            self.taking = False
        return taken


class Pulses:
    """Records the values of a port in the cycles in which its lowest bit is set."""

    def __init__(self, dut, name: str):
        self.port, self.values = getattr(dut, name), []

    def drive(self):
        pass

    def sample(self) -> bool:
        value = int(self.port.value)
        if value & 1:
            self.values.append(value)
        return False


async def cycle(dut, *streams) -> bool:
    """One clock cycle; whether a word has been transferred."""
    for one in streams:
        one.drive()
    await RisingEdge(dut.clk)
    return any([one.sample() for one in streams])


async def drain(dut, *streams):
    """Clock cycles until nothing is left to be offered, and nothing more comes."""
    quiet = 0
    while quiet < CALM or any(one.words for one in streams if isinstance(one, Source)):
        quiet = 0 if await cycle(dut, *streams) else quiet + 1
        assert quiet < PATIENCE, f"no word for {PATIENCE} cycles"
