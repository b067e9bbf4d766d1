"""A memory that errs, or falls silent, at every transfer of a small chain of products.

The driver, the RTL and its bus are all real; what goes wrong does so in the simulated memory, at one
transfer that is counted, not at an address.
"""

from backbeat.backends.verilator import CHANNELS
from backbeat_rtl.isa import Error, Read

from ..witness import DECERR, SLVERR, nothing
from .core import Core, some
from .tally import Tally

__all__ = ["errors", "silence"]

#: Products of a chain: what comes after the one that fails must not be written, what comes before is
#: complete.
PRODUCTS = 2
#: Channels whose transfers are answered.
ANSWERED = {"r": Error.BUS_READ, "w": Error.BUS_WRITE, "b": Error.BUS_WRITE}
#: Chains of a whole campaign, and positions that a short one tries of each channel.
ERROR_CHAINS, SILENT_CHAINS, SHORT = 6, 2, 3


class _Strike:
    """Makes one transfer err, or a channel fall silent; see :attr:`.Witness.arm`."""

    def __init__(self, core: Core, channel: str, number: int, response: int, back_first: bool = True):
        self.core, self.channel, self.number, self.response = core, channel, number, response
        self.back_first, self.burst = back_first, None

    def __call__(self, _chain):
        self.core.simulator.strike(self.channel, self.number, self.response)
        return self._met if self.response else self._silent

    def _met(self):
        hit = self.core.simulator.struck()
        self.core.simulator.strike()
        if hit is None:
            return []
        word, self.burst = hit
        return [(word, word + 8, ANSWERED[self.channel])]

    def _silent(self):
        error, failed = self.core.backend.get(Read.ERROR, Read.FAILED)
        if self.back_first:         # otherwise only after the driver's RESET
            self.core.simulator.strike()
        return [(failed, failed + 8, Error.TIMEOUT)] if error else []


def _transfers(core: Core, trials) -> dict[str, int]:
    """How many of each channel the chain takes when nothing goes wrong."""
    core.simulator.strike()
    error = core.witness.carry_out(trials)
    assert error is None, f"before any fault: {error}"
    return {channel: core.simulator.moved(channel) for channel in CHANNELS}


def errors(config: str, rng, tally: Tally, short: bool = False):
    """SLVERR and DECERR at every word read, word written and acknowledgement: the driver raises the
    error of that burst and that product, memory is as the model of descriptors leaves it, and the next
    product is exact."""
    for _ in range(1 if short else ERROR_CHAINS):
        with Core(config, rng) as core:
            trials = core.trials(PRODUCTS)
            moved, what = _transfers(core, trials), "; ".join(map(str, trials))
            positions = [(channel, number, response) for channel in ANSWERED
                         for number in range(moved[channel]) for response in (SLVERR, DECERR)]
            positions = some(rng, positions, 20 * SHORT if short else None)
            tally.expect(len(positions))
            for channel, number, response in positions:
                with tally.position(f"{core}: response {response} at {channel} {number} of {what}"):
                    strike = core.witness.arm = _Strike(core, channel, number, response)
                    error = core.witness.carry_out(trials)
                    core.witness.arm = nothing
                    assert error is not None, "no error"
                    assert error.value == strike.burst, (
                        f"{error}, expected the burst at {strike.burst:#x}")
                    core.product_is_exact()
                    tally.faults += 1


def silence(config: str, rng, tally: Tally, short: bool = False):
    """Each channel stands still from its first, second, ... last transfer on: the driver raises
    TIMEOUT, what comes before is complete and nothing else has been written; when the memory goes on,
    before the driver's RESET or after it, the next product is exact. With the reset pin, too."""
    for _ in range(1 if short else SILENT_CHAINS):
        with Core(config, rng) as core:
            trials = core.trials(PRODUCTS)
            moved, what = _transfers(core, trials), "; ".join(map(str, trials))
            positions = [(channel, number) for channel in CHANNELS
                         for number in some(rng, list(range(moved[channel])), SHORT if short else None)]
            tally.expect(len(positions))
            for channel, number in positions:
                how = str(rng.choice(["goes on", "goes on after RESET", "is reset"]))
                with tally.position(f"{core}: no {channel} from {number} on, {how}, {what}"):
                    _fall_silent(core, trials, channel, number, how)
                    tally.faults += 1


def _fall_silent(core: Core, trials, channel: str, number: int, how: str):
    core.witness.arm = _Strike(core, channel, number, 0, how == "goes on")
    try:
        error = core.witness.carry_out(trials)
    finally:
        core.witness.arm = nothing
        if how == "is reset":
            core.simulator.reset()
            core.backend.forget_counters()
        core.simulator.strike()
    assert error is not None, "no error"
    core.product_is_exact()
