"""The SoC as files for a board, and what becomes a bitstream of them.

Vivado and openXC7 are played by programs that note their arguments.
"""

import json
import re
import sys
from pathlib import Path

import pytest

from backbeat.errors import ToolError
from fpga import bitstream

try:
    from fpga import nexys_a7
except ToolError as error:
    pytest.skip(f"the SoC needs more: {error}", allow_module_level=True)

CONFIG = "4x4"


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """(Verilog files, folder) of the SoC for the board, without software."""
    folder = tmp_path_factory.mktemp("board")
    return nexys_a7.board(CONFIG, folder, clock=80e6, compile_software=False), folder


def test_board_has_what_the_host_and_the_core_need(board):
    sources, folder = board
    described = json.loads((folder / "csr.json").read_text())
    memories = described["memories"]
    assert memories["main_ram"]["base"] == 0x4000_0000
    assert memories["main_ram"]["size"] == 128 << 20
    assert memories["firmware"]["base"] == described["constants"]["rom_boot_address"]
    assert described["constants"]["config_clock_frequency"] == 80_000_000
    assert "config_l2_size" not in described["constants"]
    instance = re.search(r"\nCfu Cfu\((.*?)\);", sources[-1].read_text(), re.DOTALL)[1]
    connected = set(re.findall(r"\.(\w+)\s*\(", instance))
    ports = re.search(r"^module Cfu\(([^)]*)\);", sources[0].read_text(), re.MULTILINE)[1]
    assert connected == set(re.split(r"[,\s]+", ports))
    constraints = sources[-1].with_suffix(".xdc").read_text()
    for port in ("clk100", "eth_tx_en", "serial_tx", "ddram_dq[15]", "ddram_clk_p"):
        assert f"[get_ports {{{port}}}]" in constraints, port
    assert re.search(r"create_clock -name clk100 -period 10.0", constraints)


def fake(folder: Path, name: str, makes: str = "", code: int = 0):
    """A program that notes its arguments in calls.txt and writes a file in its place."""
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(f"#!{sys.executable}\nimport sys, os\n"
                      f"print({name!r}, *sys.argv[1:], file=open({str(folder / 'calls.txt')!r}, 'a'))\n"
                      f"for path in {makes.split()!r}:\n    open(path, 'w').write({name!r})\n"
                      f"print({name!r}, 'says so')\nsys.exit({code})\n")
    script.chmod(0o755)


def calls(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "calls.txt").read_text().splitlines()]


def test_vivado_runs_the_script(board, tmp_path, monkeypatch):
    sources, folder = board
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    top = sources[-1].stem
    fake(tmp_path / "bin", "vivado", f"{top}.bit {top}_utilization_place.rpt {top}_timing.rpt")
    assert bitstream.build(sources, folder) == folder / "backbeat.bit"
    assert calls(tmp_path / "bin") == [["vivado", "-mode", "batch", "-source", f"{top}.tcl"]]
    for name in ("backbeat.bit", "timing.rpt", "utilisation.rpt"):
        assert (folder / name).read_text() == "vivado"
    script = sources[-1].with_suffix(".tcl").read_text()
    for source in sources:
        assert source.exists() and f"read_verilog {{{source}}}" in script
    assert f"-part {bitstream.PART}\n" in script and f"read_xdc {top}.xdc" in script


def test_openxc7_goes_from_verilog_to_bits(board, tmp_path, monkeypatch):
    sources, folder = board
    programs, top = tmp_path / "bin", sources[-1].stem
    monkeypatch.setenv("PATH", str(programs))
    for name, makes in (("yosys", f"utilisation.rpt {top}.json"), ("nextpnr-xilinx", f"{top}.fasm"),
                        ("fasm2frames", ""), ("xc7frames2bit", f"{top}.bit")):
        fake(programs, name, makes)
    for variable, file in (("CHIPDB", f"{bitstream.PACKAGE}.bin"),
                           ("PRJXRAY_DB_DIR", f"artix7/{bitstream.PART}/part.yaml")):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable / file).parent.mkdir(parents=True)
        (tmp_path / variable / file).touch()
    rays = f"{tmp_path}/PRJXRAY_DB_DIR/artix7"
    bitstream.build(sources, folder)
    assert calls(programs) == [
        ["yosys", "-q", "-l", "yosys.log", "synth.ys"],
        ["nextpnr-xilinx", "--chipdb", f"{tmp_path}/CHIPDB/xc7a100tcsg324.bin", "--xdc", f"{top}.xdc",
         "--json", f"{top}.json", "--fasm", f"{top}.fasm"],
        ["fasm2frames", "--part", bitstream.PART, "--db-root", rays, f"{top}.fasm"],
        ["xc7frames2bit", "--part_file", f"{rays}/{bitstream.PART}/part.yaml", "--part_name",
         bitstream.PART, "--frm_file", f"{top}.frames", "--output_file", f"{top}.bit"]]
    work = folder / "openxc7"
    assert (folder / "backbeat.bit").read_text() == "xc7frames2bit"
    assert (work / f"{top}.frames").read_text() == "fasm2frames says so\n"
    for name in re.search(r"read_verilog (.*)", (work / "synth.ys").read_text())[1].split():
        assert (work / name).exists(), name
    constraints = (work / f"{top}.xdc").read_text()
    assert "set_property LOC E3 [get_ports {clk100}]" in constraints
    assert not re.search("get_nets|get_cells|get_clocks", constraints)


def test_missing_tools_are_named(board, tmp_path, monkeypatch):
    sources, folder = board
    fake(tmp_path, "fasm2frames")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHIPDB", "/nowhere")
    with pytest.raises(ToolError) as error:
        bitstream.build(sources, folder)
    assert "vivado lacks: vivado." in str(error.value)
    assert ("openxc7 lacks: yosys, nextpnr-xilinx, xc7frames2bit, /nowhere/xc7a100tcsg324.bin (CHIPDB), "
            in str(error.value))


def test_failing_tool_is_quoted(board, tmp_path, monkeypatch):
    sources, folder = board
    monkeypatch.setenv("PATH", str(tmp_path))
    fake(tmp_path, "vivado", code=3)
    with pytest.raises(ToolError, match="vivado failed with exit code 3:\nvivado says so"):
        bitstream.build(sources, folder)
    fake(tmp_path, "vivado")
    with pytest.raises(ToolError, match="has not written .*_utilization_place.rpt"):
        bitstream.build(sources, folder, "vivado")


def test_load_wants_a_bitstream_and_a_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ToolError, match="there is no .*backbeat.bit: make it with"):
        bitstream.load(tmp_path)
    (tmp_path / "backbeat.bit").touch()
    with pytest.raises(ToolError, match="openFPGALoader is not on PATH"):
        bitstream.load(tmp_path)
    fake(tmp_path / "bin", "openFPGALoader")
    bitstream.load(tmp_path)
    assert calls(tmp_path / "bin") == [
        ["openFPGALoader", "-b", "nexys_a7_100", f"{tmp_path}/backbeat.bit"]]
    fake(tmp_path / "bin", "openFPGALoader", code=1)
    with pytest.raises(ToolError, match="failed with exit code 1: is the board connected"):
        bitstream.load(tmp_path)
