"""Many cores and memories on many workloads: what each reaches, and which of them nothing beats."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

from backbeat_rtl.config import PRESETS, Config

from .cost import Cost, cost
from .energy import DEFAULT, Energies, breakdown
from .errors import ToolError
from .hardware import Estimator
from .memory import Memory
from .plans import NoPlanError
from .workloads import Workload, load

__all__ = ["OBJECTIVES", "Journal", "Point", "client", "evaluate", "pareto", "parse_config", "points",
           "run"]

#: What is to be high (1) or low (-1) in a Pareto front.
OBJECTIVES = {"gmacs_per_s": 1, "lut": -1, "dsp": -1, "bram": -1, "pj_per_mac": -1}


@dataclass(frozen=True)
class Point:
    """One core with one memory on one workload.

    Attributes
    ----------
    config : Config
    bandwidth : float
        Bytes per cycle.
    workload : str
        As :func:`.workloads.load` takes it.
    batch, tokens : int, optional
    """

    config: Config
    bandwidth: float
    workload: str
    batch: int | None = None
    tokens: int | None = None

    @property
    def key(self) -> str:
        """Tells points apart, in this run and in those to come."""
        return json.dumps([*asdict(self.config).values(), self.bandwidth, self.workload, self.batch,
                           self.tokens])


def parse_config(text: str) -> Config:
    """A preset, or ROWSxCOLUMNS with what else is to be different: ``24x16:depth=1024,tiles=32``.

    An array that is no preset has the default buffers, and as many requantisers as it can have.

    Raises
    ------
    ValueError
        Names what is wrong with it.
    """
    name, _, changes = text.partition(":")
    try:
        rows, columns = (int(part) for part in name.split("x"))
        settings = {key: int(value) for key, _, value in
                    (change.partition("=") for change in changes.split(",") if change)}
    except ValueError:
        raise ValueError("an array must be ROWSxCOLUMNS, with NAME=NUMBER,... behind a colon if "
                         f"anything else is to be different, got {text!r}") from None
    known = set(asdict(PRESETS["16x16"])) - {"rows", "columns", "memory"}
    if unknown := set(settings) - known:
        raise ValueError(f"{text!r}: there is no {', '.join(sorted(unknown))}; there are "
                         f"{', '.join(sorted(known))}")
    fitting = max(n for n in (1, 2, 4) if n == 1 or columns >= 4 * n)
    base = PRESETS.get(name) or Config(rows, columns, requantisers=fitting)
    return replace(base, **settings)


def points(configs: Iterable[Config], bandwidths: Iterable[float], workloads: Iterable[str],
           batch: int | None = None, tokens: int | None = None) -> list[Point]:
    """All of these with each other; ``tokens`` where there are any."""
    out = []
    for config, bandwidth, name in product(configs, bandwidths, workloads):
        replace(Memory(), bandwidth=bandwidth)      # says what is wrong with it
        out.append(Point(config, bandwidth, name, batch, tokens if _loaded(name, batch, None).tokens
                         else None))
    return out


@dataclass(frozen=True)
class _Loaded:
    workload: Workload
    tokens: bool


@lru_cache(maxsize=64)
def _loaded(name: str, batch: int | None, tokens: int | None) -> _Loaded:
    from .workloads import NETWORKS
    known = NETWORKS.get(name)
    return _Loaded(load(name, batch, tokens), bool(known and known.tokens))


def evaluate(point: Point, energies: Energies = DEFAULT, clock: float = 100e6,
             estimator: Estimator | None = None) -> dict:
    """Figures of a training step, from bounds of cycles; with ``error`` if a product does not fit."""
    memory = replace(Memory(), bandwidth=point.bandwidth)
    workload = _loaded(point.workload, point.batch, point.tokens).workload
    found = {"key": point.key, "config": asdict(point.config), "array": point.config.name,
             "bandwidth": point.bandwidth, "workload": point.workload, "batch": workload.batch}
    try:
        total = sum((cost(p, point.config, memory, walk=0).times(p.count)
                     for p in workload.products()), Cost())
    except NoPlanError as error:
        return found | {"error": str(error)}
    seconds, joules = total.cycles / clock, sum(breakdown(total, energies).values()) * 1e-12
    hardware = (estimator or Estimator()).resources(point.config)
    return found | asdict(hardware) | {
        "cycles": total.cycles, "macs": total.macs, "utilisation": total.utilisation(point.config),
        "samples_per_s": workload.batch / seconds, "gmacs_per_s": total.macs / seconds / 1e9,
        "dram_bytes": total.dram, "energy_j": joules, "pj_per_mac": joules / total.macs * 1e12}


def pareto(found: list[dict], objectives: dict[str, int] = OBJECTIVES) -> list[dict]:
    """Those that no other one beats in one objective without being worse in another; in their order.

    Points with an error are left out.
    """
    usable = [f for f in found if "error" not in f]
    values = [tuple(sign * f[name] for name, sign in objectives.items()) for f in usable]
    return [f for f, mine in zip(usable, values, strict=True) if not any(
        other != mine and all(o >= m for o, m in zip(other, mine, strict=True)) for other in values)]


class Journal:
    """Results that have been found, a line of JSON each, so that a run can go on where one ended.

    Parameters
    ----------
    path : Path
        What an earlier run has left there is read; a last line that a crash has cut off is dropped.
    settings : dict
        Whatever else results depend on.

    Raises
    ------
    ValueError
        It is of other settings, or no such file.
    """

    def __init__(self, path: Path, settings: dict):
        self.path, self.found = path, {}
        head = json.dumps({"settings": settings}, sort_keys=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        whole = text[:text.rfind("\n") + 1]
        if not whole:
            whole = head + "\n"
        first, *lines = whole.splitlines()
        if first != head:
            raise ValueError(f"{path} is of a sweep with other settings ({first[:200]}); give another "
                             "folder, or remove it")
        try:
            for line in lines:
                result = json.loads(line)
                self.found[result["key"]] = result
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {len(self.found) + 2}: {error!r}; remove that line or the "
                             "file") from None
        self._file = open(path, "r+" if path.exists() else "w")
        self._file.truncate(0)
        self._file.write(whole)
        self._file.flush()

    def missing(self, wanted: list[Point]) -> list[Point]:
        """Those without a result."""
        return [point for point in wanted if point.key not in self.found]

    def add(self, result: dict):
        """Keeps it, in the file too."""
        self.found[result["key"]] = result
        self._file.write(json.dumps(result) + "\n")
        self._file.flush()

    def close(self):
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_):
        self.close()


@contextmanager
def client(scheduler: str | None = None, workers: int | None = None):
    """A Dask client of so many processes here (one per core if not given), or of a cluster's scheduler.

    Raises
    ------
    ToolError
        Dask is not installed, or nobody answers there.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ToolError("sweeps are run by Dask, which is not installed: pip install -c constraints.txt "
                        f"-e '.[sweep]' ({error})") from None
    with ExitStack() as stack:
        if scheduler:
            try:
                found = stack.enter_context(Client(scheduler, timeout=5))
            except (OSError, TimeoutError) as error:
                raise ToolError(f"no Dask scheduler answers at {scheduler}: {error}") from None
        else:
            cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1,
                                                       dashboard_address=None, silence_logs=50))
            found = stack.enter_context(Client(cluster))
        yield found


def run(client, wanted: list[Point], **options) -> Iterator[dict]:
    """Evaluates points on a Dask client as they are done; those of a worker that is lost elsewhere.

    Raises
    ------
    Exception
        Whatever a point has raised.
    """
    from distributed import as_completed

    futures = client.map(evaluate, wanted, **options, pure=False, retries=3,
                         key=[f"point-{n}" for n in range(len(wanted))])
    for _, result in as_completed(futures, with_results=True):
        yield result
