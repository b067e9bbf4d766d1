"""What ``backbeat train`` tells beside accuracy and cycles: numerical health, and where memory goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from ..files import write_atomically
from .options import table_console, write_json

__all__ = ["tell_memory", "watched"]


@contextmanager
def watched(console: Console, trainer, run) -> Iterator[Callable[[], None]]:
    """While it lasts, the numbers of the run are watched; gives what tells of new findings.

    At the end, however it comes, the table is printed and ``health.json`` written.
    """
    from ..train.health import Health

    health = Health(trainer.model, trainer.report.state if trainer.settings.offloads else None,
                    trainer.optimiser)
    told = set()

    def tell():
        for finding in health.findings():
            if (finding.layer, finding.kind) not in told:
                told.add((finding.layer, finding.kind))
                console.print(f"warning: {finding}", style="yellow", markup=False)

    trainer.health = health
    try:
        with health:
            yield tell
    finally:
        trainer.health = None
        if health.samples:
            tell()
            _table(console, health.table())
            if not told:
                console.print("health: nothing to worry about")
            if not trainer.ranks.rank:
                write_json(health.as_dict(), str(run.directory / "health.json"))


def tell_memory(console: Console, trainer, run, plot: bool):
    """Makes one step with a trainer that is not needed any more, and tells where its memory went.

    Writes ``memory.json`` and, with ``plot``, ``memory.png``.
    """
    from ..train.account import account

    macs = (lambda: trainer.acc.stats.macs) if trainer.settings.offloads else None
    found = account(trainer.model, lambda: trainer.fit(stop=lambda: True), macs, trainer.optimiser)
    _table(console, found.table())
    write_json(found.as_dict(), str(run.directory / "memory.json"))
    if plot:
        from ..train.account_plot import plot as drawn
        write_atomically(run.directory / "memory.png", drawn(found))


def _table(console: Console, table):
    """As wide as tables are, on the console's stream."""
    if not console.quiet:
        table_console(stderr=console.stderr).print(table)
