"""The loop nest: its loads, runs and stores are those of three nested loops with FIFO banks."""

from collections import deque

import pytest

from backbeat_rtl.chain import FIELDS
from backbeat_rtl.config import WORD, Config
from backbeat_rtl.datapath import Datapath
from backbeat_rtl.descriptor_model import check
from backbeat_rtl.gather import Move, Rectangle
from backbeat_rtl.isa import FETCHED_WORDS, DescriptorOp, Error, encode_descriptor
from backbeat_rtl.load_addresses import Target
from backbeat_rtl.loop_nest import LoopNest
from backbeat_rtl.readout import Readout
from backbeat_rtl.store_unit import StoreUnit

from .harness import Simulation
from .memory_image import words_of
from .streams import Pulses, Sink, bits, cycle, fields

#: Kept, since Amaranth warns of a module that is dropped without having been built.
_NEIGHBOURS = []


def _nest(config: Config) -> Simulation:
    datapath, readout = Datapath(config), Readout(config)
    store = StoreUnit(start=readout.start, rows=config.rows,
                      columns=config.stripe * config.columns)
    _NEIGHBOURS.extend((datapath, readout, store))
    return Simulation(LoopNest, config=config, fields=FIELDS, panel=datapath.panel,
                      run=datapath.sequencer.run, store=store.order)


#: Banks of four words and of two.
NESTS = {config.name: _nest(config) for config in (
    Config.of("4x4"), Config(rows=6, columns=14, depth=64, tiles=8, requantisers=2))}


class Ring:
    """Places filled in turn; what is still in one need not come again."""

    def __init__(self, places: int):
        self.places, self.next, self.held = places, 0, {}

    def forget(self):
        self.held.clear()

    def find(self, key) -> tuple[int, bool]:
        """Where it is or comes, and whether it has to be loaded."""
        if key in self.held:
            return self.held[key], False
        place, self.next = self.next, (self.next + 1) % self.places
        self.held = {other: at for other, at in self.held.items() if at != place} | {key: place}
        return place, True


class Model:
    """Three loops. What goes on from product to product: rings, halves, and counts."""

    def __init__(self, config: Config):
        self.config, self.table = config, Ring(2)
        self.banks = {"a": Ring(config.banks), "b": Ring(config.banks)}
        self.loads = self.runs = self.stores = 0

    def _panel(self, d, port: str, extent: int, lanes: int, begin: int, k: int, depth: int, orders):
        """Where it is; loads it if it is not there. Its tiles, rows (columns) of the last, bank."""
        tiles, last = -(-extent // lanes), (extent - 1) % lanes + 1
        bank, needed = self.banks[port].find((begin, k))
        if needed:
            across = d[f"{port}_across"]
            place, size = (begin, k), (extent, depth)
            self.loads += 1
            orders["load"].append({
                "target": Target.A if port == "a" else Target.B,
                "place": place[::-1] if across else place, "size": size[::-1] if across else size,
                "panel": {"depth": depth, "tiles": tiles, "last": last, "across": across,
                          "start": bank * self.config.bank // WORD}})
        return tiles, last, bank

    def orders(self, d: dict[str, int]) -> dict[str, list[dict]]:
        """Of one descriptor, by kind, in order."""
        c, orders = self.config, {"load": [], "run": [], "store": []}
        for ring in (self.table, *self.banks.values()):
            ring.forget()
        rows, columns = range(0, d["m"], d["a_panel"]), range(0, d["n"], d["b_panel"])
        places = [(i, j) for j in columns for i in rows] if d["columns_outer"] else [
            (i, j) for i in rows for j in columns]
        for number, (i, j) in enumerate(places):
            height, width = min(d["a_panel"], d["m"] - i), min(d["b_panel"], d["n"] - j)
            half = self.stores % 2
            k = depth = 0
            while k + depth < d["k"]:
                k += depth
                left = d["k"] - k
                depth = left if left <= max(d["chunk"], d["last_chunk"]) else d["chunk"]
                a_tiles, a_last, a_bank = self._panel(d, "a", height, c.rows, i, k, depth, orders)
                b_tiles, b_last, b_bank = self._panel(d, "b", width, c.columns, j, k, depth, orders)
                self.runs += 1
                orders["run"].append({
                    "depth": depth, "a_tiles": a_tiles, "b_tiles": b_tiles, "c_half": half,
                    "a_start": a_bank * c.bank // WORD, "b_start": b_bank * c.bank // WORD,
                    "accumulate": k > 0, "loads": self.loads % 256, "stores": (self.stores - 1) % 256})
            table = {}
            if d["requantise"]:
                table["table_half"], needed = self.table.find(j)
                if needed:
                    self.loads += 1
                    orders["load"].append({"target": Target.TABLE, "place": (0, 16 * j),
                                           "size": (1, 16 * width), "table": table["table_half"]})
            inner, extent, panel = (i, "m", "a_panel") if d["columns_outer"] else (j, "n", "b_panel")
            inner_last = inner + d[panel] >= d[extent]
            orders["store"].append({
                "rows": height, "columns": width, "a_tiles": a_tiles, "b_tiles": b_tiles,
                "a_last": a_last, "b_last": b_last, "c_half": half, **table, "place": (i, j),
                "sum_first": inner == 0, "emit": d["sums"] and inner_last, "first": number == 0,
                "last": number == len(places) - 1, "empty": 0, "runs": self.runs % 256,
                "loads": self.loads % 256})
            self.stores += 1
        return orders


class Places:
    """Turns the moves of a target's rectangles into places."""

    def __init__(self):
        self.here, self.after = [0, 0], [0, 0]

    def begin(self, moves: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        self.here = [{Move.ZERO: 0, Move.SAME: here, Move.NEXT: after}[move]
                     for move, here, after in zip(moves, self.here, self.after, strict=True)]
        self.after = [begin + extent for begin, extent in zip(self.here, size, strict=True)]
        return tuple(self.here)


class Carrier:
    """Takes orders of one kind, in words of the model, and lets go of their buffers some time later.

    Attributes
    ----------
    using : deque
        What the orders not yet done need, in order: (a_bank, b_bank) or a half of the table.
    """

    def __init__(self, nest: LoopNest, places: dict):
        self.nest, self.places = nest, places
        self.words = nest.config.bank // WORD

    def load(self, word: int) -> dict:
        order = fields(self.nest.o_load.payload.shape(), word)
        rectangle = fields(Rectangle, order.rectangle)
        size = rectangle.rows, rectangle.bytes
        place = self.places.setdefault(order.target, Places()).begin(
            (rectangle.row_move, rectangle.column_move), size)
        out = {"target": order.target, "place": place, "size": size}
        if order.target == Target.TABLE:
            return out | {"table": order.table_half}
        panel = fields(self.nest.o_load.payload.shape()["panel"].shape, order.panel)
        return out | {"panel": vars(panel)}

    def run(self, word: int) -> dict:
        order = fields(self.nest.o_run.payload.shape(), word)
        run = fields(self.nest.o_run.payload.shape()["run"].shape, order.run)
        return vars(run) | {"loads": order.loads, "stores": order.stores}

    def store(self, word: int) -> dict:
        order = vars(fields(self.nest.o_store.payload.shape(), word))
        moves = order.pop("row_move"), order.pop("column_move")
        order["place"] = self.places.setdefault("store", Places()).begin(
            moves, (order["rows"], order["columns"]))
        return order


def random_product(rng, config: Config) -> dict[str, int]:
    """Panels and chunks of all sizes, most of which fit, and one that is larger than the product."""
    m, n, k = (int(rng.choice([1, rng.integers(1, 20), rng.integers(1, 90)])) for _ in range(3))
    if rng.random() < 0.1:
        k = int(rng.integers(500, 3000))
    units = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 4]))
    a_panel, b_panel, chunk = (WORD * unit for unit in units)
    d = {"op": DescriptorOp.GEMM, "m": m, "n": n, "k": k, "a_panel": a_panel, "b_panel": b_panel,
         "chunk": chunk, "last_chunk": int(rng.choice([0, rng.integers(4 * WORD)])),
         "a_pitch": 2**20, "b_pitch": 2**20, "c_pitch": 2**20}
    flags = ("a_across", "b_across", "requantise", "columns_outer")
    d |= {name: int(rng.integers(2)) for name in flags}
    if not d["a_across"] and rng.random() < 0.5:
        d["a_panel"] = int(rng.integers(1, 3 * config.rows))
    return d | {"sums": int(d["columns_outer"] and rng.random() < 0.5)}


def held_product(rng, config: Config) -> dict[str, int]:
    """As many panels of one operand as there are banks, each used by several runs in a row."""
    chunks = int(rng.choice([1, 2, 4]))
    d = random_product(rng, config) | {"columns_outer": int(rng.integers(2)), "sums": 0}
    d |= {"a_panel": WORD, "b_panel": WORD, "chunk": WORD, "last_chunk": 0, "k": WORD * chunks}
    inner, outer = ("m", "n") if d["columns_outer"] else ("n", "m")
    return d | {inner: WORD * (config.banks // chunks), outer: WORD * int(rng.integers(4, 16))}


def far_product(rng, config: Config, size: str) -> dict[str, int]:
    """Of one size so many panels that its count needs 17 bits, the highest for an odd number of panels:
    what went wrong with one of them does not go back with the next."""
    panel, lanes = {"m": ("a_panel", config.rows), "n": ("b_panel", config.columns)}[size]
    d = {"m": 1, "n": 1, "k": 1, "a_panel": WORD, "b_panel": WORD, "chunk": WORD, "last_chunk": 0}
    d |= {"op": DescriptorOp.GEMM, "a_pitch": 2**20, "b_pitch": 2**20, "c_pitch": 2**20}
    d |= {"a_across": 0, "b_across": 0, "requantise": 0, "sums": 0}
    d["columns_outer"] = int(rng.integers(2))
    lanes *= min(config.tiles, config.bank // WORD)
    d[panel] = lanes // WORD * WORD
    return d | {size: 2**16 + d[panel] * (2 * int(rng.integers(20)) + 1)}


@pytest.mark.parametrize("config", NESTS)
@pytest.mark.parametrize(("stall", "slow"), [(0, 4), (0, 90), (0, 200), (0.3, 30), (0.6, 4)])
def test_orders_match_model(config, stall, slow):
    NESTS[config].run(orders_match_model, config=config, stall=stall, slow=slow)


@pytest.mark.parametrize("far", ["m", "n"])
def test_orders_of_a_long_product_match_model(far):
    NESTS["4x4"].run(orders_match_model, config="4x4", stall=0, slow=1, far=far)


async def orders_match_model(dut, rng, config, stall, slow, far=""):
    """Every field, and no bank or table is loaded while an order that needs it is under way."""
    nest = NESTS[config].component
    model, sinks = Model(nest.config), {
        kind: Sink(dut, f"o_{kind}", rng, stall) for kind in ("load", "run", "store")}
    done, misfit = Pulses(dut, "o_done"), Pulses(dut, "o_misfit")
    carrier = Carrier(nest, {})
    time, fitting, held = 0, 0, 0
    runs, stores = deque(), deque()     # when each lets go of its buffers, and of which
    for number in range(1 if far else 90):
        d = far_product(rng, nest.config, far) if far else (
            held_product if slow > 100 or rng.random() < 0.1 else random_product)(rng, nest.config)
        raw = encode_descriptor(**d)
        error, _ = check(words_of(raw), nest.config)
        assert error in (Error.NONE, Error.PLAN), error
        expected = model.orders(d) if not error else {kind: [] for kind in sinks}
        got = {kind: [] for kind in sinks}
        dut.i_fields.value = int.from_bytes(raw[:4 * FETCHED_WORDS], "little")
        done.values.clear()
        misfit.values.clear()
        begin, quiet = 1, 0
        while not (done.values or misfit.values) or runs or stores:
            dut.i_begin.value, begin = begin, 0
            fed = runs[0][1] if runs and runs[0][0] <= time else None
            free = stores[0][1] if stores and stores[0][0] <= time else None
            a_bank, b_bank = fed or (0, 0)
            dut.i_fed.value = bits(nest.i_fed.shape(), valid=fed is not None, a_bank=a_bank,
                                   b_bank=b_bank)
            dut.i_table_free.value = bits(nest.i_table_free.shape(), valid=free is not None,
                                          half=free or 0)
            moved = await cycle(dut, *sinks.values(), done, misfit)
            quiet = 0 if moved or runs or stores else quiet + 1
            assert quiet < 200, f"product {number} {d}: nothing moves"
            for kind, sink in sinks.items():
                for word in sink.words:
                    order = getattr(carrier, kind)(word)
                    n = len(got[kind])
                    got[kind].append(order)
                    wanted = expected[kind][n] if n < len(expected[kind]) else None
                    found = order if wanted is None else {name: order[name] for name in wanted}
                    assert found == wanted, (f"product {number} {d}, {kind} {n}: got {found}, "
                                             f"expected {wanted}")
                    if kind == "load":
                        bank = order["panel"]["start"] // carrier.words if "panel" in order else 0
                        users = [half for _, half in stores] if order["target"] == Target.TABLE else [
                            banks[order["target"]] for _, banks in runs]
                        place = order.get("table", bank)
                        assert place not in users, f"product {number} {d}, load {n}: {place} is in use"
                    later = time + 1 + int(rng.integers(slow))
                    if kind == "run":
                        runs.append((later, (order["a_start"] // carrier.words,
                                             order["b_start"] // carrier.words)))
                    if kind == "store" and d["requantise"]:
                        stores.append((later, order["table_half"]))
                sink.words.clear()
            for buffers, let_go in ((runs, fed), (stores, free)):
                if let_go is not None:
                    buffers.popleft()
            time += 1
        counts = {kind: (len(got[kind]), len(expected[kind])) for kind in sinks}
        assert all(found == wanted for found, wanted in counts.values()), f"{d}: {counts}"
        assert (len(done.values), len(misfit.values)) == ((0, 1) if error else (1, 0)), f"{d}: {error}"
        fitting += not error
        held += 2 * counts["run"][0] - counts["load"][0] > 0
    assert far or fitting > 15 and held > 5, f"{fitting} products fit, {held} use a panel twice"
