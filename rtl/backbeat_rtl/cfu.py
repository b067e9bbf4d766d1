"""The CFU door: the core under the port names that CFU-Playground and LiteX expect."""

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .command import Command, Order, order_of
from .config import Config
from .core import Core
from .memory_port import AXI_PINS
from .queue import Queue

__all__ = ["WAITING", "Cfu"]

#: Commands that may wait in front of the core's command register.
WAITING = 4


class Cfu(wiring.Component):
    """Custom function unit for VexRiscv, usable as LiteX's ``cpu_cfu``.

    ``cmd_valid`` holds until ``cmd_ready``; the payload counts only in that cycle. Exactly one
    response per command, stable until ``rsp_ready``.

    ``cmd_ready`` does not fall while fewer than ``WAITING`` commands wait. VexRiscv has two under way at
    most, and needs that: if ``cmd_ready`` is low when a command that has already been accepted leaves
    the execute stage (it may have to stay there for the one before), VexRiscv offers whatever
    instruction follows as one more command.

    Source: CFU-Playground, ``docs/source/interface.rst``.

    Parameters
    ----------
    config : Config

    Members
    -------
    As in CFU-Playground; ``reset`` is synchronous, active high. If ``config.memory``, also the pins
    of an AXI4 master, each with the prefix ``m_axi_``.
    """

    def __init__(self, config: Config):
        self.config = config
        self.core = Core(config)
        super().__init__({
            "cmd_valid":               In(1),
            "cmd_ready":               Out(1),
            "cmd_payload_function_id": In(10),
            "cmd_payload_inputs_0":    In(32),
            "cmd_payload_inputs_1":    In(32),
            "rsp_valid":               Out(1),
            "rsp_ready":               In(1),
            "rsp_payload_outputs_0":   Out(32),
            "reset":                   In(1),
            "clk":                     In(1),
            **({f"m_axi_{name}": pin for name, pin in AXI_PINS.items()} if config.memory else {}),
        })

    def elaborate(self, _platform):
        m = Module()
        # The reset comes out of a register, as it goes to thousands. It takes effect a cycle late: in
        # that cycle no command is taken and no response given.
        m.domains.sync = domain = ClockDomain()
        m.domains.early = early = ClockDomain(reset_less=True)
        m.d.comb += [domain.clk.eq(self.clk), early.clk.eq(self.clk)]
        m.d.early += domain.rst.eq(self.reset)
        m.submodules.core = core = self.core
        m.submodules.waiting = waiting = Queue(width=Order.size, depth=WAITING)
        command, order, accepted = Signal(Command), Signal(Order), Signal()
        m.d.comb += [
            command.function_id.eq(self.cmd_payload_function_id),
            command.input_0.eq(self.cmd_payload_inputs_0),
            command.input_1.eq(self.cmd_payload_inputs_1),
            order.as_value().eq(order_of(command, memory=self.config.memory)),
            self.cmd_ready.eq(waiting.w_rdy & ~domain.rst),
            accepted.eq(self.cmd_valid & self.cmd_ready),
            # A command waits only if others do or the core does not take it.
            core.i.valid.eq(accepted | waiting.r_rdy),
            waiting.w_data.eq(order), waiting.w_en.eq(accepted & (waiting.r_rdy | ~core.i.ready)),
            waiting.r_en.eq(core.i.ready),
            core.o.ready.eq(self.rsp_ready),
            self.rsp_valid.eq(core.o.valid & ~domain.rst),
            self.rsp_payload_outputs_0.eq(core.o.payload),
        ]
        with m.If(waiting.r_rdy):
            m.d.comb += core.i.payload.eq(waiting.r_data)
        with m.Else():
            m.d.comb += core.i.payload.eq(order)
        if self.config.memory:
            for name, pin in AXI_PINS.items():
                inside, outside = getattr(core.axi, name), getattr(self, f"m_axi_{name}")
                m.d.comb += outside.eq(inside) if pin.flow == Out else inside.eq(outside)
        return m
