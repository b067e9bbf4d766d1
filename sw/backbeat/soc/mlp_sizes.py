"""A perceptron of two layers: its sizes, what its bytes mean, and which rows make a batch."""

from dataclasses import dataclass
from math import gcd

import numpy as np

from backbeat_rtl.config import WORD
from backbeat_rtl.epilogue_model import random_bits

from ..memory import padded

__all__ = ["BASE", "EXP_BITS", "LARGEST", "LOW", "QUOTIENT_BITS", "Draw", "Network", "Scales",
           "batch_rows", "exp_table", "fixed", "strides"]

#: Of the digits of a master weight; the low one is -LOW...LOW.
BASE, LOW = 127, 63
#: Largest master weight.
LARGEST = BASE * BASE + LOW
#: Bits behind the point of the table of exp, and of the quotient of the softmax.
EXP_BITS, QUOTIENT_BITS = 14, 24
#: Between the rows of a batch: as many rows, times the batch, are in memory twice.
LARGEST_STRIDE = 64


class Draw:
    """What a random number is for: ``random_bits(seed, DRAWS * step + draw)``, or of the epoch."""

    SOFTMAX, HIDDEN, STEP_2, STEP_1, EPOCH = range(5)
    DRAWS = 8


@dataclass(frozen=True)
class Network:
    """Sizes.

    Parameters
    ----------
    inputs, hidden, classes : int
    batch : int
        Rows per step.
    block : int
        Rows of the matrix that all weights make in the update.
    """

    inputs: int = 64
    hidden: int = 32
    classes: int = 10
    batch: int = 32
    block: int = 16

    @property
    def x_pitch(self) -> int:
        """Bytes of a row of X and W1: the inputs, the constant and zeros."""
        return padded(self.inputs + 1)

    @property
    def h_pitch(self) -> int:
        """Bytes of a row of H, dH and W2, likewise."""
        return padded(self.hidden + 1)

    @property
    def z_pitch(self) -> int:
        """Bytes of a row of Z and dZ."""
        return padded(self.classes)

    @property
    def w2(self) -> int:
        """Where W2 begins in a plane."""
        return self.hidden * self.x_pitch

    @property
    def plane(self) -> int:
        """Bytes of a plane: W1, W2 and zeros up to ``block`` rows of whole words."""
        size = self.w2 + self.classes * self.h_pitch
        return -(-size // (self.block * WORD)) * self.block * WORD

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the five products of a step, padding and update aside."""
        first, second = (self.inputs + 1) * self.hidden, (self.hidden + 1) * self.classes
        return self.batch * (2 * first + 2 * second + self.hidden * self.classes)


@dataclass(frozen=True)
class Scales:
    """What a byte means, and the learning rate: real value = byte / scale.

    The defaults suit inputs of standard deviation 1. ``z`` must leave room: where logits stop at +-127
    the softmax never is as sure as it wants to be, and weights grow until they stop, too.

    Parameters
    ----------
    x, h, z, dh : float
        Of X, H, Z and dH; dZ has 127.
    w1, w2 : float
        Of the high digits.
    lr : float
        Learning rate of the mean over the batch.
    """

    x: float
    h: float = 8.0
    z: float = 7.0
    dh: float = 127.0
    w1: float = 96.0
    w2: float = 96.0
    lr: float = 0.4

    @classmethod
    def of(cls, x: np.ndarray, **scales: float) -> "Scales":
        """With the largest input at 127."""
        return cls(x=127 / float(np.abs(x).max()), **scales)

    @property
    def x_one(self) -> int:
        """The constant input of X."""
        return min(127, round(self.x))

    @property
    def h_one(self) -> int:
        return min(127, round(self.h))


def fixed(value: float) -> tuple[int, int]:
    """``multiplier, shift`` of the epilogue: ``multiplier * 2**-shift``, of 30 significant bits.

    Raises
    ------
    ValueError
        The shift would be outside of 0...62.
    """
    exponent = int(np.floor(np.log2(abs(value))))
    shift = 29 - exponent
    if not 0 <= shift <= 62:
        raise ValueError(f"a factor must be between 2**-33 and 2**30, got {value}")
    return round(value * 2.0**shift), shift


def exp_table(scale: float) -> np.ndarray:
    """``exp(-d / scale)`` for d = 0...255, uint16 with ``EXP_BITS`` bits behind the point."""
    return np.rint(np.exp(-np.arange(256) / scale) * 2**EXP_BITS).astype(np.uint16)


def strides(rows: int, batch: int) -> list[int]:
    """Distances of a batch's rows in memory to choose from: those that have no divisor in common with
    ``rows``, so that a walk through all rows, the first behind the last, meets each once.

    Raises
    ------
    ValueError
        There are fewer rows than a batch has.
    """
    if rows < batch:
        raise ValueError(f"there must be at least as many rows as a batch has ({batch}), got {rows}")
    return [stride for stride in range(1, min(rows // batch, LARGEST_STRIDE) + 1)
            if gcd(stride, rows) == 1]


def batch_rows(rows: int, batch: int, seed: int, step: int) -> np.ndarray:
    """The rows of a step's batch, int [batch].

    Nothing is copied: an epoch walks through all rows in strides of its own, from a row of its own, so
    that others meet in a batch than in the epoch before. In memory the first rows follow the last ones
    once more, as far as a batch may reach. Less than a batch is left out, another part each time.
    """
    choice = strides(rows, batch)
    epoch, number = divmod(step, rows // batch)
    bits = int(random_bits(seed, np.uint32(Draw.DRAWS * epoch + Draw.EPOCH)))
    stride = choice[(bits & 0xFFFF) % len(choice)]
    first = ((bits >> 16) % rows + number * stride * batch) % rows
    return (first + stride * np.arange(batch)) % rows
