"""Snapshots at several times: the chain of exact legs has the exact law of all times, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import Tensor

from sbridge import HEUN, Chain, FullMixturePotential, InputError, MixturePotential, Simulation, Snapshots
from sbridge.bridge import Bridge
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.solvers import Listener

FLOAT, EPSILON, TIMES = torch.float64, 0.3, (1.0, 1.5, 3.5)
MEANS = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]], dtype=FLOAT)
COVS = torch.tensor([[[1.0, 0.4], [0.4, 0.7]], [[0.6, -0.3], [-0.3, 1.2]], [[1.5, 0.5], [0.5, 0.9]]], dtype=FLOAT)
ASKED = (1.0, 1.2, 1.5, 2.5, 3.5)


@dataclass(frozen=True)
class ExactNormals:
    """The Gaussian bridge of the samples' moments."""

    name: str = "exact"

    def solve(self, problem: Problem, random_state: int = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        ends = [(x.mean(0), x.T.cov(correction=0)) for x in (problem.x0, problem.x1)]
        return GaussianBridge(*ends[0], *ends[1], problem.epsilon)


def _sample(k: int, n: int) -> Tensor:
    """Points whose sample moments are exactly those of the law."""
    z = torch.randn(n, 2, dtype=FLOAT, generator=torch.Generator().manual_seed(k))
    white = (z - z.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov(correction=0))).T
    return MEANS[k] + white @ torch.linalg.cholesky(COVS[k]).T


@cache
def _fitted(solver: Any = ExactNormals(), n: int = 2000) -> Snapshots:
    return Snapshots(EPSILON, solver).fit([_sample(k, n) for k in range(3)], TIMES)


def _legs() -> list[GaussianBridge]:
    return [
        GaussianBridge(MEANS[k], COVS[k], MEANS[k + 1], COVS[k + 1], EPSILON * (TIMES[k + 1] - TIMES[k]))
        for k in range(2)
    ]


def _marginal(t: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the exact law at one time."""
    k = 0 if t < TIMES[1] else 1
    return _legs()[k].marginal((t - TIMES[k]) / (TIMES[k + 1] - TIMES[k]))


def _slope(s: float, t: float) -> Tensor:
    """E[x_t − m_t | x_s] = (x_s − m_s) A for s < t, by the flow of each leg's linear drift, itself an exact flow."""
    if s < TIMES[1] < t:
        return _slope(s, TIMES[1]) @ _slope(TIMES[1], t)
    k = 0 if t <= TIMES[1] else 1
    leg, duration = _legs()[k], TIMES[k + 1] - TIMES[k]
    mean0, unit = leg.mean0, torch.eye(2, dtype=FLOAT)
    whole = leg.conditional_moments(mean0 + unit)[0] - leg.mean1
    first, second = (unit + (time - TIMES[k]) / duration * (whole - unit) for time in (s, t))
    return torch.linalg.solve(first, second)


def _exact_covariance() -> Tensor:
    """Of the states at all asked times side by side, (10, 10)."""
    blocks = [[_marginal(min(s, t))[1] @ _slope(min(s, t), max(s, t)) for t in ASKED] for s in ASKED]
    rows = [torch.cat([b if i <= j else b.T for j, b in enumerate(row)], 1) for i, row in enumerate(blocks)]
    return torch.cat(rows)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    ("solver", "options", "tolerance"),
    [(ExactNormals(), {"steps": 40, "stepper": HEUN}, 0.01), (FullMixturePotential(components=1), {}, 0.025)],
    ids=["exact legs, simulated", "fitted legs, drawn"],
)
def test_paths_have_the_exact_covariance_across_all_times(
    solver: Any, options: dict[str, Any], tolerance: float, direction: str
) -> None:
    """Within 1 % of the exact law of three Gaussians; a fit to a part of the points, within its sampling error."""
    fitted = _fitted(solver, 50_000)
    forward = direction == "forward"
    start = _sample(0 if forward else 2, 400_000)
    paths = fitted.trajectories(start, ASKED if forward else ASKED[::-1], random_state=0, **options)
    paths = paths if forward else paths.flip(0)
    found, wanted = paths.transpose(0, 1).flatten(1).T.cov(), _exact_covariance()
    size = torch.outer(wanted.diagonal(), wanted.diagonal()).sqrt()
    assert ((found - wanted) / size).abs().max() < tolerance
    means = torch.stack([_marginal(t)[0] for t in ASKED])
    torch.testing.assert_close(paths.mean(1), means, atol=1.5 * tolerance, rtol=0)


def test_fields_are_those_of_the_legs_in_the_units_of_time() -> None:
    """By the exact marginals: the velocity carries them, and the score is that of a Gaussian."""
    chain, x = _fitted().chain_, _sample(1, 50)
    for t in (1.2, 2.5):
        (mean, cov), step = _marginal(t), 1e-5
        score = -torch.linalg.solve(cov, (x - mean).T).T
        torch.testing.assert_close(chain.marginal_score(t, x), score)
        rate = (_marginal(t + step)[0] - _marginal(t - step)[0]) / (2 * step)
        torch.testing.assert_close(chain.velocity(t, mean[None])[0], rate)
        both = chain.forward_drift(t, x) - chain.backward_drift(t, x)
        torch.testing.assert_close(both, 2 * EPSILON * score)
    each = torch.tensor([1.0, 1.2, 1.5, 2.0, 3.5], dtype=FLOAT)[:, None]
    rows = torch.cat([chain.forward_drift(float(t), x[i : i + 1]) for i, t in enumerate(each)])
    torch.testing.assert_close(chain.forward_drift(each, x[:5]), rows)


@pytest.mark.parametrize("method", ["ode", "sde"])
@pytest.mark.parametrize(("at", "base"), [(3.5, 1.0), (1.0, 3.5), (3.5, 1.5), (1.5, 3.5)])
def test_densities_are_carried_across_all_legs(method: str, at: float, base: float) -> None:
    def normal(t: float) -> torch.distributions.MultivariateNormal:
        return torch.distributions.MultivariateNormal(*_marginal(t))

    x = _sample(TIMES.index(at), 5)
    found = _fitted().chain_.log_prob(x, at, base=normal(base), base_time=base, method=method, random_state=0)
    torch.testing.assert_close(found.value, normal(at).log_prob(x), atol=0.02, rtol=0)


def test_diffusion_is_per_unit_of_time_and_changes_no_marginal() -> None:
    chain, start = _fitted().chain_, _sample(0, 20_000)
    for level in (0.0, 0.1, lambda t: 0.2 * t):
        moved = chain.at(start, 3.5, diffusion=level, steps=200, random_state=0)
        torch.testing.assert_close(moved.T.cov(), COVS[2], atol=0.06, rtol=0)
    seen: list[float] = []
    chain.transport(start[:2], diffusion=lambda t: (seen.append(float(t.min())), 0 * t)[1], steps=20)
    assert min(seen[1:]) >= 1.0 and max(seen) > 3.0


def test_joints_are_measured() -> None:
    """The velocity of exact legs jumps, by an amount known in closed form; their scores agree."""
    samples = [_sample(k, 2000) for k in range(3)]
    (joint,) = _fitted().joints(samples)
    legs, away = _legs(), samples[1] - MEANS[1]
    before = legs[0].velocity(1.0, samples[1]) / 0.5
    after = legs[1].velocity(0.0, samples[1]) / 2.0
    assert joint.time == 1.5
    assert joint.velocity_jump == pytest.approx(float((after - before).square().sum(1).mean().sqrt()))
    assert joint.score == pytest.approx(float((away @ torch.linalg.inv(COVS[1])).square().sum(1).mean().sqrt()))
    assert joint.score_gap < 1e-6 * joint.score
    assert str(joint).startswith("at time 1.5 the velocity jumps by ") and "scores differ by 0%" in str(joint)


def test_joints_of_weighted_points_are_those_of_repeated_ones() -> None:
    """Up to the rounding of sums; the points of weight zero do not count."""
    samples, copies = [_sample(k, 300) for k in range(3)], torch.arange(300) % 4
    weighted = _fitted().joints(samples, [None, copies, None])
    twice = _fitted().joints([samples[0], samples[1].repeat_interleave(copies, 0), samples[2]])
    assert vars(weighted[0]) == pytest.approx(vars(twice[0]), rel=1e-9, abs=1e-12)
    assert vars(weighted[0]) != pytest.approx(vars(_fitted().joints(samples)[0]), rel=1e-4)
    with pytest.raises(InputError, match="for each of 3 snapshots"):
        _fitted().joints(samples, [copies])


def test_columns_of_all_snapshots_are_in_the_order_of_the_first() -> None:
    pandas = pytest.importorskip("pandas")
    first, *others = (pandas.DataFrame(_sample(k, 200).numpy(), columns=["a", "b"]) for k in range(3))
    given = [first, *(table[["b", "a"]] for table in others)]
    fitted = Snapshots(EPSILON, MixturePotential(1)).fit(given, TIMES)
    plain = Snapshots(EPSILON, MixturePotential(1)).fit([first, *others], TIMES)
    moved, wanted = (model.at(first, 3.5, random_state=0) for model in (fitted, plain))
    np.testing.assert_allclose(moved, wanted)


def test_each_leg_has_a_certificate_and_ends() -> None:
    held_out = [_sample(k, 1500) for k in range(3)]
    found = _fitted(FullMixturePotential(components=1)).certificates(held_out, random_state=0)
    assert [one.epsilon for one in found] == pytest.approx([0.5 * EPSILON, 2.0 * EPSILON])
    assert all(way.at_least < 0.1 for one in found for way in (one.forward, one.backward))
    rows = _fitted().ends(held_out, random_state=0)
    assert [(row["from"], row["to"]) for row in rows] == [(1.0, 1.5), (1.5, 3.5)]
    for row, way in product(rows, ("forward", "backward")):
        assert abs(row[way]) < 0.02 and row[way] < 2 * row[f"{way} floor"] < 0.02


def test_a_file_keeps_every_answer(tmp_path: Path) -> None:
    fitted = _fitted(MixturePotential(components=2))
    fitted.save(tmp_path / "chain.safetensors")
    loaded, x = Chain.load(tmp_path / "chain.safetensors"), _sample(0, 20)
    assert loaded.times == TIMES and loaded.epsilon == pytest.approx(EPSILON)
    for options in ({}, {"steps": 5}):
        ours, theirs = (one.trajectories(x, ASKED, random_state=1, **options) for one in (fitted, loaded))
        assert torch.equal(ours, theirs)
    fitted.chain_.legs[0].save(tmp_path / "leg.safetensors")
    with pytest.raises(InputError, match="holds a PotentialBridge, not a Chain"):
        Chain.load(tmp_path / "leg.safetensors")


def test_arrays_give_arrays_and_a_seed_decides_all() -> None:
    fitted, x = _fitted(), _sample(0, 30)
    array = fitted.at(x.numpy().astype(np.float32), 2.5, random_state=3)
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    again = fitted.at(x, 2.5, random_state=3)
    np.testing.assert_allclose(array, again.numpy(), atol=1e-4)
    assert not torch.equal(fitted.at(x, 2.5, random_state=4), again)
    torch.testing.assert_close(fitted.transport(x, random_state=3), fitted.at(x, 3.5, random_state=3))
    back = fitted.transport(x, "backward", random_state=3)
    torch.testing.assert_close(back, fitted.at(x, 1.0, 3.5, random_state=3))
    (inner,) = fitted.trajectories(x, [2.5], random_state=3, start=1.0)
    torch.testing.assert_close(inner, fitted.at(x, 2.5, random_state=3))


def test_settings_of_the_solver_are_parameters() -> None:
    model = clone(Snapshots(solver=MixturePotential(components=3))).set_params(epsilon=0.2, solver__components=1)
    assert model.get_params()["solver__components"] == 1 and model.epsilon == 0.2


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda x: Snapshots().fit([x, x, x], [0.0, 1.0]), "as many times as snapshots"),
        (lambda x: Snapshots().fit([x]), "at least two"),
        (lambda x: Snapshots(epsilon="much").fit([x, x]), "epsilon must be a number, auto, or"),
        (lambda x: Snapshots(epsilon=0.0).fit([x, x]), "epsilon must be"),
        (lambda x: Snapshots().fit([x, x], [1.0, 1.0]), "must rise"),
        (lambda x: Chain(_legs(), (0.0, 1.0, 2.0)), "one epsilon per unit of time"),
        (lambda x: _fitted().at(x, 4.0), r"numbers in \[1, 3.5\]"),
        (lambda x: _fitted().trajectories(x, [1.0, 2.0, 1.5]), "rising or falling"),
        (lambda x: _fitted().transport(x, "up"), "direction must be"),
        (lambda x: _fitted().chain_.velocity(0.5, x), r"t must lie in \[1, 3.5\]"),
        (lambda x: _fitted().log_prob(x, 2.0), "two of the snapshots' times"),
        (lambda x: _fitted().joints([x, x]), "the chain has 3 snapshots"),
        (lambda x: _fitted().at(x, 2.0, stride=3), "no option 'stride'"),
    ],
)
def test_wrong_arguments_are_refused(action: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        action(_sample(0, 20))


def test_a_simulation_object_is_taken_as_it_is() -> None:
    fitted, x = _fitted(), _sample(0, 10)
    given = fitted.transport(x, simulation=Simulation(steps=7), random_state=0)
    assert torch.equal(given, fitted.transport(x, steps=7, random_state=0))
