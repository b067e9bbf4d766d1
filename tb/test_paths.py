"""Longest paths of small netlists made by hand, as yosys writes them."""

import pytest

from fpga.paths import COMBINATIONAL_DSP, UNREGISTERED, LogicPath, fan_outs, longest_paths

OUTPUTS = {"O", "Q", "CO", "P", "DO", "DOADO", "DOA", "DOB"}


def netlist(cells, names, inputs=(), outputs=()):
    """``cells``: {name: (type, {pin: bits}, parameters)}; ``names``: {bit: name}."""
    ports = {n: {"direction": d, "bits": list(bits)}
             for d, side in (("input", inputs), ("output", outputs)) for n, bits in dict(side).items()}
    return {"modules": {"top": {
        "attributes": {"top": "1"}, "ports": ports,
        "cells": {name: {
            "type": kind, "parameters": parameters, "connections": pins,
            "port_directions": {p: "output" if p in OUTPUTS else "input" for p in pins},
        } for name, (kind, pins, parameters) in cells.items()},
        "netnames": {name: {"bits": [bit], "hide_name": 0} for bit, name in names.items()},
    }}}


def register(d, q):
    return "FDRE", {"C": [1000], "D": [d], "Q": [q]}, {}


def lut(o, **inputs):
    return f"LUT{len(inputs)}", {**{pin: [bit] for pin, bit in inputs.items()}, "O": [o]}, {}


def carry(ci, s, o, co):
    return "CARRY4", {"CI": [ci], "S": s, "O": o, "CO": co}, {}


def test_counts_luts_between_registers_and_names_both_ends():
    """The deeper of two ways to `out`; F7 lies in the slice of its LUTs."""
    found = longest_paths(netlist({
        "a": register(20, 2), "b": register(21, 3), "out": register(14, 4),
        "1": lut(10, I0=2), "2": lut(11, I0=10, I1=3), "3": lut(12, I0=3),
        "f7": ("MUXF7", {"I0": [11], "I1": [12], "S": [3], "O": [13]}, {}),
        "4": lut(14, I0=13, I1=3),
    }, {2: "deep", 3: "shallow", 4: "out"}, inputs={"i": [20, 21]}))
    assert found[0] == LogicPath(levels=3, carries=0, luts=3, chains=0, start="deep", end="out")
    assert str(found[0]) == "3 levels: deep → out (3 LUT)"


def test_a_carry_chain_is_one_level_however_long():
    """Through the lowest bit's select, the chain's three CARRY4 and the LUT behind."""
    found = longest_paths(netlist({
        "a": register(2, 2), "out": register(41, 4), "1": lut(10, I0=2),
        "c1": carry("0", [10, "0", "0", "0"], [11, 12, 13, 14], [15, 16, 17, 18]),
        "c2": carry(18, ["0"] * 4, [21, 22, 23, 24], [25, 26, 27, 28]),
        "c3": carry(28, ["0"] * 4, [31, 32, 33, 34], [35, 36, 37, 38]),
        "2": lut(41, I0=34),
    }, {2: "a", 4: "out"}))
    assert found[0] == LogicPath(levels=3, carries=3, luts=2, chains=1, start="a", end="out")


def test_a_chain_behind_a_chain_is_two():
    found = longest_paths(netlist({
        "a": register(2, 2), "out": register(22, 4),
        "c1": carry("0", [2, "0", "0", "0"], [11, 12, 13, 14], [15, 16, 17, 18]),
        "c2": carry("0", ["0", 13, "0", "0"], [21, 22, 23, 24], [25, 26, 27, 28]),
    }, {2: "a", 4: "out"}))
    assert found[0] == LogicPath(levels=2, carries=2, luts=0, chains=2, start="a", end="out")


def test_a_carry_moves_up_only():
    """Bit 2 of the sum cannot see bit 3's select."""
    found = longest_paths(netlist({
        "a": register(2, 2), "b": register(3, 3), "out": register(13, 4), "1": lut(10, I0=2),
        "c1": carry("0", ["0", "0", 3, 10], [11, 12, 13, 14], [15, 16, 17, 18]),
    }, {2: "high", 3: "low", 4: "out"}))
    assert found[0] == LogicPath(levels=1, carries=1, luts=0, chains=1, start="low", end="out")


@pytest.mark.parametrize(("kind", "pins", "parameters", "levels"), [
    ("RAMB36E1", {"ADDRARDADDR": [3], "DOADO": [10]}, {"DOA_REG": "0"}, UNREGISTERED),
    ("RAMB36E1", {"ADDRARDADDR": [3], "DOADO": [10]}, {"DOA_REG": "1"}, 0),
    ("DSP48E1", {"A": [3], "P": [10]}, {"MREG": "1", "PREG": "0"}, UNREGISTERED),
    ("DSP48E1", {"A": [3], "P": [10]}, {"PREG": "1"}, 0),
    ("DSP48E1", {"A": [3], "P": [10]}, {}, COMBINATIONAL_DSP)])
def test_blocks_count_by_their_output_register(kind, pins, parameters, levels):
    found = longest_paths(netlist({
        "in": register(3, 3), "block": (kind, pins, parameters), "out": register(10, 4),
    }, {3: "in", 10: "product", 4: "out"}))
    assert {p.end: p.levels for p in found}["out"] == levels


def test_a_lut_memory_is_read_as_a_lut_and_written_as_a_register():
    memory = "RAM32M", {"ADDRA": [10, 3], "ADDRB": [3, 3], "ADDRD": [12], "WE": [3],
                        "DOA": [20], "DOB": [21]}, {}
    found = {p.end: p for p in longest_paths(netlist({
        "in": register(3, 3), "1": lut(10, I0=3), "2": lut(11, I0=10), "3": lut(12, I0=11),
        "memory": memory, "read": register(20, 4), "other": register(21, 5),
    }, {3: "in", 4: "read", 5: "other", 20: "memory"}))}
    assert {end: found[end].levels for end in ("read", "other", "memory")} == {
        "read": 2, "other": 1, "memory": 3}


def test_lanes_are_one_and_the_deepest_of_them_counts():
    cells = {"in": register(3, 3), "1": lut(10, I0=3), "2": lut(11, I0=10)}
    cells |= {f"r{n}": register(bit, 20 + n) for n, bit in enumerate((3, 11, 10))}
    found = longest_paths(netlist(cells, {3: "in", **{20 + n: f"lane_{n}" for n in range(3)}}))
    assert [(p.levels, p.end) for p in found] == [(2, "lane_1"), (0, "in")]


def test_wide_nets_come_with_their_number_of_pins():
    cells = {"in": register(3, 3)} | {f"r{n}": register(3, 20 + n) for n in range(9)}
    cells["other"] = register(20, 30)
    assert fan_outs(netlist(cells, {3: "enable"}), count=1) == [(10, "enable")]


def test_names_a_netlist_that_is_not_flat():
    with pytest.raises(ValueError, match="one top module, got 0"):
        longest_paths({"modules": {"a": {"attributes": {}}, "b": {"attributes": {}}}})
