"""Workloads: their products are those of the layers, and no bound is above what must be done."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, linear

import backbeat
from backbeat import scalesim
from backbeat.bench import (
    SINGLE,
    TARGET_CHAIN,
    TARGET_SINGLE,
    Run,
    chains,
    measure,
    runs,
    small_products,
)
from backbeat.errors import ToolError
from backbeat.trial import Trial
from backbeat.workloads import WORKLOADS, Attention, Convolution, Geometry, Linear, Product
from backbeat_rtl.config import Config

ARRAY = Config.of("16x16")

GEOMETRIES = [
    Geometry(2, 9, 7, 8, 16, 3, 3, stride=1, padding=1),
    Geometry(1, 8, 8, 8, 8, 3, 3, stride=2, padding=1),
    Geometry(2, 7, 10, 16, 8, 1, 1, stride=2),
    Geometry(1, 11, 9, 8, 8, 2, 3, stride=3, padding=2),
    Geometry(1, 9, 9, 5, 3, 3, 3, stride=1, padding=2, dilation=2),
    Geometry(1, 1, 12, 8, 8, 1, 3, stride=(1, 2), padding=(0, 1), dilation=(1, 3)),
    Geometry(2, 9, 6, 5, 8, 3, 2, stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
]


def as_text(geometry):
    return "-".join(str(value) for value in vars(geometry).values())


@pytest.mark.parametrize("g", GEOMETRIES, ids=as_text)
def test_convolution_is_the_one_of_pytorch(g):
    x = torch.ones(g.batch, g.channels, g.height, g.width, requires_grad=True)
    w = torch.ones(g.filters, g.channels, g.taps_y, g.taps_x)
    y = conv2d(x, w, stride=g.stride, padding=g.padding, dilation=g.dilation)
    y.sum().backward()
    assert y.permute(0, 2, 3, 1).shape == g.y and w.permute(0, 2, 3, 1).shape == g.w
    assert g.used_pixels == int((x.grad[:, 0] > 0).sum())
    forward, to_x, to_w = Convolution("c", g).products()
    assert (forward.m, forward.n) == (y[:, 0].numel(), g.filters) and forward.k == w[0].numel()
    assert (to_x.m, to_x.n) == (x[:, 0].numel(), g.channels) and to_x.k == w[:, 0].numel()
    assert (to_w.m, to_w.n) == (g.filters, w[0].numel()) and to_w.k == y[:, 0].numel()


@pytest.mark.parametrize("change", [{"batch": 0}, {"stride": 0}, {"padding": -1}, {"taps_x": 12},
                                    {"stride": (1, 0)}, {"padding": (-1, 0)}])
def test_impossible_convolution_is_refused(change):
    (name, value), = change.items()
    with pytest.raises(ValueError, match=f"{name}.*{re.escape(str(value))}"):
        replace(GEOMETRIES[0], **change)


def test_linear_has_the_orientations_of_training():
    """Against autograd: each product as (op, M, N, K) of the tensors as they lie."""
    x, w = (torch.randn(shape, requires_grad=True) for shape in ((5, 7), (3, 7)))
    y = linear(x, w)
    dy = torch.randn_like(y)
    y.backward(dy)
    operands = {"forward": (x, w, y), "input gradient": (dy, w, x.grad),
                "weight gradient": (dy, x, w.grad)}
    for p in Linear("l", 5, 7, 3).products():
        a, b, c = (t.detach() for t in operands[p.kind])
        a, b = a.T if p.op[0] == "t" else a, b.T if p.op[1] == "t" else b
        assert (*a.shape, b.shape[1]) == (p.m, p.k, p.n)
        torch.testing.assert_close(a @ b, c)
    assert [p.kind for p in Linear("l", 5, 7, 3, input_gradient=False).products()] == [
        "forward", "weight gradient"]


def test_attention_has_two_products_and_four_gradients_a_head():
    products = Attention("a", 2, 32, 8).products()
    assert [p.count for p in products] == 6 * [2] and {p.macs for p in products} == {32 * 32 * 8}
    assert sorted(p.op for p in products) == ["nn", "nn", "nt", "nt", "tn", "tn"]


@pytest.mark.parametrize(("name", "count", "macs"), [
    ("mlp", 8, 2 * 128 * 784 * 512 + 3 * 128 * 512 * (512 + 10)),
    # Per image 12 times the 3x3 of a stage at stride 1; strided ones half as many, their input
    # gradients four times that; the 1x1 a ninth of them.
    ("resnet18", 30, 4 * 56 * 56 * 64 * 576 * (4 * 3 + 3 * (1 + 1 / 9) * (0.5 + 2 + 0.5))),
    ("transformer", 3 * 6 + 4 * 6, 3 * 256 * 256 * (4 * 256 + 2 * 1024) + 4 * 6 * 256 * 256 * 64),
])
def test_workload_has_all_its_products(name, count, macs):
    products = WORKLOADS[name].products()
    assert all(p.count == 1 for p in products)
    assert len(products) == count and sum(p.macs for p in products) == pytest.approx(macs, rel=1e-12)
    assert len({(p.name, p.kind) for p in products}) == count


def test_bound_is_the_larger_of_array_and_memory():
    p = Product("p", "forward", "nt", 17, 32, 100)
    assert p.compute_bound(ARRAY) == 2 * 2 * 100
    least = 17 * 100 + 32 * 100 + 17 * 32
    assert p.compulsory_bytes(1) == least and p.memory_bound(7.6, 1) == -(-least // 7.6) == 717
    assert p.bound(ARRAY, 7.6, 1) == 717 and p.bound(ARRAY, 1000.0, 1) == 400


def test_strided_input_gradient_counts_the_zeros_as_macs_and_not_as_bytes():
    g = Geometry(1, 8, 8, 8, 8, 3, 3, stride=2, padding=1)
    forward, to_x, _ = Convolution("c", g).products()
    assert to_x.macs == 4 * forward.macs
    assert to_x.compulsory_bytes(4) == 4 * 4 * 8 + 8 * 9 * 8 + 4 * 8 * 8 * 8


def test_pixels_that_a_stride_skips_need_not_be_read():
    forward, _, to_w = Convolution("c", Geometry(2, 8, 8, 8, 16, 1, 1, stride=2)).products()
    assert forward.compulsory_bytes(1) == 2 * 16 * 8 + 16 * 8 + 2 * 16 * 16
    assert to_w.compulsory_bytes(4) == 2 * 16 * 16 + 2 * 16 * 8 + 4 * 16 * 8


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_product_is_measured_once_each_way(name):
    products = WORKLOADS[name].products()
    todo = runs(products, ARRAY)
    for int8 in (True, False):
        measured = [p for run in todo if run.int8 == int8 for p in run.products]
        assert sorted(measured, key=str) == sorted(products, key=str)
        small = [run.products for run in todo if run.int8 == int8 and run.target is None]
        assert small in ([], [small_products(products, int8, ARRAY)])
    for run in todo:
        small = [bound < SINGLE for bound, _ in run.bounds(ARRAY)]
        assert all(small) if run.target is None else small == [False]
        assert run.target in (TARGET_SINGLE, None)


@pytest.mark.parametrize("product", [
    *Linear("l", 9, 40, 21).products(),
    *(p for g in GEOMETRIES for p in Convolution(as_text(g), g).products())],
    ids=lambda p: f"{p.name}-{p.kind}")
@pytest.mark.parametrize("int8", [False, True])
def test_trial_expects_what_the_driver_returns(product, int8):
    trial = Trial(product, int8, np.random.default_rng(1))
    with backbeat.open("model", "4x4") as acc:
        result, = acc.run([trial.job()])
    expected = trial.expected()
    assert result.dtype == expected.dtype == (np.int8 if int8 else np.int32)
    np.testing.assert_array_equal(result, expected)
    if int8:  # A scale that saturates everything would hide a wrong product.
        assert (np.abs(expected.astype(int)) < 127).mean() > 0.9 and expected.std() > 10


def test_measured_chain_has_the_figures_of_all_its_products():
    products = Linear("l", 9, 40, 21).products()
    with backbeat.open("model", "8x8") as acc:
        row = measure(acc, Run("chain", products, True, TARGET_CHAIN), seed=0)
    assert row["exact"] and row["macs"] == 3 * 9 * 40 * 21
    assert [member["kind"] for member in row["members"]] == [p.kind for p in products]
    assert row["bound"] == sum(member["bound"] for member in row["members"])
    assert row["cycles"] is row["of_bound"] is row["met"] is None and row["target"] == TARGET_CHAIN


def test_small_products_of_all_workloads_are_one_chain():
    for row in chains("model", "16x16", seed=0):
        assert row["exact"] and row["target"] == TARGET_CHAIN
        assert all(member["bound"] < SINGLE for member in row["members"])
        names = {(member["product"], member["kind"]) for member in row["members"]}
        assert len(names) == len(row["members"]) and ("512-10", "forward") in names
        assert ("attention head 3 dK = dS^T Q", "input gradient") in names
        moved = row["bytes_read"] + row["bytes_written"]
        assert row["compulsory_bytes"] <= row["fewest_bytes"] <= moved <= 1.25 * row["fewest_bytes"]


#: Stands for an environment with SCALE-Sim: reports what the environment variable says.
FAKE = f"""\
#!{sys.executable}
import os, sys
from pathlib import Path
config, topology, layout, out = map(Path, sys.argv[3:])
assert "ArrayHeight = 16" in config.read_text() and topology.read_text().startswith("Layer,M,N,K,")
report = out / out.name / "COMPUTE_REPORT.csv"
report.parent.mkdir(exist_ok=True)
report.write_text("LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles,\\n0, 435, "
                  + os.environ["FAKE_REPORT"] + ",\\n")
"""


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "python"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def test_scalesim_counts_cycles_from_nought(monkeypatch, tmp_path, fake):
    monkeypatch.setenv("FAKE_REPORT", "243, 0")
    product = Product("p", "forward", "nt", 31, 32, 31)
    assert scalesim.compute_cycles(product, ARRAY, fake, tmp_path, 1000) == scalesim.Estimate(244, True)
    assert scalesim.compute_cycles(product, ARRAY, Path("none"), tmp_path, 200) == (
        scalesim.Estimate(244, False))


@pytest.mark.parametrize(("report", "message"), [
    ("250, 0", "took 251 cycles and 0 stalls for 16x16-31x32x31, its schedule 244"),
    ("243, 7", "and 7 stalls")])
def test_scalesim_that_stalls_or_differs_is_an_error(monkeypatch, tmp_path, fake, report, message):
    monkeypatch.setenv("FAKE_REPORT", report)
    with pytest.raises(ToolError, match=message):
        scalesim.compute_cycles(Product("p", "forward", "nt", 31, 32, 31), ARRAY, fake, tmp_path, 1000)


def test_scalesim_that_fails_says_why(tmp_path):
    with pytest.raises(ToolError, match=r"failed on 16x16-1x1x1:\n(?s:.*)No module named"):
        scalesim.compute_cycles(Product("p", "forward", "nt", 1, 1, 1), ARRAY, Path(sys.executable),
                                tmp_path, 1000)


def test_topologies_of_both_kinds_are_read(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("Layer,M,N,K,\nQKT, 1024,1024,64,\n\nAV,1024,64,1024,\n")
    assert [(p.name, p.m, p.n, p.k) for p in scalesim.read_topology(file)] == [
        ("QKT", 1024, 1024, 64), ("AV", 1024, 64, 1024)]
    file.write_text("Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, "
                    "Num Filter, Strides, \nConv1  ,224,220,7,5,3,64,2,\n")
    product, = scalesim.read_topology(file)
    assert (product.name, product.m, product.n, product.k) == ("Conv1", 109 * 108, 64, 7 * 5 * 3)


@pytest.mark.parametrize(("text", "message"), [
    ("", "the header must be"),
    ("Layer,M,K,N,\na,1,1,1,\n", "the header must be .*got 'layer, m, k, n'"),
    ("Layer,M,N,K,\n", "no layers"),
    ("Layer,M,N,K,\n\na,1,0,1,\n", "line 3: sizes must be whole numbers above 0, got 'a, 1, 0, 1"),
    ("Layer,M,N,K,\na,1,2\n", "line 2: sizes must be .* column 'k' is ''"),
    ("Layer,M,N,K,\na,1,2.5,3\n", "t.csv, line 2: sizes must be .* column 'n' is '2.5'"),
    ("Layer,M,N,K,\na,1,2,\xb2\n", "column 'k' is '\xb2'"),
    ("Layer, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
     "c,4,4,5,5,1,1,1,\n", "line 2: the filter is larger than the padded image"),
])
def test_bad_topology_is_named(tmp_path, text, message):
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        scalesim.read_topology(file)
