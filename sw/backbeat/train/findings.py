"""What is wrong with the numbers of a run, in plain words."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Finding", "LayerHealth", "findings"]

#: Gradients per weight of the first layer, as a share of the last one's, that are too small and too
#: large: a thousandth is a learning rate apart.
VANISHING, EXPLODING = 1e-3, 1e3
#: The gradient norm grows by this factor within the window.
GROWTH = 100
#: Share of a ReLU's units that say nothing, and of gradients that become 0.
DEAD, ZEROED = 0.3, 0.95
#: Half of the inputs are below this share of the largest: not even two of INT8's steps.
OUTLIERS = 1.5 / 127
#: Places where shares of an attention are multiplied: that a few are large is their nature.
PEAKED = (".scores", ".values", "matmul")

_CLIP = "clipping the gradient norm (torch.nn.utils.clip_grad_norm_)"


@dataclass(frozen=True)
class Finding:
    """Something is wrong with a layer.

    Attributes
    ----------
    layer : str
        The one where it shows most.
    kind : str
        "vanishing gradients", "exploding gradients", "dead units", "zeroed gradients" or "outliers".
    text : str
        What has been seen.
    remedy : str
        What to try.
    figure : float
        Ratio per layer (of what vanishes or explodes from layer to layer), growth over the steps, share
        of steps with a NaN or infinity, share of units or values, level of the median input.
    """

    layer: str
    kind: str
    text: str
    remedy: str
    figure: float

    def __str__(self):
        return f"{self.kind} in {self.layer}: {self.text}. Try {self.remedy}."


@dataclass(frozen=True)
class LayerHealth:
    """A layer over the window; None is what cannot be known of it.

    Attributes
    ----------
    layer : str
    deep : bool
        Whether its gradient tells what happens from layer to layer.
    input_amax, weight_amax, gradient_amax : float
        Largest magnitude; the gradient is that of the output. NaN if there was one.
    input_saturated, weight_saturated, gradient_saturated : float
        Share of quantised values that are -127 or 127, mean.
    gradient_zeroed : float
        Share of the output gradient's values other than 0 that became 0, mean.
    input_level : float
        Median magnitude of the quantised inputs other than 0, as a share of the largest one, mean.
    gradient_norm, weight_norm : float
        Of the weight, mean.
    gradient_rms : float
        ``gradient_norm`` by the root of the number of weights: comparable from layer to layer.
    update_ratio : float
        Norm of the optimiser's step by that of the weight, mean.
    not_finite : float
        Share of steps in which the weight's gradient has a NaN or infinity.
    dead : float
        Share of a ReLU's units that have been 0 all the time.
    """

    layer: str
    deep: bool = False
    input_amax: float | None = None
    weight_amax: float | None = None
    gradient_amax: float | None = None
    input_saturated: float | None = None
    weight_saturated: float | None = None
    gradient_saturated: float | None = None
    gradient_zeroed: float | None = None
    input_level: float | None = None
    gradient_norm: float | None = None
    gradient_rms: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    not_finite: float | None = None
    dead: float | None = None


def not_finite(rows: list[LayerHealth]) -> list[Finding]:
    """Gradients with a NaN or infinity."""
    broken = [row for row in rows if row.not_finite]
    if not broken:
        return []
    worst = max(broken, key=lambda row: row.not_finite)
    others = f", and in {len(broken) - 1} other layers" if len(broken) > 1 else ""
    return [Finding(worst.layer, "exploding gradients",
                    f"NaN or infinity in {worst.not_finite:.0%} of the steps{others}",
                    f"a lower learning rate, and {_CLIP}", worst.not_finite)]


def growth(model: str, norms: list[float]) -> list[Finding]:
    """Of the norm of all gradients, from the first quarter of the window to the last."""
    quarter = len(norms) // 4
    if not quarter:
        return []
    old, new = float(np.median(norms[:quarter])), float(np.median(norms[-quarter:]))
    if not old or new < GROWTH * old:
        return []
    return [Finding(model, "exploding gradients",
                    f"their norm has grown {new / old:.3g} times within {len(norms)} sampled steps",
                    f"a lower learning rate or a warm-up, and {_CLIP}", new / old)]


def depth(rows: list[LayerHealth]) -> list[Finding]:
    """From the last layer to the first one, as gradients flow."""
    deep = [row for row in rows if row.deep and row.gradient_rms is not None]
    if len(deep) < 2 or not deep[-1].gradient_rms:
        return []
    first, last = deep[0], deep[-1]
    total = first.gradient_rms / last.gradient_rms
    if VANISHING < total < EXPLODING:
        return []
    ratio = total ** (1 / (len(deep) - 1))
    if total <= VANISHING:
        kind, verb, remedy = "vanishing gradients", "shrink", (
            "ReLU instead of sigmoid with He's initialisation (Xavier's for tanh), BatchNorm after each "
            "layer, or shortcuts")
    else:
        kind, verb, remedy = "exploding gradients", "grow", (
            f"smaller initial weights (He's or Xavier's), BatchNorm or LayerNorm, and {_CLIP}")
    return [Finding(first.layer, kind,
                    f"they {verb} from {last.gradient_rms:.2g} per weight in {last.layer} to "
                    f"{first.gradient_rms:.2g} here, on average {ratio:.3g} times per layer",
                    remedy, ratio)]


def units(rows: list[LayerHealth], steps: int) -> list[Finding]:
    """ReLUs with many dead units."""
    return [Finding(row.layer, "dead units",
                    f"{row.dead:.0%} of them were 0 for all inputs of the last {steps} sampled steps",
                    "a lower learning rate, He's initialisation, BatchNorm in front, or LeakyReLU",
                    row.dead)
            for row in rows if row.dead is not None and row.dead >= DEAD]


def zeroed(rows: list[LayerHealth]) -> list[Finding]:
    """Gradients that INT8 makes zeros of."""
    return [Finding(row.layer, "zeroed gradients",
                    f"{row.gradient_zeroed:.1%} of the output gradient's values become 0 in INT8: a few "
                    "large ones set the scale",
                    "clipping the loss of single examples or smoothing the labels, recipe int8_dw16, or "
                    "fp32 for this layer", row.gradient_zeroed)
            for row in rows if row.gradient_zeroed is not None and row.gradient_zeroed >= ZEROED]


def outliers(rows: list[LayerHealth]) -> list[Finding]:
    """Inputs a few of which leave the others no range."""
    return [Finding(row.layer, "outliers",
                    f"half of the inputs become {row.input_level:.1%} or less of the largest one with "
                    f"the same scale (up to {row.input_amax:.3g}): INT8 has one step or none for them",
                    "BatchNorm or LayerNorm in front, a lower learning rate, clipping the inputs, or "
                    "fp32 for this layer", row.input_level)
            for row in rows if row.input_level is not None and row.input_level < OUTLIERS
            and not row.layer.endswith(PEAKED)]


def findings(model: str, rows: list[LayerHealth], norms: list[float], steps: int) -> list[Finding]:
    """All of them, most urgent first.

    Parameters
    ----------
    model : str
        What the model as a whole is called.
    rows : list of LayerHealth
        In the order in which the layers run.
    norms : list of float
        Of all gradients, in the steps of the window.
    steps : int
        How many the window has.
    """
    return [*not_finite(rows), *growth(model, norms), *depth(rows), *units(rows, steps), *zeroed(rows),
            *outliers(rows)]
