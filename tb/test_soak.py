"""The first products of a campaign, on a small array and on those that only the door simulates."""

import pytest

from .harness import seed
from .soak import campaign


@pytest.mark.parametrize(("config", "products"), [("8x8", 400), ("16x16", 120), ("32x14", 120)])
def test_campaign_is_exact(config, products):
    counts = campaign(config, seed(), products)
    # Of the short ones some have none.
    assert counts["faults"] or products < 400, "a campaign without faults shows little"
