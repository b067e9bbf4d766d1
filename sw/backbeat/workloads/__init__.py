"""Layers of real models: those that are measured, those of well-known networks, those imported."""

from .benched import WORKLOADS
from .layers import (
    Attention,
    Convolution,
    Embedding,
    Layer,
    Linear,
    MatMul,
    Other,
    Workload,
    WorkloadError,
)
from .load import load
from .networks import NETWORKS, Network, Published
from .products import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Geometry, Product

__all__ = ["FORWARD", "INPUT_GRADIENT", "NETWORKS", "WEIGHT_GRADIENT", "WORKLOADS", "Attention",
           "Convolution", "Embedding", "Geometry", "Layer", "Linear", "MatMul", "Network", "Other",
           "Product", "Published", "Workload", "WorkloadError", "load"]
