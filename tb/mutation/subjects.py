"""What is mutated, and the runs of test benches that have to notice."""

import contextlib
import importlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from ..harness import Simulation
from .equivalence import Contract

__all__ = ["SUBJECTS", "Run", "Subject", "runs"]


@dataclass(frozen=True)
class Run:
    """A run of a bench: the coroutine, and its arguments as JSON."""

    bench: Callable
    arguments: str

    def __str__(self):
        arguments = json.loads(self.arguments)
        return " ".join([self.bench.__name__, *(f"{k}={v}" for k, v in arguments.items())])


@dataclass(frozen=True)
class Subject:
    """A module as one of its test benches builds it.

    Attributes
    ----------
    name : str
    tests : tuple of str
        Test files; those of their runs count that are of this simulation.
    where : str
        The simulation, an expression in the first of them.
    mutants : int
        How many.
    selection : str
        Modules that are mutated, as yosys selects them. Those with a bench of their own are mutated
        there; of a module that occurs several times, one.
    scenarios : bool or None
        The golden scenarios of the core with (without) a memory port have to notice, too.
    contract : Contract
        Between the module and its users: mutants that differ where it says nothing are no loss.
    """

    name: str
    tests: tuple[str, ...]
    where: str
    mutants: int = 20
    selection: str = "*"
    scenarios: bool | None = None
    contract: Contract = Contract()

    def simulation(self) -> Simulation:
        return eval(self.where, vars(importlib.import_module(f"tb.{self.tests[0]}")))


_DOOR = "Cfu Cfu.core Cfu.core.engine Cfu.core.engine.datapath Cfu.core.engine.readout " \
        "Cfu.core.engine.panels_a Cfu.core.engine.runs Cfu.waiting"
_CORE = "Cfu.core.engine.memory Cfu.core.engine.memory.chain Cfu.core.engine.memory.store " \
        "Cfu.core.engine.memory.load_data Cfu.core.engine"

SUBJECTS = {subject.name: subject for subject in (
    Subject("pe", ("test_pe",), "PE"),
    Subject("array", ("test_array",), "ARRAYS[max(ARRAYS)]"),
    Subject("sequencer", ("test_sequencer",), "SEQUENCERS[max(SEQUENCERS)]"),
    Subject("scratchpad", ("test_scratchpad",), "BUFFERS[14, 2]"),
    Subject("accumulators", ("test_accumulators",), "list(BUFFERS.values())[0]"),
    Subject("epilogue", ("test_epilogue",), "EPILOGUE", selection="Epilogue Epilogue.requantiser"),
    Subject("hash", ("test_epilogue",), "HASH"),
    Subject("column_group", ("test_column_group",), "GROUPS[max(GROUPS)]", selection="ColumnGroup"),
    Subject("joiner", ("test_joiner",), "JOINERS[2]"),
    Subject("realigner", ("test_realigner",), "REALIGNERS[6, 5]"),
    Subject("gather", ("test_gather",), "GATHER"),
    Subject("queue", ("test_queue",), "QUEUES[4, True]"),
    Subject("splitter", ("test_load_addresses",), "SPLITTER",
            contract=Contract("!i__valid | i__payload[2:0] == 0")),     # addresses of words
    Subject("load_addresses", ("test_load_addresses",), "ADDRESSES", selection="LoadAddresses"),
    Subject("loop_nest", ("test_loop_nest",), 'NESTS["4x4"]', 32),
    Subject("memory_port", ("test_memory_port_unit",), "PORT"),
    Subject("axi_narrow", ("test_axi_narrow",), "NARROW", selection="NarrowBench.*"),
    Subject("npu", ("test_npu",), "MEMORY", 10, selection="NpuBench.npu"),
    Subject("door", ("cfu_bus", "test_core", "test_core_errors", "test_core_garbage",
                     "test_core_hazards", "test_core_reset"), 'CORES["4x4"]', 45, _DOOR, False),
    Subject("core", ("memory_port", "test_memory_port", "test_memory_errors"), 'CORES["4x4"]', 24,
            _CORE, True),
)}


class _Recorder:
    """A plug-in of pytest: what would be run, instead of running it."""

    def __init__(self):
        self.runs: list[tuple[Simulation, Run]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        run = Simulation.run
        Simulation.run = lambda simulation, bench, **arguments: self.runs.append(
            (simulation, Run(bench, json.dumps(arguments))))
        try:
            return (yield)
        finally:
            Simulation.run = run


@cache
def _recorded() -> list[tuple[Simulation, Run]]:
    """Of all subjects' tests."""
    recorder, folder = _Recorder(), os.path.dirname(os.path.dirname(__file__))
    names = dict.fromkeys(name for subject in SUBJECTS.values() for name in subject.tests)
    files = [os.path.join(folder, f"{name}.py") for name in names if name.startswith("test_")]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["-q", "-p", "no:cacheprovider", "--import-mode=importlib", *files],
                           plugins=[recorder])
    if code:
        raise RuntimeError(f"tests could not be listed: {said.getvalue()[-2000:]}")
    return recorder.runs


def runs(subject: Subject) -> list[Run]:
    """The runs of that subject's tests on that simulation, each once."""
    simulation, files = subject.simulation(), {f"tb.{name}" for name in subject.tests}
    return list(dict.fromkeys(run for other, run in _recorded()
                              if other is simulation and run.bench.__module__ in files))
