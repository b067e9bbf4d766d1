"""The loop nest of a product: which panels are loaded, multiplied and stored, in which order."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD, Config
from .gather import Move, Rectangle
from .load_addresses import Target
from .pipeline import exceeds, lookup

__all__ = ["LoopNest"]


def _unused(m, width: int, more, fewer, *, name: str) -> Signal:
    """Whether something has no users, out of a register. In a cycle one ``more`` may come, one go."""
    users, unused = Signal(width, name=f"users_{name}"), Signal(name=f"unused_{name}", init=1)
    # No sum: both come late, and what each bit does then is found before.
    up, down = 1, 1
    for bit in users:
        m.d.sync += bit.eq(bit ^ ((more ^ fewer) & Mux(more, up, down)))
        up, down = bit & up, ~bit & down
    # The last one goes if there is none beside it.
    m.d.sync += unused.eq(Mux(more == fewer, unused, fewer & (users[1:] == 0)))
    return unused


class LoopNest(wiring.Component):
    """Walks macro-tiles of C and chunks of K, and hands out loads, runs and stores in program order.

    It runs ahead of them: an order says how many earlier orders of another kind it has to wait for,
    and whoever carries it out does the waiting. Only a load whose bank some run still needs is held
    back here.

    A chunk of a panel takes one bank of its scratchpad; banks are taken in turn. The outer operand's
    chunks stay for all inner iterations if a panel has no more of them than there are banks, the
    inner operand's for all outer iterations if all its panels together have no more.

    Model: :mod:`backbeat.planner` counts the same loads; ``tb/test_loop_nest.py`` walks the same nest.

    Parameters
    ----------
    config : Config
    panel, run, store : Layout
        Of the datapath's ``i_panel`` and ``i_run`` and of the store unit's orders.

    Members
    -------
    i_fields : {...}
        The descriptor; stable from ``i_begin`` to ``o_done``.
    i_begin, o_done, o_idle : bit
        ``o_done``: the last order has been taken, with ``o_idle`` from then on.
    o_misfit : bit
        Panels do not fit the buffers; nothing has been handed out, ``i_begin`` may come again.
    o_load : stream of {target, rectangle, panel, table_half}
    o_run : stream of {run, loads, stores}
        To begin when ``loads`` rectangles have been loaded and ``stores`` macro-tiles read out,
        modulo 256.
    o_store : stream of store
    i_fed : {valid, a_bank, b_bank}
        A run needs its banks no more.
    i_table_free : {valid, half}
        A macro-tile needs its half of the table no more.
    """

    FIELDS = ("a_across", "b_across", "requantise", "sums", "columns_outer", "m", "n", "k", "a_panel",
              "b_panel", "chunk", "last_chunk")

    def __init__(self, config: Config, *, fields, panel, run, store):
        self.config = config
        bank = range(config.banks)
        super().__init__({
            "i_fields":     In(fields),
            "i_begin":      In(1),
            "o_done":       Out(1),
            "o_idle":       Out(1, init=1),
            "o_misfit":     Out(1),
            "o_load":       Out(stream.Signature(data.StructLayout(
                {"target": 2, "rectangle": Rectangle, "panel": panel, "table_half": 1}))),
            "o_run":        Out(stream.Signature(data.StructLayout(
                {"run": run, "loads": 8, "stores": 8}))),
            "o_store":      Out(stream.Signature(store)),
            "i_fed":        In(data.StructLayout({"valid": 1, "a_bank": bank, "b_bank": bank})),
            "i_table_free": In(data.StructLayout({"valid": 1, "half": 1})),
        })

    def elaborate(self, _platform):
        m = Module()
        f = self.i_fields
        # Where we are; the first of the outer, the inner and the chunk loop.
        self.m_left, self.n_left, self.k_left = Signal(24), Signal(24), Signal(17)
        self.outer_first, self.inner_first, self.chunk_first = Signal(), Signal(), Signal()
        self.rows, self.columns, self.depth = Signal(16), Signal(16), Signal(16)
        self.longest = Signal(16)
        self.c_half, self.table_half = Signal(), Signal()
        self.loads, self.runs, self.stores_before = Signal(8), Signal(8), Signal(8, init=-1 % 2**8)
        self.first, self.last_of_all = Signal(), Signal()       # of all macro-tiles
        m_last, n_last, k_ends, deepest = Signal(), Signal(), Signal(), Signal(16)
        self.n_last, k_last, inner_last, outer_last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            m_last.eq(~exceeds(self.m_left, f.a_panel)), n_last.eq(~exceeds(self.n_left, f.b_panel)),
            k_ends.eq(~exceeds(self.k_left, deepest)),
        ]
        # What follows from where we are settles while tiles are counted, and before a chunk's turns.
        m.d.sync += [
            self.n_last.eq(n_last), k_last.eq(k_ends), self.depth.eq(Mux(k_ends, self.k_left, f.chunk)),
            inner_last.eq(Mux(f.columns_outer, m_last, n_last)),
            outer_last.eq(Mux(f.columns_outer, n_last, m_last)),
            self.first.eq(self.outer_first & self.inner_first),
            self.last_of_all.eq(inner_last & outer_last),
            # No chunk is deeper; how deep one of these may be.
            deepest.eq(Mux(exceeds(f.last_chunk, f.chunk), f.last_chunk, f.chunk)),
            self.longest.eq(Mux(k_ends, self.k_left, deepest)),
        ]
        self.size, self.begun, self.ran, self.tile_done = Signal(), Signal(), Signal(), Signal()
        self.turn = {port: Signal(name=f"turn_{port}") for port in ("a", "b", "table")}
        self.elaborate_tiles(m)
        self.elaborate_banks(m, k_last)
        self.elaborate_table(m)
        self.elaborate_orders(m, inner_last)
        self.elaborate_states(m, k_last)

        with m.If(self.size):
            m.d.sync += [
                self.rows.eq(Mux(m_last, self.m_left, f.a_panel)),
                self.columns.eq(Mux(n_last, self.n_left, f.b_panel)),
                self.k_left.eq(f.k), self.chunk_first.eq(1),
            ]
        with m.If(self.ran):
            m.d.sync += [self.runs.eq(self.runs + 1), self.chunk_first.eq(0),
                         self.k_left.eq(self.k_left - self.depth)]
        with m.If(self.o_idle):
            m.d.sync += [self.m_left.eq(f.m), self.n_left.eq(f.n), self.outer_first.eq(1),
                         self.inner_first.eq(1)]
        with m.If(self.tile_done):
            m.d.sync += [self.stores_before.eq(self.stores_before + 1), self.c_half.eq(~self.c_half),
                         self.inner_first.eq(inner_last)]
            with m.If(inner_last):
                m.d.sync += self.outer_first.eq(0)
            # The inner one goes on, or begins again while the outer one goes on.
            with m.If(~f.columns_outer | inner_last):
                m.d.sync += self.n_left.eq(self.n_left - self.columns)
            with m.If(f.columns_outer | inner_last):
                m.d.sync += self.m_left.eq(self.m_left - self.rows)
            with m.If(inner_last & f.columns_outer):
                m.d.sync += self.m_left.eq(f.m)
            with m.If(inner_last & ~f.columns_outer):
                m.d.sync += self.n_left.eq(f.n)
        return m

    def elaborate_states(self, m, k_last):
        """One register per state, so that what is decided in one lies close behind registers.

        A macro-tile: its size, its tiles counted; per chunk where we are, the turns of A and B, the run;
        the turn of the table, and the store.
        """
        load, run, store = self.o_load, self.o_run, self.o_store
        counting, chunk, run_turn, store_turn = Signal(), Signal(), Signal(), Signal()
        misfit, counted, ended = Signal(), Signal(), Signal()
        begin, turn = self.o_idle & self.i_begin, self.turn
        # A load is put into the register of orders in its turn, and taken out of it in what follows: B
        # takes the place of A, run and store wait until all that they need have been taken.
        passed, put = {port: Signal(name=f"{port}_passed") for port in turn}, Signal()
        for port in turn:
            vacant = ~load.valid | load.ready if port == "b" else 1
            m.d.comb += passed[port].eq(turn[port] & (~self.needed[port] | self.free[port] & vacant))
        m.d.comb += [
            misfit.eq(counting & self.misfit & self.first),
            counted.eq(counting & self.counted & ~(self.misfit & self.first)),
            put.eq(reduce(or_, (passed[port] & self.needed[port] for port in turn))),
            run.valid.eq(run_turn & ~load.valid), store.valid.eq(store_turn & ~load.valid),
            self.ran.eq(run.valid & run.ready), self.tile_done.eq(store.valid & store.ready),
            ended.eq(self.tile_done & self.last_of_all),
        ]
        m.d.sync += [
            self.size.eq(begin | self.tile_done & ~self.last_of_all),
            self.begun.eq(self.size),
            counting.eq(self.begun | counting & ~misfit & ~counted),
            chunk.eq(counted | self.ran & ~k_last),
            turn["a"].eq(chunk | turn["a"] & ~passed["a"]),
            turn["b"].eq(passed["a"] | turn["b"] & ~passed["b"]),
            run_turn.eq(passed["b"] | run_turn & ~self.ran),
            turn["table"].eq(self.ran & k_last | turn["table"] & ~passed["table"]),
            store_turn.eq(passed["table"] | store_turn & ~self.tile_done),
            self.o_idle.eq(self.o_idle & ~self.i_begin | misfit | ended),
            self.o_misfit.eq(misfit), self.o_done.eq(ended),
            load.valid.eq(put | load.valid & ~load.ready),
            self.loads.eq(self.loads + (load.valid & load.ready)),
        ]

    def elaborate_tiles(self, m):
        """Tiles of the macro-tile's rows and columns, by subtraction; whether all fits."""
        c, begun = self.config, self.begun
        self.counted, self.misfit = Signal(), Signal()
        self.tiles, self.last = {}, {}
        ended, many = [], []
        for port, lanes, extent in (("a", c.rows, self.rows), ("b", c.columns, self.columns)):
            tiles = self.tiles[port] = Signal(range(c.tiles + 2), name=f"{port}_tiles")
            last = self.last[port] = Signal(range(lanes + 1), name=f"{port}_last")
            # What is behind the tiles counted, less one: no more if it is negative.
            behind = Signal(signed(17), name=f"{port}_behind")
            end = behind[-1]
            too_many = tiles[-1] & tiles[0]         # one more than a power of two
            with m.If(begun | ~end & ~too_many):
                m.d.sync += [behind.eq(Mux(begun, -lanes - 1, -lanes) + Mux(begun, extent, behind)),
                             tiles.eq(Mux(begun, 1, tiles + 1))]
            m.d.sync += last.eq(behind[:len(last)] + lanes + 1)
            ended.append(end)
            many.append(too_many)
        a_tiles, b_tiles = self.tiles["a"], self.tiles["b"]

        bank_words = c.bank // WORD
        # The most there may be is found in the place of none.
        numbers = [c.tiles, *range(1, c.tiles)]
        most_words, most_tiles = ([most // n for n in numbers] for most in (bank_words, c.tiles))
        index = (c.tiles - 1).bit_length()
        # In steps: what the tables say of the tiles counted; how that compares. Later macro-tiles are no
        # larger than the first.
        reached, most_a, most_b = (Signal(), Signal(range(bank_words + 1)),
                                   Signal(range(bank_words + 1)))
        most_beside, compared, over = Signal(len(b_tiles)), Signal(), Signal()
        m.d.sync += [
            most_a.eq(lookup(most_words, a_tiles[:index])),
            most_b.eq(lookup(most_words, b_tiles[:index])),
            most_beside.eq(lookup(most_tiles, a_tiles[:index])),
            reached.eq(~begun & ended[0] & ended[1]),
            over.eq(exceeds(self.longest, most_a * WORD) | exceeds(self.longest, most_b * WORD)
                    | exceeds(b_tiles, most_beside)),
            compared.eq(~begun & reached),
            self.misfit.eq(~begun & (many[0] | many[1] | compared & over)),
            self.counted.eq(~begun & ended[0] & ended[1] & (compared | ~self.first)),
        ]

    def elaborate_banks(self, m, k_last):
        """Which bank a chunk is in or comes into, and whether it has to be loaded."""
        c, f = self.config, self.i_fields
        self.needed, self.free, self.bank = {}, {}, {}
        bank = range(c.banks)

        # Chunks of a panel, and of all panels of the inner operand, before this one: up to the banks, of
        # which there are a power of two; beyond it is the same.
        chunk, step = Signal(range(c.banks + 1)), Signal(range(c.banks + 1))
        held_outer, held_inner = Signal(), Signal()
        for number, begins in ((chunk, self.begun), (step, self.begun & self.inner_first)):
            with m.If(begins):
                m.d.sync += number.eq(0)
            with m.Elif(self.ran & ~number[-1]):
                m.d.sync += number.eq(number + 1)
        with m.If(self.ran & k_last):
            m.d.sync += held_outer.eq(~chunk[-1])
            with m.If(self.outer_first):
                m.d.sync += held_inner.eq(~step[-1])

        # Counted a cycle late: nobody asks before the next chunk's bank is known, and that is later.
        taken = Signal()
        m.d.sync += taken.eq(self.ran)
        for port, outer in (("a", ~f.columns_outer), ("b", f.columns_outer)):
            # Where the next one is loaded, where the panel that stays begins, and where it goes on: the
            # latter two only count from the macro-tile after that which loads it.
            ring, base, here = (Signal(bank, name=f"{port}_{name}") for name in ("ring", "base", "here"))
            # Known since the macro-tile before.
            needed = self.needed[port] = Signal(name=f"{port}_needed")
            at = self.bank[port] = Signal(bank, name=f"{port}_bank")
            m.d.sync += [
                needed.eq(Mux(outer, self.inner_first | ~held_outer, self.outer_first | ~held_inner)),
                at.eq(Mux(needed, ring, here)),
            ]
            with m.If(self.begun & self.inner_first & (outer | self.outer_first)):
                m.d.sync += base.eq(ring)
            with m.If(self.begun & (outer | self.inner_first)):
                m.d.sync += here.eq(base)
            with m.Elif(self.ran):
                m.d.sync += here.eq(here + 1)
            with m.If(self.ran & needed):
                m.d.sync += ring.eq(ring + 1)

            # Runs that are to come or under way, per bank: no more of them than there are banks, as each
            # has another one of the other operand.
            fed = self.i_fed[f"{port}_bank"]
            unused = [_unused(m, c.banks.bit_length(), taken & (at == n),
                              self.i_fed.valid & (fed == n), name=f"{port}_{n}") for n in bank]
            free = self.free[port] = Signal(name=f"{port}_free")
            m.d.comb += free.eq(Array(unused)[at])

    def elaborate_table(self, m):
        """Which half of the epilogue's table holds the columns."""
        f = self.i_fields
        needed = self.needed["table"] = Signal(name="table_needed")
        free = self.free["table"] = Signal(name="table_free")
        ring, base, column = Signal(), Signal(), Signal(2)
        held = Signal()         # all column panels fit the two halves
        wanted = f.requantise & Mux(f.columns_outer, self.inner_first, self.outer_first | ~held)
        m.d.sync += [
            needed.eq(wanted),
            self.table_half.eq(Mux(wanted, ring, Mux(f.columns_outer, ~ring, base + column[0]))),
        ]
        with m.If(self.begun & self.first):
            m.d.sync += base.eq(ring)
        with m.If(self.tile_done):
            m.d.sync += column.eq(Mux(column[1], column, column + 1))
            with m.If(self.n_last):
                m.d.sync += column.eq(0)
                with m.If(self.outer_first):
                    m.d.sync += held.eq(~column[1])
            with m.If(needed):
                m.d.sync += ring.eq(ring + 1)
        unused = [_unused(m, 4, self.tile_done & f.requantise & (self.table_half == half),
                          self.i_table_free.valid & (self.i_table_free.half == half),
                          name=f"table_{half}") for half in (0, 1)]
        m.d.comb += free.eq(Array(unused)[self.table_half])

    def elaborate_orders(self, m, inner_last):
        c, f = self.config, self.i_fields
        bank_words = (c.bank // WORD - 1).bit_length()
        # An operand's own direction, of M for A, of N for B, settles with the macro-tile.
        move = {}
        for port, outer in (("a", ~f.columns_outer), ("b", f.columns_outer)):
            move[port] = Signal(2, name=f"{port}_move")
            m.d.sync += move[port].eq(Mux(
                outer, Mux(self.outer_first, Move.ZERO, Mux(self.inner_first, Move.NEXT, Move.SAME)),
                Mux(self.inner_first, Move.ZERO, Move.NEXT)))

        load = self.o_load.payload
        b, table, across = self.turn["b"], self.turn["table"], Signal()
        along = Mux(b, move["b"], move["a"])
        along = Mux(self.chunk_first | (along == Move.ZERO), along, Move.SAME)
        k_move = Mux(self.chunk_first, Move.ZERO, Move.NEXT)
        extent = Mux(b, self.columns, self.rows)
        m.d.comb += across.eq(Mux(b, f.b_across, f.a_across))
        with m.If(~self.o_load.valid | self.o_load.ready):
            m.d.sync += [
                load.target.eq(Mux(table, Target.TABLE, Mux(b, Target.B, Target.A))),
                load.rectangle.rows.eq(Mux(table, 1, Mux(across, self.depth, extent))),
                load.rectangle.bytes.eq(
                    Mux(table, self.columns << 4, Mux(across, extent, self.depth))),
                load.rectangle.row_move.eq(Mux(table, Move.ZERO, Mux(across, k_move, along))),
                load.rectangle.column_move.eq(Mux(table, move["b"], Mux(across, along, k_move))),
                load.panel.depth.eq(self.depth), load.panel.across.eq(across),
                load.panel.tiles.eq(Mux(b, self.tiles["b"], self.tiles["a"])),
                load.panel.last.eq(Mux(b, self.last["b"], self.last["a"])),
                load.panel.start.eq(Mux(b, self.bank["b"], self.bank["a"]) << bank_words),
                load.table_half.eq(self.table_half),
            ]
        run, store = self.o_run.payload, self.o_store.payload
        m.d.comb += [
            run.run.depth.eq(self.depth), run.run.a_tiles.eq(self.tiles["a"]),
            run.run.b_tiles.eq(self.tiles["b"]), run.run.c_half.eq(self.c_half),
            run.run.a_start.eq(self.bank["a"] << bank_words),
            run.run.b_start.eq(self.bank["b"] << bank_words),
            run.run.accumulate.eq(~self.chunk_first),
            run.loads.eq(self.loads), run.stores.eq(self.stores_before),
            store.rows.eq(self.rows), store.columns.eq(self.columns),
            store.a_tiles.eq(self.tiles["a"]), store.b_tiles.eq(self.tiles["b"]),
            store.a_last.eq(self.last["a"]), store.b_last.eq(self.last["b"]),
            store.c_half.eq(self.c_half), store.table_half.eq(self.table_half),
            store.row_move.eq(move["a"]), store.column_move.eq(move["b"]),
            store.sum_first.eq(self.inner_first), store.first.eq(self.first),
            store.last.eq(self.last_of_all), store.runs.eq(self.runs), store.loads.eq(self.loads),
        ]
        m.d.sync += store.emit.eq(f.sums & inner_last)
