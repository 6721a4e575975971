"""The question and the verdict in words, and the rows of the table between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

from sbridge.evaluation import COLUMNS, FLOOR, TRUTH, Column, Comparison
from sbridge.problem import Problem

__all__ = ["Finding", "Measure", "comparison_rows", "findings", "heads", "question", "ties", "verdict"]

_SUBJECTS = {
    "path_kl": "The law of the whole path",
    "cbw_uvp": "The endpoint given the start (the coupling)",
    "forward_energy": "The endpoint of the forward process",
    "backward_energy": "The endpoint of the backward process",
}  # the columns that the verdict uses → what each measures; the other columns measure the same in other ways


def question(problem: Problem) -> list[str]:
    """What was asked, one string a paragraph."""
    spread0, spread1 = (sqrt(float(x.double().var(0).mean())) for x in (problem.x0, problem.x1))
    noise = sqrt(2 * problem.epsilon)
    share = 200 * noise / (spread0 + spread1)
    return [
        f"Two datasets of points in {problem.dim} dimension{'s' * (problem.dim > 1)}: x0 with {len(problem.x0):,} "
        f"training points and {len(problem.test0):,} held-out points, x1 with {len(problem.x1):,} and "
        f"{len(problem.test1):,}. Which random process moves x0 at t = 0 to x1 at t = 1, and x1 back to x0, and stays "
        "as close as possible to pure diffusion? That process is the Schrödinger bridge.",
        f"It is dX = u dt + √(2ε) dW with ε = {problem.epsilon:.4g} in squared units of the data. Over unit time the "
        f"the noise moves a point by about √(2ε) = {noise:.3g} in each coordinate. The points of x0 spread by "
        f"{spread0:.3g} and those of x1 by {spread1:.3g} (standard deviation, root mean square over coordinates), so "
        f"the noise is {share:.0f} % of the spread. With a smaller ε the start determines the endpoint more closely.",
    ]


@dataclass(frozen=True)
class Finding:
    """What one column of a comparison says.

    Args:
        subject: what the column measures, in plain words.
        column: the column.
        values: method → value, the best first.
        ties: how many of them, from the first, are not significantly worse than the best.
        floor: the value between two true samples.
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
        figures = [f"{name} ({value:.3g})" for name, value in self.values.items()]
        first = f"{_listed(figures[: self.ties])} {'tie' if self.ties > 1 else 'is closest to the floor'}"
        behind = f", ahead of {_listed(figures[self.ties :])}" if figures[self.ties :] else ""
        return f"{self.subject}, by {self.column.heading}: {first}{behind}. The floor is {self.floor:.3g}."


def heads(comparison: Comparison) -> dict[str, str]:
    """The columns of the table: the methods, and then the reference rows, which have the class "reference"."""
    methods = [name for name in comparison.rows if name not in (FLOOR, TRUTH)]
    references = [name for name in (TRUTH, FLOOR) if name in comparison.rows]
    return dict.fromkeys(methods, "") | dict.fromkeys(references, "reference")


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Args:
        column: the comparison's column.
        cells: head → its text, and "best", "tied" or "".
    """

    column: Column
    cells: Mapping[str, tuple[str, str]]


def comparison_rows(comparison: Comparison) -> list[Measure]:
    """The comparison with a row for each measure and a column for each head, without the remarks."""
    columns = [column for column in comparison.columns if column.name != "remark"]
    return [Measure(column, _cells(comparison, column)) for column in columns]


def _cells(comparison: Comparison, column: Column) -> dict[str, tuple[str, str]]:
    tied = list(ties(comparison, column))
    ranks = dict.fromkeys(tied, "tied") | dict.fromkeys(tied[:1], "best")
    return {name: (column.cell(comparison.rows[name]), ranks.get(name, "")) for name in heads(comparison)}


def ties(comparison: Comparison, column: Column) -> dict[str, float]:
    """The best method by a column and those that tie with it: method → value, the best first.

    A difference within the column's floor, or within two standard errors, is a tie.  Unbiased estimates below zero
    count as zero.  Empty for a column in which smaller is not better.
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
    """Methods that have a value in the column, the smallest first."""
    values = {name: comparison.rows[name].get(column.name) for name in _methods(comparison)}
    numbers = {name: _number(value) for name, value in values.items() if value is not None}
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _methods(comparison: Comparison) -> list[str]:
    return [name for name, kind in heads(comparison).items() if not kind]


def findings(comparison: Comparison) -> list[Finding]:
    """A finding for each column that the verdict uses and that has a floor."""
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
    """The comparison in a few sentences: which method is closest to the floor, what is a tie, what is unknown."""
    found, names = findings(comparison), _methods(comparison)
    sentences = [finding.sentence for finding in found]
    if len(names) > 1 and found:
        counts = {name: sum(name in finding.best for finding in found) for name in names}
        score = _listed([f"{name} on {counts[name]}" for name in sorted(counts, key=lambda name: -counts[name])])
        sentences.insert(0, f"Best or tied with the best, of {len(found)} measure{'s' * (len(found) > 1)}: {score}.")
        sentences.append("Differences within the floor, or within two standard errors, count as ties.")
    remarks = {name: comparison.rows[name].get("remark") for name in names}
    sentences += [f"Note on {name}: {remark}." for name, remark in remarks.items() if remark]
    if TRUTH not in comparison.rows:
        sentences.append(
            "The true bridge is not known here: these figures tell whether the endpoints are right, not whether the "
            "process between them is."
        )
    return sentences


def _listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
