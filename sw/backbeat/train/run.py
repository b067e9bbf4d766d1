"""The folder of a run: config.json, metrics.jsonl, checkpoint.pt and curves.png."""

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import torch

from ..files import tidy, write_atomically
from .curves import curves
from .distributed import Ranks
from .settings import Settings
from .trainer import Trainer

__all__ = ["Run"]


class Run:
    """Reads and writes the folder. Of several ranks, the first one does, for all.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.config, self.metrics, self.checkpoint, self.picture = (
            directory / name for name in ("config.json", "metrics.jsonl", "checkpoint.pt", "curves.png"))

    def create(self, settings: Settings, overwrite: bool, ranks: Ranks | None = None):
        """
        Raises
        ------
        ValueError
            It holds a run already, and may not be overwritten.
        """
        (ranks or Ranks()).first(lambda: self._create(settings, overwrite))

    def _create(self, settings: Settings, overwrite: bool) -> bytes:
        if self.checkpoint.exists() and not overwrite:
            raise ValueError(f"{self.directory} holds a run already: go on with --resume "
                             f"{self.directory}, or begin anew with --overwrite")
        for path in (self.checkpoint, self.picture):
            path.unlink(missing_ok=True)
        self._tidy()
        return self._write(settings)

    def _tidy(self):
        for path in (self.config, self.metrics, self.checkpoint, self.picture):
            tidy(path)

    def write_settings(self, settings: Settings, ranks: Ranks | None = None):
        (ranks or Ranks()).first(lambda: self._write(settings))

    def _write(self, settings: Settings) -> bytes:
        text = (json.dumps(asdict(settings), indent=2) + "\n").encode()
        write_atomically(self.config, text)
        return text

    def settings(self, ranks: Ranks | None = None) -> Settings:
        """
        Raises
        ------
        FileNotFoundError, ValueError
            There is no run, or its config.json is broken.
        """
        text = (ranks or Ranks()).first(self._read)
        try:
            return Settings(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.config} is broken: {error}") from None

    def _read(self) -> bytes:
        for path in (self.config, self.checkpoint):
            if not path.exists():
                raise FileNotFoundError(f"no run to resume in {self.directory}: no {path.name}")
        self._tidy()
        return self.config.read_bytes()

    def save(self, trainer: Trainer):
        """Everything but the curves. Metrics are those in the checkpoint: they cannot disagree."""
        if trainer.ranks.rank:
            return
        buffer = io.BytesIO()
        torch.save(trainer.state_dict(), buffer)
        write_atomically(self.checkpoint, buffer.getvalue())
        lines = [json.dumps(epoch) + "\n" for epoch in trainer.history]
        write_atomically(self.metrics, "".join(lines).encode())

    def restore(self, trainer: Trainer):
        """
        Raises
        ------
        ValueError
            The checkpoint is broken, or of other data.
        """
        data = io.BytesIO(trainer.ranks.first(self.checkpoint.read_bytes))
        try:
            # PyTorch takes a tensor whose bits have changed; the archive's checksums do not.
            with zipfile.ZipFile(data) as archive:
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(damaged)
            data.seek(0)
            state = torch.load(data, weights_only=True)
        except Exception as error:  # zip, pickle and tensors each have their own
            raise ValueError(f"{self.checkpoint} is broken ({type(error).__name__})") from error
        try:
            trainer.load_state_dict(state)
        except ValueError as error:
            raise ValueError(f"cannot resume {self.directory}: {error}") from None

    def last(self) -> dict:
        """The metrics of the last complete epoch.

        Raises
        ------
        FileNotFoundError, ValueError
            There are none, or metrics.jsonl is broken.
        """
        lines = self.metrics.read_text().splitlines()
        if not lines:
            raise ValueError(f"{self.metrics} has no complete epoch yet: go on with --resume "
                             f"{self.directory}")
        try:
            return json.loads(lines[-1])
        except ValueError as error:
            raise ValueError(f"{self.metrics} is broken, line {len(lines)}: {error}") from None

    def draw(self, trainer: Trainer):
        """Writes the curves of the complete epochs."""
        if trainer.history and not trainer.ranks.rank:
            write_atomically(self.picture, curves(trainer.history))
