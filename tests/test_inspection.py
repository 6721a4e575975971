"""The look at the data: its figures are those of the data, and it warns of what spoils a fit and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, log, sqrt

import pytest
import torch
from torch import Tensor

from sbridge.inspection import Inspection, inspect_points
from sbridge.plans import entropic_plan
from sbridge.problem import Problem
from sbridge.standardise import standardised


def cloud(seed: int, n: int = 1000, dim: int = 2) -> Tensor:
    """Points (n, dim) whose columns have mean 0 and spread 1."""
    z = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (z - z.mean(0)) / z.std(0)


def looked_at(x0: Tensor, x1: Tensor, epsilon: float = 0.1) -> Inspection:
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: x0.shape[1]])
    return inspect_points(Problem(x0, x1, epsilon, x0, x1, columns=names))


def test_the_table_has_the_figures_of_the_data() -> None:
    x0, x1 = cloud(0), torch.tensor([0.5, 3.0]) * cloud(1) + 4
    x0[3] = x0[8] = x0[1]
    x1[7, 1] = 150.0
    found = looked_at(x0, x1, 0.08)
    first, second = found.columns
    assert (first.spread0, first.spread1) == (x0[:, 0].std().item(), x1[:, 0].std().item())
    assert (second.low, second.high) == (x1[:, 1].min().item(), 150.0)
    assert (first.extreme, second.extreme) == (((), ()), ((), (7,)))
    assert (found.rows, found.repeated) == ((1000, 1000), (2, 0))
    assert first.noise == second.noise == pytest.approx(0.4)
    table = str(found)
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["a", "b"]
    assert "2 of them repeated" in table and "√(2ε) = 0.4" in table and "150" in table


@pytest.mark.parametrize("values", [2, 3, 20, 10**6])
@pytest.mark.parametrize("dim", [1, 3])
def test_repeated_rows_are_counted(values: int, dim: int) -> None:
    x = torch.randint(values, (300, dim), generator=torch.Generator().manual_seed(0)).double() - 1
    x[:40] = -x[40:80]  # also with -0
    assert looked_at(x, cloud(0, 300, dim)).repeated == (300 - len(x.unique(dim=0)), 0)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-3.9, 4.42, "-3.9 … 4.42"),
        (-4796.2, 4312.0, "-4796 … 4312"),
        (1e8 - 3.9, 1e8 + 4.42, "99999996.1 … 100000004.42"),
        (2.0, 2.0, "2 … 2"),
    ],
)
def test_a_range_far_from_zero_is_told_apart(low: float, high: float, shown: str) -> None:
    x = torch.linspace(0, 1, 50).double()[:, None] * (high - low) + low
    found = looked_at(torch.cat([x, cloud(0, 50, 1)], 1), torch.cat([x, cloud(1, 50, 1)], 1))
    assert found.columns[0].row()["range"] == shown


def test_many_columns_are_shown_by_their_extremes() -> None:
    """Those with the most and the least noise for their spread."""
    scales = torch.linspace(1, 3, 26).double()
    table = str(looked_at(cloud(0, dim=26) * scales, cloud(1, dim=26) * scales))
    assert [line.split()[0] for line in table.splitlines()[1:13]] == [*"abcdef", *"uvwxyz"]
    assert "… and 14 more columns" in table


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 5.0])
def test_partners_of_normal_points_follow_from_the_mutual_information(epsilon: float) -> None:
    """Their share is exp(−I), with I = −½ log(1 − c²) and c = √(1 + ε²) − ε the correlation of both ends."""
    x0, x1 = cloud(0, 2000, 1), cloud(1, 2000, 1)
    correlation = sqrt(1 + epsilon**2) - epsilon
    share = entropic_plan(x0, x1, epsilon).partners() / 2000
    assert share == pytest.approx(exp(0.5 * log(1 - correlation**2)), rel=0.06)


SCALES = torch.tensor([1.0, 1000.0])
SPIKE = torch.zeros(1000, 2).index_put((torch.tensor(5), torch.tensor(1)), torch.tensor(300.0))
WARNED: dict[str, tuple[Callable[[Tensor], Tensor], float, list[str]]] = {
    "nothing": (lambda x: x, 0.1, []),
    "nothing at the default": (lambda x: x, 0.5, []),
    "a constant column": (lambda x: x * torch.tensor([1.0, 0.0]), 0.1, []),
    "scales": (lambda x: x * SCALES, 0.1, ["column b (spread 1000) is 1000 times as wide as a (1)"]),
    "scales and noise": (
        lambda x: x * SCALES,
        1e4,
        ["1000 times as wide", "larger than the spread of column a (1)"],
    ),
    "noise": (
        lambda x: x,
        50.0,
        ["than the spread of column a (1), b (1)", "about 500 partners among 500"],
    ),
    "an outlier": (lambda x: x + SPIKE, 0.1, ["spreads from the median: row 5 of x0 and row 5 of x1. They"]),
    "heavy tails": (lambda x: x.exp(), 0.1, []),
    "counts": (lambda x: (x > 1.5).double(), 0.01, []),
}


@pytest.mark.parametrize("case", WARNED)
def test_warnings_name_what_spoils_a_fit(case: str) -> None:
    change, epsilon, wanted = WARNED[case]
    found = looked_at(change(cloud(0)), change(cloud(1)), epsilon).warnings
    assert len(found) == len(wanted)
    assert all(part in warning for part, warning in zip(wanted, found, strict=True))


@pytest.mark.parametrize("kind", ["columns", "whiten"])
def test_standardised_columns_are_not_unlike(kind: str) -> None:
    """Spreads stay in the user's units, and the noise is √(2ε) times each of them."""
    x0, x1 = cloud(0) * SCALES, cloud(1) * SCALES
    problem = Problem(x0, x1, 0.08, x0, x1)
    found = inspect_points(problem, standardised(problem, kind)[0])
    assert found.warnings == []
    assert found.columns[1].spread0 == x0[:, 1].std().item()
    assert found.columns[1].noise == pytest.approx(400, rel=0.05)
    assert found.partners[0] > 5 * inspect_points(problem).partners[0]


def test_the_advice_on_too_much_noise_depends_on_the_partners() -> None:
    """With many points a smaller ε helps; with few points in many columns it would leave a matching of points."""
    narrow = torch.tensor([1.0, 0.1]).double()
    (warning,) = looked_at(cloud(0) * narrow, cloud(1) * narrow, 0.02).warnings
    assert "column b (0.1)" in warning and "Choose a smaller ε" in warning
    spreads = torch.cat([torch.ones(25), torch.tensor([0.5])]).double()
    (warning,) = looked_at(cloud(0, 200, 26) * spreads, cloud(1, 200, 26) * spreads, 0.3).warnings
    assert "column z (0.5)" in warning and "too few partners" in warning and "--columns" in warning


@pytest.mark.parametrize("lit", [1, 30])
def test_a_pixel_that_is_seldom_lit_is_no_narrow_column(lit: int) -> None:
    """One ε serves all pixels of an image: nobody is told to standardise them."""
    x0, x1 = cloud(0), cloud(1)
    for x in (x0, x1):
        x[:, 1] = 0.0
    x1[:lit, 1] = 0.5
    found = looked_at(x0, x1, 1e-4)
    assert found.warnings == []
    assert ("nearly constant" in str(found)) == (lit == 1)


def test_standardised_columns_have_the_noise_of_their_scale_and_others_the_noise_of_epsilon() -> None:
    """Also for copies of the problem with another ε, as in `sbridge epsilon`."""
    scales = torch.tensor([1.0, 50.0]).double()
    problem = Problem(cloud(0) * scales, cloud(1) * scales, 1.0, cloud(0) * scales, cloud(1) * scales)
    for kind, noises in ((None, (0.4, 0.4)), ("columns", (0.4, 20.0))):
        inside, _ = standardised(problem, kind)
        found = inspect_points(replace(problem, epsilon=0.08), replace(inside, epsilon=0.08))
        assert [column.noise for column in found.columns] == pytest.approx(list(noises))
