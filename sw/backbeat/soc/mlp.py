"""A perceptron of two layers that learns in integers: what the firmware does, in NumPy.

Nothing here is a real number once training has begun. Bytes go into products, bytes come out of them:

    H  = relu(X W1^T)            Z = H W2^T                      forward
    dZ = softmax(Z) - one-hot    dH = (dZ W2) where H > 0        backward
    G2 = -lr dZ^T H              G1 = -lr dH^T X                 the step
    W <- W + G, saturating                                       a product, too

A master weight is an integer of two digits to the base 127, ``127 * high + low``, in two planes of
bytes: |high| <= 127, |low| <= 63, so |weight| <= 16,192. The digit ``high`` is the INT8 weight of the
products, rounded to nearest with nothing left to do. ``G`` counts in units of the low digit. All of it,
weights of both layers one behind the other, is one matrix of ``block`` rows, and the update is

    high' = round((127 high + low + G) / 127)            [127 I | I | I]          [high; low; G]
    low'  =        127 high + low + G - 127 high'        [127 I | I | I | -127 I] [high; low; G; high']

in exact INT32 and by the epilogue, whose clip makes weights saturate: high stops at +-127, low at +-63.

What is rounded, and how: forward to nearest; dZ, dH and G stochastically, so that a step of less than
one unit is taken as often as its size says. Random numbers are a function of (seed, step, place).
A bias is the weight of a constant input, the last column of X and H.
"""

from functools import cache, cached_property

import numpy as np

from backbeat_rtl.core_model import product
from backbeat_rtl.epilogue_model import Requantise, random_bits

from .mlp_sizes import (
    BASE,
    LARGEST,
    LOW,
    QUOTIENT_BITS,
    Draw,
    Network,
    Scales,
    batch_rows,
    exp_table,
    fixed,
)

__all__ = ["HIGH", "LOW_DIGIT", "Mlp", "coefficients", "congruential", "softmax_gradient", "update"]


@cache
def _jumps(count: int) -> tuple[np.ndarray, np.ndarray]:
    """``a`` and ``c`` so that the n-th state after ``s`` is ``a[n] * s + c[n]``, uint32 [count]."""
    a, c, out = 1, 0, []
    for _ in range(count):
        a, c = a * 1664525 % 2**32, (c * 1664525 + 1013904223) % 2**32
        out.append((a, c))
    return tuple(np.array(out, np.uint32).T)


def congruential(seed: int, count: int) -> np.ndarray:
    """Uniform 32-bit numbers from a linear congruential generator (the constants of Numerical Recipes).

    The upper bits of some hundred of them are good enough to round with, and a CPU wants no more than a
    multiplication for each.
    """
    a, c = _jumps(count)
    return a * np.uint32(seed) + c


def softmax_gradient(z: np.ndarray, labels: np.ndarray, table: np.ndarray, seed: int) -> np.ndarray:
    """``softmax(z) - one-hot`` in 127ths, rounded stochastically.

    Parameters
    ----------
    z : int8 array [batch, classes]
    labels : int array [batch]
    table : uint16 array [256]
    seed : int

    Returns
    -------
    int8 array [batch, classes], -127...127
    """
    e = table[z.max(1, keepdims=True).astype(np.int64) - z].astype(np.uint32)
    reciprocal = (np.uint32(127) << np.uint32(QUOTIENT_BITS)) // e.sum(1, keepdims=True, dtype=np.uint32)
    fraction = congruential(seed, z.size).reshape(z.shape) >> np.uint32(32 - QUOTIENT_BITS)
    out = (e * reciprocal + fraction >> np.uint32(QUOTIENT_BITS)).astype(np.int64)
    out[np.arange(len(z)), labels] -= 127
    return out.astype(np.int8)


def coefficients(block: int) -> np.ndarray:
    """A of the update, int8 [block, 4 * block]; its first product takes three quarters of it."""
    one = np.eye(block, dtype=np.int8)
    return np.concatenate([127 * one, one, one, -127 * one], axis=1)


def update(high: np.ndarray, low: np.ndarray, g: np.ndarray, block: int):
    """The two products of the update, on planes of ``block`` times whole words bytes.

    Returns
    -------
    high, low : int8 arrays of that shape
    """
    shape, a = high.shape, coefficients(block)
    planes = [plane.reshape(block, -1) for plane in (high, low, g)]
    new_high = product(a[:, :3 * block], np.concatenate(planes), spec=HIGH)[0]
    new_low = product(a, np.concatenate([*planes, new_high]), spec=LOW_DIGIT)[0]
    return new_high.reshape(shape), new_low.reshape(shape)


#: Epilogues of the update. 127 is odd, so nothing is ever a tie, and 2**37 / 127 is near enough.
HIGH = Requantise(*fixed(1 / BASE), low=-127)
LOW_DIGIT = Requantise(1, 0, low=-LOW, high=LOW)


class Mlp:
    """Weights, and the step that the firmware takes.

    Parameters
    ----------
    network : Network
    scales : Scales
    seed : int
        Of the initial weights and of everything random.

    Attributes
    ----------
    high, low : int8 arrays [plane]
    step_number : int
        Steps taken.
    """

    def __init__(self, network: Network, scales: Scales, seed: int = 0):
        self.network, self.scales, self.seed, self.step_number = network, scales, seed, 0
        n, s, rng = network, scales, np.random.default_rng(seed)
        master = np.zeros(n.plane, np.int64)
        for begin, rows, inputs, pitch, scale in (
                (0, n.hidden, n.inputs, n.x_pitch, s.w1), (n.w2, n.classes, n.hidden, n.h_pitch, s.w2)):
            w = master[begin:begin + rows * pitch].reshape(rows, pitch)
            bound = np.sqrt((6 if begin == 0 else 3) / inputs)
            w[:, :inputs] = np.rint(rng.uniform(-bound, bound, (rows, inputs)) * scale * BASE)
        self.set_master(master)

    def set_master(self, master: np.ndarray):
        """Sets both digits of weights int [plane] of -LARGEST...LARGEST."""
        master = np.clip(master, -LARGEST, LARGEST)
        high = np.clip((2 * master + BASE) // (2 * BASE), -127, 127)
        self.high, self.low = high.astype(np.int8), (master - BASE * high).astype(np.int8)

    @property
    def master(self) -> np.ndarray:
        """int16 [plane]."""
        return BASE * self.high.astype(np.int16) + self.low

    def _layers(self, plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = self.network
        return (plane[:n.w2].reshape(n.hidden, n.x_pitch),
                plane[n.w2:n.w2 + n.classes * n.h_pitch].reshape(n.classes, n.h_pitch))

    @cached_property
    def factors(self) -> dict[str, tuple[int, int]]:
        """``multiplier, shift`` of each product."""
        n, s = self.network, self.scales
        return {
            "hidden": fixed(s.h / (s.x * s.w1)),
            "logits": fixed(s.z / (s.h * s.w2)),
            "hidden_gradient": fixed(s.dh / (127 * s.w2)),
            "step_2": fixed(-s.lr / n.batch * BASE * s.w2 / (127 * s.h)),
            "step_1": fixed(-s.lr / n.batch * BASE * s.w1 / (s.dh * s.x)),
        }

    @cached_property
    def exp(self) -> np.ndarray:
        return exp_table(self.scales.z)

    def _epilogue(self, name: str, draw: int | None = None, low: int = -127) -> Requantise:
        if draw is None:
            return Requantise(*self.factors[name], low=low)
        return Requantise(*self.factors[name], low=low, rounding="stochastic", seed=self.draw(draw))

    def draw(self, which: int) -> int:
        """The seed of one use of random numbers in the step to come."""
        return int(random_bits(self.seed, np.uint32(Draw.DRAWS * self.step_number + which)))

    def rows(self, x: np.ndarray) -> np.ndarray:
        """Rows for the memory, int8 [rows, x_pitch], of real inputs [rows, inputs]."""
        n, s = self.network, self.scales
        out = np.zeros((len(x), n.x_pitch), np.int8)
        out[:, :n.inputs] = np.clip(np.rint(x * s.x), -127, 127)
        out[:, n.inputs] = s.x_one
        return out

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """H int8 [rows, h_pitch] and Z int8 [rows, classes] of int8 rows [rows, x_pitch]."""
        n = self.network
        w1, w2 = self._layers(self.high)
        h = np.zeros((len(x), n.h_pitch), np.int8)
        h[:, :n.hidden] = product(x, w1.T, spec=self._epilogue("hidden", low=0))[0]
        h[:, n.hidden] = self.scales.h_one
        return h, product(h, w2.T, spec=self._epilogue("logits"))[0]

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> float:
        """Share of int8 rows whose largest logit, the first of equals, is their label's."""
        return float((self.forward(x)[1].argmax(1) == labels).mean())

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
        """G int8 [plane], and in how many rows no logit was above the label's."""
        n = self.network
        h, z = self.forward(x)
        dz = softmax_gradient(z, labels, self.exp, self.draw(Draw.SOFTMAX))
        w2 = self._layers(self.high)[1]
        dh = product(dz, w2[:, :n.hidden], spec=self._epilogue("hidden_gradient", Draw.HIDDEN))[0]
        dh = dh * (h[:, :n.hidden] > 0)
        g = np.zeros(n.plane, np.int8)
        g1, g2 = self._layers(g)
        g1[:] = product(dh.T, x, spec=self._epilogue("step_1", Draw.STEP_1))[0]
        g2[:] = product(dz.T, h, spec=self._epilogue("step_2", Draw.STEP_2))[0]
        return g, int((z.max(1) == z[np.arange(n.batch), labels]).sum())

    def step(self, x: np.ndarray, labels: np.ndarray) -> int:
        """Learns from a batch; returns how many of it were right before.

        Parameters
        ----------
        x : int8 array [batch, x_pitch]
        labels : int array [batch]
        """
        g, right = self.gradients(x, labels)
        self.high, self.low = update(self.high, self.low, g, self.network.block)
        self.step_number += 1
        return right

    def train(self, x: np.ndarray, labels: np.ndarray, steps: int) -> int:
        """Takes steps on the batches that ``batch_rows`` names; returns how many rows were right."""
        right = 0
        for _ in range(steps):
            rows = batch_rows(len(x), self.network.batch, self.seed, self.step_number)
            right += self.step(x[rows], labels[rows])
        return right
