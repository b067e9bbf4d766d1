"""Makes figures of what the runs have left."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .bins import bins, crossed
from .exclusions import EXCLUSIONS, excluded
from .points import CoverageError, Points, Source, counters
from .record import recorded

__all__ = ["Figures", "figures", "merged"]


def merged(runs: Path, builds: Path) -> tuple[Points, Counter]:
    """The points of all builds, and the products in each bin.

    Raises
    ------
    CoverageError
        There is nothing, or it is of a build that is gone.
    """
    points, lines = Points(), []
    for folder in sorted(path for path in runs.glob("*") if path.is_dir()):
        found = Counter()
        for file in sorted(folder.glob("*.dat")):
            found.update(counters(file))
        for file in sorted(folder.glob("*.jsonl")):
            lines += recorded(file)
        if found:
            verilog = builds / folder.name / "top.v"
            if not verilog.exists():
                raise CoverageError(f"{folder} is of a build that is gone: {verilog}")
            points.add(Source(verilog), found)
    if not points.lines:
        raise CoverageError(f"no run has left anything in {runs}")
    return points, crossed(lines)


@dataclass
class Figures:
    """What has been reached.

    Attributes
    ----------
    blocks : dict
        Class: {"lines": (reached, all), "branches": ..., "bits": ...}.
    missed : list of Place
        Lines that were not reached; the classes that lack most first.
    excluded : Counter
        (class, reason): lines and branches.
    wrong : list of str
        What is wrong with the exclusions.
    bins : Counter
        Bin: products.
    """

    blocks: dict
    missed: list
    excluded: Counter
    wrong: list
    bins: Counter

    def total(self, kind: str) -> tuple[int, int]:
        reached, most = zip(*(block[kind] for block in self.blocks.values()), strict=True)
        return sum(reached), sum(most)

    def percent(self, kind: str) -> float:
        if kind == "bins":
            return 100 * sum(self.bins[kind] > 0 for kind in bins()) / len(bins())
        reached, most = self.total(kind)
        return 100 * reached / most if most else 100.0

    def as_json(self) -> dict:
        return {
            "total": {kind: {"reached": self.total(kind)[0], "all": self.total(kind)[1],
                             "percent": round(self.percent(kind), 2)}
                      for kind in ("lines", "branches", "bits")},
            "bins": {"reached": sum(self.bins[kind] > 0 for kind in bins()), "all": len(bins()),
                     "products": sum(self.bins.values())},
            "blocks": self.blocks,
            "missed": [vars(place) for place in self.missed],
            "excluded": [{"block": block, "reason": reason, "points": count}
                         for (block, reason), count in sorted(self.excluded.items())],
        }


def figures(points: Points, products: Counter, exclusions=EXCLUSIONS) -> Figures:
    """By block."""
    left, wrong = excluded(points.lines | points.branches, points.places, exclusions)
    blocks: dict = {}
    for kind in ("lines", "branches", "bits"):
        for key, count in getattr(points, kind).items():
            if key not in left:
                block = blocks.setdefault(key[0], dict.fromkeys(("lines", "branches", "bits"), (0, 0)))
                reached, most = block[kind]
                block[kind] = reached + (count > 0), most + 1
    missed = [points.places[key] for key, count in points.lines.items() if not count and key not in left]
    lacking = Counter(place.block for place in missed)
    missed.sort(key=lambda place: (-lacking[place.block], place.block, place.where))
    return Figures(dict(sorted(blocks.items())), missed,
                   Counter((e.block, e.reason) for e in left.values()), wrong, products)
