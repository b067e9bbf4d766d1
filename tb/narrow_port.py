"""Benches behind 32 bits of AXI4: the pins by the names that the other benches use, and the rules."""

import cocotb
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge

from backbeat_rtl.axi_narrow import NARROW_PINS, AxiNarrow
from backbeat_rtl.config import Config
from backbeat_rtl.memory_port import AXI_PINS
from backbeat_rtl.npu import AXI, NPU

from .memory_port import PAGE, AxiRules

__all__ = ["NarrowBench", "NarrowRules", "NpuBench"]


class NarrowBench(wiring.Component):
    """``AxiNarrow`` between ``s_axi_`` and ``m_axi_``."""

    def __init__(self):
        super().__init__({
            "clk": In(1), "reset": In(1),
            **{f"s_axi_{name}": pin.flip() for name, pin in AXI_PINS.items()},
            **{f"m_axi_{name}": pin for name, pin in NARROW_PINS.items()}})

    def elaborate(self, _platform):
        m = Module()
        m.domains.sync = domain = ClockDomain()
        m.submodules.narrow = narrow = AxiNarrow()
        m.d.comb += [domain.clk.eq(self.clk), domain.rst.eq(self.reset)]
        for name, pin in AXI_PINS.items():
            inside, outside = getattr(narrow.wide, name), getattr(self, f"s_axi_{name}")
            m.d.comb += inside.eq(outside) if pin.flow == Out else outside.eq(inside)
        for name, pin in NARROW_PINS.items():
            inside, outside = getattr(narrow.narrow, name), getattr(self, f"m_axi_{name}")
            m.d.comb += outside.eq(inside) if pin.flow == Out else inside.eq(outside)
        return m


class NpuBench(wiring.Component):
    """``NPU`` with a reset that is active high and AXI pins in small letters, IDs zero."""

    DOOR = ("rs1_i", "rs2_i", "funct3_i", "funct7_i", "NPU_start", "NPU_out", "NPU_done",
            "NPU_exception")

    def __init__(self, config: Config):
        self.config, self.npu = config, NPU(config)
        members = self.npu.signature.members
        super().__init__({
            "clk": In(1), "reset": In(1), **{name: members[name] for name in self.DOOR},
            **{f"m_axi_{name}": pin for name, pin in NARROW_PINS.items()}})

    def elaborate(self, _platform):
        m = Module()
        m.submodules.npu = npu = self.npu
        m.d.comb += [npu.clk.eq(self.clk), npu.rst_n.eq(~self.reset)]
        names = {name: name for name in self.DOOR} | {pin: f"m_axi_{name}" for pin, name in AXI.items()}
        for inside, outside in names.items():
            flow = npu.signature.members[inside].flow
            inside, outside = getattr(npu, inside), getattr(self, outside)
            m.d.comb += outside.eq(inside) if flow == Out else inside.eq(outside)
        return m


class NarrowRules(AxiRules):
    """``beats`` counts those of 4 bytes. No answer and no word is waited for that is not owed."""

    async def _watch(self):
        cocotb.start_soon(super()._watch())
        while True:
            await FallingEdge(self.dut.clk)     # what the rising one has brought is counted by then
            for channel, owed in (("b", self.unanswered), ("r", self.reading)):
                assert owed or self.dut.reset.value or not self.pins[channel][1].value, (
                    f"{channel}ready, and nothing is owed")

    def _burst(self, channel: str) -> int:
        name, address, length, size, kind = self.now
        what = f"{channel}: burst of {length + 1} beats at {address:#x}"
        assert name == 0, f"{what} has the id {name}"
        assert size == 2, f"{what} has the size {size}, expected 2 (4 bytes)"
        assert kind == 1, f"{what} is of kind {kind}, expected 1 (INCR)"
        assert address % 8 == 0 and length % 2 == 1, f"{what} is not of whole words"
        assert address % PAGE + 4 * (length + 1) <= PAGE, f"{what} crosses a multiple of {PAGE}"
        return length + 1
