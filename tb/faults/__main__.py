"""Has everything go wrong that can, and sees what comes of it: ``make faults``."""

import argparse
import json
import random
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from backbeat.cli.options import table_console
from backbeat.errors import ToolError
from backbeat.files import write_atomically

from ..harness import BUILD
from .registry import CAMPAIGNS, carry_out
from .tally import Tally

__all__ = ["main"]


def chosen(only: str | None, config: str | None) -> list[tuple[str, str]]:
    """Names and configurations; ``only`` is part of the name, or several such parts with commas."""
    parts = only.split(",") if only else [""]
    return [(campaign.name, of) for campaign in CAMPAIGNS.values() for of in campaign.configs
            if any(part in campaign.name for part in parts) and config in (None, of)]


def one(name: str, config: str, seed: int, short: bool, progress: Progress) -> dict:
    """A campaign's figures."""
    task = progress.add_task(f"{name} {config}", total=None)
    tally, start = Tally(lambda done, total: progress.update(task, completed=done, total=total)), (
        time.monotonic())
    missing = ""
    try:
        carry_out(name, config, seed, tally, short)
    except ToolError as error:
        missing = str(error)
    progress.remove_task(task)
    return {"name": name, "config": config, "says": CAMPAIGNS[name].says, "positions": tally.positions,
            "faults": tally.faults, "failures": tally.failures,
            "seconds": round(time.monotonic() - start, 1), "seed": seed, "short": short,
            "missing": missing}


def main():
    parser = argparse.ArgumentParser(prog="python -m tb.faults", description=__doc__)
    parser.add_argument("--only", help="part of a campaign's name, or several with commas")
    parser.add_argument("--config", help="of the arrays only that one")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--short", action="store_true", help="as much as make test does")
    parser.add_argument("--list", action="store_true", help="list the campaigns")
    parser.add_argument("--json", type=Path, default=BUILD.with_name("faults.json"))
    options = parser.parse_args()
    pairs = chosen(options.only, options.config)
    if not pairs:
        parser.error(f"no campaign is called so: --only {options.only}, --config {options.config}; "
                     f"there are {', '.join(CAMPAIGNS)}")
    if options.list:
        for name in dict(pairs):
            print(f"{name:16} {CAMPAIGNS[name].says}")
        return

    console, results = table_console(), []
    console.print(f"seed {options.seed}")
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                  TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        for name, config in pairs:
            results.append(one(name, config, options.seed, options.short, progress))
    table = Table("campaign", "config", "positions", "faults", "failures", "seconds")
    for r in results:
        colour = "red" if r["failures"] else "yellow" if r["missing"] else "green"
        table.add_row(r["name"], r["config"], f"{r['positions']:,}", f"{r['faults']:,}",
                      f"[{colour}]{len(r['failures'])}[/]", f"{r['seconds']:.1f}")
    console.print(table)
    for r in results:
        if r["missing"]:
            console.print(f"{r['name']} was left out: {r['missing']}", markup=False, soft_wrap=True)
        for failure in r["failures"]:
            console.print(f"\n[bold]{r['name']} {r['config']}[/]: ", end="")
            console.print(failure, markup=False, highlight=False, soft_wrap=True)
            console.print(f"replay with python -m tb.faults --only {r['name']} --config {r['config']} "
                          f"--seed {options.seed}{' --short' * options.short}", soft_wrap=True)
    write_atomically(options.json, (json.dumps(results, indent=2) + "\n").encode())
    sys.exit(any(r["failures"] for r in results))


if __name__ == "__main__":
    main()
