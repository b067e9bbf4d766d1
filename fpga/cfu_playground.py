"""A project for CFU-Playground: the core as its CFU, the same core in C++, and a self-test.

``make cfu-playground OUT=folder`` writes ``folder/proj/backbeat``, to be copied into CFU-Playground.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from backbeat.files import write_atomically
from backbeat_rtl.config import PRESETS, WORD, Config
from backbeat_rtl.core_model import CoreModel
from backbeat_rtl.isa import Write
from backbeat_rtl.isa_export import c_header
from backbeat_rtl.verilog import cfu_verilog

__all__ = ["PROJECT", "project"]

TEMPLATES = Path(__file__).with_suffix("")
#: Where in CFU-Playground the files go.
PROJECT = Path("proj", "backbeat")


def _filled(name: str, config: Config) -> str:
    """The template with the sizes of that core in place of ``@SIZE@``."""
    text = (TEMPLATES / name).read_text()
    for key, value in {
        "NAME": config.name, "ROWS": config.rows, "COLUMNS": config.columns, "DEPTH": config.depth,
        "TILES": config.tiles, "BANKS": config.banks, "MEMORY": int(config.memory), "WORD": WORD,
        "CLIP": f"{CoreModel(config).registers[Write.CLIP]:#x}",
    }.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def project(config: "str | Config") -> dict[Path, str]:
    """The files of the project, by their paths in it.

    Parameters
    ----------
    config : str or Config
        The core is made without a memory port: CFU-Playground's CPU has no pins for one.
    """
    config = replace(Config.of(config), memory=False)
    return {
        Path("cfu.v"): cfu_verilog(config),
        Path("Makefile"): (TEMPLATES / "Makefile").read_text(),
        Path("README.md"): _filled("README.md.in", config),
        Path("src", "backbeat_isa.h"): c_header(),
        Path("src", "proj_menu.cc"): (TEMPLATES / "proj_menu.cc").read_text(),
        Path("src", "software_cfu.cc"): _filled("software_cfu.cc.in", config),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write proj/backbeat into")
    parser.add_argument("--config", default="8x8", choices=PRESETS)
    options = parser.parse_args()
    folder = options.out / PROJECT
    for path, text in project(options.config).items():
        write_atomically(folder / path, text.encode())
        print(folder / path)


if __name__ == "__main__":
    main()
