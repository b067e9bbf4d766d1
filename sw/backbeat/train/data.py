"""The data sets: scikit-learn's digits, MNIST from a directory, a regression and a text."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from .idx import read_idx
from .text import read_text, windows

__all__ = ["Data", "load"]

SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"
TEST_SHARE = 0.2
CLASSES = 10
SIZES = {"digits": 8, "mnist": 28}
#: Of the regression: rows, and the seed of the only set there is.
ROWS, ROWS_SEED = 3000, 0


@dataclass(frozen=True)
class Data:
    """Samples and targets, along the first axis.

    Attributes
    ----------
    train_x, test_x : tensor
        Images float32 [N, 1, H, W] (over all of ``train_x`` mean 0 and standard deviation 1), rows
        float32 [N, F] (each feature likewise), or windows of a text int64 [N, T].
    train_y, test_y : tensor
        Classes int64 [N], values float32 [N, 1] (normalised likewise), or the next tokens int64
        [N, T].
    scale : float
        What the values were divided by.
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    scale: float = 1.0

    @cached_property
    def digest(self) -> str:
        """SHA-256 of it all, in hex."""
        digest = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(_elements(tensor).numpy())
        return digest.hexdigest()


def _elements(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor or, if it is a view, the part of memory that it covers: windows overlap."""
    if tensor.is_contiguous():
        return tensor
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((reach + 1,), (1,))


def _find(directory: Path, part: str, kind: str, dimensions: int) -> Path | None:
    """A file of MNIST by one of its customary names."""
    names = [f"{part}-{kind}{mark}idx{dimensions}-ubyte{end}"
             for mark in "-." for end in ("", ".gz")]
    return next((directory / name for name in names if (directory / name).is_file()), None)


def _part(directory: Path, part: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Images [N, 28, 28] and labels [N] of "train" or "t10k", or None."""
    paths = _find(directory, part, "images", 3), _find(directory, part, "labels", 1)
    if None in paths:
        return None
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(images) != len(labels) or not len(images):
        raise ValueError(f"{paths[0]} has {len(images)} images, {paths[1]} has {len(labels)} labels")
    size = SIZES["mnist"]
    if images.shape[1:] != (size, size):
        raise ValueError(f"{paths[0]} has images of {images.shape[1]} x {images.shape[2]} pixels, "
                         f"expected {size} x {size}")
    if labels.max() >= CLASSES:
        raise ValueError(f"{paths[1]} has a label {labels.max()}, expected 0...{CLASSES - 1}")
    return images, labels


def _mnist(directory: Path | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """The parts that are there: training and test, or one of them."""
    parts = [_part(directory, part) for part in ("train", "t10k")] if directory else []
    found = [part for part in parts if part is not None]
    if not found:
        raise FileNotFoundError(
            (f"no MNIST in {directory}" if directory else "MNIST needs --data DIRECTORY")
            + ": looked for train-images-idx3-ubyte and train-labels-idx1-ubyte, or t10k-images-idx3-"
            f"ubyte and t10k-labels-idx1-ubyte, plain or with .gz; they are at {SOURCE}")
    return found


def _split(x: np.ndarray, y: np.ndarray, seed: int, stratify: np.ndarray | None = None):
    """80/20, by the seed."""
    from sklearn.model_selection import train_test_split

    x, test_x, y, test_y = train_test_split(x, y, test_size=TEST_SHARE, stratify=stratify,
                                            random_state=seed)
    return [(x, y), (test_x, test_y)]


def _images(name: str, directory: Path | None, seed: int) -> Data:
    if name == "digits":
        from sklearn.datasets import load_digits
        images, labels = load_digits(return_X_y=True)
        parts = [(images.reshape(-1, SIZES[name], SIZES[name]), labels)]
    else:
        parts = _mnist(directory)
    if len(parts) == 1:
        parts = _split(*parts[0], seed, stratify=parts[0][1])
    mean, deviation = parts[0][0].mean(), parts[0][0].std() or 1.0
    tensors = []
    for x, y in parts:
        tensors.append(torch.from_numpy(((x - mean) / deviation).astype(np.float32)).unsqueeze(1))
        tensors.append(torch.from_numpy(y.astype(np.int64)))
    return Data(*tensors)


def _friedman(seed: int) -> Data:
    """Ten features in 0...1, five of which matter, and noise of variance 1: no MSE is below it.

    ``y = 10 sin(pi x0 x1) + 20 (x2 - 0.5)**2 + 10 x3 + 5 x4 + noise``; Friedman, Multivariate
    Adaptive Regression Splines, 1991.
    """
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(ROWS, noise=1.0, random_state=ROWS_SEED)
    parts = _split(x, y[:, None], seed)
    (x_mean, x_deviation), (mean, deviation) = ((a.mean(0), a.std(0)) for a in parts[0])
    tensors = []
    for x, y in parts:
        tensors.append(torch.from_numpy(((x - x_mean) / x_deviation).astype(np.float32)))
        tensors.append(torch.from_numpy(((y - mean) / deviation).astype(np.float32)))
    return Data(*tensors, scale=float(deviation[0]))


def load(name: str, path: Path | None, seed: int) -> Data:
    """A data set; one without a test part of its own is split 80/20 by the seed, a text by position.

    Parameters
    ----------
    name : str
        "digits" (1,797 images of 8 x 8), "mnist" (any number of 28 x 28), "friedman" (a regression)
        or "text".
    path : Path, optional
        The directory where MNIST's files lie, or a text file.

    Raises
    ------
    FileNotFoundError
        No MNIST there; says which files were looked for, and where to get them.
    ValueError
        A broken file, or a path where none is needed.
    """
    if name in ("digits", "friedman") and path is not None:
        raise ValueError(f"--data is for the mnist tasks and char-gpt, the others need none: got {path}")
    if name == "text":
        return Data(*windows(read_text(path)))
    return _friedman(seed) if name == "friedman" else _images(name, path, seed)
