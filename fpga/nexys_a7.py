"""The SoC: VexRiscv with the core as its CFU, DDR2, Ethernet; on a Digilent Nexys A7-100T or simulated.

``python -m fpga.nexys_a7`` writes Verilog, constraints and Vivado's script for the board and compiles
its software; with ``--simulate`` the same SoC runs here, behind a TCP port. This is the only file that
knows LiteX.

The CPU's caches are write-through and there is no L2, so the core sees what the CPU has written; the
CPU drops its cache to see what the core has written. The core's memory port is a port of the DRAM
controller of its own.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from backbeat.errors import ToolError
from backbeat.files import write_atomically
from backbeat.soc.toolchain import build_firmware
from backbeat_rtl.verilog import cfu_verilog, to_verilog

from . import soc_sim
from .litex_environment import find_litex, output_to
from .memory_window import MemoryWindow

try:
    find_litex()
except ToolError as missing:
    if __name__ == "__main__":
        sys.exit(f"error: {missing}")
    raise

import litex  # noqa: E402
from litedram.frontend.axi import LiteDRAMAXI2Native  # noqa: E402
from litedram.modules import MT47H64M16  # noqa: E402
from litedram.phy.model import SDRAMPHYModel  # noqa: E402
from litedram.phy.s7ddrphy import A7DDRPHY  # noqa: E402
from liteeth.phy.rmii import LiteEthPHYRMII  # noqa: E402
from litex.build.generic_platform import Pins, Subsignal  # noqa: E402
from litex.build.io import CRG  # noqa: E402
from litex.build.sim import SimPlatform  # noqa: E402
from litex.soc.cores.clock import S7IDELAYCTRL, S7MMCM  # noqa: E402
from litex.soc.cores.led import LedChaser  # noqa: E402
from litex.soc.cores.uart import RS232PHYModel, UARTBone  # noqa: E402
from litex.soc.integration.builder import Builder  # noqa: E402
from litex.soc.integration.soc_core import SoCCore  # noqa: E402
from litex.soc.interconnect.axi import AXIInterface  # noqa: E402
from litex_boards.platforms import digilent_nexys4ddr  # noqa: E402
from migen import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal  # noqa: E402

#: The firmware's ROM; its stack and data are in the SRAM at 0x1000_0000.
FIRMWARE, FIRMWARE_SIZE = 0x2000_0000, 0x4000
SRAM, SRAM_SIZE = 0x1000_0000, 0x2000
BIOS_SIZE = 0x10000         # at most; the ROM becomes as large as the BIOS is
#: Beats that the bridge to the DRAM buffers: more than a read is under way.
BUFFERED_BEATS = 32


class BackbeatSoC(SoCCore):
    """What the board and its simulation share: CPU, core, both ROMs' places, and how memory is reached.

    Parameters
    ----------
    platform
    clock : float
        Hz.
    cfu : Path
        Verilog of the core, module ``Cfu``.
    """

    def __init__(self, platform, clock: float, cfu: Path, **kwargs):
        super().__init__(platform, clock, cpu_type="vexriscv", cpu_variant="full+cfu", cpu_cfu=str(cfu),
                         ident="Backbeat", integrated_sram_size=SRAM_SIZE, **kwargs)
        self.add_rom("firmware", FIRMWARE, FIRMWARE_SIZE, [0])
        self.cfu = cfu

    def add_memory(self, phy, module):
        """The DRAM, with a port for the CPU's bus and the host, and one for the core."""
        self.add_sdram("sdram", phy=phy, module=module, l2_cache_size=0)
        region = self.bus.regions["main_ram"]
        core, memory = (AXIInterface(data_width=64, address_width=32, id_width=1) for _ in range(2))
        self.memory_bridge = LiteDRAMAXI2Native(memory, self.sdram.crossbar.get_port(), BUFFERED_BEATS,
                                                BUFFERED_BEATS, region.origin)
        self.cpu.cfu_params.update(axi_pins(core, "m_axi_", out=True))
        self.specials += Instance("MemoryWindow", i_clk=ClockSignal(), i_rst=ResetSignal(),
                                  **axi_pins(core, "core__", out=False),
                                  **axi_pins(memory, "memory__", out=True))
        window = self.cfu.with_name("window.v")
        write_atomically(window, to_verilog(MemoryWindow(base=region.origin, size=region.size),
                                            "MemoryWindow").encode())
        self.platform.add_source(str(window))


def axi_pins(bus: AXIInterface, prefix: str, out: bool) -> dict:
    """A bus as ports of the instance of a module: its master's if ``out``, else its slave's."""
    pins, address = {}, "id addr len size burst"
    for channel, names, forth in (("ar", address, True), ("r", "id data resp last", False),
                                  ("aw", address, True), ("w", "data strb last", True),
                                  ("b", "id resp", False)):
        endpoint, (there, back) = getattr(bus, channel), "oi" if out == forth else "io"
        for name in ("valid", *names.split()):
            pins[f"{there}_{prefix}{channel}{name}"] = getattr(endpoint, name)
        pins[f"{back}_{prefix}{channel}ready"] = endpoint.ready
    return pins


def words(firmware: bytes) -> list[int]:
    """32-bit words of the firmware's ROM.

    Raises
    ------
    ValueError
        It does not fit.
    """
    if len(firmware) > FIRMWARE_SIZE:
        raise ValueError(f"firmware must fit its ROM of {FIRMWARE_SIZE:,} bytes, got {len(firmware):,}")
    return [int.from_bytes(firmware[n:n + 4], "little") for n in range(0, len(firmware), 4)] or [0]


class Clocks(Module):
    """From 100 MHz: the system's, twice that for the DRAM, with and without a quarter of a period's
    delay, 200 MHz for the input delays, 50 MHz for Ethernet."""

    def __init__(self, platform, clock: float):
        self.rst = Signal()
        self.submodules.pll = pll = S7MMCM(speedgrade=-1)
        self.comb += pll.reset.eq(~platform.request("cpu_reset") | self.rst)
        pll.register_clkin(platform.request("clk100"), 100e6)
        for name, frequency, phase in (("sys", clock, 0), ("sys2x", 2 * clock, 0),
                                       ("sys2x_dqs", 2 * clock, 90), ("idelay", 200e6, 0),
                                       ("eth", 50e6, 0)):
            domain = ClockDomain(name)
            setattr(self.clock_domains, f"cd_{name}", domain)
            pll.create_clkout(domain, frequency, phase=phase)
        platform.add_false_path_constraints(self.cd_sys.clk, pll.clkin)
        self.submodules.delays = S7IDELAYCTRL(self.cd_idelay)


class Board(BackbeatSoC):
    """The SoC on the Nexys A7-100T (once sold as Nexys 4 DDR).

    LiteX's BIOS brings up the DRAM and jumps to our firmware. The host comes in through Ethernet
    (Etherbone, UDP); the serial port is the console, or with ``uartbone`` a second way in: what BIOS and
    firmware print then goes nowhere.
    """

    def __init__(self, clock: float, cfu: Path, ip: str, uartbone: bool):
        platform = digilent_nexys4ddr.Platform()
        self.crg = Clocks(platform, clock)
        super().__init__(platform, clock, cfu, integrated_rom_size=BIOS_SIZE,
                         with_uartbone=uartbone, uart_name="stub" if uartbone else "serial")
        self.add_constant("ROM_BOOT_ADDRESS", FIRMWARE)
        self.ddrphy = A7DDRPHY(platform.request("ddram"), memtype="DDR2", nphases=2, sys_clk_freq=clock)
        self.add_memory(self.ddrphy, MT47H64M16(clock, "1:2"))
        self.ethphy = LiteEthPHYRMII(platform.request("eth_clocks"), platform.request("eth"))
        self.add_etherbone(phy=self.ethphy, ip_address=ip)
        self.leds = LedChaser(platform.request_all("user_led"), clock)


def byte_stream(name: str):
    """Pads of a serial port without its serial line."""
    return (name, 0, *(Subsignal(f"{side}_{signal}", Pins(8 if signal == "data" else 1))
                       for side in ("source", "sink") for signal in ("valid", "ready", "data")))


class Simulated(BackbeatSoC):
    """The SoC without the board: the CPU starts in the firmware, the DRAM is LiteDRAM's model, which
    needs no training, and instead of Ethernet the host has a UARTbone on a stream of bytes."""

    def __init__(self, clock: float, cfu: Path):
        platform = SimPlatform("SIM", [("sys_clk", 0, Pins(1)), ("sys_rst", 0, Pins(1)),
                                       byte_stream("serial"), byte_stream("bridge")])
        self.crg = CRG(platform.request("sys_clk"), platform.request("sys_rst"))
        super().__init__(platform, clock, cfu, cpu_reset_address=FIRMWARE, uart_name="sim")
        module = MT47H64M16(clock, "1:2")
        self.submodules.sdrphy = phy = SDRAMPHYModel(module, data_width=16, clk_freq=clock)
        self.add_memory(phy, module)
        self.uartbone = UARTBone(RS232PHYModel(platform.request("bridge")), clock)
        self.bus.add_master("uartbone", self.uartbone.wishbone)
        platform.add_debug(self)        # a register that ends the simulation


def firmware(folder: Path, source: "str | Path" = "server.c") -> bytes:
    """A program of ``sw/firmware`` for the SoC whose generated headers lie in ``folder``.

    Raises
    ------
    ToolError
        No compiler, or it reports an error.
    """
    software = Path(litex.__file__).parent / "soc"
    return build_firmware([source], {"BB_LITEX": True}, rom=FIRMWARE, rom_bytes=FIRMWARE_SIZE, ram=SRAM,
                          ram_bytes=SRAM_SIZE,
                          include=[folder / "software" / "include", software / "software" / "include",
                                   software / "cores" / "cpu" / "vexriscv"]).binary


def write_soc(soc: BackbeatSoC, folder: Path, compile_software: bool = False) -> list[Path]:
    """Has LiteX write csr.json, software/include and gateware/*: Verilog and what belongs to it.

    With ``compile_software`` BIOS and firmware are in its ROMs (and firmware.bin), else those are empty.
    Returns the Verilog files, LiteX's last.
    """
    def place_firmware(**_):
        write_atomically(folder / "firmware.bin", firmware(folder))
        soc.init_rom("firmware", words((folder / "firmware.bin").read_bytes()))

    if compile_software:
        soc.init_mems = place_firmware      # LiteX calls it when the headers are there
    builder = Builder(soc, output_dir=str(folder), compile_software=compile_software,
                      compile_gateware=False, bios_console="lite", csr_csv=os.devnull)
    with (Console(stderr=True).status("Writing the SoC" + compile_software * ", compiling its BIOS"),
          output_to(folder / "litex.log")):
        builder.build(build_name=soc.platform.name, run=False)
    return [Path(source[0]) for source in soc.platform.sources]


def board(config: str, folder: Path, clock: float = 100e6, ip: str = "192.168.1.50",
          uartbone: bool = False, compile_software: bool = True) -> list[Path]:
    """Writes all that a bitstream is made of into a folder; the Verilog files."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    write_atomically(folder / "cfu.v", cfu_verilog(config).encode())
    soc = Board(clock, folder / "cfu.v", ip, uartbone)
    return write_soc(soc, folder, compile_software)


def simulated(config: str, folder: Path, clock: float = 100e6) -> list[Path]:
    """Writes Verilog, csr.json and headers of the SoC to simulate; the Verilog files."""
    write_atomically(folder / "cfu.v", cfu_verilog(config).encode())
    return write_soc(Simulated(clock, folder / "cfu.v"), folder)


def simulation(config: str, clock: float = 100e6) -> Path:
    """The folder of the simulated SoC, compiled on first use; see :func:`.soc_sim.simulation`."""
    return soc_sim.simulation(config, clock, simulated)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="32x14", help="of the core (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="default: build/nexys_a7/CONFIG")
    parser.add_argument("--clock", type=float, default=100.0, help="MHz (default: %(default)s)")
    parser.add_argument("--ip", default="192.168.1.50", help="of the board (default: %(default)s)")
    parser.add_argument("--uartbone", action="store_true",
                        help="the serial port, too, is a bridge for the host, not a console")
    parser.add_argument("--no-compile", action="store_true",
                        help="write Verilog, constraints and csr.json; leave the ROMs empty")
    parser.add_argument("--sources", action="store_true", help="print the Verilog files")
    parser.add_argument("--simulate", action="store_true", help="run the SoC here")
    parser.add_argument("--port", type=int, default=1234,
                        help="of the simulation (default: %(default)s; 0: any)")
    parser.add_argument("--firmware", type=Path,
                        help=f"for the simulation: binary linked to {FIRMWARE:#x} (default: the server)")
    options = parser.parse_args()
    try:
        if options.simulate:
            folder = simulation(options.config, options.clock * 1e6)
            binary = options.firmware.read_bytes() if options.firmware else firmware(folder)
            soc_sim.run(folder, words(binary), options.port)
        folder = options.out or Path(__file__).parents[1] / "build" / "nexys_a7" / options.config
        sources = board(options.config, folder, options.clock * 1e6, options.ip,
                        options.uartbone, not options.no_compile)
    except (ToolError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(*(sources if options.sources else [f"written: {folder}"]), sep="\n")


if __name__ == "__main__":
    main()
