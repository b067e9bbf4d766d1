"""The command line, as a user types it."""

import json

import pytest


def test_gemm_prints_the_agreed_fields(run):
    code, out, _ = run("gemm", 24, 40, 33, "--op", "tn", "--config", "4x4",
                       "--json", "-")
    figures = json.loads(out)
    assert code == 0 and list(figures) == [
        "m", "n", "k", "op", "config", "backend", "exact", "cycles", "macs", "utilisation", "roofline",
        "bytes_read", "bytes_written", "wall_s", "busy", "fed", "load_busy", "load_wait", "run_wait",
        "store_busy", "store_wait", "max_abs", "commands", "descriptors"]
    assert figures["exact"] is True and figures["macs"] == 24 * 40 * 33
    assert figures["bytes_written"] == 24 * 40 * 4
    assert figures["utilisation"] == pytest.approx(figures["macs"] / figures["cycles"] / 16, abs=1e-4)
    least = 24 * 33 + 33 * 40 + 24 * 40 * 4
    assert figures["roofline"] == pytest.approx(min(1, figures["macs"] / 16 / (least / 7.6)), abs=1e-4)


def test_gemm_on_the_model_has_no_clock(run):
    code, out, _ = run("gemm", 8, 8, 8, "--backend", "model", "--int8")
    assert code == 0 and "exact          True" in out and "utilisation    None" in out


@pytest.mark.parametrize(("arguments", "message"), [
    (("gemm", 2, 2, 2, "--op", "ab"), "op must be one of nn, nt, tn, tt, got 'ab'"),
    (("gemm", 2, 2, 2, "--config", "5x5"), "config must be one of 4x4, 8x8, 16x16, 32x14, got '5x5'"),
    (("gemm", 2, 2, 2, "--backend", "fpga"),
     "backend must be one of model, verilator or litex:ADDRESS, got 'fpga'"),
    (("verilog", "--config", "x"), "config must be one of"),
])
def test_bad_argument_is_one_line(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 1 and not out
    assert err.startswith("backbeat: ") and message in err and err.count("\n") == 1


def test_verilog_writes_the_file(run, tmp_path):
    code, out, _ = run("verilog", "--config", "4x4", "--out", tmp_path / "a/cfu.v")
    text = (tmp_path / "a/cfu.v").read_text()
    assert code == 0 and "module Cfu(" in text and f"{len(text.splitlines()):,} lines" in out
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["cfu.v"]


def test_doctor_reports_every_part(run):
    code, out, _ = run("doctor", "--config", "4x4", "--json", "-")
    report = json.loads(out)
    assert code == 0 and all(entry["ok"] for entry in report.values())
    assert set(report) == {"python", "C++ compiler", "make", "verilator", "packages", "backend model",
                           "backend verilator"}


def test_doctor_fails_when_a_tool_is_missing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("BACKBEAT_CACHE", str(tmp_path))
    code, out, _ = run("doctor", "--config", "4x4")
    assert code == 1 and "FAIL C++ compiler: no C++ compiler: 'no-such-compiler'" in out
    assert "ok   backend model" in out and "FAIL backend verilator" in out
