"""One seed per run of pytest, the same in all workers: SEED=... replays it."""

import os
import random
import time

from .harness import BUILD

START = time.time()


def pytest_configure():
    os.environ["SEED"] = os.environ.get("SEED") or str(random.randrange(2**32))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"test benches: SEED={os.environ['SEED']}")
    if os.environ.get("WAVES"):
        for waveform in sorted(BUILD.glob("*/*/dump.vcd")):
            if waveform.stat().st_mtime > START:
                terminalreporter.write_line(f"waveform: {waveform}")
