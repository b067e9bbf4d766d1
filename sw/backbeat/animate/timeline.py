"""Motion as CSS keyframes: what is seen when, and what is where when."""

from collections.abc import Sequence

__all__ = ["Timeline", "plain"]

#: Parts of a cycle: what leaves fades, what moves moves, what comes appears; then all is still, to read.
GONE, COME, MOVED = 0.16, 0.36, 0.42


def plain(value: float) -> str:
    """A number in as few characters as it needs."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Timeline:
    """Collects rules of a style sheet; equal motions share one.

    Parameters
    ----------
    cycles : int
    seconds : float
        Of a cycle.
    rest : int
        Cycles for which the last one is shown longer, before all begins anew.
    still : int
        The cycle that is shown where nothing may move.
    """

    def __init__(self, cycles: int, seconds: float, rest: int, still: int):
        self.cycles, self.seconds, self.rest, self.still = cycles, seconds, rest, still
        self.names: dict[str, str] = {}

    @property
    def duration(self) -> float:
        """Seconds."""
        return (self.cycles + self.rest) * self.seconds

    def _percent(self, cycle: float) -> str:
        return plain(100 * cycle / (self.cycles + self.rest)) + "%"

    def _attributes(self, frames: str, still: str) -> str:
        name = self.names.setdefault(frames, f"m{len(self.names)}")
        return f'class="m {name}"{still}'

    def shown(self, first: int, last: int) -> str:
        """Attributes of an element that is seen from one cycle to another, both included."""
        first, last = max(first, 0), min(last, self.cycles - 1)
        if first == 0 and last == self.cycles - 1:
            return ""
        frames = []
        if first > 0:
            frames += [f"0%,{self._percent(first + GONE)}{{opacity:0}}",
                       f"{self._percent(first + COME)}{{opacity:1}}"]
        else:
            frames.append("0%{opacity:1}")
        if last < self.cycles - 1:
            frames += [f"{self._percent(last + 1)}{{opacity:1}}",
                       f"{self._percent(last + 1 + GONE)},to{{opacity:0}}"]
        else:
            frames.append("to{opacity:1}")
        seen = first <= self.still <= last
        return self._attributes("".join(frames), "" if seen else ' opacity="0"')

    def moving(self, start: int, places: Sequence[tuple[float, float, bool]]) -> str:
        """Attributes of an element that is at ``places[0]`` up to cycle ``start``, at each further one
        in the cycle after, and at the last one from then on.

        Parameters
        ----------
        places : sequence of (x, y, seen)
        """
        def state(index: int) -> str:
            x, y, seen = places[min(max(index, 0), len(places) - 1)]
            return f"transform:translate({plain(x)}px,{plain(y)}px);opacity:{int(seen)}"

        frames = ["0%{" + state(-start) + "}"]
        for cycle in range(max(start, 0) + 1, min(start + len(places), self.cycles)):
            before, after = state(cycle - start - 1), state(cycle - start)
            if before != after:
                frames += [f"{self._percent(cycle)}{{{before}}}",
                           f"{self._percent(cycle + MOVED)}{{{after}}}"]
        frames.append("to{" + state(self.cycles - 1 - start) + "}")
        x, y, seen = places[min(max(self.still - start, 0), len(places) - 1)]
        still = f' transform="translate({plain(x)} {plain(y)})"' + ("" if seen else ' opacity="0"')
        return self._attributes("".join(frames), still)

    def style(self) -> str:
        """The rules."""
        rules = [f".m{{animation:{plain(self.duration)}s ease-in-out infinite both}}"]
        for frames, name in self.names.items():
            rules.append(f".{name}{{animation-name:{name}}}@keyframes {name}{{{frames}}}")
        return "\n".join(rules)
