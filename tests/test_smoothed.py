"""Smoothed targets and linear drifts: the same regression with less noise, and the part of it that is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sbridge.couplings import Ends, Independent, OnlineSinkhorn
from sbridge.interpolants import Brownian, Linear
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.solvers.data import Data
from sbridge.solvers.linear import regressed
from sbridge.solvers.maxmin import MaxMin, MaxMinMethod
from sbridge.solvers.regression import InterpolantRegression, Regression
from sbridge.solvers.simulated import Refined
from sbridge.solvers.smoothed import SmoothedRegression, mean_end

EPSILON = 0.3


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("side", [0, 1])
def test_smoothed_ends_keep_the_mean_given_a_point_and_lose_variance(t: float, side: int) -> None:
    """E[ȳ φ(x_t)] = E[y φ(x_t)] for every φ, here bumps along the line, with eight other points."""
    generator = _generator(side)
    x0, x1 = torch.randn(40, 1, generator=generator), 1 + 2 * torch.randn(40, 1, generator=generator)
    coupling = OnlineSinkhorn(x0, x1, EPSILON)
    groups = 4000
    ends = coupling.ends(groups, generator)
    start, end = (one.x.view(groups, 1, 1) for one in ends)
    z = torch.randn(start.shape, generator=generator)
    x = Linear(Brownian(EPSILON)).path(torch.tensor(t).view(1, 1, 1), start, end, z).antithetic().x
    variance = torch.tensor(2 * EPSILON * (1 - t if side else t)).view(1, 1, 1)
    smoothed = [
        mean_end(place, variance, Ends(y[None], level[None]), coupling.others(8, generator)[side])
        for place, y, level in zip(x.split(1), *ends[side], strict=True)
    ]
    own, mean = (start, end)[side].expand(-1, 2, -1), torch.cat(smoothed)
    bumps = torch.exp(-((x - torch.linspace(-3, 4, 8)) ** 2))
    change = ((mean - own) * bumps).mean(1)
    assert (change.mean(0).abs() < 4 * change.std(0) / groups**0.5 + 1e-3).all()
    assert mean.var() < own.var()


def _gaussian() -> GaussianBridge:
    cov0, cov1 = torch.tensor([[1.0, 0.6], [0.6, 1.0]]), torch.tensor([[1.0, -0.7], [-0.7, 1.5]])
    return GaussianBridge(torch.zeros(2), cov0, torch.zeros(2), cov1, EPSILON)


def _pairs(n: int) -> tuple[Tensor, Tensor]:
    truth, generator = _gaussian(), _generator(1)
    x0 = torch.randn(n, 2, generator=generator) @ torch.linalg.cholesky(truth.cov0).T
    return x0, truth.endpoints(x0, generator)


@pytest.mark.parametrize("t", [0.002, 0.1, 0.5, 0.73, 0.99])
def test_linear_drifts_are_the_bridge_between_gaussians(t: float) -> None:
    found = regressed(Linear(Brownian(EPSILON)), *_pairs(400_000), EPSILON)
    x = torch.randn(500, 2, generator=_generator(2))
    exact = _gaussian().drifts(torch.tensor(t), x)
    assert (found(torch.tensor(t), x) - exact).norm() < 0.02 * exact.norm()


def test_linear_drifts_answer_shared_and_single_times_alike() -> None:
    drifts = regressed(Linear(Brownian(EPSILON)), *_pairs(1000), EPSILON)
    t, x = torch.rand(6, 1, 1, generator=_generator(3)), torch.randn(6, 5, 2, generator=_generator(4))
    together = drifts(t, x)
    torch.testing.assert_close(drifts(t.expand(6, 5, 1).reshape(-1, 1), x.reshape(-1, 2)), together.view(-1, 4))
    for k in range(6):
        torch.testing.assert_close(drifts(t[k].view(()), x[k]), together[k])


@pytest.mark.parametrize(
    ("epsilon", "solver", "kind"),
    [
        (1.0, Regression(), SmoothedRegression),
        (1.0, MaxMin(), SmoothedRegression),
        (1e-3, Regression(), InterpolantRegression),
        (1e-3, MaxMin(), Refined),
        (1e-3, MaxMin(learn_gamma=True), MaxMinMethod),
        (1.0, MaxMin(learn_gamma=True), MaxMinMethod),
        (1.0, MaxMin(coupling=Independent), MaxMinMethod),
    ],
)
def test_the_outer_player_moves_where_pairs_are_biased(
    epsilon: float, solver: Regression | MaxMin, kind: type[object]
) -> None:
    x0, x1 = torch.randn(2, 3000, 4, generator=_generator(5))
    assert isinstance(solver.method(Data.of(Problem(x0, x1, epsilon, x0, x1), 0)), kind)
