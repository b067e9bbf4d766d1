"""Whether a mutant can be told from the module at all, by what ABC proves."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..formal.solve import Stopped, answer_of_abc, yosys
from .mutants import READ, Mutant

__all__ = ["Contract", "is_equivalent"]

#: A constant that becomes what it has been is no change at all.
_SAME = """
{read}
write_rtlil before.il
{mutation}
write_rtlil after.il
"""
_MITER = """
{read}
design -save base
{alone}
rename {module} gold
design -stash gold
design -load base
{mutation}
{alone}
rename {module} gate
design -stash gate
design -copy-from gold -as gold gold
design -copy-from gate -as gate gate
{miter}
proc; memory_map; setundef -zero; setundef -zero -init; opt_clean
"""
#: What is connected to a module is taken away: the outputs of modules in it can be anything, and their
#: inputs have to agree.
_CUT = "hierarchy -top {module}\nexpose -evert {module}/c:*\ndelete * {module} %d"
_EQUAL = "miter -equiv -flatten gold gate miter\nhierarchy -top miter"
#: Flat, and held to a contract.
_WHOLE = "hierarchy -top {module}\nflatten"
_HELD = "read_verilog held.v\nhierarchy -top held\nflatten"


@dataclass(frozen=True)
class Contract:
    """What the users of a module keep to. Whatever differs otherwise is nobody's loss: as everywhere, a
    stream's payload counts beside its ``valid``.

    Attributes
    ----------
    given : str
        Holds in each cycle: Verilog, of the inputs.
    counts : dict
        Other outputs that count beside one, and which.
    """

    given: str = "1"
    counts: dict[str, str] = field(default_factory=dict)

    def verilog(self, module: str, top: str) -> str:
        """A module ``held`` with ``gold`` and ``gate``, and an output that says that they differ.

        Parameters
        ----------
        module : str
            The Verilog of ``top``.

        Raises
        ------
        ValueError
            The contract speaks of an output that there is not.
        """
        text = re.search(rf"^module \\?{re.escape(top)}\s*\(.*?^endmodule", module, re.M | re.S)[0]
        ports = re.findall(r"^  (input|output) (\[\d+:0\] )?(\S+) ?;", text, re.M)
        inputs, outputs = ([(width, name) for way, width, name in ports if way == wanted]
                           for wanted in ("input", "output"))
        numbers = {name.lstrip("\\"): n for n, (_, name) in enumerate(outputs)}
        for name in {*self.counts, *self.counts.values()}:
            if name not in numbers:
                raise ValueError(f"{top} has no output {name!r}; it has {', '.join(numbers)}")
        counts = {name: valid for name in numbers if name.endswith("__payload")
                  and (valid := name.replace("__payload", "__valid")) in numbers} | self.counts
        lines = [f"module held({', '.join(f'{name} ' for _, name in inputs)}, differ);"]
        lines += [f"  input {width}{name} ;" for width, name in inputs]
        for side in ("gold", "gate"):
            lines += [f"  wire {width}{side}_{n};" for n, (width, _) in enumerate(outputs)]
            ends = [f".{name} ({name} )" for _, name in inputs]
            ends += [f".{name} ({side}_{n})" for n, (_, name) in enumerate(outputs)]
            lines.append(f"  {side} {side}({', '.join(ends)});")
        differences = [f"(gold_{n} != gate_{n})" for n in range(len(outputs))]
        for name, valid in counts.items():
            differences[numbers[name]] += f" & gold_{numbers[valid]}"
        lines += ["  reg broken = 0;", f"  wire given = {self.given};",
                  "  always @(posedge clk) broken <= broken | ~given;",
                  f"  output differ = given & ~broken & ({' | '.join(differences)});", "endmodule"]
        return "\n".join(lines) + "\n"


def is_equivalent(work: Path, mutant: Mutant, top: str, contract: Contract | None = None,
                  seconds: float = 60) -> bool:
    """Whether it is proved that no inputs ever tell the two apart, as seen from outside of the mutant's
    module.

    Parameters
    ----------
    work : Path
        Where :func:`mutants.mutate` has worked.
    top : str
        The top module there.
    contract : Contract
        If that is not proved, look as the users of ``top`` do.
    seconds : float
        After which nothing is proved.
    """
    folder = work / f"equivalent-{mutant.number}"
    folder.mkdir(exist_ok=True)
    verilog = (work / "module.v").read_text()
    (folder / "module.v").write_text(verilog)
    read = READ.format(top=top)
    try:
        yosys(folder, _SAME.format(read=read, mutation=mutant.command), "after.il", seconds)
        before, after = ((folder / f"{when}.il").read_text() for when in ("before", "after"))
        if before == after:
            return True
    except Stopped:
        pass
    views = [(mutant.module, _CUT, _EQUAL)]
    if contract:
        views.append((top, _WHOLE, _HELD))
        (folder / "held.v").write_text(contract.verilog(verilog, top))
    for module, alone, miter in views:
        name = f"\\{module}"
        script = _MITER.format(read=read, mutation=mutant.command, module=name,
                               alone=alone.format(module=name), miter=miter)
        try:
            if answer_of_abc(folder, script, "dprove", seconds).startswith("snl_UNSAT"):
                return True
        except Stopped:
            continue
    return False
