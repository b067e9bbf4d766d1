"""The first few hundred products of a campaign, on the arrays that only the driver's door simulates."""

import pytest

import backbeat

from .harness import seed
from .soak import campaign


@pytest.mark.parametrize(("config", "products"), [("32x14", 250), ("16x16", 250)])
def test_campaign_is_exact(config, products):
    with backbeat.open("verilator", config) as acc:
        campaign(acc, seed(), range(products))
