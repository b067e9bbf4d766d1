"""Everything between operand words and sums: loaders, scratchpads, sequencer, array, accumulators."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import accumulators, array, scratchpad
from .accumulators import Accumulators
from .array import SystolicArray
from .config import WORD, Config
from .loader import Loader
from .pipeline import delay
from .scratchpad import Scratchpad, Transposer
from .sequencer import Sequencer

__all__ = ["Datapath"]


class Datapath(wiring.Component):
    """Takes panels of operand words, multiplies them, holds the sums until they are read.

    Latency from a run's acceptance to its first sum in the accumulators is the sum of those of
    sequencer, scratchpad, array and accumulators; nothing in it ever stalls.

    Parameters
    ----------
    config : Config

    Members
    -------
    i_word, i_word_valid
        Operand word for port ``i_port`` (0: A, 1: B).
    i_start : bit[2], i_panel
        Start of a panel, per port (see :class:`Loader`).
    o_loading : bit[2]
        Words of the panel are missing, per port.
    i_run, o_busy, o_feeding
        See :class:`Sequencer`.
    o_fed : {valid, a_bank, b_bank}
        The last read of a run has left the last lane: its banks may be written again.
    o_tile_end : bit, o_end : {valid, half}
        All sums of a tile, of a run, may be read: see :class:`Accumulators`.
    i_read, o_read_ready, o_stored
        See :class:`Accumulators`.
    """

    def __init__(self, config: Config):
        self.config = config
        c = config
        self.load_a = Loader(lanes=c.rows, depth=c.depth, tiles=c.tiles)
        self.load_b = Loader(lanes=c.columns, depth=c.depth, tiles=c.tiles)
        self.sequencer = Sequencer(depth=c.depth, tiles=c.tiles, period=c.row_pairs,
                                   settle=accumulators.UPDATE)
        self.array = SystolicArray(rows=c.rows, columns=c.columns, max_k=c.longest(1))
        self.accumulators = Accumulators(row_pairs=c.row_pairs, columns=c.columns,
                                         width=self.array.width, slots=2 * c.tiles)
        self.panel = data.StructLayout({
            "depth": range(c.depth + 1), "tiles": range(c.tiles + 1),
            "last": range(max(c.rows, c.columns) + 1), "start": range(2 * c.depth // WORD),
            "across": 1})
        self.bank_bits = (c.banks - 1).bit_length()
        super().__init__({
            "i_word":        In(8 * WORD),
            "i_word_valid":  In(1),
            "i_port":        In(1),
            "i_start":       In(2),
            "i_panel":       In(self.panel),
            "o_loading":     Out(2),
            "i_run":         In(stream.Signature(self.sequencer.run)),
            "o_busy":        Out(1),
            "o_feeding":     Out(1),
            "o_fed":         Out(data.StructLayout({
                "valid": 1, "a_bank": self.bank_bits, "b_bank": self.bank_bits})),
            "o_tile_end":    Out(1),
            "o_end":         Out(data.StructLayout({"valid": 1, "half": 1})),
            "i_read":        In(self.accumulators.read),
            "o_read_ready":  Out(1),
            "o_stored":      Out(self.accumulators.o_stored.shape()),
        })

    def elaborate(self, _platform):
        m = Module()
        c = self.config
        m.submodules.load_a, m.submodules.load_b = self.load_a, self.load_b
        m.submodules.sequencer = sequencer = self.sequencer
        m.submodules.array = mac_array = self.array
        m.submodules.accumulators = sums = self.accumulators
        m.submodules.transposer = transposer = Transposer()
        m.submodules.pad_a = pad_a = Scratchpad(lanes=c.rows, group=2, depth=c.depth)
        m.submodules.pad_b = pad_b = Scratchpad(lanes=c.columns, group=1, depth=c.depth)

        # Operand words: a cycle to come here, one for the loader to say where, one for the lanes to hear
        # it.
        start, panel, port_at = (Signal.like(s) for s in (self.i_start, self.i_panel, self.i_port))
        word_valid = delay(m, self.i_word_valid, 1, name="word_valid", reset=True)
        m.d.sync += [start.eq(self.i_start), panel.eq(self.i_panel), port_at.eq(self.i_port)]
        across = Mux(port_at, self.load_b.o_across, self.load_a.o_across)
        m.d.comb += [
            transposer.i_word.eq(delay(m, self.i_word, 1, name="word")), transposer.i_across.eq(across),
        ]
        for port, (loader, pad) in enumerate(((self.load_a, pad_a), (self.load_b, pad_b))):
            for name in ("depth", "tiles", "last", "start", "across"):
                m.d.comb += loader.i_panel[name].eq(panel[name])
            m.d.comb += [
                loader.i_start.eq(start[port]),
                loader.i_word.eq(word_valid & (port_at == port)),
                # What is on its way to the loader counts already.
                self.o_loading[port].eq(
                    start[port] | (loader.o_active & ~(loader.i_word & loader.o_last))),
                pad.i_write.eq(loader.o_write),
                pad.i_data.eq(transposer.o_data),
            ]

        # Array.
        wiring.connect(m, wiring.flipped(self.i_run), sequencer.i_run)
        last = Signal.like(sequencer.o_last)
        m.d.comb += [
            pad_a.i_read.eq(sequencer.o_a), pad_b.i_read.eq(sequencer.o_b),
            mac_array.i_first.eq(pad_a.o_first),
            mac_array.i_b.as_value().eq(pad_b.o_operands.as_value()),
            mac_array.i_a.as_value().eq(pad_a.o_operands.as_value()),
            last.eq(sequencer.o_last),
            mac_array.i_last.eq(delay(m, last, scratchpad.READ_LATENCY, name="last")),
            self.o_busy.eq(sequencer.o_busy), self.o_feeding.eq(sequencer.o_feeding),
        ]

        # Each tile's accumulators follow it through scratchpad and array.
        lag = scratchpad.READ_LATENCY + array.LATENCY - accumulators.LEAD
        tile = delay(m, Cat(last, sequencer.o_tile.as_value()), lag, name="tile", reset=True)
        m.d.comb += [
            sums.i_tile.eq(tile),
            sums.i_sums.eq(mac_array.o_sums),
            sums.i_read.eq(self.i_read), self.o_read_ready.eq(sums.o_read_ready),
            self.o_stored.eq(sums.o_stored),
            self.o_tile_end.eq(sums.o_tile_end), self.o_end.eq(sums.o_end),
        ]
        ended = Cat(last & sequencer.o_tile.end, sequencer.o_a.address[-self.bank_bits:],
                    sequencer.o_b.address[-self.bank_bits:])
        m.d.comb += self.o_fed.as_value().eq(
            delay(m, ended, max(c.row_pairs, c.columns) + 1, name="fed", reset=True))
        return m
