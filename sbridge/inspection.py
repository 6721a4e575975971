"""A look at two datasets before a bridge is fitted: spreads, extreme rows, repeated rows, and what ε means there.

Given x0, a bridge ends at one of many *partners* of x0 in x1.  With one effective partner (`Plan.partners`) the plan is
a matching of single points; if all points are partners, the end of a path does not depend on its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log10, sqrt

import numpy as np
import torch
from torch import Tensor

from sbridge.estimates import rounded
from sbridge.plans import entropic_plan
from sbridge.problem import Problem
from sbridge.tables import text

__all__ = ["ColumnSummary", "Inspection", "inspect_points"]

_UNLIKE = 10.0  # ratio of two columns' spreads, from which one ε does not suit both
_BEYOND = 1.1  # of √(2ε) over a spread: a tenth is left for the error of the spread
_EXTREME = 10.0  # robust spreads from the median
_RARE = 0.01  # of all rows: where more are extreme, that is the column's law
_INFLATED = 1.5  # ratio of a column's spread with and without its extreme rows
_FEW_PARTNERS = 20.0  # twice as many as the smallest recommended ε leaves
_INDEPENDENT = 0.9  # share of all points that are partners
_QUARTILE_ROWS, _PLAN_POINTS = 10_000, 500
_ITERATIONS = 100  # of the plan, which need not be exact
_SHOWN = 12  # columns in the table
_NORMAL_QUARTILES = 1.349  # between the quartiles of a normal law of spread one


@dataclass(frozen=True)
class ColumnSummary:
    """One column of both datasets, in its own units.

    Args:
        name: its name.
        spread0, spread1: standard deviations in x0 and x1.
        low, high: the smallest and the largest value of both.
        noise: standard deviation of the noise on a path: √(2ε), times the column's scale if it is standardised.
        extreme: for each dataset, the rows that are more than ten robust spreads from the median.
        inflation: the largest ratio of a dataset's spread with and without those rows.
        farthest: distance of the most extreme row from the median, in robust spreads.
        usual: share of the rows of both that have the median's value.
    """

    name: str
    spread0: float
    spread1: float
    low: float
    high: float
    noise: float
    extreme: tuple[tuple[int, ...], tuple[int, ...]]
    inflation: float
    farthest: float
    usual: float

    @property
    def varies(self) -> bool:
        """Whether more than a few rows differ from the others."""
        return self.spread > 0 and self.usual < 1 - _RARE

    @property
    def spread(self) -> float:
        """The larger of both spreads."""
        return max(self.spread0, self.spread1)

    @property
    def size(self) -> float:
        """The spread, of a column with one common value that of the others: a seldom lit pixel is no narrow column."""
        return self.spread / sqrt(1 - self.usual)

    @property
    def where(self) -> str:
        """The first extreme rows of each dataset, in words."""
        sides = zip(("x0", "x1"), self.extreme, strict=True)
        return " and ".join(f"row {', '.join(map(str, rows[:3]))} of {label}" for label, rows in sides if rows)

    @property
    def share(self) -> float:
        """The noise over the spread; 0 for a constant column."""
        return self.noise / self.spread if self.spread else 0.0

    def row(self) -> dict[str, str]:
        """Its row in the table."""
        return {
            "column": self.name,
            "spread of x0": rounded(self.spread0),
            "spread of x1": rounded(self.spread1),
            "range": _range(self.low, self.high),
            "noise/spread": rounded(self.share) if self.varies else "nearly constant" if self.spread else "constant",
            "extreme rows": str(len(self.extreme[0]) + len(self.extreme[1])),
        }


@dataclass(frozen=True)
class Inspection:
    """What two datasets look like, next to ε.

    Args:
        columns: a summary of each column.
        rows: rows of x0 and x1.
        repeated: how many of them equal an earlier row.
        epsilon: ε, in the units in which the bridge is fitted.
        partners: effective number of partners of a point, and the number of points among which they are counted.
    """

    columns: tuple[ColumnSummary, ...]
    rows: tuple[int, int]
    repeated: tuple[int, int]
    epsilon: float
    partners: tuple[float, int]

    @property
    def noise(self) -> float:
        """√(2ε)."""
        return sqrt(2 * self.epsilon)

    @cached_property
    def varying(self) -> list[ColumnSummary]:
        """The columns that vary, those with the most noise for their spread first."""
        return sorted((column for column in self.columns if column.varies), key=lambda column: -column.share)

    def __str__(self) -> str:
        """The table, and a line about the rows and ε."""
        rows = [column.row() for column in self._shown()]
        hidden = len(self.columns) - len(rows)
        more = f"… and {hidden} more columns\n" * (hidden > 0)
        counts = [
            f"{label}: {n:,} rows{f', {same:,} of them repeated' * (same > 0)}"
            for label, n, same in zip(("x0", "x1"), self.rows, self.repeated, strict=True)
        ]
        some, among = self.partners
        meaning = f"√(2ε) = {rounded(self.noise)}; a point has about {rounded(some)} partners among {among:,}"
        return f"{text(rows)}{more}{'; '.join(counts)}. {meaning}."

    def _shown(self) -> Sequence[ColumnSummary]:
        """All columns, or the narrowest and widest of many."""
        if len(self.columns) <= _SHOWN:
            return self.columns
        kept = {column.name for column in [*self.varying[: _SHOWN // 2], *self.varying[-_SHOWN // 2 :]]}
        return [column for column in self.columns if column.name in kept]

    @property
    def warnings(self) -> list[str]:
        """What may make the answer wrong or useless, a sentence or two each."""
        return [*self._unlike_scales(), *self._drowned(), *self._outliers(), *self._independent()]

    def _unlike_scales(self) -> Iterator[str]:
        ranked = sorted(self.varying, key=lambda column: column.size / column.noise)
        for narrow, wide in zip(ranked[:1], ranked[-1:], strict=True):
            ratio = (wide.size / wide.noise) / (narrow.size / narrow.noise)
            if ratio > _UNLIKE:
                yield (
                    f"column {wide.name} (spread {rounded(wide.spread)}) is {rounded(ratio)} times as wide as "
                    f"{narrow.name} ({rounded(narrow.spread)}), and one ε does not suit both. Standardise them: "
                    '--standardise columns, in Python standardise="columns".'
                )

    def _drowned(self) -> Iterator[str]:
        small = [column for column in self.varying if column.share > _BEYOND]
        if small:
            names = ", ".join(f"{column.name} ({rounded(column.spread)})" for column in small[:3])
            more = f" and {len(small) - 3} others" * (len(small) > 3)
            yield (
                f"the noise (√(2ε) = {rounded(self.noise)}) is larger than the spread of column {names}{more}: there "
                f"the end of a path hardly depends on its start. {self._less_noise()}"
            )

    def _less_noise(self) -> str:
        """What to do about columns with more noise than spread."""
        some, among = self.partners
        if some < _FEW_PARTNERS:
            return (
                f"A smaller ε would leave a point too few partners (about {rounded(some)} among {among:,} now): leave "
                "out columns that you do not need (--columns)."
            )
        return "Choose a smaller ε (sbridge epsilon shows its effect), or standardise columns of unlike spreads."

    def _outliers(self) -> Iterator[str]:
        found = [column for column in self.columns if column.inflation > _INFLATED and self._is_rare(column)]
        for column in found[:1]:
            others = f" (and {len(found) - 1} other columns)" * (len(found) > 1)
            yield (
                f"column {column.name}{others} has outliers, up to {rounded(column.farthest)} spreads from the median: "
                f"{column.where}. They make the column's standard deviation {rounded(column.inflation)} times larger "
                "and the fit of all other points worse. Check these rows; drop or clip them if they are errors."
            )

    def _is_rare(self, column: ColumnSummary) -> bool:
        return all(len(rows) <= max(1, _RARE * n) for rows, n in zip(column.extreme, self.rows, strict=True))

    def _independent(self) -> Iterator[str]:
        some, among = self.partners
        if some > _INDEPENDENT * among and some >= _FEW_PARTNERS:
            yield (
                f"ε = {rounded(self.epsilon)} is large: a point has about {some:.0f} partners among {among:,}, so the "
                "two ends of a path are almost independent. Choose a smaller ε; sbridge epsilon shows its effect."
            )


def inspect_points(problem: Problem, inside: Problem | None = None) -> Inspection:
    """Look at the training points of a problem.

    Args:
        problem: the points in the user's units, ε and the columns' names; c0, c1, … where they have none.
        inside: the same problem as it is fitted, where it is standardised.
    """
    x0, x1 = (x.detach().cpu() for x in (problem.x0, problem.x1))
    scaled = inside is not None and inside.x0 is not problem.x0
    listed = problem.columns or [f"c{k}" for k in range(problem.dim)]
    pairs = zip(listed, x0.T, x1.T, strict=True)
    columns = [_summary(name, first.double(), last.double(), problem.epsilon, scaled) for name, first, last in pairs]
    repeated = _repeated(x0), _repeated(x1)
    found = _partners(inside or problem)
    return Inspection(tuple(columns), (len(x0), len(x1)), repeated, problem.epsilon, found)


def _repeated(x: Tensor) -> int:
    """How many rows equal an earlier one, by one column after the other, among the rows that are equal so far.

    Sorting whole rows takes several times their memory.
    """
    rows = torch.arange(len(x))
    group = torch.zeros_like(rows)
    for column in x.T:
        values = column[rows].unique(return_inverse=True)[1]
        _, group, counts = (group * len(x) + values).unique(return_inverse=True, return_counts=True)
        again = counts[group] > 1
        rows, group = rows[again], group[again]
    return len(rows) - len(group.unique())


def _range(low: float, high: float) -> str:
    """Both ends, to three digits of the distance between them: 1e8 … 1e8 would tell nothing."""
    largest, width = max(abs(low), abs(high)), high - low
    digits = 3 + ceil(log10(largest / width)) if width > 0 else 3
    return " … ".join(rounded(end) if digits <= 3 else f"{end:.{digits}g}" for end in (low, high))


def _partners(problem: Problem) -> tuple[float, int]:
    """The effective number of partners, and the number of points among which they are."""
    few0, few1 = (x[torch.linspace(0, len(x) - 1, min(_PLAN_POINTS, len(x))).long()] for x in problem.equal_points())
    plan = entropic_plan(few0.double(), few1.double(), problem.epsilon, iterations=_ITERATIONS)
    return plan.partners(), len(few1)


def _summary(name: str, x0: Tensor, x1: Tensor, epsilon: float, scaled: bool) -> ColumnSummary:
    distances = [_robust_distances(x) for x in (x0, x1)]
    rows = [tuple((away > _EXTREME).nonzero().flatten().tolist()) for away in distances]
    spread0, spread1 = (x.std().item() for x in (x0, x1))
    return ColumnSummary(
        name,
        spread0,
        spread1,
        low=min(x.min().item() for x in (x0, x1)),
        high=max(x.max().item() for x in (x0, x1)),
        noise=sqrt(2 * epsilon) * (sqrt((spread0**2 + spread1**2) / 2) if scaled else 1),
        extreme=(rows[0], rows[1]),
        inflation=max(_inflation(x, away <= _EXTREME) for x, away in zip((x0, x1), distances, strict=True)),
        farthest=max(away.max().item() for away in distances),
        usual=_usual(torch.cat([x0, x1])),
    )


def _usual(x: Tensor) -> float:
    """The share of the values (n,) that equal their median."""
    return float((x == x.median()).double().mean())


def _robust_distances(x: Tensor) -> Tensor:
    """Distances from the median in robust spreads (n,); zero where half of all values are equal."""
    some = x[:: max(1, len(x) // _QUARTILE_ROWS)].numpy()
    low, middle, high = np.percentile(some, [25, 50, 75])
    spread = (high - low) / _NORMAL_QUARTILES
    return (x - middle).abs() / spread if spread > 0 else torch.zeros_like(x)


def _inflation(x: Tensor, usual: Tensor) -> float:
    """The ratio of the spreads of all values and of the usual ones."""
    return 1.0 if usual.all() else float(x.std() / x[usual].std())
