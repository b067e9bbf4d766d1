"""The loop nest of a product: which panels are loaded, multiplied and stored, in which order."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD, Config
from .gather import Move, Rectangle
from .load_addresses import Target

__all__ = ["LoopNest"]


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
            "o_idle":       Out(1),
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
        # Where we are. First and last of the outer, the inner and the chunk loop.
        self.m_left, self.n_left, self.k_left = Signal(24), Signal(24), Signal(17)
        self.outer_first, self.inner_first, self.chunk_first = Signal(), Signal(), Signal()
        self.rows, self.columns, self.depth = Signal(16), Signal(16), Signal(16)
        self.deepest, self.words = Signal(16), Signal(range(2**16 // WORD + 1))
        self.c_half, self.table_half = Signal(), Signal()
        self.loads, self.runs, self.stores = Signal(8), Signal(8), Signal(8)
        m_last, n_last, k_ends = Signal(), Signal(), Signal()
        self.n_last, k_last, inner_last, outer_last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            m_last.eq(self.m_left <= f.a_panel), n_last.eq(self.n_left <= f.b_panel),
            k_ends.eq((self.k_left <= f.chunk) | (self.k_left <= f.last_chunk)),
        ]
        # What follows from where we are settles while tiles are counted and in the state CHUNK.
        m.d.sync += [
            self.n_last.eq(n_last), k_last.eq(k_ends), self.depth.eq(Mux(k_ends, self.k_left, f.chunk)),
            inner_last.eq(Mux(f.columns_outer, m_last, n_last)),
            outer_last.eq(Mux(f.columns_outer, n_last, m_last)),
            # Of the longest chunk there may be.
            self.deepest.eq(Mux(f.last_chunk > f.chunk, f.last_chunk, f.chunk)),
            self.words.eq((Mux(self.k_left <= self.deepest, self.k_left, self.deepest)[:16]
                           + WORD - 1) >> 3),
        ]
        self.elaborate_tiles(m)
        self.elaborate_banks(m, k_last)
        self.elaborate_table(m)
        self.elaborate_orders(m, inner_last, outer_last)

        sent = self.o_load.valid & self.o_load.ready
        m.d.sync += self.loads.eq(self.loads + sent)
        new_tile = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.o_idle.eq(1)
                m.d.sync += [self.m_left.eq(f.m), self.n_left.eq(f.n), self.outer_first.eq(1),
                             self.inner_first.eq(1)]
                with m.If(self.i_begin):
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.comb += self.count.eq(1)
                m.d.sync += [
                    self.rows.eq(Mux(m_last, self.m_left, f.a_panel)),
                    self.columns.eq(Mux(n_last, self.n_left, f.b_panel)),
                    self.k_left.eq(f.k), self.chunk_first.eq(1),
                ]
                m.next = "COUNT"
            with m.State("COUNT"):
                with m.If(self.misfit & self.outer_first & self.inner_first):
                    m.d.comb += self.o_misfit.eq(1)
                    m.next = "IDLE"
                with m.Elif(self.counted):
                    m.d.comb += self.take_base.eq(1)
                    m.next = "CHUNK"
            with m.State("CHUNK"):
                m.next = "A"
            for port, after in (("a", "B"), ("b", "RUN")):
                with m.State(port.upper()):
                    needed, free = self.needed[port], self.free[port]
                    m.d.comb += [self.o_load.valid.eq(needed & free),
                                 self.o_load.payload.eq(self.panel_load[port])]
                    with m.If(~needed | sent):
                        m.next = after
            with m.State("RUN"):
                m.d.comb += self.o_run.valid.eq(self.room_for_run)
                with m.If(self.o_run.valid & self.o_run.ready):
                    m.d.comb += self.ran.eq(1)
                    m.d.sync += [self.runs.eq(self.runs + 1), self.chunk_first.eq(0),
                                 self.k_left.eq(self.k_left - self.depth)]
                    with m.If(k_last):
                        m.next = "TABLE"
                    with m.Else():
                        m.next = "CHUNK"
            with m.State("TABLE"):
                m.d.comb += [self.o_load.valid.eq(self.table_needed & self.table_free),
                             self.o_load.payload.eq(self.table_load)]
                with m.If(~self.table_needed | sent):
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += self.o_store.valid.eq(1)
                with m.If(self.o_store.ready):
                    m.d.comb += new_tile.eq(1)
                    m.d.sync += [self.stores.eq(self.stores + 1), self.c_half.eq(~self.c_half)]
                    m.next = "SIZE"
                    with m.If(inner_last & outer_last):
                        m.d.comb += self.o_done.eq(1)
                        m.next = "IDLE"
        m.d.comb += self.tile_done.eq(new_tile)
        with m.If(new_tile):
            m.d.sync += self.inner_first.eq(inner_last)
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

    def elaborate_tiles(self, m):
        """Tiles of the macro-tile's rows and columns, by subtraction; whether all fits."""
        c = self.config
        self.count, self.counted, self.misfit = Signal(), Signal(), Signal()
        self.tile_done = Signal()
        begun = Signal()
        self.tiles, self.last = {}, {}
        for port, lanes, extent in (("a", c.rows, self.rows), ("b", c.columns, self.columns)):
            tiles = self.tiles[port] = Signal(range(c.tiles + 2), name=f"{port}_tiles")
            last = self.last[port] = Signal(16, name=f"{port}_last")
            with m.If(self.count):
                m.d.sync += tiles.eq(1)
            with m.Elif(begun):
                m.d.sync += last.eq(extent)
            with m.Elif((last > lanes) & (tiles <= c.tiles)):
                m.d.sync += [last.eq(last - lanes), tiles.eq(tiles + 1)]
        m.d.sync += begun.eq(self.count)
        a_tiles, b_tiles = self.tiles["a"], self.tiles["b"]
        small = [self.last[port] <= lanes for port, lanes in (("a", c.rows), ("b", c.columns))]
        many = (a_tiles > c.tiles) | (b_tiles > c.tiles)
        settled = ~self.count & ~begun

        bank_words = c.bank // WORD
        most_words = Array([0] + [bank_words // n for n in range(1, c.tiles + 1)])
        most_tiles = Array([0] + [c.tiles // n for n in range(1, c.tiles + 1)])
        words = self.words
        index = len(Const(c.tiles))
        # In steps: what the tables say of the tiles counted; how that compares. Later macro-tiles are no
        # larger than the first.
        reached, most_a, most_b = Signal(), Signal(len(words)), Signal(len(words))
        most_beside, compared, over = Signal(len(b_tiles)), Signal(), Signal()
        m.d.sync += [
            most_a.eq(most_words[a_tiles[:index]]), most_b.eq(most_words[b_tiles[:index]]),
            most_beside.eq(most_tiles[a_tiles[:index]]), reached.eq(settled & small[0] & small[1]),
            over.eq((words > most_a) | (words > most_b) | (b_tiles > most_beside)),
            compared.eq(reached & ~self.count),
            self.misfit.eq(settled & (many | compared & over)),
            self.counted.eq(settled & small[0] & small[1]
                            & (compared | ~(self.outer_first & self.inner_first))),
        ]

    def elaborate_banks(self, m, k_last):
        """Which bank a chunk is in or comes into, and whether it has to be loaded."""
        c, f = self.config, self.i_fields
        self.take_base, self.ran, self.room_for_run = Signal(), Signal(), Signal()
        self.needed, self.free, self.bank, self.panel_load = {}, {}, {}, {}
        bank = range(c.banks)

        # Chunks of a panel, and of all panels of the inner operand; beyond the banks it is the same.
        chunk, step = Signal(range(c.banks + 2)), Signal(range(c.banks + 2))
        held_outer, held_inner = Signal(), Signal()
        step_end = Signal.like(step)
        m.d.comb += step_end.eq(Mux(step == c.banks + 1, step, step + 1))
        with m.If(self.take_base):
            m.d.sync += chunk.eq(0)
            with m.If(self.inner_first):
                m.d.sync += step.eq(0)
        with m.If(self.ran):
            m.d.sync += [chunk.eq(Mux(chunk == c.banks + 1, chunk, chunk + 1)), step.eq(step_end)]
            with m.If(k_last):
                m.d.sync += held_outer.eq(chunk < c.banks)
                with m.If(self.outer_first):
                    m.d.sync += held_inner.eq(step < c.banks)

        # Counted a cycle late: nobody asks before the next chunk's bank is known, and that is later.
        begun, rooms = Signal(), []
        m.d.sync += begun.eq(self.ran)
        for port, outer in (("a", ~f.columns_outer), ("b", f.columns_outer)):
            ring, base = Signal(bank, name=f"{port}_ring"), Signal(bank, name=f"{port}_base")
            needed = self.needed[port] = Signal(name=f"{port}_needed")
            at = self.bank[port] = Signal(bank, name=f"{port}_bank")
            wanted = Mux(outer, self.inner_first | ~held_outer, self.outer_first | ~held_inner)
            m.d.sync += [needed.eq(wanted), at.eq(Mux(wanted, ring, base + Mux(outer, chunk, step)))]
            with m.If(self.take_base & self.inner_first & (outer | self.outer_first)):
                m.d.sync += base.eq(ring)
            with m.If(self.ran & needed):
                m.d.sync += ring.eq(ring + 1)

            # Runs that are to come or under way, per bank.
            users = [Signal(5, name=f"{port}_users_{n}") for n in bank]
            unused = [Signal(name=f"{port}_unused_{n}", init=1) for n in bank]
            fed = self.i_fed[f"{port}_bank"]
            for n in bank:
                after = (users[n] + (begun & (at == n)) - (self.i_fed.valid & (fed == n)))[:5]
                m.d.sync += [users[n].eq(after), unused[n].eq(after == 0)]
            free = self.free[port] = Signal(name=f"{port}_free")
            m.d.comb += free.eq(Array(unused)[at])
            rooms.append(~Array(users)[at][-1])
        m.d.comb += self.room_for_run.eq(rooms[0] & rooms[1])

    def elaborate_table(self, m):
        """Which half of the epilogue's table holds the columns."""
        f = self.i_fields
        self.table_needed, self.table_free, self.table_load = Signal(), Signal(), Signal(
            self.o_load.payload.shape())
        ring, base, column = Signal(), Signal(), Signal(2)
        held = Signal()         # all column panels fit the two halves
        users = [Signal(4, name=f"table_users_{half}") for half in (0, 1)]
        first = self.outer_first & self.inner_first
        wanted = f.requantise & Mux(f.columns_outer, self.inner_first, self.outer_first | ~held)
        m.d.sync += [
            self.table_needed.eq(wanted),
            self.table_half.eq(Mux(wanted, ring, Mux(f.columns_outer, ~ring, base + column[0]))),
        ]
        m.d.comb += self.table_free.eq(Array(users)[self.table_half] == 0)
        with m.If(self.take_base & first):
            m.d.sync += base.eq(ring)
        with m.If(self.tile_done):
            m.d.sync += column.eq(Mux(column[1], column, column + 1))
            with m.If(self.n_last):
                m.d.sync += column.eq(0)
                with m.If(self.outer_first):
                    m.d.sync += held.eq(~column[1])
            with m.If(self.table_needed):
                m.d.sync += ring.eq(ring + 1)
        for half in (0, 1):
            m.d.sync += users[half].eq(
                users[half] + (self.tile_done & f.requantise & (self.table_half == half))
                - (self.i_table_free.valid & (self.i_table_free.half == half)))

    def elaborate_orders(self, m, inner_last, outer_last):
        c, f = self.config, self.i_fields
        bank_words = (c.bank // WORD - 1).bit_length()

        def along(outer, at_chunk=True):
            """The move of an operand's own direction: of M for A, of N for B."""
            first = self.chunk_first if at_chunk else 1
            return Mux(outer,
                       Mux(self.outer_first, Move.ZERO,
                           Mux(self.inner_first & first, Move.NEXT, Move.SAME)),
                       Mux(self.inner_first, Move.ZERO, Mux(first, Move.NEXT, Move.SAME)))

        k_move = Mux(self.chunk_first, Move.ZERO, Move.NEXT)
        for port, target, extent, outer in (
                ("a", Target.A, self.rows, ~f.columns_outer),
                ("b", Target.B, self.columns, f.columns_outer)):
            load = self.panel_load[port] = Signal(self.o_load.payload.shape(), name=f"{port}_load")
            across, move = f[f"{port}_across"], along(outer)
            m.d.comb += [
                load.target.eq(target),
                load.rectangle.rows.eq(Mux(across, self.depth, extent)),
                load.rectangle.bytes.eq(Mux(across, extent, self.depth)),
                load.rectangle.row_move.eq(Mux(across, k_move, move)),
                load.rectangle.column_move.eq(Mux(across, move, k_move)),
                load.panel.depth.eq(self.depth), load.panel.tiles.eq(self.tiles[port]),
                load.panel.last.eq(self.last[port]), load.panel.across.eq(across),
                load.panel.start.eq(self.bank[port] << bank_words),
            ]
        m.d.comb += [
            self.table_load.target.eq(Target.TABLE), self.table_load.rectangle.rows.eq(1),
            self.table_load.rectangle.bytes.eq(self.columns << 4),
            self.table_load.rectangle.row_move.eq(Move.ZERO),
            self.table_load.rectangle.column_move.eq(along(f.columns_outer, at_chunk=False)),
            self.table_load.table_half.eq(self.table_half),
        ]
        run, store = self.o_run.payload, self.o_store.payload
        m.d.comb += [
            run.run.depth.eq(self.depth), run.run.a_tiles.eq(self.tiles["a"]),
            run.run.b_tiles.eq(self.tiles["b"]), run.run.c_half.eq(self.c_half),
            run.run.a_start.eq(self.bank["a"] << bank_words),
            run.run.b_start.eq(self.bank["b"] << bank_words),
            run.run.accumulate.eq(~self.chunk_first),
            run.loads.eq(self.loads), run.stores.eq(self.stores - 1),
            store.rows.eq(self.rows), store.columns.eq(self.columns),
            store.a_tiles.eq(self.tiles["a"]), store.b_tiles.eq(self.tiles["b"]),
            store.a_last.eq(self.last["a"]), store.b_last.eq(self.last["b"]),
            store.c_half.eq(self.c_half), store.table_half.eq(self.table_half),
            store.row_move.eq(along(~f.columns_outer, at_chunk=False)),
            store.column_move.eq(along(f.columns_outer, at_chunk=False)),
            store.sum_first.eq(self.inner_first), store.emit.eq(f.sums & inner_last),
            store.first.eq(self.outer_first & self.inner_first),
            store.last.eq(inner_last & outer_last),
            store.runs.eq(self.runs), store.loads.eq(self.loads),
        ]
