"""Mixture potentials: fixed point, dual, solver and both drifts, against closed forms and brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, vmap

from sbridge.bridge import Bridge, ExactBridge
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation.metrics import cbw_uvp_exact, path_kl
from sbridge.potentials import (
    FullMixtureDrift,
    FullMixturePotential,
    MixtureBackward,
    MixtureBridge,
    MixtureDrift,
    MixturePotential,
    PotentialBridge,
    backward,
    fit,
    full,
)
from sbridge.potentials.fit import Ascent, Parameters, State, clusters
from sbridge.potentials.full import FullParameters
from sbridge.potentials.nodes import principal_root
from sbridge.potentials.selection import Weighted
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge, ShiftedGaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.planar import MoonsToEightGaussians
from sbridge.problems.shapes import Shapes

FLOAT = torch.float64
SOLVERS = [MixturePotential, FullMixturePotential]
EVERY_SHAPE = pytest.mark.parametrize("kind", [Parameters, FullParameters], ids=["diagonal", "full"])
EVERY_SOLVER = pytest.mark.parametrize("solver", SOLVERS, ids=["diagonal", "full"])
# At smaller e the last steps raise the dual by less than the ascent looks at, with a thousandth of a moment left.
CONVERGENT = pytest.mark.parametrize(
    ("e", "kind"), [(0.1, Parameters), (1.0, Parameters), (0.3, FullParameters), (1.0, FullParameters)]
)
EVERY_DIM = pytest.mark.parametrize("dim", [2, 5])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=FLOAT, generator=_generator(seed))


@cache
def _mixture(dim: int = 2, epsilon: float = 0.5, samples: int = 20_000) -> Problem:
    return Mixture(dim=dim, epsilon=epsilon, samples=samples).build()


@cache
def _fitted(
    dim: int = 2, components: int | None = 5, solver: type[MixturePotential] = MixturePotential
) -> PotentialBridge:
    return solver(components).solve(_mixture(dim))


def _truth(problem: Problem) -> MixtureBridge:
    assert isinstance(problem.truth, MixtureBridge)
    return problem.truth


# The fixed point


def _ascent(x0: Tensor, x1: Tensor, e: float, count: int, kind: type[Parameters] = Parameters) -> Ascent:
    first, second = (Weighted(x, torch.ones_like(x[:, 0])) for x in (x0, x1))
    whole = kind.cells.of(first.weights[None], x0)
    start = kind.joining(whole, clusters(second, count, 4, 0, kind.cells), e)
    return Ascent(first, second, e, start)


def test_a_step_is_first_tried_at_about_the_length_that_last_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """For data that a potential describes badly, full steps overshoot at every iteration."""
    problem = _mixture(5, 0.05).exchanged()
    ascent, tried = _ascent(problem.x0[:4000], problem.x1[:4000], 2 * problem.epsilon, 12), [0]
    count = ascent._state

    def counted(start: Parameters) -> State:
        tried[0] += 1
        return count(start)

    monkeypatch.setattr(ascent, "_state", counted)
    steps = len(list(ascent.states(20))) - 1
    assert steps > 10 and tried[0] < 2.5 * steps


def _last(ascent: Ascent, steps: int) -> State:
    return list(ascent.states(steps))[-1]


def _planar(n: int = 4000) -> tuple[Tensor, Tensor]:
    problem = MoonsToEightGaussians(samples=n, test_samples=20).build()
    return problem.x0.double() / 3, problem.x1.double() / 3


@cache
def _converged(e: float, kind: type[Parameters]) -> State:
    return _last(_ascent(*_planar(1500), e, 4, kind), 400)


@pytest.fixture
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments as they are in the sample, of which the fixed point is known exactly."""
    monkeypatch.setattr(fit, "shrunk_variances", lambda variances, points: variances)
    monkeypatch.setattr(full, "shrunk_eigenvalues", lambda sizes, points: sizes)
    monkeypatch.setattr(full, "shrunk_variances", lambda variances, points: variances)


@pytest.mark.usefixtures("unshrunk")
@CONVERGENT
def test_derivatives_of_the_dual_vanish_at_the_end(e: float, kind: type[Parameters]) -> None:
    """For data that no mixture potential describes; by automatic differentiation, not by the moment equations."""
    (x0, x1), state = _planar(1500), _converged(e, kind)

    def dual(log_weights: Tensor, centres: Tensor, slopes: Tensor) -> Tensor:
        parameters = kind(log_weights, centres, slopes)
        end, start = parameters.log_terms1(x1, e), parameters.log_terms0(x0, e)
        return torch.logsumexp(end, dim=0).mean() - torch.logsumexp(start, dim=0).mean()

    found = state.parameters
    point = [value.requires_grad_() for value in (found.log_weights, found.centres, found.slopes)]
    value = dual(*point)
    assert value.item() == pytest.approx(state.dual, abs=1e-12)
    changes = torch.autograd.grad(value, point)
    assert max(change.abs().max().item() for change in changes) < 2e-5


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (4, 2), (9, 5), (1, 7)])
def test_products_and_single_components_give_the_same(count: int, dim: int) -> None:
    x, shares, roots = _normal(50, dim), _normal(count, 50, seed=1), _normal(count, dim, dim, seed=2)
    symmetric = roots @ roots.mT
    torch.testing.assert_close(full._squares_by_products(symmetric, x), full._squares_one_by_one(symmetric, x))
    torch.testing.assert_close(full._moments_by_products(shares, x), full._moments_one_by_one(shares, x))


@pytest.mark.usefixtures("unshrunk")
@CONVERGENT
def test_moment_equations_hold_at_the_end(e: float, kind: type[Parameters]) -> None:
    state = _converged(e, kind)
    found, zero, one = state.parameters, state.cells0, state.cells1
    torch.testing.assert_close(zero.masses, one.masses, atol=2e-6, rtol=0)
    slopes, before, after = (
        value if value.ndim == 3 else torch.diag_embed(value) for value in (found.slopes, zero.variances, one.variances)
    )
    means = (slopes @ zero.means[..., None])[..., 0] + found.centres
    torch.testing.assert_close(means, one.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(slopes @ before @ slopes + e * slopes, after, atol=1e-5, rtol=0)


@EVERY_SHAPE
@pytest.mark.parametrize("e", [0.1, 1.0])
@pytest.mark.parametrize("count", [3, 8])
def test_dual_rises_at_every_step_and_no_component_is_lost(e: float, count: int, kind: type[Parameters]) -> None:
    """For such data the plain fixed point lowers the dual, and at small e all components collapse into one."""
    states = list(_ascent(*_planar(), e / 9, count, kind).states(30))
    duals = [state.dual for state in states]
    assert len(duals) > 2 and duals == sorted(duals)
    assert states[-1].cells1.masses.min() > 0.2 / count
    assert torch.pdist(states[-1].cells1.means).min() > 0.3


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("dim", [1, 3, 8])
def test_one_component_is_the_gaussian_bridge_of_the_datas_moments(dim: int) -> None:
    """In any dimension, in one step: S is its regression R, and R x + r its mean."""
    x0, x1, epsilon = _normal(500, dim) * torch.linspace(0.5, 2, dim), 1 + 0.7 * _normal(400, dim, seed=1), 0.3
    ends = [(x.mean(0), torch.diag(x.var(0, correction=0))) for x in (x0, x1)]
    exact = GaussianBridge(*ends[0], *ends[1], epsilon)
    found = _last(_ascent(x0, x1, 2 * epsilon, 1), 3).parameters
    drift = MixtureDrift(found.log_weights, found.centres, 2 * epsilon * found.slopes, epsilon)
    for t in (0.0, 0.5, 1.0):
        time = torch.tensor(t, dtype=FLOAT)
        torch.testing.assert_close(drift(time, x0[:9]), exact.forward_field(time, x0[:9]), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("dim", [2, 7])
def test_one_full_component_is_the_gaussian_bridge_of_correlated_data(dim: int) -> None:
    """Both directions, in coordinates in which neither covariance is diagonal."""
    turns = [_normal(dim, dim, seed=seed) / dim**0.5 + torch.eye(dim, dtype=FLOAT) for seed in (3, 4)]
    x0, x1 = _normal(4000, dim) @ turns[0], 1 + _normal(4000, dim, seed=1) @ turns[1]
    bridge = FullMixturePotential(1, held_out=0.0005).solve(Problem(x0, x1, 0.3, x0, x1))
    exact = GaussianBridge(x0.mean(0), x0.T.cov(), x1.mean(0), x1.T.cov(), 0.3)
    for t in (0.0, 0.5, 1.0):
        for drift in ("forward_drift", "backward_drift"):
            expected = getattr(exact, drift)(t, x0[:9])
            torch.testing.assert_close(getattr(bridge, drift)(t, x0[:9]), expected, rtol=0.02, atol=0.02)
    for ours, theirs in zip(*(one.conditional_moments(x0[:9]) for one in (bridge, exact)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)


def test_full_components_without_correlations_are_diagonal_ones() -> None:
    shapes = (torch.tensor([-0.5, -1.0]), _normal(2, 3).float(), torch.rand(2, 3, generator=_generator(1)) + 0.1)
    axes = torch.eye(3)[[2, 0, 1]].expand(2, 3, 3)  # a permutation of the coordinates
    turned = (shapes[0], *((value[:, None] @ axes)[:, 0] for value in shapes[1:]))
    full, diagonal = FullMixtureDrift(*turned, 0.3, axes), MixtureDrift(*shapes, 0.3)
    x, t = _normal(6, 3).float(), torch.rand(6, 1, generator=_generator(2))
    torch.testing.assert_close(full(t, x), diagonal(t, x))
    torch.testing.assert_close(full.potential(t, x), diagonal.potential(t, x))
    for ours, theirs in zip(full.conditional_moments(x), diagonal.conditional_moments(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(full.endpoint_moments(x), diagonal.endpoint_moments(x), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("full", [False, True])
def test_endpoint_moments_follow_from_the_conditional_ones(full: bool) -> None:
    """By the law of total variance, over more points than one block holds."""
    shapes = (torch.tensor([-0.5, -1.0], dtype=FLOAT), _normal(2, 3), _normal(2, 3, seed=1).square() + 0.1)
    axes = torch.linalg.qr(_normal(2, 3, 3, seed=2)).Q
    drift, x = FullMixtureDrift(*shapes, 0.3, axes) if full else MixtureDrift(*shapes, 0.3), _normal(5000, 3, seed=3)
    (mean, cov), (means, covs) = drift.endpoint_moments(x), drift.conditional_moments(x)
    torch.testing.assert_close(mean, means.mean(0))
    torch.testing.assert_close(cov, means.T.cov(correction=0) + covs.mean(0))


# The dual


@pytest.mark.parametrize("components", [1, 3, 5])
def test_dual_is_below_the_energy_by_the_path_divergence(components: int) -> None:
    """KE* − D(λ) = 2ε KL(P*‖P_λ) ≥ 0.  The true potential's dual at the same points is KE*, with the same noise."""
    problem = _mixture(2)
    truth, bridge = _truth(problem), _fitted(2, components)
    zero, one = torch.zeros(()), torch.ones(())
    end = truth.potential(one, problem.test1) - bridge.potential(one, problem.test1)
    start = truth.potential(zero, problem.test0) - bridge.potential(zero, problem.test0)
    gap, divergence = (end.double().mean() - start.double().mean()).item(), _divergence(bridge, truth, problem.test0)
    error = sqrt(end.var().item() / len(end) + start.var().item() / len(start))
    expected, spread = (2 * problem.epsilon * value for value in (divergence.value, divergence.standard_error))
    assert gap == pytest.approx(expected, abs=4 * (error + spread))
    assert gap > -4 * error


def _divergence(bridge: PotentialBridge, truth: MixtureBridge, x0: Tensor) -> Estimate:
    """KL(P*‖P_λ) on all of [0, 1]."""
    x1, total = truth.endpoints(x0, _generator(1)), torch.zeros(len(x0), dtype=FLOAT)
    for part in range(32):
        t = (part + torch.rand(len(x0), 1, generator=_generator(part))) / 32
        x = truth.between(t, x0, x1, _generator(100 + part))
        total += (truth.forward_drift(t, x) - bridge.forward_drift(t, x)).double().square().sum(-1) / 32
    return Estimate.of(total / (4 * truth.epsilon))


@EVERY_DIM
def test_held_out_dual_is_at_most_the_energy(dim: int) -> None:
    problem = _mixture(dim)
    energy = _truth(problem).kinetic_energy()
    bridge = _fitted(dim)
    for dual in (bridge.held_out_dual, bridge.dual_on(problem.test0, problem.test1)):
        assert dual.value < energy.value + 4.5 * (dual.standard_error + energy.standard_error)
        assert dual.value > 0.95 * energy.value


# Recovery


@EVERY_SOLVER
@EVERY_DIM
def test_true_drift_is_recovered_to_the_statistical_floor(dim: int, solver: type[MixturePotential]) -> None:
    """p parameters fitted to n points cost p/2n nats on average where the model is true; twice that is allowed."""
    problem = _mixture(dim)
    bridge = _fitted(dim, solver=solver)
    shape = dim if solver is MixturePotential else dim * (dim + 1) // 2
    parameters = 5 * (dim + shape + 1) - 1
    assert path_kl(bridge, _truth(problem), problem.test0, _generator()).value < 2 * parameters / (2 * 18_000)
    assert cbw_uvp_exact(bridge, _truth(problem), problem.test0[:500]).value < 0.2


@EVERY_SOLVER
def test_data_that_two_components_do_not_help_get_more(solver: type[MixturePotential]) -> None:
    """Rings and a checkerboard around one centre have equal means and covariances."""
    problem = Shapes(dim=2, laws=("checkerboard:rings",), epsilon=0.05, samples=1000, test_samples=1000, seed=1).build()
    chosen, alone = (solver(count).solve(problem) for count in (None, 1))
    assert chosen.components >= 8
    values = [bridge.dual_on(problem.test0, problem.test1).value for bridge in (alone, chosen)]
    assert values[1] > values[0] + 0.3 * (problem.truth.kinetic_energy().value - values[0])


def test_components_are_chosen_by_held_out_points() -> None:
    """With too few every cluster but one is missed, with too many the drift is worse."""
    problem = _mixture(16, samples=2000)
    chosen, many = (MixturePotential(count).solve(problem) for count in (None, 20))
    assert chosen.components == 5
    errors = [path_kl(bridge, _truth(problem), problem.test0[:3000], _generator()).value for bridge in (chosen, many)]
    assert errors[0] < 0.06 < errors[1]


def _gaussian() -> Problem:
    return ShiftedGaussian(dim=4, shift=0.5, samples=20_000).build()


@pytest.mark.parametrize(
    ("problem", "bound"), [(_mixture(2), 0.006), (_mixture(5), 0.01), (_gaussian(), 0.003)], ids=["2", "5", "gaussian"]
)
def test_backward_drift_is_that_of_the_same_process(problem: Problem, bound: float) -> None:
    """In nats of path divergence from the true backward drift; the score follows from both."""
    truth = problem.truth
    assert truth is not None
    bridge = MixturePotential().solve(problem)
    x0, total = problem.test0[:60], 0.0
    x1 = truth.endpoints(x0, _generator(1))
    for t in (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.9):
        x = truth.between(torch.tensor(t), x0, x1, _generator(2))
        gap = bridge.backward_drift(t, x) - truth.backward_drift(t, x)
        score = bridge.marginal_score(t, x) - truth.marginal_score(t, x)
        assert score.square().mean().sqrt() < 0.1 * truth.marginal_score(t, x).square().mean().sqrt()
        total += gap.double().square().sum(-1).mean().item() / 7
    assert total / (4 * problem.epsilon) < bound


def test_backward_process_returns_to_the_start() -> None:
    """Forward paths to t = 0.5 and backward paths from the forward's end have one law there, and at t = 0."""
    problem, bridge = _mixture(2), _fitted(2)
    there = bridge.trajectories(problem.test0[:500], (0.0, 0.5, 1.0), random_state=0, steps=50)
    back = bridge.trajectories(there[2], (1.0, 0.5, 0.0), random_state=1, steps=50)
    for ours, theirs in ((back[1], there[1]), (back[2], there[0])):
        error = sqrt(2 * theirs.var(0).max().item() / len(theirs))
        assert (ours.mean(0) - theirs.mean(0)).abs().max() < 4.5 * error
        assert (ours.T.cov() - theirs.T.cov()).abs().max() < 6.5 * error * theirs.std(0).max()


# The backward drift


def _backward(dim: int, exact: bool = False) -> MixtureBackward:
    """Three components of unequal variances, started from two Gaussians."""
    centres, variances = 1.5 * _normal(3, dim, seed=1), 0.2 + 0.3 * _normal(3, dim, seed=2).abs()
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=FLOAT).log()
    start = torch.tensor([0.4, 0.6], dtype=FLOAT).log(), _normal(2, dim, seed=3), 0.3 + _normal(2, dim, seed=4).abs()
    return MixtureBackward(weights, centres, variances, 0.3, *start, exact=exact)


def _forward(field: MixtureBackward) -> MixtureDrift:
    return MixtureDrift(field.log_weights, field.centres, field.variances, field.epsilon)


@pytest.mark.parametrize(("dim", "exact"), [(1, False), (2, False), (5, False), (5, True)])
@pytest.mark.parametrize("t", [0.2, 0.6, 1.0])
def test_backward_drift_agrees_with_brute_force(dim: int, exact: bool, t: float) -> None:
    """E[x0 | x_t] by weighting points near the mean that is found; in five dimensions log f is only nearly normal."""
    field, variance = _backward(dim, exact), 2 * 0.3 * t
    drift = _forward(field)
    zero, time = torch.zeros((), dtype=FLOAT), torch.tensor(t, dtype=FLOAT)
    x0 = field.start_means[[0, 0, 1, 1]] + field.start_variances[[0, 0, 1, 1]].sqrt() * _normal(4, dim, seed=6)
    x = x0 + t * drift(zero, x0) + sqrt(variance) / 2 * _normal(4, dim, seed=7)
    found = field(time, x)
    starts = (x - t * found)[:, None] + sqrt(variance) * _normal(4, 50_000, dim, seed=5)
    normal = torch.distributions.Normal(field.start_means, field.start_variances.sqrt())
    log_start = torch.logsumexp(field.start_log_weights + normal.log_prob(starts[:, :, None]).sum(-1), dim=-1)
    kernel = (starts - (x - t * found)[:, None]).square().sum(-1) - (starts - x[:, None]).square().sum(-1)
    log_h = log_start + kernel / (2 * variance) - torch.logsumexp(drift.log_terms(zero, starts), dim=-1)
    weight = torch.softmax(log_h, dim=1)[..., None]
    mean = (weight * starts).sum(1)
    error = (weight * (starts - mean[:, None])).square().sum(1).sqrt()
    assert error.max() < 0.02
    assert ((found - (x - mean) / t).abs() < 4.5 * error / t + (0.001 if exact else 0.01)).all()


@pytest.mark.parametrize(
    ("dim", "epsilon", "bound"), [(2, 0.05, 5e-5), (16, 0.05, 2e-3), (2, 0.5, 1e-6), (16, 0.5, 1e-6)]
)
def test_exact_backward_drift_has_the_accuracy_it_states(
    dim: int, epsilon: float, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean squared error over 4ε on the benchmark, against eight times as many nodes."""
    bridge = _truth(Mixture(dim=dim, epsilon=epsilon, samples=20, test_samples=20).build()).double()
    monkeypatch.setattr(backward, "_EXACT", replace(backward._EXACT, nodes=2**14))
    finer = MixtureBridge(bridge.forward_field, bridge.spread0)
    x0, total = bridge.spread0 * _normal(60, dim), 0.0
    x1 = bridge.endpoints(x0, _generator(1))
    for t in (0.1, 0.5, 0.9):
        x = bridge.between(torch.tensor(t, dtype=FLOAT), x0, x1, _generator(2))
        total += (bridge.backward_drift(t, x) - finer.backward_drift(t, x)).square().sum(-1).mean().item() / 3
    assert total / (4 * epsilon) < bound


@EVERY_DIM
def test_score_at_the_start_is_that_of_the_fitted_start(dim: int) -> None:
    field = _backward(dim)
    drift = _forward(field)
    x, zero = _normal(20, dim), torch.zeros((), dtype=FLOAT)

    def log_density(x: Tensor) -> Tensor:
        normal = torch.distributions.Normal(field.start_means, field.start_variances.sqrt())
        return torch.logsumexp(field.start_log_weights + normal.log_prob(x).sum(-1), dim=0)

    score = (drift(zero, x) - field(zero, x)) / (2 * field.epsilon)
    torch.testing.assert_close(score, vmap(grad(log_density))(x))


@EVERY_DIM
def test_backward_drift_takes_one_time_or_one_for_each_point_in_any_blocks(
    dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, x = _backward(dim), _normal(3, 5, dim)
    t = torch.tensor(0.4, dtype=FLOAT)
    whole = field(t, x)
    torch.testing.assert_close(field(t.expand(5, 1), x), whole)
    monkeypatch.setattr(backward, "_ELEMENTS", 1)
    torch.testing.assert_close(field(t, x), whole)
    for end, near in ((0.0, 1e-8), (1.0, 1 - 1e-8)):
        values = [field(torch.tensor(time, dtype=FLOAT), x) for time in (end, near)]
        torch.testing.assert_close(values[0], values[1], atol=1e-3, rtol=1e-3)


@EVERY_DIM
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_gradients_of_the_backward_drift_are_finite_and_those_of_differences(dim: int, t: float) -> None:
    """At t = 0 too, where the variance of x0 given x_t is zero; densities need them.

    The gradients take p as fixed; where log f is only nearly normal, the values depend on it.
    """
    field, time, h = _backward(dim), torch.tensor(t, dtype=FLOAT), 1e-5
    x, v = _normal(6, dim, seed=8).requires_grad_(), _normal(6, dim, seed=9)
    (found,) = torch.autograd.grad((v * field(time, x)).sum(), x)
    steps = h * torch.eye(dim, dtype=FLOAT)[:, None]
    ahead, back = ((v * field(time, x.detach() + sign * steps)).sum(-1).T for sign in (1, -1))
    torch.testing.assert_close(found, (ahead - back) / (2 * h), rtol=0, atol=0.02 if dim < 4 else 0.1)


def test_gradients_of_the_backward_drift_exist_where_components_are_equal() -> None:
    """More components than dimensions, and two of them equal: zero eigenvalues of the covariance of log f repeat."""
    centres = _normal(9, 4)[[0, *range(8)]]
    start = torch.zeros(1, dtype=FLOAT), torch.zeros(1, 4, dtype=FLOAT), torch.ones(1, 4, dtype=FLOAT)
    field = MixtureBackward(torch.zeros(9, dtype=FLOAT), centres, torch.ones_like(centres), 0.3, *start)
    x, time, h = _normal(6, 4, seed=1).requires_grad_(), torch.tensor(0.5, dtype=FLOAT), 1e-5
    (found,) = torch.autograd.grad(field(time, x)[:, 0].sum(), x)
    step = h * torch.eye(4, dtype=FLOAT)[:, None]
    ahead, behind = ((field(time, x.detach() + sign * step)[..., 0]).T for sign in (1, -1))
    torch.testing.assert_close(found, (ahead - behind) / (2 * h), rtol=0, atol=0.02)


def test_principal_root_is_a_root_and_so_is_its_gradient() -> None:
    """d(RRᵀ) = d(cov), and cov⁺R has the gradient of (RRᵀ)⁻¹R, for a matrix with equal eigenvalues."""
    change = _normal(4, 4)
    change = change + change.T

    def cov(t: Tensor) -> Tensor:
        return (torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.5], dtype=FLOAT)) + t * change)[None]

    def square(t: Tensor) -> Tensor:
        root, _ = principal_root(cov(t), 4)
        return root @ root.mT

    def product(t: Tensor) -> Tensor:
        root, inverse = principal_root(cov(t), 4)
        return inverse.mT @ root

    zero = torch.zeros((), dtype=FLOAT)
    torch.testing.assert_close(square(zero), cov(zero))
    torch.testing.assert_close(product(zero), torch.eye(4, dtype=FLOAT)[None])
    torch.testing.assert_close(torch.autograd.functional.jacobian(square, zero), change[None])
    torch.testing.assert_close(torch.autograd.functional.jacobian(product, zero), torch.zeros_like(change)[None])


# The bridge as a whole


def _moved(problem: Problem, shift0: float, shift1: float, scale: float) -> Problem:
    x0, test0 = (scale * x + shift0 for x in (problem.x0, problem.test0))
    x1, test1 = (scale * x + shift1 for x in (problem.x1, problem.test1))
    return Problem(x0, x1, problem.epsilon * scale**2, test0, test1)


@cache
def _shifted(solver: type[MixturePotential]) -> PotentialBridge:
    """Far from the origin, in double precision."""
    problem = _mixture(2, samples=2000)
    wide = replace(problem, **{name: getattr(problem, name).double() for name in ("x0", "x1", "test0", "test1")})
    return solver(5).solve(_moved(wide, 30.0, -20.0, 4.0))


def _known(shared: bool) -> MixtureBridge:
    """A bridge that is not fitted, in double precision."""
    variances = torch.tensor([[0.1, 0.3], [0.2, 0.2], [0.4, 0.05]], dtype=FLOAT)
    drift = MixtureDrift(_normal(3), 1.5 * _normal(3, 2), variances[:1].expand(3, 2) if shared else variances, 0.5)
    return MixtureBridge(drift, 0.7)


@pytest.mark.parametrize(
    "make",
    [lambda: _known(False), lambda: _known(True), *(partial(_shifted, solver) for solver in SOLVERS)],
    ids=["known", "equal variances", "diagonal", "full"],
)
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_potential_solves_hamilton_jacobi_bellman(
    t: float, make: Callable[[], MixtureBridge | PotentialBridge]
) -> None:
    bridge: MixtureBridge | PotentialBridge = make()
    x = 4 * _normal(8, 2) + (30.0 - 50 * t if isinstance(bridge, PotentialBridge) else 0.0)
    times = torch.full((8,), t, dtype=FLOAT)

    def potential(t: Tensor, x: Tensor) -> Tensor:
        return bridge.potential(t[None, None], x[None])[0]

    rate, slope = vmap(grad(potential, argnums=(0, 1)))(times, x)
    curvature = vmap(lambda t, x: torch.trace(hessian(potential, argnums=1)(t, x)))(times, x)
    residual = rate + slope.square().sum(-1) / 2 + bridge.epsilon * curvature
    assert residual.abs().max() < 1e-10 * slope.square().sum(-1).max()
    torch.testing.assert_close(slope, bridge.forward_field(times[:, None], x))


@EVERY_SOLVER
def test_bridge_moves_and_scales_with_the_data(solver: type[MixturePotential]) -> None:
    problem = _mixture(2, samples=2000)
    ours, theirs = solver(5).solve(problem), _shifted(solver)
    x = problem.test0[:200]
    for t in (0.0, 0.3, 0.8):
        there = 4.0 * x.double() + 30 - 50 * t
        for drift in ("forward_drift", "backward_drift"):
            expected = 4.0 * getattr(ours, drift)(t, x).double() - 50
            torch.testing.assert_close(getattr(theirs, drift)(t, there), expected, rtol=2e-3, atol=2e-3)
    mean, cov = ours.conditional_moments(x)
    far_mean, far_cov = theirs.conditional_moments(4.0 * x.double() + 30)
    torch.testing.assert_close(far_mean, 4.0 * mean.double() - 20, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(far_cov, 16.0 * cov.double(), rtol=2e-3, atol=2e-2)


@EVERY_SOLVER
def test_plan_has_the_moments_it_says(solver: type[MixturePotential]) -> None:
    n, bridge = 50_000, _shifted(solver)
    x0 = torch.tensor([[31.0, 28.0]], dtype=FLOAT).expand(n, -1)
    mean, cov = (moment[0] for moment in bridge.conditional_moments(x0[:1]))
    ends = bridge.endpoints(x0, _generator())
    error = torch.diagonal(cov).sqrt()
    assert ((ends.mean(0) - mean).abs() / error).max() * sqrt(n) < 4.5
    assert ((ends.T.cov() - cov).abs() / torch.outer(error, error)).max() * sqrt(n) < 9


@EVERY_SOLVER
def test_process_ends_as_its_plan_and_as_the_data(solver: type[MixturePotential]) -> None:
    problem, bridge = _mixture(2), _fitted(2, solver=solver)
    moved = bridge.transport(problem.test0, steps=200, random_state=0)
    wanted_mean, wanted_cov = bridge.endpoint_moments()
    for points in (moved, bridge.endpoints(problem.test0, _generator()), problem.x1):
        error = sqrt(wanted_cov.diagonal().max().item() / 10_000)
        assert (points.mean(0) - wanted_mean).abs().max() < 5 * error
        assert (points.T.cov() - wanted_cov).abs().max() < 8 * error * wanted_cov.diagonal().max().sqrt()


@EVERY_SOLVER
def test_energy_is_that_of_the_paths(solver: type[MixturePotential]) -> None:
    """½E∫|u|²dt on Brownian bridges between ends of the plan."""
    bridge = _shifted(solver)
    x0 = bridge.starts.repeat(5, 1)
    x1 = bridge.endpoints(x0, _generator(1))
    t = torch.rand(len(x0), 1, dtype=FLOAT, generator=_generator(2))
    power = Estimate.of(bridge.forward_drift(t, bridge.between(t, x0, x1, _generator(3))).square().sum(-1) / 2)
    energy = bridge.kinetic_energy()
    assert abs(power.value - energy.value) < 4.5 * (power.standard_error + energy.standard_error)
    assert energy.standard_error < 0.05 * energy.value


@EVERY_SOLVER
def test_single_precision_follows_the_data_and_a_file_keeps_every_answer(
    tmp_path: Path, solver: type[MixturePotential]
) -> None:
    bridge, problem = _fitted(2, solver=solver), _mixture(2)
    assert {value.dtype for name, value in bridge.state_dict().items() if ".inner." in name} == {torch.float32}
    bridge.save(tmp_path / "bridge.safetensors")
    loaded = Bridge.load(tmp_path / "bridge.safetensors")
    assert isinstance(loaded, PotentialBridge) and isinstance(loaded, ExactBridge)
    x = problem.test0[:50]
    for drift in ("forward_drift", "backward_drift"):
        assert torch.equal(getattr(loaded, drift)(0.4, x), getattr(bridge, drift)(0.4, x))
    assert torch.equal(loaded.endpoints(x, _generator()), bridge.endpoints(x, _generator()))
    assert loaded.held_out_dual == bridge.held_out_dual and loaded.components == 5


def test_random_state_decides_everything() -> None:
    problem = _mixture(2, samples=2000)
    first, again, other = (MixturePotential(5).solve(problem, random_state=seed).forward_field for seed in (0, 0, 1))
    x, t = problem.test0[:20], torch.tensor(0.5)
    assert torch.equal(first(t, x), again(t, x))
    assert not torch.equal(first(t, x), other(t, x))


def test_weights_beyond_floating_point_do_no_harm() -> None:
    """Clusters whose distance is large in units of √ε: weights below e⁻¹⁰⁰⁰."""
    places = torch.tensor([0.0] * 18 + [6.0, 9.0]).repeat(50)[:, None] * torch.tensor([1.0, 0.0])
    x0, x1 = places + 0.3 * _normal(1000, 2).float(), places + 0.1 * _normal(1000, 2, seed=1).float()
    bridge = MixturePotential(3).solve(Problem(x0, x1, 1e-3, x0, x1))
    assert bridge.drift.log_weights.min() < -1000
    for end in (x0 + bridge.forward_drift(0.0, x0), x1 - bridge.backward_drift(1.0, x1)):
        away = (end - places).abs().amax(1)
        assert (away > 1.5).double().mean() < 0.02  # the parts fitted to need not have equal masses on both sides
    torch.testing.assert_close(bridge.backward_drift(0.0, x0), bridge.forward_drift(0.0, x0), atol=0.1, rtol=0)


@EVERY_SOLVER
@pytest.mark.parametrize("components", [None, 1])
def test_smallest_problem_and_repeated_points_are_solved(
    components: int | None, solver: type[MixturePotential]
) -> None:
    x0, x1 = _normal(10, 3), torch.ones(10, 3, dtype=FLOAT)
    bridge = solver(components).solve(Problem(x0, x1, 0.2, x0, x1))
    moved = bridge.transport(x0, random_state=0, steps=200)
    torch.testing.assert_close(moved, x1, atol=0.4, rtol=0)
    assert bridge.backward_drift(0.5, x0).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixturePotential(components=0), "components must be at least 1"),
        (lambda: MixturePotential(starts=0), "starts must be at least 1"),
        (lambda: MixturePotential(held_out=0.0), "held_out must be above 0"),
        (lambda: MixturePotential(held_out=1.0), "held_out must be below 1"),
    ],
)
def test_invalid_settings_are_refused(make: Callable[[], MixturePotential], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_fewer_different_points_than_components_are_solved_without_a_warning() -> None:
    x0, x1 = _normal(8, 2).repeat(40, 1), 1 + _normal(8, 2, seed=1).repeat(40, 1)
    moved = MixturePotential(12).solve(Problem(x0, x1, 0.02, x0, x1)).transport(x0, random_state=0)
    assert torch.cdist(moved, x1).amin(1).median() < 0.2


def test_more_components_than_the_points_allow_are_refused() -> None:
    with pytest.raises(InputError, match="10 points each"):
        MixturePotential(500).solve(_mixture(2, samples=2000))


@pytest.mark.parametrize("shared", [True, False])
@EVERY_DIM
def test_the_backward_drift_is_a_gradient(dim: int, shared: bool) -> None:
    """b_B = −∇λ̃, at the same nodes."""
    r, v = _normal(3, dim), 0.1 + 0.3 * torch.rand(3, dim, generator=_generator(), dtype=FLOAT)
    law = _normal(2), _normal(2, dim, seed=1), torch.full((2, dim), 0.4, dtype=FLOAT)
    field = MixtureBackward(_normal(3, seed=2), r, v[:1].expand(3, dim) if shared else v, 0.3, *law, exact=True)
    x = _normal(6, dim, seed=3).requires_grad_()
    for t in (0.02, 0.4, 1.0):
        time = torch.full((1, 1), t, dtype=FLOAT)
        (slope,) = torch.autograd.grad(field.potential(time, x).sum(), x)
        torch.testing.assert_close(field(time, x), -slope)


@pytest.mark.parametrize("solver", [MixturePotential(2), FullMixturePotential(2)], ids=lambda solver: solver.name)
def test_both_potentials_have_the_drifts_as_gradients(solver: MixturePotential) -> None:
    """In the user's coordinates, for either kind of backward drift."""
    x0, x1 = 3 * _normal(200, 2) + 7, 2 * _normal(200, 2, seed=1) - 5
    bridge = solver.solve(Problem(x0, x1, 4.0, x0, x1))
    x, t = (x0[:9] / 2 + x1[:9] / 2).requires_grad_(), torch.tensor(0.3, dtype=FLOAT)
    for potential, drift in ((bridge.potential, 1), (bridge.backward_potential, -1)):
        (slope,) = torch.autograd.grad(potential(t, x).sum(), x)
        own = bridge.forward_field if drift == 1 else bridge.backward_field
        torch.testing.assert_close(own(t, x.detach()), drift * slope, rtol=1e-4, atol=1e-4)


def test_the_held_out_dual_of_points_far_from_zero_is_not_rounded() -> None:
    """A shift of both samples changes nothing; single precision would round these points to whole numbers."""
    generator = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 600, 2, dtype=torch.float64, generator=generator)
    near, far = (
        MixturePotential(2).solve(Problem(x0 + shift, x1 + shift, 0.5, x0 + shift, x1 + shift)) for shift in (0.0, 2e7)
    )
    assert far.dual == pytest.approx(near.dual, abs=1e-4)
