"""Distances and metrics: against closed forms, invariances, and the spread that their standard errors promise."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, pi, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.errors import DivergenceError
from sbridge.estimates import Estimate
from sbridge.evidence import distances
from sbridge.evidence.distances import bures_wasserstein, energy_distance, moments, sliced_wasserstein, wasserstein
from sbridge.evidence.metrics import (
    HORIZON,
    bw_uvp,
    cbw_uvp,
    cbw_uvp_exact,
    cbw_uvp_floor,
    kinetic_energy,
    move,
    path_kl,
)
from sbridge.fields import Field
from sbridge.problems.gaussian import GaussianBridge

FLOAT, EPSILON = torch.float64, 0.3
MEAN0, COV0 = torch.tensor([0.5, -1.0], dtype=FLOAT), torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=FLOAT)
MEAN1, COV1 = torch.tensor([-1.0, 1.5], dtype=FLOAT), torch.tensor([[0.6, -0.3], [-0.3, 1.2]], dtype=FLOAT)
TRUTH = GaussianBridge(MEAN0, COV0, MEAN1, COV1, EPSILON)


class Shifted(Field):
    """A field plus a constant vector."""

    shift: Tensor

    def __init__(self, inner: Field, shift: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("shift", shift)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.inner(t, x) + self.shift


class Scaled(Field):
    """A factor times x."""

    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.factor * x


STILL = Bridge(Scaled(torch.zeros(1, dtype=FLOAT)), Scaled(torch.zeros(1, dtype=FLOAT)), EPSILON)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 10**9)  # never the numbers that `_normal` drew the points from


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def _starts(n: int, seed: int = 0) -> Tensor:
    starts: Tensor = MEAN0 + _normal(n, 2, seed=seed) @ torch.linalg.cholesky(COV0).T
    return starts


def _quantiles(n: int) -> Tensor:
    levels = (torch.arange(n, dtype=FLOAT) + 0.5) / n
    quantiles: Tensor = sqrt(2) * torch.special.erfinv(2 * levels - 1)[:, None]
    return quantiles


# Distances between samples

Distance = Callable[[Tensor, Tensor], float]
DISTANCES: dict[str, Distance] = {
    "energy": energy_distance,
    "sliced": lambda x, y: sliced_wasserstein(x, y, 50, _generator(7)),
    "wasserstein": wasserstein,
}
EVERY_DISTANCE = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
SEEDS = st.integers(0, 10_000)


def _mean_distance(shift: float, spread: float) -> float:
    """E|Z| of Z ~ N(shift, spread²)."""
    z = shift / spread
    return spread * sqrt(2 / pi) * exp(-(z**2) / 2) + shift * erf(z / sqrt(2))


@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (1.5, 1.0), (-0.5, 2.0)])
def test_energy_distance_of_normals(shift: float, spread: float) -> None:
    x, y = _normal(4_000, 1), shift + spread * _normal(3_000, 1, seed=1)
    exact = 2 * _mean_distance(shift, sqrt(1 + spread**2)) - _mean_distance(0, sqrt(2)) * (1 + spread)
    assert energy_distance(x, y) == pytest.approx(exact, abs=0.01, rel=0.1)


def test_energy_distance_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _normal(130, 3), _normal(70, 3, seed=1) + 1
    across, within, other = (torch.cdist(*pair) for pair in ((x, y), (x, x), (y, y)))
    brute = 2 * across.mean() - within.sum() / (130 * 129) - other.sum() / (70 * 69)
    monkeypatch.setattr(distances, "_BLOCK", 32)
    assert energy_distance(x, y) == pytest.approx(brute.item(), rel=1e-9)


def test_energy_distance_is_unbiased() -> None:
    draws = torch.tensor([energy_distance(*_normal(2, 15, 2, seed=seed)) for seed in range(400)])
    assert abs(draws.mean()) < 3 * draws.std() / 20
    assert (draws < 0).sum() > 100  # the biased V-statistic is never negative


@pytest.mark.parametrize("distance", [wasserstein, DISTANCES["sliced"]])
@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (1.5, 1.0), (-0.5, 2.0)])
def test_wasserstein_of_normals_on_a_line(distance: Distance, shift: float, spread: float) -> None:
    x = _quantiles(300)
    assert distance(x, shift + spread * x) == pytest.approx(sqrt(shift**2 + (spread - 1) ** 2), rel=0.01)


def test_wasserstein_between_gaussians_is_bures_wasserstein() -> None:
    # The optimal map between Gaussians is linear, and the gradient of a convex function is optimal on any sample.
    x, a = _normal(400, 3), torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.4]], dtype=FLOAT)
    y = x @ a + 1
    exact = bures_wasserstein(*moments(x), *moments(y)).item()
    assert wasserstein(x, y) ** 2 == pytest.approx(exact, rel=0.01)


def test_sliced_wasserstein_of_a_translation() -> None:
    x, shift = _normal(50, 3), torch.tensor([1.0, -2.0, 0.5], dtype=FLOAT)
    assert sliced_wasserstein(x, x + shift, 20_000, _generator()) == pytest.approx(
        shift.norm().item() / sqrt(3), rel=0.02
    )


@given(n=st.integers(2, 30), m=st.integers(2, 30), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_on_a_line_quantiles_solve_the_transport_problem(n: int, m: int, seed: int) -> None:
    x, y = _normal(n, 1, seed=seed), 1 + 2 * _normal(m, 1, seed=seed + 1)
    assert DISTANCES["sliced"](x, y) == pytest.approx(wasserstein(x, y), rel=1e-9)


@EVERY_DISTANCE
@given(seed=SEEDS, shift=st.floats(-1e4, 1e4))
@settings(max_examples=20, deadline=None)
def test_distances_ignore_order_and_place(distance: Distance, seed: int, shift: float) -> None:
    x, y = _normal(40, 3, seed=seed), 1 + _normal(30, 3, seed=seed + 1)
    moved = x[torch.randperm(40, generator=_generator(seed))] + shift, y.flip(0) + shift
    assert distance(*moved) == pytest.approx(distance(x, y), rel=1e-6, abs=1e-7)
    assert distance(y, x) == pytest.approx(distance(x, y), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("distance", [energy_distance, wasserstein])
@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_distances_ignore_rotations(distance: Distance, seed: int) -> None:
    x, y = _normal(40, 3, seed=seed), 1 + 2 * _normal(30, 3, seed=seed + 1)
    rotation = torch.linalg.qr(_normal(3, 3, seed=seed + 2)).Q
    assert distance(x @ rotation, y @ rotation) == pytest.approx(distance(x, y), abs=1e-7)


def test_sliced_wasserstein_ignores_rotations_up_to_its_directions() -> None:
    x, y, rotation = _normal(40, 3), _normal(30, 3, seed=1) * 3, torch.linalg.qr(_normal(3, 3, seed=2)).Q
    one, other = (sliced_wasserstein(x @ r, y @ r, 20_000, _generator()) for r in (torch.eye(3, dtype=FLOAT), rotation))
    assert one == pytest.approx(other, rel=0.02)


@EVERY_DISTANCE
def test_distances_scale_with_the_data_and_take_float32(distance: Distance) -> None:
    x, y = _normal(40, 3), 1 + 2 * _normal(30, 3, seed=1)
    assert distance(3 * x, 3 * y) == pytest.approx(3 * distance(x, y), rel=1e-9)
    assert distance(x.float(), y.float()) == pytest.approx(distance(x, y), rel=1e-5)


# Gaussians


def test_bures_wasserstein_of_commuting_covariances() -> None:
    axes = torch.linalg.qr(_normal(4, 4)).Q
    spreads = torch.tensor([[1.0, 2.0, 0.5, 0.0], [0.3, 2.5, 0.0, 0.0]], dtype=FLOAT)
    one, other = ((axes * s**2) @ axes.T for s in spreads)
    mean = torch.arange(4, dtype=FLOAT)
    exact = mean.square().sum() + (spreads[0] - spreads[1]).square().sum()
    torch.testing.assert_close(bures_wasserstein(mean, one, 2 * mean, other), exact)


def test_bures_wasserstein_of_any_covariances() -> None:
    roots, means = _normal(2, 5, 3, 3), _normal(2, 5, 3, seed=1)
    covs = roots @ roots.mT
    found = bures_wasserstein(means[0], covs[0], means[1], covs[1])
    # (C^½ C' C^½)^½ has the trace of (C C')^½, whose eigenvalues are the roots of those of C C'.
    cross = torch.linalg.eigvals(covs[0] @ covs[1]).real.sqrt().sum(-1)
    traces = covs.diagonal(dim1=-2, dim2=-1).sum((0, -1))
    torch.testing.assert_close(found, (means[0] - means[1]).square().sum(-1) + traces - 2 * cross)
    torch.testing.assert_close(found, bures_wasserstein(means[1], covs[1], means[0], covs[0]))


def test_bures_wasserstein_vanishes_at_equality_even_for_singular_covariances() -> None:
    root = _normal(10, 4, 2)
    cov, mean = root @ root.mT, _normal(10, 4, seed=1)
    assert bures_wasserstein(mean, cov, mean, cov).max() < 1e-14


def test_moments_are_the_unbiased_ones() -> None:
    x = _normal(5, 20, 3).float()
    mean, cov = moments(x)
    torch.testing.assert_close(mean, x.double().mean(1))
    torch.testing.assert_close(cov[2], torch.cov(x[2].double().T))


# Against the truth


def test_path_kl_of_a_constant_error() -> None:
    shift = torch.tensor([0.7, -0.2], dtype=FLOAT)
    off = Bridge(Shifted(TRUTH.forward_field, shift), TRUTH.backward_field, EPSILON)
    found = path_kl(off, TRUTH, _starts(50), _generator(), times=3)
    assert found.value == pytest.approx(HORIZON * shift.square().sum().item() / (4 * EPSILON), rel=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)


def test_path_kl_and_exact_cbw_of_the_truth_are_zero() -> None:
    assert path_kl(TRUTH, TRUTH, _starts(50), _generator()) == Estimate(0.0, 0.0)
    assert cbw_uvp_exact(TRUTH, TRUTH, _starts(50)).value == pytest.approx(0, abs=1e-12)


def _mean_square_drift(t: float) -> float:
    """E|u*|² on the true marginal of time t, from the drift's slope, the mean and the covariance."""
    mean, cov = TRUTH.marginal(t)
    drift = TRUTH.forward_drift(t, torch.stack([mean, *(mean + torch.eye(2, dtype=FLOAT))]))
    slope = drift[1:] - drift[0]
    return (drift[0].square().sum() + (slope.T @ cov @ slope).trace()).item()


def _mean_square_path(horizon: float) -> float:
    """E∫|u*|²dt up to the horizon, by the midpoint rule."""
    return horizon / 400 * sum(_mean_square_drift(horizon * (i + 0.5) / 400) for i in range(400))


def test_standard_errors_are_calibrated() -> None:
    exact = _mean_square_path(HORIZON) / (4 * EPSILON)
    estimates = [path_kl(STILL, TRUTH, _starts(200, seed), _generator(seed), times=4) for seed in range(60)]
    z = torch.tensor([(found.value - exact) / found.standard_error for found in estimates])
    # 60 z-scores: their mean is within ± .13 and their standard deviation within ± .09, one sigma.
    assert abs(z.mean()) < 0.45
    assert 0.7 < z.std() < 1.35


def test_stratified_times_help() -> None:
    one, many = (path_kl(STILL, TRUTH, _starts(2000), _generator(), times=times) for times in (1, 32))
    assert many.standard_error < one.standard_error
    assert many.value == pytest.approx(_mean_square_path(HORIZON) / (4 * EPSILON), abs=4 * many.standard_error)


def test_kinetic_energy_of_a_gaussian_bridge() -> None:
    found = kinetic_energy(TRUTH, _starts(10_000), _generator(), steps=200)
    assert found.value == pytest.approx(_mean_square_path(1.0) / 2, rel=0.01, abs=3 * found.standard_error)
    assert 0 < found.standard_error < 0.02 * found.value


def test_kinetic_energy_of_the_unit_normals() -> None:
    zero, one = torch.zeros(1, dtype=FLOAT), torch.ones(1, 1, dtype=FLOAT)
    found = kinetic_energy(GaussianBridge(zero, one, zero, one, 0.1), _normal(20_000, 1), _generator(), steps=100)
    assert found.value == pytest.approx(0.004996, rel=0.03)


def test_kinetic_energy_of_a_linear_drift_is_exact_for_the_euler_process() -> None:
    # X_{k+1} = (1 + a dt) X_k + √(2ε dt) ξ, so that E X² is a recursion; coarse steps are where it would show.
    steps, factor, n = 4, 1.5, 40_000
    square, energy = 1.0, 0.0
    for _ in range(steps):
        energy += factor**2 * square / (2 * steps)
        square = (1 + factor / steps) ** 2 * square + 2 * EPSILON / steps
    field = Scaled(torch.tensor([factor], dtype=FLOAT))
    found = kinetic_energy(Bridge(field, field, EPSILON), _normal(n, 1), _generator(), steps)
    assert found.value == pytest.approx(energy, abs=4 * found.standard_error)
    assert found.standard_error < 0.02 * energy


@pytest.mark.parametrize(("direction", "end"), [("forward", MEAN1), ("backward", MEAN0)])
def test_move_goes_to_the_other_end_and_follows_its_generator(direction: Direction, end: Tensor) -> None:
    x = _starts(2000) if direction == "forward" else TRUTH.endpoints(_starts(2000), _generator(5))
    one, again, other = (move(TRUTH, x, _generator(seed), 50, direction) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one.mean(0), end, atol=0.1, rtol=0)


def test_move_reports_runaway_points() -> None:
    field = Scaled(torch.tensor([1e300], dtype=FLOAT))
    with pytest.raises(DivergenceError, match="forward process moves 7 of 7 points"):
        move(Bridge(field, field, EPSILON), _starts(7), _generator())


def test_bw_uvp_is_in_percent_of_half_the_variance() -> None:
    x = TRUTH.endpoints(_starts(500), _generator())
    mean, cov = moments(x)
    assert bw_uvp(x, mean, cov) == pytest.approx(0, abs=1e-12)
    shift = torch.tensor([0.3, 0.4], dtype=FLOAT)
    assert bw_uvp(x + shift, mean, cov) == pytest.approx(100 * 0.25 / (cov.trace().item() / 2), rel=1e-9)


def test_exact_cbw_uvp_of_a_shifted_end() -> None:
    shift = torch.tensor([0.3, 0.4], dtype=FLOAT)
    found = cbw_uvp_exact(GaussianBridge(MEAN0, COV0, MEAN1 + shift, COV1, EPSILON), TRUTH, _starts(20))
    assert found.value == pytest.approx(100 * 0.25 / (COV1.trace().item() / 2), rel=1e-9)
    assert found.standard_error == pytest.approx(0, abs=1e-9)


def test_sampled_cbw_uvp_of_the_truth_is_its_floor() -> None:
    starts, per_point = _starts(150), 100
    floor = cbw_uvp_floor(TRUTH, starts, per_point, _generator(1))
    found = cbw_uvp(TRUTH, TRUTH, starts, per_point, _generator(2), steps=50)
    # Of the floor, the means alone make tr(C)/n of a squared distance, the covariances add less.
    means = 200 * TRUTH.conditional_moments(starts)[1][0].trace() / per_point / COV1.trace()
    assert means < floor.value < 2 * means
    assert abs(found.value - floor.value) < 4 * (found.standard_error + floor.standard_error)


def test_sampled_cbw_uvp_sees_a_wrong_coupling_of_the_right_marginals() -> None:
    # The independent coupling: both ends are right, and the mean and covariance of x1 given x0 are those of x1.
    starts, (mean, cov) = _starts(150), TRUTH.endpoint_moments()
    independent = 200 * bures_wasserstein(mean, cov, *TRUTH.conditional_moments(starts)) / cov.trace()
    wide = GaussianBridge(MEAN0, COV0, MEAN1, COV1, 50.0)  # at large ε the bridge's coupling becomes independent
    found = cbw_uvp_exact(wide, TRUTH, starts)
    assert found.value == pytest.approx(independent.mean().item(), rel=0.1)
    assert found.value > 10 * cbw_uvp_floor(TRUTH, starts, 100, _generator()).value
