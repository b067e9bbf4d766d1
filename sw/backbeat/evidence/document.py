"""The tables of a document, between marks."""

from pathlib import Path

from ..files import write_atomically
from .report import Report

__all__ = ["fill"]

COMMAND = "make numerics ARGS='--only {}'"


def fill(path: Path, report: Report):
    """Replaces what stands between the marks of a report by its table.

    The marks are lines: ``<!-- numerics: NAME -->`` and ``<!-- end NAME -->``.

    Raises
    ------
    ValueError
        They are not there, once and in this order.
    """
    begin, end = f"<!-- numerics: {report.name} -->\n", f"<!-- end {report.name} -->\n"
    text = path.read_text()
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{path} must have the lines {begin.strip()} and {end.strip()}, once and in "
                         "this order, for the table of " + report.name)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    command = COMMAND.format(report.name)
    body = f"{report.markdown()}\n\nPrinted by `{command}`.\n"
    write_atomically(path, (before + begin + "\n" + body + "\n" + end + after).encode())
