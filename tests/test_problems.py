"""Exact bridges against their definitions, the oracle against its identities, and every problem family as a family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import log, pi, sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from sbridge.bridge import Bridge, ExactBridge
from sbridge.errors import InputError
from sbridge.interpolants import Brownian, Linear, Trigonometric
from sbridge.potentials import MixtureBridge, MixtureDrift
from sbridge.problems import PROBLEMS
from sbridge.problems.atoms import AtomBridge
from sbridge.problems.datasets import Digits, Photos
from sbridge.problems.gaussian import Gaussian, GaussianBridge, ShiftedGaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.planar import (
    Noising,
    eight_gaussians,
    eight_gaussians_log_density,
    moons,
    moons_log_density,
    s_curve,
    s_curve_log_density,
)
from sbridge.problems.sampled import Law
from sbridge.problems.shapes import Shapes
from sbridge.problems.sourced import KnownPotential
from sbridge.sampling import HEUN, RK4, integrate
from sbridge.theory.oracle import MixtureOracle

FLOAT = torch.float64
TIMES = [0.0, 0.02, 0.4, 0.9, 1.0]
EVERY_TIME = pytest.mark.parametrize("t", TIMES)


def _tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=FLOAT)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=FLOAT, generator=_generator(seed))


def _covariance(dim: int, seed: int) -> Tensor:
    root = _normal(dim, dim, seed=seed)
    return root @ root.T / dim + 0.2 * torch.eye(dim, dtype=FLOAT)


def _gaussian(dim: int = 3, epsilon: float = 0.3, seed: int = 0) -> GaussianBridge:
    means = _normal(2, dim, seed=seed)
    return GaussianBridge(means[0], _covariance(dim, seed + 1), means[1], _covariance(dim, seed + 2), epsilon)


def _mixture(dim: int = 2, shared: bool = False) -> MixtureBridge:
    """Three components, close enough to overlap."""
    variances = torch.cat([_tensor([[0.1, 0.3], [0.2, 0.2], [0.4, 0.05]]), 0.2 + _normal(3, dim - 2).square() / 9], 1)
    centres = torch.cat([_tensor([[1.5, 0.0], [-1.0, 1.0], [0.0, -2.0]]), _normal(3, dim - 2, seed=1) / 2], 1)
    return _started(_tensor([0.5, 0.3, 0.2]), centres, variances[:1].expand(3, dim) if shared else variances, 0.5, 0.7)


def _started(weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float, spread0: float) -> MixtureBridge:
    return MixtureBridge(MixtureDrift(weights.log(), centres, variances, epsilon), spread0)


EXACT: dict[str, Callable[[], ExactBridge]] = {
    "gaussian": _gaussian,
    "mixture": _mixture,
    "shapes": lambda: Shapes(dim=2, laws=("moons:gap",), epsilon=0.3).truth(_generator()),
    "known potential": lambda: KnownPotential(atoms=200, components=3, epsilon=0.3).truth(_generator()),
    "mixture of equal variances": lambda: _mixture(5, shared=True),
}
EVERY_BRIDGE = pytest.mark.parametrize("bridge", [make() for make in EXACT.values()], ids=list(EXACT))


def _starts(bridge: ExactBridge, n: int, seed: int = 0) -> Tensor:
    if isinstance(bridge, GaussianBridge):
        return bridge.mean0 + _normal(n, len(bridge.mean0), seed=seed) @ torch.linalg.cholesky(bridge.cov0).T
    if isinstance(bridge, AtomBridge):
        return bridge.pairs(n, _generator(seed))[0]
    assert isinstance(bridge, MixtureBridge)
    return bridge.spread0 * _normal(n, bridge.forward_field.dim, seed=seed)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), x.T.cov()


# Every exact bridge


@EVERY_BRIDGE
@pytest.mark.parametrize("t", [0.15, 0.85])
def test_drifts_are_conditional_expectations(bridge: ExactBridge, t: float) -> None:
    """b_F = E[(x1 − x_t)/(1−t) | x_t] and b_B = E[(x_t − x0)/t | x_t]: orthogonal to every function of x_t."""
    n, generator, time = 4_000, _generator(1), _tensor(t)
    x0 = _starts(bridge, n)
    x1 = bridge.endpoints(x0, generator)
    x = bridge.between(time, x0, x1, generator)
    tests = torch.stack([torch.ones(n, dtype=FLOAT), *x.T, *torch.sin(2 * x.T), *x.T.square()], dim=1)
    for field, target in (
        (bridge.forward_field, (x1 - x) / (1 - time)),
        (bridge.backward_field, (x - x0) / time),
    ):
        products = (target - field(time, x))[:, :, None] * tests[:, None, :]
        assert (products.mean(0).abs() / products.std(0)).max() * sqrt(n) < 4.5


@EVERY_BRIDGE
def test_conditional_moments_are_those_of_the_endpoints(bridge: ExactBridge) -> None:
    n = 50_000
    for start in _starts(bridge, 2):
        x0 = start.expand(n, -1)
        mean, cov = (moment[0] for moment in bridge.conditional_moments(x0[:1]))
        away = bridge.endpoints(x0, _generator()) - mean
        products = away[:, :, None] * away[:, None]
        assert (away.mean(0).abs() / away.std(0)).max() * sqrt(n) < 4.5
        assert ((products.mean(0) - cov).abs() / products.std(0)).max() * sqrt(n) < 4.5


@EVERY_BRIDGE
def test_endpoint_moments_average_the_conditional_moments(bridge: ExactBridge) -> None:
    mean, cov = bridge.endpoint_moments()
    means, covs = bridge.conditional_moments(_starts(bridge, 100_000))
    torch.testing.assert_close(means.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(covs.mean(0) + means.T.cov(), cov, atol=0.06, rtol=0)


@EVERY_BRIDGE
def test_sde_carries_each_end_to_the_other(bridge: ExactBridge) -> None:
    x0 = _starts(bridge, 4_000)
    x1 = bridge.endpoints(x0, _generator(5))
    there = bridge.transport(x0, "forward", steps=50, stepper=HEUN, random_state=1)
    back = bridge.transport(x1[:500], "backward", steps=12, stepper=HEUN, random_state=2)
    for found, wanted in ((there, bridge.endpoint_moments()), (back, _moments(_starts(bridge, 200_000, seed=3)))):
        size = torch.diagonal(wanted[1]).max()
        mean, cov = _moments(found)
        assert (mean - wanted[0]).abs().max() < 4.5 * (size / len(found)).sqrt()
        assert (cov - wanted[1]).abs().max() < 7 * size / sqrt(len(found))


@EVERY_BRIDGE
def test_kinetic_energy_is_the_time_average_of_the_drift(bridge: ExactBridge) -> None:
    n, generator = 100_000, _generator(4)
    x0 = _starts(bridge, n)
    t = ((torch.arange(n) + 0.5) / n)[torch.randperm(n, generator=generator), None].to(FLOAT)
    x = bridge.between(t, x0, bridge.endpoints(x0, generator), generator)
    power = bridge.forward_field(t, x).square().sum(-1) / 2
    energy = bridge.kinetic_energy()
    assert abs(power.mean() - energy.value) < 4.5 * (power.std() / sqrt(n) + energy.standard_error)


@EVERY_BRIDGE
@EVERY_TIME
def test_fields_take_one_time_or_one_for_each_point(bridge: ExactBridge, t: float) -> None:
    x = _starts(bridge, 6).reshape(2, 3, -1)
    for field in (bridge.forward_field, bridge.backward_field):
        value = field(_tensor(t), x)
        assert value.shape == x.shape and value.isfinite().all()
        torch.testing.assert_close(field(torch.full((2, 3, 1), t, dtype=FLOAT), x), value)
        torch.testing.assert_close(field(torch.full((3, 1), t, dtype=FLOAT), x[0]), value[0])


@EVERY_BRIDGE
def test_fields_are_continuous_at_the_ends(bridge: ExactBridge) -> None:
    x = _starts(bridge, 5)
    for field in (bridge.forward_field, bridge.backward_field):
        for end, near in ((0.0, 1e-7), (1.0, 1 - 1e-7)):
            torch.testing.assert_close(field(_tensor(end), x), field(_tensor(near), x), atol=1e-4, rtol=1e-4)


@EVERY_BRIDGE
def test_saving_keeps_every_answer(bridge: ExactBridge, tmp_path: Path) -> None:
    bridge.save(tmp_path / "bridge.safetensors")
    loaded = Bridge.load(tmp_path / "bridge.safetensors")
    assert isinstance(loaded, ExactBridge) and type(loaded) is type(bridge)
    x = _starts(bridge, 20)
    for method in ("forward_drift", "backward_drift"):
        torch.testing.assert_close(getattr(loaded, method)(0.3, x), getattr(bridge, method)(0.3, x), atol=0, rtol=0)
    assert loaded.kinetic_energy() == bridge.kinetic_energy()
    torch.testing.assert_close(loaded.endpoints(x, _generator()), bridge.endpoints(x, _generator()), atol=0, rtol=0)


# Gaussian to Gaussian


def test_gaussian_plan_has_both_marginals_and_the_known_cross_covariance() -> None:
    bridge = _gaussian(4)
    mean, cov = bridge.conditional_moments(bridge.mean0[None])
    slope = cov[0] / (2 * bridge.epsilon)
    torch.testing.assert_close(mean[0], bridge.mean1)
    torch.testing.assert_close(slope @ bridge.cov0 @ slope.T + cov[0], bridge.cov1)
    root = _power(bridge.cov0, 0.5)
    eye = torch.eye(4, dtype=FLOAT)
    middle = _power(root @ bridge.cov1 @ root + bridge.epsilon**2 * eye, 0.5)
    known = root @ middle @ _power(bridge.cov0, -0.5) - bridge.epsilon * eye
    torch.testing.assert_close(bridge.cov0 @ slope, known)


def _power(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values**power @ vectors.T


@pytest.mark.parametrize("t", [0.01, 0.3, 0.99])
def test_gaussian_drifts_follow_from_the_joint_covariance(t: float) -> None:
    """E[x1 | x_t] = m1 + Cov(x1, x_t) Σ_t⁻¹ (x − m_t), and likewise x0."""
    bridge, time = _gaussian(4), _tensor(t)
    cross = bridge.cov0 @ bridge.conditional_moments(bridge.mean0[None])[1][0] / (2 * bridge.epsilon)
    mean, cov = bridge.marginal(t)
    x = _normal(7, 4, seed=9)
    pull = torch.linalg.solve(cov, (x - mean).T)
    end1 = bridge.mean1 + (((1 - t) * cross.T + t * bridge.cov1) @ pull).T
    end0 = bridge.mean0 + (((1 - t) * bridge.cov0 + t * cross) @ pull).T
    torch.testing.assert_close(bridge.forward_field(time, x), (end1 - x) / (1 - t))
    torch.testing.assert_close(bridge.backward_field(time, x), (x - end0) / t)


@EVERY_TIME
def test_gaussian_drifts_differ_by_the_score(t: float) -> None:
    bridge = _gaussian(4)
    mean, cov = bridge.marginal(t)
    x = _normal(7, 4, seed=9)
    torch.testing.assert_close(bridge.marginal_score(_tensor(t), x), -torch.linalg.solve(cov, (x - mean).T).T)


def test_gaussian_marginals_meet_the_ends() -> None:
    bridge = _gaussian(4)
    for t, mean, cov in ((0.0, bridge.mean0, bridge.cov0), (1.0, bridge.mean1, bridge.cov1)):
        torch.testing.assert_close(bridge.marginal(t), (mean, cov))


def test_gaussian_kinetic_energy_of_the_isotropic_example() -> None:
    zero, one = _tensor([0.0]), _tensor([[1.0]])
    assert GaussianBridge(zero, one, zero, one, 0.1).kinetic_energy().value == pytest.approx(0.004996, abs=5e-7)


def test_dsbm_endpoint_covariance() -> None:
    """Cov(x0, x1) = (√5 − 1)/2 in each coordinate at 2ε = 1."""
    truth = ShiftedGaussian(dim=5).build().truth
    assert isinstance(truth, GaussianBridge)
    mean, cov = truth.conditional_moments(truth.mean0[None])
    torch.testing.assert_close(cov[0], torch.eye(5) * (sqrt(5) - 1) / 2)
    torch.testing.assert_close(mean[0], torch.full((5,), 0.1))


def test_default_gaussian_leaves_the_linear_interpolant_a_gap_of_six_percent() -> None:
    """The plan of its SDE dX = A_t X dt + √(2ε) dW is Gaussian with slope M_1, Ṁ = A M, M_0 = I."""
    truth = Gaussian().build().truth
    assert isinstance(truth, GaussianBridge)
    cov0, cov1 = truth.cov0.double(), truth.cov1.double()
    oracle = MixtureOracle(
        Linear(Brownian(truth.epsilon)),
        *(_tensor([1.0]), torch.zeros(1, 2, dtype=FLOAT), cov0[None]),
        *(_tensor([1.0]), torch.zeros(1, 2, dtype=FLOAT), cov1[None]),
    )
    drift = partial(oracle.drift, epsilon=truth.epsilon)
    _, slope = integrate(drift, torch.eye(2, dtype=FLOAT), (0.0, 1.0), 0.0, 20, RK4, _generator())
    best = truth.conditional_moments(torch.zeros(1, 2))[1][0].double()
    away, cov = slope - best / (2 * truth.epsilon), cov1 - slope.T @ cov0 @ slope
    root = _power(best, 0.5)
    bures = torch.trace(best + cov - 2 * _power(root @ cov @ root, 0.5)) + torch.trace(away.T @ cov0 @ away)
    assert 100 * bures / (torch.trace(cov1) / 2) == pytest.approx(6.0, abs=0.1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.1, 10), t=st.floats(0, 1), epsilon=st.floats(0.01, 5))
def test_gaussian_drift_is_equivariant(seed: int, factor: float, t: float, epsilon: float) -> None:
    bridge, x, time = _gaussian(3, epsilon, seed), _normal(4, 3, seed=seed + 7), _tensor(t)
    shift0, shift1 = _normal(2, 3, seed=seed + 8)
    turn = torch.linalg.qr(_normal(3, 3, seed=seed + 9)).Q
    arguments = bridge.mean0, bridge.cov0, bridge.mean1, bridge.cov1
    moved = GaussianBridge(bridge.mean0 + shift0, bridge.cov0, bridge.mean1 + shift1, bridge.cov1, epsilon)
    scaled = GaussianBridge(*(v * factor ** min(v.ndim, 2) for v in arguments), epsilon=epsilon * factor**2)
    turned = GaussianBridge(*(turn @ v if v.ndim == 1 else turn @ v @ turn.T for v in arguments), epsilon=epsilon)
    for name in ("forward_field", "backward_field"):
        plain = getattr(bridge, name)(time, x)
        path = x + (1 - time) * shift0 + time * shift1
        torch.testing.assert_close(getattr(moved, name)(time, path), plain + shift1 - shift0)
        torch.testing.assert_close(getattr(scaled, name)(time, factor * x), factor * plain)
        torch.testing.assert_close(getattr(turned, name)(time, x @ turn.T), plain @ turn.T)


@pytest.mark.parametrize("cov", [[[1.0, 0.0], [0.0, -1.0]], [[1.0, 0.5], [0.0, 1.0]]], ids=["negative", "lopsided"])
def test_gaussian_bridge_refuses_what_is_no_covariance(cov: list[list[float]]) -> None:
    zero, eye = torch.zeros(2, dtype=FLOAT), torch.eye(2, dtype=FLOAT)
    with pytest.raises(InputError, match="positive definite"):
        GaussianBridge(zero, eye, zero, _tensor(cov), 0.1)


# Mixture potential


def test_mixture_potential_at_the_ends_is_the_published_one() -> None:
    bridge = _mixture()
    drift = bridge.forward_field
    x, e, (w, r, v) = _normal(6, 2), 2 * bridge.epsilon, (drift.log_weights.exp(), drift.centres, drift.variances)
    normal = torch.distributions.Normal(r, v.sqrt()).log_prob(x[:, None]).sum(-1)
    end = x.square().sum(-1) / 2 + e * torch.logsumexp(w.log() + normal, dim=-1)
    torch.testing.assert_close(bridge.potential(_tensor(1.0), x), end)
    c = (w * torch.exp(x @ r.T / e + x.square() @ v.T / (2 * e**2))).sum(-1)
    start = -x.square().sum(-1) / 2 + e * c.log() - e * log(2 * pi * e)
    torch.testing.assert_close(bridge.potential(_tensor(0.0), x), start)


def _line(epsilon: float, shared: bool) -> MixtureBridge:
    variances = _tensor([[0.1], [0.1], [0.1]] if shared else [[0.1], [0.4], [0.05]])
    return _started(_tensor([0.5, 0.2, 0.3]), _tensor([[-2.0], [1.0], [3.0]]), variances, epsilon, 0.5)


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("t", [1e-3, 0.3, 1.0])
def test_mixture_backward_drift_agrees_with_quadrature(t: float, epsilon: float) -> None:
    bridge = _line(epsilon, shared=False)
    x0 = _starts(bridge, 6)
    x1 = bridge.endpoints(x0, _generator(1))
    x = bridge.between(_tensor(t), x0, x1, _generator(2))
    nodes = torch.linspace(-5, 5, 50_001, dtype=FLOAT).expand(len(x), -1)
    log_h = -nodes.square() / (2 * 0.5**2) - (x - nodes).square() / (4 * epsilon * t)
    log_h = log_h - bridge.potential(_tensor(0.0), nodes[..., None]) / (2 * epsilon)
    start = (torch.softmax(log_h, dim=1) * nodes).sum(1, keepdim=True)
    found = bridge.backward_field(_tensor(t), x)
    torch.testing.assert_close(found, (x - start) / t, atol=5e-3 * sqrt(2 * epsilon), rtol=1e-4)


def test_mixture_backward_drift_at_the_start_is_exact() -> None:
    bridge = _mixture()
    x = _starts(bridge, 10)
    score = -x / bridge.spread0**2
    torch.testing.assert_close(bridge.marginal_score(0.0, x), score)


@pytest.mark.parametrize("t", [0.3, 0.9])
def test_mixture_backward_drift_does_not_depend_on_which_nodes_are_used(t: float) -> None:
    """Where the components share one variance the nodes have K dimensions, else d: here both kinds must agree."""
    shared = _mixture(5, shared=True)
    nudged = _mixture(5, shared=True).forward_field
    nudged.variances = nudged.variances + 1e-9 * torch.eye(3, 5, dtype=FLOAT)
    other = MixtureBridge(nudged, shared.spread0)
    x = _starts(shared, 20)
    torch.testing.assert_close(
        other.backward_field(_tensor(t), x), shared.backward_field(_tensor(t), x), atol=2e-3, rtol=0
    )


def test_mixture_of_one_component_is_a_gaussian_bridge() -> None:
    centre, variance, epsilon, spread = _normal(1, 3), _tensor([[0.2, 0.5, 1.0]]), 0.4, 0.6
    mixture = _started(_tensor([1.0]), centre, variance, epsilon, spread)
    cov0 = spread**2 * torch.eye(3, dtype=FLOAT)
    slope = variance[0] / (2 * epsilon)
    gaussian = GaussianBridge(
        torch.zeros(3, dtype=FLOAT), cov0, centre[0], torch.diag(variance[0] + slope**2 * spread**2), epsilon
    )
    x = _normal(10, 3, seed=1)
    for t in TIMES:
        torch.testing.assert_close(mixture.forward_drift(t, x), gaussian.forward_drift(t, x))
        torch.testing.assert_close(mixture.backward_drift(t, x), gaussian.backward_drift(t, x))
    assert mixture.kinetic_energy().value == pytest.approx(gaussian.kinetic_energy().value, abs=1e-4)
    for found, wanted in zip(mixture.endpoint_moments(), gaussian.endpoint_moments(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def _energy_on_a_grid(bridge: MixtureBridge) -> float:
    """E[λ(1, x1) − λ(0, x0)] on the line, with p(x1 | x0) ∝ exp((λ(1, x1) − ½|x1 − x0|²)/2ε)."""
    x0 = bridge.spread0 * torch.linspace(-8, 8, 401, dtype=FLOAT)[:, None]
    x1 = torch.linspace(-30, 30, 6001, dtype=FLOAT)
    end = bridge.potential(_tensor(1.0), x1[:, None])
    plan = torch.softmax((end - (x0 - x1).square() / 2) / (2 * bridge.epsilon), dim=1)
    start = torch.softmax(-x0[:, 0].square() / (2 * bridge.spread0**2), dim=0)
    return float(start @ (plan @ end - bridge.potential(_tensor(0.0), x0)))


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 5.0])
def test_mixture_kinetic_energy_on_the_line_agrees_with_quadrature(epsilon: float) -> None:
    """To six digits for the benchmark's problem, to four where components overlap or differ in variance."""
    benchmark = Mixture(dim=1, epsilon=epsilon, samples=20, test_samples=20).build().truth
    assert isinstance(benchmark, MixtureBridge)
    for bridge, rel in ((benchmark.double(), 3e-6), (_line(epsilon, True), 1e-4), (_line(epsilon, False), 1e-4)):
        assert bridge.kinetic_energy().value == pytest.approx(_energy_on_a_grid(bridge), rel=rel)


@pytest.mark.parametrize(("epsilon", "variance"), [(0.05, 1 / 16), (0.5, 1 / 16), (5.0, 1 / 100)])
def test_mixture_problem_is_the_published_benchmark(epsilon: float, variance: float) -> None:
    truth = Mixture(dim=4, epsilon=epsilon, samples=20, test_samples=20).build().truth
    assert isinstance(truth, MixtureBridge)
    drift = truth.forward_field
    torch.testing.assert_close(drift.centres.norm(dim=1), torch.full((5,), 5.0))
    assert (drift.variances == variance).all() and (drift.log_weights == log(0.2)).all() and truth.spread0 == 0.5


# Oracle


ORACLE = MixtureOracle(
    Trigonometric(Brownian(0.3)),
    *(_tensor([0.4, 0.6]), _tensor([[-1.0], [1.5]]), _tensor([[[0.3]], [[0.2]]])),
    *(_tensor([0.7, 0.3]), _tensor([[2.0], [-2.0]]), _tensor([[[0.1]], [[0.5]]])),
)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_oracle_density_moves_by_the_velocity(t: float) -> None:
    """∂tρ + ∇·(bρ) = 0, and the score is ∇log ρ; in t by a difference of fourth order."""
    time, x = _tensor([t]), torch.linspace(-3, 3, 9, dtype=FLOAT)[:, None].requires_grad_()

    def density(t: Tensor, x: Tensor) -> Tensor:
        return ORACLE.log_density(t, x).exp()

    step = 1e-3
    stencil = {-2: 1, -1: -8, 1: 8, 2: -1}
    rate = sum(weight * density(time + k * step, x) for k, weight in stencil.items()) / (12 * step)
    (slope,) = torch.autograd.grad(density(time, x).sum(), x)
    (divergence,) = torch.autograd.grad((ORACLE.velocity(time, x)[:, 0] * density(time, x)).sum(), x)
    torch.testing.assert_close(rate + divergence[:, 0], torch.zeros(9, dtype=FLOAT), atol=1e-7, rtol=0)
    torch.testing.assert_close(ORACLE.score(time, x), slope / density(time, x)[:, None])
    assert quad(lambda y: float(density(time, _tensor([[y]]))), -8, 8)[0] == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_oracle_fields_are_conditional_expectations(t: float) -> None:
    n = 200_000
    ends = [
        _draw(ORACLE.weights0, ORACLE.means0, ORACLE.covs0, n, 0),
        _draw(ORACLE.weights1, ORACLE.means1, ORACLE.covs1, n, 1),
    ]
    path = ORACLE.interpolant.path(_tensor(t), *ends, _normal(n, 1, seed=2))
    tests = torch.cat([torch.ones_like(path.x), path.x, torch.sin(2 * path.x), torch.exp(-path.x.square())], dim=1)
    for field, target in (
        (ORACLE.velocity, path.mean_rate + path.gamma_rate * path.z),
        (ORACLE.mean_velocity, path.mean_rate),
        (ORACLE.denoiser, path.z),
    ):
        products = (target - field(path.t, path.x)) * tests
        assert (products.mean(0).abs() / products.std(0)).max() * sqrt(n) < 4.5


def _draw(weights: Tensor, means: Tensor, covs: Tensor, n: int, seed: int) -> Tensor:
    generator = _generator(seed)
    k = torch.multinomial(weights, n, replacement=True, generator=generator)
    return means[k] + covs[k, :, 0].sqrt() * torch.randn(n, 1, dtype=FLOAT, generator=generator)


@EVERY_TIME
def test_oracle_fields_fit_together(t: float) -> None:
    time, x = _tensor(t), torch.linspace(-3, 3, 9, dtype=FLOAT)[:, None]
    gamma, half_rate = ORACLE.interpolant.variance(time).sqrt(), 0.3 * (1 - 2 * t)
    score, velocity = ORACLE.score(time, x), ORACLE.velocity(time, x)
    assert score.isfinite().all() and velocity.isfinite().all()
    torch.testing.assert_close(velocity, ORACLE.mean_velocity(time, x) - half_rate * score)
    torch.testing.assert_close(ORACLE.denoiser(time, x), -gamma * score)
    torch.testing.assert_close(ORACLE.drift(time, x, -0.2), velocity - 0.2 * score)


# Every family of problems


SMALL = {"samples": 300, "test_samples": 100}
EVERY_PROBLEM = pytest.mark.parametrize("name", list(PROBLEMS))


def _small(name: str, seed: int = 0) -> Any:
    family: Any = PROBLEMS[name]
    return family(**({} if name == Digits.name else SMALL), seed=seed)


@EVERY_PROBLEM
def test_problems_are_named_finite_single_precision_points(name: str) -> None:
    family = _small(name)
    problem = family.build()
    assert problem.name.startswith(name) and problem.epsilon == family.epsilon
    for points in (problem.x0, problem.x1, problem.test0, problem.test1):
        assert points.dtype == torch.float32 and points.isfinite().all() and points.shape[1] == problem.dim
    if name != Digits.name:
        assert [len(x) for x in (problem.x0, problem.x1, problem.test0, problem.test1)] == [300, 300, 100, 100]


@EVERY_PROBLEM
def test_seed_decides_the_points(name: str) -> None:
    first, again, other = (_small(name, seed).build() for seed in (1, 1, 2))
    for label in ("x0", "x1", "test0", "test1"):
        assert torch.equal(getattr(first, label), getattr(again, label))
        assert not torch.equal(getattr(first, label), getattr(other, label))


@EVERY_PROBLEM
def test_held_out_points_are_not_training_points(name: str) -> None:
    problem = _small(name).build()
    if name == Photos.name:  # pixels may share a colour, so count: no colour is taken more often than it occurs
        taken = [torch.cat(pair) for pair in ((problem.x0, problem.test0), (problem.x1, problem.test1))]
        for pixels, picture in zip(taken, Photos.pictures(), strict=True):
            _assert_subset(pixels, picture.reshape(-1, 3))
    else:
        for pair in ((problem.x0, problem.test0), (problem.x1, problem.test1)):
            assert torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").min() > 0


def _assert_subset(rows: Tensor, of: Tensor) -> None:
    """rows, with their multiplicities, are among `of`."""
    _, labels, counts = torch.unique(torch.cat([of, rows]), dim=0, return_inverse=True, return_counts=True)
    drawn = torch.bincount(labels[len(of) :], minlength=len(counts))
    assert (2 * drawn <= counts).all()


@EVERY_PROBLEM
def test_truth_fits_the_points(name: str) -> None:
    problem = replace(_small(name), **({} if name == Digits.name else {"samples": 20_000})).build()
    if problem.truth is None:
        return
    assert problem.truth.epsilon == problem.epsilon
    mean, cov = problem.truth.endpoint_moments()
    size = torch.diagonal(cov).max()
    assert (problem.x1.mean(0) - mean).abs().max() < 4.5 * (size / 20_000).sqrt()
    assert (problem.x1.T.cov() - cov).abs().max() < 7 * size / sqrt(20_000)
    correlation = torch.corrcoef(torch.stack([problem.x0[:, 0], problem.x1[:, 0]]))[0, 1]
    assert correlation.abs() < 4.5 / sqrt(20_000), "rows of x0 and x1 must not be pairs of the plan"


def test_eight_gaussians_have_equal_masses() -> None:
    x = eight_gaussians(800, _generator())
    angle = torch.round(torch.atan2(x[:, 1], x[:, 0]) / (pi / 4)).long() % 8
    assert ((torch.bincount(angle) - 100).abs() <= 3).all()  # a point of a cluster may fall nearer to the next
    assert (x.norm(dim=1) - 5).abs().max() < 5 * 0.1**0.25


def test_moons_and_s_curve_lie_on_their_curves() -> None:
    x = (moons(4_000, _generator()) + 1) / 3
    upper, lower = x.norm(dim=1) - 1, (x - torch.tensor([1.0, 0.5])).norm(dim=1) - 1
    off = torch.minimum(upper.abs(), lower.abs())
    assert off.max() < 0.2 * 4.5 and off.square().mean().sqrt() == pytest.approx(0.2, abs=0.03)
    x = s_curve(4_000, _generator()) / 1.5
    circles = [(x - torch.tensor([0.0, centre])).norm(dim=1) - 1 for centre in (1.0, -1.0)]
    assert torch.minimum(circles[0].abs(), circles[1].abs()).max() < 0.05 * 5


def test_noising_ends_are_independent_samples_of_one_law() -> None:
    problem = Noising(samples=20_000).build()
    x = torch.stack([problem.x0, problem.x1])
    tests = torch.cat([x, torch.sin(x), torch.cos(2 * x), x[..., :1] * x[..., 1:]], dim=2)
    gap, error = tests.mean(1).diff(dim=0), (tests.var(1).sum(0) / 20_000).sqrt()
    assert (gap.abs() / error).max() < 4.5
    assert torch.corrcoef(torch.cat(list(x), dim=1).T)[:2, 2:].abs().max() < 4.5 / sqrt(20_000)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Digits(source=(12,)),
        lambda: Digits(source=()),
        lambda: Digits(source=(3, 8)),
        lambda: Digits(components=65),
        lambda: Photos(samples=300_000).build(),
        lambda: Gaussian(dim=0),
        lambda: ShiftedGaussian(dim=0),
        lambda: Mixture(dim=0),
        lambda: Mixture(components=0),
        lambda: Gaussian(samples=3).build(),
        lambda: Gaussian(epsilon=0.0).build(),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        make()


def test_digits_keep_their_classes_apart_and_enough_of_each() -> None:
    problem = Digits(source=(0, 2, 4, 6, 8), target=(1, 3, 5, 7, 9)).build()
    assert len(problem.x0) + len(problem.test0) + len(problem.x1) + len(problem.test1) == 1797
    assert problem.dim == 64 and problem.x0.min() >= 0 and problem.x0.max() == 1
    assert min(len(Digits().build().test0), len(Digits().build().test1)) >= 30


def test_all_principal_components_of_digits_keep_distances() -> None:
    pixels, turned = Digits().build(), Digits(components=64).build()
    torch.testing.assert_close(
        torch.cdist(turned.x0, turned.test1), torch.cdist(pixels.x0, pixels.test1), atol=1e-3, rtol=1e-3
    )
    few = Digits(components=10).build()
    torch.testing.assert_close(few.x0, turned.x0[:, :10])
    variance = torch.cat([few.x0, few.x1]).var(0)
    assert (variance[:-1] >= variance[1:]).all()


def test_pictures_are_whole() -> None:
    for picture in Photos.pictures():
        assert picture.shape == (427, 640, 3) and picture.dtype == torch.float32
        assert picture.min() >= 0 and picture.max() == 1


DENSITIES = [(eight_gaussians, eight_gaussians_log_density), (moons, moons_log_density), (s_curve, s_curve_log_density)]


@pytest.mark.parametrize(("law", "log_density"), DENSITIES, ids=lambda function: function.__name__)
def test_planar_densities_are_those_of_the_points(law: Law, log_density: Callable[[Tensor], Tensor]) -> None:
    """They integrate to one, give every square of a grid its share of the points, and have the points' entropy."""
    n, fine, coarse = 20_000, 200, 8
    x = law(n, _generator()).double()
    low, high = x.amin(0) - 1, x.amax(0) + 1
    size = (high - low) / fine
    axes = [start + side * (torch.arange(fine) + 0.5) for start, side in zip(low, size, strict=True)]
    logs = torch.cat([log_density(part) for part in torch.cartesian_prod(*axes).split(20_000)])
    masses = logs.exp() * size.prod()
    assert masses.sum() == pytest.approx(1, abs=1e-5)
    expected = n * masses.reshape(coarse, fine // coarse, coarse, fine // coarse).sum((1, 3)).flatten()
    squares = ((x - low) / size / (fine // coarse)).long()
    seen = torch.bincount(coarse * squares[:, 0] + squares[:, 1], minlength=coarse**2)
    common = expected > 5
    statistic = float(((seen - expected)[common].square() / expected[common]).sum())
    degrees = int(common.sum())
    assert statistic < degrees + 4 * sqrt(2 * degrees)
    surprise = -log_density(x)
    assert abs(surprise.mean() + (masses * logs).sum()) < 4.5 * surprise.std() / sqrt(n)


@pytest.mark.parametrize("source", [Gaussian(dim=2, samples=20, test_samples=10), Mixture(dim=2, samples=20)])
def test_a_problem_on_a_device_has_a_truth_of_its_own(source: Any) -> None:
    """Modules move in place: a shared one would follow the last copy to its device."""
    here = source.build()
    there = here.to("cpu")
    there.truth.to("meta")
    assert {value.device.type for value in here.truth.state_dict().values()} == {"cpu"}
