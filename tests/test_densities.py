"""Whatever describes the law at an end gives its density, and what does not is refused with advice."""

from __future__ import annotations

from math import log, pi
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import FLOAT, MIXTURE1, generator, normal, sample
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, Uniform

from sbridge.densities import as_density, fit_mixture
from sbridge.errors import InputError

POINTS = normal(40, 2, seed=1)
SCALES = st.floats(-3, 3).map(lambda power: 10**power)
ZERO, ONE = torch.zeros(2, dtype=FLOAT), torch.ones(2, dtype=FLOAT)


def _standard(x: Tensor) -> Tensor:
    return -x.square().sum(-1) / 2 - log(2 * pi)


class Named:
    name = "a standard normal"

    def log_prob(self, x: Tensor) -> Tensor:
        return _standard(x)


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (MultivariateNormal(ZERO, torch.eye(2, dtype=FLOAT)), "MultivariateNormal"),
        (Independent(Normal(ZERO, ONE), 1), "Normal"),
        (_standard, "_standard"),
        (lambda x: _standard(x), "lambda"),
        (multivariate_normal([0, 0]).logpdf, "logpdf"),
        (Named(), "a standard normal"),
    ],
    ids=["multivariate", "independent", "function", "lambda", "scipy", "density"],
)
def test_every_description_gives_the_density(base: Any, name: str) -> None:
    density = as_density(base, POINTS)
    assert density.name == name
    torch.testing.assert_close(density.log_prob(POINTS), _standard(POINTS))
    assert as_density(density, POINTS) is density


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_have_the_points_dtype(dtype: torch.dtype) -> None:
    density = as_density(POINTS.numpy(), POINTS.to(dtype))
    assert density.log_prob(POINTS.to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("base", "advice"),
    [
        (Normal(ZERO, ONE), r"Independent\(Normal"),
        (Normal(0.0, 1.0), r"Independent\(Normal"),
        (MultivariateNormal(torch.zeros(3), torch.eye(3)), "event shape \\(3,\\), but the points have d = 2"),
        (Independent(Uniform(ZERO - 0.1, ZERO + 0.1), 1), "validate_args=False"),
        (lambda x: x, "MultivariateNormal"),
        (lambda x: x.mean(), "MultivariateNormal"),
        (lambda x: x @ torch.ones(3, dtype=FLOAT), "fails at points of shape"),
        (lambda x: _standard(x) * float("nan"), "NaN"),
        (lambda x: _standard(x) + float("inf"), "NaN or \\+∞ at 2 of 2 points"),
        (POINTS[:, :1], r"samples of the base must have shape \(m, 2\), not \(40, 1\)"),
        (POINTS[:, 0], "samples of the base must have shape"),
        (POINTS[:9], "needs at least 10"),
        (POINTS / 0, "NaN or infinite"),
        (POINTS * torch.tensor([1.0, 0.0]), r"coordinates \[1\] .* do not vary"),
        ("normal", "numbers"),
    ],
    ids=[
        "batch shape",
        "scalar",
        "dimension",
        "support",
        "columns",
        "one number",
        "raises",
        "nan",
        "infinity",
        "samples' dimension",
        "samples' shape",
        "too few",
        "samples not finite",
        "constant coordinate",
        "text",
    ],
)
def test_bad_bases_are_refused_with_advice(base: Any, advice: str) -> None:
    with pytest.raises(InputError, match=advice):
        as_density(base, POINTS)


def test_a_density_of_zero_is_no_error() -> None:
    box = Independent(Uniform(ZERO, ONE, validate_args=False), 1, validate_args=False)
    density = as_density(box, POINTS)
    assert density.log_prob(torch.stack([ONE / 2, ONE * 2])).tolist() == [0.0, float("-inf")]


def test_a_bad_answer_is_seen_later_too() -> None:
    density = as_density(lambda x: torch.where(x[:, 0] > 3, float("nan"), _standard(x)), POINTS * 0)
    with pytest.raises(InputError, match="1 of 2 points"):
        density.log_prob(torch.stack([ZERO, 4 * ONE]))


@pytest.mark.parametrize(("points", "components"), [(4000, 3), (12, 1)])
def test_fitted_mixture_says_what_it_is(points: int, components: int) -> None:
    samples = sample(MIXTURE1, points, source=generator())
    plural = "s" if components > 1 else ""
    name = f"Gaussian mixture of {components} component{plural} fitted to {points} points"
    assert as_density(samples, samples).name == name


def test_only_so_many_points_are_fitted() -> None:
    assert as_density(normal(20_500, 1), normal(2, 1)).name.endswith("fitted to 20000 points")


def test_fitted_mixture_has_the_law_of_its_samples() -> None:
    """Its divergence from the truth is about its 17 parameters over twice the number of samples: 0.002."""
    weights, means, covs = MIXTURE1
    truth = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covs))
    fit, x = fit_mixture(sample(MIXTURE1, 4000, source=generator())), sample(MIXTURE1, 20_000, source=generator(1))
    gap = truth.log_prob(x) - fit.log_prob(x)
    assert -4 * float(gap.std()) / 20_000**0.5 < float(gap.mean()) < 0.006


@settings(max_examples=10)
@given(st.integers(0, 1000), SCALES, SCALES, st.integers(1, 3))
def test_fit_is_equivariant(seed: int, scale0: float, scale1: float, groups: int) -> None:
    """y = scale·x + shift has the density of x divided by the product of the scales, whatever the units."""
    x = normal(60, 2, seed=seed) + 6 * (torch.arange(60) % groups)[:, None]
    scale, shift = torch.tensor([scale0, scale1], dtype=FLOAT), torch.tensor([5.0, -2.0], dtype=FLOAT)
    inner, outer = fit_mixture(x), fit_mixture(scale * x + shift * scale)
    expected = inner.log_prob(x) - scale.log().sum()
    torch.testing.assert_close(outer.log_prob(scale * x + shift * scale), expected, rtol=1e-6, atol=1e-6)


def test_fit_is_the_same_every_time_and_differentiable() -> None:
    samples = sample(MIXTURE1, 500, source=generator()).requires_grad_()
    density = as_density(samples, samples)
    place = POINTS.clone().requires_grad_()
    value = density.log_prob(place)
    assert torch.equal(value, as_density(samples, samples).log_prob(place))
    (slope,) = torch.autograd.grad(value.sum(), place)
    step = 1e-5 * torch.ones_like(POINTS)
    change = (density.log_prob(POINTS + step) - density.log_prob(POINTS - step)).detach()
    torch.testing.assert_close((slope * 2 * step).sum(-1), change, rtol=1e-4, atol=1e-9)
