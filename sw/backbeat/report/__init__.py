"""The metric sheet of a workload on a configuration: figures, charts, and the page that shows them."""

from .page import page
from .sheet import Sheet, Step, measured, sheet

__all__ = ["Sheet", "Step", "measured", "page", "sheet"]
