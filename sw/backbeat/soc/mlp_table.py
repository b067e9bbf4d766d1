"""The perceptron in the SoC's memory: one table says where everything is and how large.

``python -m backbeat.soc.mlp_table`` writes the C header with the table's fields; the tests fail when it
differs. Firmware is compiled once for all networks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..memory import ALIGNMENT, BASE, padded
from .mlp import HIGH, LOW_DIGIT, Mlp, coefficients
from .mlp_sizes import strides

__all__ = ["HEADER", "MAGIC", "Placed", "c_header", "main"]

HEADER = Path(__file__).parents[2] / "firmware" / "mlp_table.h"
#: "MLP1", as the first word.
MAGIC = 0x31504C4D
#: The table's words of 32 bits, in order. Addresses are multiples of 64.
FIELDS = (
    ("magic", "MLP_MAGIC"),
    ("inputs", "sizes of the network"),
    ("hidden", ""),
    ("classes", ""),
    ("batch", ""),
    ("block", "rows of the matrix that a plane is in the update"),
    ("rows", "of X; behind the last one, the first ones once more"),
    ("x_pitch", "bytes of a row of X and W1"),
    ("h_pitch", "of H, dH and W2"),
    ("z_pitch", "of Z and dZ"),
    ("plane", "bytes of a plane: W1, W2, zeros"),
    ("w2", "where W2 begins in it"),
    ("x", "addresses: int8 [rows, x_pitch], constant, then zeros, last"),
    ("labels", "uint8 [rows]"),
    ("planes", "int8 [4, plane]: high (even steps), low, G, high (odd steps)"),
    ("master", "int16 [plane]: the weights, of firmware without a core"),
    ("h", "int8 [batch, h_pitch], likewise"),
    ("z", "int8 [batch, z_pitch]"),
    ("dz", "int8 [batch, z_pitch]"),
    ("dh", "int8 [batch, h_pitch], zeros behind the others"),
    ("coefficients", "int8 [block, 4 * block]"),
    ("exp", "uint16 [256]"),
    ("hidden_columns", "struct bb_column, a column of C each: of relu(X W1^T)"),
    ("logits_columns", "of H W2^T"),
    ("hidden_gradient_columns", "of dZ W2"),
    ("step_2_columns", "of dZ^T H"),
    ("step_1_columns", "of dH^T X"),
    ("high_columns", "of the update's two products"),
    ("low_columns", ""),
    ("strides", "uint32 [stride_count]: distances of a batch's rows"),
    ("stride_count", ""),
    ("descriptors", "room for MLP_DESCRIPTORS of them"),
    ("seed", "of everything random"),
    ("steps", "to be taken in all"),
    ("step", "written by the firmware: steps taken"),
    ("right", "rows whose largest logit was their label's, of all steps"),
    ("cycles", "of the last step, from logits to logits"),
    ("cpu_cycles", "in which the CPU computes; in the others it waits"),
    ("product_cycles", "of the products, beside the CPU or on it"),
    ("update_cycles", "of the update, likewise"),
    ("error", "0, or why the firmware stopped"),
)
#: More than that the firmware has no room for.
CLASSES = 64
#: Two chains, which differ in the plane that the high digits are read from.
DESCRIPTORS, DESCRIPTOR_BYTES = 14, 192
_INDEX = {name: number for number, (name, _) in enumerate(FIELDS)}


def c_header() -> str:
    """sw/firmware/mlp_table.h."""
    lines = ["/* What firmware finds in memory. Generated from sw/backbeat/soc/mlp_table.py by",
             " * `python -m backbeat.soc.mlp_table`; do not edit. */",
             "#ifndef MLP_TABLE_H", "#define MLP_TABLE_H", "", "#include <stdint.h>", "",
             f"#define MLP_MAGIC       {MAGIC:#x}u", f"#define MLP_DESCRIPTORS {DESCRIPTORS}",
             f"#define MLP_CLASSES     {CLASSES}", "",
             "#ifndef MLP_TABLE_ADDRESS", f"#define MLP_TABLE_ADDRESS {BASE:#x}u", "#endif", "",
             "struct mlp_table {"]
    lines += [f"    uint32_t {name + ';':24} /* {text} */" if text else f"    uint32_t {name};"
              for name, text in FIELDS]
    return "\n".join([*lines, "};", "", "#endif", ""])


def _columns(factors: tuple[int, int], count: int) -> np.ndarray:
    out = np.zeros((count, 4), "<i4")
    out[:, 1:3] = factors
    return out


@dataclass
class Placed:
    """A perceptron in memory.

    Parameters
    ----------
    image : uint8 array [bytes]
        Main memory from address ``BASE`` on; the table is at its beginning.
    mlp : Mlp
        Whose weights, seed and step number are placed.
    x, labels : int8 array [rows, x_pitch], int array [rows]
        The training data, see :meth:`Mlp.rows`.
    steps : int
        Number of the step before which the firmware stops.

    Raises
    ------
    ValueError
        It does not fit the memory; says how large it is. Or there are too many classes.
    """

    image: np.ndarray
    mlp: Mlp
    x: np.ndarray
    labels: np.ndarray
    steps: int

    def __post_init__(self):
        m, n = self.mlp, self.mlp.network
        if self.x.shape != (len(self.labels), n.x_pitch) or self.x.dtype != np.int8:
            raise ValueError(f"x must be int8 [{len(self.labels)}, {n.x_pitch}], got {self.x.dtype} "
                             f"{list(self.x.shape)}")
        if n.classes > CLASSES:
            raise ValueError(f"classes must be at most {CLASSES}, got {n.classes}")
        planes = np.zeros((4, n.plane), np.int8)
        planes[0 if m.step_number % 2 == 0 else 3], planes[1] = m.high, m.low
        h = np.zeros((n.batch, n.h_pitch), np.int8)
        h[:, n.hidden] = m.scales.h_one
        choice = strides(len(self.x), n.batch)
        again = np.arange(len(self.x) + (n.batch - 1) * choice[-1]) % len(self.x)
        width = n.plane // n.block
        arrays = {
            "planes": planes, "master": m.master.astype("<i2"), "h": h,
            "z": np.zeros((n.batch, n.z_pitch), np.int8), "dz": np.zeros((n.batch, n.z_pitch), np.int8),
            "dh": np.zeros_like(h), "coefficients": coefficients(n.block), "exp": m.exp.astype("<u2"),
            "hidden_columns": _columns(m.factors["hidden"], n.hidden),
            "logits_columns": _columns(m.factors["logits"], n.classes),
            "hidden_gradient_columns": _columns(m.factors["hidden_gradient"], n.hidden),
            "step_2_columns": _columns(m.factors["step_2"], n.h_pitch),
            "step_1_columns": _columns(m.factors["step_1"], n.x_pitch),
            "high_columns": _columns((HIGH.multiplier, HIGH.shift), width),
            "low_columns": _columns((LOW_DIGIT.multiplier, LOW_DIGIT.shift), width),
            "strides": np.array(choice, "<u4"),
            "descriptors": np.zeros(DESCRIPTORS * DESCRIPTOR_BYTES, np.uint8),
            "labels": self.labels[again].astype(np.uint8), "x": self.x[again],
        }
        values = {name: getattr(n, name) for name in ("inputs", "hidden", "classes", "batch", "block",
                                                      "x_pitch", "h_pitch", "z_pitch", "plane", "w2")}
        values |= {"magic": MAGIC, "rows": len(self.x), "stride_count": len(choice), "seed": m.seed,
                   "steps": self.steps, "step": m.step_number}
        place = padded(4 * len(FIELDS), ALIGNMENT)
        size = place + sum(padded(array.nbytes, ALIGNMENT) for array in arrays.values())
        if size > self.image.size:
            raise ValueError(f"the perceptron and its data need {size:,} bytes of memory, there are "
                             f"{self.image.size:,}")
        for name, array in arrays.items():
            values[name] = BASE + place
            self.image[place:place + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
            place += padded(array.nbytes, ALIGNMENT)
        for name, _ in FIELDS:
            self._table[_INDEX[name]] = values.get(name, 0)

    @property
    def _table(self) -> np.ndarray:
        return self.image[:4 * len(FIELDS)].view("<u4")

    def __getitem__(self, name: str) -> int:
        """A word of the table, as it is now."""
        return int(self._table[_INDEX[name]])

    def array(self, name: str, shape: tuple[int, ...], dtype="int8") -> np.ndarray:
        """A copy of what is at an address of the table."""
        begin, dtype = self[name] - BASE, np.dtype(dtype)
        return self.image[begin:begin + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(
            shape).copy()

    def read_back(self, software: bool = False) -> Mlp:
        """A perceptron with the weights and the step number in memory.

        ``software``: of firmware without a core, which keeps 16-bit weights instead of low digits.
        """
        n = self.mlp.network
        out = Mlp(n, self.mlp.scales, self.mlp.seed)
        out.step_number = self["step"]
        planes = self.array("planes", (4, n.plane))
        out.high, out.low = planes[0 if out.step_number % 2 == 0 else 3], planes[1]
        if software:
            high = out.high
            out.set_master(self.array("master", (n.plane,), "<i2"))
            if (out.high != high).any():
                raise ValueError("the high digits in memory are not those of the weights in memory")
        return out


def main():
    HEADER.write_text(c_header())


if __name__ == "__main__":
    main()
