"""Change the array's size and its buffers, and see what a product gains.

    python examples/larger_array.py [--backend verilator] [--size 512]

The first run compiles the simulator of each array: about a minute and a half.
"""

import argparse

import numpy as np

import backbeat
from backbeat import PRESETS, Config

#: The preset to compare with, and one of our own: half as many MACs again, half the scratchpad.
ARRAYS = [PRESETS["16x16"], Config(rows=24, columns=16, depth=1024, tiles=64, requantisers=4)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="verilator", help="verilator, or model: no cycles")
    parser.add_argument("--size", type=int, default=512, help="M, N and K of the product")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    # What the recipes make. A -128 in the left operand is exact as well, but takes more steps.
    a, b = (rng.integers(-127, 128, (arguments.size, arguments.size), dtype=np.int8) for _ in "ab")
    exact = (a.astype(np.float64) @ b.astype(np.float64).T).astype(np.int32)
    cycles = []
    for config in ARRAYS:
        with backbeat.open(arguments.backend, config) as acc:
            c = acc.gemm(a, b, "nt")
            print(f"{config.name}: {config.macs} MACs per cycle, {2 * config.depth} bytes per lane, "
                  f"{2 * config.tiles} accumulator tiles")
            print(f"  result exact: {np.array_equal(c, exact)}")
            if acc.last.cycles:
                print(f"  {acc.last.cycles:,} cycles, utilisation {acc.last.utilisation:.1%}, "
                      f"{acc.last.bytes_read / 1e6:.2f} MB read")
                cycles.append(acc.last.cycles)
    if cycles:
        print(f"{cycles[0] / cycles[1]:.2f} times as fast on {ARRAYS[1].name}, of "
              f"{ARRAYS[1].macs / ARRAYS[0].macs:.2f} possible")


if __name__ == "__main__":
    main()
