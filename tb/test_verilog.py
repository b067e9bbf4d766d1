"""The generated Verilog: the same bytes wherever it is made, and the ports that a CPU expects."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backbeat_rtl.config import PRESETS
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


def test_cfu_has_exactly_the_ports_of_cfu_playground():
    top = re.search(r"^module Cfu\(.*?^endmodule", cfu_verilog("4x4"), re.MULTILINE | re.DOTALL)[0]
    ports = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", top, re.MULTILINE)
    assert {(way, int(msb or 0) + 1, name) for way, msb, name in ports} == CFU_PORTS
    assert len(ports) == len(CFU_PORTS)
