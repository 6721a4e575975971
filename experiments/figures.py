"""What several experiments share: tables whose finished rows are kept, and small pictures of points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from sbridge.estimates import Estimate
from sbridge.evaluation import energy_distance, wasserstein
from sbridge.files import write_text
from sbridge.io.settings import environment
from sbridge.problems.sampled import Law
from sbridge.report.style import PALETTE as COLOURS
from sbridge.tables import markdown, read_csv, write_csv

__all__ = ["COLOURS", "Cell", "Rows", "energy_floor", "mean_of", "scatter", "square", "w2"]

Cell = str | float | Estimate
_PRINTED = 8  # cells of a new row


class Rows:
    """A table in `folder`/`name`.csv and .md; rows that are in the file are not computed again.

    A figure with a standard error takes two columns of the .csv, the second with the ending `_se`.

    Args:
        folder, name: where the files are.
        titles: what the .md calls every column, in its order.
    """

    def __init__(self, folder: Path, name: str, titles: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.titles = folder / f"{name}.csv", dict(titles)
        self.rows: list[dict[str, str]] = []
        if self.path.exists():
            self.rows = read_csv(self.path)

    def find(self, **key: str) -> list[dict[str, str]]:
        """The finished rows with these values."""
        return [row for row in self.rows if all(row[name] == value for name, value in key.items())]

    def missing(self, **key: str) -> bool:
        """Whether there is no such row yet."""
        return not self.find(**key)

    def add(self, **cells: Cell) -> None:
        """Append a row, write the .csv and say so."""
        self.extend([cells])
        row, names = self.rows[-1], [name for name in cells if name in self.titles or not self.titles]
        print(*(f"{name} {_shown(row, name)}" for name in names[:_PRINTED]), sep="  ", flush=True)

    def extend(self, rows: Iterable[Mapping[str, Cell]]) -> None:
        """Append rows that belong together and write the .csv; an interruption leaves all of them or none."""
        self.rows += [_texts(row) for row in rows]
        write_csv(self.path, self.rows)

    def fill(self, rows: Iterable[Mapping[str, Cell]]) -> None:
        """Put these rows in place of all there were."""
        self.rows = []
        self.extend(rows)

    def markdown(self, rows: Iterable[Mapping[str, str]] | None = None) -> str:
        """The table for people."""
        shown = self.rows if rows is None else rows
        return markdown([{title: _shown(row, name) for name, title in self.titles.items()} for row in shown])

    def write(self, *more: str) -> None:
        """The .md: this table, other text, and what it was made with."""
        versions = ", ".join(f"{name} {version}" for name, version in environment().items())
        table = [self.markdown()] if self.titles else []
        parts = [*table, *more, f"One CPU thread; {versions}."]
        text = "\n".join(f"{part.rstrip()}\n" for part in parts)
        self.path.with_suffix(".md").write_text(text, encoding="utf-8")
        print(text)


def _texts(cells: Mapping[str, Cell]) -> dict[str, str]:
    row: dict[str, str] = {}
    for name, cell in cells.items():
        row[name] = _text(cell.value if isinstance(cell, Estimate) else cell)
        if isinstance(cell, Estimate):
            row[f"{name}_se"] = _text(cell.standard_error)
    return row


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _shown(row: Mapping[str, str], name: str) -> str:
    """A cell as people read it: three digits, or as many as its standard error has two of."""
    value, error = row.get(name, ""), row.get(f"{name}_se", "")
    try:
        return f"{float(value):.3g} ± {float(error):.1g}" if error else f"{float(value):.3g}"
    except ValueError:
        return value


def mean_of(values: Sequence[float]) -> Estimate:
    """Mean and standard error of independent values."""
    return Estimate.of(torch.tensor(values, dtype=torch.float64))


def energy_floor(law: Law, points: int, repeats: int = 20) -> Estimate:
    """The energy distance that 19 of 20 pairs of true samples stay below, and the standard deviation of all.

    The distance of two samples of one law is zero on average and skewed: mostly a little below zero, rarely above.
    """
    generator = torch.Generator().manual_seed(123)
    found = torch.tensor([energy_distance(law(points, generator), law(points, generator)) for _ in range(repeats)])
    return Estimate(float(found.quantile(0.95)), float(found.std()))


def w2(found: Tensor, true: Tensor, blocks: int = 4, points: int = 1000) -> Estimate:
    """W2 between blocks of that many points of samples (n, d), as a mean over them; its floor is not zero."""
    pairs = zip(found[: blocks * points].chunk(blocks), true[: blocks * points].chunk(blocks), strict=True)
    return mean_of([wasserstein(a, b) for a, b in pairs])


def square(axes: Axes, x: Tensor) -> None:
    """Equal scales that show x (n, 2)."""
    low, high = x.min(0).values, x.max(0).values
    centre, reach = (low + high) / 2, (high - low).max() * 0.52
    axes.set(xlim=(float(centre[0] - reach), float(centre[0] + reach)))
    axes.set(ylim=(float(centre[1] - reach), float(centre[1] + reach)), aspect="equal")
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=7)


def scatter(axes: Axes, x: Tensor, colour: str | NDArray[np.float32], title: str) -> None:
    """Points (n, 2)."""
    axes.scatter(x[:, 0].numpy(), x[:, 1].numpy(), c=colour, s=1.5, linewidths=0)
    axes.set_title(title, fontsize=8)
