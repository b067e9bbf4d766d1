"""Refuses what lies outside of memory, where the DRAM controller would wrap round without a word."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from backbeat_rtl.memory_port import AXI_PINS

__all__ = ["MemoryWindow"]

#: RRESP and BRESP of an address where nothing is.
DECERR = 3


class MemoryWindow(wiring.Component):
    """Lets bursts inside of a range of addresses through and answers others with DECERR itself.

    Answers keep their order: a burst outside waits until all that came before it in its direction has
    been answered. The core's bursts cross no page, so where one begins decides.

    No latency.

    Parameters
    ----------
    base, size : int
        Of memory, multiples of 4,096.

    Members
    -------
    core : pins of an AXI4 slave, whose write words follow their address
    memory : pins of an AXI4 master
    """

    def __init__(self, *, base: int, size: int):
        if base % 4096 or size % 4096 or not 0 < size <= 2**32 - base:
            raise ValueError(f"base and size must be multiples of 4,096 within 2^32, got {base:#x}, "
                             f"{size:#x}")
        self.base, self.size = base, size
        super().__init__({
            "core":   In(wiring.Signature(AXI_PINS)),
            "memory": Out(wiring.Signature(AXI_PINS)),
        })

    def inside(self, address):
        return (address >= self.base) & (address < self.base + self.size)

    def elaborate(self, _platform):
        m = Module()
        core, memory = self.core, self.memory
        for name, pin in AXI_PINS.items():
            here, there = getattr(core, name), getattr(memory, name)
            m.d.comb += there.eq(here) if pin.flow == Out else here.eq(there)

        # Reads: as many words as the burst asked for, none of them worth anything.
        words, refusing, left = Signal(17), Signal(), Signal(8)
        read_inside = self.inside(core.araddr)
        m.d.comb += [
            memory.arvalid.eq(core.arvalid & read_inside & ~refusing),
            core.arready.eq(~refusing & Mux(read_inside, memory.arready, words == 0)),
        ]
        asked, got = memory.arvalid & memory.arready, memory.rvalid & memory.rready
        m.d.sync += words.eq(words + Mux(asked, memory.arlen + 1, 0) - got)
        with m.If(core.arvalid & core.arready & ~read_inside):
            m.d.sync += [refusing.eq(1), left.eq(core.arlen)]
        with m.If(refusing):
            m.d.comb += [core.rvalid.eq(1), core.rresp.eq(DECERR), core.rlast.eq(left == 0)]
            with m.If(core.rready):
                m.d.sync += [left.eq(left - 1), refusing.eq(left != 0)]

        # Writes: their words are dropped, then comes the answer.
        bursts, dropping, dropped = Signal(8), Signal(), Signal()
        write_inside = self.inside(core.awaddr)
        m.d.comb += [
            memory.awvalid.eq(core.awvalid & write_inside & ~dropping),
            core.awready.eq(~dropping & Mux(write_inside, memory.awready, bursts == 0)),
        ]
        announced, answered = memory.awvalid & memory.awready, memory.bvalid & memory.bready
        m.d.sync += bursts.eq(bursts + announced - answered)
        with m.If(core.awvalid & core.awready & ~write_inside):
            m.d.sync += dropping.eq(1)
        with m.If(dropping):
            m.d.comb += [memory.wvalid.eq(0), core.wready.eq(~dropped), core.bvalid.eq(dropped),
                         core.bresp.eq(DECERR)]
            with m.If(core.wvalid & core.wready & core.wlast):
                m.d.sync += dropped.eq(1)
            with m.If(core.bvalid & core.bready):
                m.d.sync += [dropped.eq(0), dropping.eq(0)]
        return m
