"""What happens in each cycle, in a sentence or two."""

from .beat import OPERAND, PRODUCT, SUM, SUMS, Beat, Drain

__all__ = ["captions", "number", "say_sums", "what"]


def what(beat: Beat) -> str:
    """The product's name: ``3x3 by 3x2 on 4x4``."""
    (m, k), n = beat.a.shape, beat.b.shape[1]
    return f"{m}x{k} by {k}x{n} on {beat.config.name}"


def number(value: int) -> str:
    """With a minus sign as wide as a digit."""
    return f"{value}".replace("-", "\N{MINUS SIGN}")


def say_sums(drain: Drain, beat: Beat) -> str:
    """The sums of a pair that are values of C."""
    rows = [odd for odd in (0, 1) if beat.row(drain.tile, 2 * drain.pair + odd) is not None]
    return " · ".join(number(drain.sums[odd]) for odd in rows)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _elements(drains: list[Drain]) -> str:
    """Which pairs, by row pair: they lie on a diagonal."""
    if len(drains) > 3:
        return f"{len(drains)} elements"
    return _listed([f"PE {d.pair},{d.column}" for d in drains])


_BEGINNING = {
    0: "Rows of A wait at the left, columns of B above; each pair of rows and each column starts a "
       "cycle later than the one before.",
    1: "The edge's registers take the first operands, and pack a pair of rows into one word.",
    OPERAND: "PE 0,0 holds its first operands.",
    PRODUCT: "The first products are in a multiplier's register; a moves right, b moves down.",
    SUM: "The first products begin their sums; the front is a diagonal.",
}


def _beginning(beat: Beat, cycle: int) -> "str | None":
    """What is there for the first time."""
    if cycle in beat.starts[1:]:
        tile = beat.starts.index(cycle)
        idle = cycle - beat.starts[tile - 1] - beat.k
        return f"Tile {tile + 1} of {len(beat.starts)} begins at the edge, " + (
            f"{idle} idle cycle{'s' * (idle > 1)} behind the one before." if idle else
            "right behind the one before.")
    return _BEGINNING.get(cycle)


def captions(beat: Beat) -> list[str]:
    """One per cycle: what begins, what is complete, what is stored; else how much is going on."""
    out = []
    for cycle in range(beat.cycles):
        said = []
        if text := _beginning(beat, cycle):
            said.append(text)
        picked = [d for d in beat.drains if d.picked == cycle]
        if picked:
            said.append(f"{_elements(picked)}: sum complete, picked for read-out.")
        apart = [d for d in beat.drains if d.picked + SUMS == cycle]
        if apart and apart[0] is beat.drains[0]:
            said.append("The first pair has its wrap count, and is taken apart into two sums.")
        elif beat.drains[0].stored - 1 == cycle:
            said.append("The first pair is at the adder of its column's accumulators.")
        stored = [d for d in beat.drains if d.stored == cycle]
        if cycle == beat.cycles - 1:
            exact = (beat.c == beat.a.astype(int) @ beat.b).all()
            said.append(f"All sums are in the accumulators: {'C = A B' if exact else 'not A B'}. The "
                        "core's commands read them there, or its store unit writes them to memory.")
        elif stored:
            said.append(f"{_elements(stored)}: in the accumulators.")
        busy = _busy(beat, cycle)
        if len(said) < 2 and busy and cycle > SUM:
            said.insert(0, f"{busy} of {beat.config.macs // 2} elements hold operands.")
        if not said:
            said.append("Sums walk down the drain: each waits three cycles for its wrap count.")
        out.append(" ".join(said))
    return out


def _busy(beat: Beat, cycle: int) -> int:
    """Elements whose operand registers hold a step."""
    return sum(beat.fed(cycle - OPERAND - pair - column) is not None
               for pair in range(beat.config.row_pairs) for column in range(beat.config.columns))
