"""Traces: values of ports cycle by cycle, as text that reads well in a diff, and what differs in two."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Difference", "GoldenError", "Lane", "Trace", "first_difference", "from_text", "to_text"]

#: Lines of a golden are no longer than this, unless one value is.
WIDTH = 100
HELP = """\
# name bits: first-last=value of cycles, in hex; of single bits only when they are 1. Else it is 0,
# or of those with a * it does not count. "never": is always so."""


class GoldenError(ValueError):
    """A golden that cannot be read: which line, and why."""


@dataclass
class Lane:
    """One port.

    Attributes
    ----------
    bits : int
    gated : bool
        In some cycles it does not count.
    values : list of int or None
        One per cycle; None where it does not count.
    """

    bits: int
    gated: bool
    values: list

    @property
    def rest(self) -> "int | None":
        """What it is in the cycles that the text says nothing of."""
        return None if self.gated else 0

    @property
    def single(self) -> bool:
        """Its text says no values."""
        return self.bits == 1 and not self.gated


@dataclass
class Trace:
    """Ports over so many cycles, upstream ones first."""

    cycles: int
    lanes: dict[str, Lane]


@dataclass
class Difference:
    """Where two traces begin to differ.

    Attributes
    ----------
    cycle : int
    name : str
        Of the port that comes first in the trace among those which differ in that cycle.
    expected, got : str
    others : list of (int, str)
        First cycle and name of every other port that differs, in order.
    """

    cycle: int
    name: str
    expected: str
    got: str
    others: list

    def __str__(self):
        text = f"cycle {self.cycle}, {self.name}: expected {self.expected}, got {self.got}"
        if self.others:
            shown = ", ".join(f"{name} from {cycle}" for cycle, name in self.others[:6])
            more = len(self.others) - 6
            text += f"\n  also {shown}" + (f" and {more} more" if more > 0 else "")
        return text


def hexadecimal(value: "int | None") -> str:
    return "nothing that counts" if value is None else f"{value:#x}" if value > 9 else str(value)


def first_difference(expected: Trace, got: Trace) -> "Difference | None":
    """The first cycle and port; None if the traces are equal."""
    for ours, theirs, values in ((expected, got, ("a record", "none")),
                                 (got, expected, ("no record", "one"))):
        missing = [name for name in ours.lanes if name not in theirs.lanes]
        if missing:
            return Difference(0, missing[0], *values, [(0, name) for name in missing[1:]])
    cycles = min(expected.cycles, got.cycles)
    found = []
    for place, (name, lane) in enumerate(got.lanes.items()):
        before = expected.lanes[name].values[:cycles]
        if before != lane.values[:cycles]:
            first = next(n for n, (a, b) in enumerate(zip(before, lane.values, strict=False)) if a != b)
            found.append((first, place, name))
    if found:
        cycle, _, name = min(found)
        return Difference(cycle, name, hexadecimal(expected.lanes[name].values[cycle]),
                          hexadecimal(got.lanes[name].values[cycle]),
                          [(first, other) for first, _, other in sorted(found)[1:]])
    if expected.cycles != got.cycles:
        return Difference(cycles, "the end", f"after {expected.cycles} cycles",
                          f"after {got.cycles} cycles", [])
    return None


def _runs(lane: Lane):
    """(first cycle, last cycle, value) of what is not the rest."""
    first, rest = 0, lane.rest
    for cycle in range(1, len(lane.values) + 1):
        if cycle == len(lane.values) or lane.values[cycle] != lane.values[first]:
            if lane.values[first] != rest:
                yield first, cycle - 1, lane.values[first]
            first = cycle


def _wrapped(head: str, words: list[str]) -> list[str]:
    lines = [head]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append("   ")
        lines[-1] += f" {word}"
    return lines


def to_text(trace: Trace, title: list[str]) -> str:
    """The golden of a trace: the same bytes for the same trace.

    Parameters
    ----------
    title : list of str
        Lines for the reader.
    """
    lines = [*(f"# {line}" for line in title), HELP, f"cycles {trace.cycles}"]
    never = []
    for name, lane in trace.lanes.items():
        words = []
        for first, last, value in _runs(lane):
            span = f"{first}-{last}" if last > first else str(first)
            words.append(span if lane.single else f"{span}={value:x}")
        label = f"{name} {lane.bits}{'*' if lane.gated else ''}"
        if words:
            lines += _wrapped(f"{label}:", words)
        else:
            never.append(label.replace(" ", "/"))
    return "\n".join([*lines, *_wrapped("never", never)]) + "\n"


_LANE = re.compile(r"([\w.\[\]]+) (\d+)(\*?):$")
_NEVER = re.compile(r"([\w.\[\]]+)/(\d+)(\*?)$")
_SPAN = re.compile(r"(\d+)(?:-(\d+))?(?:=([0-9a-f]+))?$")


def from_text(text: str, path: "Path | str") -> Trace:
    """The trace of a golden.

    Raises
    ------
    GoldenError
        With file and line.
    """
    trace, lane, number = None, None, 0

    def wrong(what: str) -> GoldenError:
        return GoldenError(f"{path}:{number}: {what}; `make waves-update T={Path(path).stem}` writes it "
                           "anew")

    def begin(match, gated: str) -> Lane:
        name = match[1]
        if name in trace.lanes:
            raise wrong(f"{name} a second time")
        new = Lane(int(match[2]), gated == "*", [])
        new.values = [new.rest] * trace.cycles
        trace.lanes[name] = new
        return new

    complete = False
    for line in text.splitlines():
        number += 1
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if trace is None:
            if words[0] != "cycles" or len(words) != 2 or not words[1].isdecimal():
                raise wrong(f"expected the number of cycles, found {line.strip()[:40]!r}")
            trace = Trace(int(words[1]), {})
            continue
        if words[0] == "never":
            lane, complete, words = None, True, words[1:]
        elif not line.startswith(" "):
            match = _LANE.match(" ".join(words[:2]))
            if complete or not match:
                raise wrong(f"expected a port, its bits and a colon, found {line.strip()[:40]!r}")
            lane, last, words = begin(match, match[3]), -1, words[2:]
        for word in words:
            if lane is None:
                match = _NEVER.match(word) if complete else None
                if not match:
                    raise wrong(f"expected name/bits, found {word[:40]!r}")
                begin(match, match[3])
                continue
            match = _SPAN.match(word)
            if not match or (match[3] is None) != lane.single:
                raise wrong(f"expected cycles{'' if lane.single else '=value'}, found {word[:40]!r}")
            first, value = int(match[1]), 1 if lane.single else int(match[3], 16)
            end = int(match[2] or first)
            if not last < first <= end < trace.cycles:
                raise wrong(f"cycles {word[:40]} are not behind {last} and before {trace.cycles}")
            if value >> lane.bits:
                raise wrong(f"{match[3]} has more than {lane.bits} bits")
            lane.values[first:end + 1] = [value] * (end + 1 - first)
            last = end
    if not complete:
        number += 1
        raise wrong("the file ends before its line of ports that never change")
    return trace
