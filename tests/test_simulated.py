"""Max–min on few partners: when it goes over to pairs that its drifts simulate, and what that brings."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import islice

import pytest
import torch

from sbridge.evaluation import path_kl
from sbridge.networks import ResidualNetwork
from sbridge.problem import Problem
from sbridge.problems.gaussian import Gaussian
from sbridge.solvers import simulated as simulated_module
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.simulated import Refined
from sbridge.solvers.training import Training
from tests.members import generator

TINY = MaxMin(steps=50, batch=64, network=ResidualNetwork(16, 2))


def narrow(samples: int = 3000) -> Problem:
    """Where a point has one or two partners."""
    return Gaussian(dim=10, epsilon=0.02, samples=samples, test_samples=500).build()


def run(training: Training) -> Training:
    for _ in training:
        pass
    return training


def simulations(training: Training) -> list[int]:
    assert isinstance(training.method, Refined)
    return [int(one.simulations) for one in training.method.second.simulated]


def test_pairs_are_simulated_after_two_fifths() -> None:
    training = TINY.start(narrow())
    for progress in training:
        assert (simulations(training) == [0, 0]) == (progress.step <= 20)
    assert training.step == 50 and training.method.past_plans


def test_there_are_none_where_partners_are_many() -> None:
    problem = Gaussian(dim=2, epsilon=0.5, samples=3000, test_samples=10).build()
    assert not isinstance(TINY.start(problem).method, Refined)


@pytest.mark.parametrize("changes", [{"learn_gamma": True}, {"coupling": "independent"}])
def test_there_are_none_where_the_user_asks_for_something_else(changes: dict[str, object]) -> None:
    assert not isinstance(replace(TINY, **changes).start(narrow()).method, Refined)


def test_there_are_none_after_many_passes_over_the_points() -> None:
    assert simulations(run(replace(TINY, steps=600).start(narrow(200)))) == [0, 0]


def test_the_last_weights_are_the_answer() -> None:
    """The plan between held-out points, which is biased as well, would stop earlier."""
    training = run(TINY.start(narrow()))
    kept, last = training.answer.kept["drifts"], training.average.module.state_dict()
    assert all(torch.equal(kept[name], last[name]) for name in last)


@pytest.mark.parametrize("rounds", [3, 7])
def test_it_resumes_to_the_last_bit(rounds: int) -> None:
    """Before and after the first simulation."""
    problem, file = narrow(), BytesIO()
    straight, part = run(TINY.start(problem, 3)), TINY.start(problem, 3)
    for _ in islice(part, rounds):
        pass
    torch.save(part.state_dict(), file)
    file.seek(0)
    again = TINY.start(problem, 3)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert run(again).history == straight.history
    ends = [one.bridge().state_dict().values() for one in (straight, again)]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.slow
def test_it_gets_nearer_to_the_bridge_than_the_plan_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, solver = narrow(4000), MaxMin(steps=600, batch=128, network=ResidualNetwork(32, 2))
    assert problem.truth is not None
    found = []
    for begin in (0.4, 2.0):
        monkeypatch.setattr(simulated_module, "_BEGIN", begin)
        found.append(path_kl(solver.solve(problem), problem.truth, problem.test0, generator()).value)
    assert found[0] < 0.8 * found[1]
