"""Training runs: tasks, data, the loop and the folder a run lives in."""

from .run import Run
from .settings import Settings
from .tasks import TASKS
from .trainer import Trainer

__all__ = ["TASKS", "Run", "Settings", "Trainer"]
