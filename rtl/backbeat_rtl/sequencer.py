"""Runs panels through the array: which operand byte is read in which cycle, and where sums go."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Feeds every tile of ``A panel @ B panel``, one step of K per cycle, tile after tile.

    Row tiles are the outer loop, column tiles the inner one; the accumulator slot counts them. A
    tile takes max(depth, ``period``) cycles, at least two, as its end is found a cycle before it; the
    first one of a run at least ``settle``, so that it may accumulate onto the run before. A short tile
    waits before its first step, not behind its last, so the last steps of any two tiles are far enough
    apart, of whatever depth they are. No cycle is lost between tiles, nor between runs if the next one
    is waiting.

    A run is accepted a cycle after it has come at the earliest: it comes from afar, so its extent is
    looked at in registers of this place. Latency 2 cycles from an accepted run to its first read, plus
    the wait of a short tile.

    Parameters
    ----------
    depth, tiles : int
        Capacity of a half: bytes per lane, accumulator tiles.
    period : int
        Cycles that the array needs to drain a tile: its row pairs.
    settle : int
        Cycles that an accumulator needs between two updates.

    Members
    -------
    i_run : stream of {depth, a_tiles, b_tiles, a_start, b_start, c_half, accumulate}
        The product of two loaded panels, which start at those words of the lanes. ``ready`` only for
        what has come.
    o_a, o_b : {valid, first, address}
        Scratchpad reads.
    o_last : bit
        Beside the last step of a tile.
    o_tile : {slot, accumulate, end, half}
        Which accumulators the current tile goes to; ``end``: it is the run's last.
    o_busy, o_feeding : bit
        A run is in progress; a step is being fed (performance counters).
    """

    def __init__(self, *, depth: int, tiles: int, period: int, settle: int):
        self.depth, self.tiles = depth, tiles
        self.period, self.settle = max(period, 2), max(period, settle, 2)
        self.run = data.StructLayout({
            "depth": range(depth + 1), "a_tiles": range(tiles + 1), "b_tiles": range(tiles + 1),
            "a_start": range(2 * depth // WORD), "b_start": range(2 * depth // WORD),
            "c_half": 1, "accumulate": 1,
        })
        read = data.StructLayout({"valid": 1, "first": 1, "address": range(2 * depth)})
        super().__init__({
            "i_run":     In(stream.Signature(self.run)),
            "o_a":       Out(read),
            "o_b":       Out(read),
            "o_last":    Out(1),
            "o_tile":    Out(data.StructLayout(
                {"slot": range(2 * tiles), "accumulate": 1, "end": 1, "half": 1})),
            "o_busy":    Out(1),
            "o_feeding": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        run = Signal(self.run)
        busy = self.o_busy
        k = Signal(range(-self.settle, self.depth + 1))         # negative while a short tile waits
        wait = Signal(range(-self.period, 1))                   # where k starts
        i, j = Signal(range(self.tiles)), Signal(range(self.tiles))
        slot = Signal(range(self.tiles))
        words = self.depth // WORD
        pitch = Signal(range(words + 1))                        # words of a tile in a lane
        a_base, b_base = Signal(range(2 * words)), Signal(range(2 * words))

        # Less one; of K less two.
        last_i, last_j, before_last_k = Signal.like(i), Signal.like(j), Signal(range(-1, self.depth))

        # Known in time, as a tile takes several cycles.
        row_end, last_tile, tile_end, run_end = Signal(), Signal(), Signal(), Signal()
        at_row_end, at_last_tile = j == last_j, (j == last_j) & (i == last_i)
        m.d.sync += [row_end.eq(at_row_end), last_tile.eq(at_last_tile),
                     tile_end.eq(busy & (k == before_last_k))]
        # Stays as it is until it is accepted. A run takes longer than the next one needs to come here.
        coming, seen, free = Signal(self.run, reset_less=True), Signal(), Signal()
        m.d.sync += [coming.eq(self.i_run.payload), seen.eq(self.i_run.valid & ~self.i_run.ready)]
        m.d.comb += [run_end.eq(tile_end & last_tile), free.eq(~busy | run_end),
                     self.i_run.ready.eq(seen & free)]

        with m.If(busy):
            m.d.sync += k.eq(k + 1)
            with m.If(tile_end):
                m.d.sync += [k.eq(wait), slot.eq(slot + 1), j.eq(j + 1), b_base.eq(b_base + pitch)]
                with m.If(row_end):
                    m.d.sync += [j.eq(0), b_base.eq(run.b_start), i.eq(i + 1), a_base.eq(a_base + pitch)]
        with m.If(free):
            depth = coming.depth
            m.d.sync += [
                busy.eq(self.i_run.valid & seen), run.eq(coming),
                before_last_k.eq(depth - 2), last_i.eq(coming.a_tiles - 1),
                last_j.eq(coming.b_tiles - 1), pitch.eq((depth + WORD - 1) >> 3),
                k.eq(Mux(depth < self.settle, depth - self.settle, 0)),
                wait.eq(Mux(depth < self.period, depth - self.period, 0)),
                i.eq(0), j.eq(0), slot.eq(0), a_base.eq(coming.a_start), b_base.eq(coming.b_start),
            ]

        feeding = busy & (k >= 0)
        m.d.sync += [
            self.o_feeding.eq(feeding),
            self.o_last.eq(busy & tile_end),
            self.o_tile.slot.eq(Cat(slot, run.c_half)),
            self.o_tile.accumulate.eq(run.accumulate),
            self.o_tile.end.eq(at_last_tile),
            self.o_tile.half.eq(run.c_half),
        ]
        for o_read, base in (self.o_a, a_base), (self.o_b, b_base):
            m.d.sync += [
                o_read.valid.eq(feeding),
                o_read.first.eq(k == 0),
                o_read.address.eq(Cat(k[:3], (base + (k >> 3))[:len(base)])),
            ]
        return m
