"""Losses and divergences: bounds that hold for every perturbation, identities, and what the flow escapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import exp, log, pi
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.interpolants import Brownian, Linear, Path
from sbridge.objectives import Denoiser, MeanVelocity, Objective, Score, Velocity, quadratic_loss
from sbridge.sampling import EULER, HEUN, RK4, Stepper
from sbridge.theory.control import (
    best_diffusion,
    carried_score,
    fisher,
    flow_bound,
    flow_kl,
    gap,
    mean_velocity_bound,
    path_gap,
    sde_bound,
)
from sbridge.theory.line import Line, average, diffusion_law, flow_law, kl
from sbridge.theory.oracle import MixtureOracle

FLOAT = torch.float64
FieldLike = Callable[[Tensor, Tensor], Tensor]


def _tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=FLOAT)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=FLOAT, generator=_generator(seed))


def _times(n: int, seed: int = 0) -> Tensor:
    """Stratified times (n, 1)."""
    uniform = torch.rand(n, dtype=FLOAT, generator=_generator(seed))
    return ((torch.arange(n, dtype=FLOAT) + uniform) / n)[torch.randperm(n, generator=_generator(seed))][:, None]


def _near(found: Estimate, expected: float) -> None:
    """Within four standard errors, which are small enough to say something."""
    assert abs(found.value - expected) < 4 * found.standard_error + 1e-9
    assert found.standard_error < 0.2 * abs(expected)


# Gaussian truth: affine errors keep the model Gaussian, and everything is a matrix


class Affine(NamedTuple):
    """x ↦ slope x + shift: (…, d, d) and (…, d)."""

    slope: Tensor
    shift: Tensor

    def plus(self, other: Affine, factor: float = 1.0) -> Affine:
        return Affine(self.slope + factor * other.slope, self.shift + factor * other.shift)

    def at(self, x: Tensor) -> Tensor:
        """Its values at points in rows; for one function, or many with points of their own."""
        return (self.slope @ x[..., None])[..., 0] + self.shift

    def paired(self, other: Affine, mean: Tensor, cov: Tensor) -> Tensor:
        """E f·g under N(mean, cov)."""
        traces = torch.einsum("...ij,jk,...ik->...", self.slope, cov, other.slope)
        return (self.at(mean) * other.at(mean)).sum(-1) + traces


class GaussianTruth:
    """N(m0, S0) → N(m1, S1) by the linear interpolant with γ² = 2·0.4·t(1−t) and the product coupling."""

    noise = 0.4

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.mean0, self.mean1 = _randn(2, dim, seed=dim)
        roots = _randn(2, dim, dim, seed=dim + 1)
        self.cov0, self.cov1 = 0.5 * torch.eye(dim, dtype=FLOAT) + roots @ roots.mT / (2 * dim)
        self.interpolant = Linear(Brownian(self.noise))
        one, laws = _tensor([1.0]), (self.mean0[None], self.cov0[None], self.mean1[None], self.cov1[None])
        self.oracle = MixtureOracle(self.interpolant, one, *laws[:2], one, *laws[2:])

    def law(self, t: float) -> tuple[Tensor, Tensor]:
        eye = torch.eye(self.dim, dtype=FLOAT)
        cov = (1 - t) ** 2 * self.cov0 + t**2 * self.cov1 + 2 * self.noise * t * (1 - t) * eye
        return (1 - t) * self.mean0 + t * self.mean1, cov

    def fields(self, t: float) -> tuple[Affine, Affine]:
        """b and s."""
        mean, cov = self.law(t)
        eye = torch.eye(self.dim, dtype=FLOAT)
        rate = -2 * (1 - t) * self.cov0 + 2 * t * self.cov1 + 2 * self.noise * (1 - 2 * t) * eye
        precision = torch.linalg.inv(cov)
        slope = rate @ precision / 2
        drift = self.mean1 - self.mean0
        return Affine(slope, drift - slope @ mean), Affine(-precision, precision @ mean)

    def points(self, n: int) -> tuple[Tensor, Tensor]:
        t, (x0, x1, z) = _times(n), _randn(3, n, self.dim, seed=8)
        ends = [
            mean + x @ torch.linalg.cholesky(cov).mT
            for x, mean, cov in ((x0, self.mean0, self.cov0), (x1, self.mean1, self.cov1))
        ]
        return t, self.interpolant.path(t, *ends, z).x.detach()


def _errors(batch: int, dim: int, seed: int) -> Affine:
    """Random affine errors of random size."""
    size = 0.6 * torch.rand(batch, 1, 1, dtype=FLOAT, generator=_generator(seed))
    return Affine(size * _randn(batch, dim, dim, seed=seed + 1), size[..., 0] * _randn(batch, dim, seed=seed + 2))


Diffusion = Callable[[float], float]
Errors = Callable[[float], Affine]
STEPS = 200


def _model_moments(truth: GaussianTruth, error: Errors, epsilon: Diffusion) -> list[tuple[Tensor, Tensor]]:
    """Mean and covariance of dX = (b + εs + error) dt + √(2ε) dW at t = 0, 1/STEPS, …, 1, by RK4."""

    def rate(t: float, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
        velocity, score = truth.fields(t)
        drift = velocity.plus(score, epsilon(t)).plus(error(t))
        moved = drift.slope @ cov
        return drift.at(mean), moved + moved.mT + 2 * epsilon(t) * eye

    eye, h = torch.eye(truth.dim, dtype=FLOAT), 1 / STEPS
    states = [(truth.mean0, truth.cov0)]
    for i in range(STEPS):
        (mean, cov), t = states[-1], i * h
        a = rate(t, mean, cov)
        b = rate(t + h / 2, mean + h / 2 * a[0], cov + h / 2 * a[1])
        c = rate(t + h / 2, mean + h / 2 * b[0], cov + h / 2 * b[1])
        d = rate(t + h, mean + h * c[0], cov + h * c[1])
        steps = [h / 6 * (w + 2 * x + 2 * y + z) for w, x, y, z in zip(a, b, c, d, strict=True)]
        states.append((mean + steps[0], cov + steps[1]))
    return states


def _gaussian_kl(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    precision = torch.linalg.inv(q[1])
    away = q[0] - p[0]
    trace = torch.einsum("...ij,ji->...", precision, p[1])
    square = torch.einsum("...i,...ij,...j->...", away, precision, away)
    return (trace + square - p[0].shape[-1] + torch.logdet(q[1]) - torch.logdet(p[1])) / 2


def _integral(value: Callable[[float], Tensor]) -> Tensor:
    """∫_0^1 by Simpson's rule on the times of `_model_moments`."""
    weights = _tensor([1.0, *[4.0, 2.0] * (STEPS // 2 - 1), 4.0, 1.0]) / (3 * STEPS)
    return torch.einsum("t,t...->...", weights, torch.stack([value(i / STEPS) for i in range(STEPS + 1)]))


def _exact_gap(truth: GaussianTruth, error: Errors, weight: Diffusion = lambda t: 1.0) -> Tensor:
    """½∫weight·E|error|²dt."""
    return _integral(lambda t: weight(t) * error(t).paired(error(t), *truth.law(t)) / 2)


@pytest.mark.parametrize(("dim", "epsilon"), [(3, 0.05), (1, 0.5), (3, 3.0)])
def test_sde_is_controlled_in_closed_form(dim: int, epsilon: float) -> None:
    """400 affine errors; half of them keep ŝ exact, where the divergence comes closest to the bound."""
    truth, b, s = GaussianTruth(dim), _errors(400, dim, 0), _errors(400, dim, 50)
    s = Affine(*(torch.where(torch.arange(400).view(-1, *[1] * (part.ndim - 1)) % 2 == 0, part, 0) for part in s))
    drift = b.plus(s, epsilon)
    divergence = _gaussian_kl(truth.law(1.0), _model_moments(truth, lambda t: drift, lambda t: epsilon)[-1])
    gap_b, gap_s, paths = (_exact_gap(truth, lambda t, error=error: error) for error in (b, s, drift))
    assert (divergence > 0).all()
    assert (divergence <= paths / (2 * epsilon)).all()
    assert (paths / (2 * epsilon) <= gap_b / epsilon + epsilon * gap_s + 1e-12).all()


@pytest.mark.parametrize("dim", [1, 3])
def test_sde_with_a_diffusion_that_changes_is_controlled(dim: int) -> None:
    def epsilon(t: float) -> float:
        return 0.1 + 2 * t**2

    truth, b, s = GaussianTruth(dim), _errors(300, dim, 0), _errors(300, dim, 50)
    model = _model_moments(truth, lambda t: b.plus(s, epsilon(t)), epsilon)
    bound = _exact_gap(truth, lambda t: b.plus(s, epsilon(t)), lambda t: 1 / (2 * epsilon(t)))
    assert (_gaussian_kl(truth.law(1.0), model[-1]) <= bound).all()

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return truth.oracle.velocity(t, x) + (0.1 + 2 * t**2) * truth.oracle.score(t, x)

    one, (t, x) = Affine(b.slope[0], b.shift[0]), truth.points(4000)
    found = path_gap(_shifted(drift, one), drift, lambda t: 0.1 + 2 * t**2, t, x)
    _near(found, float(_exact_gap(truth, lambda t: one, lambda t: 1 / (2 * epsilon(t)))))


@pytest.mark.parametrize(("dim", "epsilon"), [(3, 0.05), (1, 0.5), (3, 3.0)])
def test_sde_is_controlled_by_mean_velocity_and_score(dim: int, epsilon: float) -> None:
    """b_F = v + (ε − γγ̇)s, γγ̇ = 0.4(1 − 2t)."""
    truth, v, s = GaussianTruth(dim), _errors(300, dim, 0), _errors(300, dim, 50)

    def share(t: float) -> float:
        return epsilon - truth.noise * (1 - 2 * t)

    model = _model_moments(truth, lambda t: v.plus(s, share(t)), lambda t: epsilon)
    bound = _exact_gap(truth, lambda t: v) / epsilon + _exact_gap(truth, lambda t: s, lambda t: share(t) ** 2 / epsilon)
    assert (_gaussian_kl(truth.law(1.0), model[-1]) <= bound).all()
    one_v, one_s = (Affine(error.slope[0], error.shift[0]) for error in (v, s))
    oracle, (t, x) = truth.oracle, truth.points(4000)
    fields = _shifted(oracle.mean_velocity, one_v), oracle.mean_velocity, _shifted(oracle.score, one_s), oracle.score
    _near(mean_velocity_bound(*fields, truth.interpolant, epsilon, t, x), float(bound[0]))
    in_time = mean_velocity_bound(*fields, truth.interpolant, lambda t: torch.full_like(t, epsilon), t, x)
    assert in_time.value == pytest.approx(mean_velocity_bound(*fields, truth.interpolant, epsilon, t, x).value)


def _shifted(exact: FieldLike, error: Affine) -> FieldLike:
    return lambda t, x: exact(t, x) + error.at(x)


def test_flow_identity_and_bound_in_closed_form() -> None:
    truth, b = GaussianTruth(3), _errors(300, 3, 0)
    model = _model_moments(truth, lambda t: b, lambda t: 0.0)

    def score_error(t: float) -> Affine:
        mean, cov = model[round(t * STEPS)]
        precision = torch.linalg.inv(cov)
        own = Affine(-precision, (precision @ mean[..., None])[..., 0]).plus(truth.fields(t)[1], -1)
        return Affine(own.slope.expand_as(b.slope), own.shift.expand_as(b.shift))

    divergence = _gaussian_kl(truth.law(1.0), model[-1])
    identity = _integral(lambda t: score_error(t).paired(b, *truth.law(t)))
    torch.testing.assert_close(identity, divergence, rtol=1e-5, atol=1e-7)
    cauchy = (2 * _exact_gap(truth, lambda t: b) * 2 * _exact_gap(truth, score_error)).sqrt()
    assert (divergence <= cauchy).all()

    one, (t, x) = Affine(b.slope[1], b.shift[1]), truth.points(2000)
    velocity, exact, score = _shifted(truth.oracle.velocity, one), truth.oracle.velocity, truth.oracle.score
    carried = carried_score(velocity, partial(score, _tensor(0.0)), t, x, steps=20)
    found = fisher(lambda t, x: carried, score, t, x)
    _near(flow_kl(velocity, exact, lambda t, x: carried, score, t, x), float(divergence[1]))
    _near(found, float(2 * _exact_gap(truth, score_error)[1]))
    _near(flow_bound(gap(velocity, exact, t, x), found), float(cauchy[1]))


def test_gaps_of_samples_are_those_in_closed_form_and_form_a_chain() -> None:
    truth, b, s = GaussianTruth(3), _errors(8, 3, 0), _errors(8, 3, 50)
    oracle, (t, x) = truth.oracle, truth.points(2000)
    for i in range(8):
        b_error, s_error = (Affine(error.slope[i], error.shift[i]) for error in (b, s))
        velocity, score = _shifted(oracle.velocity, b_error), _shifted(oracle.score, s_error)
        gap_b, gap_s = gap(velocity, oracle.velocity, t, x), gap(score, oracle.score, t, x)
        _near(gap_b, float(_exact_gap(truth, lambda t, e=b_error: e)))
        _near(gap_s, float(_exact_gap(truth, lambda t, e=s_error: e)))
        best = best_diffusion(gap_b, gap_s)
        for epsilon in (0.05, 0.5, 3.0):
            drift, error = partial(oracle.drift, epsilon=epsilon), b_error.plus(s_error, epsilon)
            paths = path_gap(_shifted(drift, error), drift, epsilon, t, x)
            _near(paths, float(_exact_gap(truth, lambda t, e=error: e)) / (2 * epsilon))
            bound = sde_bound(gap_b, gap_s, epsilon)
            assert paths.value <= bound.value * (1 + 1e-9)
            assert bound.value >= sde_bound(gap_b, gap_s, best.value).value


@pytest.mark.parametrize("epsilon", [0.7, 1.0, 2.0])
def test_constants_of_the_paper_are_violated_and_these_are_not(epsilon: float) -> None:
    """N(0, 1) at rest, b = 0 and s = −x, with errors b̂ − b = c/2 = ε(ŝ − s): the model's mean is c(1 − e^{−ε})/ε."""
    c, half = 0.8, 0.4
    divergence = (c * (1 - exp(-epsilon)) / epsilon) ** 2 / 2
    line = Line(-8, 9, 300)
    law = diffusion_law(lambda t, x: c - epsilon * x, lambda x: _normal(x, 0, 1), epsilon, line, 20)
    assert float(kl(_normal(line.centres, 0, 1), law, line)) == pytest.approx(divergence, rel=1e-2)
    t, x = _times(100), _randn(100, 1, seed=0)
    gap_b = gap(lambda t, x: half + 0 * x, lambda t, x: 0 * x, t, x)
    gap_s = gap(lambda t, x: half / epsilon - x, lambda t, x: -x, t, x)
    ours = sde_bound(gap_b, gap_s, epsilon).value
    papers = gap_b.value / (2 * epsilon) + epsilon * gap_s.value / 2
    paths = path_gap(lambda t, x: c - epsilon * x, lambda t, x: -epsilon * x, epsilon, t, x).value
    assert divergence > 1.2 * papers
    assert divergence <= paths <= ours * (1 + 1e-12)


def _normal(x: Tensor, mean: float, variance: float) -> Tensor:
    return -(x[..., 0] - mean).square() / (2 * variance) - log(2 * pi * variance) / 2


# A mixture on a line: any errors, laws on a grid

LINE = Line(-7, 7, 200)
ZERO, ONE = _tensor(0.0), _tensor(1.0)
MIXTURE = MixtureOracle(
    Linear(Brownian(0.3)),
    *(_tensor([0.4, 0.6]), _tensor([[-1.0], [1.5]]), _tensor([[[0.3]], [[0.2]]])),
    *(_tensor([0.7, 0.3]), _tensor([[2.0], [-2.0]]), _tensor([[[0.1]], [[0.5]]])),
)
START, END = partial(MIXTURE.log_density, ZERO), MIXTURE.log_density(ONE, LINE.centres)


def _mixture_path(n: int) -> Path:
    noise, ends = _randn(3, n, 1, seed=4), []
    sides = (MIXTURE.weights0, MIXTURE.means0, MIXTURE.covs0), (MIXTURE.weights1, MIXTURE.means1, MIXTURE.covs1)
    for seed, (weights, means, covs) in enumerate(sides):
        k = torch.multinomial(weights, n, replacement=True, generator=_generator(seed))
        ends.append(means[k] + covs[k, 0].sqrt() * noise[seed])
    return MIXTURE.interpolant.path(_times(n), *ends, noise[2]).detach()


def _waves(batch: int, seed: int) -> FieldLike:
    """Random smooth fields: sums of three waves in x and t of random size, frequency and phase, (batch, n, 1)."""
    size, frequency, speed, phase = torch.rand(4, batch, 3, 1, 1, dtype=FLOAT, generator=_generator(seed))
    height = 1.5 * size * size[:, :1]

    def field(t: Tensor, x: Tensor) -> Tensor:
        return (height * torch.sin(4 * frequency * x + 6 * speed * t + 2 * pi * phase)).sum(1)

    return field


def test_sde_of_any_errors_is_controlled() -> None:
    """320 perturbations at three diffusions: no violation of either bound."""
    levels, b, s = _tensor([0.1, 0.3, 1.0]), _waves(320, 0), _waves(320, 1)

    def error(t: Tensor, x: Tensor) -> Tensor:
        return b(t, x) + levels[:, None, None, None] * s(t, x)

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return MIXTURE.velocity(t, x) + levels[:, None, None, None] * MIXTURE.score(t, x) + error(t, x)

    law = diffusion_law(drift, START, lambda t: levels[:, None, None], LINE, 24)
    divergence = kl(END, law, LINE)
    paths, gap_b, gap_s = (_mean_square(field) / 2 for field in (error, b, s))
    paths = paths / (2 * levels[:, None])
    assert (divergence <= paths).all()
    assert (paths <= gap_b / levels[:, None] + levels[:, None] * gap_s).all()
    assert (divergence / paths).max() > 0.5  # some come close


def _mean_square(field: FieldLike) -> Tensor:
    return average(lambda t, x: field(t, x)[..., 0].square(), MIXTURE.log_density, LINE, 30)


def test_flow_identity_gives_the_divergence_on_the_grid() -> None:
    """The figure by carried scores at points of ρ_t is that by Liouville's equation on the grid."""
    path, wave = _mixture_path(1500), _waves(1, 5)
    t, x = path.t, path.x

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return MIXTURE.velocity(t, x) + wave(t, x)[0]

    carried = carried_score(velocity, partial(MIXTURE.score, ZERO), t, x, steps=25)
    found = flow_kl(velocity, MIXTURE.velocity, lambda t, x: carried, MIXTURE.score, t, x)
    _near(found, float(kl(END, flow_law(velocity, START, LINE, 25), LINE)))
    bound = flow_bound(
        gap(velocity, MIXTURE.velocity, t, x), fisher(lambda t, x: carried, MIXTURE.score, t, x)
    )
    assert found.value <= bound.value  # Cauchy's inequality, on the same points
    assert bound.value < 10 * found.value


def test_fast_errors_escape_the_flows_loss_but_not_the_sdes() -> None:
    """N(0, 1) at rest with b̂ = A sin(2πkΦ(x)), for which gap_b = A²/4 at every frequency k.

    The flow gathers mass at k points, so its divergence grows like k; the SDE's falls.
    """
    line, size, epsilon = Line(-7, 7, 2000), 0.5, 0.5
    frequencies = _tensor([1, 2, 4, 8, 16, 32])

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return size * torch.sin(2 * pi * frequencies[:, None, None] * torch.special.ndtr(x))

    def rest(x: Tensor) -> Tensor:
        return _normal(x, 0, 1)

    gap_b = average(lambda t, x: velocity(t, x)[..., 0].square(), lambda t, x: rest(x), line, 1) / 2
    torch.testing.assert_close(gap_b, torch.full_like(gap_b, size**2 / 4))
    flow = kl(rest(line.centres), flow_law(velocity, rest, line, 100), line)
    sde = kl(rest(line.centres), diffusion_law(lambda t, x: velocity(t, x) - epsilon * x, rest, epsilon, line, 3), line)
    assert (sde <= gap_b / epsilon / 2).all() and sde[-1] < sde[0] / 50
    assert (flow.diff() > 0).all() and flow[-1] > 100 * gap_b[-1]
    assert float(flow[-1] / flow[-2]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("objective", "exact"),
    [
        (Velocity(), MIXTURE.velocity),
        (MeanVelocity(), MIXTURE.mean_velocity),
        (Denoiser(), MIXTURE.denoiser),
        (Score(), MIXTURE.score),
    ],
    ids=["velocity", "mean velocity", "denoiser", "score"],
)
def test_gap_is_the_excess_of_the_quadratic_loss(objective: Objective, exact: FieldLike) -> None:
    wave, path = _waves(1, 9), _mixture_path(20_000)

    def field(t: Tensor, x: Tensor) -> Tensor:
        return exact(t, x) + wave(t, x)[0]

    losses = [
        quadratic_loss(value(path.t, side.x), objective.target(side))
        for value in (field, exact)
        for side in (path, replace(path, x=path.mean - path.gamma * path.z, z=-path.z))
    ]  # over antithetic pairs: the targets' own variance is infinite
    excess = Estimate.of((losses[0] + losses[1] - losses[2] - losses[3]) / 2)
    found = gap(field, exact, path.t, path.x)
    assert abs(excess.value - found.value) < 4 * (excess.standard_error + found.standard_error)
    assert excess.standard_error < 0.1 * found.value


def test_estimates_carry_their_errors() -> None:
    """Against finite differences of the formulas: errors of both gaps add."""
    gap_b, gap_s = Estimate(0.3, 1e-4), Estimate(0.02, 3e-5)
    more_b, more_s = Estimate(0.3 + 1e-4, 1e-4), Estimate(0.02 + 3e-5, 3e-5)
    bound = sde_bound(gap_b, gap_s, 2.0)
    assert sde_bound(more_b, more_s, 2.0).value - bound.value == pytest.approx(bound.standard_error)
    product = flow_bound(gap_b, gap_s)
    assert flow_bound(more_b, more_s).value - product.value == pytest.approx(product.standard_error, rel=1e-2)
    best, less_s = best_diffusion(gap_b, gap_s), Estimate(0.02 - 3e-5, 3e-5)
    assert best_diffusion(more_b, less_s).value - best.value == pytest.approx(best.standard_error, rel=1e-2)
    smallest = sde_bound(gap_b, gap_s, best.value).value
    assert smallest == pytest.approx(2 * (0.3 * 0.02) ** 0.5)
    assert all(sde_bound(gap_b, gap_s, best.value * factor).value > smallest for factor in (0.9, 1.1))


# The carried score


@pytest.mark.parametrize(
    ("stepper", "order"), [(EULER, 1), (HEUN, 2), (RK4, 4)], ids=["euler", "heun", "rk4"]
)
def test_order_of_the_carried_score_is_that_of_its_stepper(stepper: Stepper, order: int) -> None:
    """ẋ = sin(x) from N(0, 1): X_0 = 2 arctan(tan(x/2)e^{−t}), and log ρ̂_t = log ρ_0(X_0) + log |dX_0/dx|."""
    t, x = _times(40), 4 * torch.rand(40, 1, dtype=FLOAT, generator=_generator(3)) - 2

    def log_density(x: Tensor) -> Tensor:
        half = x / 2
        start = 2 * torch.atan(torch.tan(half) * torch.exp(-t))
        return _normal(start, 0, 1) - (t.exp() * half.cos().square() + (-t).exp() * half.sin().square()).log()[:, 0]

    exact = _gradient(log_density, x)

    def error(steps: int) -> float:
        found = carried_score(lambda t, x: torch.sin(x), lambda x: -x, t, x, steps, stepper)
        return float((found - exact).abs().mean())

    sizes = [8, 16, 32]
    assert -np.polyfit(np.log(sizes), [log(error(n)) for n in sizes], 1)[0] == pytest.approx(order, abs=0.2)


def _gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    place = x.clone().requires_grad_()
    return torch.autograd.grad(function(place).sum(), place)[0]


def test_carried_score_of_a_shear() -> None:
    """b = (0, sin 3x, x) keeps volumes: ρ̂_t(x, y, z) = ρ_0(x, y − t sin 3x, z − tx), with one t for all rows."""
    x, t = _randn(20, 3, seed=0), _tensor(0.7)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([0 * x[:, 0], torch.sin(3 * x[:, 0]), x[:, 0]], dim=-1)

    found = carried_score(velocity, lambda x: -x, t, x, steps=10)
    torch.testing.assert_close(found, _gradient(lambda x: -(x - t * velocity(t, x)).square().sum(-1) / 2, x))


@pytest.mark.parametrize("dim", [1, 2])
def test_exact_velocity_carries_the_exact_score(dim: int) -> None:
    means, covs = _randn(2, 2, dim, seed=1), 0.4 * torch.eye(dim, dtype=FLOAT).expand(2, dim, dim)
    half = _tensor([0.5, 0.5])
    oracle = MixtureOracle(Linear(Brownian(0.5)), half, means[0], covs, half, means[1] + 1, covs)
    t, x = _times(30), _randn(30, dim, seed=2)
    found = carried_score(oracle.velocity, partial(oracle.score, ZERO), t, x, steps=25)
    torch.testing.assert_close(found, oracle.score(t, x), atol=1e-4, rtol=1e-4)


def test_carried_score_of_a_field_that_does_not_depend_on_x() -> None:
    t, x = _times(5), _randn(5, 2, seed=0)
    found = carried_score(lambda t, x: _tensor([1.0, -2.0]).expand_as(x), lambda x: -x, t, x, steps=2)
    torch.testing.assert_close(found, -(x - t * _tensor([1.0, -2.0])))


# What is refused


@pytest.mark.parametrize("epsilon", [0.0, -0.1, float("nan"), float("inf")])
def test_diffusion_must_be_positive(epsilon: float) -> None:
    t, x, one = _times(5), _randn(5, 1, seed=0), Estimate(1.0, 0.0)
    calls = [
        lambda: sde_bound(one, one, epsilon),
        lambda: path_gap(torch.add, torch.add, epsilon, t, x),
        lambda: path_gap(torch.add, torch.add, lambda t: t - t + epsilon, t, x),
        lambda: mean_velocity_bound(torch.add, torch.add, torch.add, torch.add, MIXTURE.interpolant, epsilon, t, x),
    ]
    for call in calls:
        with pytest.raises(InputError, match="epsilon must be a positive number"):
            call()


@pytest.mark.parametrize("shapes", [((5,), (5, 1)), ((4, 1), (5, 1)), ((), (5,)), ((1, 1), (1, 1)), ((5, 2), (5, 2))])
def test_points_stand_in_rows(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    t, x = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(InputError, match="must have shape"):
        gap(torch.add, torch.add, t, x)
    with pytest.raises(InputError, match="must have shape"):
        carried_score(torch.add, torch.neg, t, x)


@pytest.mark.parametrize("rule", [best_diffusion, flow_bound])
def test_a_vanished_gap_is_refused(rule: Callable[[Estimate, Estimate], Estimate]) -> None:
    for pair in ((Estimate(0.0, 0.0), Estimate(1.0, 0.0)), (Estimate(1.0, 0.0), Estimate(0.0, 0.0))):
        with pytest.raises(InputError, match="must be positive"):
            rule(*pair)
