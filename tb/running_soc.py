"""The board's SoC in LiteX's simulation, as a process; importing this needs LiteX."""

import subprocess

from fpga import nexys_a7, soc_sim

__all__ = ["CONFIG", "Running"]

CONFIG = "4x4"


class Running:
    """A SoC that is being simulated; ``address`` is what ``backbeat.open`` wants."""

    def __init__(self, firmware: bytes):
        self.folder = nexys_a7.simulation(CONFIG)
        self.process = soc_sim.start(self.folder, nexys_a7.words(firmware), 0, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        first = self.process.stdout.readline()
        assert first.startswith("listening on localhost:"), first + self.process.stderr.read()
        self.port = int(first.split(":")[1])
        self.address = f"litex:socket://localhost:{self.port}"

    def end(self, seconds=20) -> tuple[str, str]:
        """Waits until it has ended; its outputs."""
        try:
            out = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == 0
        return out
