"""Backbeat: a systolic array that learns.

>>> import backbeat, numpy as np
>>> with backbeat.open("model", config="16x16") as acc:
...     acc.gemm(np.ones((2, 3), np.int8), np.ones((3, 2), np.int8))
array([[3, 3],
       [3, 3]], dtype=int32)
"""

from backbeat_rtl.config import PRESETS, Config
from backbeat_rtl.epilogue_model import Requantise

from .accelerator import Accelerator, open  # noqa: A004
from .errors import AcceleratorError, ToolError
from .memory import Memory
from .products import Conv2d, Conv2dInputGradient, Conv2dWeightGradient, Gemm
from .resident import Tensor
from .stats import Stats

__all__ = ["PRESETS", "Accelerator", "AcceleratorError", "Config", "Conv2d", "Conv2dInputGradient",
           "Conv2dWeightGradient", "Gemm", "Memory", "Requantise", "Stats", "Tensor", "ToolError",
           "open"]
__version__ = "0.1.0"
