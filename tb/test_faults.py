"""Each campaign of ``make faults`` in its short form, on a small array."""

import pytest

from backbeat.errors import ToolError

from .faults.registry import CAMPAIGNS, carry_out
from .faults.tally import Tally
from .harness import seed


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_campaign_is_without_failures(name):
    tally = Tally()
    try:
        carry_out(name, CAMPAIGNS[name].configs[0], seed(), tally, short=True)
    except ToolError as error:
        pytest.skip(str(error))
    assert not tally.failures, f"SEED={seed()}: " + "\n".join(tally.failures)
    assert tally.positions and tally.faults, "nothing went wrong, which shows little"
