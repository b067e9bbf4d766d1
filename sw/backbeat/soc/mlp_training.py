"""Training the perceptron in the SoC, with nobody's help, and in the model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import AcceleratorError
from ..memory import Memory
from .mlp import Mlp
from .mlp_sizes import Network, Scales
from .mlp_table import Placed
from .simulator import Soc
from .toolchain import Firmware, build_firmware

__all__ = ["Samples", "Trained", "firmware", "flat", "train_in_model", "train_on_soc"]

#: Cycles between two looks at the step counter.
SLICE = 1 << 18
#: Cycles without a step after which the firmware counts as lost: a step in software takes that long.
PATIENCE = 400_000_000


@dataclass(frozen=True)
class Samples:
    """What is learnt from and tested on.

    Attributes
    ----------
    x, test_x : float array [rows, inputs]
    labels, test_labels : int array [rows]
    """

    x: np.ndarray
    labels: np.ndarray
    test_x: np.ndarray
    test_labels: np.ndarray


def flat(data, seed: int) -> Samples:
    """Images of :class:`backbeat.train.data.Data` as rows, those to learn from shuffled."""
    def rows(tensor):
        return tensor.reshape(len(tensor), -1).numpy()
    order = np.random.default_rng(seed).permutation(len(data.train_y))
    return Samples(rows(data.train_x)[order], data.train_y.numpy()[order], rows(data.test_x),
                   data.test_y.numpy())


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes
    ----------
    mlp : Mlp
        The weights, read back from memory: ``mlp.master`` is int16.
    accuracy : float
        On the test samples, by the model's forward, which is the firmware's.
    steps : int
    right : int
        Rows of all batches in which no logit was above the label's.
    cycles : int
        Of the whole run, from reset.
    step_cycles, cpu_cycles : int
        Of the last step: in all, and those in which the CPU computes instead of waiting for the core.
    product_cycles, update_cycles : int
        What the products and the update took, beside the CPU or, without a core, on it.
    console : str
    """

    mlp: Mlp
    accuracy: float
    steps: int
    right: int
    cycles: int = 0
    step_cycles: int = 0
    cpu_cycles: int = 0
    product_cycles: int = 0
    update_cycles: int = 0
    console: str = ""


def firmware(software: bool = False) -> Firmware:
    """The program, for the core or for the CPU alone."""
    return build_firmware(["mlp_main.c", "mlp.c"], {"BB_SOFTWARE": True} if software else {})


def _steps(samples: Samples, network: Network, epochs: float) -> int:
    return round(epochs * (len(samples.x) // network.batch))


def train_in_model(samples: Samples, network: Network, *, epochs: float = 1,
                   scales: Scales | None = None, seed: int = 0) -> Trained:
    """The same as :func:`train_on_soc` in NumPy: the same bits."""
    mlp = Mlp(network, scales or Scales.of(samples.x), seed)
    steps = _steps(samples, network, epochs)
    right = mlp.train(mlp.rows(samples.x), samples.labels, steps)
    return Trained(mlp, mlp.accuracy(mlp.rows(samples.test_x), samples.test_labels), steps, right)


def train_on_soc(samples: Samples, network: Network, *, epochs: float = 1, scales: Scales | None = None,
                 seed: int = 0, config: str = "16x16", software: bool = False,
                 memory: Memory | None = None,
                 watch: Callable[[int, int, int], None] | None = None) -> Trained:
    """Trains in the simulated SoC: data and first weights are put into memory, weights are read back.

    Parameters
    ----------
    samples : Samples
    network : Network
    epochs : float
        Of as many whole batches as there are in ``samples.x``.
    scales : Scales, optional
    seed : int
        Of weights, batches and rounding.
    config : str or Config
        Of the core. The weights do not depend on it.
    software : bool
        The CPU does it all. The weights do not depend on that either.
    memory : Memory, optional
    watch : callable, optional
        Called now and then with steps taken, steps to take, and rows that were right so far.

    Raises
    ------
    ValueError
        Data and weights do not fit the memory.
    AcceleratorError
        The firmware reported an error (quoted), or takes no steps.
    """
    mlp = Mlp(network, scales or Scales.of(samples.x), seed)
    steps = _steps(samples, network, epochs)
    with Soc(config, firmware(software), memory) as soc:
        placed = Placed(soc.image, mlp, mlp.rows(samples.x), samples.labels, steps)
        code, moved, last = None, 0, 0
        while code is None:
            code = soc.run(SLICE)
            step = placed["step"]
            if watch:
                watch(step, steps, placed["right"])
            if step != last:
                moved, last = soc.cycles, step
            elif soc.cycles - moved > PATIENCE:
                raise AcceleratorError(f"the firmware takes no step for {PATIENCE:,} cycles after step "
                                       f"{step}; it printed: {soc.console}")
        if code:
            raise AcceleratorError(f"the firmware ended with exit code {code}: {soc.console.strip()}")
        out = placed.read_back(software)
        return Trained(out, out.accuracy(out.rows(samples.test_x), samples.test_labels), steps,
                       placed["right"], soc.cycles, placed["cycles"], placed["cpu_cycles"],
                       placed["product_cycles"], placed["update_cycles"], soc.console)
