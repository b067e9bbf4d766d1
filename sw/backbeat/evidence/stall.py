"""The stall pair: weights stored in INT8 learn with stochastic rounding, and not without."""

import torch

from ..accelerator import open
from ..torch.quantise import fractions
from ..train import Settings, Trainer
from ..train.data import load
from .report import Campaign, Report

__all__ = ["StoredInt8", "measure"]

#: A weight is a multiple of it, -127...127 of them.
SCALE = 2.0**-7
LR = 2.0**-7
EPOCHS, BATCH = 10, 64
ROUNDINGS = ("nearest", "stochastic")
#: Stuck: fewer weights change than this share, and the test accuracy rises by no more than that.
CHANGED, RISE = 0.01, 0.1
#: Test accuracy that stochastic rounding reaches.
LEARNT = 0.8


class StoredInt8(torch.optim.Optimizer):
    """Plain gradient descent on weights that are stored in INT8 and nowhere else.

    ``values = clamp(round(values - lr * gradient / scale))``. A parameter is ``values * scale``
    after every step; what the rounding drops is lost.

    Parameters
    ----------
    parameters : iterable of float32 parameters
        Rounded to nearest at once.
    lr, scale : float
    rounding : str
        Of the step: "nearest", or "stochastic", ``floor(value + fraction)``.
    seed : int
    """

    def __init__(self, parameters, lr: float, scale: float, rounding: str, seed: int = 0):
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, got {rounding!r}")
        super().__init__(parameters, {"lr": lr})
        self.scale, self.rounding, self.seed, self.steps = scale, rounding, seed, 0
        for parameter in self._parameters():
            self._store(parameter, (parameter.detach() / scale).round_())

    def _parameters(self):
        return [p for group in self.param_groups for p in group["params"]]

    def _store(self, parameter: torch.Tensor, values: torch.Tensor):
        stored = values.clamp_(-127, 127).to(torch.int8)
        self.state[parameter]["values"] = stored
        parameter.data = stored * self.scale

    @torch.no_grad()
    def step(self):
        lr = self.param_groups[0]["lr"]
        for number, parameter in enumerate(self._parameters()):
            values = self.state[parameter]["values"] - parameter.grad * (lr / self.scale)
            if self.rounding == "nearest":
                values.round_()
            else:
                draws = fractions(values.shape, (self.seed, self.steps), (0, 0, number))
                values.add_(draws).floor_()
            self._store(parameter, values)
        self.steps += 1


def train(rounding: str, seed: int) -> dict:
    """digits-mlp with stored INT8 weights, all products in recipe int8 on the model.

    Returns
    -------
    dict
        ``start`` and ``accuracy`` on the test images, before and after; ``changed``, the share of
        weights that have another value at the end.
    """
    settings = Settings(task="digits-mlp", backend="model", epochs=EPOCHS, batch=BATCH, lr=LR,
                        momentum=0.0, weight_decay=0.0, seed=seed)
    with open("model", settings.config) as acc:
        trainer = Trainer(settings, load("digits", None, seed), acc)
        trainer.optimiser = StoredInt8(trainer.model.parameters(), LR, SCALE, rounding, seed)
        before = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach()
        start = trainer.evaluate()["test_accuracy"]
        trainer.fit()
        after = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach()
    return {"start": start, "accuracy": trainer.history[-1]["test_accuracy"],
            "changed": float((before != after).float().mean())}


def _met(rounding: str, found: dict) -> bool:
    if rounding == "stochastic":
        return found["accuracy"] >= LEARNT
    return found["changed"] <= CHANGED and found["accuracy"] <= found["start"] + RISE


def measure(campaign: Campaign) -> Report:
    rows, seeds = [], range(1 if campaign.short else 5)
    for rounding, seed in campaign.track([(r, s) for r in ROUNDINGS for s in seeds]):
        found = campaign.kept(f"{rounding}-{seed}", {"epochs": EPOCHS, "batch": BATCH, "lr": LR},
                              lambda r=rounding, s=seed: train(r, s))
        rows.append({"rounding": rounding, "seed": seed, "met": _met(rounding, found)} | found)
    return Report(
        "stall", f"Weights stored in INT8 (multiples of 2^-7), plain SGD at learning rate 2^-7, "
        f"digits-mlp in recipe int8, {EPOCHS} epochs of batches of {BATCH}",
        {"rounding of the step": "{rounding}", "seed": "{seed}", "before": "{start:.2%}",
         "after": "{accuracy:.2%}", "weights changed": "{changed:.1%}"},
        rows, f"with nearest, at most {CHANGED:.0%} of the weights change and the accuracy rises by at "
        f"most {100 * RISE:g} points; with stochastic, it reaches {LEARNT:.0%}")
