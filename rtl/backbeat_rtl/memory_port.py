"""The AXI4 master: bursts out, words back, and an orderly end whatever happens inside."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD
from .queue import Queue

__all__ = ["AXI_PINS", "PAGE", "PORT", "SILENCE", "WRITES", "Burst", "MemoryPort", "ReadWord",
           "WriteWord"]

#: No burst crosses a multiple of this.
PAGE = 4096
#: Cycles without any transfer, while one is due, after which the memory counts as dead: a power of two.
SILENCE = 1 << 16
#: Write bursts that may be under way.
WRITES = 16

#: A burst of ``length`` + 1 beats (as AXI counts) that crosses no page.
Burst = data.StructLayout({"address": 32, "length": 8})
ReadWord = data.StructLayout({"bytes": 8 * WORD, "error": 1})
WriteWord = data.StructLayout({"bytes": 8 * WORD, "strobe": WORD})

#: What the port's user sees. ``word``s come back in the order of ``read``; ``written``: a burst has
#: been acknowledged, in order; ``quiet``: nothing is under way; ``silent``: something is, and for
#: ``SILENCE`` cycles nothing has been transferred; ``was_read``, ``was_written``: a word has been.
PORT = wiring.Signature({
    "read":        Out(stream.Signature(Burst)),
    "word":        In(stream.Signature(ReadWord)),
    "write":       Out(stream.Signature(Burst)),
    "write_word":  Out(stream.Signature(WriteWord)),
    "written":     In(data.StructLayout({"valid": 1, "error": 1})),
    "flush":       Out(1),
    "quiet":       In(1),
    "silent":      In(1),
    "was_read":    In(1),
    "was_written": In(1),
})

#: Pins of an AXI4 master, 64 bits wide, without those that are constant for every memory.
AXI_PINS = {
    "arid": Out(1), "araddr": Out(32), "arlen": Out(8), "arsize": Out(3), "arburst": Out(2),
    "arvalid": Out(1), "arready": In(1),
    "rid": In(1), "rdata": In(8 * WORD), "rresp": In(2), "rlast": In(1), "rvalid": In(1),
    "rready": Out(1),
    "awid": Out(1), "awaddr": Out(32), "awlen": Out(8), "awsize": Out(3), "awburst": Out(2),
    "awvalid": Out(1), "awready": In(1),
    "wdata": Out(8 * WORD), "wstrb": Out(WORD), "wlast": Out(1), "wvalid": Out(1), "wready": In(1),
    "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
}


class _Pins:
    """Signals by the names of the pins."""


class MemoryPort(wiring.Component):
    """Turns bursts into AXI4 transactions, all INCR, 8 bytes a beat, one ID, answered in order.

    Write data follow their address; they never come before it. ``flush`` gives up all that is
    under way the way the protocol wants it: what was asked for is read and dropped, what was
    announced is written without a strobe. It lies outside of the core's soft reset for that reason.

    A word per cycle in both directions, latency 1 cycle each way on every channel.

    Members
    -------
    axi : pins of an AXI4 master
    inner : PORT
    """

    def __init__(self):
        super().__init__({
            "axi":   Out(wiring.Signature(AXI_PINS)),
            "inner": In(PORT),
        })

    def outside(self, m):
        """The pins behind a register in either direction, so that no path leads through the port."""
        axi = _Pins()
        for channel, names, inward in (
                ("ar", ("addr", "len"), False), ("aw", ("addr", "len"), False),
                ("w", ("data", "strb", "last"), False),
                ("r", ("data", "resp"), True), ("b", ("resp",), True)):
            here = {name: Signal.like(getattr(self.axi, channel + name), name=f"{channel}{name}_in")
                    for name in (*names, "valid", "ready")}
            pins = {name: getattr(self.axi, channel + name) for name in here}
            source, sink = (pins, here) if inward else (here, pins)
            # Two words: it takes one in every cycle without looking at what its other side does.
            m.submodules[channel] = fifo = Queue(width=sum(len(here[n]) for n in names), depth=2)
            m.d.comb += [
                fifo.w_data.eq(Cat(source[n] for n in names)), fifo.w_en.eq(source["valid"]),
                source["ready"].eq(fifo.w_rdy), Cat(sink[n] for n in names).eq(fifo.r_data),
                sink["valid"].eq(fifo.r_rdy), fifo.r_en.eq(sink["ready"]),
            ]
            for name, signal in here.items():
                setattr(axi, channel + name, signal)
        m.d.comb += [self.axi.arsize.eq(3), self.axi.awsize.eq(3), self.axi.arburst.eq(1),
                     self.axi.awburst.eq(1)]
        return axi

    def elaborate(self, _platform):
        m = Module()
        axi, inner = self.outside(m), self.inner
        flush = inner.flush
        flushing = Signal()

        # Reads.
        reads = Signal(16)          # words asked for and not yet here
        asked, got, may_read = Signal(), Signal(), Signal()
        m.d.comb += [
            may_read.eq(~flushing & ~reads[-1]),
            axi.arvalid.eq(inner.read.valid & may_read),
            axi.araddr.eq(inner.read.payload.address), axi.arlen.eq(inner.read.payload.length),
            inner.read.ready.eq(axi.arready & may_read),
            asked.eq(axi.arvalid & axi.arready),
            got.eq(axi.rvalid & axi.rready),
            axi.rready.eq(inner.word.ready | flushing),
            inner.word.valid.eq(axi.rvalid & ~flushing),
            inner.word.payload.bytes.eq(axi.rdata), inner.word.payload.error.eq(axi.rresp[1]),
            inner.was_read.eq(got),
        ]
        # Counted a cycle late, both: no word comes so soon, and one that has come is due a cycle longer.
        counts, length, less = Signal(), Signal(8), Signal()
        m.d.sync += [counts.eq(asked), length.eq(inner.read.payload.length), less.eq(got)]
        with m.If(counts):
            m.d.sync += reads.eq(reads + length + ~less)
        with m.Else():
            m.d.sync += reads.eq(reads - less)

        # Writes: words wait until their address has been accepted outside.
        m.submodules.lengths = lengths = Queue(width=8, depth=WRITES)
        announced, accepted, answered, may_write = Signal(), Signal(), Signal(), Signal()
        # Bursts announced and not acknowledged, bit n: more than n. So whether there are any, or there
        # is room for one more, is known at once.
        writes = Signal(WRITES)
        due, any_due = Signal(range(WRITES + 1)), Signal()     # accepted, words not all sent
        # Of the burst whose words are sent: its beats left, less one.
        sending, left, sent, last, ended = Signal(), Signal(8), Signal(), Signal(), Signal()
        may_send = Signal()     # there is one, and its address has been accepted
        m.d.comb += [
            may_write.eq(~writes[-1]), axi.awvalid.eq(inner.write.valid & may_write & ~flushing),
            axi.awaddr.eq(inner.write.payload.address), axi.awlen.eq(inner.write.payload.length),
            inner.write.ready.eq(axi.awready & may_write & ~flushing),
            announced.eq(axi.awvalid & axi.awready),
            accepted.eq(self.axi.awvalid & self.axi.awready),
            answered.eq(axi.bvalid), axi.bready.eq(1),
            inner.written.valid.eq(answered & ~flushing), inner.written.error.eq(axi.bresp[1]),
            lengths.w_en.eq(announced), lengths.w_data.eq(axi.awlen),
            may_send.eq(sending & any_due),
            axi.wvalid.eq(may_send & (inner.write_word.valid | flushing)), axi.wlast.eq(last),
            axi.wdata.eq(inner.write_word.payload.bytes),
            axi.wstrb.eq(inner.write_word.payload.strobe & ~flushing.replicate(WORD)),
            inner.write_word.ready.eq(axi.wready & may_send & ~flushing),
            sent.eq(axi.wvalid & axi.wready), ended.eq(sent & last),
            lengths.r_en.eq(~sending | ended), inner.was_written.eq(sent),
        ]
        with m.If(announced & ~answered):
            m.d.sync += writes.eq(Cat(1, writes))
        with m.Elif(answered & ~announced):
            m.d.sync += writes.eq(writes[1:])
        m.d.sync += any_due.eq(accepted | Mux(ended, due > 1, any_due))
        with m.If(accepted & ~ended):
            m.d.sync += due.eq(due + 1)
        with m.Elif(ended & ~accepted):
            m.d.sync += due.eq(due - 1)
        with m.If(lengths.r_en):
            m.d.sync += [sending.eq(lengths.r_rdy), left.eq(lengths.r_data),
                         last.eq(lengths.r_data == 0)]
        with m.Elif(sent):
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]

        # An orderly end, of what is accepted in the cycle of `flush` too.
        m.d.comb += inner.quiet.eq((reads == 0) & ~counts & ~writes[0])
        with m.If(flush):
            m.d.sync += flushing.eq(1)
        with m.Elif(inner.quiet):
            m.d.sync += flushing.eq(0)

        silence = Signal(range(SILENCE + 1))
        pins = self.axi
        transfer = Cat(getattr(pins, f"{channel}valid") & getattr(pins, f"{channel}ready")
                       for channel in ("ar", "r", "aw", "w", "b")).any()
        m.d.comb += inner.silent.eq(silence[-1])
        with m.If(inner.quiet | transfer):
            m.d.sync += silence.eq(0)
        with m.Elif(~inner.silent):
            m.d.sync += silence.eq(silence + 1)
        return m
