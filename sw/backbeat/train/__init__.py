"""Training runs: tasks, data, the loop and the folder a run lives in."""

from .distributed import Ranks, join
from .run import Run
from .settings import Settings
from .tasks import TASKS
from .trainer import NotFiniteError, Trainer

__all__ = ["TASKS", "NotFiniteError", "Ranks", "Run", "Settings", "Trainer", "join"]
