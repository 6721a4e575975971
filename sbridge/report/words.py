"""The question and the verdict, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

from sbridge.evaluation import COLUMNS, FLOOR, TRUTH, Column, Comparison
from sbridge.problem import Problem

__all__ = ["Finding", "findings", "methods_of", "question", "ties", "verdict"]

_SUBJECTS = {
    "path_kl": "The law of the whole path",
    "cbw_uvp": "Where a given start ends (the coupling)",
    "forward_energy": "Where the forward process ends",
    "backward_energy": "Where the backward process ends",
}  # column → what it decides; the other columns look at the same things in other ways


def question(problem: Problem) -> list[str]:
    """What was asked, one string a paragraph."""
    spread0, spread1 = (sqrt(float(x.double().var(0).mean())) for x in (problem.x0, problem.x1))
    noise = sqrt(2 * problem.epsilon)
    share = 200 * noise / (spread0 + spread1)
    return [
        f"Two datasets of points in {problem.dim} dimension{'s' * (problem.dim > 1)}: x0 with {len(problem.x0):,} "
        f"points to learn from and {len(problem.test0):,} to judge by, x1 with {len(problem.x1):,} and "
        f"{len(problem.test1):,}. Which random motion carries x0 at t = 0 to x1 at t = 1, and x1 back to x0, while "
        "staying as close as possible to pure diffusion? That motion is the Schrödinger bridge.",
        f"It is dX = u dt + √(2ε) dW with ε = {problem.epsilon:.4g} in squared units of the data. Over unit time the "
        f"noise alone moves a point by about √(2ε) = {noise:.3g} in each coordinate. The points of x0 spread by "
        f"{spread0:.3g} and those of x1 by {spread1:.3g} (standard deviation, root mean square over coordinates), so "
        f"the noise is {share:.0f} % of the spread. A smaller ε ties each start to its end more tightly, a larger one "
        "loosens the tie.",
    ]


@dataclass(frozen=True)
class Finding:
    """What one column of a comparison says.

    Args:
        subject: what the column decides, in plain words.
        column: the column.
        values: method → figure, the best first.
        ties: how many of them, from the first, are no worse than the best as far as the column can tell.
        floor: the figure between two true samples.
    """

    subject: str
    column: Column
    values: Mapping[str, float]
    ties: int
    floor: float

    @property
    def best(self) -> list[str]:
        """The best method and those that tie with it."""
        return list(self.values)[: self.ties]

    @property
    def sentence(self) -> str:
        """The finding in words."""
        figures = [f"{name} ({value:.3g})" for name, value in self.values.items()]
        first = f"{_listed(figures[: self.ties])} {'tie' if self.ties > 1 else 'is closest to the floor'}"
        behind = f", ahead of {_listed(figures[self.ties :])}" if figures[self.ties :] else ""
        return f"{self.subject}, by {self.column.heading}: {first}{behind}. The floor is {self.floor:.3g}."


def methods_of(comparison: Comparison) -> list[str]:
    """The methods' names, without the rows of reference."""
    return [name for name in comparison.rows if name not in (FLOOR, TRUTH)]


def ties(comparison: Comparison, column: Column) -> dict[str, float]:
    """The best method by a column and those that tie with it: method → figure, the best first.

    A difference is a tie up to the column's floor, or up to two standard errors; unbiased estimates below zero count as
    zero.  Empty for a column in which smaller is not better.
    """
    ranked = _ranked(comparison, column) if column.lower_is_better else {}
    floor = abs(_number(comparison.rows.get(FLOOR, {}).get(column.name, 0.0)))
    errors = {name: _number(comparison.rows[name].get(column.error, 0.0)) for name in ranked}
    best = next(iter(ranked), "")
    return {
        name: value
        for name, value in ranked.items()
        if max(value, 0.0) - max(ranked[best], 0.0) <= max(floor, 2 * hypot(errors[name], errors[best]))
    }


def _ranked(comparison: Comparison, column: Column) -> dict[str, float]:
    """Methods that have a figure in the column, the smallest first."""
    values = {name: comparison.rows[name].get(column.name) for name in methods_of(comparison)}
    numbers = {name: _number(value) for name, value in values.items() if value is not None}
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def findings(comparison: Comparison) -> list[Finding]:
    """A finding for each column that decides something and has a floor."""
    floor = comparison.rows.get(FLOOR, {})
    return [
        Finding(_SUBJECTS[column.name], column, ranked, len(ties(comparison, column)), _number(floor[column.name]))
        for column in COLUMNS
        if column.name in _SUBJECTS and column.name in floor and (ranked := _ranked(comparison, column))
    ]


def _number(value: float | str) -> float:
    assert not isinstance(value, str)
    return value


def verdict(comparison: Comparison) -> list[str]:
    """The comparison in a few sentences: who is closest to the floor, what is a tie, what is unknown."""
    found, names = findings(comparison), methods_of(comparison)
    sentences = [finding.sentence for finding in found]
    if len(names) > 1 and found:
        counts = {name: sum(name in finding.best for finding in found) for name in names}
        score = _listed([f"{name} on {counts[name]}" for name in sorted(counts, key=lambda name: -counts[name])])
        sentences.insert(0, f"Of {len(found)} question{'s' * (len(found) > 1)}, best or tied with the best: {score}.")
        sentences.append("Differences smaller than the floor, or than two standard errors, count as ties.")
    remarks = {name: comparison.rows[name].get("remark") for name in names}
    sentences += [f"Read {name} with care: {remark}." for name, remark in remarks.items() if remark]
    if TRUTH not in comparison.rows:
        sentences.append(
            "The true bridge is not known here: these figures tell whether the ends are right, not whether the motion "
            "between them is."
        )
    return sentences


def _listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
