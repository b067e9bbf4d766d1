"""Where LiteX is, and what it says: in an environment of its own, and into a file."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from backbeat.errors import ToolError

__all__ = ["CONSTRAINTS", "find_litex", "output_to"]

ROOT = Path(__file__).parents[1]
VENV = ROOT / "build" / "litex-venv"
#: Its versions.
CONSTRAINTS = ROOT / "constraints-litex.txt"


def find_litex():
    """Makes LiteX importable. Whatever else lies in its environment stands behind what we have.

    Raises
    ------
    ToolError
        It is not installed.
    """
    packages = VENV / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    if find_spec("litex_boards") is None:       # `litex` alone may be there, for the host's tools
        if not (packages / "litex").is_dir():
            raise ToolError(f"LiteX is not installed: `make soc-litex` puts it into {VENV}")
        sys.path.append(str(packages))
        # Its makefiles call meson, ninja, and python3 with LiteX.
        os.environ["PATH"] = str(VENV / "bin") + os.pathsep + os.environ["PATH"]
    logging.disable(logging.INFO)       # it tells its life


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """What LiteX and the programs that it calls say goes there.

    Raises
    ------
    ToolError
        One of them has failed; quotes its last words.
    """
    with open(log, "w") as file:
        sys.stdout.flush()
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield
        except (OSError, subprocess.CalledProcessError) as error:
            sys.stdout.flush()
            said = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            raise ToolError(f"LiteX: {error}\n{said}\n(see {log}; its BIOS needs a GCC for RISC-V: "
                            "apt install gcc-riscv64-unknown-elf)") from error
        finally:
            sys.stdout.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
