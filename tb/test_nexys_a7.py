"""The SoC around the core, simulated: commands, descriptors through LiteDRAM, and a host."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import backbeat
from backbeat.accelerator import OPS
from backbeat.errors import ToolError
from backbeat.measure import reference
from backbeat.program import Batch
from backbeat.soc.toolchain import find_toolchain
from backbeat.torch import offload
from backbeat_rtl.config import Config
from backbeat_rtl.epilogue_model import Requantise
from backbeat_rtl.isa import Error, Op, Read, Write, function_id

from .descriptors import random_chain
from .harness import seed
from .memory_image import Arena, differences

try:
    from fpga import nexys_a7, soc_sim

    from .running_soc import CONFIG, Running
    find_toolchain()
except ToolError as error:
    pytest.skip(f"the SoC needs more: {error}", allow_module_level=True)

#: Where the chains' memory begins, and its bytes: all of it crosses the bridge twice.
BASE, SIZE = 0x4100_0000, 1 << 15
#: Where the SoC's memory ends.
MEMORY_END = 0x4800_0000


@pytest.fixture(scope="module")
def soc():
    running = Running(nexys_a7.firmware(nexys_a7.simulation(CONFIG)))
    yield running
    running.process.terminate()
    _, said = running.end()
    assert re.search(r"\d+ cycles in .* kcycle/s", said), said


def chains(rng, config, **kwargs):
    """Random ones, each in a memory of its own."""
    while True:
        with contextlib.suppress(ValueError):       # it was too small
            yield random_chain(rng, config, arena=Arena(rng, BASE, SIZE), **kwargs)


def carry_out(backend, chain) -> dict:
    """Has a chain carried out in the SoC's memory, and compares all of that with the model's. What the
    core reports, by register; it has been reset if that is an error."""
    answer, expected = chain.run()
    link = backend.mailbox.link
    link.write(chain.base, chain.memory.view(np.uint32))
    before, = backend.get(Read.COMPLETED)
    idle = np.zeros(1, np.uint32)
    backend.execute([Batch(function_id(Op.SET, Write.DOORBELL), input_0=chain.address)])
    while not idle[0]:
        backend.execute([Batch(function_id(Op.GET, Read.FENCE), outputs=idle)])
    registers = (Read.ERROR, Read.ERROR_VALUE, Read.FAILED, Read.COMPLETED)
    found = dict(zip(registers, backend.get(*registers), strict=True))
    if found[Read.ERROR]:
        backend.execute([Batch(function_id(Op.RESET))])
    assert (found[Read.ERROR], found[Read.COMPLETED] - before, found[Read.FAILED]) == (
        answer.error, answer.completed, answer.failed), str(chain)
    memory = link.read(chain.base, chain.memory.size // 4).view(np.uint8)
    wrong = differences(chain, answer, expected, memory)
    assert not wrong, f"{wrong}: {chain}"
    return found


def test_chains_match_model(soc):
    """All of memory and the records, through the port of the DRAM controller, refreshes and all."""
    rng, config = np.random.default_rng(seed()), Config.of(CONFIG)
    with backbeat.open(soc.address) as acc:
        for chain in islice(chains(rng, config, largest=40), 4):
            assert carry_out(acc._backend, chain)[Read.ERROR] == Error.NONE


@pytest.mark.parametrize("address", [MEMORY_END, 0x3FFF_F000])
def test_addresses_outside_of_memory_are_errors(soc, address):
    """A DRAM controller leaves out the upper bits: address 128 MiB would be the mailbox."""
    rng, config = np.random.default_rng(seed()), Config.of(CONFIG)
    with backbeat.open(soc.address) as acc:
        for field, error in (("c", Error.BUS_WRITE), ("b", Error.BUS_READ)):
            chain, number = next((chain, n) for chain in chains(rng, config, count=3, largest=25)
                                 for n, d in enumerate(chain.descriptors) if d.kind == "plain")
            chain.rewrite(number, **{field: address})
            found = carry_out(acc._backend, chain)
            assert found[Read.ERROR] == error
            assert found[Read.ERROR_VALUE] == address
        a = rng.integers(-127, 128, (9, 20), dtype=np.int8)
        assert (acc.gemm(a, a, "nt") == reference(a, a, "nt")).all()


def test_driver_gives_the_bits_of_the_model(soc):
    """All orientations, INT32 and INT8, from a host's bridge to the core and back."""
    rng = np.random.default_rng(seed())
    with backbeat.open(soc.address) as acc:
        for op in OPS:
            m, n, k = rng.integers(1, 40, 3)
            a = rng.integers(-128, 128, (m, k) if op[0] == "n" else (k, m), dtype=np.int8)
            b = rng.integers(-128, 128, (k, n) if op[1] == "n" else (n, k), dtype=np.int8)
            for spec in (None, Requantise(1 << 22, 30, rounding="stochastic", seed=seed())):
                found, expected = acc.gemm(a, b, op, requantize=spec), reference(a, b, op, spec)
                assert (found == expected).all(), (op, (m, n, k), spec, found, expected)
        assert acc.stats.descriptors and acc.stats.bytes_read


def trained(acc) -> np.ndarray:
    """Parameters of a small network after three steps whose products ``acc`` has made."""
    torch.manual_seed(seed())
    net = torch.nn.Sequential(torch.nn.Linear(20, 12), torch.nn.ReLU(), torch.nn.Linear(12, 5))
    offload(net, acc)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(net(torch.randn(9, 20)), torch.arange(9) % 5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()]).numpy()


def test_training_gives_the_bits_of_the_model(soc):
    """Through LiteX's own server in between, as with a board."""
    with contextlib.closing(socket.create_server(("localhost", 0))) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "litex.tools.litex_server", "--uart", "--uart-port",
         f"socket://localhost:{soc.port}", "--bind-port", str(port)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.DEVNULL)
    try:
        with backbeat.open(f"litex:localhost:{port}") as acc, backbeat.open("model", CONFIG) as model:
            np.testing.assert_array_equal(trained(acc), trained(model))
            assert acc.stats.products >= 15
            assert listening(server.pid) in ({("127.0.0.1", port)}, {("::1", port)}), (
                "unless it is told otherwise, nobody else gets at the SoC")
    finally:
        server.terminate()
        server.wait(20)


def test_core_sees_the_commands_of_the_program_and_no_others():
    """Behind one that waits, VexRiscv makes some up if ``cmd_ready`` falls too soon; see the Cfu."""
    firmware = nexys_a7.firmware(nexys_a7.simulation(CONFIG), Path(__file__).with_name("soc_commands.c"))
    out, _ = Running(firmware).end()
    assert "error 0 value 0 wrong 0" in out, out


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports at which a process waits for connections over TCP, as the kernel has them."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(entry))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                address, port = local.split(":")
                raw = b"".join(bytes.fromhex(address[at:at + 8])[::-1]
                               for at in range(0, len(address), 8))
                found.add((socket.inet_ntop(family, raw), int(port, 16)))
    return found


def test_simulation_is_reached_from_this_machine_only(soc):
    assert listening(soc.process.pid) == {("127.0.0.1", soc.port)}


def test_second_simulation_on_a_port_says_so(soc):
    process = soc_sim.start(soc.folder, [0], soc.port, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"cannot listen on port {soc.port}: Address already in use" in said


def test_firmware_too_long_is_refused():
    with pytest.raises(ValueError, match="must fit its ROM of 16,384 bytes, got 16,388"):
        nexys_a7.words(bytes(0x4004))
