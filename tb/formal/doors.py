"""Both doors of the core: one answer per command, in order, and it stays until it is taken.

The engine is replaced by one that is ready whenever it likes and answers with the command's first
operand. So what is shown holds of every engine; that ours is ready at some time is not part of it.
"""

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal
from amaranth.lib import wiring

from backbeat_rtl.cfu import WAITING, Cfu
from backbeat_rtl.config import Config
from backbeat_rtl.isa import Op
from backbeat_rtl.npu import NPU

from .checker import Checker, any_of, held, past
from .solve import Fault, Property

__all__ = ["PROPERTIES"]

SMALL = Config(rows=2, columns=2, depth=16, tiles=2, memory=False)
#: Commands under way in a door with its core: those that wait, one being carried out, two responses.
MOST = WAITING + 3
#: Cycles in a row that the engine, and whoever takes responses, may be not ready, and cycles that a
#: command then takes at most.
PATIENCE, LATEST = 2, 3 * (MOST + 2)


class AnyEngine(wiring.Component):
    """Ready at any time; answers with the first operand, and a RESET as it has to be."""

    def __init__(self, engine):
        super().__init__(engine.signature)

    def elaborate(self, _platform):
        m = Module()
        command, kind = self.i_order.command, self.i_order.kind
        m.d.comb += [self.o_ready.eq(any_of(m, 1, "engine_ready") | kind.reset),
                     self.o_result.eq(Mux(kind.reset, 0, command.input_0))]
        return m


class OneAnswer(Checker):
    """Counts commands and answers, and follows any one command to its answer.

    ``reset`` may come at any time; from its second cycle on nothing is owed any more.
    """

    def __init__(self, bits: int, fair: bool = False):
        super().__init__()
        self.dut = Cfu(SMALL)
        self.dut.core.engine = AnyEngine(self.dut.core.engine)
        self.bits, self.fair = bits, fair

    def build(self, m):
        dut = self.dut
        m.submodules.dut = DomainRenamer({"sync": "core"})(dut)
        operand = any_of(m, 32, "operand")
        m.d.comb += [
            dut.clk.eq(self.clk), dut.reset.eq(0 if self.fair else any_of(m, 1, "reset")),
            dut.cmd_valid.eq(any_of(m, 1, "cmd_valid")), dut.rsp_ready.eq(any_of(m, 1, "rsp_ready")),
            dut.cmd_payload_function_id.eq(any_of(m, 10, "function_id")),
            dut.cmd_payload_inputs_0.eq(operand),
            dut.cmd_payload_inputs_1.eq(any_of(m, 32, "second_operand")),
        ]
        reset = past(m, dut.reset, "reset_before")
        accepted = Signal()
        answered = Signal()
        due = Signal(range(MOST + 2))
        m.d.comb += [accepted.eq(dut.cmd_valid & dut.cmd_ready),
                     answered.eq(dut.rsp_valid & dut.rsp_ready)]
        m.d.sync += due.eq(Mux(reset, 0, due + accepted - answered))
        self.claim(m, "no response unasked", due != 0, when=dut.rsp_valid)
        self.claim(m, "no more commands than there is room for", due <= MOST)
        self.claim(m, "a command waits outside only if others wait inside",
                   dut.cmd_ready | (due > WAITING) | reset)
        self.claim(m, "a response stays until it is taken", held(
            m, dut.rsp_valid, dut.rsp_ready, dut.rsp_payload_outputs_0, "response") | reset)

        # Any one command, and how many are to be answered before it.
        tracking = Signal()
        ahead = Signal(range(MOST + 1))
        wanted = Signal(self.bits)
        choose = any_of(m, 1, "choose")
        is_reset = dut.cmd_payload_function_id[:3] == Op.RESET
        with m.If(reset):
            m.d.sync += tracking.eq(0)
        with m.Elif(~tracking & accepted & choose):
            m.d.sync += [tracking.eq(1), ahead.eq(due - answered),
                         wanted.eq(Mux(is_reset, 0, operand[:self.bits]))]
        with m.Elif(tracking & answered):
            m.d.sync += [ahead.eq(ahead - 1), tracking.eq(ahead != 0)]
        self.claim(m, "each command gets its own answer, in order",
                   dut.rsp_payload_outputs_0[:self.bits] == wanted,
                   when=tracking & dut.rsp_valid & (ahead == 0))
        self.claim(m, "what is ahead of a command is due", ahead < due, when=tracking & ~reset)
        if self.fair:
            self.claim_promptness(m, tracking)
        self.cover(m, "as many commands as there is room for", due == MOST)
        self.cover(m, "a command with others ahead is answered",
                   tracking & answered & (ahead == 0) & (wanted != 0)
                   & past(m, answered & (ahead == 1), "one_ahead"))

    def claim_promptness(self, m, tracking):
        dut = self.dut
        for name, waits in (("engine", ~dut.core.engine.o_ready), ("taker", ~dut.rsp_ready)):
            count = Signal(range(PATIENCE + 2), name=f"{name}_waits")
            m.d.sync += count.eq(Mux(waits, count + 1, 0))
            self.assume(m, count <= PATIENCE)
        age = Signal(range(LATEST + 2))
        m.d.sync += age.eq(Mux(tracking, age + 1, 0))
        self.claim(m, "a command is answered in time", age <= LATEST)


class OneDone(Checker):
    """``NPU_done`` once per ``NPU_start`` that is looked at, with the command's own answer."""

    def __init__(self, bits: int):
        super().__init__()
        self.dut = NPU(SMALL)
        self.dut.core.engine = AnyEngine(self.dut.core.engine)
        self.bits = bits

    def build(self, m):
        dut = self.dut
        m.submodules.dut = DomainRenamer({"sync": "core"})(dut)
        reset, operand = any_of(m, 1, "reset"), any_of(m, 32, "operand")
        function = any_of(m, 10, "function_id")
        m.d.comb += [
            dut.clk.eq(self.clk), dut.rst_n.eq(~reset), dut.NPU_start.eq(any_of(m, 1, "start")),
            dut.rs1_i.eq(operand), Cat(dut.funct3_i, dut.funct7_i).eq(function),
            dut.rs2_i.eq(any_of(m, 32, "second_operand")),
        ]
        due = Signal()
        wanted = Signal(self.bits)
        taken = Signal()
        m.d.comb += taken.eq(dut.NPU_start & ~due & ~dut.NPU_done)
        with m.If(reset):
            m.d.sync += due.eq(0)
        with m.Elif(taken):
            m.d.sync += [due.eq(1), wanted.eq(Mux(function[:3] == Op.RESET, 0, operand[:self.bits]))]
        with m.Elif(dut.NPU_done):
            m.d.sync += due.eq(0)
        self.claim(m, "done only when a command is in progress", due, when=dut.NPU_done)
        self.claim(m, "done lasts one cycle", ~past(m, dut.NPU_done & ~reset, "done_before"),
                   when=dut.NPU_done)
        self.claim(m, "the answer is the command's", dut.NPU_out[:self.bits] == wanted,
                   when=dut.NPU_done)
        self.claim(m, "no exception but with done", dut.NPU_done, when=dut.NPU_exception)
        self.cover(m, "a command is done", dut.NPU_done & (wanted != 0))
        self.cover(m, "a second command is done",
                   dut.NPU_done & past(m, past(m, due, "due_1"), "due_2") & dut.NPU_exception)


_ANSWERS = (
    Fault("a command overtakes those that wait", "cfu",
          r"w_en\.eq\(accepted & \(waiting\.r_rdy \| ~core\.i\.ready\)\)",
          "w_en.eq(accepted & ~core.i.ready)", cheap=True),
    Fault("executes without room for the answer", "core", r"i_present\.eq\(full & room\)",
          "i_present.eq(full)"),
    Fault("a response changes while it waits", "core",
          r"with m\.If\(self\.o\.ready \| ~self\.o\.valid\)",
          "with m.If(self.o.ready | ~self.o.valid | execute)"),
)
PROPERTIES = [
    Property("cfu.answers", "One response per command, in order, none unasked; it stays until taken",
             "Cfu", "any engine", lambda: OneAnswer(4), "pdr", 24, covered=24, faults=_ANSWERS),
    Property("cfu.prompt",
             f"A command is answered within {LATEST} cycles if engine and CPU wait at most {PATIENCE}",
             "Cfu", "any fair engine", lambda: OneAnswer(1, fair=True), "pdr", 40, covered=24, faults=(
                 Fault("a response that had to wait is lost", "core",
                       r"self\.o\.valid\.eq\(second_full \| execute\)", "self.o.valid.eq(execute)"),
             )),
    Property("npu.done", "One NPU_done per command, with its own answer", "NPU", "any engine",
             lambda: OneDone(4), "pdr", 24, covered=24, faults=(
                 Fault("looks at a start while busy", "npu", r"NPU_start & ~busy & ", "NPU_start & ",
                       cheap=True),
             )),
]
