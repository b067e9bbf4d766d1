"""The figures of a report: modelled, from plans as the driver makes them, but for what was measured."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np

from backbeat_rtl.config import Config

from ..cost import Cost, cost
from ..energy import DEFAULT, Energies, actions, breakdown
from ..hardware import Estimator, Resources
from ..memory import Memory
from ..trial import Trial
from ..workloads import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Product, Workload
from .accuracy import Accuracy
from .scaling import all_reduce, arrays

__all__ = ["KINDS", "FeatureMap", "Sheet", "Step", "measured", "sheet"]

#: Products of a training step, and what they are called in few letters.
KINDS = {FORWARD: "fwd", INPUT_GRADIENT: "dX", WEIGHT_GRADIENT: "dW"}
Track = Callable[[list], Iterable]


@dataclass(frozen=True)
class Step:
    """A layer's products of one kind in a training step, all repeats and groups together.

    ``bound`` is the part of the array that the compulsory bytes alone would let it use; ``measured`` the
    cycles of one of the products on the simulated RTL, if it was run.
    """

    layer: str
    product: Product
    cost: Cost
    utilisation: float
    bound: float
    measured: int | None = None

    @property
    def kind(self) -> str:
        return KINDS[self.product.kind]

    @property
    def intensity(self) -> float:
        """MACs for each byte that is moved."""
        return self.cost.macs / self.cost.dram


@dataclass(frozen=True)
class FeatureMap:
    """What a layer gives, and a backward pass wants again.

    Attributes
    ----------
    layer : str
    elements : int
        Of all repeats, at the batch; a byte each in INT8.
    distance : int
        MACs made between its making and its last use, in the layer's own weight gradient.
    """

    layer: str
    elements: int
    distance: int


@dataclass(frozen=True)
class Sheet:
    """See :func:`sheet`."""

    workload: Workload
    config: Config
    memory: Memory
    clock: float
    energies: Energies
    steps: tuple[Step, ...]
    latency_cycles: int
    feature_maps: tuple[FeatureMap, ...]
    arrays: tuple[dict, ...]
    accelerators: tuple[dict, ...]
    resources: Resources
    accuracy: Accuracy | None = None

    def total(self, kind: str | None = None) -> Cost:
        """Of all steps of that kind ("fwd", "dX", "dW"), or of the training step."""
        return sum((s.cost for s in self.steps if kind in (None, s.kind)), Cost())

    def energy(self, kind: str | None = None) -> dict[str, float]:
        """Joules by level."""
        return {level: value * 1e-12 for level, value in
                breakdown(self.total(kind), self.energies).items()}

    def reached(self, share: float) -> float:
        """Part of the array that products use which make at least that share of the step's MACs, the
        best ones first: how much of a network the array suits."""
        total, done = self.total().macs, 0
        for step in sorted(self.steps, key=lambda s: -s.utilisation):
            done += step.cost.macs
            if done >= share * total:
                return step.utilisation
        return 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The sheet's numbers, in units that their names end with."""
        step, forward = self.total(), self.total("fwd")
        seconds, joules = step.cycles / self.clock, sum(self.energy().values())
        batch = self.workload.batch
        return {
            "weights": self.workload.weights,
            "macs_forward_per_sample": self.workload.macs // batch,
            "macs_step": step.macs,
            "utilisation": step.utilisation(self.config),
            "utilisation_forward": forward.utilisation(self.config),
            "utilisation_of_half_the_macs": self.reached(0.5),
            "utilisation_of_95_percent_of_the_macs": self.reached(0.95),
            "utilisation_least": min(s.utilisation for s in self.steps),
            "step_s": seconds,
            "samples_per_s": batch / seconds,
            "inference_samples_per_s": batch * self.clock / forward.cycles,
            "gmacs_per_s": step.macs / seconds / 1e9,
            "latency_batch_1_s": self.latency_cycles / self.clock,
            "dram_bytes_step": step.dram,
            "dram_bytes_per_mac": step.dram / step.macs,
            "dram_of_compulsory": step.dram / step.compulsory,
            "dram_bytes_per_s": step.dram / seconds,
            "energy_step_j": joules,
            "energy_per_sample_j": joules / batch,
            "power_w": joules / seconds,
            "pj_per_mac": joules / step.macs * 1e12,
            "feature_map_bytes": sum(f.elements for f in self.feature_maps),
            **asdict(self.resources),
            "gmacs_per_s_per_dsp": step.macs / seconds / 1e9 / self.resources.dsp,
            "gmacs_per_s_per_klut": step.macs / seconds / 1e6 / self.resources.lut,
        }

    def as_dict(self) -> dict:
        """All figures, for JSON."""
        return {
            "workload": self.workload.title, "batch": self.workload.batch, "config": self.config.name,
            "core": vars(self.config), "memory": vars(self.memory), "clock_hz": self.clock,
            "energies": vars(self.energies), "source": "modelled", "metrics": self.metrics,
            "accuracy": None if self.accuracy is None else vars(self.accuracy),
            "energy_j": {kind: self.energy(kind) for kind in KINDS.values()},
            "products": [{
                "layer": s.layer, "kind": s.kind, "m": s.product.m, "n": s.product.n, "k": s.product.k,
                "count": s.product.count, "op": s.product.op, "utilisation": s.utilisation,
                "bound": s.bound, "intensity": s.intensity, "stalls": s.cost.stalls,
                "measured_cycles": s.measured,
                **vars(s.cost)} for s in self.steps],
            "feature_maps": [vars(f) for f in self.feature_maps],
            "arrays": list(self.arrays), "accelerators": list(self.accelerators),
        }

    def accelergy(self) -> dict:
        """Action counts of the step, as Accelergy reads them from YAML."""
        return {"action_counts": {"version": 0.4, "local": [
            {"name": name, "action_counts": [{"name": action, "counts": count}
                                             for action, count in counted.items()]}
            for name, counted in actions(self.total()).items()]}}


def measured(made: Sheet, largest: int, track: Track = iter) -> Sheet:
    """The same, with products of up to so many MACs run on the simulated RTL, each shape once.

    Raises
    ------
    ToolError, AcceleratorError
        The simulator cannot be built, or the core reports an error.
    """
    from .. import open as open_accelerator

    def shape(product: Product) -> Product:
        return replace(product, name="", count=1)

    wanted = [*dict.fromkeys(shape(s.product) for s in made.steps if s.product.macs <= largest)]
    cycles, rng = {}, np.random.default_rng(0)
    if wanted:
        with open_accelerator("verilator", made.config, made.memory) as acc:
            for product in track(wanted):
                acc.run([Trial(product, product.kind != WEIGHT_GRADIENT, rng).job()])
                cycles[product] = acc.last.cycles
    return replace(made, steps=tuple(replace(s, measured=cycles.get(shape(s.product)))
                                     for s in made.steps))


def _step(layer: str, product: Product, config: Config, memory: Memory) -> Step:
    one = cost(product, config, memory)
    bound = min(1.0, one.macs / config.macs / (one.compulsory / memory.effective))
    return Step(layer, product, one.times(product.count), one.utilisation(config), bound)


def _feature_maps(workload: Workload) -> tuple[FeatureMap, ...]:
    """Maps between layers, and how long each is kept: the step goes forwards, then back."""
    layers = workload.layers
    gradients = [sum(p.total_macs for p in layer.products() if p.kind != FORWARD) for layer in layers]
    out, between = [], 0
    for layer, behind in zip(reversed(layers), reversed([*gradients]), strict=True):
        # From here: the rest of the forward pass, all gradients behind this layer, and its own.
        out.append(FeatureMap(layer.name, layer.repeat * layer.output_elements, between + behind))
        between += layer.total_macs + behind
    return tuple(reversed(out))


def sheet(workload: Workload, config: Config, memory: Memory | None = None, clock: float = 100e6, *,
          single: Workload | None = None, energies: Energies = DEFAULT, link: float = 1.25e9,
          estimator: Estimator | None = None, accuracy: Accuracy | None = None,
          track: Track = iter) -> Sheet:
    """The metric sheet of a training step.

    Parameters
    ----------
    workload : Workload
        At the batch that is trained with.
    config : Config
    memory : Memory, optional
        Without it, that of a Nexys A7.
    clock : float
        Hertz.
    single : Workload, optional
        The same at batch 1, for the latency of a forward pass; ``workload`` itself if not given.
    energies : Energies
    link : float
        Bytes per second between accelerators, each way.
    estimator : Estimator, optional
        Of the core's resources.
    accuracy : Accuracy, optional
        Of a run of the workload.
    track : callable
        Passes a list on, item by item, and may show how far it is.

    Raises
    ------
    ValueError
        A clock or link that is not positive; a workload without products.
    NoPlanError
        The core's buffers are too small for a product.
    """
    for name, value in (("clock", clock), ("link", link)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    memory = Memory() if memory is None else memory
    pairs = [(layer.name, product) for layer in workload.layers for product in layer.products()]
    if not pairs:
        raise ValueError(f"{workload.title} has no products")
    steps = tuple(_step(name, product, config, memory) for name, product in track(pairs))
    latency = sum(cost(p, config, memory).cycles * p.count
                  for p in (single or workload).products(training=False))
    made = Sheet(workload, config, memory, clock, energies, steps, latency, _feature_maps(workload),
                 (), (), (estimator or Estimator()).resources(config), accuracy)
    seconds = made.total().cycles / clock
    return replace(
        made, arrays=tuple(arrays(workload, config, memory)),
        accelerators=tuple(all_reduce(seconds, workload.weights, link)))
