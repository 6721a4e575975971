"""Discrete plans as bridges: against brute force, closed forms, symmetries, and each other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import log, pi
from pathlib import Path

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.distributions import MultivariateNormal

from sbridge.baselines import sinkhorn
from sbridge.baselines.sinkhorn import (
    BlockwiseSinkhorn,
    GeomlossSinkhorn,
    PlanBridge,
    PlugIn,
    PotSinkhorn,
    Sinkhorn,
    plug_in_bridge,
)
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evaluation.distances import bures_wasserstein
from sbridge.evaluation.metrics import cbw_uvp, cbw_uvp_floor, path_kl
from sbridge.evaluation.value import reference_for, values
from sbridge.fields import Framed, Reversed
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.sampling import Simulation

FLOAT, EPSILON = torch.float64, 0.5
SOLVERS: list[Sinkhorn] = [
    PotSinkhorn(tolerance=1e-6),
    GeomlossSinkhorn(tolerance=1e-4),
    BlockwiseSinkhorn(tolerance=1e-5),
]
EVERY = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
OURS = SOLVERS[-1]  # all solvers share the way from potentials to a bridge
TRUTH = GaussianBridge(
    torch.tensor([0.5, -1.0]),
    torch.tensor([[1.0, 0.4], [0.4, 0.7]]),
    torch.tensor([-1.0, 1.5]),
    torch.tensor([[0.6, -0.3], [-0.3, 1.2]]),
    EPSILON,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=FLOAT)


def _problem(n: int = 150, epsilon: float = 0.4) -> Problem:
    """Two datasets without symmetries, of unequal sizes."""
    x0 = _normal(n, 2, seed=1)
    x1 = 1.5 * _normal(n + 20, 2, seed=2).tanh() + 0.3 * _normal(n + 20, 2, seed=3) + 2
    return Problem(x0.float(), x1.float(), epsilon, x0[:20].float(), x1[:20].float())


def _replaced(problem: Problem, x0: Tensor, x1: Tensor, epsilon: float) -> Problem:
    return Problem(x0, x1, epsilon, x0[:20], x1[:20])


def _gaussian_problem(n: int, seed: int = 0) -> Problem:
    draws = [torch.randn(n, 2, generator=_generator(seed + i)) for i in range(2)]
    x0, x1 = (
        mean + z @ torch.linalg.cholesky(cov).T
        for z, mean, cov in zip(draws, (TRUTH.mean0, TRUTH.mean1), (TRUTH.cov0, TRUTH.cov1), strict=True)
    )
    return Problem(x0, x1, EPSILON, x0[:20], x1[:20], truth=TRUTH)


@cache
def _gaussian_bridge() -> Bridge:
    return OURS.solve(_gaussian_problem(500))


def _plug_in(m: int = 30) -> PlugIn:
    return PlugIn(_normal(m, 3), _normal(m, seed=1) - 3, EPSILON)


@pytest.mark.parametrize("t", [0.0, 0.4, 0.95])
def test_plug_in_drift_is_the_exact_posterior_mean(t: float) -> None:
    """Of x1 given x_t, by Bayes' rule over all pairs of a plan: Brownian bridges, brute force."""
    x0, x1 = _normal(8, 3, seed=4), _normal(9, 3, seed=5)
    log_u, log_v = _normal(8, seed=6), _normal(9, seed=7)
    plan = torch.exp(log_u[:, None] + log_v - (x0[:, None] - x1).square().sum(-1) / (4 * EPSILON))
    x = _normal(5, 3, seed=8)
    centres = (1 - t) * x0[:, None] + t * x1
    if t > 0:
        likelihood = torch.exp(-(x[:, None, None] - centres).square().sum(-1) / (4 * EPSILON * t * (1 - t)) + 50)
    else:  # x_0 is x0 itself: ask at its points
        x, likelihood = x0[:5], torch.eye(8, dtype=FLOAT)[:5, :, None].expand(5, 8, 9)
    posterior = likelihood * plan
    end = (posterior.sum(1) / posterior.sum((1, 2))[:, None]) @ x1
    field = PlugIn(x1, log_v, EPSILON)
    torch.testing.assert_close(field(torch.tensor(t, dtype=FLOAT), x), (end - x) / (1 - t), rtol=1e-6, atol=1e-8)


def test_scalings_of_both_ends_are_those_of_one_plan() -> None:
    x0, x1, log_v = _normal(7, 2, seed=4), _normal(9, 2, seed=5), _normal(9, seed=7) - 3
    bridge = plug_in_bridge(x0, x1, log_v, EPSILON, tolerance=10)
    forward, backward = bridge.forward_field, bridge.backward_field
    assert isinstance(forward, PlugIn) and isinstance(backward, Reversed) and isinstance(backward.inner, PlugIn)
    torch.testing.assert_close(forward.log_scaling, log_v.float())
    log_u = backward.inner.log_scaling.double()
    plan = torch.exp(log_u[:, None] + log_v - (x0[:, None] - x1).square().sum(-1) / (4 * EPSILON))
    torch.testing.assert_close(plan.sum(1), torch.full((7,), 1 / 7, dtype=FLOAT), rtol=1e-5, atol=0)


@pytest.mark.parametrize("t", [0.05, 0.6, 1.0])
def test_backward_drift_is_the_exact_posterior_mean_of_the_start(t: float) -> None:
    x0, x1, epsilon = _normal(7, 2, seed=4), _normal(9, 2, seed=5), 0.4
    log_v = _normal(9, seed=7) - 3
    bridge = plug_in_bridge(x0, x1, log_v, epsilon, tolerance=10).double()
    cost = (x0[:, None] - x1).square().sum(-1) / (4 * epsilon)
    plan = torch.softmax(log_v - cost, dim=1) / 7
    if t < 1:
        x = _normal(5, 2, seed=8)
        centres = (1 - t) * x0[:, None] + t * x1
        likelihood = torch.exp(-(x[:, None, None] - centres).square().sum(-1) / (4 * epsilon * t * (1 - t)) + 30)
    else:
        x, likelihood = x1[:5], torch.eye(9, dtype=FLOAT)[:5, None].expand(5, 7, 9)
    posterior = likelihood * plan
    start = (posterior.sum(2) / posterior.sum((1, 2))[:, None]) @ x0
    found = bridge.backward_field(torch.tensor(t, dtype=FLOAT), x)
    torch.testing.assert_close(found, (x - start) / t, rtol=1e-4, atol=1e-5)


def test_blocks_do_not_change_the_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    field, x = _plug_in(), _normal(4, 25, 3, seed=2)
    t = torch.linspace(0, 1, 100, dtype=FLOAT).reshape(4, 25, 1)
    whole = field(t, x)
    for elements in (1, 7 * 30, 100 * 30):
        monkeypatch.setattr(sinkhorn, "_DISTANCES_AT_ONCE", elements)
        torch.testing.assert_close(field(t, x), whole)


def test_drift_is_finite_at_every_time_and_far_away() -> None:
    field = _plug_in().float()
    x = torch.cat([field.points, field.points + 1e-4, 1e3 * torch.ones(1, 3)])
    for t in (0.0, 0.5, 1 - 1e-6, 1.0):
        assert torch.isfinite(field(torch.tensor(t), x)).all()


def test_common_factor_of_the_scalings_is_immaterial() -> None:
    field, x, t = _plug_in(), _normal(6, 3, seed=2), torch.tensor(0.3, dtype=FLOAT)
    other = PlugIn(field.points, field.log_scaling + 700, EPSILON)
    torch.testing.assert_close(other(t, x), field(t, x))


def test_single_precision_is_enough_near_the_end() -> None:
    field, t = _plug_in(), torch.tensor(0.995, dtype=FLOAT)
    x = field.points + 0.05 * _normal(30, 3, seed=2)
    exact = field(t, x)
    torch.testing.assert_close(_plug_in().float()(t.float(), x.float()).double(), exact, rtol=1e-3, atol=1e-2)


def _marginal_errors(bridge: Bridge, problem: Problem) -> list[float]:
    """Of the plan that the drifts at both ends imply: where E[x1 | x0] summed over x0's points misses Σ x1."""
    t0, t1 = torch.zeros(()), torch.ones(())
    there = problem.x0 + bridge.forward_drift(t0, problem.x0)
    back = problem.x1 - bridge.backward_drift(t1, problem.x1)
    return [(there.mean(0) - problem.x1.mean(0)).norm().item(), (back.mean(0) - problem.x0.mean(0)).norm().item()]


@EVERY
def test_means_of_both_ends_are_the_datas(solver: Sinkhorn) -> None:
    problem = _problem()
    bridge = solver.solve(problem)
    assert bridge.remark == ""
    assert max(_marginal_errors(bridge, problem)) < 1e-4


@EVERY
@pytest.mark.parametrize("epsilon", [0.05, 0.4, 5.0])
def test_libraries_agree(solver: Sinkhorn, epsilon: float) -> None:
    problem = _problem(epsilon=epsilon)
    reference = PotSinkhorn(iterations=5000, tolerance=1e-9).solve(problem)
    bridge = solver.solve(problem)
    for t in (0.0, 0.5, 0.9):
        scale = reference.forward_drift(t, problem.test0).abs().max().item()
        for drift in ("forward_drift", "backward_drift"):
            ours, theirs = (getattr(b, drift)(t + 0.05, problem.test0) for b in (bridge, reference))
            torch.testing.assert_close(ours, theirs, atol=2e-3 * scale, rtol=0)


def test_small_epsilon_works_in_the_log_domain() -> None:
    """Costs of more than a thousand ε, whose kernels are zero in floating point."""
    problem = _problem(100, epsilon=2e-3)
    assert torch.cdist(problem.x0, problem.x1).square().max() / (4 * problem.epsilon) > 1000
    bridge = PotSinkhorn(iterations=20_000).solve(problem)
    assert bridge.remark == ""
    assert max(_marginal_errors(bridge, problem)) < 1e-2


@pytest.mark.parametrize("kind", [PotSinkhorn, GeomlossSinkhorn, BlockwiseSinkhorn], ids=lambda kind: kind.name)
def test_plan_that_did_not_converge_says_so(kind: type[Sinkhorn]) -> None:
    with pytest.warns(ConvergenceWarning, match=f"{kind.name}: plan did not converge: .* Take a larger ε"):
        remark = kind(iterations=1).solve(_problem(epsilon=0.05)).remark
    assert remark.startswith("plan did not converge: marginal error ")
    assert float(remark.split()[-1]) > 0.01


def test_plan_that_is_not_finite_says_so() -> None:
    x = _normal(5, 2)
    assert "did not converge" in plug_in_bridge(x, x, torch.full((5,), torch.nan, dtype=FLOAT), 0.4, 1e-3).remark


def test_the_potential_of_a_plan_solves_the_heat_equation() -> None:
    """exp λ(0, x)/2ε = E exp λ(1, x + √2ε Z)/2ε, by the trapezoidal rule."""
    field = PlugIn(_normal(6, 1, seed=1), _normal(6, seed=2), EPSILON)  # √2ε is one
    z, x = torch.linspace(-10, 10, 2001, dtype=FLOAT), _normal(5, 1, seed=3)
    start, end = torch.tensor([0.0, 1.0], dtype=FLOAT)
    values = field.potential(end, (x + z).reshape(-1, 1)).view(5, -1)
    wanted = torch.trapezoid((values - z.square() / 2).exp(), z).log() - 0.5 * log(2 * pi)
    torch.testing.assert_close(field.potential(start, x), wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("t", [0.2, 0.7])
@pytest.mark.parametrize("back", [False, True])
def test_the_drift_of_a_plan_is_the_gradient_of_its_potential(t: float, back: bool) -> None:
    """Some time earlier, because the points are blurred by the noise of that time; in any coordinates."""
    bridge, x = OURS.solve(_problem(), 0).double(), _normal(6, 2).requires_grad_()
    assert isinstance(bridge, PlanBridge)
    time = torch.tensor(t, dtype=FLOAT)
    potential = bridge.backward_potential if back else bridge.potential
    (slope,) = torch.autograd.grad(potential(time, x).sum(), x)
    framed = bridge.backward_field if back else bridge.forward_field
    place = framed._inside(time, x)
    plug_in = framed.inner.inner if back else framed.inner
    drift = framed.scale * framed.inner(time + (plug_in.blur if back else -plug_in.blur), place)
    drift = drift + framed.shift1 - framed.shift0
    torch.testing.assert_close(-slope if back else slope, drift, rtol=1e-6, atol=1e-6)


def test_points_are_blurred_the_more_the_farther_they_are_apart() -> None:
    """Never by more than a hundredth of the noise; what counts is their distance in units of it."""
    points, log_v = _normal(200, 2), torch.zeros(200, dtype=FLOAT)
    blurs = [PlugIn(scale * points, log_v, EPSILON).blur for scale in (1e-3, 0.03, 0.1, 10.0)]
    assert blurs == sorted(blurs) and (blurs[0], blurs[-1]) == (3e-5, 0.01) and len(set(blurs)) == 4
    assert PlugIn(0.03 * points, log_v, EPSILON).blur == PlugIn(0.06 * points, log_v, 4 * EPSILON).blur


@pytest.mark.parametrize("points", [50, 500])
def test_the_dual_gap_of_a_plan_is_its_path_divergence(points: int) -> None:
    problem = _gaussian_problem(5000)
    bridge = PotSinkhorn(points=points).solve(problem)
    held_out = _gaussian_problem(5000, seed=9)
    reference = reference_for(problem, 0)
    true, own = (torch.tensor(values(one, reference, held_out.x0, held_out.x1, 0)) for one in (TRUTH, bridge))
    gap, error = Estimate.of(true - own), path_kl(bridge, TRUTH, held_out.x0, _generator())
    assert abs(gap.value - error.value) < 0.1 * error.value + 3 * (gap.standard_error + error.standard_error)
    assert error.value > 4 * (gap.standard_error + error.standard_error)


def _drifts(bridge: Bridge, x: Tensor) -> Tensor:
    return torch.stack([d(t, x) for d in (bridge.forward_drift, bridge.backward_drift) for t in (0.2, 0.8)])


def test_order_of_the_points_is_immaterial() -> None:
    problem = _problem()
    turned = _replaced(problem, problem.x0.flip(0), problem.x1.roll(7, 0), problem.epsilon)
    ours, theirs = (_drifts(OURS.solve(p), problem.test0) for p in (problem, turned))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_bridge_turns_with_the_data() -> None:
    problem = _problem()
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    turned = _replaced(problem, problem.x0 @ turn, problem.x1 @ turn, problem.epsilon)
    ours, theirs = OURS.solve(problem), OURS.solve(turned)
    torch.testing.assert_close(
        _drifts(theirs, problem.test0 @ turn), _drifts(ours, problem.test0) @ turn, rtol=1e-3, atol=1e-3
    )


def test_bridge_moves_and_scales_with_the_data() -> None:
    problem, shift, scale = _problem(), torch.tensor([300.0, -50.0]), 4.0
    moved = _replaced(problem, problem.x0 * scale, problem.x1 * scale + shift, problem.epsilon * scale**2)
    ours, theirs = OURS.solve(problem), OURS.solve(moved)
    for t in (0.2, 0.8):
        for drift in ("forward_drift", "backward_drift"):
            expected = scale * getattr(ours, drift)(t, problem.test0) + shift
            found = getattr(theirs, drift)(t, scale * problem.test0 + t * shift)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)


def test_exchanging_the_datasets_reverses_time() -> None:
    problem = _problem()
    swapped = _replaced(problem, problem.x1, problem.x0, problem.epsilon)
    ours, theirs = OURS.solve(problem), OURS.solve(swapped)
    for t in (0.1, 0.5, 0.9):
        found = theirs.backward_drift(1 - t, problem.test0)
        torch.testing.assert_close(found, -ours.forward_drift(t, problem.test0), rtol=2e-3, atol=2e-3)


def test_backward_process_returns_to_the_start() -> None:
    problem = _gaussian_problem(500)
    ends = _gaussian_bridge().transport(problem.x1.repeat(4, 1), "backward", steps=50, random_state=0)
    torch.testing.assert_close(ends.mean(0), problem.x0.mean(0), atol=0.08, rtol=0)
    torch.testing.assert_close(ends.T.cov(), problem.x0.T.cov(), atol=0.12, rtol=0)


def _weighted_moments(log_weight: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Means (n, d) and covariances (n, d, d) of points (m, d) weighted by softmax(log_weight), (n, m)."""
    weight, points = torch.softmax(log_weight, dim=-1).double(), points.double()
    mean = weight @ points
    away = points - mean[:, None]
    return mean, torch.einsum("nm,nmi,nmj->nij", weight, away, away)


def _error(moments: tuple[Tensor, Tensor], starts: Tensor) -> float:
    """Mean Bures–Wasserstein distance of moments given x0 from the exact ones."""
    return bures_wasserstein(*moments, *TRUTH.conditional_moments(starts)).mean().item()


def _floor(points: Tensor, starts: Tensor) -> float:
    """The same of the data points weighted by the exact p(x1 | x0)/ρ1(x1): what they can know."""
    mean, cov = TRUTH.conditional_moments(starts)
    given, alone = MultivariateNormal(mean[:, None], cov[:1]), MultivariateNormal(*TRUTH.endpoint_moments())
    return _error(_weighted_moments(given.log_prob(points) - alone.log_prob(points), points), starts)


def test_conditional_moments_of_the_plan_are_those_of_the_gaussian_bridge() -> None:
    """Within twice what the data points themselves can know."""
    starts = _gaussian_problem(200, seed=7).x0
    framed = _gaussian_bridge().forward_field
    assert isinstance(framed, Framed) and isinstance(framed.inner, PlugIn)
    inner, points = framed.inner, framed.inner.points * framed.scale + framed.shift1
    inside = ((starts - framed.shift0) / framed.scale).to(inner.points)
    cost = torch.cdist(inside, inner.points).square() / (4 * inner.epsilon)
    assert _error(_weighted_moments(inner.log_scaling - cost, points), starts) < 2 * _floor(points, starts)


def test_endpoints_of_the_process_have_the_conditional_moments_of_the_gaussian_bridge() -> None:
    """Within twice what as many exact endpoints, and the data points, have."""
    problem, starts, per_point = _gaussian_problem(500), _gaussian_problem(30, seed=7).x0, 100
    found = cbw_uvp(_gaussian_bridge(), TRUTH, starts, per_point, _generator(1), Simulation(50)).value
    floor = cbw_uvp_floor(TRUTH, starts, per_point, _generator(2)).value
    data = 200 * _floor(problem.x1, starts) / TRUTH.cov1.trace().item()
    assert found < 2 * (floor + data)


def test_score_is_near_that_of_the_gaussian_bridge() -> None:
    """(b_F − b_B)/2ε combines both sides of one plan."""
    bridge = _gaussian_bridge()
    x = _gaussian_problem(50, seed=7).x0 / 2 + TRUTH.mean1 / 2
    gap = bridge.marginal_score(0.5, x) - TRUTH.marginal_score(0.5, x)
    assert gap.square().mean().sqrt() < 0.15 * TRUTH.marginal_score(0.5, x).square().mean().sqrt()


def test_subsample_is_chosen_by_the_random_state() -> None:
    few = replace(OURS, points=40)
    problem = _problem()
    first, again, other = (few.solve(problem, random_state=s) for s in (0, 0, 1))
    assert torch.equal(_drifts(first, problem.test0), _drifts(again, problem.test0))
    assert not torch.allclose(_drifts(first, problem.test0), _drifts(other, problem.test0))
    assert [len(t) for k, t in first.state_dict().items() if k.endswith("points")] == [40, 40]


@EVERY
def test_global_switch_of_gradients_is_left_alone(solver: Sinkhorn) -> None:
    with torch.no_grad():
        solver.solve(_problem(40))
        assert not torch.is_grad_enabled()
    solver.solve(_problem(40))
    assert torch.is_grad_enabled()


def test_buffers_are_single_precision_and_survive_a_file(tmp_path: Path) -> None:
    problem = _problem(40)
    bridge = OURS.solve(problem)
    plans = [tensor for name, tensor in bridge.state_dict().items() if name.endswith(("points", "log_scaling"))]
    assert [tensor.dtype for tensor in plans] == [torch.float32] * 4
    bridge.save(tmp_path / "bridge")
    loaded = Bridge.load(tmp_path / "bridge")
    assert torch.equal(_drifts(loaded, problem.test0), _drifts(bridge, problem.test0))
    assert loaded.remark == bridge.remark


def test_reversed_field_is_the_drift_seen_from_the_other_end() -> None:
    field, x = _plug_in(), _normal(6, 3, seed=2)
    t = torch.tensor(0.3, dtype=FLOAT)
    torch.testing.assert_close(Reversed(field)(t, x), -field(1 - t, x))


@EVERY
def test_the_most_that_a_plan_takes_is_the_time_of_all_iterations(
    solver: Sinkhorn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 of 512 rows take two seconds here, so an iteration takes four."""
    x = torch.zeros(512, 2)
    monkeypatch.setattr(sinkhorn, "perf_counter", iter([0.0, 2.0]).__next__)
    assert solver.most_seconds(Problem(x, x, 1.0, x, x)) == solver.attempts * solver.iterations * 4.0
