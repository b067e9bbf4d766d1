"""The generated Verilog: the same bytes wherever it is made, and the ports that a CPU expects."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Shape
from amaranth.lib.wiring import Out

from backbeat_rtl.config import PRESETS, Config
from backbeat_rtl.memory_port import AXI_PINS
from backbeat_rtl.verilog import cfu_verilog

#: CFU-Playground, docs/source/interface.rst.
CFU_PORTS = {
    ("input", 1, "cmd_valid"), ("output", 1, "cmd_ready"), ("input", 10, "cmd_payload_function_id"),
    ("input", 32, "cmd_payload_inputs_0"), ("input", 32, "cmd_payload_inputs_1"),
    ("output", 1, "rsp_valid"), ("input", 1, "rsp_ready"), ("output", 32, "rsp_payload_outputs_0"),
    ("input", 1, "reset"), ("input", 1, "clk"),
}
GENERATE = ("import sys; from backbeat_rtl.verilog import cfu_verilog; "
            "sys.stdout.write(cfu_verilog(sys.argv[1]))")


@pytest.mark.parametrize("config", PRESETS)
def test_verilog_is_the_same_wherever_it_is_made(config, tmp_path):
    here = cfu_verilog(config)
    there = subprocess.run(
        [sys.executable, "-c", GENERATE, config], cwd=tmp_path, check=True, capture_output=True,
        text=True, env=os.environ | {"PYTHONHASHSEED": "12345"}).stdout
    assert here == there
    assert str(Path(__file__).parents[1]) not in here and ".py" not in here and "src =" not in here


def ports(config: Config) -> list[tuple[str, int, str]]:
    top = re.search(r"^module Cfu\(.*?^endmodule", cfu_verilog(config), re.MULTILINE | re.DOTALL)[0]
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", top, re.MULTILINE)
    return sorted((way, int(msb or 0) + 1, name) for way, msb, name in found)


def test_cfu_has_exactly_the_ports_of_cfu_playground():
    assert ports(replace(Config.of("4x4"), memory=False)) == sorted(CFU_PORTS)


def test_memory_port_has_the_pins_of_an_axi4_master():
    axi = [("output" if pin.flow is Out else "input", Shape.cast(pin.shape).width, f"m_axi_{name}")
           for name, pin in AXI_PINS.items()]
    assert ports(Config.of("4x4")) == sorted([*CFU_PORTS, *axi])
