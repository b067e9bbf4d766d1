"""Where the memory of a training step goes: measured on a real one."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .kept import OUTSIDE, KeptMap, Meter

__all__ = ["KINDS", "Account", "LayerMemory", "account"]

#: Attributes of :class:`LayerMemory` and what they are called.
KINDS = {"feature_maps": "feature maps", "recomputed": "recomputed", "weights": "weights",
         "gradients": "gradients", "optimiser_state": "optimiser state"}

@dataclass
class LayerMemory:
    """Bytes of a layer.

    Attributes
    ----------
    layer : str
    feature_maps : int
        Kept from the forward pass for the backward pass.
    recomputed : int
        Made again in the backward pass.
    weights, gradients, optimiser_state : int
    """

    layer: str
    feature_maps: int = 0
    recomputed: int = 0
    weights: int = 0
    gradients: int = 0
    optimiser_state: int = 0


@dataclass(frozen=True)
class Account:
    """Of one training step.

    Attributes
    ----------
    layers : list of LayerMemory
        In the order in which they run.
    maps : list of KeptMap
        In the order in which they were kept.
    peak : int
        Bytes of the feature maps that were kept at the same time, at most.
    macs : int
        Made in the step.
    """

    layers: list[LayerMemory]
    maps: list[KeptMap]
    peak: int
    macs: int

    def total(self, what: str) -> int:
        """Bytes of all layers; ``what`` is an attribute of :class:`LayerMemory`."""
        return sum(getattr(layer, what) for layer in self.layers)

    def distance(self, layer: str) -> int | None:
        """The longest reuse distance of a layer's maps, in MACs."""
        return max((m.distance for m in self.maps if m.layer == layer and m.distance is not None),
                   default=None)

    def as_dict(self) -> dict:
        """For JSON."""
        return {"peak": self.peak, "macs": self.macs,
                "totals": {what: self.total(what) for what in KINDS},
                "layers": [asdict(layer) | {"distance": self.distance(layer.layer)}
                           for layer in self.layers],
                "maps": [asdict(m) | {"distance": m.distance} for m in self.maps]}

    def table(self) -> Table:
        """Kilobytes by layer."""
        kinds = [kind for kind in KINDS if kind != "recomputed" or self.total(kind)]
        table = Table("layer", title="memory of a training step, kB", title_justify="left",
                      caption_justify="left", show_footer=True, caption=(
                          f"at most {self.peak / 1e3:,.1f} kB of feature maps at once; distance: of the "
                          f"step's {self.macs:,} MACs those until one is used again, at most"))
        table.columns[0].footer = "total"
        for kind in kinds:
            table.add_column(KINDS[kind], justify="right", footer=f"{self.total(kind) / 1e3:,.1f}")
        table.add_column("distance", justify="right")
        for layer in self.layers:
            distance = self.distance(layer.layer)
            table.add_row(layer.layer, *(f"{getattr(layer, kind) / 1e3:,.1f}" for kind in kinds),
                          "" if distance is None else f"{distance:,}")
        return table


def _optimiser_bytes(optimiser: torch.optim.Optimizer | None, weight: nn.Parameter) -> int:
    if optimiser is None:
        return 0
    return sum(x.nbytes for x in optimiser.state.get(weight, {}).values() if torch.is_tensor(x))


def account(model: nn.Module, step: Callable[[], object], macs: Callable[[], int] | None = None,
            optimiser: torch.optim.Optimizer | None = None) -> Account:
    """Makes one training step and measures where its memory goes.

    What autograd keeps is counted where it is kept: by the innermost module that is running. Parameters
    and buffers are no feature maps. What a layer keeps beside the values it was given and has returned
    (such as the indices of a maximum) counts as a feature map as well.

    Parameters
    ----------
    model : nn.Module
    step : callable
        Makes a real step, forwards and backwards, with the optimiser's if its state is to be seen.
    macs : callable, optional
        How many MACs have been made so far, as ``lambda: acc.stats.macs``. Without it, those that
        PyTorch makes itself are counted.
    optimiser : torch.optim.Optimizer, optional

    Returns
    -------
    Account
    """
    gradients: dict[nn.Parameter, int] = {}
    with ExitStack() as stack:
        if macs is None:
            counter = stack.enter_context(FlopCounterMode(display=False))

            def macs():
                return counter.get_total_flops() // 2

        for weight in model.parameters():
            if weight.requires_grad:
                stack.callback(weight.register_post_accumulate_grad_hook(
                    lambda w: gradients.update({w: w.grad.nbytes})).remove)
        meter, start = Meter(model, macs), macs()
        with meter.watching():
            step()
        total = macs() - start
    layers = {name: LayerMemory(name) for name in (*meter.order, *meter.names.values(), OUTSIDE)}
    counted = set()
    for module, name in meter.names.items():
        for weight in module.parameters(recurse=False):
            if weight not in counted:
                counted.add(weight)
                layers[name].weights += weight.nbytes
                layers[name].gradients += gradients.get(weight, 0)
                layers[name].optimiser_state += _optimiser_bytes(optimiser, weight)
    for kept in meter.maps:
        layers[kept.layer].feature_maps += 0 if kept.recomputed else kept.bytes
        layers[kept.layer].recomputed += kept.bytes if kept.recomputed else 0
    return Account([layer for layer in layers.values() if any(getattr(layer, kind) for kind in KINDS)],
                   [kept.frozen() for kept in meter.maps], meter.peak, total)
