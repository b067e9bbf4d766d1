"""Places that no stimulus reaches, each with its reason.

An entry is checked: it has to match a place, and none that has been reached.
"""

import re
from dataclasses import dataclass

__all__ = ["EXCLUSIONS", "Exclusion", "excluded"]


@dataclass(frozen=True)
class Exclusion:
    """Lines of a class's modules whose text, as the report shows it, matches, and their branches; that
    the condition of such a branch is false is no part of it."""

    block: str
    pattern: str
    reason: str

    def matches(self, block: str, text: str) -> bool:
        return block == self.block and bool(re.search(self.pattern, text))


EXCLUSIONS = [
    Exclusion("Core", r"^if \(1'h1 \) begin if \(\S+ \) begin o__payload\.next",
              "behind the NPU's door, which takes every response at once, no second one waits"),
]


def excluded(hits: dict, places: dict, exclusions=EXCLUSIONS) -> tuple[dict, list[str]]:
    """Which of the points not reached are excluded, and what is wrong with the entries.

    Parameters
    ----------
    hits : dict
        Of a point, whose key begins with that of its place.
    places : dict
        Of a place's key: its Place.

    Returns
    -------
    dict
        Key of a point: its Exclusion.
    list of str
        Entries that match nothing, or a place that has been reached.
    """
    found, wrong = {}, []
    for exclusion in exclusions:
        matched = {key: count for key, count in hits.items() if key[-1] not in ("else", "cond_else")
                   and exclusion.matches(places[key[:2]].block, places[key[:2]].text)}
        if not matched:
            wrong.append(f"{exclusion}: matches nothing")
        for key, count in matched.items():
            if count:
                wrong.append(f"{exclusion}: {places[key[:2]].text} has been reached {count} times, "
                             f"{places[key[:2]].where}")
            else:
                found[key] = exclusion
    return found, wrong
