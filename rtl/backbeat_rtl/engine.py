"""Carries out commands: checks them, keeps track of what each buffer half holds, waits if need be."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from . import isa
from .bookkeeping import PanelBook, RunQueue
from .command import Order
from .config import WORD, Config
from .datapath import Datapath
from .isa import Error, Op, Port, Read, Write
from .joiner import Beat
from .memory_engine import MemoryEngine
from .memory_port import PORT
from .pipeline import exceeds, holds, lookup
from .readout import Readout

__all__ = ["Engine"]

#: What can be wrong with a command that is not carried out at once; the last one counts.
_ERRORS = {"reading": Error.BUSY, "size": Error.SIZE, "steps": Error.SIZE, "depth": Error.DEPTH,
           "no_result": Error.NO_RESULT, "not_loaded": Error.NOT_LOADED, "illegal": Error.ILLEGAL,
           "moving": Error.BUSY}
_Wrong = data.StructLayout(dict.fromkeys(_ERRORS, 1))


class Engine(wiring.Component):
    """Carries out commands, keeps track of which half holds what, and records the first error.

    Model: :class:`backbeat_rtl.core_model.CoreModel`.

    Every wait here is for the hardware's own progress (a run that ends, a value that comes back),
    never for another command, so none is longer than the two longest runs.

    What a command is, and refers to, is looked up in one cycle, what is wrong with it found in the
    next, and it is carried out in a third. Operand words and results are judged and carried out at
    once, one per cycle.

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
    i_full : bit
        There is one, with or without room.
    i_room : bit
        Unless one is carried out in this cycle there is room for a response in the next.
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
            "i_order": In(Order), "i_present": In(1), "i_execute": In(1), "i_full": In(1),
            "i_room": In(1), "o_ready": Out(1), "o_result": Out(32),
            **({"port": Out(PORT)} if config.memory else {})})

    def elaborate(self, _platform):
        m = Module()
        c = self.config
        self.i_command, self.i_kind = self.i_order.command, self.i_order.kind
        m.submodules.datapath = self.datapath = Datapath(c)
        m.submodules.readout = self.readout = Readout(c)
        self.op, self.funct7 = self.i_command.function_id[:3], self.i_command.function_id[3:]
        # A number of tiles, at most, is a power of two, so no check of one waits for a subtraction.
        self.tile_bits = c.tiles.bit_length() - 1
        self.error, self.error_value = Signal(Error), Signal(32)
        self.healthy = Signal(init=1)
        self.reading, self.moving, self.doorbell = Signal(), Signal(), Signal()
        self.go, self.due = Signal(), Signal()      # carry it out; answer it at least
        # Of one that is not carried out at once: what it breaks as it is looked up, what is seen of that
        # and found in the cycle after, and whether it has to wait.
        self.breaks, self.found, self.blocked = Signal(_Wrong), Signal(_Wrong), Signal()
        # As many as a panel has across lanes, which is most: those beyond are refused.
        self.words_pushed = Signal(range(c.depth * -(-max(c.rows, c.columns) // WORD) + 1))

        self.connect_result_path(m)
        self.keep_books(m)
        self.declare_registers(m)
        if c.memory:
            m.submodules.memory = self.memory = MemoryEngine(
                c, panel=self.datapath.panel, run=self.datapath.sequencer.run,
                start=self.readout.start, table=self.readout.i_table.shape(), beat=Beat)
        self.judge(m)
        for carry_out in self.get, self.set, self.load, self.push, self.run, self.read_out:
            carry_out(m)
        if c.memory:
            self.connect_memory(m)
        return m

    def judge(self, m):
        """When a command is carried out, what is wrong with it, and what it is answered."""
        kind, healthy, loading = self.i_kind, self.healthy, self.datapath.o_loading
        # What is wrong, and whether it has to wait, is a cycle old, but for the commands that are
        # carried out at once; what it refers to, two. It is still true: only commands break a rule or
        # keep one waiting, and the one before has been carried out earlier still.
        looked_up, seen, wrong, error_found = Signal(), Signal(_Wrong), Signal(), Signal(Error)
        is_wrong, fail, may = self.found.as_value().any(), Signal(Error), Signal()
        m.d.comb += [
            self.breaks.moving.eq(self.moving & (self.op != Op.GET)), self.found.eq(seen),
            may.eq(looked_up & ~self.due & self.i_room),
        ]
        # Each counts if none behind it is found: no choice waits for another.
        causes, later = [], 0
        for name, error in reversed(_ERRORS.items()):
            causes.append(Mux(self.found[name] & ~later, error, 0))
            later |= self.found[name]
        m.d.comb += fail.eq(reduce(or_, causes))
        m.d.sync += [
            looked_up.eq(self.i_full & ~kind.at_once & ~self.due), seen.eq(self.breaks),
            error_found.eq(fail), wrong.eq(is_wrong),
            self.due.eq(may & ~(self.blocked & healthy & ~is_wrong)),
            self.go.eq(may & healthy & ~self.blocked & ~is_wrong),
        ]

        # The last one counts.
        at_once, verdict = Signal(Error), Signal(Error)
        no_load, no_word, failing = Signal(), Signal(), Signal()
        for broken, error in ((kind.a & kind.minimum, Error.OPERAND), (no_load, Error.NO_LOAD),
                              (kind.result & ~self.reading, Error.NO_RESULT),
                              (~kind.legal, Error.ILLEGAL), (self.moving, Error.BUSY),
                              (kind.reset, Error.NONE)):
            with m.If(broken):
                m.d.comb += at_once.eq(error)
        self.allowed = Signal()         # a PUSH is neither refused nor too late
        wrong_at_once = ~kind.reset & (self.moving | ~kind.legal | kind.a & kind.minimum
                                       | kind.result & ~self.reading | no_load)
        m.d.comb += [
            no_load.eq((kind.a & ~loading[Port.A]) | (kind.b & ~loading[Port.B])),
            verdict.eq(Mux(kind.at_once, at_once, error_found)),
            # A word that will not come is an error, and nothing to wait for.
            no_word.eq(kind.result & ~self.readout.o.valid & self.reading & healthy),
            self.o_ready.eq(Mux(kind.at_once, ~no_word, self.due)),
            self.allowed.eq(self.i_present & healthy & ~self.moving),
            failing.eq(self.i_execute & healthy & Mux(kind.at_once, wrong_at_once, wrong)),
        ]
        # The value a cycle after the error: nobody asks for it so soon. What the command refers to; of
        # those that carry an operand, itself; of a bad operand, how many words came before it.
        names_itself, bad_operand, value = Signal(), Signal(), Signal(32, reset_less=True)
        m.d.comb += [
            names_itself.eq(Mux(kind.at_once, ~self.moving, error_found == Error.ILLEGAL)),
            bad_operand.eq(kind.a & kind.minimum & loading[Port.A] & ~self.moving),
        ]
        m.d.sync += [
            self.value_due.eq(failing),
            value.eq(Mux(bad_operand, self.words_pushed, Mux(
                names_itself, self.i_command.function_id, self.i_command.input_0))),
        ]
        with m.If(failing):
            m.d.sync += [self.error.eq(verdict), healthy.eq(0)]
        with m.If(self.value_due):
            m.d.sync += self.error_value.eq(value)

        # Whether it is there, or ready, makes no difference to what it would be answered.
        code = Mux(healthy, verdict, self.error)
        m.d.comb += self.o_result.eq(
            Mux(kind.result & healthy & self.reading, self.word,
                Mux(~kind.at_once & self.known, self.value, Mux(kind.reset, 0, code))))

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
        beat, upper = readout.o.payload, Signal()
        single, take_word = upper | (beat.count <= 4), Signal()
        self.word = Mux(upper, beat.bytes[32:], beat.bytes[:32])
        m.d.comb += [
            # A chain is not begun while results are being read.
            take_word.eq(self.i_present & self.i_kind.result & self.healthy & self.reading
                         & readout.o.valid),
            readout.o.ready.eq(take_word & single),
        ]
        with m.If(take_word):
            m.d.sync += upper.eq(~single)
            with m.If(single & beat.final):
                m.d.sync += self.reading.eq(0)

    def keep_books(self, m):
        """What each half holds, which run waits, and who uses which half."""
        datapath, readout = self.datapath, self.readout
        self.panels = [PanelBook(datapath.panel) for _ in (Port.A, Port.B)]
        self.load_start, self.load_panel = Signal(2), Signal(datapath.panel)
        for port, panels in enumerate(self.panels):
            m.submodules[f"panels_{'ab'[port]}"] = panels
            m.d.comb += [
                panels.i_start.eq(self.load_start[port]), panels.i_panel.eq(self.load_panel),
                panels.i_forget.eq(self.doorbell), panels.i_loading.eq(datapath.o_loading[port]),
            ]
        m.d.comb += [
            datapath.i_word.eq(Cat(self.i_command.input_0, self.i_command.input_1)),
            datapath.i_port.eq(self.funct7[0]), datapath.i_start.eq(self.load_start),
            datapath.i_panel.eq(self.load_panel),
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
        self.value, self.known = Signal(32, reset_less=True), Signal()      # of a GET
        self.value_due = Signal()       # of an error
        self.events = {register: Signal(32, name=register.name.lower()) for register in (
            Read.COMPLETED, Read.READ_BEATS, Read.WRITE_BEATS, Read.LOAD_BUSY, Read.LOAD_WAIT,
            Read.RUN_WAIT, Read.STORE_BUSY, Read.STORE_WAIT)} if self.config.memory else {}
        m.d.sync += [
            self.cycles.eq(self.cycles + 1),
            self.busy.eq(self.busy + self.datapath.o_busy),
            self.fed.eq(self.fed + self.datapath.o_feeding),
        ]

    def asked(self, m, op: Op, register: int | None = None):
        """Whether the command being found wrong or carried out is that one: a register of its own."""
        flag = Signal(name=f"is_{op.name.lower()}" + ("" if register is None else f"_{register}"))
        m.d.sync += flag.eq((self.op == op) & (True if register is None else self.funct7 == register))
        return flag

    def get(self, m):
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
        if c.memory:
            values[Read.FENCE] = ~self.moving
            values[Read.FAILED] = self.memory.o_failure.descriptor
            fence = self.asked(m, Op.GET, Read.FENCE)
            with m.If(fence):
                m.d.comb += self.blocked.eq(self.moving & ~self.patience[-1])
            m.d.sync += self.patience.eq(Mux(fence & ~self.due, self.patience + 1, 0))
        # As with its verdict, what a register holds is found a cycle before it is answered.
        get = self.op == Op.GET
        m.d.sync += self.known.eq(get)
        with m.Switch(self.funct7):
            for register, what in values.items():
                with m.Case(register):
                    m.d.sync += self.value.eq(what)
            with m.Default():
                m.d.sync += self.known.eq(0)
                with m.If(get):
                    m.d.comb += self.breaks.illegal.eq(1)

    def set(self, m):
        value = self.i_command.input_0
        place = data.View(isa.layout("TABLE"), value)
        asked = {register: self.asked(m, Op.SET, register) for register in Write
                 if self.config.memory or register not in (Write.DOORBELL, Write.START)}
        for register, target in ((Write.SEED, self.seed), (Write.PITCH, self.pitch),
                                 (Write.CLIP, self.clip), (Write.SHIFT, self.table_shift)):
            with m.If(self.go & asked[register]):
                m.d.sync += target.eq(value)
        with m.If(self.go & asked[Write.TABLE]):
            m.d.sync += [self.table_tile.eq(place.tile), self.table_lane.eq(place.lane)]
        m.d.comb += self.readout.i_clear.eq(self.go & asked[Write.MAX_ABS])
        with m.If(self.op == Op.SET), m.Switch(self.funct7):
            with m.Case(Write.SHIFT):
                m.d.comb += self.breaks.size.eq(value[6:].any() | value[:6].all())
            with m.Case(Write.TABLE):
                columns = self.config.columns
                lanes = (columns - 1).bit_length()
                m.d.comb += self.breaks.size.eq(
                    value[16:].any() | place.tile[self.tile_bits:].any() | place.lane[lanes:].any()
                    | holds(place.lane[:lanes], lambda lane: lane >= columns))
            if self.config.memory:
                with m.Case(Write.DOORBELL, Write.START):
                    m.d.comb += self.breaks.reading.eq(self.reading)
            with m.Case(*asked):
                pass
            with m.Default():
                m.d.comb += self.breaks.illegal.eq(1)
        if self.config.memory:
            doorbell, start = asked[Write.DOORBELL], asked[Write.START]
            # Runs come to their end, half a panel is forgotten.
            with m.If(doorbell | start):
                m.d.comb += self.blocked.eq(self.runs.o_users_c.any())
            m.d.comb += [self.memory.i_doorbell.valid.eq(self.go & doorbell),
                         self.memory.i_start.eq(self.go & start),
                         self.doorbell.eq(self.go & (doorbell | start))]

    def load(self, m):
        c, load = self.config, self.asked(m, Op.LOAD)
        size = data.View(isa.layout("LOAD.0"), self.i_command.input_0)
        mode = data.View(isa.layout("LOAD.1"), self.i_command.input_1)
        # How deep a tile may be if there are so many, in whole words: a table instead of a multiplier.
        # Of their number the lower bits, which are zero if there are as many as can be.
        longest = [c.longest(tiles or c.tiles) // WORD * WORD for tiles in range(c.tiles)]
        lanes = c.rows, c.columns
        bits = max(lanes).bit_length()
        with m.If(self.op == Op.LOAD):
            m.d.comb += [
                self.breaks.illegal.eq(self.funct7 > Port.B),
                self.breaks.steps.eq(
                    (size.depth == 0)
                    | exceeds(size.depth, lookup(longest, size.tiles[:self.tile_bits]))),
                self.breaks.size.eq(
                    (size.tiles == 0) | (size.last == 0)
                    | size.tiles[self.tile_bits + 1:].any()
                    | size.tiles[self.tile_bits] & size.tiles[:self.tile_bits].any()
                    | size.last[bits:].any() | holds(
                        Cat(self.funct7[0], size.last[:bits]), lambda n: n >> 1 > lanes[n % 2])),
            ]
        port, users = self.funct7[0], Mux(self.funct7[0], self.runs.o_users_b, self.runs.o_users_a)
        with m.If(load):
            m.d.comb += self.blocked.eq(users.bit_select(mode.half, 1))
        panel = self.load_panel
        m.d.comb += [
            panel.depth.eq(size.depth), panel.tiles.eq(size.tiles), panel.last.eq(size.last),
            panel.start.eq(mode.half << (len(panel.start) - 1)), panel.across.eq(mode.across),
            self.load_start.eq(Cat(self.go & load & ~port, self.go & load & port)),
        ]
        with m.If(self.go & load):
            m.d.sync += self.words_pushed.eq(0)

    def push(self, m):
        datapath, kind = self.datapath, self.i_kind
        with m.If(self.allowed & kind.table):
            m.d.comb += self.readout.i_table_valid.eq(1)
            m.d.sync += self.table_lane.eq(self.table_lane + 1)
            with m.If(self.table_lane == self.config.columns - 1):
                m.d.sync += [self.table_lane.eq(0), self.table_tile.eq(self.table_tile + 1)]
        if self.config.memory:
            m.d.comb += self.memory.i_push.valid.eq(self.allowed & kind.descriptor)
        wanted = Cat(kind.a & ~kind.minimum, kind.b) & datapath.o_loading
        with m.If(self.allowed & wanted.any()):
            m.d.comb += datapath.i_word_valid.eq(1)
            m.d.sync += self.words_pushed.eq(self.words_pushed + 1)

    def run(self, m):
        c, runs, run = self.config, self.runs, self.asked(m, Op.RUN)
        command = data.View(isa.layout("RUN.0"), self.i_command.input_0)
        a, b = (Signal.like(panels.o_held, name=f"{port}_held") for panels, port in zip(
            self.panels, "ab", strict=True))
        product, most = Signal.like(self.products[0]), Signal(range(c.tiles + 1))
        most_tiles = [0] + [c.tiles // tiles for tiles in range(1, c.tiles + 1)]
        m.d.sync += [a.eq(self.panels[Port.A].o_held), b.eq(self.panels[Port.B].o_held),
                     most.eq(lookup(most_tiles, self.panels[Port.A].o_held.tiles)),
                     product.eq(Array(self.products)[command.c_half])]
        extent = Cat(1, a.tiles, b.tiles, *(
            last[:len(product[name])] for name, last in (("a_last", a.last), ("b_last", b.last))))
        m.d.comb += [panels.i_half.eq(half) for panels, half in zip(
            self.panels, (command.a_half, command.b_half), strict=True)]
        with m.If(self.op == Op.RUN):
            m.d.comb += [
                self.breaks.illegal.eq(self.funct7 != 0),
                self.breaks.not_loaded.eq(
                    ~(self.panels[Port.A].o_complete & self.panels[Port.B].o_complete)),
                self.breaks.reading.eq(self.reading & (self.read_half == command.c_half)),
            ]
        with m.If(run):
            with m.If((a.depth != b.depth)
                      | (command.accumulate & (Cat(product.valid, *(
                          product[f] for f in ("a_tiles", "b_tiles", "a_last", "b_last"))) != extent))):
                m.d.comb += self.found.depth.eq(1)
            with m.If(exceeds(b.tiles, most)):
                m.d.comb += self.found.size.eq(1)
            m.d.comb += self.blocked.eq(~runs.o_ready)
        m.d.comb += [
            runs.i_accept.eq(self.go & run),
            runs.i_run.depth.eq(a.depth), runs.i_run.a_tiles.eq(a.tiles),
            runs.i_run.b_tiles.eq(b.tiles), runs.i_run.c_half.eq(command.c_half),
            *(runs.i_run[f"{p}_start"].eq(
                command[f"{p}_half"] << (len(runs.i_run[f"{p}_start"]) - 1)) for p in "ab"),
            runs.i_run.accumulate.eq(command.accumulate),
        ]
        for half in (0, 1):
            with m.If(self.go & run & (command.c_half == half)):
                m.d.sync += self.products[half].eq(extent)

    def read_out(self, m):
        command, readout = data.View(isa.layout("READOUT.0"), self.i_command.input_0), self.asked(
            m, Op.READOUT)
        product, start = Array(self.products)[command.half], self.read_start
        with m.If(self.op == Op.READOUT):
            m.d.comb += [self.breaks.illegal.eq(self.funct7 != 0),
                         self.breaks.no_result.eq(~product.valid),
                         self.breaks.reading.eq(self.reading)]
        m.d.sync += [
            *(start[f].eq(product[f]) for f in ("a_tiles", "b_tiles", "a_last", "b_last")),
            start.c_half.eq(command.half), start.requantise.eq(command.requantise),
            start.index.eq(self.i_command.input_1), self.read_start_valid.eq(self.go & readout),
        ]
        with m.If(self.go & readout):
            m.d.sync += [self.read_half.eq(command.half), self.stochastic.eq(command.stochastic),
                         self.reading.eq(1)]
