"""Counts the small faults that the test benches notice: ``make mutate``."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from backbeat.cli.options import table_console
from backbeat.files import write_atomically

from .campaign import BUILD, PROCESSES, Campaign, Outcome
from .reasons import reason
from .subjects import SUBJECTS

#: Least share of the mutants that have to be noticed.
FLOOR = 0.95
FATES = "killed", "equivalent", "survived"


def outcomes(names, share: float, again: bool, retry: bool,
             console: Console) -> dict[str, list[Outcome]]:
    """Of each subject, with progress; those of a run that was broken off are taken from it."""
    found = {}
    progress = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                        TimeElapsedColumn(), console=console)
    with progress:
        for name in names:
            task = progress.add_task(f"{name}: building", total=None)
            campaign = Campaign(SUBJECTS[name], share)
            done = {} if again else campaign.known(retry)
            left = [mutant for mutant in campaign.mutants if mutant.number not in done]
            if left:
                campaign.prepare()
            progress.update(task, description=name, total=len(campaign.mutants), completed=len(done))
            with ThreadPoolExecutor(PROCESSES) as pool:
                futures = [pool.submit(campaign.outcome, mutant) for mutant in left]
                try:
                    for future in as_completed(futures):
                        outcome = future.result()
                        done[outcome.mutant.number] = outcome
                        campaign.keep(done.values())
                        progress.advance(task)
                        if outcome.fate == "survived":
                            progress.console.print(f"{name}: survived: {outcome.mutant}", markup=False,
                                                   soft_wrap=True)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            found[name] = [done[number] for number in sorted(done)]
            fates = Counter(outcome.fate for outcome in found[name])
            said = ", ".join(f"{fates[fate]} {fate}" for fate in FATES)
            progress.console.print(f"{name}: {said}", markup=False)
    return found


def score(fates: Counter) -> float:
    """Share of the mutants that are no equivalents which were killed."""
    return fates["killed"] / ((fates["killed"] + fates["survived"]) or 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tb.mutation", description=__doc__)
    parser.add_argument("subject", nargs="*", help=f"all if none is named: {', '.join(SUBJECTS)}")
    parser.add_argument("--share", type=float, default=1, help="of the mutants of each, 0...1")
    parser.add_argument("--floor", type=float, default=FLOOR, help="least score, 0...1")
    parser.add_argument("--seed", type=int, default=1, help="of the sample and of the benches")
    parser.add_argument("--again", action="store_true", help="forget what is known of a run broken off")
    parser.add_argument("--retry", action="store_true", help="try what has survived again")
    parser.add_argument("--json", type=Path, default=BUILD.with_suffix(".json"))
    options = parser.parse_args()
    for name in options.subject:
        if name not in SUBJECTS:
            parser.error(f"there is no {name!r}; there are {', '.join(SUBJECTS)}")
    if not 0 < options.share <= 1:
        parser.error(f"--share must be above 0 and at most 1, got {options.share}")
    os.environ["SEED"] = str(options.seed)
    console, start = table_console(), time.monotonic()
    found = outcomes(options.subject or list(SUBJECTS), options.share, options.again,
                     options.retry, Console(stderr=True))

    table = Table("module", "mutants", "killed", "equivalent", "survived", "score")
    total = Counter()
    for name, results in found.items():
        fates = Counter(outcome.fate for outcome in results)
        total += fates
        table.add_row(name, str(len(results)), *(str(fates[f]) for f in FATES), f"{score(fates):.1%}")
    table.add_section()
    table.add_row("all", str(total.total()), *(str(total[f]) for f in FATES), f"{score(total):.1%}")
    console.print(table)
    for name, results in found.items():
        for outcome in results:
            if outcome.fate == "survived":
                why = reason(name, outcome.mutant) or "nobody knows why yet"
                console.print(f"{name} {outcome.mutant}\n    {why}", markup=False, soft_wrap=True)
    seconds, good = round(time.monotonic() - start), score(total) >= options.floor
    write_atomically(options.json, (json.dumps({
        "seed": options.seed, "share": options.share, "score": score(total), "seconds": seconds,
        "subjects": {name: [asdict(o) for o in results] for name, results in found.items()},
    }, indent=1) + "\n").encode())
    console.print(f"seed {options.seed}: {score(total):.1%} of {total['killed'] + total['survived']} "
                  f"mutants killed, {total['equivalent']} more are equivalent; "
                  f"{'at least' if good else 'LESS THAN'} {options.floor:.0%} wanted; {seconds} s")
    return not good


if __name__ == "__main__":
    sys.exit(main())
