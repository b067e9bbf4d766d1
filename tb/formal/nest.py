"""The loop nest: no bank is loaded while a run still needs it, or before one has read it."""

from amaranth.hdl import Array, Signal

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.datapath import Datapath
from backbeat_rtl.joiner import Beat
from backbeat_rtl.load_addresses import Target
from backbeat_rtl.memory_engine import MemoryEngine
from backbeat_rtl.readout import Readout

from .checker import Checker, any_of, fixed, held
from .solve import Fault, Property

__all__ = ["PROPERTIES"]

SMALL = Config(rows=2, columns=2, depth=16, tiles=2)
#: Extent of the products: several macro-tiles and chunks, and more chunks than there are banks.
EXTENT, DEPTH = 5, 40


class Banks(Checker):
    """Of either operand any one bank: loads of it, runs that read it, and when they have.

    Products of any orientation, loop order and plan within ``EXTENT`` and ``DEPTH``, one after the
    other. Runs are fed in any order and at any time after they have been handed out.
    """

    def build(self, m):
        c = SMALL
        datapath, readout = Datapath(c), Readout(c)
        dut = MemoryEngine(c, panel=datapath.panel, run=datapath.sequencer.run, start=readout.start,
                           table=readout.i_table.shape(), beat=Beat).nest
        m.submodules.dut = dut
        fields = dut.i_fields
        for name in dut.FIELDS:
            bits = {"m": 3, "n": 3, "k": 6, "chunk": 6, "last_chunk": 6}.get(name, 3)
            m.d.comb += fields[name].eq(fixed(m, min(bits, len(fields[name])), name))
        self.assume(m, (fields.m != 0) & (fields.n != 0) & (fields.k != 0) & (fields.m <= EXTENT)
                    & (fields.n <= EXTENT) & (fields.k <= DEPTH) & (fields.a_panel != 0)
                    & (fields.b_panel != 0) & (fields.chunk != 0) & (fields.chunk[:3] == 0)
                    & (fields.chunk <= 16))
        load, run = dut.o_load, dut.o_run
        m.d.comb += [
            dut.i_begin.eq(any_of(m, 1, "begin")), load.ready.eq(any_of(m, 1, "load_ready")),
            run.ready.eq(any_of(m, 1, "run_ready")), dut.o_store.ready.eq(any_of(m, 1, "store_ready")),
            dut.i_fed.as_value().eq(any_of(m, len(dut.i_fed.as_value()), "fed")),
            dut.i_table_free.as_value().eq(any_of(m, 2, "table_free")),
        ]
        loaded, ran = load.valid & load.ready, run.valid & run.ready
        words = c.bank // WORD
        stored = dut.o_store.valid & dut.o_store.ready & fields.requantise
        for half in (0, 1):
            users = Signal(4, name=f"table_users_{half}")
            freed = dut.i_table_free.valid & (dut.i_table_free.half == half)
            m.d.sync += users.eq(users + (stored & (dut.o_store.payload.table_half == half)) - freed)
            self.assume(m, users != 0, when=freed)
        for name, target in (("a", Target.A), ("b", Target.B)):
            bank = fixed(m, range(c.banks), f"{name}_bank")
            here = loaded & (load.payload.target == target) & (
                load.payload.panel.start == bank * words)
            read = ran & (run.payload.run[f"{name}_start"] == bank * words)
            # Only what has been handed out is fed, of whatever bank.
            every = [Signal(5, name=f"{name}_users_{n}") for n in range(c.banks)]
            for n, users in enumerate(every):
                start, over = run.payload.run[f"{name}_start"], dut.i_fed[f"{name}_bank"]
                is_fed = dut.i_fed.valid & (over == n)
                m.d.sync += users.eq(users + (ran & (start == n * words)) - is_fed)
                self.assume(m, users != 0, when=is_fed)
            holds = Signal(name=f"{name}_holds")
            read_since = Signal(name=f"{name}_read_since")
            with m.If(here):
                m.d.sync += [holds.eq(1), read_since.eq(0)]
            with m.Elif(read):
                m.d.sync += read_since.eq(1)
            self.claim(m, f"no bank of {name.upper()} is loaded while a run needs it",
                       Array(every)[bank] == 0, when=here)
            self.claim(m, f"no run reads a bank of {name.upper()} that was never loaded", holds,
                       when=read)
            self.claim(m, f"no panel of {name.upper()} is loaded over before a run has read it",
                       read_since | ~holds, when=here)
            self.cover(m, f"a bank of {name.upper()} is loaded again", here & holds)
        for stream, name in ((load, "load"), (run, "run")):
            self.claim(m, f"a {name} stays until it is taken", held(
                m, stream.valid, stream.ready, stream.payload.as_value(), name))


PROPERTIES = [
    Property("nest.banks", "No bank is loaded while a run needs it, nor before what it held was read",
             "LoopNest", f"2x2, depth=16, M, N <= {EXTENT}, K <= {DEPTH}", Banks, "bmc", 30, covered=35,
             faults=(
                 Fault("free while one run needs it", "loop_nest",
                       r"fewer & \(users\[1:\] == 0\)", "users[1:] == 0"),
             )),
]
