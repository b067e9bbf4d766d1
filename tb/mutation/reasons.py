"""Why mutants survive that are known to."""

import re

from .mutants import Mutant

__all__ = ["reason"]

#: Module (any if empty), what matches the mutant's description, and why no bench can notice.
_REASONS = (
    ("", r"^(inv|const1) \S*procmux\S*\.B\[\d+\] .*: if \((\w*rst|resetting)\)",
     "what a register holds after reset that is loaded before anybody looks at it"),
    ("epilogue", r"\.A\[\d+\] of Epilogue\.requantiser, .*if \(i_requantise\)",
     "what stays in the pipeline without i_requantise, which only changes when nothing is inside"),
    ("column_group", r"(\.B\[53\] of ColumnGroup, .*signal\$76|\(\$151\[0\]\) of ColumnGroup)",
     "the last byte of seven, of which nothing is kept for one behind it"),
    ("joiner", r"^const0 .*: assign \S+ += held > 3'h5",
     "a byte behind those that are held, which what comes next replaces"),
    ("gather", r"^cnot1 by \[17\] .*signal\$19\[62\]",
     "turned by an odd pair of bytes in a pixel, of which there are eights"),
    ("gather", r"^cnot1 by \[185\] ", "turned by bytes along a row: half a million of them"),
    ("load_addresses", r"^cnot1 by \[11\] .*\(\$48\[29\]\)",
     "turned by rows of a group: two thousand of them"),
    ("door", r"\(\$24\[0\]\) of Cfu\.core\.engine\.readout,",
     "stripes beside each other, which only descriptors have"),
    ("door", r"^cnot0 by \[0\] .*\(\$25\[\d\]\) of Cfu\.core\.engine\.datapath",
     "the bank that a run leaves while none does"),
    ("door", r"^const0 .*\(\$272\[2\d\]\) of Cfu\.core\.engine,", "an upper bit of a counter of cycles"),
    ("door", r"^cnot1 by \[125\] ", "turned by a bit of an error's number that none has"),
    ("core", r"^inv .*\.A\[\d+\] of \S*\.store, .*if \(i__ready\)",
     "where a macro-tile begins: it counts in the cycle after it has been taken"),
    ("core", r"^const0 .*\.Y\[1\] of \S*\.store, .*if \(i__ready\)",
     "a column where a macro-tile begins: a multiple of the array's four"),
    ("core", r"^inv .*o_read_start_valid\[0\]",
     "which half is read, a cycle late: nothing of it is complete so soon"),
    ("core", r"\(\$155\[2\d\]\) of \S*\.store,",
     "a column where a macro-tile begins: the four-millionth"),
    ("core", r"^const\d nest\.\S+ \(\$113\[(3[2-9]|[45]\d|6[0-3])\]\) ",
     "a word of the descriptor that says nothing"),
)


def reason(subject: str, mutant: Mutant) -> str:
    """Why that one survives, empty if it is not known."""
    return next((why for name, pattern, why in _REASONS
                 if name in ("", subject) and re.search(pattern, str(mutant))), "")
