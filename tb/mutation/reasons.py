"""Why mutants survive that are known to."""

import re

from .mutants import Mutant

__all__ = ["reason"]

#: Module (any if empty), what matches the mutant's description, and why no bench can notice.
_REASONS = (
    ("", r"^(inv|const1) \S*procmux\S*\.B\[\d+\] .*: if \(\w*rst\)",
     "what a register holds after reset that is loaded before anybody looks at it"),
    ("door", r"^cnot0 by \[28\] .*D\[26\]", "a bit of SET CLIP that means nothing"),
    ("door", r"^const0 .*\(\$14\[16\]\) of Cfu\.core\.engine\.datapath,",
     "a panel's first word: loaded by commands it lies at the beginning of a half"),
    ("door", r"\.A\[42\] .* of Cfu\.core\.engine\.readout, .*i_start_valid",
     "the first index, which is looked at in the cycle in which it comes"),
    ("load_addresses", r"^cnot1 by \[[012]\] .*address",
     "waits for one of the lowest three bits of an address, which are always 0"),
    ("memory_port", r"^\w+ .*r_data\[64\]",
     "the lower bit of a response: the upper one says that it is an error"),
    ("memory_port", r"^cnot1 by \[16\] .*: if \(rst\)",
     "counts cycles of silence after they have been long enough"),
    ("npu", r"^cnot1 by \[1\] .*bresp\[0\]", "which of two errors a response names"),
    ("npu", r"^cnot1 by \[6\] .*awlen", "waits for a burst of stores as long as no stripe is"),
    ("gather", r"^cnot1 by \[[012]\] .*carry",
     "waits for one of the lowest three bits of a distance, all of which are multiples of 8"),
    ("gather", r"^cnot1 by \[8\] .*rest", "waits for a bit that is never set: a rest is below 255"),
    ("realigner", r": assign .*\? \S+signal\S* \[23:16\] : 8'h00;",
     "a piece for 6 or 5 lanes has fewer than 3 bytes only at the end of a row, behind which there is "
     "nothing but zeros"),
)


def reason(subject: str, mutant: Mutant) -> str:
    """Why that one survives, empty if it is not known."""
    return next((why for name, pattern, why in _REASONS
                 if name in ("", subject) and re.search(pattern, str(mutant))), "")
