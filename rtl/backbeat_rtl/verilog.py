"""Verilog of any of our modules, byte-identical for the same source and configuration."""

import contextlib
import gc
import re
from collections.abc import Iterator

from amaranth.back import verilog

from .cfu import Cfu
from .config import Config
from .npu import NPU

__all__ = ["cfu_verilog", "npu_verilog", "to_verilog"]

#: Amaranth writes every word of a memory's initial value; where all are zero a loop is shorter.
_ZEROED_MEMORY = re.compile(
    r"  reg \[(?P<width>\d+):0\] (?P<name>\\\S+ |\w+) \[(?P<last>\d+):0\];\n"
    r"  initial begin\n(?:    (?:\\\S+ |\w+)\[\d+\] = \d+'h0+;\n)+  end\n")
#: The only attributes that carry a path.
_SOURCE = re.compile(r"^ *\(\* src = .*\*\)\n", re.MULTILINE)


def _zero_in_a_loop(match: re.Match) -> str:
    width, name, last = match["width"], match["name"], match["last"]
    label = re.sub(r"\W", "_", name.strip())
    return (f"  reg [{width}:0] {name} [{last}:0];\n"
            f"  initial begin : zero_{label}\n"
            f"    integer i;\n"
            f"    for (i = 0; i <= {last}; i = i + 1) {name}[i] = 0;\n"
            f"  end\n")


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Amaranth makes millions of objects that all stay; looking for garbage among them again and
    again takes more than half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def to_verilog(component, name: str) -> str:
    """The component and all below it as one file, with top module ``name``.

    Carries no source paths, so that it does not depend on where it was made.
    """
    with _no_garbage_collection():
        text = verilog.convert(component, name=name, strip_internal_attrs=True)
    return _ZEROED_MEMORY.sub(_zero_in_a_loop, _SOURCE.sub("", text))


def cfu_verilog(config: "str | Config") -> str:
    """``cfu.v``: the core with the CFU door and, if ``config.memory``, an AXI4 master beside it.

    Without the latter it has the ports that LiteX's ``cpu_cfu`` and CFU-Playground expect.
    """
    return to_verilog(Cfu(Config.of(config)), "Cfu")


def npu_verilog(config: "str | Config") -> str:
    """``npu.v``: the core in the accelerator slot of the AAML course platform, module ``NPU``."""
    return to_verilog(NPU(Config.of(config)), "NPU")
