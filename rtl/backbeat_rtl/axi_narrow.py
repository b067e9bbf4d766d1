"""An AXI4 master of 64 bits on a bus of 32."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import WORD
from .memory_port import AXI_PINS
from .queue import Queue

__all__ = ["BURSTS", "NARROW_PINS", "AxiNarrow"]

#: Bytes of a beat on the narrow side, and words of 8 bytes in its longest burst (256 beats).
BEAT, MOST_WORDS = WORD // 2, 128
#: Narrow bursts that may be under way in each direction.
BURSTS = 32

#: Pins of an AXI4 master as in ``AXI_PINS``, 32 bits wide.
NARROW_PINS = AXI_PINS | {"rdata": In(8 * BEAT), "wdata": Out(8 * BEAT), "wstrb": Out(BEAT)}


class AxiNarrow(wiring.Component):
    """Makes of each INCR burst of 8-byte beats one or two of 4-byte beats.

    More than 128 words become two bursts. Neither crosses what the wide one does not cross. The lower
    half of a word goes first, strobes are kept, halves without any are sent too. Of the responses to
    the halves of a word, and to the two bursts of a write, the worse one (the larger code) is passed
    on. Write data never come before their address, and answers are expected in order, as one ID is
    used.

    A beat per cycle in both directions; each valid and ready comes of registers alone, so no path
    leads through. Latency 1 cycle for addresses, write data and responses, 2 for words read (a word
    is complete with its second beat).

    Members
    -------
    wide : pins of an AXI4 slave of 64 bits
        Bursts begin at a multiple of 8 and have full beats (``size`` and ``burst`` are not looked at).
    narrow : pins of an AXI4 master of 32 bits
    """

    def __init__(self):
        super().__init__({
            "wide":   In(wiring.Signature(AXI_PINS)),
            "narrow": Out(wiring.Signature(NARROW_PINS)),
        })

    def elaborate(self, _platform):
        m = Module()
        self.read(m)
        self.write(m)
        return m

    def addresses(self, m, channel):
        """One address channel. Its bursts' ends (1 for the last of a wide burst), and when each goes."""
        pins = "addr", "len", "valid", "ready"
        wide, narrow = ({pin: getattr(side, f"{channel}{pin}") for pin in pins}
                        for side in (self.wide, self.narrow))
        m.submodules[f"{channel}_ends"] = ends = Queue(width=1, depth=BURSTS)
        # `left`: words, less one; its highest bit stands for `MOST_WORDS`.
        address, left, full = (Signal(shape, name=f"{channel}_{name}") for shape, name in (
            (32, "address"), (range(2 * MOST_WORDS), "left"), (1, "full")))
        final, accepted = Signal(name=f"{channel}_final"), Signal(name=f"{channel}_accepted")
        m.d.comb += [
            wide["ready"].eq(~full), narrow["valid"].eq(full & ends.w_rdy),
            final.eq(~left[-1]), accepted.eq(narrow["valid"] & narrow["ready"]),
            narrow["addr"].eq(address),
            narrow["len"].eq(Mux(final, Cat(1, left[:-1]), 2 * MOST_WORDS - 1)),
            getattr(self.narrow, f"{channel}size").eq(2), getattr(self.narrow, f"{channel}burst").eq(1),
            ends.w_en.eq(accepted), ends.w_data.eq(final),
        ]
        with m.If(wide["valid"] & wide["ready"]):
            m.d.sync += [full.eq(1), address.eq(wide["addr"]), left.eq(wide["len"])]
        with m.Elif(accepted):
            m.d.sync += [full.eq(~final), address.eq(address + WORD * MOST_WORDS),
                         left[-1].eq(0)]
        return ends, accepted

    def read(self, m):
        wide, narrow = self.wide, self.narrow
        ends, _ = self.addresses(m, "ar")
        m.submodules.words = words = Queue(width=8 * WORD + 3, depth=2)
        low, low_response, upper, taken = Signal(8 * BEAT), Signal(2), Signal(), Signal()
        m.d.comb += [
            narrow.rready.eq(ends.r_rdy & (~upper | words.w_rdy)),
            taken.eq(narrow.rvalid & narrow.rready),
            words.w_en.eq(taken & upper), ends.r_en.eq(taken & narrow.rlast),
            words.w_data.eq(Cat(low, narrow.rdata, worse(low_response, narrow.rresp),
                                narrow.rlast & ends.r_data)),
            Cat(wide.rdata, wide.rresp, wide.rlast).eq(words.r_data),
            wide.rvalid.eq(words.r_rdy), words.r_en.eq(wide.rready),
        ]
        with m.If(taken):
            m.d.sync += [upper.eq(~upper), low.eq(narrow.rdata), low_response.eq(narrow.rresp)]

    def write(self, m):
        wide, narrow = self.wide, self.narrow
        ends, accepted = self.addresses(m, "aw")
        m.submodules.beats = beats = Queue(width=9 * WORD + 1, depth=2)
        data, strobe, last = Signal(8 * WORD), Signal(WORD), Signal()
        word, upper, end, sent = Signal(range(MOST_WORDS)), Signal(), Signal(), Signal()
        # Bursts accepted whose beats are not all sent; whether there are any, known a cycle ahead.
        due, any_due, ended = Signal(range(BURSTS + 1)), Signal(), Signal()
        m.d.comb += [
            beats.w_data.eq(Cat(wide.wdata, wide.wstrb, wide.wlast)), beats.w_en.eq(wide.wvalid),
            wide.wready.eq(beats.w_rdy), Cat(data, strobe, last).eq(beats.r_data),
            end.eq(last | (word == MOST_WORDS - 1)),
            narrow.wvalid.eq(beats.r_rdy & any_due), narrow.wlast.eq(upper & end),
            narrow.wdata.eq(data.word_select(upper, 8 * BEAT)),
            narrow.wstrb.eq(strobe.word_select(upper, BEAT)),
            sent.eq(narrow.wvalid & narrow.wready), beats.r_en.eq(sent & upper),
            ended.eq(sent & narrow.wlast),
        ]
        m.d.sync += any_due.eq(accepted | Mux(ended, due > 1, any_due))
        with m.If(accepted & ~ended):
            m.d.sync += due.eq(due + 1)
        with m.Elif(ended & ~accepted):
            m.d.sync += due.eq(due - 1)
        with m.If(sent):
            m.d.sync += upper.eq(~upper)
            with m.If(upper):
                m.d.sync += word.eq(Mux(end, 0, word + 1))

        m.submodules.answers = answers = Queue(width=2, depth=2)
        taken, worst, before = Signal(), Signal(2), Signal(2)
        m.d.comb += [
            narrow.bready.eq(answers.w_rdy & ends.r_rdy), taken.eq(narrow.bvalid & narrow.bready),
            worst.eq(worse(before, narrow.bresp)), ends.r_en.eq(taken),
            answers.w_en.eq(taken & ends.r_data), answers.w_data.eq(worst),
            wide.bresp.eq(answers.r_data), wide.bvalid.eq(answers.r_rdy), answers.r_en.eq(wide.bready),
        ]
        with m.If(taken):
            m.d.sync += before.eq(Mux(ends.r_data, 0, worst))


def worse(one, other):
    """Of two response codes the larger."""
    return Mux(one > other, one, other)
