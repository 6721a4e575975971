"""What all experiments share: a store of finished rows, tables of them, and a few figures of samples.

Every script answers one question, which its docstring states with its command.  It writes to `--out` (results/NAME by
default) and keeps finished rows there, so an interrupted experiment continues where it stopped.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from sbridge.estimates import Estimate, rounded, with_error
from sbridge.evaluation import energy_distance
from sbridge.io import Store
from sbridge.io.settings import environment
from sbridge.problems.sampled import Law
from sbridge.report.style import PALETTE as COLOURS
from sbridge.tables import markdown, write_csv

__all__ = ["COLOURS", "RESULTS", "Cell", "Rows", "energy_floor", "mean_of", "save"]

RESULTS = Path(__file__).parent.parent / "results"
Cell = str | float | Estimate
Row = Mapping[str, str]


class Rows:
    """The table `folder`/`name`.csv; an estimate takes two columns, the second with the ending `_se`.

    Finished rows are records of a `Store` beside it, so an interrupted experiment computes none of them twice.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.store = folder / f"{name}.csv", Store(folder / "cells" / name)
        self.rows: list[dict[str, str]] = []

    def find(self, **key: str | float) -> list[dict[str, str]]:
        """The rows with these values."""
        wanted = _texts(key)
        return [row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())]

    def once(self, compute: Callable[[], Mapping[str, Cell]], **key: str | float) -> None:
        """Compute the row of this key and keep it, unless it is there."""
        self.once_all(lambda: [compute()], **key)

    def once_all(self, compute: Callable[[], Iterable[Mapping[str, Cell]]], **key: str | float) -> None:
        """The same for several rows that share a key; an interruption keeps all of them or none."""
        title = "  ".join(f"{name} {value}" for name, value in key.items())

        def computed() -> list[dict[str, str]]:
            print(self.path.stem, title, sep="  ", flush=True)
            return [_texts({**key, **row}) for row in compute()]

        self.rows += self.store.once(title, key, computed)
        write_csv(self.path, self.rows)

    def replace(self, rows: Iterable[Mapping[str, Cell]]) -> None:
        """Write these rows in place of all others: a summary, which costs nothing to compute again."""
        self.rows = [_texts(row) for row in rows]
        write_csv(self.path, self.rows)

    def table(self, titles: Mapping[str, str], note: str = "") -> str:
        """A Markdown table of the columns in `titles`, with a note below it and what the rows were made with."""
        text = markdown([{title: _shown(row, name) for name, title in titles.items()} for row in self.rows])
        text += f"\n{note.strip()}\n" if note else ""
        text += f"\nCommit {_commit()}; {', '.join(f'{name} {version}' for name, version in environment().items())}.\n"
        self.path.with_suffix(".md").write_text(text, encoding="utf-8")
        print(text)
        return text


def _texts(cells: Mapping[str, Cell]) -> dict[str, str]:
    row: dict[str, str] = {}
    for name, cell in cells.items():
        row[name] = _text(cell.value if isinstance(cell, Estimate) else cell)
        if isinstance(cell, Estimate):
            row[f"{name}_se"] = _text(cell.standard_error)
    return row


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _shown(row: Row, name: str) -> str:
    value, error = row.get(name, ""), row.get(f"{name}_se", "")
    try:
        return with_error(float(value), float(error)) if error else rounded(float(value))
    except ValueError:
        return value


def _commit() -> str:
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a png file."""
    figure.savefig(path, dpi=160)


def mean_of(values: Sequence[float]) -> Estimate:
    """Mean and standard error of independent values."""
    return Estimate.of(torch.tensor(values, dtype=torch.float64))


def energy_floor(law: Law, points: int, repeats: int = 20) -> float:
    """The energy distance that 19 of 20 pairs of true samples stay below."""
    generator = torch.Generator().manual_seed(123)
    pairs = ((law(points, generator), law(points, generator)) for _ in range(repeats))
    return float(torch.tensor([float(energy_distance(*pair)) for pair in pairs]).quantile(0.95))
