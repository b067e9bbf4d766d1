"""The instruction set: the one place that knows encodings.

``function_id`` of the CFU bus is ``{funct7, funct3}``. ``funct3`` is the operation, ``funct7`` its
register or port. The two inputs and the output are 32 bits each. Hardware, driver, C header and
docs/isa.md all derive from the tables below (``python -m backbeat_rtl.isa_export``).
"""

from dataclasses import dataclass
from enum import IntEnum

from amaranth.lib import data

__all__ = [
    "ERRORS", "FIELDS", "IDENTITY", "OPERATIONS", "PORTS", "READABLE", "WRITABLE", "Error", "Field",
    "Op", "Port", "Read", "Write", "decode", "encode", "function_id", "layout",
]

#: Top byte of the ID register, and the version of this instruction set in its lowest.
IDENTITY, VERSION = 0xBB, 1


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


class Write(IntEnum):
    """``funct7`` of SET."""

    SEED    = 0
    PITCH   = 1
    CLIP    = 2
    SHIFT   = 3
    TABLE   = 4
    MAX_ABS = 5


class Port(IntEnum):
    """``funct7`` of PUSH and (A and B) of LOAD."""

    A     = 0
    B     = 1
    TABLE = 2


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
}

WRITABLE = {
    Write.SEED:    "seed of stochastic rounding",
    Write.PITCH:   "columns of C: the element index grows by it from row to row",
    Write.CLIP:    "`zero_point`, `low`, `high` (signed bytes) of the requantised result",
    Write.SHIFT:   "`shift` 0...62 of the table entries pushed from now on",
    Write.TABLE:   "column of the next table entry",
    Write.MAX_ABS: "clears the maximum",
}

PORTS = {
    Port.A:     "rows of the array; bytes -127...127, padding included",
    Port.B:     "columns of the array; bytes -128...127",
    Port.TABLE: "epilogue table (PUSH only): input 0 is the bias, input 1 the multiplier",
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
    Error.BUSY:       "RUN or READOUT while a product is still being read (value: input 0)",
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
        Field("depth",      0, 16),
        Field("tiles",     16, 16),
    ),
    "STATUS": (
        Field("loading",    0,  1),
        Field("running",    1,  1),
        Field("reading",    2,  1),
    ),
    "CLIP": (
        Field("zero_point", 0,  8),
        Field("low",        8,  8),
        Field("high",      16,  8),
    ),
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
