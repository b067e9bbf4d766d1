"""The operand buffers: one byte-wide lane per array row or column, written in either orientation."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import WORD
from .pipeline import delay, delay_line

__all__ = ["READ_LATENCY", "LaneWrite", "Scratchpad", "Transposer", "lane_write"]

#: Cycles from ``i_read`` to lane group 0's operand.
READ_LATENCY = 2


def lane_write(lanes: int, words: int):
    """Layout of one write: which lanes, which bytes of them, at which word.

    ``lanes`` is one bit per lane; ``bytes`` one bit per byte of the word; ``words`` counts both
    halves.
    """
    return data.StructLayout({"lanes": lanes, "bytes": WORD, "word": range(words)})


#: The data of one write for each lane phase (lane index modulo 8).
LaneWrite = data.ArrayLayout(8 * WORD, WORD)


class Transposer(wiring.Component):
    """Turns an operand word into lane data for either orientation, once for all lanes.

    A word along K goes whole into one lane; a word across lanes puts byte j into lane 8g + j, at
    one byte position of each. So all lanes with the same index modulo 8 see the same data: the
    word, or its byte j in every position. The byte enables choose the position.

    Latency 2 cycles: the word is masked in the first, so that what each of 512 bits chooses from in the
    second is an OR of two.

    Members
    -------
    i_word : 64 bit
        Operand bytes, lowest address first.
    i_across : bit
        The word lies across lanes.
    o_data : LaneWrite
        Lane data by phase.
    """

    i_word: In(8 * WORD)
    i_across: In(1)
    o_data: Out(LaneWrite)

    def elaborate(self, _platform):
        m = Module()
        lanes = Signal(LaneWrite, reset_less=True)
        along, across = (Signal(8 * WORD, name=name, reset_less=True) for name in ("along", "across"))
        m.d.sync += [along.eq(Mux(self.i_across, 0, self.i_word)),
                     across.eq(Mux(self.i_across, self.i_word, 0))]
        m.d.sync += [lanes[phase].eq(along | across.word_select(phase, 8).replicate(WORD))
                     for phase in range(WORD)]
        m.d.comb += self.o_data.eq(lanes)
        return m


class Scratchpad(wiring.Component):
    """Double-buffered lanes that feed one slice of an operand per cycle, skewed for the array.

    Each lane is one simple dual-port RAM, 64-bit writes with byte enables, byte-wide reads; both
    halves lie in it, the half being the top address bit. The skew of the array is a delay chain on
    the read address: group g of ``group`` lanes reads g cycles after group 0.

    Writes take effect 2 cycles after ``i_write``; a read returns group 0's operands after
    ``READ_LATENCY`` cycles, group g's g cycles later. One write and one read per cycle.

    Parameters
    ----------
    lanes : int
        Rows (columns) of the array.
    group : int
        Lanes that share a read address: 2 for the rows of the packed side, 1 for columns.
    depth : int
        Bytes per lane and half.

    Members
    -------
    i_write : lane_write(lanes, 2 * depth / 8)
        One cycle ahead of ``i_data``, when the lanes' own registers have it.
    i_data : LaneWrite
    i_read : {valid, first, address}
        ``address`` in bytes, the half on top. Without ``valid`` the operands are zero.
    o_first : bit[lanes / group]
        ``first`` of the read, beside its operands.
    o_operands : 8 bit[lanes]
    """

    def __init__(self, *, lanes: int, group: int, depth: int):
        if lanes % group:
            raise ValueError(f"lanes must be a multiple of group {group}, got {lanes}")
        if depth % WORD or depth.bit_count() != 1:
            raise ValueError(f"depth must be a power of two of at least {WORD}, got {depth}")
        self.lanes, self.group, self.depth = lanes, group, depth
        read = data.StructLayout({"valid": 1, "first": 1, "address": range(2 * depth)})
        super().__init__({
            "i_write":    In(lane_write(lanes, 2 * depth // WORD)),
            "i_data":     In(LaneWrite),
            "i_read":     In(read),
            "o_first":    Out(lanes // group),
            "o_operands": Out(data.ArrayLayout(8, lanes)),
        })

    def elaborate(self, _platform):
        m = Module()
        word = delay(m, self.i_write.word, 1, name="word")
        walk = delay_line(m, self.i_read.as_value(), self.lanes // self.group - 1, name="read")
        for g, read in enumerate(walk):
            read = data.View(self.i_read.shape(), read)
            valid = delay(m, read.valid, 1, name=f"valid_{g}")
            m.d.comb += self.o_first[g].eq(delay(m, read.first, READ_LATENCY, name=f"first_{g}"))
            for lane in range(g * self.group, (g + 1) * self.group):
                memory = Memory(shape=8, depth=2 * self.depth, init=[])
                m.submodules[f"lane_{lane}"] = memory
                enable = Signal(WORD, name=f"enable_{lane}", reset_less=True)
                # A register's own reset is the gate: no LUT for each of a lane's eight.
                m.d.sync += enable.eq(Mux(self.i_write.lanes[lane], self.i_write.bytes, 0))
                # Eight byte-wide write ports at neighbouring addresses are one 64-bit port with
                # byte enables: this is how a RAMB36 of unequal port widths is written down.
                for byte in range(WORD):
                    port = memory.write_port()
                    m.d.comb += [
                        port.addr.eq(Cat(Const(byte, 3), word)),
                        port.data.eq(self.i_data[lane % WORD].word_select(byte, 8)),
                        port.en.eq(enable[byte]),
                    ]
                port = memory.read_port()
                operand = Signal(8, name=f"operand_{lane}", reset_less=True)
                m.d.comb += [port.addr.eq(read.address), port.en.eq(1)]
                with m.If(valid):
                    m.d.sync += operand.eq(port.data)
                with m.Else():
                    m.d.sync += operand.eq(0)
                m.d.comb += self.o_operands[lane].eq(operand)
        return m
