"""Figures of the small SoC: what the core is worth to the CPU beside it, in cycles."""

from collections.abc import Callable

import numpy as np

from backbeat_rtl.config import Config

from ..errors import AcceleratorError
from . import programs
from .mlp_sizes import Network
from .mlp_training import Samples, train_on_soc

__all__ = ["product_figures", "training_figures"]

#: Times faster than the software with two rows and two columns in registers, that a way should be at
#: 256 x 256 x 256 on the 16x16 core.
_TARGETS = {"memory": 1000, "door": 60}
#: Networks that learn on the device, and how many times faster their step should be on the 16x16 core.
_NETWORKS = ((Network(64, 32, 10, batch=32), None), (Network(784, 128, 10, batch=32, block=32), 50))
#: Steps of which the last one is timed: the caches are as warm then as they get.
_STEPS = 2
#: M = N = K of the naive product: at 256 it would take a quarter of a billion cycles.
_NAIVE = 64
#: The CPU's own way is simulated beside the smallest core: it does not use it.
_SMALL = "4x4"


def product_figures(config: "str | Config", size: int, progress: Callable[[str], None]) -> dict:
    """One product of ``size`` cubed, each way.

    Returns
    -------
    dict
        ``compiler``, and ``rows``: of each of :data:`.programs.WAYS` but the naive loop its cycles,
        cycles per MAC and how many times faster it is than the software; ``naive_cycles_per_mac``, of a
        smaller product.

    Raises
    ------
    AcceleratorError
        The results differ.
    """
    rows, macs = [], size**3
    for way in programs.WAYS[:-1]:
        core = Config.of(config) if way in _TARGETS else Config.of(_SMALL)
        progress(f"{size}x{size}x{size}: {way}" + ("" if way in _TARGETS else " (a minute or two)"))
        rows.append({"way": way, "config": core.name, **programs.product(core, (size,) * 3, way)})
    if len({row["checksum"] for row in rows}) != 1:
        raise AcceleratorError(f"the ways differ: {({r['way']: r['checksum'] for r in rows})}")
    software = next(row["cycles"] for row in rows if row["way"] == "software")
    for row in rows:
        row["cycles_per_mac"] = row["cycles"] / macs
        row["times_software"] = software / row["cycles"]
        row["target"] = (_TARGETS.get(row["way"]) if size == 256 and row["config"] == "16x16" else None)
    small = min(size, _NAIVE)
    progress(f"{small}x{small}x{small}: naive")
    naive = programs.product(_SMALL, (small,) * 3, "naive")["cycles"] / small**3
    return {"size": size, "compiler": rows[0]["compiler"], "rows": rows, "naive_cycles_per_mac": naive}


def training_figures(config: "str | Config", seed: int, progress: Callable[[str], None]) -> dict:
    """A step of on-device training, on random samples: its cycles do not depend on them.

    Returns
    -------
    dict
        ``rows``: of each network its cycles with the core and in software, and the share of the former
        in which the CPU computes.

    Raises
    ------
    AcceleratorError
        The weights differ.
    """
    rows, rng = [], np.random.default_rng(seed)
    for network, target in _NETWORKS:
        name = f"{network.inputs}-{network.hidden}-{network.classes}"
        x = rng.normal(size=(_STEPS * network.batch, network.inputs)).clip(-3, 3)
        labels = rng.integers(network.classes, size=len(x))
        samples, trained = Samples(x, labels, x[:1], labels[:1]), {}
        for software in (False, True):
            way = "in software (a minute or two)" if software else "by the core"
            progress(f"a step of {name} {way}")
            trained[software] = train_on_soc(samples, network, seed=seed, software=software,
                                             config=_SMALL if software else config)
        hardware, software = trained[False], trained[True]
        if not np.array_equal(hardware.mlp.master, software.mlp.master):
            raise AcceleratorError(f"{name}: the weights after {_STEPS} steps differ")
        rows.append({
            "network": name, "batch": network.batch, "config": Config.of(config).name,
            "cycles": hardware.step_cycles, "software_cycles": software.step_cycles,
            "times_software": software.step_cycles / hardware.step_cycles,
            "cpu_cycles": hardware.cpu_cycles, "cpu_share": hardware.cpu_cycles / hardware.step_cycles,
            "product_cycles": hardware.product_cycles, "update_cycles": hardware.update_cycles,
            "target": target if Config.of(config).name == "16x16" else None})
    return {"rows": rows}
