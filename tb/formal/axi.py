"""The memory port and its 32-bit adapter: the rules of an AXI4 master, and every word in its turn."""

from amaranth.hdl import Cat, Mux, Signal

from backbeat_rtl import axi_narrow, memory_port
from backbeat_rtl.load_addresses import Splitter
from backbeat_rtl.memory_port import PAGE, MemoryPort

from .checker import Checker, any_of, held, past
from .solve import Fault, Property

__all__ = ["PROPERTIES"]


#: Write bursts under way where they are counted: as many as it takes to fill up.
WRITES = 2


class Splits(Checker):
    """A segment becomes the bursts that cover its words, in order, each within a page.

    The next one is only offered when it is through: what waits inside is in a FIFO.
    """

    def build(self, m):
        m.submodules.dut = dut = Splitter()
        segment, burst, info = dut.i.payload, dut.o_burst.payload, dut.o_info.payload
        for target, shape, name in (
                (segment.address, 32, "address"), (segment.bytes, 18, "bytes"),
                (segment.zero, 1, "zero"),
                (segment.row_end, 1, "row_end"), (segment.end, 1, "end"), (dut.i.valid, 1, "valid"),
                (dut.o_burst.ready, 1, "burst_ready"), (dut.o_info.ready, 1, "info_ready")):
            m.d.comb += target.eq(any_of(m, shape, name))
        self.assume(m, segment.bytes != 0)
        # The address of a segment of nothing is not looked at.
        taken = dut.i.valid & dut.i.ready
        open_ = Signal()
        at = Signal(29)
        words = Signal(16)
        kept = Signal(segment.shape())
        moved = Signal()
        length = Signal(9)
        m.d.comb += [moved.eq(dut.o_info.valid & dut.o_info.ready), length.eq(info.length + 1)]
        with m.If(moved):
            m.d.sync += [at.eq(at + length), words.eq(words - length), open_.eq(words != length)]
        with m.If(taken):
            m.d.sync += [open_.eq(1), at.eq(segment.address[3:]),
                         words.eq((segment.bytes + 7) >> 3), kept.eq(segment)]
        sent = dut.o_burst.valid & dut.o_burst.ready
        self.assume(m, dut.o_idle, when=dut.i.valid)
        self.claim(m, "idle when nothing is left of a segment, and only then", dut.o_idle == ~open_)
        self.claim(m, "what is told of a burst is told with it", sent == (moved & ~kept.zero))
        self.claim(m, "nothing comes of nothing", open_, when=dut.o_burst.valid | dut.o_info.valid)
        self.claim(m, "a burst begins where the one before ended", burst.address[3:] == at,
                   when=sent)
        self.claim(m, "a burst begins at a word", burst.address[:3] == 0, when=sent)
        self.claim(m, "no burst is longer than what is left", length <= words, when=moved)
        self.claim(m, "no burst crosses a page",
                   (burst.address[:12] + (length << 3)) <= PAGE, when=sent)
        self.claim(m, "both say the same length", burst.length == info.length, when=sent)
        last = moved & (words == length)
        self.claim(m, "the end is told with the last burst",
                   (info.end == (kept.end & last)) & (info.row_end == (kept.row_end & last)), when=moved)
        tail = Mux(last & (kept.bytes[:3] != 0), kept.bytes[:3], 8)
        self.claim(m, "the last word has the bytes that are left", info.tail == tail, when=moved)
        self.cover(m, "three bursts of a segment", last & past(m, moved & ~taken, "moved_before")
                   & (kept.bytes > 2048 + 8) & ~kept.zero & (length == 3))


class Rules(Checker):
    """Pins of the memory port as AXI4 wants them, from a user who asks what he likes, and when.

    A memory answers in order: words of a read once it is asked for, a response to a write once its last
    word has been taken. ``flush`` may come at any time.
    """

    def drive(self, m):
        m.submodules.dut = dut = self.dut = MemoryPort()
        inner, axi = dut.inner, dut.axi
        free = ((inner.read.valid, "read_valid"), (inner.write.valid, "write_valid"),
                (inner.write_word.valid, "write_word_valid"), (inner.word.ready, "word_ready"),
                (inner.flush, "flush"), (axi.arready, "arready"), (axi.awready, "awready"),
                (axi.wready, "wready"), (axi.rvalid, "rvalid"), (axi.bvalid, "bvalid"),
                (inner.read.payload, "read"), (inner.write.payload, "write"),
                (inner.write_word.payload, "write_word"), (axi.rdata, "rdata"), (axi.rresp, "rresp"),
                (axi.bresp, "bresp"))
        for target, name in free:
            bits = target.as_value() if hasattr(target, "as_value") else target
            m.d.comb += bits.eq(any_of(m, len(bits), name))
        # Of addresses and data a few bits move: a FIFO treats all alike.
        for payload in inner.read.payload, inner.write.payload:
            self.assume(m, payload.length < 2)


class Kept(Rules):
    """What is offered stays until it is taken."""

    def build(self, m):
        self.drive(m)
        axi = self.dut.axi
        for channel, names in (("ar", ("addr", "len")), ("aw", ("addr", "len")),
                               ("w", ("data", "strb", "last"))):
            payload = Cat(getattr(axi, channel + name) for name in names)
            valid, ready = getattr(axi, f"{channel}valid"), getattr(axi, f"{channel}ready")
            self.claim(m, f"{channel.upper()} stays until it is taken",
                       held(m, valid, ready, payload, channel))
            self.cover(m, f"{channel.upper()} waits and is taken",
                       valid & ready & past(m, valid & ~ready, f"{channel}_waits"))
        self.claim(m, "INCR bursts of eight-byte beats",
                   (axi.arsize == 3) & (axi.awsize == 3) & (axi.arburst == 1) & (axi.awburst == 1)
                   & (axi.arid == 0) & (axi.awid == 0))


class Matched(Rules):
    """Write data: for each address accepted as many words as it says, the last one marked, none before.

    Follows any one burst, by how many are to be written before it.
    """

    instead = {(memory_port, "WRITES"): WRITES}

    def build(self, m):
        self.drive(m)
        axi = self.dut.axi
        accepted = Signal()
        sent = Signal()
        ended = Signal()
        m.d.comb += [accepted.eq(axi.awvalid & axi.awready), sent.eq(axi.wvalid & axi.wready),
                     ended.eq(sent & axi.wlast)]
        due = Signal(range(WRITES + 2))         # accepted, words missing
        unanswered = Signal(range(WRITES + 2))  # ... and not acknowledged
        m.d.sync += [due.eq(due + accepted - ended), unanswered.eq(unanswered + accepted - axi.bvalid)]
        self.assume(m, unanswered > due, when=axi.bvalid)
        self.claim(m, "no word before its address", due != 0, when=axi.wvalid)
        self.claim(m, f"at most {WRITES} bursts under way", unanswered <= WRITES)
        self.claim(m, "responses are taken at once", axi.bready)
        tracking = Signal()
        ahead = Signal(range(WRITES + 1))
        length = Signal(8)
        beat = Signal(8)
        with m.If(~tracking & accepted & any_of(m, 1, "choose")):
            m.d.sync += [tracking.eq(1), ahead.eq(due - ended), length.eq(axi.awlen), beat.eq(0)]
        with m.Elif(tracking & sent & (ahead == 0)):
            m.d.sync += [beat.eq(beat + 1), tracking.eq(~axi.wlast)]
        with m.Elif(tracking & ended):
            m.d.sync += ahead.eq(ahead - 1)
        self.claim(m, "WLAST with the last word that was announced, and only then",
                   axi.wlast == (beat == length), when=tracking & (ahead == 0) & axi.wvalid)
        self.cover(m, "a burst of four behind others",
                   tracking & ended & (length == 1) & (ahead == 0) & (due == 1))


class Words(Rules):
    """Without a flush: words read reach the user, and the user's words the memory, once and in order.

    Follows any one word in each direction, of its bits the lowest of bytes and strobes, and the error.
    """

    def build(self, m):
        self.drive(m)
        inner, axi = self.dut.inner, self.dut.axi
        self.assume(m, ~inner.flush)
        for name, offered, into, taken, out in (
                ("read", axi.rvalid & axi.rready, Cat(axi.rdata[:4], axi.rresp[1]),
                 inner.word.valid & inner.word.ready,
                 Cat(inner.word.payload.bytes[:4], inner.word.payload.error)),
                ("written", inner.write_word.valid & inner.write_word.ready,
                 Cat(inner.write_word.payload.bytes[:4], inner.write_word.payload.strobe[0]),
                 axi.wvalid & axi.wready, Cat(axi.wdata[:4], axi.wstrb[0]))):
            inside = Signal(2, name=f"{name}_inside")
            m.d.sync += inside.eq(inside + offered - taken)
            tracking = Signal(name=f"{name}_tracking")
            ahead = Signal(2, name=f"{name}_ahead")
            word = Signal(len(out), name=f"{name}_word")
            with m.If(~tracking & offered & any_of(m, 1, f"{name}_choose")):
                m.d.sync += [tracking.eq(1), ahead.eq(inside - taken), word.eq(into)]
            with m.Elif(tracking & taken):
                m.d.sync += [ahead.eq(ahead - 1), tracking.eq(ahead != 0)]
            self.claim(m, f"no word {name} out of nothing", inside != 0, when=taken)
            self.claim(m, f"at most two words {name} are held", inside <= 2)
            self.claim(m, f"a word {name} is the one that came in its turn", out == word,
                       when=tracking & taken & (ahead == 0))
            self.cover(m, f"a word {name} with one ahead of it",
                       tracking & taken & (ahead == 0) & (word == 0x13))


class NarrowAddresses(Checker):
    """A burst of words becomes one or two of half words that cover it; neither crosses a page."""

    instead = {(axi_narrow, "BURSTS"): 4}

    def build(self, m):
        m.submodules.dut = dut = axi_narrow.AxiNarrow()
        wide, narrow = dut.wide, dut.narrow
        for name in ("araddr", "arlen", "arvalid"):
            pin = getattr(wide, name)
            m.d.comb += pin.eq(any_of(m, len(pin), name))
        m.d.comb += [narrow.arready.eq(any_of(m, 1, "narrow_arready")),
                     narrow.rvalid.eq(any_of(m, 1, "rvalid")), narrow.rlast.eq(any_of(m, 1, "rlast")),
                     wide.rready.eq(any_of(m, 1, "rready"))]
        bytes_asked = (wide.arlen + 1) << 3
        self.assume(m, wide.araddr[:3] == 0)
        self.assume(m, wide.araddr[:12] + bytes_asked <= PAGE)
        at = Signal(32)
        left = Signal(12)
        length = Signal(11)
        m.d.comb += length.eq((narrow.arlen + 1) << 2)
        sent = narrow.arvalid & narrow.arready
        taken = wide.arvalid & wide.arready
        with m.If(sent):
            m.d.sync += [at.eq(at + length), left.eq(left - length)]
        with m.If(taken):
            m.d.sync += [at.eq(wide.araddr), left.eq(bytes_asked)]
        self.claim(m, "AR stays until it is taken", held(
            m, narrow.arvalid, narrow.arready, Cat(narrow.araddr, narrow.arlen), "ar"))
        self.claim(m, "a burst begins where the one before ended", narrow.araddr == at,
                   when=narrow.arvalid)
        self.claim(m, "no burst is longer than what is left", length <= left, when=narrow.arvalid)
        self.claim(m, "the next one is taken when this one is done", left == 0, when=taken)
        self.claim(m, "no burst crosses a page", narrow.araddr[:12] + length <= PAGE,
                   when=narrow.arvalid)
        self.claim(m, "INCR bursts of four-byte beats", (narrow.arsize == 2) & (narrow.arburst == 1))
        self.cover(m, "the second part of a burst", sent & (left == 8)
                   & past(m, sent, "sent_before"))


class NarrowWords(Checker):
    """The halves of a word written leave in order, the lower one first, WLAST as announced.

    Follows any one half word; and of the bursts any one, by how many are to be written before it. Wide
    bursts are of one or two words.
    """

    instead = {(axi_narrow, "BURSTS"): 2}

    def build(self, m):
        m.submodules.dut = dut = axi_narrow.AxiNarrow()
        wide, narrow = dut.wide, dut.narrow
        for name in ("awlen", "awvalid", "wdata", "wstrb", "wvalid", "wlast", "bready"):
            pin = getattr(wide, name)
            m.d.comb += pin.eq(any_of(m, len(pin), name))
        for name in ("awready", "wready", "bvalid", "bresp"):
            pin = getattr(narrow, name)
            m.d.comb += pin.eq(any_of(m, len(pin), f"narrow_{name}"))
        self.assume(m, wide.awlen < 2)
        # A wide burst at a time: its words follow its address, the last one marked.
        words = Signal(2)
        taken = wide.wvalid & wide.wready
        with m.If(wide.awvalid & wide.awready):
            m.d.sync += words.eq(wide.awlen + 1)
        with m.Elif(taken):
            m.d.sync += words.eq(words - 1)
        self.assume(m, words == 0, when=wide.awvalid)
        self.assume(m, words != 0, when=wide.wvalid)
        self.assume(m, wide.wlast == (words == 1))

        sent = Signal()
        m.d.comb += sent.eq(narrow.wvalid & narrow.wready)
        inside = Signal(4)      # half words
        m.d.sync += inside.eq(inside + (taken << 1) - sent)
        tracking = Signal()
        ahead = Signal(4)
        half = Signal(5)
        upper = any_of(m, 1, "upper")
        with m.If(~tracking & taken & any_of(m, 1, "choose")):
            m.d.sync += [tracking.eq(1), ahead.eq(inside - sent + upper),
                         half.eq(Cat(wide.wdata.word_select(upper, 32)[:3],
                                     wide.wstrb.word_select(upper, 4)[:2]))]
        with m.Elif(tracking & sent):
            m.d.sync += [ahead.eq(ahead - 1), tracking.eq(ahead != 0)]
        self.claim(m, "no half word out of nothing", inside != 0, when=narrow.wvalid)
        self.claim(m, "a half word leaves in its turn, with its strobes",
                   Cat(narrow.wdata[:3], narrow.wstrb[:2]) == half, when=tracking & sent & (ahead == 0))
        self.claim(m, "W stays until it is taken", held(
            m, narrow.wvalid, narrow.wready, Cat(narrow.wdata[:4], narrow.wstrb, narrow.wlast), "w"))

        accepted = narrow.awvalid & narrow.awready
        due = Signal(3)
        m.d.sync += due.eq(due + accepted - (sent & narrow.wlast))
        self.claim(m, "no word before its address", due != 0, when=narrow.wvalid)
        following = Signal()
        bursts = Signal(3)
        length = Signal(8)
        beat = Signal(8)
        with m.If(~following & accepted & any_of(m, 1, "follow")):
            m.d.sync += [following.eq(1), bursts.eq(due - (sent & narrow.wlast)),
                         length.eq(narrow.awlen), beat.eq(0)]
        with m.Elif(following & sent & (bursts == 0)):
            m.d.sync += [beat.eq(beat + 1), following.eq(~narrow.wlast)]
        with m.Elif(following & sent & narrow.wlast):
            m.d.sync += bursts.eq(bursts - 1)
        self.claim(m, "WLAST with the last word that was announced, and only then",
                   narrow.wlast == (beat == length), when=following & (bursts == 0) & narrow.wvalid)
        self.cover(m, "the last half of two words", following & sent & (beat == 3) & narrow.wlast)
        self.cover(m, "an upper half with others ahead",
                   tracking & sent & (ahead == 0) & (half == 0x15) & past(m, ahead == 1, "one_ahead"))


PROPERTIES = [
    Property("axi.bursts", "Bursts cover a segment's words in order, none crosses a page or 256 words",
             "Splitter", "", Splits, "pdr", 12, faults=(
                 Fault("to the page's end and one more", "load_addresses",
                       r"to_page\.eq\(~segment\.address\[3:11\]\)",
                       "to_page.eq((~segment.address[3:11]) + 1)", cheap=True),
                 Fault("the next burst at the same place", "load_addresses",
                       r"segment\.address\[11:\] \+ 1", "segment.address[11:]"),
             )),
    Property("axi.stable", "AR, AW and W keep valid and payload until they are taken", "MemoryPort", "",
             Kept, "pdr", 16, faults=(
                 Fault("the next one comes without ready", "memory_port",
                       r'fifo\.r_en\.eq\(sink\["ready"\]\)', "fifo.r_en.eq(1)"),
             )),
    Property("axi.matched", "As many write words as announced, WLAST on the last, none before AW",
             "MemoryPort", f"WRITES={WRITES}, bursts of 1, 2 words", Matched, "pdr", 24, covered=24,
             faults=(
                 Fault("words wait for no address", "memory_port",
                       r"may_send\.eq\(sending & any_due\)", "may_send.eq(sending)", cheap=True),
                 Fault("a flush forgets a word of a burst", "memory_port",
                       r"last\.eq\(lengths\.r_data == 0\)",
                       "last.eq((lengths.r_data == 0) | flushing)"),
             )),
    Property("axi.words", "Words read and written pass once, in order, none out of nothing",
             "MemoryPort", "a few bits of a word", Words, "pdr", 14, covered=14, faults=(
                 Fault("a word is lost where one is taken", "memory_port",
                       r'fifo\.w_en\.eq\(source\["valid"\]\)',
                       'fifo.w_en.eq(source["valid"] & ~sink["ready"])'),
             )),
    Property("narrow.bursts", "One or two narrow bursts cover a wide one and cross no page", "AxiNarrow",
             "", NarrowAddresses, "pdr", 16, covered=16, faults=(
                 Fault("the second part begins at the first's last word", "axi_narrow",
                       r"address \+ WORD \* MOST_WORDS", "address + WORD * MOST_WORDS - WORD",
                       cheap=True),
             )),
    Property("narrow.words", "Half words leave in order with their strobes, WLAST as announced",
             "AxiNarrow", "bursts of 1, 2 words", NarrowWords, "pdr", 20, covered=20, faults=(
                 Fault("the upper half first", "axi_narrow", r"data\.word_select\(upper, ",
                       "data.word_select(~upper, "),
                 Fault("the last word's lower half is the last", "axi_narrow",
                       r"wlast\.eq\(upper & end\)", "wlast.eq(end)"),
             )),
]
