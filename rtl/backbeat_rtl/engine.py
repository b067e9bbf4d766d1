"""Carries out commands: checks them, keeps track of what each buffer half holds, waits if need be."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import isa
from .bookkeeping import PanelBook, RunQueue
from .config import WORD, Config
from .datapath import Datapath
from .isa import Error, Op, Port, Read, Write
from .joiner import Beat
from .memory_engine import MemoryEngine
from .memory_port import PORT
from .readout import Readout

__all__ = ["Command", "Engine", "Order"]

#: One instruction.
Command = data.StructLayout({"function_id": 10, "input_0": 32, "input_1": 32})

#: What a door sees of a command already. ``at_once``: PUSH, READ or RESET, which are judged and
#: carried out in one cycle; ``legal``: to a port that there is; ``operand``: a PUSH to A or B,
#: ``minimum``: to A, with a -128 among its bytes; ``word``: of an operand, without; ``result``: a READ
#: of a result.
Kind = data.StructLayout({
    "at_once": 1, "reset": 1, "legal": 1, "operand": 1, "minimum": 1, "word": 1, "result": 1})
Order = data.StructLayout({"command": Command, "kind": Kind})


class Engine(wiring.Component):
    """Carries out commands, keeps track of which half holds what, and records the first error.

    Model: :class:`backbeat_rtl.core_model.CoreModel`.

    Every wait here is for the hardware's own progress (a run that ends, a value that comes back),
    never for another command, so none is longer than the two longest runs.

    What a command refers to is looked up in one cycle, what is wrong with it found in the next, and it
    is carried out in a third. Operand words and results are judged and carried out at once, one per
    cycle.

    Parameters
    ----------
    config : Config

    Members
    -------
    i_order : Order
        Stays until it is executed.
    i_present : bit
        There is one, and room for its response.
    i_execute : bit
        Carry it out: present, and ``o_ready``.
    i_stays : bit
        It will be there in the next cycle too, with or without room.
    o_ready : bit
        The command has to wait for nothing.
    o_result : 32 bit
        Its response, in the same cycle.
    port : PORT
        If ``config.memory``.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "i_order": In(Order), "i_present": In(1), "i_execute": In(1), "i_stays": In(1),
            "o_ready": Out(1), "o_result": Out(32),
            **({"port": Out(PORT)} if config.memory else {})})

    def order(self, command):
        """A command with its kind, as a value."""
        op, port = command.function_id[:3], command.function_id[3:]
        push, read = op == Op.PUSH, op == Op.READ
        bytes_ = Cat(command.input_0, command.input_1)
        ports = max(Port) if self.config.memory else Port.TABLE
        minimum = ((port == Port.A)
                   & Cat(bytes_.word_select(n, 8) == 0x80 for n in range(WORD)).any())
        kind = {"at_once": push | read | (op == Op.RESET), "reset": op == Op.RESET,
                "legal": Mux(push, port <= ports, port == 0), "operand": push & (port <= Port.B),
                "minimum": push & minimum, "word": push & (port <= Port.B) & ~minimum,
                "result": read & (port == 0)}
        return Cat(command, *(kind[field] for field, _ in Kind))

    def elaborate(self, _platform):
        m = Module()
        c = self.config
        self.i_command, self.i_kind = self.i_order.command, self.i_order.kind
        m.submodules.datapath = self.datapath = Datapath(c)
        m.submodules.readout = self.readout = Readout(c)
        self.funct7 = self.i_command.function_id[3:]
        self.fail, fail_at_once, detail = Signal(Error), Signal(Error), Signal(32)
        self.error, self.error_value = Signal(Error), Signal(32)
        self.go, blocked = Signal(), Signal()
        # As many as a panel has across lanes, which is most: those beyond are refused.
        self.words_pushed = Signal(range(c.depth * -(-max(c.rows, c.columns) // WORD) + 1))
        # What is wrong, and whether it has to wait, is a cycle old, but for the commands that are
        # carried out at once; what it refers to, two. It is still true: only commands break a rule or
        # keep one waiting, and the one before has been carried out earlier still.
        kind, op = self.i_kind, self.i_command.function_id[:3]
        looked_up, found, wrong, verdict = Signal(), Signal(Error), Signal(), Signal(Error)
        free, good, failing, no_word, no_load = Signal(), Signal(), Signal(), Signal(), Signal()
        healthy = self.healthy = Signal(init=1)
        is_wrong = self.fail != Error.NONE
        m.d.sync += [
            looked_up.eq(self.i_stays), found.eq(self.fail), wrong.eq(is_wrong),
            free.eq(self.i_stays & looked_up & ~(blocked & healthy & ~is_wrong)),
            good.eq(self.i_stays & looked_up & ~(blocked | is_wrong)),
        ]
        self.reading, self.moving, self.doorbell = Signal(), Signal(), Signal()
        self.allowed = Signal()         # a PUSH is neither refused nor too late
        wrong_at_once = ~kind.reset & (self.moving | ~kind.legal | kind.minimum
                                       | kind.result & ~self.reading | kind.operand & no_load)
        m.d.comb += [
            verdict.eq(Mux(kind.at_once, fail_at_once, found)),
            no_load.eq(~self.datapath.o_loading.bit_select(self.funct7[0], 1)),
            # What the command refers to; of those that carry an operand, itself.
            detail.eq(Mux((verdict == Error.ILLEGAL) | kind.at_once & (verdict != Error.BUSY),
                          Mux(verdict == Error.OPERAND, self.words_pushed, self.i_command.function_id),
                          self.i_command.input_0)),
            # A word that will not come is an error, and nothing to wait for.
            no_word.eq(kind.result & ~self.readout.o.valid & self.reading & healthy),
            self.o_ready.eq(Mux(kind.at_once, ~no_word, free)),
            # Said again for each kind, as what is carried out must not wait for the error's choice.
            self.go.eq(self.i_present & good & healthy),
            self.allowed.eq(self.i_present & healthy & ~self.moving),
            failing.eq(self.i_execute & healthy & Mux(kind.at_once, wrong_at_once, wrong)),
            self.o_result.eq(Mux(healthy, verdict, self.error)),
        ]
        # The value a cycle after the error: nobody asks for it so soon.
        self.value_due, value = Signal(), Signal(32, reset_less=True)
        m.d.sync += [self.value_due.eq(failing), value.eq(detail)]
        with m.If(failing):
            m.d.sync += [self.error.eq(verdict), healthy.eq(0)]
        with m.If(self.value_due):
            m.d.sync += self.error_value.eq(value)

        self.connect_result_path(m)
        self.keep_books(m)
        self.declare_registers(m)
        if c.memory:
            m.submodules.memory = self.memory = MemoryEngine(
                c, panel=self.datapath.panel, run=self.datapath.sequencer.run,
                start=self.readout.start, table=self.readout.i_table.shape(), beat=Beat)
        with m.Switch(op):
            for code, carry_out in {
                Op.GET: self.get, Op.SET: self.set, Op.LOAD: self.load, Op.PUSH: self.push,
                Op.RUN: self.run, Op.READOUT: self.read_out, Op.READ: self.read,
            }.items():
                with m.Case(code):
                    carry_out(m, blocked)
        # The last one counts.
        for broken, error in ((kind.minimum, Error.OPERAND), (kind.operand & no_load, Error.NO_LOAD),
                              (kind.result & ~self.reading, Error.NO_RESULT),
                              (~kind.legal, Error.ILLEGAL), (self.moving, Error.BUSY),
                              (kind.reset, Error.NONE)):
            with m.If(broken):
                m.d.comb += fail_at_once.eq(error)
        with m.If(self.moving & (op != Op.GET)):
            m.d.comb += self.fail.eq(Error.BUSY)
        with m.If(kind.reset):
            m.d.comb += self.o_result.eq(0)
        if c.memory:
            self.connect_memory(m)
        return m

    def connect_memory(self, m):
        """The memory engine has its counters all the time, and the data path while it is active."""
        memory, datapath, readout = self.memory, self.datapath, self.readout
        wiring.connect(m, memory.port, wiring.flipped(self.port))
        m.d.comb += [
            memory.i_cycles.eq(self.cycles),
            memory.i_doorbell.address.eq(self.i_command.input_0),
            memory.i_push.bytes.eq(Cat(self.i_command.input_0, self.i_command.input_1)),
            memory.i_end.eq(datapath.o_end),
            memory.i_tile_end.eq(datapath.o_tile_end & self.moving),
            memory.i_end.valid.eq(datapath.o_end.valid & self.moving),
            memory.i_running.eq(datapath.o_busy),
            memory.i_read_ready.eq(readout.o_ready), memory.i_row.eq(readout.o_row),
            memory.i_sent.eq(readout.o_sent & self.moving), memory.i_empty.eq(readout.o_empty),
            memory.i_max_abs.eq(readout.o_max_abs), memory.i_beat.payload.eq(readout.o.payload),
        ]
        m.d.sync += [
            # From the doorbell on; a cycle longer than the chain.
            self.moving.eq(memory.o_active | self.doorbell),
            memory.i_fed.eq(datapath.o_fed), memory.i_fed.valid.eq(datapath.o_fed.valid & self.moving),
        ]
        with m.If(self.moving):
            m.d.comb += [
                datapath.i_word.eq(memory.o_word), datapath.i_word_valid.eq(memory.o_word_valid),
                datapath.i_port.eq(memory.o_port), datapath.i_start.eq(memory.o_start),
                datapath.i_panel.eq(memory.o_panel), datapath.i_run.valid.eq(memory.o_run.valid),
                datapath.i_run.payload.eq(memory.o_run.payload),
                memory.o_run.ready.eq(datapath.i_run.ready),
                readout.i_start.eq(memory.o_read_start),
                readout.i_start_valid.eq(memory.o_read_start_valid),
                readout.i_sums_complete.eq(memory.o_sums_complete),
                readout.i_tiles_complete.eq(memory.o_tiles_complete), readout.i_pitch.eq(memory.o_pitch),
                readout.i_settings.eq(memory.o_settings), readout.i_clear.eq(memory.o_clear),
                readout.i_table.eq(memory.o_table), readout.i_table_valid.eq(memory.o_table_valid),
                memory.i_beat.valid.eq(readout.o.valid), readout.o.ready.eq(memory.i_beat.ready),
            ]
        with m.If(self.doorbell):
            m.d.sync += [product.valid.eq(0) for product in self.products]
        failed = Signal()
        m.d.sync += failed.eq(memory.o_failed)
        with m.If(memory.o_failed & ~failed & self.healthy):
            m.d.sync += [self.error.eq(memory.o_failure.error), self.healthy.eq(0),
                         self.error_value.eq(memory.o_failure.value), self.value_due.eq(0)]
        for register, event in (
                (Read.COMPLETED, memory.o_completed), (Read.READ_BEATS, self.port.was_read),
                (Read.WRITE_BEATS, self.port.was_written), (Read.LOAD_BUSY, memory.o_load_busy),
                (Read.LOAD_WAIT, memory.o_load_wait), (Read.RUN_WAIT, memory.o_run_wait),
                (Read.STORE_BUSY, memory.o_store_busy), (Read.STORE_WAIT, memory.o_store_wait)):
            late = Signal(name=f"{register.name.lower()}_late")
            m.d.sync += [late.eq(event), self.events[register].eq(self.events[register] + late)]

    def connect_result_path(self, m):
        """Accumulators to read-out, and its beats to result words."""
        datapath, readout = self.datapath, self.readout
        m.d.comb += [
            datapath.i_read.eq(readout.o_read), readout.i_read_ready.eq(datapath.o_read_ready),
            readout.i_stored.eq(datapath.o_stored),
        ]
        # A beat is one word or two.
        self.take_word, self.word = Signal(), Signal(32)
        beat, upper = readout.o.payload, Signal()
        single = upper | (beat.count <= 4)
        m.d.comb += [
            self.word.eq(Mux(upper, beat.bytes[32:], beat.bytes[:32])),
            readout.o.ready.eq(self.take_word & single),
        ]
        with m.If(self.take_word):
            m.d.sync += upper.eq(~single)
            with m.If(single & beat.final):
                m.d.sync += self.reading.eq(0)

    def keep_books(self, m):
        """What each half holds, which run waits, and who uses which half."""
        datapath, readout = self.datapath, self.readout
        self.panels = [PanelBook(datapath.panel) for _ in (Port.A, Port.B)]
        for port, panels in enumerate(self.panels):
            m.submodules[f"panels_{'ab'[port]}"] = panels
            m.d.comb += [panels.i_start.eq(datapath.i_start[port] & ~self.moving),
                         panels.i_panel.eq(datapath.i_panel), panels.i_forget.eq(self.doorbell),
                         panels.i_loading.eq(datapath.o_loading[port])]
        m.d.comb += [
            datapath.i_word.eq(Cat(self.i_command.input_0, self.i_command.input_1)),
            datapath.i_port.eq(self.funct7[0]),
        ]

        m.submodules.runs = self.runs = runs = RunQueue(datapath.sequencer.run)
        wiring.connect(m, runs.o_run, datapath.i_run)
        m.d.comb += [
            runs.i_fed.valid.eq(datapath.o_fed.valid & ~self.moving),
            runs.i_end.eq(datapath.o_end), runs.i_end.valid.eq(datapath.o_end.valid & ~self.moving),
            runs.i_fed.a_half.eq(datapath.o_fed.a_bank[-1]),
            runs.i_fed.b_half.eq(datapath.o_fed.b_bank[-1]),
        ]

        extent = data.StructLayout({"valid": 1, **{f: readout.start[f].shape for f in (
            "a_tiles", "b_tiles", "a_last", "b_last")}})
        self.products = [Signal(extent, name=f"product_{half}") for half in (0, 1)]
        self.read_half = Signal()
        self.read_start, self.read_start_valid = Signal.like(readout.i_start), Signal()
        m.d.sync += self.read_start_valid.eq(0)
        m.d.comb += [readout.i_start.eq(self.read_start),
                     readout.i_start_valid.eq(self.read_start_valid)]
        m.d.comb += readout.i_sums_complete.eq(~runs.o_users_c.bit_select(self.read_half, 1))

    def declare_registers(self, m):
        """The epilogue's settings and the counters."""
        readout, command = self.readout, self.i_command
        settings, table = readout.i_settings, readout.i_table
        self.seed, self.pitch, self.stochastic = Signal(32), Signal(32), Signal()
        self.clip = Signal(isa.layout("CLIP"), init={"low": 0x80, "high": 0x7F})
        self.table_tile, self.table_lane = Signal.like(table.tile), Signal.like(table.lane)
        self.table_shift = Signal(6)
        m.d.comb += [
            settings.seed.eq(self.seed), settings.stochastic.eq(self.stochastic),
            *(settings[f].eq(self.clip[f]) for f in ("zero_point", "low", "high")),
            readout.i_pitch.eq(self.pitch),
            table.tile.eq(self.table_tile), table.lane.eq(self.table_lane),
            table.values.bias.eq(command.input_0), table.values.multiplier.eq(command.input_1),
            table.values.shift.eq(self.table_shift),
        ]
        self.cycles, self.busy, self.fed = Signal(32), Signal(32), Signal(32)
        self.patience = Signal(17)      # of a FENCE
        self.events = {register: Signal(32, name=register.name.lower()) for register in (
            Read.COMPLETED, Read.READ_BEATS, Read.WRITE_BEATS, Read.LOAD_BUSY, Read.LOAD_WAIT,
            Read.RUN_WAIT, Read.STORE_BUSY, Read.STORE_WAIT)} if self.config.memory else {}
        m.d.sync += [
            self.cycles.eq(self.cycles + 1),
            self.busy.eq(self.busy + self.datapath.o_busy),
            self.fed.eq(self.fed + self.datapath.o_feeding),
        ]

    def illegal(self, m):
        m.d.comb += self.fail.eq(Error.ILLEGAL)

    def get(self, m, blocked):
        """Registers can be read in the error state too."""
        c, datapath = self.config, self.datapath
        values = {
            Read.ID: isa.encode("ID", version=isa.VERSION, rows=c.rows, columns=c.columns,
                                identity=isa.IDENTITY),
            Read.SIZE: isa.encode("SIZE", depth=c.depth, tiles=c.tiles, banks=c.banks,
                                   memory=c.memory),
            Read.STATUS: Cat(datapath.o_loading.any(),
                             self.runs.o_users_c.any(),
                             self.reading, self.moving),
            Read.ERROR: self.error,
            Read.ERROR_VALUE: self.error_value,
            Read.MAX_ABS: self.readout.o_max_abs,
            Read.CYCLES: self.cycles,
            Read.BUSY: self.busy,
            Read.FED: self.fed,
            **self.events,
        }
        # As with its verdict, what a register holds is found a cycle before it is answered.
        value, known = Signal(32, reset_less=True), Signal()
        if c.memory:
            values[Read.FENCE] = ~self.moving
            values[Read.FAILED] = self.memory.o_failure.descriptor
            fence = self.funct7 == Read.FENCE
            m.d.comb += blocked.eq(fence & self.moving & ~self.patience[-1])
            m.d.sync += self.patience.eq(Mux(fence & ~self.i_execute, self.patience + 1, 0))
        m.d.sync += known.eq(1)
        with m.Switch(self.funct7):
            for register, what in values.items():
                with m.Case(register):
                    m.d.sync += value.eq(what)
            with m.Default():
                m.d.sync += known.eq(0)
                self.illegal(m)
        with m.If(known):
            m.d.comb += self.o_result.eq(value)

    def set(self, m, blocked):
        value = self.i_command.input_0
        with m.Switch(self.funct7):
            for register, target in ((Write.SEED, self.seed), (Write.PITCH, self.pitch),
                                     (Write.CLIP, self.clip)):
                with m.Case(register), m.If(self.go):
                    m.d.sync += target.eq(value)
            with m.Case(Write.SHIFT):
                with m.If(value >= 63):
                    m.d.comb += self.fail.eq(Error.SIZE)
                with m.If(self.go):
                    m.d.sync += self.table_shift.eq(value)
            with m.Case(Write.TABLE):
                place = data.View(isa.layout("TABLE"), value)
                with m.If((value[16:] != 0) | (place.tile >= self.config.tiles)
                          | (place.lane >= self.config.columns)):
                    m.d.comb += self.fail.eq(Error.SIZE)
                with m.If(self.go):
                    m.d.sync += [self.table_tile.eq(place.tile), self.table_lane.eq(place.lane)]
            with m.Case(Write.MAX_ABS):
                m.d.comb += self.readout.i_clear.eq(self.go)
            if self.config.memory:
                for register, strobe in ((Write.DOORBELL, self.memory.i_doorbell.valid),
                                         (Write.START, self.memory.i_start)):
                    with m.Case(register):
                        with m.If(self.reading):
                            m.d.comb += self.fail.eq(Error.BUSY)
                        # Runs come to their end, half a panel is forgotten.
                        m.d.comb += blocked.eq(self.runs.o_users_c.any())
                        m.d.comb += [strobe.eq(self.go), self.doorbell.eq(self.go)]
            with m.Default():
                self.illegal(m)

    def load(self, m, blocked):
        c = self.config
        size = data.View(isa.layout("LOAD.0"), self.i_command.input_0)
        mode = data.View(isa.layout("LOAD.1"), self.i_command.input_1)
        # How many words a tile may have if there are so many: a table instead of a multiplier.
        most_words = Array([0] + [c.longest(tiles) // WORD for tiles in range(1, c.tiles + 1)])
        tile_words, most = Signal(range(2**len(size.depth) // WORD + 1)), Signal(range(c.depth))
        m.d.sync += [tile_words.eq((size.depth + WORD - 1) >> 3),
                     most.eq(most_words[size.tiles[:c.tiles.bit_length()]])]
        with m.If(self.funct7 > Port.B):
            self.illegal(m)
        with m.Elif((size.depth == 0) | (size.tiles == 0) | (size.last == 0)
                    | (size.tiles > c.tiles)
                    | (size.last > Mux(self.funct7[0], c.columns, c.rows))
                    | (tile_words > most)):
            m.d.comb += self.fail.eq(Error.SIZE)
        m.d.comb += blocked.eq(Mux(self.funct7[0], self.runs.o_users_b, self.runs.o_users_a)
                               .bit_select(mode.half, 1))
        panel = self.datapath.i_panel
        m.d.comb += [
            panel.depth.eq(size.depth), panel.tiles.eq(size.tiles), panel.last.eq(size.last),
            panel.start.eq(mode.half << (len(panel.start) - 1)), panel.across.eq(mode.across),
            self.datapath.i_start.eq(Cat(self.go & ~self.funct7[0], self.go & self.funct7[0])),
        ]
        with m.If(self.go):
            m.d.sync += self.words_pushed.eq(0)

    def push(self, m, _blocked):
        datapath, kind, port = self.datapath, self.i_kind, self.funct7
        with m.If(self.allowed & (port == Port.TABLE)):
            m.d.comb += self.readout.i_table_valid.eq(1)
            m.d.sync += self.table_lane.eq(self.table_lane + 1)
            with m.If(self.table_lane == self.config.columns - 1):
                m.d.sync += [self.table_lane.eq(0), self.table_tile.eq(self.table_tile + 1)]
        if self.config.memory:
            m.d.comb += self.memory.i_push.valid.eq(self.allowed & (port == Port.DESCRIPTOR))
        with m.If(self.allowed & kind.word & datapath.o_loading.bit_select(port[0], 1)):
            m.d.comb += datapath.i_word_valid.eq(1)
            m.d.sync += self.words_pushed.eq(self.words_pushed + 1)

    def run(self, m, blocked):
        c, runs = self.config, self.runs
        command = data.View(isa.layout("RUN.0"), self.i_command.input_0)
        a, b = (Signal.like(panels.o_held, name=f"{port}_held") for panels, port in zip(
            self.panels, "ab", strict=True))
        product, loaded = Signal.like(self.products[0]), Signal()
        m.d.sync += [a.eq(self.panels[Port.A].o_held), b.eq(self.panels[Port.B].o_held),
                     loaded.eq(self.panels[Port.A].o_complete & self.panels[Port.B].o_complete),
                     product.eq(Array(self.products)[command.c_half])]
        extent = Cat(1, a.tiles, b.tiles, *(
            last[:len(product[name])] for name, last in (("a_last", a.last), ("b_last", b.last))))
        most_tiles = Array([0] + [c.tiles // tiles for tiles in range(1, c.tiles + 1)])
        m.d.comb += [panels.i_half.eq(half) for panels, half in zip(
            self.panels, (command.a_half, command.b_half), strict=True)]
        with m.If(self.funct7 != 0):
            self.illegal(m)
        with m.Elif(~loaded):
            m.d.comb += self.fail.eq(Error.NOT_LOADED)
        with m.Elif((a.depth != b.depth)
                    | (command.accumulate & (Cat(product.valid, *(
                        product[f] for f in ("a_tiles", "b_tiles", "a_last", "b_last"))) != extent))):
            m.d.comb += self.fail.eq(Error.DEPTH)
        with m.Elif(b.tiles > most_tiles[a.tiles]):
            m.d.comb += self.fail.eq(Error.SIZE)
        with m.Elif(self.reading & (self.read_half == command.c_half)):
            m.d.comb += self.fail.eq(Error.BUSY)
        m.d.comb += blocked.eq(~runs.o_ready)
        m.d.comb += [
            runs.i_accept.eq(self.go),
            runs.i_run.depth.eq(a.depth), runs.i_run.a_tiles.eq(a.tiles),
            runs.i_run.b_tiles.eq(b.tiles), runs.i_run.c_half.eq(command.c_half),
            *(runs.i_run[f"{p}_start"].eq(
                command[f"{p}_half"] << (len(runs.i_run[f"{p}_start"]) - 1)) for p in "ab"),
            runs.i_run.accumulate.eq(command.accumulate),
        ]
        with m.If(self.go):
            for half in (0, 1):
                with m.If(command.c_half == half):
                    m.d.sync += self.products[half].eq(extent)

    def read_out(self, m, _blocked):
        command = data.View(isa.layout("READOUT.0"), self.i_command.input_0)
        product, start = Array(self.products)[command.half], self.read_start
        with m.If(self.funct7 != 0):
            self.illegal(m)
        with m.Elif(~product.valid):
            m.d.comb += self.fail.eq(Error.NO_RESULT)
        with m.Elif(self.reading):
            m.d.comb += self.fail.eq(Error.BUSY)
        m.d.sync += [
            *(start[f].eq(product[f]) for f in ("a_tiles", "b_tiles", "a_last", "b_last")),
            start.c_half.eq(command.half), start.requantise.eq(command.requantise),
            start.index.eq(self.i_command.input_1), self.read_start_valid.eq(self.go),
        ]
        with m.If(self.go):
            m.d.sync += [self.read_half.eq(command.half), self.stochastic.eq(command.stochastic),
                         self.reading.eq(1)]

    def read(self, m, _blocked):
        # A chain is not begun while results are being read.
        m.d.comb += self.take_word.eq(self.i_present & self.i_kind.result & self.healthy & self.reading
                                      & self.readout.o.valid)
        with m.If(self.take_word):
            m.d.comb += self.o_result.eq(self.word)
