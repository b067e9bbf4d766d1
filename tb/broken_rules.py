"""Each rule that a descriptor can break."""

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.isa import Error

from .memory_image import BASE

__all__ = ["broken_rules"]


def broken_rules(rng, config: Config) -> list[tuple[str, dict, Error, "str | int"]]:
    """Name, changes of fields, error, and what is the value: a field, or a word by its number.

    The changes make a descriptor of any product one whose first broken rule is that, in the order in
    which the core looks. What comes after in that order is broken as well at times.
    """
    odd = WORD * int(rng.integers(1 << 20)) + int(rng.choice([1, 2, 4, 7]))
    big = 1 << 20
    # A product that breaks none: stored operands, room for any row, a plan for any array.
    good = {"a": BASE, "b": BASE, "c": BASE, "table": BASE, "sums_address": BASE, "a_pitch": big,
            "b_pitch": big, "c_pitch": big, "gather_a": 0, "gather_b": 0, "sums": 0, "a_panel": 1,
            "b_panel": 1, "m": 100, "n": 1, "k": 100, "chunk": 8, "last_chunk": 0, "a_across": 0,
            "b_across": 0, "requantise": 0, "b_group": 0}
    tensor = {"gather_a": 1, "pixel": 8, "taps_x": 1, "grid_y": 1, "grid_x": 1, "insert_y": 1,
              "insert_x": 1, "row_pitch": 8, "image_pitch": 8}
    other = {"gather_b": 1} | {k: v for k, v in tensor.items() if k != "gather_a"}
    deep = config.bank // WORD      # tiles of 8 steps in a bank
    rules = [
        ("op 2", {"op": 2}, Error.UNKNOWN, 0),
        ("op 255", {"op": 255, "a": odd}, Error.UNKNOWN, 0),
        ("sums with rows outside", {"sums": 1, "columns_outer": 0}, Error.UNKNOWN, 0),
        ("both gathered", {"gather_a": 1, "gather_b": 1, "b": odd}, Error.UNKNOWN, 0),
        *((f"{name} unaligned", needs | {name: odd, "m": 0}, Error.ALIGNMENT, name) for name, needs in (
            ("a", {"b": odd + 1}), ("b", {"c": odd + 1}), ("c", {}), ("table", {"requantise": 1}),
            ("sums_address", {"sums": 1, "columns_outer": 1}), ("a_pitch", {"b_pitch": odd + 1}),
            ("b_pitch", {"c_pitch": odd + 1}), ("c_pitch", tensor | {"row_pitch": odd + 1}),
            ("row_pitch", tensor | {"image_pitch": odd + 1}), ("image_pitch", other | {"pixel": 0}),
            ("b_wrap", {"b_group": 1}))),
        ("gathered a unaligned", tensor | {"a": odd}, Error.ALIGNMENT, "a"),
        ("gathered b unaligned", other | {"b": odd}, Error.ALIGNMENT, "b"),
        *((f"{name} of {value:,}", {name: value} | needs, Error.DIMENSION, name)
          for name, least, needs in (("m", 1 << 24, {"n": 0}), ("n", 1 << 24, {"k": 0}),
                                     ("k", 1 << 17, {"chunk": 0}))
          # Of the larger ones something is left without their highest bit.
          for value in (0, least, 2**32 - 1, *(1 << bit | 1 for bit in range(least.bit_length(), 32)))),
        *((f"{name} of {value} in {'ab'['gather_b' in gathered]}",
           gathered | {name: value, "c_pitch": 0} | needs, Error.DIMENSION, name)
          for gathered in (tensor, other)
          for name, value, needs in (("pixel", 0, {"taps_x": 0}), ("pixel", 12, {}),
                                     ("pixel", 65535, {}), ("taps_x", 0, {"grid_y": 0}),
                                     ("grid_y", 0, {"grid_x": 0}), ("grid_x", 0, {"insert_y": 0}),
                                     ("insert_y", 0, {"insert_x": 0}), ("insert_x", 0, {}))),
        ("row of A beyond its pitch", {"a_pitch": 96, "b_pitch": 88}, Error.PITCH, "a_pitch"),
        ("column of A beyond its pitch", {"a_across": 1, "m": 9, "k": 1, "a_pitch": 8}, Error.PITCH,
         "a_pitch"),
        ("no pitch of A", {"a_pitch": 0, "c_pitch": 0}, Error.PITCH, "a_pitch"),
        ("row of B beyond its pitch", {"b_pitch": 96, "c_pitch": 0}, Error.PITCH, "b_pitch"),
        ("column of B beyond its pitch", {"b_across": 1, "n": 105, "b_pitch": 104, "k": 1}, Error.PITCH,
         "b_pitch"),
        ("INT8 row of C beyond its pitch", {"requantise": 1, "n": 105, "c_pitch": 104, "chunk": 0},
         Error.PITCH, "c_pitch"),
        ("INT32 row of C beyond its pitch", {"n": 105, "c_pitch": 416, "chunk": 0}, Error.PITCH,
         "c_pitch"),
        ("no pitch of C", tensor | {"c_pitch": 0}, Error.PITCH, "c_pitch"),
        ("no chunk", {"chunk": 0, "a_panel": 0}, Error.PLAN, 14),
        ("chunk of 12", {"chunk": 12, "b_panel": 0}, Error.PLAN, 14),
        ("chunk of 99 of 100", {"chunk": 99}, Error.PLAN, 14),
        ("no rows", {"a_panel": 0}, Error.PLAN, 13),
        ("no columns", {"b_panel": 0}, Error.PLAN, 13),
        ("12 of 100 rows across", {"a_across": 1, "a_panel": 12}, Error.PLAN, 13),
        ("12 of 100 columns", {"n": 100, "b_panel": 12}, Error.PLAN, 13),
        ("1 of 2 columns", {"n": 2}, Error.PLAN, 13),
        ("rows beyond a bank", {"m": big, "a_panel": config.rows * deep + 1}, Error.PLAN, 13),
        ("columns beyond a bank", {"n": config.columns * deep + 1, "b_panel": 65535}, Error.PLAN, 13),
        ("chunk beyond a bank", {"chunk": 65528, "k": 65536}, Error.PLAN, 13),
        ("K beyond a bank", {"chunk": 65535, "k": config.bank + 1}, Error.PLAN, 13),
        ("last chunk beyond a bank", {"last_chunk": config.bank + 1, "k": big >> 4}, Error.PLAN, 13),
        ("K as the last chunk beyond a bank", {"last_chunk": 65535, "k": config.bank + 1},
         Error.PLAN, 13),
    ]
    if deep * deep > config.tiles:
        rules.append(("more tiles than accumulators",
                      {"m": config.rows * deep, "a_panel": 65535, "n": config.columns * deep,
                       "b_panel": 65535}, Error.PLAN, 13))
    return [(name, good | changes, error, value) for name, changes, error, value in rules]
