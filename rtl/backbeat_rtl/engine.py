"""Carries out commands: checks them, keeps track of what each buffer half holds, waits if need be."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import isa
from .bookkeeping import PanelBook, RunQueue
from .config import WORD, Config
from .datapath import Datapath
from .epilogue import Epilogue
from .isa import Error, Op, Port, Read, Write
from .readout import Readout

__all__ = ["Command", "Engine"]

#: One instruction.
Command = data.StructLayout({"function_id": 10, "input_0": 32, "input_1": 32})


class Engine(wiring.Component):
    """Carries out commands, keeps track of which half holds what, and records the first error.

    Model: :class:`backbeat_rtl.core_model.CoreModel`.

    Every wait here is for the hardware's own progress (a run that ends, a value that comes back),
    never for another command, so none is longer than the two longest runs. One command per cycle.

    Parameters
    ----------
    config : Config

    Members
    -------
    i_command : Command
    i_execute : bit
        Carry it out; only with ``o_ready``.
    o_ready : bit
        The command has to wait for nothing.
    o_result : 32 bit
        Its response, in the same cycle.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "i_command": In(Command), "i_execute": In(1), "o_ready": Out(1), "o_result": Out(32)})

    def elaborate(self, _platform):
        m = Module()
        c = self.config
        m.submodules.datapath = self.datapath = Datapath(c)
        m.submodules.epilogue = self.epilogue = Epilogue(table_size=c.table_size)
        m.submodules.readout = self.readout = Readout(
            rows=c.rows, columns=c.columns, row=self.datapath.accumulators.row, tiles=c.tiles)
        self.connect_result_path(m)

        self.funct7 = self.i_command.function_id[3:]
        self.fail, self.detail = Signal(Error), Signal(32)
        self.error, self.error_value = Signal(Error), Signal(32)
        self.go, blocked = Signal(), Signal()
        healthy = self.error == Error.NONE
        m.d.comb += [
            self.detail.eq(self.i_command.input_0),
            self.o_ready.eq(~(blocked & healthy)),
            self.go.eq(self.i_execute & healthy & (self.fail == Error.NONE)),
            self.o_result.eq(Mux(healthy, self.fail, self.error)),
        ]
        with m.If(self.i_execute & healthy & (self.fail != Error.NONE)):
            m.d.sync += [self.error.eq(self.fail), self.error_value.eq(self.detail)]

        self.keep_books(m)
        self.declare_registers(m)
        with m.Switch(self.i_command.function_id[:3]):
            for op, carry_out in {
                Op.GET: self.get, Op.SET: self.set, Op.LOAD: self.load, Op.PUSH: self.push,
                Op.RUN: self.run, Op.READOUT: self.read_out, Op.READ: self.read,
            }.items():
                with m.Case(op):
                    carry_out(m, blocked)
        return m

    def connect_result_path(self, m):
        """Accumulators to read-out to epilogue and back."""
        datapath, readout, epilogue = self.datapath, self.readout, self.epilogue
        m.d.comb += [
            datapath.i_read.eq(readout.o_read), datapath.i_read_valid.eq(readout.o_read_valid),
            readout.i_read_ready.eq(datapath.o_read_ready),
            readout.i_value.eq(datapath.o_value),
            readout.i_value_valid.eq(datapath.o_value_valid),
            epilogue.i_value.eq(readout.o_epilogue), epilogue.i_valid.eq(readout.o_epilogue_valid),
            readout.i_byte.eq(epilogue.o_value), readout.i_byte_valid.eq(epilogue.o_valid),
            readout.i_byte_end.eq(epilogue.o_end),
        ]

    def keep_books(self, m):
        """What each half holds, which run waits, and who uses which half."""
        datapath, readout = self.datapath, self.readout
        self.panels = [PanelBook(datapath.panel) for _ in (Port.A, Port.B)]
        for port, panels in enumerate(self.panels):
            m.submodules[f"panels_{'ab'[port]}"] = panels
            m.d.comb += [panels.i_start.eq(datapath.i_start[port]), panels.i_panel.eq(datapath.i_panel),
                         panels.i_loading.eq(datapath.o_loading[port])]
        self.words_pushed = Signal(32)
        m.d.comb += [
            datapath.i_word.eq(Cat(self.i_command.input_0, self.i_command.input_1)),
            datapath.i_port.eq(self.funct7[0]),
        ]

        m.submodules.runs = self.runs = runs = RunQueue(datapath.sequencer.run)
        wiring.connect(m, runs.o_run, datapath.i_run)
        m.d.comb += [runs.i_fed.eq(datapath.o_fed), runs.i_end.eq(datapath.o_end)]

        extent = data.StructLayout({"valid": 1, **{f: readout.start[f].shape for f in (
            "a_tiles", "b_tiles", "a_last", "b_last")}})
        self.products = [Signal(extent, name=f"product_{half}") for half in (0, 1)]
        self.read_half = Signal()
        m.d.comb += readout.i_ready.eq(~runs.o_users_c.bit_select(self.read_half, 1))

    def declare_registers(self, m):
        """The epilogue's settings and the counters."""
        epilogue, command = self.epilogue, self.i_command
        self.seed, self.pitch, self.stochastic = Signal(32), Signal(32), Signal()
        self.clip = Signal(isa.layout("CLIP"), init={"low": 0x80, "high": 0x7F})
        self.table_column, self.table_shift = Signal(range(self.config.table_size)), Signal(6)
        m.d.comb += [
            epilogue.i_seed.eq(self.seed), epilogue.i_stochastic.eq(self.stochastic),
            epilogue.i_zero_point.eq(self.clip.zero_point), epilogue.i_low.eq(self.clip.low),
            epilogue.i_high.eq(self.clip.high), self.readout.i_pitch.eq(self.pitch),
            epilogue.i_table.column.eq(self.table_column),
            epilogue.i_table.entry.bias.eq(command.input_0),
            epilogue.i_table.entry.multiplier.eq(command.input_1),
            epilogue.i_table.entry.shift.eq(self.table_shift),
        ]
        self.cycles, self.busy, self.fed = Signal(32), Signal(32), Signal(32)
        m.d.sync += [
            self.cycles.eq(self.cycles + 1),
            self.busy.eq(self.busy + self.datapath.o_busy),
            self.fed.eq(self.fed + self.datapath.o_feeding),
        ]

    def illegal(self, m):
        m.d.comb += [self.fail.eq(Error.ILLEGAL), self.detail.eq(self.i_command.function_id)]

    def get(self, m, _blocked):
        """Registers can be read in the error state too."""
        c, datapath = self.config, self.datapath
        values = {
            Read.ID: isa.encode("ID", version=isa.VERSION, rows=c.rows, columns=c.columns,
                                identity=isa.IDENTITY),
            Read.SIZE: isa.encode("SIZE", depth=c.depth, tiles=c.tiles),
            Read.STATUS: Cat(datapath.o_loading.any(),
                             self.runs.o_users_c.any(),
                             self.readout.o_active),
            Read.ERROR: self.error,
            Read.ERROR_VALUE: self.error_value,
            Read.MAX_ABS: self.epilogue.o_max_abs,
            Read.CYCLES: self.cycles,
            Read.BUSY: self.busy,
            Read.FED: self.fed,
        }
        with m.Switch(self.funct7):
            for register, value in values.items():
                with m.Case(register):
                    m.d.comb += self.o_result.eq(value)
            with m.Default():
                self.illegal(m)

    def set(self, m, _blocked):
        value = self.i_command.input_0
        with m.Switch(self.funct7):
            for register, target in ((Write.SEED, self.seed), (Write.PITCH, self.pitch),
                                     (Write.CLIP, self.clip)):
                with m.Case(register), m.If(self.go):
                    m.d.sync += target.eq(value)
            for register, target, limit in ((Write.SHIFT, self.table_shift, 63),
                                            (Write.TABLE, self.table_column,
                                             self.config.table_size)):
                with m.Case(register):
                    with m.If(value >= limit):
                        m.d.comb += self.fail.eq(Error.SIZE)
                    with m.If(self.go):
                        m.d.sync += target.eq(value)
            with m.Case(Write.MAX_ABS):
                m.d.comb += self.epilogue.i_clear.eq(self.go)
            with m.Default():
                self.illegal(m)

    def load(self, m, blocked):
        c = self.config
        size = data.View(isa.layout("LOAD.0"), self.i_command.input_0)
        mode = data.View(isa.layout("LOAD.1"), self.i_command.input_1)
        # How many words a tile may have if there are so many: a table instead of a multiplier.
        most_words = Array([0] + [c.depth // WORD // tiles for tiles in range(1, c.tiles + 1)])
        tile_words = (size.depth + WORD - 1) >> 3
        with m.If(self.funct7 > Port.B):
            self.illegal(m)
        with m.Elif((size.depth == 0) | (size.tiles == 0) | (size.last == 0)
                    | (size.tiles > c.tiles)
                    | (size.last > Mux(self.funct7[0], c.columns, c.rows))
                    | (tile_words > most_words[size.tiles[:c.tiles.bit_length()]])):
            m.d.comb += self.fail.eq(Error.SIZE)
        with m.Else():
            m.d.comb += blocked.eq(Mux(self.funct7[0], self.runs.o_users_b, self.runs.o_users_a)
                                   .bit_select(mode.half, 1))
        panel = self.datapath.i_panel
        m.d.comb += [
            panel.depth.eq(size.depth), panel.tiles.eq(size.tiles), panel.last.eq(size.last),
            panel.half.eq(mode.half), panel.across.eq(mode.across),
            self.datapath.i_start.eq(Cat(self.go & ~self.funct7[0], self.go & self.funct7[0])),
        ]
        with m.If(self.go):
            m.d.sync += self.words_pushed.eq(0)

    def push(self, m, _blocked):
        datapath, port = self.datapath, self.funct7
        word = Cat(self.i_command.input_0, self.i_command.input_1)
        with m.If(port == Port.TABLE):
            m.d.comb += self.epilogue.i_table_valid.eq(self.go)
            with m.If(self.go):
                m.d.sync += self.table_column.eq(self.table_column + 1)
        with m.Elif(port > Port.TABLE):
            self.illegal(m)
        with m.Elif(~datapath.o_loading.bit_select(port[0], 1)):
            m.d.comb += [self.fail.eq(Error.NO_LOAD), self.detail.eq(self.i_command.function_id)]
        with m.Elif((port == Port.A) & Cat(word.word_select(n, 8) == 0x80 for n in range(WORD)).any()):
            m.d.comb += [self.fail.eq(Error.OPERAND), self.detail.eq(self.words_pushed)]
        with m.Else():
            m.d.comb += datapath.i_word_valid.eq(self.go)
            with m.If(self.go):
                m.d.sync += self.words_pushed.eq(self.words_pushed + 1)

    def run(self, m, blocked):
        c, runs = self.config, self.runs
        command = data.View(isa.layout("RUN.0"), self.i_command.input_0)
        a, b = (panels.o_held for panels in self.panels)
        product = Array(self.products)[command.c_half]
        extent = Cat(1, a.tiles, b.tiles, *(
            last[:len(product[name])] for name, last in (("a_last", a.last), ("b_last", b.last))))
        most_tiles = Array([0] + [c.tiles // tiles for tiles in range(1, c.tiles + 1)])
        m.d.comb += [panels.i_half.eq(half) for panels, half in zip(
            self.panels, (command.a_half, command.b_half), strict=True)]
        with m.If(self.funct7 != 0):
            self.illegal(m)
        with m.Elif(~self.panels[Port.A].o_complete | ~self.panels[Port.B].o_complete):
            m.d.comb += self.fail.eq(Error.NOT_LOADED)
        with m.Elif((a.depth != b.depth)
                    | (command.accumulate & (Cat(product.valid, *(
                        product[f] for f in ("a_tiles", "b_tiles", "a_last", "b_last"))) != extent))):
            m.d.comb += self.fail.eq(Error.DEPTH)
        with m.Elif(b.tiles > most_tiles[a.tiles]):
            m.d.comb += self.fail.eq(Error.SIZE)
        with m.Elif(self.readout.o_active & (self.read_half == command.c_half)):
            m.d.comb += self.fail.eq(Error.BUSY)
        with m.Else():
            m.d.comb += blocked.eq(~runs.o_ready)
        m.d.comb += [
            runs.i_accept.eq(self.go),
            runs.i_run.depth.eq(a.depth), runs.i_run.a_tiles.eq(a.tiles),
            runs.i_run.b_tiles.eq(b.tiles), runs.i_run.a_half.eq(command.a_half),
            runs.i_run.b_half.eq(command.b_half), runs.i_run.c_half.eq(command.c_half),
            runs.i_run.accumulate.eq(command.accumulate),
        ]
        with m.If(self.go):
            for half in (0, 1):
                with m.If(command.c_half == half):
                    m.d.sync += self.products[half].eq(extent)

    def read_out(self, m, _blocked):
        command = data.View(isa.layout("READOUT.0"), self.i_command.input_0)
        product, start = Array(self.products)[command.half], self.readout.i_start
        with m.If(self.funct7 != 0):
            self.illegal(m)
        with m.Elif(~product.valid):
            m.d.comb += self.fail.eq(Error.NO_RESULT)
        with m.Elif(self.readout.o_active):
            m.d.comb += self.fail.eq(Error.BUSY)
        m.d.comb += [
            *(start[f].eq(product[f]) for f in ("a_tiles", "b_tiles", "a_last", "b_last")),
            start.half.eq(command.half), start.requantise.eq(command.requantise),
            start.index.eq(self.i_command.input_1),
            self.readout.i_start_valid.eq(self.go),
        ]
        with m.If(self.go):
            m.d.sync += [self.read_half.eq(command.half), self.stochastic.eq(command.stochastic)]

    def read(self, m, blocked):
        words = self.readout.o_words
        with m.If(self.funct7 != 0):
            self.illegal(m)
        with m.Elif(~self.readout.o_active):
            m.d.comb += [self.fail.eq(Error.NO_RESULT), self.detail.eq(self.i_command.function_id)]
        with m.Else():
            m.d.comb += [blocked.eq(~words.valid), words.ready.eq(self.go)]
            with m.If(self.go):
                m.d.comb += self.o_result.eq(words.payload)
