"""Each library, given its own parameter, finds the plan of our ε: of two Gaussians, on a fine weighted grid."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import geomloss.ot
import ot
import pytest
import torch
from geomloss import SamplesLoss
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sbridge import units
from sbridge.interpolants import Brownian

SPREAD0, SPREAD1, MEAN0, MEAN1 = 0.8, 1.3, -0.4, 0.9
EPSILONS = [0.15, 2.0]
PAIRS = [
    (units.pot_reg, units.epsilon_from_pot_reg),
    (units.pot_reg_half, units.epsilon_from_pot_reg_half),
    (units.geomloss_blur, units.epsilon_from_geomloss_blur),
    (units.geomloss_reg, units.epsilon_from_geomloss_reg),
    (units.ott_epsilon, units.epsilon_from_ott_epsilon),
    (units.eot_epsilon, units.epsilon_from_eot_epsilon),
    (units.process_sigma, units.epsilon_from_process_sigma),
]


def _grid(mean: float, spread: float, size: int) -> tuple[Tensor, Tensor]:
    """Points and weights of N(mean, spread²)."""
    points = mean + spread * torch.linspace(-5.5, 5.5, size, dtype=torch.float64)
    weights = torch.exp(-((points - mean) / spread).square() / 2)
    return points[:, None], weights / weights.sum()


X, A = _grid(MEAN0, SPREAD0, 140)
Y, B = _grid(MEAN1, SPREAD1, 160)
SQUARE = (X - Y.T).square()


def _pot(epsilon: float) -> Tensor:
    plan: Tensor = ot.bregman.sinkhorn_log(A, B, SQUARE, units.pot_reg(epsilon), stopThr=1e-7)
    return plan


def _pot_half(epsilon: float) -> Tensor:
    plan: Tensor = ot.bregman.sinkhorn_log(A, B, SQUARE / 2, units.pot_reg_half(epsilon), stopThr=1e-7)
    return plan


def _pot_samples(epsilon: float) -> Tensor:
    plan: Tensor = ot.solve_sample(X, Y, A, B, reg=units.pot_reg(epsilon), max_iter=2000, tol=1e-7).plan
    return plan


def _geomloss_blur(epsilon: float) -> Tensor:
    blur = units.geomloss_blur(epsilon)
    loss = SamplesLoss(blur=blur, scaling=0.999, debias=False, potentials=True, backend="tensorized")
    with torch.no_grad():
        f, g = (potential.reshape(-1) for potential in loss(A, X, B, Y))
    return A[:, None] * B * torch.exp((f[:, None] + g - SQUARE / 2) / blur**2)


def _geomloss_reg(epsilon: float) -> Tensor:
    with torch.no_grad():
        plan: Tensor = geomloss.ot.solve_sample(X, Y, A, B, reg=units.geomloss_reg(epsilon), max_iter=1000).plan
    return plan


def _fixed_point(cost: Tensor, reg: float) -> Tensor:
    """min ⟨π, cost⟩ + reg KL(π | a⊗b), by the textbook iteration: for libraries that are not installed."""
    v = torch.ones_like(B)
    kernel = torch.exp(-cost / reg)
    for _ in range(500):
        u = 1 / (kernel @ (B * v))
        v = 1 / (kernel.T @ (A * u))
    return (A * u)[:, None] * kernel * (B * v)


def _ott(epsilon: float) -> Tensor:
    return _fixed_point(SQUARE, units.ott_epsilon(epsilon))


def _eot(epsilon: float) -> Tensor:
    return _fixed_point(SQUARE / 2, units.eot_epsilon(epsilon))


def _torchcfm(epsilon: float) -> Tensor:
    return _fixed_point(SQUARE, 2 * units.process_sigma(epsilon) ** 2)


LIBRARIES = [_pot, _pot_half, _pot_samples, _geomloss_blur, _geomloss_reg, _ott, _eot, _torchcfm]


def _covariance(plan: Tensor) -> float:
    return float((X - MEAN0).T @ plan @ (Y - MEAN1))


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda f: f.__name__.strip("_"))
def test_plan_of_gaussians_has_the_covariance_of_the_bridge(library: Callable[[float], Tensor], epsilon: float) -> None:
    exact = (SPREAD0**2 * SPREAD1**2 + epsilon**2) ** 0.5 - epsilon
    plan = library(epsilon)
    assert _covariance(plan) == pytest.approx(exact, rel=1e-3)
    torch.testing.assert_close(plan.sum(0), B, atol=1e-4, rtol=0)


def test_value_of_pot_is_twice_that_of_half_the_cost() -> None:
    epsilon = 0.6
    value = ot.solve_sample(X, Y, A, B, reg=units.pot_reg(epsilon), max_iter=2000, tol=1e-7).value
    plan = _pot_half(epsilon)
    half = (plan * SQUARE / 2).sum() + 2 * epsilon * (plan * torch.log(plan / (A[:, None] * B))).sum()
    assert float(value) == pytest.approx(2 * float(half), rel=1e-4)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_density_of_the_reference_process_is_the_kernel_of_the_plan(epsilon: float) -> None:
    """N(x1 | x0, σ²) of dX = σ dW, which is N(x1 | x0, 2ε), is exp(−cost/reg) up to a constant."""
    variance = units.process_sigma(epsilon) ** 2
    density = torch.exp(-SQUARE / (2 * variance)) / (2 * pi * variance) ** 0.5
    torch.testing.assert_close(density / density.max(), torch.exp((SQUARE.min() - SQUARE) / units.pot_reg(epsilon)))


@given(st.floats(1e-6, 1e6), st.floats(0, 1))
def test_process_sigma_is_the_noise_of_the_brownian_interpolant(epsilon: float, t: float) -> None:
    variance = units.process_sigma(epsilon) ** 2 * t * (1 - t)
    assert Brownian(epsilon)(torch.tensor(t, dtype=torch.float64)).item() == pytest.approx(variance)


@pytest.mark.parametrize(("there", "back"), PAIRS)
@given(epsilon=st.floats(1e-8, 1e8))
def test_conversions_invert(there: Callable[[float], float], back: Callable[[float], float], epsilon: float) -> None:
    assert back(there(epsilon)) == pytest.approx(epsilon)
    assert there(back(there(epsilon))) == pytest.approx(there(epsilon))
