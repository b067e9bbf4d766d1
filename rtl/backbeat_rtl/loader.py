"""Where each operand word of a panel goes."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD
from .scratchpad import lane_write

__all__ = ["Loader"]


class Loader(wiring.Component):
    """Counts the words of a panel into the lanes, in the order in which the matrix lies in memory.

    A panel is ``tiles`` tiles of ``lanes`` rows (columns of the array for B), the last one of
    ``last`` lanes only, each ``depth`` bytes of K. Tile t starts at word
    ``start`` + t * ceil(depth / 8) of every lane.

    Along K: lane after lane, ``ceil(depth / 8)`` words each. Across lanes: K step after K step,
    and in each, tile after tile, ``ceil(lanes / 8)`` words each (``ceil(last / 8)`` in the last).

    Model: :func:`backbeat_rtl.core_model.panel_words`. One word per cycle, latency 1 cycle.

    Parameters
    ----------
    lanes : int
        Rows (columns) of the array.
    depth, tiles : int
        Capacity of a half: bytes per lane, and tiles of a panel.

    Members
    -------
    i_start : bit
        Takes ``i_panel``; the next word is the panel's first.
    i_panel : {depth, tiles, last, start, across}
        Within capacity (the caller checks).
    i_word : bit
        A word of the panel is being written.
    o_write : lane_write
        Where it goes, a cycle later.
    o_across : bit
        Orientation of the panel.
    o_active : bit
        Words are still missing.
    """

    def __init__(self, *, lanes: int, depth: int, tiles: int):
        self.lanes = lanes
        self.panel = data.StructLayout({
            "depth": range(depth + 1), "tiles": range(tiles + 1), "last": range(lanes + 1),
            "start": range(2 * depth // WORD), "across": 1,
        })
        self.words = depth // WORD
        super().__init__({
            "i_start":  In(1),
            "i_panel":  In(self.panel),
            "i_word":   In(1),
            "o_write":  Out(lane_write(lanes, 2 * self.words)),
            "o_across": Out(1),
            "o_active": Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        panel = Signal(self.panel)
        groups = -(-self.lanes // WORD)
        tile_words = Signal(range(self.words + 1))  # ceil(depth / 8)
        word = Signal(range(self.words))            # along K, counted in words ...
        byte = Signal(range(WORD))                  # ... and, across lanes, the byte in it
        lane = Signal(range(self.lanes))            # lane along K
        group = Signal(range(max(groups, 2)))               # group of eight lanes across
        tile = Signal(self.panel["tiles"].shape)
        base = Signal(range(2 * self.words))        # word at which the tile starts

        last_tile = tile == panel.tiles - 1
        last_lane = Mux(last_tile, panel.last, self.lanes) - 1
        next_tile, next_step = Signal(), Signal()
        k_done = Mux(panel.across, Cat(byte, word) == panel.depth - 1, word == tile_words - 1)

        m.d.comb += self.o_across.eq(panel.across)
        with m.If(self.i_start):
            m.d.sync += [
                panel.eq(self.i_panel), tile_words.eq((self.i_panel.depth + WORD - 1) >> 3),
                word.eq(0), byte.eq(0), lane.eq(0), group.eq(0), tile.eq(0),
                base.eq(self.i_panel.start),
                self.o_active.eq(1),
            ]
        with m.Elif(self.i_word):
            with m.If(panel.across):
                m.d.sync += group.eq(group + 1)
                m.d.comb += next_tile.eq(group == last_lane[3:])
                with m.If(next_tile):
                    m.d.sync += group.eq(0)
                    m.d.comb += next_step.eq(last_tile)
                with m.If(next_step):
                    m.d.sync += Cat(byte, word).eq(Cat(byte, word) + 1)
                    m.d.sync += self.o_active.eq(~k_done)
            with m.Else():
                m.d.sync += word.eq(word + 1)
                m.d.comb += next_tile.eq(k_done & (lane == last_lane))
                with m.If(k_done):
                    m.d.sync += [word.eq(0), lane.eq(lane + 1)]
                with m.If(next_tile):
                    m.d.sync += [lane.eq(0), self.o_active.eq(~last_tile)]
            with m.If(next_tile):
                m.d.sync += [tile.eq(tile + 1), base.eq(base + tile_words)]
            with m.If(next_step):
                m.d.sync += [tile.eq(0), base.eq(panel.start)]

        write = self.o_write
        m.d.sync += [
            write.word.eq((base + word)[:len(base)]),
            write.bytes.eq(Mux(panel.across, 1 << byte, (1 << WORD) - 1)),
            write.lanes.eq(0),
        ]
        with m.If(self.i_word & panel.across):
            m.d.sync += write.lanes.eq(((1 << WORD) - 1) << (group << 3))
        with m.Elif(self.i_word):
            m.d.sync += write.lanes.eq(1 << lane)
        return m
