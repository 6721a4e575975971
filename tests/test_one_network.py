"""One network for all legs of a chain: between Gaussians, with weights, and in the state of its training."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sbridge import Auto, Chain, Independent, InputError, MaxMin, MixturePotential, Problem, Regression, Snapshots
from sbridge.fields import Drifts, Part
from sbridge.networks import ResidualNetwork
from sbridge.problems.gaussian import GaussianBridge
from sbridge.snapshots.one_network import OneNetwork

EPSILON, TIMES = 0.3, (1.0, 1.5, 3.5)
MEANS = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]]).double()
COVS = torch.tensor([[[1.0, 0.4], [0.4, 0.7]], [[0.6, -0.3], [-0.3, 1.2]], [[1.5, 0.5], [0.5, 0.9]]]).double()
SMALL = Regression(steps=60, batch=64, network=ResidualNetwork(width=16, depth=2))


def _sample(k: int, n: int = 3000) -> Tensor:
    """Points whose sample moments are exactly those of the law."""
    z = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    white = (z - z.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov(correction=0))).T
    return MEANS[k] + white @ torch.linalg.cholesky(COVS[k]).T


@cache
def _fitted() -> Snapshots:
    return Snapshots(EPSILON, SMALL, one_network=True).fit([_sample(k) for k in range(3)], TIMES)


def _leg(k: int) -> GaussianBridge:
    return GaussianBridge(MEANS[k], COVS[k], MEANS[k + 1], COVS[k + 1], EPSILON * (TIMES[k + 1] - TIMES[k]))


@pytest.mark.parametrize("t", [1.1, 1.4, 2.0, 3.0])
def test_drifts_are_those_of_the_exact_chain(t: float) -> None:
    """Within 10 % of the size of the drift, in units that differ between the legs."""
    k, chain = (0 if t < TIMES[1] else 1), _fitted().chain_
    duration = TIMES[k + 1] - TIMES[k]
    share = (t - TIMES[k]) / duration
    mean, cov = _leg(k).marginal(share)
    x = mean + _sample(0, 500) @ torch.linalg.cholesky(cov).T
    for name in ("forward_drift", "backward_drift"):
        wanted, found = getattr(_leg(k), name)(share, x) / duration, getattr(chain, name)(t, x)
        assert (found - wanted).square().mean().sqrt() < 0.1 * wanted.square().mean().sqrt()


def test_paths_have_the_law_of_every_snapshot() -> None:
    paths = _fitted().trajectories(_sample(0), TIMES, random_state=0, steps=50)
    for k, x in enumerate(paths):
        torch.testing.assert_close(x.mean(0), MEANS[k], atol=0.1, rtol=0)
        torch.testing.assert_close(x.T.cov(), COVS[k], atol=0.15, rtol=0)


def test_all_legs_share_the_network_and_each_is_a_fit_with_all_answers(tmp_path: Path) -> None:
    """The network is in the file once, and read from it all answers are the same to the last bit."""
    model, x = _fitted(), _sample(0, 20)
    model.save(tmp_path / "chain.safetensors")
    loaded = Chain.load(tmp_path / "chain.safetensors")
    shared = [{id(p) for p in leg.parameters()} for leg in loaded.legs]
    assert shared[0] and shared[0] == shared[1]
    for answer in (lambda chain: chain.trajectories(x, TIMES, random_state=0, steps=5), _scores(x)):
        assert torch.equal(answer(model.chain_), answer(loaded))
    found = model.log_prob(_sample(2, 5), 3.5, base=torch.distributions.MultivariateNormal(MEANS[0], COVS[0]))
    exact = torch.distributions.MultivariateNormal(MEANS[2], COVS[2]).log_prob(_sample(2, 5))
    torch.testing.assert_close(found.value, exact, atol=0.3, rtol=0)
    assert [leg.effective_sizes_ for leg in model.legs_] == [[3000.0, 3000.0]] * 2


def _scores(x: Tensor) -> Callable[[Chain], Tensor]:
    return lambda chain: chain.marginal_score(2.0, x)


def test_the_network_adds_no_jump_at_a_joint() -> None:
    """The velocity jumps as that of the exact legs does."""
    (joint,), (score,) = _fitted().joints([_sample(k) for k in range(3)]), [_leg(0).marginal_score(1.0, _sample(1))]
    before, after = _leg(0).velocity(1.0, _sample(1)) / 0.5, _leg(1).velocity(0.0, _sample(1)) / 2.0
    jump = float((after - before).square().sum(1).mean().sqrt())
    assert joint.velocity_jump == pytest.approx(jump, rel=0.1)
    assert joint.score_gap < 0.2 * float(score.square().sum(1).mean().sqrt())


def test_the_network_learns_what_is_not_linear() -> None:
    """From one cluster to two, and back to one: without the network there is hardly a gap between the two."""
    middle = torch.where(_sample(0) > MEANS[0], 2.0, -2.0) + 0.3 * _sample(1)
    samples = [_sample(0) - MEANS[0], middle - middle.mean(0), _sample(0) - MEANS[0]]
    gaps = []
    for steps in (1, 200):
        solver = Regression(steps=steps, batch=128, network=ResidualNetwork(width=32, depth=2))
        model = Snapshots(0.5, solver, one_network=True).fit(samples)
        gaps.append(
            [float(distance) for row in model.ends(samples, 0) for distance in (row["forward"], row["backward"])]
        )
    assert max(gaps[1]) < 0.5 * max(gaps[0])


class _Linear(Drifts):
    """b_F = tx and b_B = −x."""

    dim = 2

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.cat([t * x, -x], dim=-1)


def test_a_part_of_drifts_is_that_of_the_scaled_process() -> None:
    """y(s) = x(1 + 4s)/2 has dy/ds = 4·b(1 + 4s, 2y)/2."""
    x = torch.tensor([[1.0, 2.0]])
    found = Part(_Linear(), start=1.0, duration=4.0)(torch.tensor(0.5), x)
    torch.testing.assert_close(found, torch.cat([12 * x, -4 * x], dim=-1))


def _problems(weights: bool = False) -> list[Problem]:
    points = [_sample(k, 400) for k in range(3)]
    heavy = [1 + 3 * (x[:, 0] > MEANS[k, 0]).double() if weights else None for k, x in enumerate(points)]
    return [
        Problem(a, b, EPSILON * duration, a, b, weights0=v, weights1=w)
        for a, b, v, w, duration in zip(points, points[1:], heavy, heavy[1:], (0.5, 2.0), strict=False)
    ]


def test_epsilon_is_one_number_and_a_snapshot_has_one_split() -> None:
    """No point of the middle snapshot is trained on in one leg and held out in the other."""
    training = OneNetwork(SMALL, _problems(), TIMES).start(3)
    first, second = training.method.legs
    assert first.epsilon == pytest.approx(second.epsilon) == pytest.approx(training.data.epsilon)
    scale = sqrt(second.frame.scale / first.frame.scale) ** 2
    torch.testing.assert_close(first.x1, second.x0 * scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(first.check1, second.check0 * scale, atol=1e-5, rtol=0)


def test_weights_are_seen_in_every_leg() -> None:
    training = OneNetwork(SMALL, _problems(weights=True), TIMES).start(0)
    for leg, problem in zip(training.method.legs, _problems(weights=True), strict=True):
        assert problem.weights0 is not None and len(leg.x0) == 4 * 360
        mean = (problem.weights0 / problem.weights0.sum()) @ problem.x0
        torch.testing.assert_close(leg.x0.double().mean(0), 0 * mean, atol=0.1, rtol=0)
        torch.testing.assert_close(leg.frame.shift0, mean)


@pytest.mark.parametrize("options", [{}, {"coupling": Independent}], ids=["smoothed", "independent"])
def test_a_training_resumes_to_the_last_bit(options: dict[str, Any]) -> None:
    solver = Regression(steps=30, batch=64, network=ResidualNetwork(width=8, depth=2), **options)
    fit = OneNetwork(solver, _problems(), TIMES)
    whole, stopped, resumed = (fit.start(0) for _ in range(3))
    for _ in whole:
        pass
    for _ in islice(stopped, 5):
        pass
    resumed.load_state_dict(stopped.state_dict())
    for _ in resumed:
        pass
    assert whole.history == resumed.history and whole.step == resumed.step == 30
    for one, other in zip(whole.kept_drifts().parameters(), resumed.kept_drifts().parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_energy_of_a_training_is_that_of_the_chain() -> None:
    """½E∫|b_F|²dt over all of time, in the user's units; exact linear drifts have it from the start."""
    training = OneNetwork(SMALL, [_long(k) for k in range(2)], TIMES).start(0)
    for _ in training:
        pass
    wanted = sum(_leg(k).kinetic_energy().value / (TIMES[k + 1] - TIMES[k]) for k in range(2))
    assert training.history[-1]["kinetic_energy"] == pytest.approx(wanted, rel=0.1)


def _long(k: int) -> Problem:
    return Problem(_sample(k), _sample(k + 1), EPSILON * (TIMES[k + 1] - TIMES[k]), _sample(k), _sample(k + 1))


def test_growth_and_names_of_columns_are_kept() -> None:
    pandas = pytest.importorskip("pandas")
    tables = [pandas.DataFrame(_sample(k, 300).numpy(), columns=["a", "b"]) for k in range(3)]
    tables[1] = tables[1][["b", "a"]]  # names, not places, decide
    heard: list[int] = []
    model = Snapshots(EPSILON, SMALL, growth=5.0, one_network=True)
    model.fit(tables, TIMES, callbacks=[lambda progress: heard.append(progress.step)])
    assert heard[-1] == 60 and len(model.growth_) == 2
    assert [leg.columns for leg in model.chain_.legs] == [("a", "b")] * 2
    middle = model.at(tables[0], 1.5, random_state=0)
    assert abs(float(middle["a"].mean()) - 2.0) < 0.3


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (MixturePotential(), "not by mixture potential"),
        (MaxMin(), "not by max–min"),
        (Auto(), "not by auto"),
        (Regression(prior=MixturePotential()), "without a prior"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_other_solvers_are_refused(solver: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Snapshots(EPSILON, solver, one_network=True).fit([_sample(k, 50) for k in range(3)])


class _Own(nn.Module):
    """A network of the user's that remembers the times it was asked for."""

    def __init__(self, dim: int, *settings: float) -> None:
        super().__init__()
        self.map, self.seen = nn.Linear(1 + dim, 2 * dim), list[tuple[float, float]]()

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.seen.append((float(t.min()), float(t.max())))
        value: Tensor = self.map(torch.cat([t, x], dim=-1))
        return value


def test_a_network_sees_the_time_of_the_whole_chain() -> None:
    """Its input runs over [0, 1/5] in the first leg and over [1/5, 1] in the second."""
    training = OneNetwork(Regression(steps=6, batch=64, network=_Own), _problems(), TIMES).start(0)
    for _ in training:
        pass
    (own,) = (part for part in training.drifts.modules() if isinstance(part, _Own))
    assert len(own.seen) > 10
    for low, high in own.seen[1:]:
        assert low >= 0 and high <= 1 and (high <= 0.2 or low >= 0.2)
