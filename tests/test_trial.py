"""The trial before a training: who keeps linear drifts, and who learns without them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sbridge.fields import Corrected
from sbridge.networks import DriftPair, ResidualNetwork
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Problem
from sbridge.problems import Shapes
from sbridge.problems.mixture import Mixture
from sbridge.solvers.budget import expecting
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.regression import Regression
from sbridge.solvers.trial import trial_steps

LAWS = ("spiral:rings", "normal:checkerboard", "clusters:moons", "gap:student")
SOLVERS = [partial(solver, network=ResidualNetwork(64, 4), batch=256) for solver in (MaxMin, Regression)]


def _rotated() -> Problem:
    return Shapes(dim=12, laws=LAWS, epsilon=0.5, samples=10_000, test_samples=10, seed=3).build()


def _clusters() -> Problem:
    return Mixture(dim=12, epsilon=5.0, samples=10_000, test_samples=10, seed=3).build()


@pytest.mark.parametrize("solver", SOLVERS)
def test_linear_drifts_stay_where_they_are_most_of_the_drift(solver: partial[NetworkSolver]) -> None:
    drifts = solver(steps=2000).start(_clusters()).drifts
    assert isinstance(drifts, Corrected)


def test_a_network_learns_rotated_shapes_alone() -> None:
    drifts = MaxMin(steps=3000).start(_rotated()).drifts
    assert isinstance(drifts, DriftPair)


def test_a_module_of_its_own_keeps_linear_drifts_without_a_trial() -> None:
    class Never(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            assert len(x) < 8, "trained"
            return torch.cat([x, x], dim=-1)

    drifts = MaxMin(network=lambda *sizes: Never(), steps=6000).start(_clusters()).drifts
    assert isinstance(drifts, Corrected)


def test_the_training_goes_on_from_the_trial() -> None:
    problem, solver = _rotated(), SOLVERS[0](steps=2000)
    tried, untried = (one.start(problem) for one in (solver, SOLVERS[0](steps=1000)))
    gained = [-float(one.monitor.losses(one.drifts).mean()) for one in (tried, untried)]
    assert gained[0] > gained[1] + 0.1  # nats, over the linear drifts


def test_the_trial_is_decided_by_the_seed() -> None:
    first, again = (SOLVERS[1](steps=2000).start(_clusters(), random_state=4).drifts for _ in range(2))
    states = zip(first.state_dict().items(), again.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in states)


@pytest.mark.parametrize(("steps", "trial"), [(1, 0), (1999, 0), (2000, 200), (4000, 400), (6000, 600), (100_000, 600)])
def test_a_trial_takes_a_tenth_of_the_steps_or_nothing(steps: int, trial: int) -> None:
    assert trial_steps(steps, 10) == trial
    assert trial_steps(steps, 9) == 0


@pytest.mark.parametrize(("seconds", "trial"), [(8, 0), (60, 300), (3600, 600)])
def test_a_budget_decides_how_long_the_trial_is(seconds: float, trial: int) -> None:
    assert trial_steps(expecting(MaxMin(), seconds).steps, 16) == trial


def test_a_solver_without_a_network_expects_nothing() -> None:
    solver = MixturePotential()
    assert expecting(solver, 60) is solver
