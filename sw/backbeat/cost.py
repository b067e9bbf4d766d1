"""What a product costs: cycles and counts of accesses at every level, from its plan."""

from dataclasses import dataclass, fields
from functools import lru_cache

from backbeat_rtl.config import WORD, Config
from backbeat_rtl.isa import MAX_K

from .memory import Memory, padded
from .planner import sketch
from .plans import Plan, Problem, ceil, chunks
from .products import Geometry
from .workloads import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Product

__all__ = ["Cost", "cost", "problem"]


@dataclass(frozen=True)
class Cost:
    """Cycles, and what happens in them, of a product (or of several: they add up).

    Attributes
    ----------
    macs : int
        That were asked for.
    cycles : int
        From the doorbell to the last acknowledgement.
    array_cycles : int
        In which the array is fed; it computes whole tiles.
    memory_cycles : int
        That the memory takes for the bytes which are moved.
    dram_read, dram_written : int
        Bytes.
    compulsory : int
        Bytes of each operand read once and the result written once.
    scratchpad_written, scratchpad_read : int
        Bytes of operands.
    accumulator_written, accumulator_read : int
        Values of 32 bits.
    register_bytes : int
        Bytes that go into registers of elements: two operands and a sum of 32 bits a MAC.
    """

    macs: int = 0
    cycles: int = 0
    array_cycles: int = 0
    memory_cycles: int = 0
    dram_read: int = 0
    dram_written: int = 0
    compulsory: int = 0
    scratchpad_written: int = 0
    scratchpad_read: int = 0
    accumulator_written: int = 0
    accumulator_read: int = 0
    register_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, count: int) -> "Cost":
        """That of so many of the same."""
        return Cost(*(getattr(self, f.name) * count for f in fields(self)))

    @property
    def dram(self) -> int:
        """Bytes read and written."""
        return self.dram_read + self.dram_written

    @property
    def stalls(self) -> int:
        """Cycles in which the array is not fed: it waits for memory, first panels or last results."""
        return self.cycles - self.array_cycles

    def utilisation(self, config: Config) -> float:
        """Part of what the array could have multiplied in these cycles."""
        return self.macs / (self.cycles * config.macs) if self.cycles else 0.0


def _moves(product: Product) -> Geometry:
    g = product.geometry
    return Geometry.of((g.height, g.width), (g.taps_y, g.taps_x), g.stride, g.padding, g.dilation)


def problem(product: Product, config: Config, memory: Memory, int8: bool) -> Problem:
    """What the planner is asked for this product, as the driver would ask.

    Channels are filled up to whole words; images of a few are gathered by the host beforehand, as
    :class:`.products.Conv2d` and its gradients do. ``int8``: the result is requantised.
    """
    a_across, b_across = product.op[0] == "t", product.op[1] == "n"
    m, n, k, a_inside, b_inside = product.m, product.n, product.k, None, None
    g = product.geometry
    if g is not None:
        moves, taps = _moves(product), g.taps_y * g.taps_x
        channels, filters = padded(g.channels), padded(g.filters)
        if product.kind == INPUT_GRADIENT:
            k, a_inside = taps * filters, moves.transposed.bytes_inside((g.batch, *moves.out, filters))
        elif not moves.spread(g.channels, WORD) or product.kind == WEIGHT_GRADIENT and int8:
            inside = moves.patches.bytes_inside((g.batch, g.height, g.width, channels))
            if product.kind == FORWARD:
                k, a_inside = taps * channels, inside
            else:
                n, b_inside = taps * channels, inside
    return Problem(m, n, k, a_across, b_across, config, memory, 1 if int8 else 4, int8, False, a_inside,
                   b_inside)


def _counted(p: Problem, plan: Plan, product: Product) -> Cost:
    c = p.config
    a_tiles = p.m // plan.a_panel * ceil(plan.a_panel, c.rows) + ceil(p.m % plan.a_panel, c.rows)
    b_tiles = (p.n // plan.b_panel * ceil(plan.b_panel, c.columns)
               + ceil(p.n % plan.b_panel, c.columns))
    values, runs = p.m * p.n, chunks(p.k, plan.chunk, plan.last_chunk)
    return Cost(
        macs=product.macs, cycles=plan.cycles, array_cycles=a_tiles * b_tiles * p.k,
        memory_cycles=round((plan.bytes_read + plan.bytes_written) / p.memory.effective),
        dram_read=plan.bytes_read, dram_written=plan.bytes_written,
        compulsory=product.compulsory_bytes(p.result_bytes),
        scratchpad_written=plan.a_loads * plan.a_bytes + plan.b_loads * plan.b_bytes,
        scratchpad_read=p.k * (p.m * b_tiles + p.n * a_tiles),
        accumulator_written=values * runs, accumulator_read=values * runs,
        register_bytes=6 * product.macs)


@lru_cache(maxsize=1 << 18)
def _cost(product: Product, config: Config, memory: Memory, int8: bool, walk: int) -> Cost:
    parts = ceil(product.k, MAX_K)
    if parts > 1:       # INT32 cannot sum up more; the host adds the parts
        whole = problem(product, config, memory, int8)
        p = Problem(whole.m, whole.n, ceil(product.k, parts), whole.a_across, whole.b_across, config,
                    memory, 4, False, False, whole.a_inside and whole.a_inside // parts,
                    whole.b_inside and whole.b_inside // parts)
        one = Product(product.name, product.kind, product.op, product.m, product.n, p.k)
        found = _counted(p, sketch(p, walk), one).times(parts)
        return Cost(**vars(found) | {"macs": product.macs,
                                     "compulsory": product.compulsory_bytes(4)})
    p = problem(product, config, memory, int8)
    return _counted(p, sketch(p, walk), product)


def cost(product: Product, config: Config, memory: Memory, int8: bool | None = None,
         walk: int = 1600) -> Cost:
    """Cost of one product; its ``count`` is not looked at.

    Parameters
    ----------
    product : Product
    config : Config
        With a memory port.
    memory : Memory
    int8 : bool, optional
        Requantise the result. If not given: all but weight gradients, which are summed up.
    walk : int
        See :func:`.planner.sketch`: 0 is quicker, and knows no latency.

    Raises
    ------
    NoPlanError
        The core's buffers are too small for it.
    """
    if int8 is None:
        int8 = product.kind != WEIGHT_GRADIENT
    # Products that differ by name or count only are one.
    plain = Product("", product.kind, product.op, product.m, product.n, product.k, product.geometry)
    return _cost(plain, config, memory, int8, walk)
