"""The synthesised processing element: one DSP48E1, and in every cycle what its Verilog says."""

import re

import pytest

from fpga.pe_netlist import MAX_K, REGISTERS, Pair, cell_counts, dsp_parameters, netlist, number, rtl

from .harness import seed

#: Faults in the netlist or the Verilog: what to replace, by what. Each changes exactly one place.
FAULTS = {
    "no product register": ("netlist", r"\.MREG\(1'h1\)", ".MREG(1'h0)"),
    "never adds P": ("netlist", r"(\.OPMODE\(\{ 2'h1), \w+,", r"\1, 1'h1,"),
    "sign of the low operand": ("netlist", r"(\.A\(\{ (?:o_a\[15\], )+o_a\[15:)7\], o_a\[7\]",
                                r"\g<1>7], 1'h0"),
    "a bit of the Verilog's count": ("rtl", r"(o_count <=) ", r"\1 7'h40 ^ "),
}


@pytest.fixture(scope="module", params=MAX_K)
def pair(request) -> Pair:
    verilog = rtl(request.param)
    return Pair(request.param, verilog, netlist(verilog))


def test_netlist_is_one_dsp_with_its_registers(pair):
    parameters = dsp_parameters(pair.netlist)
    assert {name: number(parameters[name]) for name in REGISTERS} == REGISTERS
    counts = cell_counts(pair.netlist)
    # What is beside it: both operands on their way, the first bit's way, the counter.
    assert counts["DSP48E1"] == 1 and counts["FDRE"] < 60, counts
    assert sum(n for name, n in counts.items() if name.startswith("LUT")) < 30, counts


def test_every_operand_triple_gives_the_same(pair):
    if pair.max_k != MAX_K[0]:
        pytest.skip("the same multiplier")
    figures = pair.triples()
    assert figures["triples"] == 2**24 and figures["cycles"] > 2**24, figures


def test_long_sums_are_the_same_and_exact(pair):
    figures = pair.accumulations(1_000_000, seed())
    assert figures["longest"] == pair.max_k and figures["accumulations"] > 100, figures
    assert figures["cycles"] > 1_000_000, figures


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault):
    where, pattern, replacement = FAULTS[fault]
    verilog = rtl(MAX_K[0])
    texts = {"rtl": verilog, "netlist": netlist(verilog)}
    texts[where], changes = re.subn(pattern, replacement, texts[where])
    assert changes == 1, f"{pattern} matches {changes} places of the {where}"
    with pytest.raises(AssertionError, match="cycle"):
        Pair(MAX_K[0], **texts).accumulations(1000, seed())
