"""Where each operand word of a panel goes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
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
    o_last : bit
        The next word is the last one.
    """

    def __init__(self, *, lanes: int, depth: int, tiles: int):
        self.lanes = lanes
        self.panel = data.StructLayout({
            "depth": range(depth + 1), "tiles": range(tiles + 1), "last": range(lanes + 1),
            "start": range(2 * depth // WORD), "across": 1,
        })
        self.words, self.tiles = depth // WORD, tiles
        super().__init__({
            "i_start":  In(1),
            "i_panel":  In(self.panel),
            "i_word":   In(1),
            "o_write":  Out(lane_write(lanes, 2 * self.words)),
            "o_across": Out(1),
            "o_active": Out(1),
            "o_last":   Out(1),
        })

    def elaborate(self, _platform):
        m = Module()
        # What is left, less one, and whether that is zero, known in time: whoever sends words asks for
        # the last one. Lanes are counted in eights across lanes, and K in words along it.
        panel, wanted = Signal(self.panel), self.i_panel
        k_left = Signal(range(self.words * WORD))
        lanes_left, last_lanes = Signal(range(self.lanes)), Signal(range(self.lanes))
        tiles_left, more_tiles = (Signal(range(self.tiles)) for _ in range(2))
        tile_words = Signal(range(self.words + 1))          # ceil(depth / 8)
        # Where the next word goes.
        word = Signal(range(self.words))
        byte = Signal(range(WORD))                          # across lanes
        lane = Signal(range(self.lanes))                    # along K
        group = Signal(range(max(-(-self.lanes // WORD), 2)))       # of eight lanes, across
        base = Signal(range(2 * self.words))                # word at which the tile starts

        def in_units(across, lanes):
            return Mux(across, lanes >> 3, lanes)

        k_end, lanes_end, last_tile = Signal(), Signal(), Signal()
        one_word, one_group, one_tile = Signal(), Signal(), Signal()
        next_tile, next_step = Signal(), Signal()
        begin_k, begin_lanes = Signal.like(k_left), Signal.like(lanes_left)
        one_lane_word, first_group = wanted.depth <= WORD, Signal()
        m.d.comb += [
            begin_k.eq(in_units(~wanted.across, wanted.depth - 1)),
            begin_lanes.eq(in_units(wanted.across, (wanted.last - 1)[:len(begin_lanes)])),
            first_group.eq(Mux(wanted.across, wanted.last <= WORD, wanted.last == 1)),
            next_tile.eq(lanes_end & (panel.across | k_end)),
            next_step.eq(panel.across & lanes_end & last_tile),
            self.o_across.eq(panel.across),
            self.o_last.eq(lanes_end & last_tile & k_end),
        ]
        all_lanes = in_units(panel.across, Const(self.lanes - 1))
        all_in_one = panel.across & (self.lanes <= WORD)
        with m.If(self.i_start):
            m.d.sync += [
                panel.eq(wanted), tile_words.eq((wanted.depth + WORD - 1) >> 3),
                k_left.eq(begin_k), k_end.eq(Mux(wanted.across, wanted.depth == 1, one_lane_word)),
                last_lanes.eq(begin_lanes), one_group.eq(first_group), one_word.eq(one_lane_word),
                lanes_left.eq(Mux(wanted.tiles == 1, begin_lanes,
                                  in_units(wanted.across, Const(self.lanes - 1)))),
                lanes_end.eq(Mux(wanted.tiles == 1, first_group,
                                 wanted.across & (self.lanes <= WORD))),
                tiles_left.eq(wanted.tiles - 1), more_tiles.eq(wanted.tiles - 1),
                last_tile.eq(wanted.tiles == 1), one_tile.eq(wanted.tiles == 1),
                word.eq(0), byte.eq(0), lane.eq(0), group.eq(0), base.eq(wanted.start),
                self.o_active.eq(1),
            ]
        with m.Elif(self.i_word):
            with m.If(self.o_last):
                m.d.sync += self.o_active.eq(0)
            with m.If(panel.across):
                m.d.sync += [group.eq(group + 1), lanes_left.eq(lanes_left - 1),
                             lanes_end.eq(lanes_left == 1)]
                with m.If(next_step):
                    m.d.sync += [Cat(byte, word).eq(Cat(byte, word) + 1), k_left.eq(k_left - 1),
                                 k_end.eq(k_left == 1)]
            with m.Else():
                m.d.sync += [word.eq(word + 1), k_left.eq(k_left - 1), k_end.eq(k_left == 1)]
                with m.If(k_end):
                    m.d.sync += [word.eq(0), k_left.eq(tile_words - 1), k_end.eq(one_word),
                                 lane.eq(lane + 1), lanes_left.eq(lanes_left - 1),
                                 lanes_end.eq(lanes_left == 1)]
            with m.If(next_tile):
                m.d.sync += [lane.eq(0), group.eq(0), tiles_left.eq(tiles_left - 1),
                             last_tile.eq(tiles_left == 1),
                             lanes_left.eq(Mux(tiles_left == 1, last_lanes, all_lanes)),
                             lanes_end.eq(Mux(tiles_left == 1, one_group, all_in_one)),
                             base.eq(base + tile_words)]
            with m.If(next_step):
                m.d.sync += [tiles_left.eq(more_tiles), last_tile.eq(one_tile), base.eq(panel.start),
                             lanes_left.eq(Mux(one_tile, last_lanes, all_lanes)),
                             lanes_end.eq(Mux(one_tile, one_group, all_in_one))]

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
