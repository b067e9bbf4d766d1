"""Chooses the plan of a product that the core carries out from memory."""

from dataclasses import replace
from functools import lru_cache
from itertools import zip_longest
from math import inf

from backbeat_rtl.config import Config

from .memory import Memory
from .plans import Plan, Problem, fewest_bytes, inside, largest_plans, legal_plans, moved, no_plan
from .predict import LONGEST_WALK, bound, predict, runs

__all__ = ["plan", "sketch"]

#: Plans whose cycles are predicted, of all that fit, and how far above the lowest bound theirs may be;
#: runs walked through in all.
_CANDIDATES, _SLACK, _WALK = 64, 0.025, 36_000
#: Of predictions that differ by less, that of the plan that moves the fewest bytes wins.
_TOLERANCE = 0.005
#: Plans that move more than so many times the fewest bytes have to be so much faster.
_LEAN, _WORTH = 1.25, 1.05


@lru_cache(maxsize=4096)
def plan(m: int, n: int, k: int, a_across: bool, b_across: bool, config: Config, memory: Memory,
         result_bytes: int, table: bool, sums: bool, a_inside: int | None = None,
         b_inside: int | None = None) -> Plan:
    """The plan that takes the fewest cycles and, among equals, moves the fewest bytes.

    It moves no more than 1.25 times :func:`backbeat.plans.fewest_bytes`, unless that takes 5 % longer.

    Parameters
    ----------
    m, n, k : int
    a_across, b_across : bool
        The operand is stored with K as its rows.
    result_bytes : int
        1 or 4 bytes per value of C.
    table : bool
        C is requantised.
    sums : bool
        The sums of the columns of C are stored too.
    a_inside, b_inside : int, optional
        Bytes of the operand that are read, if it is gathered and others are zeros around and between
        the tensor's. The port makes those no faster.

    Raises
    ------
    NoPlanError
        No panel fits that is made of whole words.
    """
    problem = Problem(m, n, k, a_across, b_across, config, memory, result_bytes, table, sums, a_inside,
                      b_inside)
    candidates = sorted(((bound(problem, p), moved(problem, p), p) for p in legal_plans(problem)),
                        key=lambda c: c[:2])
    if not candidates:
        raise no_plan(problem)
    most = _LEAN * fewest_bytes(m, n, k, a_across, b_across, config, result_bytes, table, sums, a_inside,
                                b_inside)
    best = _best(problem, [c for c in candidates if c[1] <= most] or candidates)
    faster = [c for c in candidates if c[1] > most and c[0] * _WORTH < best.cycles]
    if faster and (other := _best(problem, faster)).cycles * _WORTH < best.cycles:
        best = other
    return inside(problem, best)


@lru_cache(maxsize=1 << 18)
def sketch(problem: Problem, walk: int = 1600) -> Plan:
    """A plan found in milliseconds, for whoever wants to know about many products and runs none.

    Of some large panels only, those with the lowest bounds are predicted until so many runs have been
    walked through. With 0, the plan's cycles are its bound, which says nothing of latency.

    Raises
    ------
    NoPlanError
        No panel fits that is made of whole words.
    """
    found = sorted(((bound(problem, p), moved(problem, p), p) for p in largest_plans(problem)),
                   key=lambda c: c[:2])
    if not found:
        raise no_plan(problem)
    # As with plans: those that move much more than needed have to be so much faster.
    least = min(c[1] for c in found)
    lean = [c for c in found if c[1] <= _LEAN * least]
    if lean[0][0] <= _WORTH * found[0][0]:
        found = lean
    if not walk:
        return replace(inside(problem, found[0][2]), cycles=round(found[0][0]))
    walked = []
    for _, _, p in found:
        walked.append(replace(p, cycles=max(predict(problem, p),
                                            round(bound(problem, p, disturbed=False)))))
        walk -= min(LONGEST_WALK, runs(problem, p))
        if walk <= 0:
            break
    limit = min(p.cycles for p in walked) * (1 + _TOLERANCE)
    return inside(problem, min((p for p in walked if p.cycles <= limit),
                               key=lambda p: (moved(problem, p), p.cycles)))


def _best(problem: Problem, candidates: list[tuple[float, int, Plan]]) -> Plan:
    """Of candidates in the order of their bounds."""
    left, walked = _WALK, []
    for candidate in _promising(candidates):
        if len(walked) == _CANDIDATES:
            break
        count = min(LONGEST_WALK, runs(problem, candidate))
        if walked and count > left:
            break
        left -= count
        walked.append(replace(candidate, cycles=max(
            predict(problem, candidate), round(bound(problem, candidate, disturbed=False)))))
    limit = min(p.cycles for p in walked) * (1 + _TOLERANCE)
    return min((p for p in walked if p.cycles <= limit), key=lambda p: (moved(problem, p), p.cycles))


def _promising(candidates: list[tuple[float, int, Plan]]) -> dict[Plan, None]:
    """Plans worth a walk, the best first: those that no other one beats in bound and bytes; then, in
    turn, those with the fewest bytes and those with the lowest bounds."""
    close = sorted((c for c in candidates if c[0] <= candidates[0][0] * (1 + _SLACK)),
                   key=lambda c: (c[1], c[0]))
    unbeaten, lowest = [], inf
    for candidate in close:
        if candidate[0] < lowest:
            lowest = candidate[0]
            unbeaten.append(candidate)
    in_turn = (c for pair in zip_longest(close, candidates[:_CANDIDATES]) for c in pair if c)
    return dict.fromkeys(c[2] for c in (*unbeaten, *in_turn))
