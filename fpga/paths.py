"""The longest paths between registers of a mapped netlist, in levels of logic, and its widest nets.

No delays: those are known when a design has been placed. Levels are what the source can be held to.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from graphlib import TopologicalSorter

__all__ = ["LogicPath", "fan_outs", "longest_paths"]

_FLIP_FLOPS = ("FDRE", "FDSE", "FDCE", "FDPE")
#: What a LUT memory takes with the clock.
_WRITTEN = ("DIA", "DIB", "DIC", "DID", "D", "WE", "ADDRD", *(f"A{n}" for n in range(6)))
_CLOCKS = ("C", "CLK", "WCLK", "CLKARDCLK", "CLKBWRCLK")
#: Levels behind the clock of a memory block or a DSP whose output register is not used: what it then
#: takes is as long as so many levels.
UNREGISTERED = 3
#: Levels of a DSP without any register.
COMBINATIONAL_DSP = 5


@dataclass(frozen=True, order=True)
class LogicPath:
    """``levels`` in all; of them, LUTs and carry chains (with their ``carries`` CARRY4).

    A read of a LUT memory is a LUT. What else there is of ``levels`` is `UNREGISTERED` (or
    `COMBINATIONAL_DSP`). Multiplexers F7 and F8 lie in a slice with their LUTs and count nothing.
    """

    levels: int
    carries: int
    luts: int
    chains: int
    start: str
    end: str

    def __str__(self):
        parts = [f"{number} {what}" for number, what in (
            (self.luts, "LUT"), (self.chains, f"carry chain ({4 * self.carries} bits)"),
            (self.levels - self.luts - self.chains, "of block")) if number]
        return f"{self.levels} levels: {self.start} → {self.end} ({', '.join(parts) or 'direct'})"


def _flag(cell: dict, name: str) -> bool:
    value = cell.get("parameters", {}).get(name, 0)
    return bool(int(value, 2) if isinstance(value, str) and value.strip("01xz") == "" else value)


def _is_block(kind: str) -> bool:
    return kind.startswith(("RAMB", "DSP48"))


class _Netlist:
    """Cells by number, who drives a bit, and what a bit is called."""

    def __init__(self, netlist: dict):
        tops = [module for module in netlist["modules"].values()
                if int(module.get("attributes", {}).get("top", "0"), 2)]
        if len(tops) != 1:
            raise ValueError(f"the netlist must have one top module, got {len(tops)}; flatten it")
        module = tops[0]
        self.cells = module["cells"]
        self.driver, self.names = {}, {}
        for name, port in module["ports"].items():
            if port["direction"] == "input":
                self.driver |= {bit: (None, name) for bit in port["bits"]}
        for name, cell in self.cells.items():
            for pin, bits in cell["connections"].items():
                if cell["port_directions"][pin] == "output":
                    self.driver |= {bit: (name, pin) for bit in bits}
        for name, net in module["netnames"].items():
            if not net.get("hide_name"):
                for bit in net["bits"]:
                    self.names[bit] = min(self.names.get(bit, name), name, key=len)
        self.outputs = {name: port["bits"] for name, port in module["ports"].items()
                        if port["direction"] == "output"}

    def inputs(self, name: str):
        """Pin and bit of all that a cell reads, without constants."""
        cell = self.cells[name]
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                for number, bit in enumerate(bits):
                    if isinstance(bit, int):
                        yield pin, number, bit

    def called(self, bit: int) -> str:
        """The name of a net, without the number of the bit."""
        if bit in self.names:
            return self.names[bit]
        return self.place(self.driver[bit][0]) if bit in self.driver else "?"

    def place(self, name: str | None) -> str:
        """What a register or block is called: as the net that it drives."""
        if name is None:
            return "?"
        cell = self.cells[name]
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "output":
                for bit in bits:
                    if bit in self.names:
                        kind = f" ({cell['type']})" if _is_block(cell["type"]) else ""
                        return self.names[bit] + kind
        return cell["type"]


def _through(kind: str, pin_in: str, number_in: int, pin_out: str, number_out: int) -> bool:
    """Whether there is a combinational way through a cell."""
    if kind == "CARRY4":
        return pin_in in ("CI", "CYINIT") or number_in <= number_out
    if kind in ("RAM32M", "RAM64M"):
        return pin_in == "ADDR" + pin_out[-1]
    if kind in ("RAM32X1D", "RAM64X1D"):
        return pin_in.startswith("DPRA" if pin_out == "DPO" else "A")
    if kind.startswith("DSP48"):
        return True
    return pin_in != "WCLK"


def _registered(cell: dict) -> bool:
    """Nothing passes from its inputs to its outputs within a cycle."""
    kind = cell["type"]
    if kind in _FLIP_FLOPS or kind.startswith("RAMB"):
        return True
    return kind.startswith("DSP48") and any(_flag(cell, r) for r in ("PREG", "MREG", "AREG", "BREG"))


def _behind_clock(cell: dict, pin: str) -> int:
    kind = cell["type"]
    if kind.startswith("RAMB"):
        return 0 if _flag(cell, "DOA_REG" if pin.startswith("DOA") else "DOB_REG") else UNREGISTERED
    if kind.startswith("DSP48"):
        return 0 if _flag(cell, "PREG") else UNREGISTERED
    return 0


def longest_paths(netlist: dict, count: int = 8) -> list[LogicPath]:
    """The deepest path into each register, the ``count`` deepest of them with different names.

    Registers are called as the nets that they drive; those that differ in numbers only (lanes, columns,
    pairs) are one.

    Parameters
    ----------
    netlist : dict
        As yosys writes it (``write_json``), flattened and mapped to xc7.

    Raises
    ------
    ValueError
        It is not flattened, or has a combinational loop.
    """
    nets = _Netlist(netlist)
    inner = {name for name, cell in nets.cells.items() if not _registered(cell)}
    order = TopologicalSorter()
    for name in inner:
        order.add(name, *{nets.driver[bit][0] for _, _, bit in nets.inputs(name)
                          if bit in nets.driver and nets.driver[bit][0] in inner})
    # Of a bit: levels, carries, LUTs, chains, and the bit that it all starts from.
    arrival: dict[int, tuple] = {}

    def arrived(bit):
        if bit not in arrival:
            name, pin = nets.driver.get(bit, (None, None))
            levels = _behind_clock(nets.cells[name], pin) if name is not None else 0
            arrival[bit] = levels, 0, 0, 0, bit
        return arrival[bit]

    for name in order.static_order():
        cell, kind = nets.cells[name], nets.cells[name]["type"]
        entering = [(pin, number, bit, arrived(bit)) for pin, number, bit in nets.inputs(name)]
        for pin_out, bits in cell["connections"].items():
            if cell["port_directions"][pin_out] != "output":
                continue
            for number_out, bit_out in enumerate(bits):
                best = (0, 0, 0, 0, bit_out)
                for pin, number, bit, (levels, carries, luts, chains, start) in entering:
                    if not _through(kind, pin, number, pin_out, number_out):
                        continue
                    if kind == "CARRY4":
                        on = pin == "CI" and nets.cells.get(nets.driver[bit][0], {}).get("type") == kind
                        reached = levels + (not on), carries + 1, luts, chains + (not on), start
                    elif kind.startswith("DSP48"):
                        reached = levels + COMBINATIONAL_DSP, carries, luts, chains, start
                    else:
                        lut = int(kind.startswith(("LUT", "RAM", "INV")))
                        reached = levels + lut, carries, luts + lut, chains, start
                    best = max(best, reached)
                arrival[bit_out] = best

    deepest = {}
    ends = [(nets.place(name), bit) for name in nets.cells if name not in inner
            for pin, _, bit in nets.inputs(name) if pin not in _CLOCKS]
    ends += [(nets.place(name), bit) for name in inner if nets.cells[name]["type"].startswith("RAM")
             for pin, _, bit in nets.inputs(name) if pin in _WRITTEN]
    ends += [(name, bit) for name, bits in nets.outputs.items() for bit in bits if isinstance(bit, int)]
    for end, bit in ends:
        levels, carries, luts, chains, start = arrived(bit)
        path = LogicPath(levels, carries, luts, chains, nets.called(start), end)
        key = re.sub(r"\d+", "#", end)
        if key not in deepest or path > deepest[key]:
            deepest[key] = path
    return sorted(deepest.values(), reverse=True)[:count]


def fan_outs(netlist: dict, count: int = 8) -> list[tuple[int, str]]:
    """The nets that go to the most pins, the clock aside: how many, and which."""
    nets = _Netlist(netlist)
    pins = defaultdict(int)
    for name in nets.cells:
        for pin, _, bit in nets.inputs(name):
            if pin not in _CLOCKS:
                pins[bit] += 1
    most = sorted(pins.items(), key=lambda item: -item[1])[:count]
    return [(number, nets.called(bit)) for bit, number in most]
