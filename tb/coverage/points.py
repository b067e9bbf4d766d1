"""Verilator's counters, and which of them are the same point.

A module occurs in many configurations and instances. Its points are told apart by what is written there,
not by where: by the module's class, the conditions on the way to the point and the statement, with
temporaries replaced by what they stand for, and without widths and the numbers of lanes. So a point
counts as reached if any lane of any instance in any build has reached it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CoverageError", "Place", "Points", "Source", "block_of", "counters", "numbers"]

#: Of Verilator's points, those that are an arm; the others are passed in every cycle.
ARMS, CHOICES = ("if", "else", "elsif", "case"), ("if", "else", "cond_then", "cond_else")

_POINT = re.compile(r"\x01(\w+)\x02([^\x01]*)")
_MODULE = re.compile(r"module \\?(\S+) ?\(")
_TEMPORARY = re.compile(r"\\\$(\d+) ")
_ASSIGN = re.compile(r"  assign \\\$(\d+)  = (.*);$")
_REGISTER = re.compile(r"    (\S+) +<= \\\$(\d+) ;$")
#: Queues and Amaranth's FIFOs, by their last name or the last two.
FIFOS = {"Queue", "inner", "waiting", "destinations", "infos", "words", "orders", "stores", "areas",
         "beats", "entries", "lengths", "answers", "ar", "aw", "b", "r", "w", "ar_ends", "aw_ends",
         "memory.runs", "store.addresses"}
#: In a statement that does nothing: yosys has it so that simulators look at a block at the beginning.
_WAKE = "verilog_backend.cc"
#: An instance's name, or a bench's top: the class of rtl/backbeat_rtl; None is no part of the design.
CLASSES = {
    "Cfu": "Cfu", "npu": "NPU", "core": "Core", "engine": "Engine", "datapath": "Datapath",
    "accumulators": "Accumulators", "array": "SystolicArray", "pe": "ProcessingElement",
    "load": "Loader", "load_a": "Loader", "load_b": "Loader", "pad": "Scratchpad",
    "pad_a": "Scratchpad", "pad_b": "Scratchpad", "sequencer": "Sequencer",
    "transposer": "Transposer", "memory": "MemoryEngine", "addresses": "LoadAddresses",
    "gather": "Gather", "splitter": "Splitter", "chain": "Chain", "load_data": "LoadData",
    "realigner": "Realigner", "nest": "LoopNest", "store": "StoreUnit", "panels_a": "PanelBook",
    "panels_b": "PanelBook", "readout": "Readout", "group": "ColumnGroup", "epilogue": "Epilogue",
    "requantiser": "Requantiser", "hash": "IndexHash", "joiner": "Joiner", "runs": "RunQueue",
    "port": "MemoryPort", "narrow": "AxiNarrow",
    "NpuBench": None, "NarrowBench": None, "Inside": None, "Buffer": None,
}


class CoverageError(Exception):
    """What has been left cannot be made figures of."""


def counters(file: Path) -> dict[str, int]:
    """What a simulator has left: a point's key, which names its fields, and how often it was hit."""
    text = file.read_text(encoding="latin-1")
    if not text.startswith("# SystemC::Coverage-3"):
        raise CoverageError(f"{file} is no coverage of Verilator's, it begins with {text[:24]!r}")
    found = {}
    for line in text.splitlines()[1:]:
        key, _, count = line.rpartition("' ")
        found[key[3:]] = found.get(key[3:], 0) + int(count)
    return found


def numbers(ranges: str) -> Iterator[int]:
    """Of "3-5,8": 3, 4, 5, 8."""
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


@dataclass
class Place:
    """Where a point is, for those who want to see it.

    Attributes
    ----------
    block : str
        Class of the module.
    text : str
        The line with its surroundings: the condition or case that it is under, and what is assigned.
    where : str
        Build and line of one of its occurrences.
    """

    block: str
    text: str
    where: str


def block_of(name: str) -> "str | None":
    """Class of a module of that hierarchical name."""
    last = re.sub(r"(_\d+)+$", "", name.split(".")[-1])
    if last in FIFOS or ".".join(name.split(".")[-2:]) in FIFOS:
        return "FIFO"
    if last in CLASSES:
        return CLASSES[last]
    if last in CLASSES.values():
        return last             # a bench of its own
    raise CoverageError(f"no class is known for the module {name}: see CLASSES in {__file__}")


class _Module:
    """A module's text, and the names of what its temporaries stand for."""

    def __init__(self, first: int, lines: list[str]):
        self.first, self.lines = first, lines
        self.name = _MODULE.match(lines[0])[1]
        self.block = block_of(self.name)
        self.assigned, self.registers = {}, {}
        for line in lines:
            if found := _ASSIGN.match(line):
                self.assigned[found[1]] = found[2]
            elif (found := _REGISTER.match(line)) and not _TEMPORARY.match(found[1] + " "):
                self.registers[found[2]] = found[1]

    def expand(self, text: str, depth: int = 3) -> str:
        """With registers' and expressions' names for temporaries."""
        def meaning(match):
            number = match[1]
            if number in self.registers:
                return f"{self.registers[number].lstrip(chr(92))}.next "
            if depth and number in self.assigned:
                inner = self.expand(self.assigned[number], depth - 1).strip()
                return inner + " " if re.fullmatch(r"\S+|[!~] ?\S+", inner) else f"({inner}) "
            return "… "

        return _TEMPORARY.sub(meaning, text)

    @staticmethod
    def plain(text: str) -> str:
        """Without what depends on the configuration, on the order of names or on the lane."""
        text = re.sub(r"(?<=\w)\$\d+|(_\d+)+\b", "", text)
        text = re.sub(r"\[\d+(:\d+)?\]", "[]", text)
        # Limits and what is assigned, too: sizes of a configuration, or what it says of itself.
        text = re.sub(r"([<>]=?) \d+'[hd]\w+", r"\1 '", text)
        way, equals, value = text.rpartition(" = ")
        text = way + equals + re.sub(r"\d+'[hd]\w+", "'", value)
        return re.sub(r"\d+'[hd]0*", "'", text)

    def shown(self, number: int) -> str:
        """A line, and the condition and case around it."""
        line = self.lines[number]
        depth, shown = len(line) - len(line.lstrip()), [line.strip()]
        if number + 1 < len(self.lines) and line.rstrip().endswith(("begin", ":")):
            shown.append(self.lines[number + 1].strip())
        while depth > 4 and number:
            number -= 1
            line = self.lines[number]
            before = len(line) - len(line.lstrip())
            if before < depth and line.strip() and "(*" not in line:
                depth = before
                shown.insert(0, line.strip())
            elif before == depth and line.strip().startswith("casez"):
                shown.insert(0, line.strip())
                depth = before
        return " ".join(self.expand(" ".join(shown)).replace("\\", "").split())


class Source:
    """The Verilog of a build."""

    def __init__(self, file: Path):
        self.build = file.parent.name
        lines = file.read_text().splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("module ")]
        self.modules = {}
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            module = _Module(start + 1, lines[start:end])
            self.modules[module.name] = module


@dataclass
class Points:
    """Hits of lines, branches and bits, each under what identifies it."""

    lines: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    bits: dict = field(default_factory=dict)
    places: dict = field(default_factory=dict)

    def add(self, source: Source, found: dict[str, int]):
        """The counters of a build."""
        choices = defaultdict(list)
        for key, count in found.items():
            point = dict(_POINT.findall(key))
            kind, _, name = point["page"].partition("/")
            module = source.modules.get(name)
            if module is None:
                raise CoverageError(f"{source.build} has no module {name}")
            if module.block is None:
                continue
            if kind == "v_toggle":
                self._bit(module, point["o"], count)
                continue
            line = int(point["l"]) - module.first
            if point["o"] in ARMS:
                for number in numbers(point.get("S", "")):
                    self._hit(self.lines, source, module, number - module.first, (), count)
            if point["o"] in CHOICES:
                choices[module.name, line].append((int(point["n"]), point["o"], count))
        for (name, line), several in choices.items():
            for order, (_, kind, count) in enumerate(sorted(several)):
                self._hit(self.branches, source, source.modules[name], line, (order, kind), count)

    def _hit(self, hits: dict, source, module: _Module, line: int, rest: tuple, count: int):
        if not module.lines[line].startswith("    ") or _WAKE in module.lines[line]:
            if not module.lines[line].startswith("  assign"):
                return
        shown = module.shown(line)
        place = (module.block, module.plain(shown))
        hits[(*place, *rest)] = hits.get((*place, *rest), 0) + count
        if place not in self.places:
            self.places[place] = Place(module.block, shown, f"{source.build}:{module.first + line}")

    def _bit(self, module: _Module, name: str, count: int):
        if not name.startswith("__0"):          # a temporary, `$` in the Verilog
            key = (module.block, module.name, name)
            self.bits[key] = self.bits.get(key, 0) + count
