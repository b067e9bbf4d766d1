"""Text as bytes, in windows of which each predicts the next byte."""

import importlib.util
from pathlib import Path

import torch

__all__ = ["CONTEXT", "VOCABULARY", "read_text", "windows"]

#: Of the standard library, in this order: large, well written, and on every machine with Python.
MODULES = ("argparse", "ast", "configparser", "dataclasses", "difflib", "doctest", "inspect", "pickle",
           "subprocess", "typing")
CONTEXT = 64
VOCABULARY = 256
#: The last part of a text is held out, and measured at this many places.
TEST_SHARE = 0.1
TEST_WINDOWS = 256


def read_text(path: Path | None) -> bytes:
    """A file, or without one the sources of ``MODULES``.

    They differ a little from one version of Python to the next, and so do the losses.

    Raises
    ------
    FileNotFoundError
        Python came without its sources.
    ValueError
        The file is no file, or too short: the training part must exceed two windows, as must the
        rest. Names it.
    """
    if path is not None:
        if not path.is_file():
            raise ValueError(f"--data of a language model is a text file: {path} is not one")
        text, least = path.read_bytes(), round(2 * (CONTEXT + 1) / TEST_SHARE)
        if len(text) < least:
            raise ValueError(f"{path} has {len(text):,} bytes, at least {least:,} are needed")
        return text
    sources = []
    for name in MODULES:
        found = importlib.util.find_spec(name)
        if found is None or not found.has_location or not Path(found.origin).is_file():
            raise FileNotFoundError(f"no source of Python's module {name} here: give a text of your own "
                                    "with --data FILE")
        sources.append(Path(found.origin).read_bytes())
    return b"".join(sources)


def windows(text: bytes) -> list[torch.Tensor]:
    """Windows at every place of the training part, and at ``TEST_WINDOWS`` places of the rest.

    Returns
    -------
    train_x, train_y, test_x, test_y : int64 tensors [N, CONTEXT]
        ``y`` is ``x`` one byte later. Views: all windows together are as large as the text.
    """
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    split = len(tokens) - int(len(tokens) * TEST_SHARE)
    train, test = tokens[:split], tokens[split:]
    step = max(1, (len(test) - CONTEXT - 1) // TEST_WINDOWS)
    parts = []
    for part, stride in ((train, 1), (test, step)):
        parts += [part[:-1].unfold(0, CONTEXT, stride), part[1:].unfold(0, CONTEXT, stride)]
    return parts
