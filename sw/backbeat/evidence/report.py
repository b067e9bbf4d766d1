"""Results that are kept, and the tables made of them."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from ..files import write_atomically

__all__ = ["Campaign", "Report", "write_json"]


def write_json(path: Path, content: dict):
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _untracked(items: Iterable, description: str = "", total: int | None = None) -> Iterable:
    return items


@dataclass(frozen=True)
class Campaign:
    """How measurements are made, and the folder that keeps results, so that a broken-off one can go on.

    Parameters
    ----------
    directory : Path
    short : bool
        As little as shows that it works: what the tests run.
    jobs : int
        Training runs at a time.
    track : callable
        Of an iterable, a ``description`` and the ``total``, returns it: a progress bar.
    """

    directory: Path
    short: bool = False
    jobs: int = 1
    track: Callable[..., Iterable] = _untracked

    def kept(self, name: str, settings: dict, make: Callable[[], dict]) -> dict:
        """What is stored under that name for the same settings, or what ``make`` returns, stored.

        Raises
        ------
        ValueError
            The file is broken.
        """
        path = self.directory / f"{name}.json"
        if path.exists():
            try:
                content = json.loads(path.read_text())
                if content["settings"] == settings:
                    return content["result"]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} is broken ({error!r}): remove it") from None
        result = make()
        write_json(path, {"settings": settings, "result": result})
        return result


@dataclass(frozen=True)
class Report:
    """A table of figures.

    Parameters
    ----------
    name, title : str
    columns : dict of str to str
        Heading, and the format of a row under it.
    rows : list of dict
        Where one has ``met``, it is whether it reaches its target.
    target : str
        In words.
    """

    name: str
    title: str
    columns: dict[str, str]
    rows: list[dict]
    target: str = ""

    @property
    def met(self) -> bool:
        return all(row.get("met") is not False for row in self.rows)

    def figures(self) -> dict:
        return {"title": self.title, "target": self.target, "met": self.met, "rows": self.rows}

    def cells(self) -> list[list[str]]:
        """The texts, with a last column of the verdicts if there are any."""
        judged = any(row.get("met") is not None for row in self.rows)
        out = [[*self.columns, *(["target met"] if judged else [])]]
        verdicts = {True: "yes", False: "NO", None: ""}
        for row in self.rows:
            out.append([form.format(**row) for form in self.columns.values()]
                       + ([verdicts[row.get("met")]] if judged else []))
        return out

    def table(self) -> Table:
        head, *rows = self.cells()
        caption = f"target: {self.target}" if self.target else None
        table = Table(*head, title=self.title, title_justify="left", caption=caption,
                      caption_justify="left")
        for row in rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        head, *rows = self.cells()
        lines = [head, ["---"] * len(head), *rows]
        text = [f"{self.title}." + (f" Target: {self.target}." if self.target else ""), ""]
        return "\n".join(text + ["| " + " | ".join(line) + " |" for line in lines])
