"""Carries out descriptors: from operands in memory to results in memory, everything overlapped."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import isa
from .chain import FIELDS, Chain, Failure
from .config import Config
from .gather import GATHER_FIELDS, Move
from .isa import Error
from .load_addresses import BurstInfo, LoadAddresses, Target
from .load_data import LoadData
from .loop_nest import LoopNest
from .memory_port import PORT
from .pipeline import delay
from .queue import Queue
from .store_unit import Destination, StoreUnit

__all__ = ["MemoryEngine"]

#: Bursts asked for ahead of their data.
_BURSTS = 32
#: Cycles after which nothing can still be inside that would move on its own: a power of two.
_CALM = 256


class MemoryEngine(wiring.Component):
    """Chain, loop nest, loads, runs and stores, and what they wait for.

    Loads, runs and stores each go in program order; counts of what is done hold them in step. After
    an error nothing new is begun, what is complete is stored, and ``o_failed`` reports it when all
    is calm.

    Parameters
    ----------
    config : Config
    panel, run, start, table, beat : Layout
        Of the datapath's ``i_panel`` and ``i_run`` and of the read-out's ``i_start``, ``i_table``
        and ``o``.

    Members
    -------
    i_doorbell, i_start, i_push
        See :class:`Chain`.
    o_active : bit
        A chain is in progress.
    o_failed : bit, o_failure : Failure
        The chain has stopped; stays until reset.
    o_completed : bit
        A product is complete.
    i_cycles : 32 bit
    i_fed, i_tile_end, i_end, i_running
        From the datapath; ``i_running``: its sequencer is busy.
    o_start, o_panel, o_word, o_word_valid, o_port, o_run
        To the datapath.
    o_read_start, o_read_start_valid, o_sums_complete, o_tiles_complete, i_read_ready, i_row, i_sent,
    i_empty, i_beat, o_pitch, o_settings, o_clear, i_max_abs, o_table, o_table_valid
        To and from the read-out.
    port : PORT
    o_load_busy, o_load_wait, o_run_wait, o_store_busy, o_store_wait : bit
        Performance counters.
    """

    def __init__(self, config: Config, *, panel, run, start, table, beat):
        c = self.config = config
        self.chain = Chain()
        self.addresses = LoadAddresses()
        self.load_data = LoadData(lanes=(c.rows, c.columns), panel=panel, table=table,
                                  columns=c.columns)
        self.store = StoreUnit(start=start, rows=c.rows, columns=c.stripe * c.columns)
        self.nest = LoopNest(c, fields=FIELDS, panel=panel, run=run, store=self.store.order)
        chain, store = self.chain, self.store
        super().__init__({
            "i_doorbell":         In(chain.i_doorbell.shape()),
            "i_start":            In(1),
            "i_push":             In(chain.i_push.shape()),
            "o_active":           Out(1),
            "o_failed":           Out(1),
            "o_failure":          Out(Failure),
            "o_completed":        Out(1),
            "i_cycles":           In(32),
            "i_fed":              In(self.nest.i_fed.shape()),
            "i_tile_end":         In(1),
            "i_end":              In(data.StructLayout({"valid": 1, "half": 1})),
            "i_running":          In(1),
            "o_start":            Out(2),
            "o_panel":            Out(panel),
            "o_word":             Out(64),
            "o_word_valid":       Out(1),
            "o_port":             Out(1),
            "o_run":              Out(stream.Signature(run)),
            "o_read_start":       Out(start),
            "o_read_start_valid": Out(1),
            "o_sums_complete":    Out(1),
            "o_tiles_complete":   Out(range(c.tiles + 1)),
            "i_read_ready":       In(1),
            "i_row":              In(1),
            "i_sent":             In(1),
            "i_empty":            In(1),
            "i_beat":             In(stream.Signature(beat)),
            "o_pitch":            Out(32),
            "o_settings":         Out(store.o_settings.shape()),
            "o_clear":            Out(1),
            "i_max_abs":          In(32),
            "o_table":            Out(table),
            "o_table_valid":      Out(1),
            "port":               Out(PORT),
            "o_load_busy":        Out(1),
            "o_load_wait":        Out(1),
            "o_run_wait":         Out(1),
            "o_store_busy":       Out(1),
            "o_store_wait":       Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        m.submodules.chain, m.submodules.nest, m.submodules.addresses = (
            self.chain, self.nest, self.addresses)
        m.submodules.load_data, m.submodules.store = self.load_data, self.store
        self.loads_done, self.stores_sent = Signal(8), Signal(8)
        self.runs_begun, self.runs_ended = Signal(8), Signal(8)
        self.stop = Signal()
        self.elaborate_chain(m)
        self.elaborate_loads(m)
        self.elaborate_runs(m)
        self.elaborate_stores(m)
        self.elaborate_failure(m)
        return m

    def elaborate_chain(self, m):
        chain, nest, data_side = self.chain, self.nest, self.load_data
        m.d.comb += [
            chain.i_doorbell.eq(self.i_doorbell), chain.i_start.eq(self.i_start),
            chain.i_push.eq(self.i_push), self.o_active.eq(chain.o_active & ~self.o_failed),
            chain.i_fetch_error.valid.eq(data_side.o_error.valid & data_side.o_error.fetch),
            chain.i_fetch_error.address.eq(data_side.o_error.address),
            chain.i_completed.eq(self.o_completed),
            nest.i_begin.eq(chain.o_begin), nest.i_fields.eq(chain.o_fields),
        ]
        m.d.sync += [       # as late as what has gone wrong with it
            chain.i_fetched.valid.eq(data_side.o_descriptor_valid),
            chain.i_fetched.number.eq(data_side.o_descriptor.number),
            chain.i_fetched.bytes.eq(data_side.o_descriptor.bytes),
            chain.i_fetch_done.eq(data_side.o_done
                                  & (data_side.o_done_target == Target.DESCRIPTOR)),
            # It begins and ends long before it is asked for.
            chain.i_nest_idle.eq(nest.o_idle), chain.i_nest_done.eq(nest.o_done),
            chain.i_nest_misfit.eq(nest.o_misfit),
        ]

    def elaborate_loads(self, m):
        """Orders to the address and the data side; the descriptor's fetch among them."""
        chain, nest, side = self.chain, self.nest, self.load_data
        f = chain.o_fields
        m.submodules.orders = orders = Queue(width=side.order.size, depth=4)
        order, address = Signal(side.order), self.addresses.i
        fetch = chain.o_fetch.valid
        load = nest.o_load
        m.d.comb += [
            # Both sides take an order, or none does.
            address.valid.eq((fetch | load.valid) & orders.w_rdy & ~self.stop),
            orders.w_en.eq((fetch | load.valid) & address.ready & ~self.stop),
            chain.o_fetch.ready.eq(orders.w_rdy & address.ready & ~self.stop),
            load.ready.eq(orders.w_rdy & address.ready & ~fetch & ~self.stop),
            order.panel.eq(load.payload.panel), order.table_half.eq(load.payload.table_half),
            orders.w_data.eq(order),
            side.i_order.payload.as_value().eq(orders.r_data), side.i_order.valid.eq(orders.r_rdy),
            orders.r_en.eq(side.i_order.ready),
        ]
        with m.If(fetch):
            m.d.comb += [
                order.target.eq(Target.DESCRIPTOR), address.payload.target.eq(Target.DESCRIPTOR),
                address.payload.rectangle.rows.eq(1),
                address.payload.rectangle.bytes.eq(4 * isa.FETCHED_WORDS),
                address.payload.rectangle.row_move.eq(Move.ZERO),
                address.payload.rectangle.column_move.eq(Move.ZERO),
            ]
        with m.Else():
            m.d.comb += [order.target.eq(load.payload.target),
                         address.payload.target.eq(load.payload.target),
                         address.payload.rectangle.eq(load.payload.rectangle)]

        sides = self.addresses
        for target, base, pitch in ((Target.A, f.a, f.a_pitch), (Target.B, f.b, f.b_pitch),
                                    (Target.TABLE, f.table, 0),
                                    (Target.DESCRIPTOR, chain.o_fetching, 0)):
            m.d.comb += [sides.i_base[target].eq(base), sides.i_pitch[target].eq(pitch)]
        m.d.comb += [
            sides.i_group.eq(f.b_group), sides.i_wrap.eq(f.b_wrap),
            sides.i_gather.eq(Cat(f.gather_a, f.gather_b)),
            *(sides.i_fields[field.name].eq(f[field.name]) for field in GATHER_FIELDS),
        ]
        # A cycle late: the loop nest is not idle so soon after its last load.
        m.d.sync += chain.i_loaded.eq(sides.o_idle & ~orders.r_rdy & ~side.o_busy)
        wiring.connect(m, wiring.flipped(self.port.word), side.i_word)
        m.submodules.infos = infos = Queue(width=BurstInfo.size, depth=_BURSTS, buffered=True)
        m.d.comb += [
            side.i_info.payload.as_value().eq(infos.r_data), side.i_info.valid.eq(infos.r_rdy),
            infos.r_en.eq(side.i_info.ready),
        ]
        # A cycle late, both: two more have come by then, and no word comes so soon.
        m.d.sync += [
            infos.w_data.eq(sides.o_info.payload),
            infos.w_en.eq(sides.o_info.valid & sides.o_info.ready),
            sides.o_info.ready.eq(infos.level < _BURSTS - 3),
        ]
        wiring.connect(m, sides.o_burst, wiring.flipped(self.port.read))
        m.d.comb += [
            self.o_start.eq(side.o_start), self.o_panel.eq(side.o_panel),
            self.o_word.eq(side.o_word), self.o_word_valid.eq(side.o_word_valid),
            self.o_port.eq(side.o_port), self.o_table.eq(side.o_table),
            self.o_table_valid.eq(side.o_table_valid),
            self.o_load_busy.eq(side.o_busy), self.o_load_wait.eq(side.o_busy & ~side.o_moved),
        ]
        # Counted when the last word is in the lanes' registers.
        loaded = Signal()
        m.d.sync += loaded.eq(side.o_done & (side.o_done_target != Target.DESCRIPTOR))
        with m.If(loaded & ~side.o_minimum):
            m.d.sync += self.loads_done.eq(self.loads_done + 1)

    def elaborate_runs(self, m):
        c, nest = self.config, self.nest
        m.submodules.runs = runs = Queue(                           # as far as loads can be ahead
            width=len(nest.o_run.payload.as_value()), depth=c.banks, buffered=True)
        order = data.View(nest.o_run.payload.shape(), runs.r_data)
        loads_ahead, stores_ahead, due = Signal(8), Signal(8), Signal()
        # What has come stays so. A cycle late, as the run before is still being fed.
        m.d.sync += due.eq(runs.r_rdy & ~runs.r_en & ~loads_ahead[7] & ~stores_ahead[7])
        m.d.comb += [
            runs.w_data.eq(nest.o_run.payload), runs.w_en.eq(nest.o_run.valid),
            nest.o_run.ready.eq(runs.w_rdy),
            loads_ahead.eq(self.loads_done - order.loads),
            stores_ahead.eq(self.stores_sent - order.stores),
            self.o_run.valid.eq(due),
            self.o_run.payload.eq(order.run), runs.r_en.eq(self.o_run.valid & self.o_run.ready),
            nest.i_fed.eq(self.i_fed),
            self.o_run_wait.eq(runs.r_rdy & ~self.o_run.valid & ~self.i_running),
        ]
        for count, more in ((self.runs_begun, runs.r_en), (self.runs_ended, self.i_end.valid),
                            (self.stores_sent, self.i_sent)):
            with m.If(more):
                m.d.sync += count.eq(count + 1)

    def elaborate_stores(self, m):
        c, chain, nest, store = self.config, self.chain, self.nest, self.store
        f = chain.o_fields
        m.submodules.stores = stores = Queue(width=store.order.size, depth=4, buffered=True)
        m.submodules.destinations = destinations = Queue(width=Destination.size, depth=4)
        order, destination = Signal(store.order), Signal(Destination)
        m.d.comb += [
            stores.w_data.eq(order), stores.w_en.eq(nest.o_store.valid | chain.o_empty),
            nest.o_store.ready.eq(stores.w_rdy), chain.i_empty_taken.eq(stores.w_rdy),
            store.i.payload.as_value().eq(stores.r_data), store.i.valid.eq(stores.r_rdy),
            stores.r_en.eq(store.i.ready),
            destination.c.eq(f.c), destination.pitch.eq(f.c_pitch), destination.columns.eq(f.n),
            destination.sums.eq(f.sums_address),
            destination.record.eq(chain.o_address + 4 * isa.RECORD_WORD),
            destination.recorded.eq(~chain.o_pushed), destination.begun.eq(self.i_cycles),
            destination.requantise.eq(f.requantise), destination.summed.eq(f.sums),
            destination.settings.seed.eq(f.seed), destination.settings.stochastic.eq(f.stochastic),
            *(destination.settings[name].eq(f[name]) for name in ("zero_point", "low", "high")),
            destinations.w_data.eq(destination), destinations.w_en.eq(chain.o_destination_valid),
            chain.i_destination_ready.eq(destinations.w_rdy),
            store.i_destination.payload.as_value().eq(destinations.r_data),
            store.i_destination.valid.eq(destinations.r_rdy),
            destinations.r_en.eq(store.i_destination.ready),
            store.i_runs_begun.eq(self.runs_begun), store.i_runs_ended.eq(self.runs_ended),
            store.i_loads_done.eq(self.loads_done),
            store.i_cycles.eq(self.i_cycles), store.i_max_abs.eq(self.i_max_abs),
            self.o_clear.eq(store.o_clear), self.o_read_start.eq(store.o_start),
            self.o_read_start_valid.eq(store.o_start_valid), store.i_ready.eq(self.i_read_ready),
            store.i_row.eq(self.i_row), store.i_empty.eq(self.i_empty),
            self.o_pitch.eq(store.o_pitch), self.o_settings.eq(store.o_settings),
            store.i_written.eq(self.port.written),
            self.o_store_busy.eq(store.o_active), self.o_store_wait.eq(store.o_waiting),
        ]
        m.d.comb += order.eq(nest.o_store.payload)
        with m.If(chain.o_empty):       # nobody looks at the rest
            m.d.comb += [order.first.eq(1), order.last.eq(1), order.empty.eq(1)]
        m.d.sync += self.o_completed.eq(store.o_completed)
        wiring.connect(m, wiring.flipped(self.i_beat), store.i_beat)
        wiring.connect(m, store.o_burst, wiring.flipped(self.port.write))
        wiring.connect(m, store.o_word, wiring.flipped(self.port.write_word))

        # Tiles of the run that is draining.
        tiles = Signal(range(c.tiles + 1))
        with m.If(self.i_end.valid):
            m.d.sync += tiles.eq(0)
        with m.Elif(self.i_tile_end):
            m.d.sync += tiles.eq(tiles + 1)
        m.d.comb += self.o_sums_complete.eq(store.o_sums_complete)
        m.d.sync += self.o_tiles_complete.eq(Mux(store.o_last_run, tiles, 0))

        # The last wave still needs the table while it walks across the columns.
        half = Signal()
        with m.If(store.o_start_valid):
            m.d.sync += half.eq(store.o_start.table_half)
        requantised = store.o_start.requantise
        freed = delay(m, Cat(self.i_sent & requantised, half), c.columns + 8, name="table_free",
                      reset=True)
        m.d.comb += nest.i_table_free.as_value().eq(freed)

    def elaborate_failure(self, m):
        """The first error in program order: a store's comes before a load's."""
        chain, side, store = self.chain, self.load_data, self.store
        front, front_failed = Signal(Failure), Signal()
        taken_up, stored = chain.o_failure.descriptor, Signal(32)
        # It is another one only when nothing is left that could fail.
        m.d.sync += stored.eq(Mux(store.o_recorded, store.o_record - 4 * isa.RECORD_WORD, 0))
        m.d.comb += [self.stop.eq(front_failed | self.o_failed), self.port.flush.eq(self.o_failed)]
        with m.If(~front_failed):
            m.d.sync += [front.eq(chain.o_failure), front_failed.eq(chain.o_failed)]
            with m.If(side.o_error.valid & ~side.o_error.fetch):
                m.d.sync += [front_failed.eq(1), front.error.eq(Error.BUS_READ),
                             front.value.eq(side.o_error.address)]
            with m.Elif(side.o_minimum):
                m.d.sync += [front_failed.eq(1), front.error.eq(Error.OPERAND), front.value.eq(0)]

        # A cycle late: it is a long time.
        moves, calm = Signal(), Signal(range(_CALM + 1))
        loading = ~chain.i_loaded & ~side.o_failed
        m.d.sync += moves.eq(~front_failed | store.o_active | self.i_running | self.i_end.valid
                             | loading)
        with m.If(moves):
            m.d.sync += calm.eq(0)
        with m.Elif(~calm[-1]):
            m.d.sync += calm.eq(calm + 1)
        with m.If(~self.o_failed):
            with m.If(store.o_error):
                m.d.sync += [
                    self.o_failed.eq(1), self.o_failure.error.eq(Error.BUS_WRITE),
                    self.o_failure.value.eq(store.o_error_address),
                    self.o_failure.descriptor.eq(stored)]
            with m.Elif(self.port.silent & chain.o_active):
                m.d.sync += [
                    self.o_failed.eq(1), self.o_failure.error.eq(Error.TIMEOUT),
                    self.o_failure.value.eq(0),
                    self.o_failure.descriptor.eq(Mux(store.o_holding, stored, taken_up))]
            with m.Elif(calm[-1]):
                m.d.sync += [self.o_failed.eq(1), self.o_failure.eq(front)]
