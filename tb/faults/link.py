"""A way to the SoC on which bytes are lost, doubled, changed or late."""

import contextlib

import numpy as np

import backbeat
from backbeat.measure import reference

from .proxy import FAULTS, Proxy
from .tally import Tally

__all__ = ["link"]

#: Products of a whole campaign and of a short one. Half of them meet one fault, the others several.
PRODUCTS, SHORT = 60, 5
#: Seconds without a sign of life after which the driver gives up.
TIMEOUT = 4


def link(config: str, rng, tally: Tally, short: bool = False):
    """Products on the board's simulated SoC, its UARTbone behind a proxy that damages bytes: each result
    is exact or the driver raises AcceleratorError, and without faults it is exact again, at the latest
    when the SoC has been started anew."""
    from ..running_soc import Running, nexys_a7

    count, running = SHORT if short else PRODUCTS, None
    tally.expect(count)
    firmware = nexys_a7.firmware(nexys_a7.simulation(config))
    try:
        for number in range(count):
            if running is None:
                running = Running(firmware)
            proxy = Proxy(running.port, rng)
            what = _fault(rng)
            with tally.position(f"product {number}, {what}"), contextlib.closing(proxy):
                running = _product(rng, running, proxy, what, tally)
    finally:
        if running is not None:
            running.process.kill()
            running.process.communicate()


def _fault(rng) -> dict:
    """One fault, or one after the other."""
    return {"fault": FAULTS[int(rng.integers(len(FAULTS)))], "direction": int(rng.integers(2)),
            "at": int(rng.integers(3000)), "size": int(rng.choice([1, 1, 2, 7, 40])),
            "again": int(rng.choice([0, rng.integers(500, 5000)]))}


def _product(rng, running, proxy: Proxy, what: dict, tally: Tally):
    """Under the fault, and again without it; the SoC, or None if that has to be started anew."""
    m, n, k = rng.integers(1, 40, 3).tolist()
    a, b = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((m, k), (k, n)))
    expected = reference(a, b, "nn")
    address = f"litex:socket://localhost:{proxy.port}?timeout={TIMEOUT}"
    try:
        with backbeat.open(address) as acc:
            proxy.arm(**what)
            try:
                _same(acc.gemm(a, b), expected, "under the fault")
            except backbeat.AcceleratorError as error:
                assert str(error), "an error that says nothing"
            finally:
                tally.faults += proxy.happened
                proxy.arm()
            _same(acc.gemm(a, b), expected, "after it, with the same driver")
    except backbeat.AcceleratorError:
        # What the bridge made of the bytes may have written anywhere, into the SoC's registers, too.
        running.process.kill()
        running.process.communicate()
        return None
    return running


def _same(found: np.ndarray, expected: np.ndarray, when: str):
    wrong = np.argwhere(found != expected)
    assert not len(wrong), (f"a wrong result {when}: C{wrong[0].tolist()} of {expected.shape} is "
                            f"{found[tuple(wrong[0])]}, expected {expected[tuple(wrong[0])]}; "
                            f"{len(wrong)} are wrong")
