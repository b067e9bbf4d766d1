"""Stochastic rounding has the mean of what it rounds: in the recipe, the model and the RTL."""

import numpy as np
import torch

from backbeat_rtl import core_model
from backbeat_rtl.epilogue_model import Requantise

from ..accelerator import Accelerator, open
from ..torch.quantise import fractions, quantise
from .report import Campaign, Report

__all__ = ["VALUES", "WHERE", "measure"]

#: In steps of INT8: near zero and near the ends, of both signs, barely above and barely below an
#: integer, halves, and an integer.
VALUES = (0.001, -0.001, 0.02, -0.25, 0.5, -0.5, 0.75, 0.999, 1.25, -1.4, 3.0, 7.9, -12.3, 31.5, -50.01,
          63.99, -80.6, 100.1, 126.5, -126.999)
#: Draws for each value.
DRAWS, PER_PRODUCT, SHORT_DRAWS = 1_000_000, 100_000, 65_536
SHORT_VALUES, SHORT_CONFIG = (0.02, -0.5, 126.5), "8x8"
#: Of the distance between mean and value, in standard errors of the mean.
LIMIT = 4.0
SHIFT = 24


def operands(values: np.ndarray, rows: int, seed: int):
    """A product of K = 1 whose column n is ``values[n]`` before it is rounded, and its epilogue."""
    a = np.ones((rows, 1), dtype=np.int8)
    b = ((-2) ** (np.arange(len(values)) % 6)).astype(np.int8)[None]
    multiplier = np.rint(values / b[0] * 2.0**SHIFT).astype(np.int64)
    return a, b, Requantise(tuple(multiplier.tolist()), SHIFT, rounding="stochastic", seed=seed)


def quantiser(values: np.ndarray, rows: int, seed: int, _acc) -> np.ndarray:
    """The recipe's: rows of ``values`` and a 127, which makes the scale 1."""
    x = torch.from_numpy(np.append(values, 127).astype(np.float32)).repeat(rows, 1)
    return quantise(x, 1, fractions(tuple(x.shape), (seed, 0), (0, 0, 0)))[0].numpy()[:, :-1]


def model(values: np.ndarray, rows: int, seed: int, _acc) -> np.ndarray:
    a, b, spec = operands(values, rows, seed)
    return core_model.product(a, b, spec=spec)[0]


def rtl(values: np.ndarray, rows: int, seed: int, acc: Accelerator) -> np.ndarray:
    a, b, spec = operands(values, rows, seed)
    return acc.gemm(a, b, requantize=spec)


#: Functions of values, rows, seed and accelerator that return rows of draws, int8 [rows, values].
WHERE = {"quantiser": quantiser, "model": model, "rtl": rtl}


def standard_errors(value: float, mean: float, draws: int) -> float:
    """Between a value and the mean of ``draws`` roundings of it, to the integers beside it."""
    above = value - np.floor(value)
    error = np.sqrt(above * (1 - above) / draws)
    distance = abs(mean - value)
    return float(distance / error) if error else 0.0 if distance == 0 else float("inf")


def measure(campaign: Campaign) -> Report:
    values = np.array(SHORT_VALUES if campaign.short else VALUES)
    draws, rows = (SHORT_DRAWS,) * 2 if campaign.short else (DRAWS, PER_PRODUCT)
    config = SHORT_CONFIG if campaign.short else "16x16"
    key = {"values": values.tolist(), "rows": rows, "config": config}
    sums = {where: np.zeros(len(values), dtype=np.int64) for where in WHERE}
    with open("verilator", config) as acc:
        for where, seed in campaign.track([(w, s) for w in WHERE for s in range(draws // rows)]):
            found = campaign.kept(f"{where}-{seed}", key, lambda w=where, s=seed: {
                "sums": WHERE[w](values, rows, s, acc).sum(0, dtype=np.int64).tolist()})
            sums[where] += found["sums"]
    out = []
    for number, value in enumerate(values.tolist()):
        row = {"value": value, "draws": draws}
        for where in WHERE:
            row[f"{where}_mean"] = mean = int(sums[where][number]) / draws
            row[where] = standard_errors(value, mean, draws)
        row["met"] = (all(row[where] <= LIMIT for where in WHERE)
                      and row["rtl_mean"] == row["model_mean"])
        out.append(row)
    return Report(
        "unbiased", f"Mean of {draws:,} stochastic roundings of a value, and how far it is from the "
        f"value in standard errors (se); RTL {config}, same seeds as the model",
        {"value": "{value}"} | {f"{name}: {what}": f"{{{where}{form}}}" for where, name in (
            ("quantiser", "recipe"), ("model", "epilogue model"), ("rtl", "RTL"))
            for what, form in (("mean", "_mean:.6f"), ("se", ":.2f"))},
        out, f"at most {LIMIT:g} standard errors, and the RTL's mean that of the model")
