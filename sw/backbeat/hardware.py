"""Resources of a core on the xc7 family, estimated from those that `make synth` has found."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbeat_rtl.config import PRESETS, Config

__all__ = ["Estimator", "Resources"]


@dataclass(frozen=True)
class Resources:
    """LUTs, DSP48E1 and RAMB36 of a core with its memory port."""

    lut: int
    dsp: int
    bram: int


#: Of the cores that `make synth` puts together by default: what is fitted without its results.
_SYNTHESISED = {"8x8": Resources(12_556, 40, 26), "16x16": Resources(19_617, 144, 70),
                "32x14": Resources(17_759, 232, 77)}


class Estimator:
    """Resources of any core: DSPs and RAMs counted, LUTs fitted to a few syntheses.

    A processing element is a DSP, a requantiser four. Each lane of a scratchpad is a RAMB36, each column
    of accumulators as many as its 64-bit words need, a requantiser has another one and a half for its
    table and what waits. LUTs are a number for each element, for each requantiser, and one for the rest.

    Parameters
    ----------
    path : Path, optional
        ``build/synth.json`` of `make synth`; the cores in it are fitted instead of those known here.

    Raises
    ------
    ValueError
        It holds fewer than three cores, or is no such file.
    OSError
        It cannot be read.
    """

    def __init__(self, path: "str | Path | None" = None):
        known = _SYNTHESISED if path is None else _read(Path(path))
        rows = [self._parts(PRESETS[name]) for name in known]
        self.weights = np.linalg.lstsq(np.array(rows, float), [r.lut for r in known.values()],
                                       rcond=None)[0]

    @staticmethod
    def _parts(config: Config) -> tuple[int, int, int]:
        return config.row_pairs * config.columns, config.requantisers, 1

    def resources(self, config: Config) -> Resources:
        """LUTs to a few percent near the cores that were fitted; elsewhere an idea."""
        c = config
        sums = -(-2 * c.tiles * c.row_pairs // 512)      # RAMB36: 512 words of 64 bits
        return Resources(
            lut=round(float(np.dot(self._parts(c), self.weights))),
            dsp=c.row_pairs * c.columns + 4 * c.requantisers,
            bram=c.rows + c.columns + c.columns * sums + -(-3 * c.requantisers // 2))


def _read(path: Path) -> dict[str, Resources]:
    """Cores by preset."""
    try:
        found = json.loads(path.read_text())
        cores = {name.removeprefix("core_"): Resources(row["lut"], row["dsp"], row["ramb36"])
                 for name, row in found.items() if name.removeprefix("core_") in PRESETS}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what `make synth` writes: {error!r}") from None
    if len(cores) < 3:
        raise ValueError(f"{path} holds {len(cores)} cores, three are needed: run `make synth`")
    return cores
