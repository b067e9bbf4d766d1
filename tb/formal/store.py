"""The store unit: nothing is written but the rows of a result, its sums and its record."""

from types import SimpleNamespace

from amaranth.hdl import Mux, Signal
from amaranth.lib import data, stream

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.gather import Move
from backbeat_rtl.load_addresses import Segment
from backbeat_rtl.readout import Readout
from backbeat_rtl.store_unit import AREA, Destination, StoreUnit

from .checker import Checker, any_of, fixed, held, past
from .solve import Fault, Property

__all__ = ["PROPERTIES"]

SMALL = Config(rows=2, columns=2, depth=16, tiles=2)
#: Rows of a tile, columns of a stripe.
ROWS, COLUMNS = 2, 8
#: The largest macro-tile: two tiles high and two stripes wide, neither of them whole.
M, N = 3, 9
#: Where results lie.
C, PITCH, SUMS, RECORD = 0x40000FE8, 72, 0x40002000, 0x40003000


def _unit():
    return StoreUnit(start=Readout(SMALL).start, rows=ROWS, columns=COLUMNS)


class Rows(Checker):
    """What goes to the splitter of macro-tiles, each row in pieces, beside a walk by row and column.

    A macro-tile, and another beside or below it, INT8 or INT32, with a row of sums or without; records
    between them at any time.
    """

    def build(self, m):
        dut = _unit()
        dut.destination = destination = Signal(Destination)
        m.d.comb += [destination.c.eq(C), destination.pitch.eq(PITCH), destination.sums.eq(SUMS),
                     destination.record.eq(RECORD), destination.requantise.eq(fixed(m, 1, "requantise"))]
        dut.areas = areas = SimpleNamespace(r_data=Signal(AREA.size), r_rdy=any_of(m, 1, "area_ready"),
                                            r_en=Signal())
        dut.splitter = splitter = SimpleNamespace(i=stream.Signature(Segment).create())
        dut.record_burst = any_of(m, 1, "record_burst")
        dut.elaborate_addresses(m)

        rows, columns = fixed(m, range(M + 1), "rows"), fixed(m, range(N + 1), "columns")
        emit, beside = fixed(m, 1, "emit"), fixed(m, 1, "beside")
        self.assume(m, (rows != 0) & (rows <= M) & (columns != 0) & (columns <= N))
        second = Signal()
        area = data.View(AREA, areas.r_data)
        m.d.comb += [
            area.rows.eq(rows), area.columns.eq(columns), area.emit.eq(emit),
            area.column.eq(Mux(second & beside, columns, 0)),
            area.row_move.eq(Mux(second, Mux(beside, Move.SAME, Move.NEXT), Move.ZERO)),
            splitter.i.ready.eq(any_of(m, 1, "ready")),
        ]
        self.assume(m, held(m, areas.r_rdy, areas.r_en, second, "area"))
        shift = Mux(destination.requantise, 0, 2)

        # The walk. In memory a stripe's rows lie a pitch apart.
        segment, taken = splitter.i.payload, splitter.i.valid & splitter.i.ready
        summing, top, row = Signal(), Signal(range(M + ROWS)), Signal(range(ROWS))
        stripe = Signal(range(N + COLUMNS))
        first_row, tile_row, here = Signal(32), Signal(32), Signal(32)
        began = Signal()        # with the first piece; before it there may be records
        last = Signal()
        rest, start = columns - stripe, Mux(second & beside, columns, 0)
        base = Mux(second & ~beside, first_row, destination.c)
        at = Mux(began, here, base)
        is_record = taken & ~began & ~areas.r_rdy
        piece = taken & ~is_record
        with m.If(piece):
            m.d.sync += began.eq(1)
            with m.If(~began):
                m.d.sync += tile_row.eq(base)
            with m.If(summing):
                m.d.comb += last.eq(1)
            with m.Elif((row == ROWS - 1) | (top + row == rows - 1)):
                m.d.sync += [row.eq(0), stripe.eq(stripe + COLUMNS), here.eq(Mux(began, tile_row, base))]
                with m.If(stripe + COLUMNS >= columns):
                    m.d.sync += [stripe.eq(0), top.eq(top + ROWS), here.eq(at + destination.pitch),
                                 tile_row.eq(at + destination.pitch)]
                    with m.If(top + ROWS >= rows):
                        m.d.sync += summing.eq(emit)
                        m.d.comb += last.eq(~emit)
            with m.Else():
                m.d.sync += [row.eq(row + 1), here.eq(at + destination.pitch)]
        following = Signal()    # everything of this macro-tile has been asked for
        with m.If(last):
            m.d.sync += [following.eq(1), first_row.eq(Mux(summing, here, at + destination.pitch))]
        with m.If(areas.r_en):
            m.d.sync += [following.eq(0), began.eq(0), summing.eq(0), top.eq(0), row.eq(0), stripe.eq(0),
                         second.eq(~second)]
        wanted = Mux(summing, destination.sums + (start << 2), at + ((start + stripe) << shift))
        length = Mux(summing, columns << 2, Mux(rest < COLUMNS, rest, COLUMNS) << shift)
        self.claim(m, "a piece lies where its row and column are", segment.address == wanted[:32],
                   when=piece)
        self.claim(m, "a piece ends with its stripe or its row", segment.bytes == length, when=piece)
        self.claim(m, "no piece beyond a macro-tile's last", ~following, when=piece)
        self.claim(m, "a macro-tile is left when all of it has been asked for", following | last,
                   when=areas.r_en)
        self.claim(m, "a record is two words at its place", when=is_record,
                   holds=dut.record_burst & (segment.address == destination.record)
                   & (segment.bytes == 2 * WORD))
        self.cover(m, "two tiles of rows in two stripes, and sums",
                   last & emit & (rows == M) & (columns == N))
        self.cover(m, "a macro-tile beside another one", last & second & beside & (rows == M))
        self.cover(m, "a macro-tile below another one", last & second & ~beside & (rows == M))
        self.cover(m, "a record", is_record)


class Strobes(Checker):
    """Words to the port, whatever comes from the read-out and whatever is to be stored."""

    def build(self, m):
        m.submodules.dut = dut = _unit()
        for port, name in ((dut.i_destination.payload, "destination"), (dut.i.payload, "order"),
                           (dut.i_beat.payload, "beat"), (dut.i_written, "written")):
            m.d.comb += port.as_value().eq(any_of(m, len(port.as_value()), name))
        for port, name in ((dut.i_destination.valid, "destination_valid"), (dut.i.valid, "order_valid"),
                           (dut.i_beat.valid, "beat_valid"), (dut.o_word.ready, "word_ready"),
                           (dut.o_burst.ready, "burst_ready"), (dut.i_ready, "ready"),
                           (dut.i_empty, "empty"), (dut.i_runs_begun, "runs_begun"),
                           (dut.i_loads_done, "loads_done"), (dut.i_max_abs, "max_abs")):
            m.d.comb += port.eq(any_of(m, len(port), name))
        beat, word = dut.i_beat, dut.o_word
        self.assume(m, beat.payload.count <= WORD)
        given, sent = beat.valid & beat.ready, word.valid & word.ready
        strobe = Signal(WORD)
        m.d.comb += [strobe[n].eq(n < beat.payload.count) for n in range(WORD)]
        self.claim(m, "a beat becomes a word at once", sent, when=given)
        self.claim(m, "of a beat its bytes are strobed and no other", when=given,
                   holds=(word.payload.strobe == strobe) & (word.payload.bytes == beat.payload.bytes))
        of_record = sent & ~given
        records = Signal(2)
        with m.If(of_record):
            m.d.sync += records.eq(records + 1)
        with m.If(dut.o_completed):
            m.d.sync += records.eq(0)
        self.claim(m, "words without a beat are a record's, whole", when=of_record,
                   holds=dut.o_recorded & word.payload.strobe.all())
        self.claim(m, "a record has two words", records == Mux(dut.o_recorded, 2, 0),
                   when=dut.o_completed)
        self.cover(m, "a record is complete", dut.o_completed & dut.o_recorded)
        self.cover(m, "the rest of a row", given & (beat.payload.count == 3)
                   & past(m, word.valid & ~word.ready, "waited"))


PROPERTIES = [
    Property("store.rows", "What is written are the rows of the result, in order, sums and records",
             "StoreUnit", f"rows={ROWS}, columns={COLUMNS}; macro-tiles of up to {M} by {N}", Rows,
             "pdr", 24, covered=40, faults=(
                 Fault("the last stripe is as wide as the others", "store_unit",
                       r"Mux\(narrow, columns_left, self\.columns\)", "self.columns", cheap=True),
                 Fault("a macro-tile below another one begins at its last row of tiles", "store_unit",
                       r"row_after\.eq\(row\)", "row_after.eq(top)"),
             )),
    Property("store.strobes", "Bytes of a beat are strobed, and of a record's two words all; no other",
             "StoreUnit", f"rows={ROWS}, columns={COLUMNS}", Strobes, "pdr", 20, covered=20, faults=(
                 Fault("a word is strobed whole", "store_unit",
                       r"beat\.payload\.count > n\)", "beat.payload.count != 0)", cheap=True),
             )),
]
