"""Distances and metrics: against closed forms, invariances, and the spread that their standard errors promise."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, pi, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.errors import DivergenceError
from sbridge.estimates import Estimate
from sbridge.evaluation import distances
from sbridge.evaluation.distances import (
    bures_wasserstein,
    energy_distance,
    energy_p_value,
    moments,
    sliced_wasserstein,
    wasserstein,
)
from sbridge.evaluation.metrics import (
    HORIZON,
    bw_uvp,
    cbw_uvp,
    cbw_uvp_exact,
    cbw_uvp_floor,
    diagonal_kl,
    endpoint_covariance_error,
    exact_energy,
    exact_paths,
    kinetic_energy,
    move,
    own_paths,
    path_energy,
    path_kl,
    path_kl_by_time,
)
from sbridge.fields import Field
from sbridge.problems.gaussian import GaussianBridge
from sbridge.problems.mixture import Mixture
from sbridge.sampling import Simulation, graded

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
WEIGHTED: dict[str, Callable[..., float]] = {
    "energy": energy_distance,
    "sliced": lambda x, y, a=None, b=None: sliced_wasserstein(x, y, 50, _generator(7), a, b),
    "W1": lambda x, y, a=None, b=None: wasserstein(x, y, 1, a, b),
    "W2": lambda x, y, a=None, b=None: wasserstein(x, y, 2, a, b),
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


@pytest.mark.parametrize("distance", WEIGHTED.values(), ids=WEIGHTED)
def test_a_weight_of_two_is_a_point_twice(distance: Callable[..., float]) -> None:
    """Exactly for W1, W2 and the sliced W2; the unbiased energy distance also leaves out the pairs of equal points."""
    x, y = _normal(60, 2), _normal(50, 2, seed=1) + 0.5
    a, b = torch.arange(60) % 3, torch.arange(50) % 4
    found = distance(x, y, a.double(), b)
    twice = distance(x.repeat_interleave(a, 0), y.repeat_interleave(b, 0))
    assert found == pytest.approx(twice, rel=1e-9) if distance is not energy_distance else found < twice
    assert distance(x, y, torch.full((60,), 3.0), None) == pytest.approx(distance(x, y), rel=1e-9)


def test_weighted_energy_distance_is_unbiased() -> None:
    """Zero in the mean where weights turn one law into the other: N(0, 1) into N(½, 1)."""
    laws = ((_normal(400, 1, seed=k), 0.5 + _normal(400, 1, seed=k + 1000)) for k in range(200))
    found = torch.tensor([energy_distance(x, y, (x[:, 0] / 2).exp()) for x, y in laws], dtype=FLOAT)
    assert abs(found.mean()) < 4 * found.std() / sqrt(len(found)) < 0.002


def test_wasserstein_of_order_one_on_a_line() -> None:
    x = _quantiles(2000)
    assert wasserstein(x, 2 * x + 0.3, 1) == pytest.approx(_mean_distance(0.3, 1.0), rel=5e-3)


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


def test_p_values_are_uniform_where_the_laws_agree() -> None:
    """Of skewed points on a line in samples of unequal sizes; ranks on the grid k/20 are smoothed over its cells."""
    generator = _generator()
    found = torch.tensor(
        [energy_p_value(*_normal(50, 1, seed=seed).exp().split([30, 20]), generator, 50, 19) for seed in range(500)]
    )
    assert set((20 * found).round().int().tolist()) == set(range(1, 21))
    smooth = found - torch.rand(500, generator=generator) / 20
    assert kstest(smooth.numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize(("shift", "spread"), [(0.5, 1.0), (0.0, 1.5)])
def test_p_values_are_least_where_the_laws_differ(shift: float, spread: float) -> None:
    assert energy_p_value(_normal(500, 2), shift + spread * _normal(400, 2, seed=1), _generator()) == 1 / 200


def test_p_values_compare_energy_distances() -> None:
    """By brute force: how often relabelling the joined points gives an energy distance as large."""
    x, y = _normal(12, 2), _normal(9, 2, seed=1) + 0.5
    joined, generator = torch.cat([x, y]), _generator()
    keys = torch.rand(21, 60, dtype=FLOAT, generator=_generator())
    relabelled = [joined[order] for order in keys.argsort(0).argsort(0).T]
    found = [energy_distance(each[:12], each[12:]) >= energy_distance(x, y) for each in relabelled]
    assert energy_p_value(x, y, generator, permutations=60) == pytest.approx((1 + sum(found)) / 61)


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


def test_path_kl_by_time_adds_up_and_is_each_parts_own() -> None:
    shares = path_kl_by_time(STILL, TRUTH, _starts(2000), _generator(), parts=3, times=8)
    whole = path_kl(STILL, TRUTH, _starts(2000), _generator(), times=24)
    assert sum(share.value for share in shares) == pytest.approx(whole.value, rel=1e-12)
    ends = [0.0, *(_mean_square_path(HORIZON * part / 3) / (4 * EPSILON) for part in (1, 2, 3))]
    for share, begin, end in zip(shares, ends, ends[1:], strict=False):
        assert share.value == pytest.approx(end - begin, abs=4 * share.standard_error)


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
    for dt in graded(0.0, 1.0, steps).diff().tolist():
        energy += factor**2 * square * dt / 2
        square = (1 + factor * dt) ** 2 * square + 2 * EPSILON * dt
    field = Scaled(torch.tensor([factor], dtype=FLOAT))
    found = kinetic_energy(Bridge(field, field, EPSILON), _normal(n, 1), _generator(), steps)
    assert found.value == pytest.approx(energy, abs=4 * found.standard_error)
    assert found.standard_error < 0.02 * energy


def test_exact_paths_have_the_exact_energy() -> None:
    energy = exact_energy(TRUTH, _starts(4000), _generator())
    assert abs(energy.value - TRUTH.kinetic_energy().value) < 3 * energy.standard_error
    assert energy.standard_error < 0.05


def test_path_energy_is_the_relative_excess() -> None:
    excess = path_energy(Estimate(3.0, 0.1), 2.0)
    assert (excess.value, excess.standard_error) == (0.5, pytest.approx(0.05))
    assert path_energy(Estimate(1.0, 0.1), 2.0).value == 0.5


# Gaussian bridges


def _paths_with(shift: Tensor, factor: Tensor, times: int = 4) -> Tensor:
    """Paths whose moments are exact but for a shift and a factor of the deviations, at every time."""
    whitened = _normal(400, 2)
    whitened = (whitened - whitened.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(whitened.T.cov())).T
    marginals = [TRUTH.marginal(k / times) for k in range(times + 1)]
    found = [mean + shift + factor * (whitened @ torch.linalg.cholesky(cov).T) for mean, cov in marginals]
    return torch.stack(found)


def test_diagonal_kl_is_that_of_gaussians() -> None:
    shift, factor = torch.tensor([0.3, -0.2], dtype=FLOAT), torch.tensor([1.5, 0.8], dtype=FLOAT)
    expected = 0.0
    for k in range(1, 5):
        mean, covariance = TRUTH.marginal(k / 4)
        deviation = covariance.diagonal().sqrt()
        found = torch.distributions.Normal(mean + shift, factor * deviation)
        divergence = torch.distributions.kl_divergence(found, torch.distributions.Normal(mean, deviation))
        expected += float(divergence.sum()) / 4
    assert diagonal_kl(_paths_with(shift, factor), TRUTH) == pytest.approx(expected, rel=1e-6)
    assert diagonal_kl(_paths_with(0 * shift, factor / factor), TRUTH) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dim", [1, 5])
def test_the_floor_of_diagonal_kl_is_dimensions_over_points(dim: int) -> None:
    one, mean = torch.eye(dim, dtype=FLOAT), torch.zeros(dim, dtype=FLOAT)
    truth, n = GaussianBridge(mean - 0.1, one, mean + 0.1, one, 0.5), 500
    paths = [exact_paths(truth, mean - 0.1 + _normal(n, dim, seed=seed), _generator(seed)) for seed in range(40)]
    found = torch.tensor([diagonal_kl(each, truth) for each in paths])
    assert found.mean() == pytest.approx(dim / n, abs=4 * float(found.std()) / 40**0.5, rel=0.02)


def test_simulated_and_exact_paths_have_one_law() -> None:
    x0 = _starts(4000)
    simulated, exact = own_paths(TRUTH, x0, _generator()), exact_paths(TRUTH, x0, _generator(1))
    assert simulated.shape == exact.shape == (21, 4000, 2)
    assert torch.equal(simulated[0], x0) and torch.equal(exact[0], x0)
    assert diagonal_kl(simulated, TRUTH) < 4 * 2 / 4000
    for one, other in zip(simulated[1:], exact[1:], strict=True):
        assert energy_p_value(one, other, _generator(2)) > 1e-2 / 2


@pytest.mark.parametrize("dim", [5, 20])
def test_endpoint_covariance_of_the_published_gaussians(dim: int) -> None:
    """DSBM's: (√5 − 1)/2 in each coordinate with 2ε = 1."""
    one, mean = torch.eye(dim, dtype=FLOAT), torch.zeros(dim, dtype=FLOAT)
    truth, covariance = GaussianBridge(mean, one, mean, one, 0.5), (sqrt(5) - 1) / 2
    x0 = _normal(20_000, dim)
    noise = sqrt(1 - covariance**2) * _normal(20_000, dim, seed=1)
    assert endpoint_covariance_error(x0, covariance * x0 + noise, truth) < 1.5
    wrong = endpoint_covariance_error(x0, 1.1 * covariance * x0 + noise, truth)
    assert wrong == pytest.approx(10, abs=1.5)


def test_endpoint_covariance_of_any_gaussian_bridge() -> None:
    x0 = _starts(40_000)
    assert endpoint_covariance_error(x0, TRUTH.endpoints(x0, _generator()), TRUTH) < 3
    assert endpoint_covariance_error(x0, -x0, TRUTH) > 100


@pytest.mark.parametrize(("direction", "end"), [("forward", MEAN1), ("backward", MEAN0)])
def test_move_goes_to_the_other_end_and_follows_its_generator(direction: Direction, end: Tensor) -> None:
    x = _starts(2000) if direction == "forward" else TRUTH.endpoints(_starts(2000), _generator(5))
    one, again, other = (move(TRUTH, x, _generator(seed), Simulation(50), direction) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one.mean(0), end, atol=0.1, rtol=0)


def test_move_reports_runaway_points() -> None:
    field = Scaled(torch.tensor([1e300], dtype=FLOAT))
    with pytest.raises(DivergenceError, match="paths became infinite or NaN"):
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
    found = cbw_uvp(TRUTH, TRUTH, starts, per_point, _generator(2), Simulation(50))
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


@pytest.mark.parametrize("epsilon", [0.05, 5.0])
def test_the_truth_simulated_comes_to_the_floor(epsilon: float) -> None:
    """At ε = 5 the clusters are far narrower than the noise of an even step of 1/100."""
    problem = Mixture(dim=16, epsilon=epsilon, samples=30, test_samples=30).build()
    assert problem.truth is not None
    found = cbw_uvp(problem.truth, problem.truth, problem.test0, 500, _generator(2), Simulation(100))
    floor = cbw_uvp_floor(problem.truth, problem.test0, 500, _generator(3))
    assert found.value < floor.value + 0.1 + 2 * (found.standard_error**2 + floor.standard_error**2) ** 0.5
