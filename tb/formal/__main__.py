"""Proves the properties of the RTL, two at a time: ``make formal``."""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from backbeat.cli.options import table_console
from backbeat.files import write_atomically

from .job import run
from .registry import find, properties
from .solve import BUILD, Result

#: Solvers at a time.
PROCESSES = 2


def everything(jobs: dict) -> dict:
    """Results of ``{key: callable}``, with progress on stderr."""
    results = {}
    progress = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                        TimeElapsedColumn(), console=Console(stderr=True))
    with progress, ThreadPoolExecutor(PROCESSES) as pool:
        task = progress.add_task("Proving", total=len(jobs))
        futures = {pool.submit(job): key for key, job in jobs.items()}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {key: results[key] for key in jobs}


def explain(result: Result, console: Console):
    """Why a property is not proved: the claim, the trace and what it says at its end."""
    console.print(f"\n[bold]{result.name}[/] {result.outcome}: {result.detail}")
    if result.trace:
        at = "" if result.step is None else f" (the last step, {result.step})"
        console.print(f"  trace: {result.trace}{at}", soft_wrap=True)
        for name, value in result.values.items():
            console.print(f"    {name} = {value}", highlight=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="properties or blocks; all if none")
    parser.add_argument("--faults", action="store_true",
                        help="break the RTL in every way that is known to be refuted instead")
    parser.add_argument("--list", action="store_true", help="list the properties")
    parser.add_argument("--json", type=Path,
                        help="build/formal.json, with --faults build/formal-faults.json")
    options = parser.parse_args()
    try:
        chosen = [prop for name in options.names for prop in find(name)] or [*properties().values()]
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        for prop in chosen:
            print(f"{prop.name:24} {prop.says}")
        return
    console, start = table_console(), time.monotonic()
    jobs = {(prop.name, fault and fault.name): (lambda p=prop, f=fault: run(p.name, f))
            for prop in chosen for fault in (prop.faults if options.faults else [None])}
    if not jobs:
        parser.error("no fault is known for " + ", ".join(options.names))
    results = everything(jobs)

    wanted = "refuted" if options.faults else "proved"
    table = Table("property", "fault" if options.faults else "module", "method", "result", "seconds")
    by_name = {prop.name: prop for prop in chosen}
    for (name, fault), result in results.items():
        prop = by_name[name]
        colour = "green" if result.outcome == wanted else "red"
        table.add_row(name, fault or f"{prop.module} {prop.parameters}", prop.scope,
                      f"[{colour}]{result.outcome}[/]", f"{result.seconds:.1f}")
    console.print(table)
    wrong = [result for result in results.values() if result.outcome != wanted]
    for result in wrong:
        explain(result, console)
    path = options.json or BUILD.with_name("formal-faults.json" if options.faults else "formal.json")
    write_atomically(path, (json.dumps([
        {**result.__dict__, "fault": fault, "says": by_name[name].says, "module": by_name[name].module,
         "parameters": by_name[name].parameters, "method": by_name[name].scope}
        for (name, fault), result in results.items()], indent=2) + "\n").encode())
    console.print(f"{len(results) - len(wrong)} of {len(results)} {wanted}, "
                  f"{time.monotonic() - start:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
