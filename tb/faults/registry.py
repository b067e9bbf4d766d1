"""The campaigns, by name."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import bus, link, reset, training, words
from .tally import Enough, Tally

__all__ = ["CAMPAIGNS", "Campaign", "carry_out"]

#: Arrays that a whole campaign disturbs.
SMALL = ("4x4", "8x8")


@dataclass(frozen=True)
class Campaign:
    """What goes wrong, where and how often.

    Attributes
    ----------
    run : callable
        Of (config, numpy Generator, Tally, short).
    configs : tuple of str
    """

    name: str
    run: Callable
    configs: tuple[str, ...] = SMALL

    @property
    def says(self) -> str:
        """What holds, in a sentence."""
        return " ".join(self.run.__doc__.split())


CAMPAIGNS = {campaign.name: campaign for campaign in (
    Campaign("bus-errors", bus.errors),
    Campaign("bus-silence", bus.silence),
    Campaign("reset-port", reset.port_reset),
    Campaign("reset-pin-port", reset.port_pin),
    Campaign("reset-door", reset.door_reset),
    Campaign("reset-pin-door", reset.door_pin),
    Campaign("words", words.words),
    Campaign("doorbells", words.doorbells),
    Campaign("training-kills", training.kills, ("4x4",)),
    Campaign("link", link.link, ("4x4",)),
)}


def carry_out(name: str, config: str, seed: int, tally: Tally, short: bool = False):
    """A campaign, until it is over or has failed often enough; the same whichever others are run.

    Raises
    ------
    ToolError
        It needs something that is not installed.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(config.encode())])
    try:
        CAMPAIGNS[name].run(config, rng, tally, short)
    except Enough:
        pass
