"""Kinds of products, every combination of which is to have run on the RTL and to have been right."""

from collections import Counter
from itertools import product

from backbeat_rtl.config import WORD

__all__ = ["AXES", "bins", "bin_of", "crossed"]

#: What can be of more than one kind. RAGGED: the sizes that are no whole number of tiles (M, N) or
#: words (K). SIZE: what C and K are cut into.
AXES = {
    "orientation": ("nn", "nt", "tn", "tt"),
    "ragged": ("none", "m", "n", "mn", "k", "mk", "nk", "mnk"),
    "epilogue": ("int32", "nearest", "stochastic", "nearest relu", "stochastic relu"),
    "stall": ("none", "stalled"),
    "size": ("tile", "macro-tile", "macro-tiles", "chunks", "macro-tiles, chunks"),
}


def bins() -> list[tuple]:
    """All of them. None is impossible: any of these can be had with a product of some size."""
    return list(product(*AXES.values()))


def bin_of(line: dict) -> tuple:
    """The bin of a product, as :func:`record.product` has noted it."""
    (m, n, k), (rows, columns) = line["shape"], line["array"]
    ragged = "".join(name for name, size, unit in (("m", m, rows), ("n", n, columns), ("k", k, WORD))
                     if size % unit)
    epilogue = "int32"
    if line["spec"]:
        stochastic, zero_point, low = line["spec"]
        epilogue = "stochastic" if stochastic else "nearest"
        epilogue += " relu" if low == zero_point > -128 else ""
    several = m > line["panels"][0] or n > line["panels"][1]
    parts = ["macro-tiles"] * several + ["chunks"] * (k > line["chunk"])
    if not parts:
        parts = ["tile" if m <= rows and n <= columns else "macro-tile"]
    return (line["op"], ragged or "none", epilogue, "stalled" if line["stalled"] else "none",
            ", ".join(parts))


def crossed(lines: list[dict]) -> Counter:
    """How many products fell into each bin."""
    return Counter(map(bin_of, lines))
