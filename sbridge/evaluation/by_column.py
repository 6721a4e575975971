"""The ends of each method's paths beside the data, column by column: mean and standard deviation.

A distance of the laws tells that an end is off, the columns tell where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sbridge.bridge import Direction
from sbridge.estimates import rounded
from sbridge.tables import html, markdown

__all__ = ["DATA", "ColumnEnds", "ColumnTable", "end_moments"]

DATA = "data"
Moments = Mapping[Literal["mean", "spread"], Sequence[float]]
ColumnEnds = Mapping[Direction, Moments]
"""Mean and standard deviation of every column, of points moved forward (at x1) and backward (at x0)."""

_DIRECTIONS: tuple[tuple[Direction, str], ...] = (("forward", "x1"), ("backward", "x0"))


def end_moments(x: Tensor) -> Moments:
    """Of points (n, d)."""
    double = x.double()
    return {"mean": double.mean(0).tolist(), "spread": double.std(0).tolist()}


@dataclass(frozen=True)
class ColumnTable:
    """Mean and standard deviation of each column at both ends: those of the data, and of each method's moved points.

    Args:
        ends: by the methods' names, the data's under `DATA`.
        names: of the columns; c0, c1, … where they have none.
    """

    ends: Mapping[str, ColumnEnds]
    names: Sequence[str]

    def rows(self) -> list[dict[str, str]]:
        """The table: a row for each column and end, the columns with the largest difference first."""
        return [dict(row) for _, row in sorted(self._rated(), key=lambda pair: -pair[0])]

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return markdown(self.rows())

    def _repr_html_(self) -> str:
        return html(self.rows(), "mean (standard deviation)")

    def worst(self, method: str, direction: Direction) -> str:
        """The name of the column that a method misses most at an end."""
        data, found = self.ends[DATA][direction], self.ends[method][direction]
        return self._name(max(range(len(data["mean"])), key=lambda k: _gap(data, found, k)))

    def _name(self, k: int) -> str:
        return self.names[k] if self.names else f"c{k}"

    def _rated(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        """Every row, with the largest difference from the data in it, in spreads of the data."""
        count = len(self.ends[DATA]["forward"]["mean"])
        for direction, end in _DIRECTIONS:
            for k in range(count):
                cells = {method: _shown(ends[direction], k) for method, ends in self.ends.items()}
                gaps = [_gap(self.ends[DATA][direction], ends[direction], k) for ends in self.ends.values()]
                yield max(gaps), {"column": self._name(k), "end": end, **cells}


def _shown(found: Moments, k: int) -> str:
    return f"{rounded(found['mean'][k])} ({rounded(found['spread'][k])})"


def _gap(data: Moments, found: Moments, k: int) -> float:
    """What the mean or the spread of column k misses, in spreads of the data; 0 for a constant column."""
    spread = data["spread"][k]
    return max(abs(found[key][k] - data[key][k]) for key in ("mean", "spread")) / spread if spread else 0.0
