"""Double buffers: nothing is loaded over what a run still reads, and the sequencer comes to rest."""

from amaranth.hdl import Mux, Signal

from backbeat_rtl.bookkeeping import RunQueue
from backbeat_rtl.sequencer import Sequencer

from .checker import Checker, any_of, held, past
from .solve import Fault, Property

__all__ = ["PROPERTIES"]

#: Runs that a half may have under way here.
RUNS = 8


def sequencer() -> Sequencer:
    """As small as one can be that has short tiles, and several of them."""
    return Sequencer(depth=16, tiles=4, period=3, settle=4)


class Halves(Checker):
    """A half counts as used from the run that wants it until that run has been fed (has ended).

    The run waits in the queue meanwhile, and reaches the sequencer as it was, once.
    """

    def build(self, m):
        m.submodules.dut = dut = RunQueue(sequencer().run)
        run = dut.i_run.as_value()
        m.d.comb += [
            run.eq(any_of(m, len(run), "run")), dut.i_accept.eq(any_of(m, 1, "accept")),
            dut.o_run.ready.eq(any_of(m, 1, "ready")),
            dut.i_fed.as_value().eq(any_of(m, 3, "fed")), dut.i_end.as_value().eq(any_of(m, 2, "end")),
        ]
        self.assume(m, dut.o_ready, when=dut.i_accept)
        # Only what has begun is fed, only what was fed ends.
        taken = dut.o_run.valid & dut.o_run.ready
        begun = [Signal(range(RUNS + 2), name=f"{name}_{half}_used")
                 for name in "abc" for half in (0, 1)]
        for number, used in enumerate(begun):
            name, half = "abc"[number // 2], number % 2
            if name == "c":
                wanted, over = dut.i_run.c_half, dut.i_end.valid & (dut.i_end.half == half)
            else:
                wanted = dut.i_run[f"{name}_start"][-1]
                over = dut.i_fed.valid & (dut.i_fed[f"{name}_half"] == half)
            m.d.sync += used.eq(used + (dut.i_accept & (wanted == half)) - over)
            self.assume(m, used != 0, when=over)
            flags = getattr(dut, f"o_users_{name}")
            self.claim(m, f"half {half} of {name.upper()} is used while a run of it is under way",
                       flags[half] == (used != 0))
            self.claim(m, f"half {half} of {name.upper()} counts all its runs", used <= RUNS)
        waiting = Signal()
        kept = Signal.like(run)
        with m.If(dut.i_accept):
            m.d.sync += [waiting.eq(1), kept.eq(run)]
        with m.Elif(taken):
            m.d.sync += waiting.eq(0)
        self.claim(m, "a run waits as it was accepted, once",
                   (dut.o_run.valid == waiting) & (~waiting | (dut.o_run.payload.as_value() == kept)))
        self.claim(m, "a run stays until it is taken", held(
            m, dut.o_run.valid, dut.o_run.ready, dut.o_run.payload.as_value(), "run"))
        self.claim(m, "no run is accepted while one waits", ~waiting, when=dut.i_accept)
        self.cover(m, "a half used by eight runs", begun[0] == RUNS)
        self.cover(m, "both halves of C in use", (begun[4] != 0) & (begun[5] != 0))


class Steps(Checker):
    """Every byte of every tile is read once and in order, and the sequencer is at rest in time.

    Reads, tiles and their slots beside a loop nest of the checker's own; of a run of any extent within
    8 steps and 2 by 2 tiles, from when it is accepted until the next one may be.
    """

    def build(self, m):
        m.submodules.dut = dut = sequencer()
        run = dut.i_run.payload
        bits = run.as_value()
        m.d.comb += [bits.eq(any_of(m, len(bits), "run")), dut.i_run.valid.eq(any_of(m, 1, "valid"))]
        self.assume(m, (run.depth != 0) & (run.depth <= dut.depth))
        self.assume(m, (run.a_tiles != 0) & (run.b_tiles != 0) & (run.a_tiles <= 2) & (run.b_tiles <= 2)
                    & (run.depth <= 8))
        self.assume(m, held(m, dut.i_run.valid, dut.i_run.ready, bits, "run"))
        # Reads come out a cycle late, so another run is accepted a cycle before the last one's last.
        taken = past(m, dut.i_run.valid & dut.i_run.ready, "taken")
        accepted = past(m, run, "accepted")
        now = Signal(run.shape())
        open_ = Signal()
        i = Signal(2)
        j = Signal(2)
        k = Signal(range(dut.depth + 1))
        age = Signal(8)
        a, b = dut.o_a, dut.o_b
        last_k = k + 1 == now.depth
        last_tile = (i + 1 == now.a_tiles) & (j + 1 == now.b_tiles)
        pitch = (now.depth + 7) >> 3

        def address(start, tile):
            words = (start + Mux(tile == 1, pitch, 0))[:len(start)]
            return (words << 3) + k

        self.claim(m, "both operands are read together", (a.valid == b.valid) & (a.first == b.first)
                   | ~a.valid & ~b.valid)
        self.claim(m, "reads are those of a run", open_, when=a.valid)
        for read, start, tile, name in (a, now.a_start, i, "A"), (b, now.b_start, j, "B"):
            self.claim(m, f"{name} is read at its tile's step",
                       read.address == address(start, tile)[:len(read.address)], when=read.valid)
        self.claim(m, "first and last mark a tile's first and last step",
                   (a.first == (k == 0)) & (dut.o_last == last_k), when=a.valid)
        self.claim(m, "nothing is last that is not read", a.valid, when=dut.o_last)
        slot = Mux(i[0] & (now.b_tiles == 2), 2, i[0]) + j
        self.claim(m, "sums go to the tile's accumulators",
                   (dut.o_tile.slot[:-1] == slot) & (dut.o_tile.slot[-1] == now.c_half)
                   & (dut.o_tile.half == now.c_half) & (dut.o_tile.accumulate == now.accumulate)
                   & (dut.o_tile.end == last_tile), when=dut.o_last)
        with m.If(a.valid):
            m.d.sync += k.eq(k + 1)
            with m.If(last_k):
                m.d.sync += [k.eq(0), j.eq(j + 1)]
                with m.If(j + 1 == now.b_tiles):
                    m.d.sync += [j.eq(0), i.eq(i + 1)]
                with m.If(last_tile):
                    m.d.sync += open_.eq(0)
        with m.If(taken):
            m.d.sync += [now.eq(accepted), i.eq(0), j.eq(0), k.eq(0), open_.eq(1), age.eq(0)]
        with m.Else():
            m.d.sync += age.eq(age + open_)
        # Four tiles of the longest, and what the first waits.
        most = 4 * 8 + dut.settle + 2
        self.claim(m, "all of a run is read in time", age <= most, when=open_)
        self.claim(m, "at rest when all is read", ~dut.o_busy, when=~open_ & ~taken)
        self.cover(m, "a run of two tiles ends and the next begins", taken & open_ & (now.b_tiles == 2)
                   & (now.a_tiles == 2) & (now.depth == 2))


PROPERTIES = [
    Property("buffers.halves", "A half is in use exactly while a run of it is under way", "RunQueue", "",
             Halves, "pdr", 20, covered=20, faults=(
                 Fault("users of B's halves are A's", "bookkeeping",
                       r"\(self\.i_run\.b_start\[-1\], ", "(self.i_run.a_start[-1], "),
                 Fault("no room kept for the eighth", "bookkeeping", r"full\.append\(users\[3\]\)",
                       "full.append(users[2] & users[3])", cheap=True),
             )),
    Property("sequencer", "Reads each byte of each tile once, in order, and is at rest in time",
             "Sequencer", "depth=16, tiles=4, period=3, settle=4", Steps, "pdr", 60, covered=60, faults=(
                 Fault("a tile begins where the one before ended", "sequencer",
                       r"b_base\.eq\(run\.b_start\)", "b_base.eq(b_base)", cheap=True),
                 Fault("never at rest", "sequencer", r"busy\.eq\(self\.i_run\.valid & seen\)",
                       "busy.eq(1)"),
             )),
]
