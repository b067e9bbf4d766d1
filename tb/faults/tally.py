"""What a campaign has tried and found."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import backbeat

__all__ = ["MOST", "Enough", "Tally"]

#: Failures after which a campaign goes no further: they rarely tell more.
MOST = 5


class Enough(Exception):
    """There have been failures enough."""


@dataclass
class Tally:
    """Counts of a campaign.

    Parameters
    ----------
    advance : callable
        Told (positions tried, positions in all as far as they are known).

    Attributes
    ----------
    positions : int
        Places and moments at which something was made to go wrong.
    faults : int
        Of these, those that had to be met by an error, a reset or a second try, and were.
    failures : list of str
        What was not as it should be.
    """

    advance: Callable[[int, int], None] = lambda done, total: None
    positions: int = 0
    faults: int = 0
    failures: list[str] = field(default_factory=list)
    _total: int = 0

    def expect(self, positions: int):
        """So many more are to come."""
        self._total += positions
        self.advance(self.positions, self._total)

    @contextlib.contextmanager
    def position(self, what: str, count: int = 1) -> Iterator[None]:
        """One position, or ``count`` of them, at which something goes wrong now.

        Raises
        ------
        Enough
            There have been ``MOST`` failures.
        """
        try:
            yield
        except (AssertionError, LookupError, backbeat.AcceleratorError) as error:
            self.failures.append(f"{what}: {error}")
            if len(self.failures) == MOST:
                raise Enough from None
        self.positions += count
        self.advance(self.positions, self._total)
