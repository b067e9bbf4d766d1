"""Mutants of a module's Verilog by yosys' ``mutate``, all in one netlist and chosen by an input."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..formal.solve import yosys

__all__ = ["INPUT", "READ", "Mutant", "keeping", "mutate"]

#: Input of the mutated module: the number of the active mutant, none with 0.
INPUT, WIDTH = "mutant", 16
#: Not mutated: clocks, as a register with another one is none any more for whoever simulates it; what a
#: memory holds at first, and a reset and enable of reading it without a clock: they must be constant.
_LEFT_ALONE = re.compile(r" -port (\w*_)?CLK | -port (ARST|SRST) |memrd\S* -port EN ")
#: Makes ``module.v`` a netlist; cells are numbered, so that it has to be the same whenever they are
#: spoken of. What a memory would write, and where, when it does not is undefined: that is no cell.
READ = """
read_verilog module.v
hierarchy -top {top}
proc
opt_expr -mux_undef
opt_clean
"""
_SECONDS = 300


@dataclass(frozen=True)
class Mutant:
    """A small fault: one bit of one port of one cell.

    Attributes
    ----------
    number : int
        Value of :data:`INPUT` that activates it, from 1 on.
    mode : str
        ``inv``, ``const0``, ``const1``, or ``cnot0`` and ``cnot1``: inverted where another bit of the
        port is 0 or 1.
    module, cell, port, bit
        What is changed.
    wire : str
        What it drives or is driven by, if that has a name.
    line : int
        Of the Verilog before.
    source : str
        That line.
    command : str
        Of yosys, which makes it.
    """

    number: int
    mode: str
    module: str
    cell: str
    port: str
    bit: int
    wire: str
    line: int
    source: str
    command: str

    def __str__(self):
        what = f"{self.cell}.{self.port}[{self.bit}]" + (f" ({self.wire})" if self.wire else "")
        where = _option(self.command, "ctrlbit")
        return (f"{self.mode}{where and f' by [{where}]'} {what} of {self.module}, "
                f"line {self.line}: {self.source}")


def _option(command: str, name: str) -> str:
    found = re.search(rf" -{name} (\S+)", command)
    return found[1] if found else ""


def _mutant(number: int, command: str, lines: list[str]) -> Mutant:
    wire, bit = _option(command, "wire"), _option(command, "wirebit")
    places = [int(n) for n in re.findall(r" -src module\.v:(\d+)\.", command)]
    line = places[-1] if places else 0
    return Mutant(number, _option(command, "mode"), _option(command, "module").lstrip("\\"),
                  _option(command, "cell"), _option(command, "port"), int(_option(command, "portbit")),
                  f"{wire}[{bit}]".lstrip("\\") if wire else "", line,
                  lines[line - 1].strip() if line else "",
                  re.sub(r" -(src|wire|wirebit) \S+", "", command))


def keeping(verilog: str, signals: Iterable[str]) -> str:
    """The same Verilog, with those signals marked as used: ``module.signal``, modules by their paths.

    Who records a port looks at it; of what nobody looks at a netlist has nothing left.
    """
    wanted = {tuple(signal.rpartition(".")[::2]) for signal in signals}
    lines, module = [], ""
    for line in verilog.splitlines():
        if found := re.match(r"module \\?([^\s(]+)", line):
            module = found[1]
        found = re.match(r"  (?:wire|reg) (?:\[\d+:\d+\] )?\\?([^\s;]+)", line)
        lines.append(f"  (* keep *){line}" if found and (module, found[1]) in wanted else line)
    return "\n".join(lines) + "\n"


def mutate(work: Path, verilog: str, top: str, count: int, seed: int,
           selection: str = "*") -> tuple[str, list[Mutant]]:
    """A sample of mutants.

    Parameters
    ----------
    work : Path
        Folder for yosys' files.
    verilog, top : str
        The module.
    count : int
        Mutants wanted.
    seed : int
        Of the sample.
    selection : str
        Modules that are mutated, as yosys selects them.

    Returns
    -------
    verilog : str
        The module with all of them, and the input ``mutant``.
    mutants : list of Mutant
        There may be fewer than wanted, if the modules have no more places.

    Raises
    ------
    solve.Stopped
        yosys failed.
    """
    work.mkdir(parents=True, exist_ok=True)
    (work / "module.v").write_text(verilog)
    # More than wanted, since some are dropped.
    cells = " ".join(f"{module}/* {module}/t:$meminit* %d" for module in selection.split())
    listed = f"mutate -list {2 * count} -seed {seed} -o list.txt {cells}\n"
    yosys(work, READ.format(top=top) + listed, "list.txt", _SECONDS)
    commands = [line for line in (work / "list.txt").read_text().splitlines()
                if line and not _LEFT_ALONE.search(f"{line} ")][:count]
    lines = verilog.splitlines()
    mutants = [_mutant(n, command, lines) for n, command in enumerate(commands, 1)]
    applied = "".join(
        m.command.replace("mutate ", f"mutate -ctrl {INPUT} {WIDTH} {m.number} ", 1) + "\n"
        for m in mutants)
    yosys(work, f"{READ.format(top=top)}{applied}opt_clean\nwrite_verilog -noattr mutated.v\n",
          "mutated.v", _SECONDS)
    return (work / "mutated.v").read_text(), mutants
