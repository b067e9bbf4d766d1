"""The core behind any door: a stream of commands in, a stream of responses out."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .command import Order
from .config import Config
from .engine import Engine
from .memory_port import AXI_PINS, MemoryPort

__all__ = ["Core"]


class Core(wiring.Component):
    """Answers each command exactly once, in order.

    Takes operand words and results in every cycle, other commands in every third one.

    A command that has to wait for the hardware waits in the command register, with everything
    behind it. RESET never waits: it clears all but buffer contents and answers 0. But a command
    that is waiting is ahead of it, so no wait may depend on a later command (see :class:`Engine`).

    Latency 2 cycles from those to the response, 4 from others. Neither ``ready`` depends on the other
    stream in the same cycle, so no path leads through the core from the CPU and back to it.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : stream of Order
    o : stream of 32 bit
    axi : pins of an AXI4 master
        If ``config.memory``.
    """

    def __init__(self, config: Config):
        self.config = config
        self.engine = Engine(config)
        super().__init__({
            "i": In(stream.Signature(Order)),
            "o": Out(stream.Signature(32)),
            **({"axi": Out(wiring.Signature(AXI_PINS))} if config.memory else {}),
        })

    def elaborate(self, _platform):
        m = Module()
        resetting = Signal()
        m.submodules.engine = ResetInserter(resetting)(self.engine)
        engine = self.engine

        if self.config.memory:      # what the bus has been promised outlives a reset
            m.submodules.port = port = MemoryPort()
            wiring.connect(m, engine.port, port.inner)
            wiring.connect(m, port.axi, wiring.flipped(self.axi))
            with m.If(resetting):
                m.d.comb += port.inner.flush.eq(1)

        # The command register.
        order, full, execute, room = Signal(Order), Signal(), Signal(), Signal(init=1)
        m.d.comb += [
            engine.i_order.eq(order), engine.i_present.eq(full & room),
            execute.eq(engine.i_present & engine.o_ready),
            engine.i_execute.eq(execute), engine.i_full.eq(full),
            self.i.ready.eq(~full | execute),
        ]
        with m.If(self.i.ready):
            m.d.sync += [full.eq(self.i.valid), order.eq(self.i.payload)]

        # Two response registers, so that a command need not look at the response's ready. Nor at more
        # than one bit: whether there is room, and no reset, is known a cycle before.
        second, second_full, resets = Signal(32), Signal(), Signal()
        stays, result = Signal(), engine.o_result
        m.d.comb += [stays.eq((second_full | execute) & self.o.valid & ~self.o.ready),
                     engine.i_room.eq(~second_full | self.o.ready),
                     resets.eq(execute & order.kind.reset)]
        m.d.sync += [second_full.eq(stays), room.eq(~(stays | resets)), resetting.eq(resets)]
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += self.o.valid.eq(second_full | execute)
            with m.If(second_full):
                m.d.sync += self.o.payload.eq(second)
            with m.Else():
                m.d.sync += self.o.payload.eq(result)
        with m.Elif(execute):
            m.d.sync += second.eq(result)
        return m
