"""Whether a mutant can be told from the module at all, by what ABC proves."""

from pathlib import Path

from ..formal.solve import Stopped, answer_of_abc, yosys
from .mutants import READ, Mutant

__all__ = ["is_equivalent"]

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
miter -equiv -flatten gold gate miter
hierarchy -top miter
proc; memory_map; opt_clean
"""
#: What is connected to a module is taken away: the outputs of modules in it can be anything, and their
#: inputs have to agree.
_CUT = "hierarchy -top {module}\nexpose -evert {module}\ndelete * {module} %d"
_WHOLE = "hierarchy -top {module}\nflatten"


def is_equivalent(work: Path, mutant: Mutant, top: str, whole: bool, seconds: float = 60) -> bool:
    """Whether it is proved that no inputs ever tell the two apart, as seen from outside of the mutant's
    module.

    Parameters
    ----------
    work : Path
        Where :func:`mutants.mutate` has worked.
    top : str
        The top module there.
    whole : bool
        If that is not proved, look from outside of ``top``.
    seconds : float
        After which nothing is proved.
    """
    folder = work / f"equivalent-{mutant.number}"
    folder.mkdir(exist_ok=True)
    (folder / "module.v").write_bytes((work / "module.v").read_bytes())
    read = READ.format(top=top)
    try:
        yosys(folder, _SAME.format(read=read, mutation=mutant.command), "after.il", seconds)
        before, after = ((folder / f"{when}.il").read_text() for when in ("before", "after"))
        if before == after:
            return True
    except Stopped:
        pass
    for module, alone in [(mutant.module, _CUT), *([(top, _WHOLE)] if whole else [])]:
        name = f"\\{module}"
        script = _MITER.format(read=read, mutation=mutant.command, module=name,
                               alone=alone.format(module=name))
        try:
            if answer_of_abc(folder, script, "dprove", seconds).startswith("snl_UNSAT"):
                return True
        except Stopped:
            continue
    return False
