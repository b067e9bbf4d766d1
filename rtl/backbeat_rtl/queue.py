"""A short queue whose flags come out of registers."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["Queue"]


#: Entries that are counted by a flag each.
_FLAGS = 16


class Queue(wiring.Component):
    """First in, first out; cycle by cycle what :class:`amaranth.lib.fifo.SyncFIFO` is.

    That one compares a count, on both sides, before anything can be decided. Here ``w_rdy`` and
    ``r_rdy`` are registers, a level of logic behind the two enables. Of two entries the first is a
    register too: nothing lies before what reads it. More of them are a memory; ``buffered`` puts a
    register behind it, as in :class:`amaranth.lib.fifo.SyncFIFOBuffered`. Entries are counted up to 16
    by a flag each, beyond by a number, with a level more from the enables to the flags.

    Latency 1 cycle, 2 if buffered; an entry per cycle.

    Parameters
    ----------
    width : int
        Of an entry, in bits.
    depth : int
        Entries, 2...63; 3...64 if buffered.
    buffered : bool

    Members
    -------
    w_data, w_en, w_rdy
        Writes if both are set.
    r_data, r_rdy, r_en
        Removes the entry shown if both are set.
    level
        Entries, without the one in the register behind; if more than 16 can be.

    Raises
    ------
    ValueError
        ``depth`` is out of range.
    """

    def __init__(self, *, width: int, depth: int, buffered: bool = False):
        if not 2 <= depth - buffered <= 63:
            raise ValueError(f"depth must be {2 + buffered}...{63 + buffered}, got {depth}")
        self.width, self.depth, self.buffered = width, depth, buffered
        self.counted = depth - buffered > _FLAGS
        super().__init__({
            "w_data": In(width), "w_en": In(1), "w_rdy": Out(1, init=1),
            "r_data": Out(width), "r_rdy": Out(1), "r_en": In(1),
            **({"level": Out(range(depth + 1 - buffered))} if self.counted else {}),
        })

    def elaborate(self, _platform):
        m = Module()
        if self.buffered:
            self.elaborate_buffer(m)
            return m
        write, read = self.w_en & self.w_rdy, self.r_en & self.r_rdy
        if self.counted:
            self.elaborate_level(m, write, read)
        else:
            self.elaborate_flags(m, write, read)
        if self.depth == 2:
            self.elaborate_registers(m)
        else:
            self.elaborate_memory(m, write, read)
        return m

    def elaborate_flags(self, m, write, read):
        # `more[n]`: more than n entries. Not as one number: each bit looks at its neighbours alone.
        inner = [Signal(name=f"more_than_{n}") for n in range(1, self.depth - 1)]
        more = [1, self.r_rdy, *inner, ~self.w_rdy, 0]
        for n in range(1, self.depth + 1):
            after = Mux(write, Mux(read, more[n], more[n - 1]), Mux(read, more[n + 1], more[n]))
            if n == 1:
                m.d.sync += self.r_rdy.eq(after)
            if n == self.depth:
                m.d.sync += self.w_rdy.eq(~after)
            elif n > 1:
                m.d.sync += inner[n - 2].eq(after)

    def elaborate_level(self, m, write, read):
        # What the flags would be is found beside the enables, which come last.
        level, most = self.level, self.depth
        m.d.sync += [
            level.eq(Mux(write == read, level, Mux(write, level + 1, level - 1))),
            self.r_rdy.eq(Mux(write, 1, Mux(read, level > 1, self.r_rdy))),
            self.w_rdy.eq(Mux(read, 1, Mux(write, level < most - 1, self.w_rdy))),
        ]

    def elaborate_buffer(self, m):
        m.submodules.inner = inner = Queue(width=self.width, depth=self.depth - 1)
        if self.counted:
            m.d.comb += self.level.eq(inner.level)
        m.d.comb += [inner.w_data.eq(self.w_data), inner.w_en.eq(self.w_en),
                     self.w_rdy.eq(inner.w_rdy), inner.r_en.eq(self.r_en | ~self.r_rdy)]
        last = Signal(self.width, reset_less=True)
        with m.If(inner.r_en):
            m.d.sync += [self.r_rdy.eq(inner.r_rdy), last.eq(inner.r_data)]
        m.d.comb += self.r_data.eq(last)

    def elaborate_registers(self, m):
        second = Signal(self.width, reset_less=True)
        with m.If(self.w_rdy):
            m.d.sync += second.eq(self.w_data)
        first = Signal(self.width, reset_less=True)
        with m.If(self.r_en | ~self.r_rdy):
            m.d.sync += first.eq(Mux(self.w_rdy, self.w_data, second))
        m.d.comb += self.r_data.eq(first)

    def elaborate_memory(self, m, write, read):
        m.submodules.storage = storage = Memory(shape=self.width, depth=self.depth, init=[])
        w_port, r_port = storage.write_port(), storage.read_port(domain="comb")
        for port, moves in ((w_port, write), (r_port, read)):
            with m.If(moves):
                m.d.sync += port.addr.eq(Mux(port.addr == self.depth - 1, 0, port.addr + 1))
        m.d.comb += [w_port.data.eq(self.w_data), w_port.en.eq(write), self.r_data.eq(r_port.data)]
