"""Topology files of SCALE-Sim: a layer a line, as CSV."""

import csv
from pathlib import Path

from ..layers import Convolution, Layer, Linear, Workload, WorkloadError
from ..products import Geometry

__all__ = ["read"]

#: Columns of its two kinds of files, as far as we use them, by the words of their headers.
_GEMM = ("m", "n", "k")
_CONVOLUTION = ("ifmap height", "ifmap width", "filter height", "filter width", "channels", "num filter")
_STRIDES = (("strides",), ("stride height", "stride width"))


def _columns(path: Path, header: list[str]) -> tuple[str, ...]:
    names = tuple(cell.lower() for cell in header if cell)[1:]
    wanted = (_GEMM, *(_CONVOLUTION + strides for strides in _STRIDES))
    for columns in wanted:
        if names[:len(columns)] == columns:
            return columns
    raise WorkloadError(f"{path}: the header must be 'Layer, {', '.join(_GEMM).upper()}' or "
                        f"'Layer, {', '.join(_CONVOLUTION)}, strides', got "
                        f"{', '.join(cell.lower() for cell in header if cell)!r}")


def _sizes(place: str, columns: tuple[str, ...], cells: list[str]) -> list[int]:
    values = (cells[1:] + [""] * len(columns))[:len(columns)]
    for column, value in zip(columns, values, strict=True):
        if not (value.isdecimal() and int(value)):
            raise WorkloadError(f"{place}: sizes must be whole numbers above 0, got "
                                f"{', '.join(cells)!r}: column {column!r} is {value!r}")
    return [int(value) for value in values]


def read(path: Path, batch: int | None = None) -> Workload:
    """The layers of a topology file, of products ("Layer, M, N, K") or of convolutions.

    A convolution is of one image, or of ``batch``, without padding: like in SCALE-Sim, the image is as
    large as the file says. Where the last step would only partly meet the image, SCALE-Sim rounds the
    result up and everybody else down; so do we. Of a product, M is what is fed and N K are weights.

    Raises
    ------
    WorkloadError
        Names the file, the line, the column and its value; or a batch is asked for where M holds it.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path}: no CSV file: {error}") from None
    columns = _columns(path, lines[0] if lines else [])
    gemm = columns == _GEMM
    if gemm and batch is not None:
        raise WorkloadError(f"{path}: M of its products holds the batch, which cannot be set to {batch}")
    layers: list[Layer] = []
    for number, cells in enumerate(lines[1:], 2):
        if not any(cells):
            continue
        place = f"{path}, line {number}"
        sizes = _sizes(place, columns, cells)
        if gemm:
            m, n, k = sizes
            layers.append(Linear(cells[0], m, k, n))
            continue
        height, width, taps_y, taps_x, channels, filters, *stride = sizes
        try:
            layers.append(Convolution(cells[0], Geometry(
                batch or 1, height, width, channels, filters, taps_y, taps_x,
                stride[0] if len(set(stride)) == 1 else tuple(stride))))
        except ValueError as error:
            raise WorkloadError(f"{place}: {error}") from None
    if not layers:
        raise WorkloadError(f"{path}: no layers")
    return Workload(path.stem, tuple(layers), batch or 1)
