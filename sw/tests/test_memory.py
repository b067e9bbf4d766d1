"""The simulator's memory, driven by a probe in the core's place: how fast it is, and what it forbids."""

from pathlib import Path

import numpy as np
import pytest

import backbeat
from backbeat.backends import build
from backbeat.backends.verilator import Simulator
from backbeat.memory import BASE, Memory
from backbeat.program import Batch

PROBE = Path(__file__).with_name("memory_probe.v")
SIZE = 1 << 20
REGISTERS = ("read_address", "write_address", "reads", "writes", "length", "mode", "strobe")
RESULTS = ("sum", "read_response", "write_response", "read_latency", "write_latency", "bad_last")
DEFAULTS = {"read_address": BASE, "write_address": BASE + SIZE // 2, "reads": 0, "writes": 0,
            "length": 63, "mode": 0, "strobe": 0xFF}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    work = tmp_path_factory.mktemp("probe")
    design = build.Design("Cfu", PROBE.read_text)
    build._build([design], build.SHIM, work / "probe.so", work, ["-DBB_MEMORY"])
    return work / "probe.so"


@pytest.fixture
def probe(library):
    """Function that sets registers, has the bursts made, and returns the cycles and the results."""
    simulators = []

    def run(memory=None, image=None, stall=0, fault=None, **registers):
        if memory is not None or not simulators:
            simulators.append(Simulator(library, memory or Memory(size=SIZE)))
        simulator = simulators[-1]
        if image is not None:
            simulator.image[:] = image
        simulator.stall(7, stall)
        simulator.fault(*(fault or ()))
        cycles, results = np.zeros(1, np.uint32), np.zeros((len(RESULTS), 1), np.uint32)
        simulator.run([
            *(Batch(1, 1, value, REGISTERS.index(name))
              for name, value in (DEFAULTS | registers).items()),
            Batch(2, outputs=cycles),
            *(Batch(3, 1, number, outputs=out) for number, out in enumerate(results))])
        run.image = simulator.image
        return int(cycles[0]), dict(zip(RESULTS, results[:, 0].tolist(), strict=True))

    yield run
    for simulator in simulators:
        simulator.close()


@pytest.mark.parametrize("memory", [
    Memory(size=SIZE), Memory(bandwidth=6.4, size=SIZE), Memory(bandwidth=16, size=SIZE),
    Memory(bandwidth=3, refresh_cycles=0, size=SIZE),
    Memory(latency=200, refresh_interval=100, size=SIZE)])
def test_bandwidth_is_shared_and_refresh_takes_its_part(probe, memory):
    for registers in ({"reads": 300}, {"writes": 300}, {"reads": 300, "writes": 300}):
        cycles, _ = probe(memory, **registers)
        beats = 64 * sum(registers.values())
        # One word at most each way.
        rate = min(memory.effective / 8, len(registers) * memory.effective / memory.bandwidth)
        # Requests wait for 32 acknowledgements on their way, which hides any of these latencies.
        assert cycles == pytest.approx(beats / rate + memory.latency, rel=0.02)


@pytest.mark.parametrize("latency", [1, 25, 100])
def test_latency_is_from_request_to_first_word_and_from_last_word_to_answer(probe, latency):
    memory = Memory(latency=latency, refresh_cycles=0, size=SIZE)
    assert probe(memory, reads=1)[1]["read_latency"] == latency
    assert latency <= probe(writes=1)[1]["write_latency"] <= latency + 3


@pytest.mark.parametrize("stall", [0, 0.3])
def test_words_arrive_where_they_belong(probe, stall):
    image = np.random.default_rng(1).integers(0, 256, SIZE, dtype=np.uint8)
    words = image[:40 * 64 * 8].view("<u4").astype(np.uint64)
    straight, _ = probe(image=image, reads=40, writes=40, strobe=0xFF)
    cycles, results = probe(image=image, stall=stall, reads=40, writes=40, strobe=0x3C)
    assert results["sum"] == int(words.sum()) % 2**32 and not results["bad_last"]
    assert results["read_response"] == results["write_response"] == 0
    assert stall == 0 or cycles > straight
    expected = image.copy()
    written = expected[SIZE // 2:SIZE // 2 + 40 * 64 * 8].reshape(-1, 8)
    values = (0x12345678 << 32) + np.arange(40 * 64, 0, -1, dtype=np.uint64)
    written[:, 2:6] = values.view(np.uint8).reshape(-1, 8)[:, 2:6]
    np.testing.assert_array_equal(probe.image, expected)


def test_a_write_is_seen_only_once_it_is_acknowledged(probe):
    """Reads and writes of the same words at once: the reads are first, however late."""
    memory = Memory(latency=2000, size=SIZE)
    same = {"read_address": BASE, "write_address": BASE, "writes": 1}
    _, during = probe(memory, reads=1, **same)
    _, after = probe(reads=1, **(same | {"writes": 0}))
    assert during["sum"] == 0 and after["sum"] != 0


@pytest.mark.parametrize(("response", "reads", "writes"), [(2, True, False), (3, False, True)])
def test_fault_touches_only_its_words(probe, response, reads, writes):
    at = BASE + SIZE // 2 + 5 * 8
    for _ in range(2):      # the answers after it are good again
        _, results = probe(fault=(at + 7, at + 8, response, reads, writes), reads=1, writes=3,
                           read_address=at - 16)
        assert results["read_response"] == (response if reads else 0)
        assert results["write_response"] == (response if writes else 0)
    words = probe.image[SIZE // 2:SIZE // 2 + 3 * 64 * 8].view("<u8")
    assert np.flatnonzero(words == 0).tolist() == ([5] if writes else [])
    _, results = probe(reads=1, writes=3)
    assert results["read_response"] == results["write_response"] == 0


@pytest.mark.parametrize("address", [0, BASE - 512, BASE + SIZE, 0xFFFFFE00])
def test_outside_of_memory_is_an_error_and_nothing_is_touched(probe, address):
    _, results = probe(reads=1, writes=1, read_address=address, write_address=address)
    assert results["read_response"] == results["write_response"] == 3
    assert not probe.image.any()


@pytest.mark.parametrize(("match", "registers"), [
    ("AR was withdrawn before it was accepted", {"mode": 1, "reads": 60}),
    ("AR changed before it was accepted", {"mode": 2, "reads": 60}),
    ("WLAST is 1 with 64 beats of the burst left", {"mode": 3, "writes": 1}),
    ("WLAST is 0 with 1 beats of the burst left", {"mode": 8, "writes": 1}),
    ("W of more than 32 beats before its AW", {"mode": 4, "writes": 1}),
    ("AR of 64 beats at 0x40000000: size is not 8 bytes", {"mode": 5, "reads": 1}),
    ("AR of 64 beats at 0x40000000: burst is not INCR", {"mode": 6, "reads": 1}),
    ("W changed before it was accepted", {"mode": 7, "writes": 60}),
    ("AW of 64 beats at 0x40000e08: burst crosses 4 KiB", {"write_address": BASE + 0xE08, "writes": 1}),
    ("AR of 64 beats at 0x40000004: address is not aligned", {"read_address": BASE + 4, "reads": 1}),
])
def test_broken_rule_is_named_and_the_simulator_works_again(probe, match, registers):
    with pytest.raises(backbeat.AcceleratorError, match=match):
        probe(**registers)
    assert probe(reads=1, writes=1)[1]["read_response"] == 0
