"""Standardised fits: the answers are in the user's units, and equal the closed form of independent columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

import sbridge
from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.likelihood import End
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.solvers.base import Listener
from sbridge.standardise import Standardise, StandardisedBridge, standardised

EPSILON = 0.3
MEANS = torch.tensor([[1.0, -500.0], [3.0, 2000.0]], dtype=torch.float64)
SPREADS = torch.tensor([[1.0, 1000.0], [0.5, 1500.0]], dtype=torch.float64)
MIX = torch.tensor([[1.0, 0.8], [0.0, 0.6]], dtype=torch.float64)


def cloud(end: int, n: int = 4000, mix: Tensor | None = None) -> Tensor:
    """Columns of very different spreads, (n, 2), whose empirical mean and spread are exact."""
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(end), dtype=torch.float64)
    z = (z - z.mean(0)) @ torch.linalg.cholesky(z.T.cov()).inverse().T
    return MEANS[end] + SPREADS[end] * (z if mix is None else z @ mix)


def question(mix: Tensor | None = None) -> Problem:
    x0, x1 = cloud(0, mix=mix), cloud(1, mix=mix)
    return Problem(x0, x1, EPSILON, x0, x1)


@dataclass(frozen=True)
class Moments:
    """The exact bridge between the normal laws with the data's moments."""

    name: ClassVar[str] = "moments"

    def solve(self, problem: Problem, random_state: int = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        x0, x1 = problem.x0, problem.x1
        return GaussianBridge(x0.mean(0), x0.T.cov(), x1.mean(0), x1.T.cov(), problem.epsilon)


def answer(kind: Standardise, mix: Tensor | None = None) -> Bridge:
    inside, outside = standardised(question(mix), kind)
    return outside(Moments().solve(inside))


def column(k: int) -> GaussianBridge:
    """The bridge of one column: its noise is √(2ε) times its scale."""
    scale = SPREADS[:, k].square().mean().sqrt().item()
    law = [value for end in (0, 1) for value in (MEANS[end, k : k + 1], SPREADS[end, k].square()[None, None])]
    return GaussianBridge(*law, EPSILON * scale**2)


X = torch.tensor([[0.5, -900.0], [2.0, 1500.0], [3.5, 100.0]], dtype=torch.float64)


@pytest.mark.parametrize("kind", ["columns", "whiten"])
@pytest.mark.parametrize("name", ["forward_drift", "backward_drift", "velocity", "marginal_score"])
def test_drifts_and_scores_are_those_of_each_column(kind: Standardise, name: str) -> None:
    found = getattr(answer(kind), name)(0.3, X)
    for k in range(2):
        torch.testing.assert_close(found[:, k : k + 1], getattr(column(k), name)(0.3, X[:, k : k + 1]))


@pytest.mark.parametrize("kind", ["columns", "whiten"])
@pytest.mark.parametrize("diffusion", [None, 0.0])
def test_paths_have_the_moments_of_each_column(kind: Standardise, diffusion: float | None) -> None:
    x0 = cloud(0)
    _, middle, end = answer(kind).trajectories(x0, [0, 0.5, 1], diffusion=diffusion, random_state=0)
    for k in range(2):
        wanted = column(k).trajectories(x0[:, k : k + 1], [0, 0.5, 1], diffusion=diffusion, random_state=1)
        for mine, theirs in ((middle, wanted[1]), (end, wanted[2])):
            assert mine[:, k].mean().item() == pytest.approx(theirs.mean().item(), abs=0.05 * theirs.std().item())
            assert mine[:, k].std().item() == pytest.approx(theirs.std().item(), rel=0.05)


@pytest.mark.parametrize("at", ["x0", "x1"])
def test_densities_are_those_of_each_column(at: End) -> None:
    other = 0 if at == "x1" else 1
    laws = Independent(Normal(MEANS[other], SPREADS[other]), 1)
    found = answer("columns").log_prob(X, at, base=laws, random_state=0)
    end = 1 - other
    wanted = Independent(Normal(MEANS[end], SPREADS[end]), 1).log_prob(X)
    torch.testing.assert_close(found.value, wanted, atol=1e-3, rtol=0)
    samples = answer("columns").log_prob(X, at, base=cloud(other), random_state=0)
    torch.testing.assert_close(samples.value, wanted, atol=0.05, rtol=0)


def test_correlated_columns_are_whitened() -> None:
    """In z both datasets have unit covariance on average, and the way back leads to x again."""
    problem = question(MIX)
    inside, _ = standardised(problem, "whiten")
    covariance = (inside.x0.T.cov() + inside.x1.T.cov()) / 2
    torch.testing.assert_close(covariance, torch.eye(2, dtype=torch.float64))
    bridge = answer("whiten", MIX)
    assert isinstance(bridge, StandardisedBridge)
    moved = bridge.transport(problem.x0, random_state=0)
    torch.testing.assert_close(moved.T.cov() / problem.x1.T.cov(), torch.ones(2, 2).double(), atol=0.2, rtol=0)
    torch.testing.assert_close(bridge.transport(moved, "backward", diffusion=0).mean(0), MEANS[0], rtol=0.1, atol=0)


def test_a_standardised_bridge_is_saved_and_keeps_the_kind_of_its_points(tmp_path: Path) -> None:
    inside, outside = standardised(question(), "columns")
    bridge = outside(sbridge.MaxMin(steps=6, network=sbridge.ResidualNetwork(8, 1)).solve(inside))
    bridge.save(tmp_path / "bridge.safetensors")
    again = Bridge.load(tmp_path / "bridge.safetensors")
    x = X.numpy().astype(np.float32)
    moved = bridge.transport(x, random_state=0)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, again.transport(x, random_state=0))
    torch.testing.assert_close(again.scales, torch.tensor([0.7906, 1274.75]).double(), rtol=1e-4, atol=0)


def test_a_standardised_estimator_is_right_in_both_columns() -> None:
    """The narrow column's end has its own spread; without it the spread is many times too large."""
    x0, x1 = cloud(0).numpy(), cloud(1).numpy()
    plain = sbridge.SchrodingerBridge(epsilon=1e4, solver=sbridge.FullMixturePotential(components=1))
    right = sbridge.SchrodingerBridge(
        epsilon=0.1, solver=sbridge.FullMixturePotential(components=1), standardise="columns"
    ).fit(x0, x1)
    with pytest.warns(sbridge.DataWarning) as warned:
        plain.fit(x0, x1)
    assert any("c1 (spread 1500) is 1500 times as wide as c0" in str(one.message) for one in warned)
    ratios = right.transport(x0, random_state=0).std(0) / x1.std(0)
    assert np.abs(ratios - 1).max() < 0.05
    assert np.abs(right.transport(x0, random_state=0).mean(0) - x1.mean(0)).max() < 0.05 * 1500
    assert (plain.transport(x0, random_state=0).std(0) / x1.std(0))[0] > 1.5


@pytest.mark.usefixtures("little_care")
@pytest.mark.parametrize("kind", ["columns", "whiten"])
def test_a_certificate_does_not_depend_on_the_units(kind: Standardise) -> None:
    """But its worst column is one of the user's, in the user's units."""
    bridge, held_out = answer(kind, MIX), [cloud(0, 200, MIX), cloud(1, 200, MIX) + torch.tensor([0.0, 750.0])]
    assert isinstance(bridge, StandardisedBridge)
    bridge.columns = ["height", "weight"]
    inside = [(x - bridge.centre) @ bridge.inverse for x in held_out]
    found, inner = bridge.certificate(*held_out, 0), bridge.inner.certificate(*inside, 0)
    named = replace(inner.forward, column=found.forward.column), replace(inner.backward, column=found.backward.column)
    assert found == replace(inner, forward=named[0], backward=named[1])
    gap = found.forward.column
    assert gap.name == "weight" and gap.far
    assert f"column weight is off by {gap.distance * gap.spread:.3g} " in found.sentence
    assert gap.shift == pytest.approx(-0.5, abs=0.15) and gap.spread == pytest.approx(1500, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("rows", lambda x: x, "must be one of columns, whiten"),
        ("columns", lambda x: x * torch.tensor([1.0, 0.0]), "column weight is constant in both datasets"),
        ("whiten", lambda x: x[:, :1].expand(-1, 2).clone(), "linearly dependent"),
    ],
)
def test_columns_without_a_scale_are_refused(kind: Standardise, change: object, message: str) -> None:
    assert callable(change)
    x0, x1 = change(cloud(0)), change(cloud(1))
    with pytest.raises(InputError, match=message):
        standardised(Problem(x0, x1, 1.0, x0, x1, columns=("height", "weight")), kind)


def test_no_standardisation_changes_nothing() -> None:
    problem = question()
    inside, outside = standardised(problem, None)
    bridge = Moments().solve(problem)
    assert inside is problem and outside(bridge) is bridge


def test_the_logarithm_of_the_scale_is_that_of_the_columns() -> None:
    bridge = answer("columns")
    assert isinstance(bridge, StandardisedBridge)
    wanted = sum(log(SPREADS[:, k].square().mean().sqrt().item()) for k in range(2))
    assert bridge.scale.logdet().item() == pytest.approx(wanted)
