"""``backbeat workloads``: the networks that are known, and the products of one."""

from typing import Annotated

import typer
from rich.table import Table

from . import app
from .options import JsonFile, table_console, write_json

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def _short(value: float) -> str:
    """Two places of a count: 724.41 M."""
    for unit, letter in _UNITS:
        if value >= unit:
            return f"{value / unit:.2f} {letter}"
    return f"{value:g}"


@app.command()
def workloads(name: Annotated[str | None, typer.Argument(
                  show_default="list all", help="A name of the list; a file .csv (SCALE-Sim's topology) "
                                                "or .onnx; or package.module:function, which returns a "
                                                "PyTorch module and its input.")] = None,
              batch: Annotated[int | None, typer.Option(show_default="the workload's")] = None,
              tokens: Annotated[int | None, typer.Option(
                  show_default="the workload's", help="Of a sequence, for transformers.")] = None,
              training: Annotated[bool, typer.Option(
                  "--training", help="Show the products of both gradients as well.")] = False,
              json_file: JsonFile = None):
    """List networks with their weights and MACs, or the layers and products of one."""
    if name is None:
        if batch is not None or tokens is not None or training:
            raise ValueError("--batch and --tokens are for one workload, as is --training: name it")
        figures, table = _all()
    else:
        from ..workloads import load
        figures, table = _one(load(name, batch, tokens), training)
    if json_file != "-":
        table_console().print(table)
    write_json(figures, json_file)


def _all() -> tuple[dict, Table]:
    from ..workloads import NETWORKS

    rows = []
    table = Table("name", "workload", title="Workloads", title_justify="left", caption_justify="left",
                  caption="MACs of a forward pass of one sample, or of one sequence of so many tokens; "
                          "published figures and why ours differ: docs/workloads.md")
    for column in ("layers", "tokens", "weights", "published", "MACs", "published"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, network in NETWORKS.items():
        workload, published = network.at(1), network.published
        layers = sum(layer.repeat for layer in workload.layers if layer.products())
        rows.append({
            "name": name, "title": network.title, "layers": layers, "tokens": network.tokens,
            "weights": workload.weights, "macs": workload.macs, "published": published and {
                "weights": published.weights, "macs": published.macs, "source": published.source}})
        table.add_row(
            name, network.title, f"{layers:,}", str(network.tokens or ""), _short(workload.weights),
            _short(published.weights) if published else "", _short(workload.macs),
            _short(published.macs) if published else "")
    return {"workloads": rows}, table


def _one(workload, training: bool) -> tuple[dict, Table]:
    rows = []
    table = Table("layer", title=workload.title, title_justify="left", caption_justify="left",
                  caption=f"{workload.weights:,} weights, {workload.macs:,} MACs forwards; count: so "
                          "many equal products, MACs, weights and values are those of all")
    if training:
        table.add_column("product")
    for column in ("M", "N", "K", "count", "MACs", "weights", "values in", "values out"):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in workload.layers:
        products = layer.products()
        rows.append({
            "name": layer.name, "kind": type(layer).__name__, "repeat": layer.repeat,
            "weights": layer.weights, "macs": layer.macs, "input_elements": layer.input_elements,
            "output_elements": layer.output_elements, "products": [
                {"name": p.name, "kind": p.kind, "op": p.op, "m": p.m, "n": p.n, "k": p.k,
                 "count": p.count, "macs": p.macs} for p in products]})
        sizes = [_short(layer.repeat * value) for value in (
            layer.weights, layer.input_elements, layer.output_elements)]
        shown = [p for p in products if training or p.kind == "forward"]
        for number, p in enumerate(shown):
            table.add_row(p.name, *([p.kind] if training else []), f"{p.m:,}", f"{p.n:,}", f"{p.k:,}",
                          f"{p.count:,}", _short(p.total_macs), *(sizes if not number else ("", "", "")))
        if not shown:
            table.add_row(layer.name, *([""] if training else []), *("",) * 5, *sizes, style="dim")
    return {"title": workload.title, "batch": workload.batch, "weights": workload.weights,
            "macs": workload.macs, "layers": rows}, table
