"""The NPU door: the core under the port names of the AAML course platform's accelerator slot."""

from amaranth.hdl import Cat, ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi_narrow import NARROW_PINS, AxiNarrow
from .command import Command, order_of
from .config import Config
from .core import Core
from .isa import Op, Read, function_id

__all__ = ["AXI", "CONSTANT", "NPU", "PINS"]

#: The slot's AXI4 pins: ours, without IDs, by their names there ...
AXI = {f"M_AXI_{name.upper()}": name for name in NARROW_PINS
       if name not in ("arid", "rid", "awid", "bid")}
#: ... and those that say nothing: (width, value). CACHE: bufferable, modifiable, not to be cached.
CONSTANT = {f"M_AXI_{channel}{name}": pin for channel in ("AW", "AR") for name, pin in {
    "LOCK": (1, 0), "CACHE": (4, 3), "PROT": (3, 0), "QOS": (4, 0), "USER": (16, 0)}.items()}
#: All ports of the slot.
PINS = {
    "clk": In(1), "rst_n": In(1),
    "rs1_i": In(32), "rs2_i": In(32), "funct3_i": In(3), "funct7_i": In(7), "NPU_start": In(1),
    "NPU_out": Out(32), "NPU_done": Out(1), "NPU_exception": Out(1),
    **{pin: NARROW_PINS[name] for pin, name in AXI.items()},
    **{pin: Out(width) for pin, (width, _) in CONSTANT.items()},
    "M_AXI_RID": In(4),
}


class NPU(wiring.Component):
    """One command per ``NPU_start``, its answer with ``NPU_done``, and memory over 32 bits of AXI4.

    ``NPU_start`` is a pulse, or is held until ``NPU_done``; operands count in its first cycle. While a
    command is in progress, and in the cycle of ``NPU_done``, it is not looked at. ``NPU_done`` lasts
    one cycle; ``NPU_out`` keeps its value until the next. ``NPU_exception`` comes with ``NPU_done`` if
    the command was no GET and has left the core in an error state: then ``NPU_out`` is the error's
    code, unless the command was RESET, after which there is none. GET never raises it, so a handler
    can read ERROR, ERROR_VALUE and FAILED. READ answers a word or a code, which look alike; so a READ
    is followed by a GET of ERROR that the CPU does not see.

    Latency from ``NPU_start`` to ``NPU_done``: 4 cycles for PUSH and RESET, 6 for READ, else 5, and what
    the command itself waits. All outputs to the CPU are registers.

    Source: the platform's ``Platform/hw/srcs/NPU.v`` and ``Platform/hw/README.md``, whose port names
    these are, in its capitals.

    Parameters
    ----------
    config : Config
        Without a memory port the AXI pins stay idle.

    Members
    -------
    As ``PINS``. ``rst_n`` is synchronous, active low; a command may come in the first cycle after it.
    """

    def __init__(self, config: Config):
        self.config = config
        self.core = Core(config)
        super().__init__(PINS)

    def elaborate(self, _platform):
        m = Module()
        # The core's reset comes out of a register, as it goes to thousands: it is a cycle late, in which
        # nothing is sent yet, but something of before may still come out.
        m.domains.sync = inner = ClockDomain()
        m.domains.door = door = ClockDomain()
        resetting = Signal(init=1)
        m.d.comb += [inner.clk.eq(self.clk), door.clk.eq(self.clk), door.rst.eq(~self.rst_n),
                     inner.rst.eq(resetting)]
        m.d.door += resetting.eq(0)
        m.submodules.core = core = self.core

        command, given, busy = Signal(Command), Signal(Command), Signal()
        waiting, asking = Signal(), Signal()    # the command is to go; after a READ, GET of ERROR is
        op, sent = command.function_id[:3], Signal()
        m.d.comb += [
            core.i.valid.eq(waiting | asking), sent.eq(core.i.valid & core.i.ready),
            given.eq(command), core.i.payload.as_value().eq(order_of(given, memory=self.config.memory)),
        ]
        with m.If(~waiting):
            m.d.comb += given.function_id.eq(function_id(Op.GET, Read.ERROR))
        with m.If(self.NPU_start & ~busy & ~self.NPU_done):
            m.d.door += [busy.eq(1), waiting.eq(1),
                         command.function_id.eq(Cat(self.funct3_i, self.funct7_i)),
                         command.input_0.eq(self.rs1_i), command.input_1.eq(self.rs2_i)]
        with m.Elif(sent):
            m.d.door += [waiting.eq(0), asking.eq(waiting & (op == Op.READ))]

        word_here = Signal()                    # of a READ; its error state is to come
        answered = core.o.valid & ~inner.rst
        m.d.comb += core.o.ready.eq(1)
        m.d.door += [self.NPU_done.eq(0), self.NPU_exception.eq(0)]
        with m.If(answered & (op == Op.READ) & ~word_here):
            m.d.door += [self.NPU_out.eq(core.o.payload), word_here.eq(1)]
        with m.Elif(answered):
            m.d.door += [self.NPU_done.eq(1), busy.eq(0), word_here.eq(0),
                         self.NPU_exception.eq((op != Op.GET) & (core.o.payload != 0))]
            with m.If(~word_here):
                m.d.door += self.NPU_out.eq(core.o.payload)

        m.d.comb += [getattr(self, pin).eq(value) for pin, (_, value) in CONSTANT.items()]
        if self.config.memory:
            m.submodules.narrow = narrow = AxiNarrow()
            wiring.connect(m, core.axi, narrow.wide)
            for pin, name in AXI.items():
                inside, outside = getattr(narrow.narrow, name), getattr(self, pin)
                m.d.comb += outside.eq(inside) if NARROW_PINS[name].flow == Out else inside.eq(outside)
        return m
