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
    ("load_addresses", r"column_after_0\[(19|2\d|3\d)\]",
     "bytes along a row, of which a descriptor cannot ask for so many"),
    ("loop_nest", r"^const0 .*\.B\[6\] .*i_fields\[431:416\]",
     "a panel of 64 rows, which fits no bank of this core and is refused"),
    ("door", r"(\(\$112\[\d+\]\) of Cfu\.core\.engine\.readout,|engine\.readout, .*signal\$40 )",
     "stripes beside each other, which only descriptors have"),
    ("door", r"^const0 .*\(\$25\[4\]\) of Cfu\.core\.engine\.datapath",
     "the bank that a run leaves, of which commands only ask for the half"),
    ("door", r"^const0 .*\.B\[2\d\] of Cfu\.core\.engine, .*casez \(i_order\[2:0\]\)",
     "an upper bit of a counter: of 2^24 cycles"),
    ("core", r"^const0 .*(i_cycles\[2\d\]|\$197\[24\]|\$45\[26\])",
     "an upper bit of a counter: of 2^24 chains, words or cycles"),
    ("core", r"\(column_after\[2\d\]\) of \S*\.store,",
     "where the next stripe of a result lies: one of more than a million columns"),
    ("core", r"^(const1 \S*_CMP0\.Y|inv \S*mux\S*\.A)\[0\] of Cfu\.core\.engine, .*casez \(i_order\[",
     "what a command asks for: it counts beside its start, and this is between commands"),
)


def reason(subject: str, mutant: Mutant) -> str:
    """Why that one survives, empty if it is not known."""
    return next((why for name, pattern, why in _REASONS
                 if name in ("", subject) and re.search(pattern, str(mutant))), "")
