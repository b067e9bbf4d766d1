"""What the halves of the buffers hold, and who still uses them."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PanelBook", "RunQueue"]

_FIELDS = ("depth", "tiles", "last")


class PanelBook(wiring.Component):
    """Remembers the panel in each half of one scratchpad.

    A panel counts as complete from its last word on; one that is given up before is none.

    Parameters
    ----------
    panel : Layout
        {depth, tiles, last, start, ...} of the loader; the half is the top bit of ``start``.

    Members
    -------
    i_start : bit, i_panel
        A panel begins.
    i_loading : bit
        Words of the panel begun last are missing.
    i_forget : bit
        Both halves hold nothing from now on.
    i_half : bit
    o_held : {depth, tiles, last}, o_complete
        What that half holds; at once.
    """

    def __init__(self, panel):
        self.held = data.StructLayout({f: panel[f].shape for f in _FIELDS})
        super().__init__({
            "i_start":    In(1),
            "i_panel":    In(panel),
            "i_loading":  In(1),
            "i_forget":   In(1),
            "i_half":     In(1),
            "o_held":     Out(self.held),
            "o_complete": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        held = [Signal(self.held, name=f"held_{half}") for half in (0, 1)]
        started, loading_half = Signal(2), Signal()
        half_begun = self.i_panel.start[-1]
        with m.If(self.i_forget):
            m.d.sync += started.eq(0)
        with m.Elif(self.i_start):
            m.d.sync += loading_half.eq(half_begun)
            with m.If(self.i_loading):
                m.d.sync += started.bit_select(loading_half, 1).eq(0)
            m.d.sync += started.bit_select(half_begun, 1).eq(1)
            for half in (0, 1):
                with m.If(half_begun == half):
                    m.d.sync += [held[half][f].eq(self.i_panel[f]) for f in _FIELDS]
        m.d.comb += [
            self.o_held.eq(Array(held)[self.i_half]),
            self.o_complete.eq(started.bit_select(self.i_half, 1)
                               & ~(self.i_loading & (loading_half == self.i_half))),
        ]
        return m


class RunQueue(wiring.Component):
    """Holds the run that waits for the sequencer, and counts the runs that use each half.

    Short runs are in the array several at a time, hence counters: up when a run is accepted, down
    when its last read (scratchpads) or its last sum (accumulators) has passed.

    Parameters
    ----------
    run : Layout
        {..., a_start, b_start, c_half} of the sequencer; the half is the top bit of the start.

    Members
    -------
    i_accept : bit, i_run
        A run begins to wait; only with ``o_ready``.
    o_run : stream
        To the sequencer.
    i_fed : {valid, a_half, b_half}; i_end : {valid, half}
        From the datapath.
    o_ready : bit
        There is room for a run; a cycle late when a half has fewer users again.
    o_users_a, o_users_b, o_users_c : bit[2]
        Some run uses that half.
    """

    def __init__(self, run):
        super().__init__({
            "i_accept":  In(1),
            "i_run":     In(run),
            "o_run":     Out(stream.Signature(run)),
            "i_fed":     In(data.StructLayout({"valid": 1, "a_half": 1, "b_half": 1})),
            "i_end":     In(data.StructLayout({"valid": 1, "half": 1})),
            "o_ready":   Out(1, init=1),
            "o_users_a": Out(2),
            "o_users_b": Out(2),
            "o_users_c": Out(2),
        })

    def elaborate(self, _platform):
        m = Module()
        with m.If(self.i_accept):
            m.d.sync += [self.o_run.valid.eq(1), self.o_run.payload.eq(self.i_run)]
        with m.Elif(self.o_run.ready):
            m.d.sync += self.o_run.valid.eq(0)

        full = []
        for begun, ended, ended_half, flags in (
                (self.i_run.a_start[-1], self.i_fed.valid, self.i_fed.a_half, self.o_users_a),
                (self.i_run.b_start[-1], self.i_fed.valid, self.i_fed.b_half, self.o_users_b),
                (self.i_run.c_half, self.i_end.valid, self.i_end.half, self.o_users_c)):
            for half in (0, 1):
                users, more, fewer = (Signal(width, name=f"{name}_{len(full)}") for name, width in (
                    ("users", 4), ("more", 1), ("fewer", 1)))
                m.d.comb += [more.eq(self.i_accept & (begun == half)),
                             fewer.eq(ended & (ended_half == half))]
                # Up and down bit by bit, as a carry would take longer than four bits take to look at.
                flips = (Mux(more, users[:n].all(), ~users[:n].any()) for n in range(len(users)))
                with m.If(more != fewer):
                    m.d.sync += users.eq(users ^ Cat(flips))
                m.d.sync += flags[half].eq(more | users[1:].any() | (users[0] & ~fewer))
                full.append(users[3])
        # Not ready after a run is accepted, so the counts may be a cycle old.
        waits = self.o_run.valid & ~self.o_run.ready
        m.d.sync += self.o_ready.eq(~(self.i_accept | waits | Cat(full).any()))
        return m
