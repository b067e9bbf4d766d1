"""The metric sheet of a workload on a configuration: figures, charts, and the page that shows them."""

from .accuracy import Accuracy, read_accuracy
from .page import page
from .sheet import Sheet, Step, measured, sheet

__all__ = ["Accuracy", "Sheet", "Step", "measured", "page", "read_accuracy", "sheet"]
