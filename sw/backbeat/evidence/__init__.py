"""What docs/numerics.md says, measured: ``python -m backbeat.evidence``, or ``make numerics``."""

from collections.abc import Callable

from . import gradients, handworked, overhead, parity, stall, unbiased
from .report import Campaign, Report

__all__ = ["EVIDENCE", "Campaign", "Report"]

#: In the order of measuring, the long ones last.
EVIDENCE: dict[str, Callable[[Campaign], Report]] = {
    "handworked": handworked.measure, "gradients": gradients.measure, "unbiased": unbiased.measure,
    "stall": stall.measure, "overhead": overhead.measure, "parity": parity.measure}
