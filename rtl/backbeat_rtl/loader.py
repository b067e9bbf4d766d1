"""Where each operand word of a panel goes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import WORD
from .pipeline import holds, lookup
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
        k_left, all_k = (Signal(range(self.words * WORD)) for _ in range(2))
        lanes_left, last_lanes = Signal(range(self.lanes)), Signal(range(self.lanes))
        tiles_left, more_tiles = (Signal(range(self.tiles)) for _ in range(2))
        # Where the next word goes.
        word = Signal(range(self.words))
        byte = Signal(range(WORD))                          # across lanes
        lane = Signal(range(self.lanes))                    # across lanes, the first of eight
        base = Signal(range(2 * self.words))                # word at which the tile starts

        def in_units(across, lanes):
            return Mux(across, lanes >> 3, lanes)

        next_place = Cat(byte, word) + Mux(panel.across, 1, WORD)
        # Words of a lane and tile, less one; to take away what is inverted adds one more.
        words_less = Signal.like(base)
        m.d.comb += words_less.eq(all_k >> 3)
        next_base = base - ~words_less
        # So few bits need no adder: each one turns when those below it are set. Across, in eights.
        below = lane | Mux(panel.across, WORD - 1, 0)
        next_lane = Cat(bit ^ below[:n].all() for n, bit in enumerate(lane))
        k_end, lanes_end, last_tile, last = Signal(), Signal(), Signal(), Signal()
        one_word, one_group, one_tile = Signal(), Signal(), Signal()
        next_tile, next_step = Signal(), Signal()
        depth_less, begin_lanes = Signal.like(k_left), Signal.like(lanes_left)
        begin_k_end, first_group, first_tile = Signal(), Signal(), wanted.tiles == 1
        one_lane_word = holds(
            Cat(wanted.depth[:4], wanted.depth[4:].any()), lambda n: n <= WORD)
        # As the flags will be if a word comes.
        k_ends, lanes_ends, tile_is_last, ends = k_left == 1, lanes_left == 1, Signal(), Signal()
        m.d.comb += [
            # No adder either: a bit stays if one below it is set.
            depth_less.eq(Cat(bit ^ ~wanted.depth[:n].any() for n, bit in enumerate(wanted.depth))),
            begin_lanes.eq(in_units(wanted.across, lookup(
                [0, *range(self.lanes)], wanted.last)[:len(begin_lanes)])),
            begin_k_end.eq(Mux(wanted.across, wanted.depth == 1, one_lane_word)),
            first_group.eq(holds(Cat(wanted.across, wanted.last),
                                 lambda n: n >> 1 <= (WORD if n % 2 else 1))),
            next_tile.eq(lanes_end & (panel.across | k_end)),
            next_step.eq(panel.across & lanes_end & last_tile),
            tile_is_last.eq(Mux(next_step, one_tile, tiles_left == 1)),
            # All three at once, so that whether a word is the last one is a register of its own.
            ends.eq(Mux(lanes_end, tile_is_last & one_group, lanes_ends & last_tile)),
            self.o_across.eq(panel.across), self.o_last.eq(last),
        ]
        all_lanes = in_units(panel.across, Const(self.lanes - 1))
        all_in_one = panel.across & (self.lanes <= WORD)
        with m.If(self.i_start):
            m.d.sync += [
                panel.eq(wanted), all_k.eq(depth_less), k_end.eq(begin_k_end),
                k_left.eq(in_units(~wanted.across, depth_less)),
                last_lanes.eq(begin_lanes), one_group.eq(first_group), one_word.eq(one_lane_word),
                lanes_left.eq(Mux(first_tile, begin_lanes,
                                  in_units(wanted.across, Const(self.lanes - 1)))),
                lanes_end.eq(Mux(first_tile, first_group, wanted.across & (self.lanes <= WORD))),
                tiles_left.eq(wanted.tiles - 1), more_tiles.eq(wanted.tiles - 1),
                last_tile.eq(first_tile), one_tile.eq(first_tile),
                word.eq(0), byte.eq(0), lane.eq(0), base.eq(wanted.start),
                last.eq(first_tile & first_group & begin_k_end), self.o_active.eq(1),
            ]
        with m.Elif(self.i_word):
            with m.If(last):
                m.d.sync += self.o_active.eq(0)
            with m.If(panel.across):
                m.d.sync += [lane.eq(next_lane), lanes_left.eq(lanes_left - 1),
                             lanes_end.eq(lanes_ends),
                             last.eq(ends & Mux(next_step, k_ends, k_end))]
                with m.If(next_step):
                    m.d.sync += [Cat(byte, word).eq(next_place), k_left.eq(k_left - 1),
                                 k_end.eq(k_ends)]
            with m.Else():
                m.d.sync += [Cat(byte, word).eq(next_place), k_left.eq(k_left - 1), k_end.eq(k_ends),
                             last.eq(Mux(k_end, ends & one_word, lanes_end & last_tile & k_ends))]
                with m.If(k_end):
                    m.d.sync += [word.eq(0), k_left.eq(words_less), k_end.eq(one_word),
                                 lane.eq(next_lane), lanes_left.eq(lanes_left - 1),
                                 lanes_end.eq(lanes_ends)]
            with m.If(next_tile):
                m.d.sync += [lane.eq(0), last_tile.eq(tile_is_last),
                             tiles_left.eq(Mux(next_step, more_tiles, tiles_left - 1)),
                             lanes_left.eq(Mux(tile_is_last, last_lanes, all_lanes)),
                             lanes_end.eq(Mux(tile_is_last, one_group, all_in_one)),
                             base.eq(Mux(next_step, panel.start, next_base))]

        write = self.o_write
        # Across, the lower bits of a lane do not count.
        here = Cat((lane[3:] == n >> 3) & (panel.across | (lane[:3] == n % WORD))
                   for n in range(self.lanes))
        m.d.sync += [
            write.word.eq((base + word)[:len(base)]), write.lanes.eq(Mux(self.i_word, here, 0)),
            write.bytes.eq(Mux(panel.across, 1 << byte, (1 << WORD) - 1)),
        ]
        return m
