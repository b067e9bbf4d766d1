"""One seed per run of pytest, the same in all workers: SEED=... replays it."""

import os
import random


def pytest_configure():
    os.environ.setdefault("SEED", str(random.randrange(2**32)))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"test benches: SEED={os.environ['SEED']}")
