"""The instruction set: the one place that knows encodings.

``function_id`` of the CFU bus is ``{funct7, funct3}``. ``funct3`` is the operation, ``funct7`` its
register or port. The two inputs and the output are 32 bits each. A core with a memory port also
takes descriptors of whole products. Hardware, driver, C header and
docs/isa.md all derive from the tables below (``python -m backbeat_rtl.isa_export``).
"""

from dataclasses import dataclass
from enum import IntEnum

from amaranth.lib import data

__all__ = [
    "DESCRIPTOR", "DESCRIPTOR_OPS", "DESCRIPTOR_WORDS", "ERRORS", "FETCHED_WORDS", "FIELDS", "IDENTITY",
    "MAX_DIMENSION", "MAX_K", "MAX_RUN", "OPERATIONS", "PORTS", "READABLE", "RECORD_WORD", "WRITABLE",
    "DescriptorOp", "Error", "Field", "Op", "Port", "Read", "Write", "decode", "decode_descriptor",
    "encode", "encode_descriptor", "function_id", "layout",
]

#: Top byte of the ID register, and the version of this instruction set in its lowest.
IDENTITY, VERSION = 0xBB, 2


class Op(IntEnum):
    """``funct3``."""

    GET     = 0
    SET     = 1
    LOAD    = 2
    PUSH    = 3
    RUN     = 4
    READOUT = 5
    READ    = 6
    RESET   = 7


class Read(IntEnum):
    """``funct7`` of GET."""

    ID          = 0
    SIZE        = 1
    STATUS      = 2
    ERROR       = 3
    ERROR_VALUE = 4
    MAX_ABS     = 5
    CYCLES      = 6
    BUSY        = 7
    FED         = 8
    COMPLETED   = 9
    FENCE       = 10
    FAILED      = 11
    READ_BEATS  = 12
    WRITE_BEATS = 13
    LOAD_BUSY   = 14
    LOAD_WAIT   = 15
    RUN_WAIT    = 16
    STORE_BUSY  = 17
    STORE_WAIT  = 18


class Write(IntEnum):
    """``funct7`` of SET."""

    SEED    = 0
    PITCH   = 1
    CLIP    = 2
    SHIFT   = 3
    TABLE   = 4
    MAX_ABS = 5
    DOORBELL = 6
    START    = 7


class Port(IntEnum):
    """``funct7`` of PUSH and (A and B) of LOAD."""

    A          = 0
    B          = 1
    TABLE      = 2
    DESCRIPTOR = 3


class Error(IntEnum):
    """Value of the ERROR register; the first error stays until RESET."""

    NONE       = 0
    ILLEGAL    = 1
    SIZE       = 2
    NOT_LOADED = 3
    DEPTH      = 4
    NO_LOAD    = 5
    NO_RESULT  = 6
    OPERAND    = 7
    BUSY       = 8
    ALIGNMENT  = 9
    DIMENSION  = 10
    PITCH      = 11
    PLAN       = 12
    UNKNOWN    = 13
    BUS_READ   = 14
    BUS_WRITE  = 15
    TIMEOUT    = 16


class DescriptorOp(IntEnum):
    """``op`` of a descriptor."""

    NONE = 0
    GEMM = 1


OPERATIONS = {
    Op.GET:     "Returns the register `funct7`. Works in the error state.",
    Op.SET:     "Writes the register `funct7`. Not while values that depend on it are being read.",
    Op.LOAD:    "Starts loading a panel of operand `funct7`; waits while the half is being computed on.",
    Op.PUSH:    "Next 8 operand bytes of the panel (input 0 holds the first four), or next table entry.",
    Op.RUN:     "Multiplies the loaded panels; waits while another run is queued. Returns at once.",
    Op.READOUT: "Starts reading a product; its words come when its runs have ended.",
    Op.READ:    "Next result word: one INT32, or up to four INT8 of a row. Waits for it.",
    Op.RESET:   "Forgets everything but buffer contents, mid-run too. Any `funct7`.",
}

READABLE = {
    Read.ID:          "`version`, `rows`, `columns` of the array, `identity` 0xBB",
    Read.SIZE:        "`depth` in bytes per lane and half, `tiles` per half of the accumulators",
    Read.STATUS:      "`loading`, `running`, `reading`",
    Read.ERROR:       "first error since reset, see Errors",
    Read.ERROR_VALUE: "the value that caused it",
    Read.MAX_ABS:     "largest accumulator magnitude read since it was cleared",
    Read.CYCLES:      "clock cycles since reset, modulo 2^32",
    Read.BUSY:        "of these, cycles in which a run was in progress",
    Read.FED:         "of these, cycles in which the array was fed a step of K",
    Read.COMPLETED:   "descriptors completed since reset, their results in memory",
    Read.FENCE:       "waits, at most 65,536 cycles, until no descriptor is in progress: 1 if so",
    Read.FAILED:      "address of the descriptor that failed (0: it was pushed)",
    Read.READ_BEATS:  "words of 8 bytes read from memory",
    Read.WRITE_BEATS: "words of 8 bytes (or parts of one) written to memory",
    Read.LOAD_BUSY:   "cycles in which a panel was being loaded",
    Read.LOAD_WAIT:   "of these, cycles without a word from memory",
    Read.RUN_WAIT:    "cycles in which a run waited for its panels or for room for its sums, and "
                      "none was in progress",
    Read.STORE_BUSY:  "cycles in which a product was being stored",
    Read.STORE_WAIT:  "of these, cycles in which a word waited for the memory",
}

WRITABLE = {
    Write.SEED:    "seed of stochastic rounding",
    Write.PITCH:   "columns of C: the element index grows by it from row to row",
    Write.CLIP:    "`zero_point`, `low`, `high` (signed bytes) of the requantised result",
    Write.SHIFT:   "`shift` 0...62 of the table entries pushed from now on",
    Write.TABLE:   "place of the next table entry, which the ones after it follow",
    Write.MAX_ABS: "clears the maximum",
    Write.DOORBELL: "carries out the chain of descriptors that begins at this address",
    Write.START:    "carries out the one descriptor that has been pushed",
}

PORTS = {
    Port.A:     "rows of the array; bytes -127...127, padding included",
    Port.B:     "columns of the array; bytes -128...127",
    Port.TABLE: "epilogue table (PUSH only): input 0 is the bias, input 1 the multiplier",
    Port.DESCRIPTOR: "a descriptor (PUSH only), two words each; START forgets them",
}

ERRORS = {
    Error.NONE:       "no error",
    Error.ILLEGAL:    "no such operation, register or port (value: function_id)",
    Error.SIZE:       "a size beyond the buffers, or zero (value: the input word)",
    Error.NOT_LOADED: "RUN before a panel was complete (value: input 0)",
    Error.DEPTH:      "the panels differ in depth, or in extent from the sums to add to "
                      "(value: input 0)",
    Error.NO_LOAD:    "PUSH without a panel that wants words (value: function_id)",
    Error.NO_RESULT:  "READOUT of a half that holds no product (value: input 0), or READ beyond "
                      "its last word (value: function_id)",
    Error.OPERAND:    "-128 on port A (value: words pushed before it in this panel)",
    Error.BUSY:       "RUN or READOUT while a product is still being read, or DOORBELL, START or a "
                      "pushed descriptor while one is in progress (value: input 0)",
    Error.ALIGNMENT:  "an address or pitch in a descriptor is no multiple of 8 (value: it)",
    Error.DIMENSION:  "M, N, K or a size of the gathered tensor is zero or too large (value: it)",
    Error.PITCH:      "a pitch is smaller than the row (value: the pitch)",
    Error.PLAN:       "panels or chunk do not fit the buffers, or split words (value: the word)",
    Error.UNKNOWN:    "no such op in a descriptor (value: its first word)",
    Error.BUS_READ:   "the memory answered a read with an error (value: address of the burst)",
    Error.BUS_WRITE:  "the memory answered a write with an error (value: address of the first write "
                      "not acknowledged)",
    Error.TIMEOUT:    "the memory was silent for 65,536 cycles (value: 0)",
}


@dataclass(frozen=True)
class Field:
    """Bits ``lsb`` to ``lsb + width - 1`` of a 32-bit input or register."""

    name: str
    lsb: int
    width: int
    doc: str = ""


#: Fields of each word that has any: the inputs of an operation, or a register.
FIELDS = {
    "LOAD.0": (
        Field("depth",      0, 16, "K steps of the panel"),
        Field("tiles",     16,  8, "tiles of rows (columns)"),
        Field("last",      24,  8, "rows (columns) of the last tile"),
    ),
    "LOAD.1": (
        Field("half",       0,  1, "half of the scratchpad"),
        Field("across",     1,  1, "words lie across rows (columns), not along K"),
    ),
    "RUN.0": (
        Field("a_half",     0,  1, "half of A"),
        Field("b_half",     1,  1, "half of B"),
        Field("c_half",     2,  1, "half of the accumulators"),
        Field("accumulate", 3,  1, "add to what is there"),
    ),
    "READOUT.0": (
        Field("half",       0,  1, "half of the accumulators"),
        Field("requantise", 1,  1, "INT8 instead of INT32"),
        Field("stochastic", 2,  1, "stochastic rounding instead of nearest"),
    ),
    "ID": (
        Field("version",    0,  8),
        Field("rows",       8,  8),
        Field("columns",   16,  8),
        Field("identity",  24,  8),
    ),
    "SIZE": (
        Field("depth",      0, 16, "bytes per lane in a half"),
        Field("tiles",     16,  8, "accumulator tiles in a half"),
        Field("banks",     24,  7, "parts of a scratchpad that descriptors load panels into"),
        Field("memory",    31,  1, "there is a memory port"),
    ),
    "STATUS": (
        Field("loading",    0,  1),
        Field("running",    1,  1),
        Field("reading",    2,  1),
        Field("moving",     3,  1, "a descriptor is in progress"),
    ),
    "TABLE": (
        Field("tile",       0,  8, "tile of columns"),
        Field("lane",       8,  8, "column in it"),
    ),
    "CLIP": (
        Field("zero_point", 0,  8),
        Field("low",        8,  8),
        Field("high",      16,  8),
    ),
}

#: Words of 32 bits of a descriptor; of these the core reads the first, and writes the last four.
DESCRIPTOR_WORDS, FETCHED_WORDS, RECORD_WORD = 48, 34, 44
#: Largest M and N, and largest K (whose INT32 sum cannot overflow: K * 2**14 < 2**31).
MAX_DIMENSION, MAX_K = 2**24 - 1, 2**17 - 1
#: Steps of K in one run: what the counters in the array are wide enough for.
MAX_RUN = 512

DESCRIPTOR_OPS = {
    DescriptorOp.NONE: "nothing: only its `fence`, `next` and completion count",
    DescriptorOp.GEMM: "C = op(A) op(B)",
}

#: Each word of a descriptor: its fields.
DESCRIPTOR = {
    0: (
        Field("op",             0,  8, "see Descriptor ops"),
        Field("a_across",       8,  1, "A is stored (K, M)"),
        Field("b_across",       9,  1, "B is stored (K, N)"),
        Field("requantise",    10,  1, "C is INT8, else INT32"),
        Field("stochastic",    11,  1, "stochastic rounding instead of nearest"),
        Field("sums",          12,  1, "also store the sum of each column of C, INT32 modulo 2^32; "
                                       "only with `columns_outer`"),
        Field("columns_outer", 13,  1, "loop over column panels outside, row panels inside"),
        Field("fence",         14,  1, "begin when all descriptors before it are completed"),
        Field("gather_a",      15,  1, "A is gathered from a tensor (N, H, W, C)"),
        Field("gather_b",      16,  1, "B is"),
        Field("last",          17,  1, "end of the chain"),
    ),
    1:  (Field("next",          0, 32, "address of the next descriptor"),),
    2:  (Field("a",             0, 32, "address of A; of the pixel of row 0, column 0 if gathered "
                                       "(which may lie outside of the tensor)"),),
    3:  (Field("b",             0, 32, "address of B, likewise"),),
    4:  (Field("c",             0, 32, "address of C"),),
    5:  (Field("table",         0, 32, "address of N entries of four words: bias, multiplier, shift, 0; "
                                       "with `requantise`"),),
    6:  (Field("sums_address",  0, 32, "where the sums of the columns go"),),
    7:  (Field("a_pitch",       0, 32, "bytes from row to row of A as stored"),),
    8:  (Field("b_pitch",       0, 32, "of B"),),
    9:  (Field("c_pitch",       0, 32, "of C"),),
    10: (Field("m",             0, 32),),
    11: (Field("n",             0, 32),),
    12: (Field("k",             0, 32),),
    13: (
        Field("a_panel",        0, 16, "rows of C in a macro-tile"),
        Field("b_panel",       16, 16, "columns of C in a macro-tile"),
    ),
    14: (
        Field("chunk",          0, 16, "steps of K in a run"),
        Field("last_chunk",    16, 16, "what is left of K is one run if it is no more than this (or "
                                       "than `chunk`)"),
    ),
    15: (Field("seed",          0, 32, "of stochastic rounding"),),
    16: (
        Field("zero_point",     0,  8),
        Field("low",            8,  8),
        Field("high",          16,  8),
    ),
    17: (Field("b_group",       0, 32, "rows of B as stored that `b_pitch` steps through before "
                                       "`b_wrap` replaces it once; 0: all"),),
    18: (Field("b_wrap",        0, 32, "bytes from the last row of a group to the first of the next "
                                       "(signed)"),),
    # A gathered operand is a matrix of pixels (n, p, q) by taps (r, s, c), never stored: its byte is
    # tensor[n, y, x, c] at position y = (p * step + r * tap + origin) / insert, or 0 where that is
    # no integer or outside; likewise x.
    20: (
        Field("pixel",          0, 16, "bytes of a pixel (C), a multiple of 8"),
        Field("taps_x",        16, 16, "S"),
    ),
    21: (
        Field("grid_y",         0, 16, "P"),
        Field("grid_x",        16, 16, "Q"),
    ),
    22: (
        Field("limit_y",        0, 16, "(H - 1) * insert_y + 1"),
        Field("limit_x",       16, 16, "(W - 1) * insert_x + 1"),
    ),
    23: (
        Field("origin_y",       0, 16, "position of tap 0 of pixel 0 (signed)"),
        Field("origin_x",      16, 16),
    ),
    24: (
        Field("step_y",         0,  8, "positions from pixel to pixel"),
        Field("step_x",         8,  8),
        Field("tap_y",         16,  8, "positions from tap to tap"),
        Field("tap_x",         24,  8),
    ),
    25: (
        Field("step_y_rest",    0,  8, "step_y modulo insert_y"),
        Field("step_x_rest",    8,  8),
        Field("tap_y_rest",    16,  8),
        Field("tap_x_rest",    24,  8),
    ),
    26: (
        Field("insert_y",       0,  8, "distance of the tensor's rows in positions: 1, or the stride "
                                       "whose gradient is computed"),
        Field("insert_x",       8,  8),
        Field("origin_y_rest", 16,  8, "origin_y modulo insert_y (not negative)"),
        Field("origin_x_rest", 24,  8),
    ),
    27: (Field("row_pitch",     0, 32, "bytes from row to row of the tensor"),),
    28: (Field("image_pitch",   0, 32, "bytes from image to image"),),
    29: (Field("step_y_bytes",  0, 32, "(step_y // insert_y) * row_pitch"),),
    30: (Field("step_x_bytes",  0, 32, "(step_x // insert_x) * pixel"),),
    31: (Field("tap_y_bytes",   0, 32, "(tap_y // insert_y) * row_pitch"),),
    32: (Field("tap_x_bytes",   0, 32, "(tap_x // insert_x) * pixel"),),
    # Written by the core when the product is complete.
    44: (Field("done",          0, 32, "1"),),
    45: (Field("max_abs",       0, 32, "largest accumulator magnitude"),),
    46: (Field("begun",         0, 32, "CYCLES when the core took the descriptor up"),),
    47: (Field("ended",         0, 32, "CYCLES when its last result was in memory"),),
}


def function_id(op: Op, funct7: int = 0) -> int:
    """The CFU's 10-bit function_id."""
    return int(funct7) << 3 | int(op)


def encode(word: str, **values: int) -> int:
    """The 32-bit word of those field values; negative ones in two's complement.

    Raises
    ------
    ValueError
        A value does not fit its field, or a field has no value.
    """
    out = 0
    for field in FIELDS[word]:
        if field.name not in values:
            raise ValueError(f"{word}: no value for {field.name}")
        value = int(values.pop(field.name))
        if not -(1 << field.width - 1) <= value < 1 << field.width:
            raise ValueError(f"{word}: {field.name} must fit {field.width} bits, got {value}")
        out |= (value & (1 << field.width) - 1) << field.lsb
    if values:
        raise ValueError(f"{word} has no field {', '.join(values)}")
    return out


def decode(word: str, value: int) -> dict[str, int]:
    """The (unsigned) field values of a 32-bit word."""
    return {f.name: value >> f.lsb & (1 << f.width) - 1 for f in FIELDS[word]}


def layout(word: str) -> data.FlexibleLayout:
    """The word's layout in hardware."""
    return data.FlexibleLayout(32, {f.name: data.Field(f.width, f.lsb) for f in FIELDS[word]})


def encode_descriptor(**values: int) -> bytes:
    """The descriptor of those field values, all others zero; negative ones in two's complement.

    Raises
    ------
    ValueError
        A value does not fit its field, or there is no such field.
    """
    words = [0] * DESCRIPTOR_WORDS
    for number, fields in DESCRIPTOR.items():
        for field in fields:
            value = int(values.pop(field.name, 0))
            if not -(1 << field.width - 1) <= value < 1 << field.width:
                raise ValueError(f"descriptor: {field.name} must fit {field.width} bits, got {value}")
            words[number] |= (value & (1 << field.width) - 1) << field.lsb
    if values:
        raise ValueError(f"a descriptor has no field {', '.join(values)}")
    return b"".join(word.to_bytes(4, "little") for word in words)


def decode_descriptor(raw: bytes) -> dict[str, int]:
    """The (unsigned) field values of a descriptor."""
    words = [int.from_bytes(raw[4 * n:4 * n + 4], "little") for n in range(DESCRIPTOR_WORDS)]
    return {f.name: words[number] >> f.lsb & (1 << f.width) - 1
            for number, fields in DESCRIPTOR.items() for f in fields}
