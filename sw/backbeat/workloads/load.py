"""A workload by its name, from a file, or from a function."""

import difflib
from pathlib import Path

from .layers import Workload, WorkloadError
from .networks import NETWORKS

__all__ = ["load"]


def load(text: str, batch: int | None = None, tokens: int | None = None) -> Workload:
    """A workload.

    Parameters
    ----------
    text : str
        A name of ``NETWORKS``; a topology file of SCALE-Sim (``.csv``); an ONNX file (``.onnx``); or
        ``package.module:function``, see :func:`.importers.pytorch.from_function`.
    batch, tokens : int, optional
        Samples, and tokens of a sequence; without them, what the network or the file has.

    Raises
    ------
    WorkloadError
        None of these; or it cannot be imported, or not at this size. Says why.
    FileNotFoundError
    """
    for name, value in (("batch", batch), ("tokens", tokens)):
        if value is not None and value < 1:
            raise WorkloadError(f"{name} must be at least 1, got {value}")
    if text in NETWORKS:
        return NETWORKS[text].at(batch, tokens)
    path = Path(text)
    if path.suffix == ".csv":
        from .importers import topology
        if tokens is not None:
            raise WorkloadError(f"{path}: a topology file has no tokens, got tokens={tokens}")
        return topology.read(path, batch)
    if path.suffix == ".onnx":
        from .importers import onnx_model
        return onnx_model.read(path, batch, tokens)
    if ":" in text:
        from .importers import pytorch
        return pytorch.from_function(text, batch, tokens)
    near = difflib.get_close_matches(text.lower(), NETWORKS, 1)
    raise WorkloadError(
        f"no workload {text!r}" + (f", did you mean {near[0]!r}?" if near else ".") + " Known are "
        f"{', '.join(NETWORKS)}; or a file .csv or .onnx, or package.module:function")
