"""An accelerator to offload to, and what it is asked for."""

import pytest

import backbeat


@pytest.fixture
def acc():
    with backbeat.open("model", "4x4") as acc:
        yield acc


@pytest.fixture
def products(acc, monkeypatch):
    """Every product that the accelerator is asked for."""
    calls, run = [], acc.run

    def spy(products):
        calls.extend(products)
        return run(products)

    monkeypatch.setattr(acc, "run", spy)
    return calls
