"""The question and the verdict in words, and the rows of the table between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

from sbridge.evaluation import COLUMNS, FLOOR, TRUTH, Column, Comparison
from sbridge.problem import Problem

__all__ = ["LEAD", "Finding", "Measure", "comparison_rows", "findings", "heads", "main_rows", "question", "ties"]
__all__ += ["verdict"]

LEAD = "How do the points of x0 become the points of x1, by a random process that is as close as possible to diffusion?"
_SUBJECTS = {
    "path_kl": "Whole paths",
    "cbw_uvp": "The end of a path, given its start",
    "forward_energy": "Where forward paths end",
    "backward_energy": "Where backward paths end",
}  # the columns that the verdict uses → what each measures; the other columns measure the same in other ways
_MAIN = (*_SUBJECTS, "forward_wasserstein", "backward_wasserstein", "dual_gap", "fit_seconds")


def question(problem: Problem) -> list[str]:
    """What was asked, one string a paragraph."""
    spread0, spread1 = (sqrt(float(x.double().var(0).mean())) for x in (problem.x0, problem.x1))
    noise = sqrt(2 * problem.epsilon)
    share = 200 * noise / (spread0 + spread1)
    return [
        "There are two sets of points, x0 and x1. Which random process takes the points of x0 at t = 0 to those of x1 "
        "at t = 1, and those of x1 back to x0, and is as close as possible to pure diffusion? This process is the "
        "Schrödinger bridge.",
        f"It is dX = u dt + √(2ε) dW with ε = {problem.epsilon:.4g}, in squared units of the data. From t = 0 to t = 1 "
        f"the noise moves a point by about √(2ε) = {noise:.3g} in each column. The standard deviation of a column is "
        f"{spread0:.3g} in x0 and {spread1:.3g} in x1 (root mean square over the columns), so the noise is "
        f"{share:.0f} % of it. With a smaller ε the start of a path says more about its end.",
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
        first = f"{_listed(figures[: self.ties])} {'cannot be told apart' if self.ties > 1 else 'is best'}"
        behind = f", before {_listed(figures[self.ties :])}" if figures[self.ties :] else ""
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


def main_rows(measures: Sequence[Measure]) -> list[Measure]:
    """The rows that the verdict uses, the distances that are easiest to read, and the time."""
    named = {row.column.name: row for row in measures}
    return [named[name] for name in _MAIN if name in named]


def _cells(comparison: Comparison, column: Column) -> dict[str, tuple[str, str]]:
    tied = list(ties(comparison, column))
    ranks = dict.fromkeys(tied, "tied") | dict.fromkeys(tied[:1], "best")
    return {name: (comparison.cell(name, column), ranks.get(name, "")) for name in heads(comparison)}


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
        sentences.insert(0, f"Best, or not distinguishable from the best, of {len(found)} measures: {score}.")
    remarks = {name: comparison.rows[name].get("remark") for name in names}
    sentences += [f"Note on {name}: {remark}." for name, remark in remarks.items() if remark]
    if TRUTH not in comparison.rows:
        sentences.append(
            "The true bridge is not known here. So this table tells whether paths end in the right places, not whether "
            "the process between the ends is right."
        )
    return sentences


def _listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
