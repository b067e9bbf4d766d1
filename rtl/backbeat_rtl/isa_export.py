"""docs/isa.md and the C header, from :mod:`backbeat_rtl.isa`.

``python -m backbeat_rtl.isa_export`` writes both; the tests fail when a file differs.
"""

from pathlib import Path

from . import isa
from .epilogue_model import HASH_STEPS, SEED_ROUND

__all__ = ["TARGETS", "c_header", "markdown", "main"]

ROOT = Path(__file__).parents[2]


def _table(header: tuple[str, ...], rows) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |"
            for row in (header, ("---",) * len(header), *rows)]


def _fields(word: str) -> list[str]:
    return _table(("bits", "field", "meaning"), (
        (f.lsb if f.width == 1 else f"{f.lsb + f.width - 1}:{f.lsb}", f"`{f.name}`", f.doc)
        for f in isa.FIELDS[word]))


def markdown() -> str:
    """docs/isa.md."""
    out = ["# Instruction set", "",
           "Generated from `rtl/backbeat_rtl/isa.py` by `make isa`; do not edit.", "",
           isa.__doc__.split("\n\n", 1)[1].split(" Hardware, driver")[0].strip().replace("``", "`"),
           "",
           "Every command gets exactly one response. Where nothing else is said it is 0, or the code "
           "of the error that stopped the command. After the first error every command but GET and "
           "RESET is answered with its code and has no other effect.", "", "## Operations", ""]
    out += _table(("funct3", "operation", "what it does"),
                  ((int(op), op.name, text) for op, text in isa.OPERATIONS.items()))
    for title, note, table in (
            ("Ports (funct7 of LOAD and PUSH)", "", isa.PORTS),
            ("Registers read by GET", "", isa.READABLE),
            ("Registers written by SET", "The value is input 0.", isa.WRITABLE),
            ("Errors", "", isa.ERRORS)):
        out += ["", f"## {title}", ""] + ([note, ""] if note else [])
        out += _table(("code", "name", "meaning"),
                      ((int(code), code.name, text) for code, text in table.items()))
    out += ["", "## Words", "", "`LOAD.0` is input 0 of LOAD; the others are registers.", ""]
    for word in isa.FIELDS:
        out += [f"### {word}", "", *_fields(word), ""]
    out += [
        "## Descriptors", "",
        f"A product of matrices in memory: {isa.DESCRIPTOR_WORDS} words of 32 bits, little-endian, at "
        f"a multiple of 8. The core reads the first {isa.FETCHED_WORDS}; when the product is complete "
        f"it writes the record, words {isa.RECORD_WORD} to {isa.DESCRIPTOR_WORDS - 1}. Words that are "
        "not listed are reserved.", "",
        "SET DOORBELL carries out a chain of them in order; a descriptor begins while the one before "
        "it is still under way, unless it has `fence`. Or its words are pushed, and SET START carries "
        "that one out; the record then stays in the registers.", ""]
    out += _table(("code", "op", "meaning"),
                  ((int(code), code.name, text) for code, text in isa.DESCRIPTOR_OPS.items()))
    out += [""]
    out += _table(("word", "bits", "field", "meaning"), (
        (number, f.lsb if f.width == 1 else f"{f.lsb + f.width - 1}:{f.lsb}", f"`{f.name}`", f.doc)
        for number, fields in isa.DESCRIPTOR.items() for f in fields))
    out += [
        "",
        f"M and N up to {isa.MAX_DIMENSION:,}, K up to {isa.MAX_K:,}. Addresses and pitches are "
        "multiples of 8. A panel of C is `a_panel` rows by `b_panel` columns, at most `tiles` tiles of "
        "the array; of each operand, `chunk` and `last_chunk` steps of K, or all of them, fit one bank "
        "(2 x `depth` / `banks` bytes per lane, each tile a multiple of 8). `chunk` is a multiple of 8 "
        "unless K is smaller, "
        "`b_panel` unless N is, `a_panel` too if `a_across`.", "",
        "A gathered operand takes the place of the matrix as stored: a row per pixel (n, p, q) of the "
        "output, a column per tap (r, s, c). Its byte is `tensor[n, y, x, c]` at "
        "y = (p * `step_y` + r * `tap_y` + `origin_y`) / `insert_y`, or 0 where that is no integer or "
        "outside of the tensor; x likewise.", "",
        "## Order of operand words", "",
        "A panel is `tiles` tiles of as many rows (columns of the array, for B) as the array has, the "
        f"last one of `last`, each `depth` steps of K: at most {isa.MAX_RUN}, and so many that all "
        "tiles, each padded to a multiple of 8, fit a lane.", "",
        "- Along K (`across` = 0): row after row, each padded to a multiple of 8 bytes.",
        "- Across rows (`across` = 1): step of K after step of K; in each, tile after tile, each "
        "padded to a multiple of 8 bytes.", "",
        "Both are the order in which a row-major matrix lies in memory.",
    ]
    return "\n".join(out) + "\n"


def c_header() -> str:
    """sw/firmware/backbeat_isa.h."""
    out = ["/* Instruction set of the Backbeat core. Generated from rtl/backbeat_rtl/isa.py by",
           " * `make isa`; do not edit. */", "#ifndef BACKBEAT_ISA_H", "#define BACKBEAT_ISA_H", ""]
    for prefix, table in (("OP", isa.OPERATIONS), ("PORT", isa.PORTS), ("GET", isa.READABLE),
                          ("SET", isa.WRITABLE), ("ERROR", isa.ERRORS),
                          ("DESCRIPTOR", isa.DESCRIPTOR_OPS)):
        for code, text in table.items():
            out.append(f"#define {f'BB_{prefix}_{code.name}':24} {int(code)}  /* {text} */")
        out.append("")
    names = ", ".join(f'"{error.name}"' for error in isa.ERRORS)
    out += [f"#define BB_ERROR_NAMES {{{names}}}", ""]
    out += [f"#define {'BB_IDENTITY':24} {isa.IDENTITY:#x}", f"#define {'BB_MAX_RUN':24} {isa.MAX_RUN}",
            f"#define {'BB_VERSION':24} {isa.VERSION}",
            ""]
    for word, fields in isa.FIELDS.items():
        name = f"BB_{word.replace('.', '_')}"
        for f in fields:
            macro, mask = f"#define {name}_{f.name.upper()}", f"{(1 << f.width) - 1:#x}u"
            out.append(f"{macro}(x) (((uint32_t)(x) & {mask}) << {f.lsb})")
            out.append(f"{macro}_OF(w) (((uint32_t)(w) >> {f.lsb}) & {mask})")
        out.append("")
    out += [f"#define {'BB_DESCRIPTOR_WORDS':24} {isa.DESCRIPTOR_WORDS}",
            f"#define {'BB_FETCHED_WORDS':24} {isa.FETCHED_WORDS}"]
    for number, fields in isa.DESCRIPTOR.items():
        for f in fields:
            name, mask = f"BB_DESCRIPTOR_{f.name.upper()}", f"{(1 << f.width) - 1:#x}u"
            out.append(f"#define {name}_WORD {number}")
            out.append(f"#define {name}(x) (((uint32_t)(x) & {mask}) << {f.lsb})")
            out.append(f"#define {name}_OF(w) (((uint32_t)(w) >> {f.lsb}) & {mask})")
    out.append("")
    out.insert(4, "\n#include <stdint.h>")
    return "\n".join([*out, *_random_bits(), "", "#endif"]) + "\n"


def _random_bits() -> list[str]:
    """:func:`.epilogue_model.random_bits` in C."""
    out = ["/* Uniform numbers, a function of seed and element index alone: the fraction of stochastic",
           " * rounding. */",
           "static inline uint32_t bb_random_bits(uint32_t seed, uint32_t index)", "{",
           "    uint32_t a = index ^ seed;"]
    for number, (join, constant, mix, shift) in enumerate(HASH_STEPS):
        if number == SEED_ROUND:
            out.append("    a += seed;")
        moved = f"a << {shift}" if shift > 0 else f"a >> {-shift}"
        out.append(f"    a = (a {join} {constant:#010x}u) {mix} ({moved});")
    return [*out, "    return a;", "}"]


TARGETS = {
    ROOT / "docs" / "isa.md": markdown,
    ROOT / "sw" / "firmware" / "backbeat_isa.h": c_header,
}


def main():
    """Writes the files."""
    for path, render in TARGETS.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render())
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
