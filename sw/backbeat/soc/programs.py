"""The firmware's own programs, run in the small SoC."""

import re
from collections.abc import Callable

from backbeat_rtl.config import Config

from ..errors import AcceleratorError
from .simulator import Soc
from .toolchain import build_firmware

__all__ = ["WAYS", "product", "selftest"]

#: How a product is computed, in the order of bench.c's ways.
WAYS = ("memory", "door", "software", "naive")
#: Cycles after which a program counts as hung: the slowest takes 16 per MAC.
_PATIENCE = 50_000_000


def selftest(config: "str | Config" = "16x16", *, stall: float = 0, seed: int = 0,
             watch: Callable[[str], None] | None = None) -> tuple[int, str]:
    """Runs the library's self-test: products of every kind, by the core and in software.

    Parameters
    ----------
    config : str or Config
    stall : float
        Chance per cycle with which each channel of the core's memory is held back at random.
    seed : int
        Of those.
    watch : callable, optional
        Is called with what the firmware prints.

    Returns
    -------
    exit code, console : int, str
        0 if all was right; the last line is PASS or FAIL.

    Raises
    ------
    ToolError
        A tool is missing.
    AcceleratorError
        The firmware did not end.
    """
    with Soc(config, build_firmware(["selftest.c"])) as soc:
        if stall:
            soc.stall(seed, stall)
        return _finish(soc, _PATIENCE, watch), soc.console


def product(config: "str | Config", shape: tuple[int, int, int], way: str,
            watch: Callable[[str], None] | None = None) -> dict:
    """One product NT with an INT32 result, timed by the CPU.

    Parameters
    ----------
    shape : M, N, K
    way : str
        One of :data:`WAYS`: by the core from memory, by the core through the CFU instructions, in
        software with two rows and two columns in registers, in software as anybody would write it
        first.

    Returns
    -------
    dict
        ``cycles``, ``checksum`` (of C; the same whichever way) and ``compiler``.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    m, n, k = shape
    program = build_firmware(["bench.c"], {"BB_M": m, "BB_N": n, "BB_K": k, "BB_HOW": WAYS.index(way)})
    with Soc(config, program) as soc:
        code = _finish(soc, _PATIENCE + 32 * m * n * k, watch)
        text = soc.console
    found = re.search(r"cycles (\d+) checksum ([0-9a-f]+)", text)
    if code or not found:
        raise AcceleratorError(f"{way}, {m} x {n} x {k} ended with code {code}: {text.strip()!r}")
    return {"cycles": int(found[1]), "checksum": found[2], "compiler": program.compiler}


def _finish(soc: Soc, cycles: int, watch: Callable[[str], None] | None) -> int:
    code = soc.run(cycles, watch)
    if code is None:
        raise AcceleratorError(f"the firmware did not end within {cycles:,} cycles; its last words: "
                               f"{soc.console[-200:]!r}")
    return code
