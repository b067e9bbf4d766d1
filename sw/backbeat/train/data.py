"""The data sets: scikit-learn's digits, and MNIST from a directory."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .idx import read_idx

__all__ = ["Data", "load"]

SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"
TEST_SHARE = 0.2
CLASSES = 10
SIZES = {"digits": 8, "mnist": 28}


@dataclass(frozen=True)
class Data:
    """Normalised images and their labels.

    Attributes
    ----------
    train_x, test_x : float32 tensor [N, 1, H, W]
        The pixels of ``train_x`` have mean 0 and standard deviation 1.
    train_y, test_y : int64 tensor [N]
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor

    @property
    def digest(self) -> str:
        """SHA-256 of it all, in hex."""
        digest = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(tensor.numpy())
        return digest.hexdigest()


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


def load(name: str, directory: Path | None, seed: int) -> Data:
    """A data set; one without a test part of its own is split 80/20, stratified, by the seed.

    Parameters
    ----------
    name : str
        "digits" (1,797 images of 8 x 8) or "mnist" (any number of 28 x 28).
    directory : Path, optional
        Where MNIST's files lie.

    Raises
    ------
    FileNotFoundError
        No MNIST there; says which files were looked for, and where to get them.
    ValueError
        A broken file, or a directory for digits, which come with scikit-learn.
    """
    if name == "digits":
        if directory is not None:
            raise ValueError(f"--data is for the mnist tasks, digits need none: got {directory}")
        from sklearn.datasets import load_digits
        images, labels = load_digits(return_X_y=True)
        parts = [(images.reshape(-1, SIZES[name], SIZES[name]), labels)]
    else:
        parts = _mnist(directory)
    if len(parts) == 1:
        from sklearn.model_selection import train_test_split
        images, labels = parts[0]
        x, test_x, y, test_y = train_test_split(images, labels, test_size=TEST_SHARE,
                                                stratify=labels, random_state=seed)
        parts = [(x, y), (test_x, test_y)]
    mean, deviation = parts[0][0].mean(), parts[0][0].std() or 1.0
    tensors = []
    for x, y in parts:
        tensors.append(torch.from_numpy(((x - mean) / deviation).astype(np.float32)).unsqueeze(1))
        tensors.append(torch.from_numpy(y.astype(np.int64)))
    return Data(*tensors)
