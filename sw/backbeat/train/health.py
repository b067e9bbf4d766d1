"""Numerical health of a training run: figures by layer, and what they say."""

import math
from collections import Counter, defaultdict, deque
from dataclasses import asdict

import numpy as np
import torch
from rich.table import Table
from torch import nn

from ..torch import Observation, OffloadState, Product
from .figures import Tally, amax, largest, norm
from .findings import Finding, LayerHealth, findings, not_finite

__all__ = ["Finding", "Health", "LayerHealth"]

#: Sampled steps before anything but a NaN is worth a finding.
LEAST_STEPS = 8
#: Weights of a larger layer are sampled for the update ratio.
SAMPLED_WEIGHTS = 1 << 16

_CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)
_LAYERS = (*_CHANNELS_FIRST, nn.Linear, nn.LayerNorm)
_RELUS = (nn.ReLU, nn.ReLU6)
_TABLES = (nn.Embedding, nn.EmbeddingBag)

#: Titles, attributes and formats of the table's columns.
_COLUMNS = [
    ("max |x|", "input_amax", ".3g"), ("max |w|", "weight_amax", ".3g"),
    ("max |dy|", "gradient_amax", ".2g"), ("x at 127", "input_saturated", ".1%"),
    ("w at 127", "weight_saturated", ".1%"), ("dy at 127", "gradient_saturated", ".1%"),
    ("dy to 0", "gradient_zeroed", ".1%"), ("|dw|", "gradient_norm", ".2g"),
    ("|w|", "weight_norm", ".3g"), ("step/w", "update_ratio", ".1g"), ("NaN", "not_finite", ".0%"),
    ("dead", "dead", ".0%")]


class Health:
    """Watches over a model in training.

    Between :meth:`attach` and :meth:`detach` (or as a context manager) hooks look at what modules
    compute in training mode, and the offload state's observer at what becomes INT8. Windows hold
    figures, never tensors. A model that is not offloaded has everything but what is about INT8.

    Only a ReLU that is a module is seen.

    Parameters
    ----------
    model : nn.Module
    state : OffloadState, optional
        Of the model's ``OffloadReport``.
    optimiser : torch.optim.Optimizer, optional
        For the update ratio. A copy of up to 65,536 weights of each layer exists during its step.
    window : int
        How many sampled steps the figures are about.
    every : int
        Only each n-th step is looked at.

    Raises
    ------
    ValueError
        Window or distance below 1.
    """

    def __init__(self, model: nn.Module, state: OffloadState | None = None,
                 optimiser: torch.optim.Optimizer | None = None, *, window: int = 50, every: int = 1):
        for name, value in (("window", window), ("every", every)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.model, self.state, self.optimiser = model, state, optimiser
        self.window, self.every = window, every
        self.steps = self.samples = 0
        self._names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        #: Trained weights by layer; a shared one is the first layer's.
        self._weights: dict[str, list[nn.Parameter]] = {}
        self._deep: set[str] = set()
        seen = set()
        for module, name in self._names.items():
            weights = {key: p for key, p in module.named_parameters(recurse=False)
                       if p.requires_grad and p.dim() > 1 and p not in seen}
            seen.update(weights.values())
            if weights:
                self._weights[name] = list(weights.values())
                if not isinstance(module, _TABLES) and any(key.endswith("weight") for key in weights):
                    self._deep.add(name)
        self._order: dict[str, None] = {}       # layers as they run
        # Of this step: by layer, operand and product, or by layer and operand.
        self._tallies, self._amax = defaultdict(Tally), defaultdict(list)
        self._windows = defaultdict(lambda: deque(maxlen=window))       # by layer and figure
        self._norms = deque(maxlen=window)      # of all gradients
        self._alive: dict[tuple[str, int], np.ndarray] = {}     # sample in which a unit was not 0 last
        self._calls = Counter()
        self._channels_first = False
        self._before: dict[str, list[torch.Tensor]] = {}
        self._handles = []

    # Watching.

    def __enter__(self) -> "Health":
        self.attach()
        return self

    def __exit__(self, *_):
        self.detach()

    def attach(self):
        """
        Raises
        ------
        ValueError
            Somebody else watches the offload state.
        """
        if self._handles:
            return
        if self.state is not None:
            if self.state.observer is not None:
                raise ValueError("the offload state has an observer already")
            self.state.observer = self.observe
        for module, name in self._names.items():
            if isinstance(module, _RELUS):
                self._handles.append(module.register_forward_hook(self._relu))
            elif isinstance(module, _LAYERS) or name in self._weights:
                self._handles.append(module.register_forward_hook(self._layer))
        if self.optimiser is not None:
            self._handles += [self.optimiser.register_step_pre_hook(self._before_update),
                              self.optimiser.register_step_post_hook(self._after_update)]

    def detach(self):
        """What has been seen stays."""
        if self.state is not None and self._handles:
            self.state.observer = None
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def _watching(self) -> bool:
        return self.model.training and self.steps % self.every == 0

    def observe(self, observation: Observation):
        """The offload state's observer."""
        o = observation
        if self._watching and o.x.numel():
            self._order.setdefault(o.layer)
            self._tallies[o.layer, o.operand, o.product].add(o.x, o.values, o.scales)
            self._amax[o.layer, o.operand].append(amax(o.x))

    def _layer(self, module, inputs, output):
        if not (self._watching and torch.is_grad_enabled()):
            return
        self._channels_first = isinstance(module, _CHANNELS_FIRST)
        layer = self._names[module]
        if layer not in self._weights:
            return
        self._order.setdefault(layer)
        if layer not in self._deep or (layer, "input", Product.FORWARD) in self._tallies:
            return      # the latter's operands are observed as they become INT8
        if inputs and torch.is_tensor(inputs[0]) and inputs[0].numel():
            self._amax[layer, "input"].append(amax(inputs[0]))
        if torch.is_tensor(output) and output.requires_grad and output.numel():
            output.register_hook(
                lambda gradient: self._amax[layer, "output gradient"].append(amax(gradient)))

    def _relu(self, module, inputs, output):
        if not (self._watching and torch.is_grad_enabled() and output.numel()):
            return
        layer = self._names[module]
        self._order.setdefault(layer)
        use = layer, self._calls[layer]
        self._calls[layer] += 1
        # Which axis counts the units depends on the layer before.
        units = output.detach().movedim(1 if self._channels_first and output.dim() > 1 else -1, 0)
        alive = (units.flatten(1).amax(1) if units.dim() > 1 else units) > 0
        last = self._alive.setdefault(use, np.zeros(len(alive), dtype=np.int64))
        if len(last) == len(alive):
            last[alive.numpy()] = self.samples + 1

    def _sampled(self, layer: str) -> list[torch.Tensor]:
        return [w.detach().flatten()[::max(1, -(-w.numel() // SAMPLED_WEIGHTS))]
                for w in self._weights[layer]]

    def _before_update(self, *_):
        if (self.steps - 1) % self.every == 0:      # of the step that has just been counted
            self._before = {layer: [w.clone() for w in self._sampled(layer)] for layer in self._weights}

    def _after_update(self, *_):
        for layer, old in self._before.items():
            weight, update = norm(old), norm([new - w for new, w in zip(self._sampled(layer), old,
                                                                          strict=True)])
            if weight and math.isfinite(update):
                self._windows[layer, "update_ratio"].append(update / weight)
        self._before = {}

    def step(self):
        """Gradients are complete, weights not updated yet."""
        watching = self._watching
        self.steps += 1
        if not watching:
            return
        self.samples += 1
        shares = defaultdict(list)
        for (layer, operand, _), tally in self._tallies.items():
            for figure, value in tally.figures().items():
                shares[layer, f"{operand} {figure}"].append(value)
        for key, values in shares.items():      # of the worst product
            self._windows[key].append(min(values) if key[1].endswith("level") else max(values))
        total = math.hypot(*map(self._gradient, self._weights))
        if math.isfinite(total):
            self._norms.append(total)
        for (layer, operand), values in self._amax.items():
            self._windows[layer, f"{operand} amax"].append(largest(values))
        for of_this_step in (self._tallies, self._amax, self._calls):
            of_this_step.clear()

    def _gradient(self, layer: str) -> float:
        """The norm of a layer's gradient; takes down what its weights tell."""
        trained = [w for w in self._weights[layer] if w.grad is not None]
        if not trained:
            return 0.0
        size = norm([w.grad.coalesce().values() if w.grad.is_sparse else w.grad for w in trained])
        finite = math.isfinite(size)
        figures = {"not_finite": float(not finite), "weight_norm": norm(trained)}
        if finite:
            figures |= {"gradient_norm": size,
                        "gradient_rms": size / math.sqrt(sum(w.numel() for w in trained))}
        for figure, value in figures.items():
            self._windows[layer, figure].append(value)
        if (layer, "weight") not in self._amax:
            self._amax[layer, "weight"] += map(amax, trained)
        return size

    # What has been seen.

    def summary(self) -> list[LayerHealth]:
        """One row per layer, in the order in which they run."""
        return [self._row(layer)
                for layer in dict.fromkeys([*self._order, *(layer for layer, _ in self._windows)])]

    def _row(self, layer: str) -> LayerHealth:
        def window(figure):
            return self._windows.get((layer, figure))

        def mean(figure):
            return None if not window(figure) else sum(window(figure)) / len(window(figure))

        def peak(figure):
            return None if not window(figure) else largest(window(figure))

        return LayerHealth(
            layer=layer, deep=layer in self._deep and layer in self._order,
            input_amax=peak("input amax"), weight_amax=peak("weight amax"),
            gradient_amax=peak("output gradient amax"), input_saturated=mean("input saturated"),
            weight_saturated=mean("weight saturated"),
            gradient_saturated=mean("output gradient saturated"),
            gradient_zeroed=mean("output gradient zeroed"), input_level=mean("input level"),
            dead=self._dead(layer), **{figure: mean(figure) for figure in (
                "gradient_norm", "gradient_rms", "weight_norm", "update_ratio", "not_finite")})

    def _dead(self, layer: str) -> float | None:
        uses = [last for (name, _), last in self._alive.items() if name == layer]
        if not uses:
            return None
        return float((np.concatenate(uses) <= max(0, self.samples - self.window)).mean())

    def findings(self) -> list[Finding]:
        """What is wrong, most urgent first; but for NaNs nothing in the first few steps."""
        rows = self.summary()
        if self.samples < LEAST_STEPS:
            return not_finite(rows)
        return findings(type(self.model).__name__, rows, list(self._norms),
                        min(self.window, self.samples))

    def table(self) -> Table:
        """All layers, and those columns of which anything is known."""
        rows = self.summary()
        columns = [column for column in _COLUMNS
                   if any(getattr(row, column[1]) is not None for row in rows)]
        table = Table(title=f"numerical health, last {min(self.window, self.samples)} of {self.samples} "
                      "sampled steps", title_justify="left")
        table.add_column("layer", no_wrap=True)
        for title, _, _ in columns:
            table.add_column(title, justify="right")
        for row in rows:
            values = [(getattr(row, name), form) for _, name, form in columns]
            table.add_row(row.layer, *("" if v is None else format(v, form) for v, form in values))
        return table

    def as_dict(self) -> dict:
        """For JSON: what is not finite is None."""
        def plain(row):
            return {k: None if isinstance(v, float) and not math.isfinite(v) else v
                    for k, v in asdict(row).items()}

        return {"steps": self.steps, "samples": self.samples, "window": self.window, "every": self.every,
                "layers": [plain(row) for row in self.summary()],
                "findings": [plain(finding) for finding in self.findings()]}
