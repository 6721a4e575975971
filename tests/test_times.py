"""Laws of times: their quantiles and weights agree, what they learn is right, and trainings with them resume."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from math import asin, pi, sqrt
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from members import EPSILON, FLOAT, GAMMAS, SPREAD0, TIMES, closed_forms, generator, learned_gamma, normal, trained
from torch import Tensor

from sbridge.interpolants import Brownian, Gamma, Interpolant, Linear, OneSidedLinear
from sbridge.networks import ResidualNetwork
from sbridge.problem import Problem
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Training
from sbridge.times import Arcsine, GammaMatched, LossVariance, TimeDensity, Uniform

EDGE, BINS = 0.002, 64
LINEAR = Linear(Brownian(EPSILON))


def _deviation(t: Tensor) -> Tensor:
    """Standard deviation of a synthetic loss: high at the start, with a bump."""
    return 0.3 + 2 * torch.exp(-((t - 0.1) / 0.2).square()) + torch.exp(-((t - 0.8) / 0.1).square())


def _taught(density: LossVariance, rounds: int = 3000, points: int = 64) -> LossVariance:
    """After losses of known standard deviation at its own times, four groups of points in a round."""
    source = generator(1)
    for _ in range(rounds):
        t = density.quantile((torch.arange(4) + torch.rand(4, generator=source)) / 4).reshape(4, 1, 1)
        density.learn(t, 5 + _deviation(t).squeeze(-1) * torch.randn(4, points, generator=source))
    return density


LAWS: dict[str, TimeDensity] = {
    **{law.__name__: law(LINEAR) for law in TIMES},
    **{f"GammaMatched-{name}": GammaMatched(closed_forms()[name]) for name in ("Linear-SineSquared", "OneSidedLinear")},
    "GammaMatched-learned": GammaMatched(trained(learned_gamma(LINEAR))),
    "LossVariance-taught": _taught(LossVariance(LINEAR)),
}
EVERY_LAW = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
MANY = 200_000


def _stratified(law: TimeDensity, count: int = MANY) -> Tensor:
    """Times from uniforms in the middle of equal strata, (count, 1)."""
    return law.quantile((torch.arange(count, dtype=FLOAT) + 0.5) / count)[:, None]


@EVERY_LAW
def test_times_rise_with_their_uniforms_and_keep_from_the_ends(law: TimeDensity) -> None:
    uniform = torch.linspace(0, 1, 10_001, dtype=FLOAT)
    t = law.quantile(uniform)
    assert t.dtype == FLOAT and t.shape == uniform.shape
    assert (t.diff() > 0).all()
    assert t[0].item() == pytest.approx(EDGE, abs=2e-5)
    assert t[-1].item() == pytest.approx(1 - EDGE, abs=2e-5)


@EVERY_LAW
def test_the_density_integrates_to_one(law: TimeDensity) -> None:
    cells = 200 * BINS
    t = EDGE + (1 - 2 * EDGE) * (torch.arange(cells, dtype=FLOAT)[:, None] + 0.5) / cells
    assert (1 / law.per_time(t)).mean().item() * (1 - 2 * EDGE) == pytest.approx(1, abs=2e-3)


@EVERY_LAW
def test_quantiles_are_the_inverse_of_the_distribution(law: TimeDensity) -> None:
    """The quantile's slope is 1/p, by differences within each bin."""
    uniform = torch.linspace(0.0003, 0.9997, 997, dtype=FLOAT)
    step = 1e-7
    slope = (law.quantile(uniform + step) - law.quantile(uniform - step)) / (2 * step)
    close = (slope / law.per_time(law.quantile(uniform)[:, None]).squeeze(1) - 1).abs() < 1e-4
    assert close.double().mean() > 0.99  # all but those that stand on the border of two bins


@EVERY_LAW
@pytest.mark.parametrize("power", [0, 1, 3])
def test_weighted_averages_are_integrals_over_time(law: TimeDensity, power: int) -> None:
    t = _stratified(law)
    exact = ((1 - EDGE) ** (power + 1) - EDGE ** (power + 1)) / (power + 1)
    assert (law.per_time(t) * t**power).mean().item() == pytest.approx(exact, rel=1e-3)


@EVERY_LAW
@pytest.mark.parametrize("shape", [(), (5, 1), (5, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT], ids=str)
def test_weights_have_the_shape_and_type_of_the_times(
    law: TimeDensity, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    weights = law.per_time(torch.full(shape, 0.3, dtype=dtype))
    assert weights.shape == shape and weights.dtype == dtype
    assert law.quantile(torch.rand(5, generator=generator(), dtype=dtype)).dtype == dtype


@EVERY_LAW
@given(uniform=st.floats(0, 1, width=32))
def test_single_precision_keeps_the_times_inside(law: TimeDensity, uniform: float) -> None:
    t = law.quantile(torch.tensor([uniform], dtype=torch.float32)).item()
    assert EDGE - 1e-4 < t < 1 - EDGE + 1e-4


# Each law


def test_uniform_and_arcsine_have_their_densities() -> None:
    t = torch.linspace(0.1, 0.9, 9, dtype=FLOAT)
    torch.testing.assert_close(Uniform(LINEAR).per_time(t), torch.full_like(t, 1 - 2 * EDGE))
    ratio = Arcsine(LINEAR).per_time(t) / (pi * (t * (1 - t)).sqrt())
    torch.testing.assert_close(ratio, torch.full_like(t, 1 - 4 / pi * asin(sqrt(EDGE))))


def test_gamma_matched_to_brownian_noise_is_the_arcsine_law() -> None:
    """Up to the resolution of 64 bins, which is coarse only at the ends."""
    uniform = torch.linspace(0, 1, 1001, dtype=FLOAT)
    matched, arcsine = (law(LINEAR).quantile(uniform) for law in (GammaMatched, Arcsine))
    assert (matched - arcsine).abs().max() < 0.5 / BINS
    inside = torch.linspace(0.1, 0.9, 500, dtype=FLOAT)
    ratio = GammaMatched(LINEAR).per_time(inside) / Arcsine(LINEAR).per_time(inside)
    assert (ratio - 1).abs().max() < 0.07


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gamma_matched_density_is_proportional_to_one_over_gamma(gamma: type[Gamma]) -> None:
    interpolant = Linear(gamma(EPSILON))
    middles = EDGE + (1 - 2 * EDGE) * (torch.arange(BINS, dtype=FLOAT)[:, None] + 0.5) / BINS
    product = GammaMatched(interpolant).per_time(middles) / interpolant.variance(middles).sqrt()
    torch.testing.assert_close(product, product[:1].expand_as(product), rtol=1e-4, atol=0)


@pytest.mark.parametrize("interpolant", [OneSidedLinear(SPREAD0), LINEAR], ids=["one-sided", "two-sided"])
def test_gamma_matched_looks_where_noise_is_small(interpolant: Interpolant) -> None:
    t = _stratified(GammaMatched(interpolant), 1000)
    late, early = (t > 0.8).double().mean(), (t < 0.2).double().mean()
    if isinstance(interpolant, OneSidedLinear):
        assert late > 2 * early
    else:
        assert late.item() == pytest.approx(early.item(), abs=0.01)


@pytest.mark.parametrize("law", [law for law in TIMES if law is not LossVariance])
def test_given_laws_learn_nothing(law: type[TimeDensity]) -> None:
    density = law(LINEAR)
    before = _stratified(density, 100)
    density.learn(torch.full((4, 1, 1), 0.5), torch.randn(4, 10, generator=generator()))
    assert torch.equal(_stratified(density, 100), before)


def test_loss_variance_learns_the_standard_deviation_of_the_loss() -> None:
    """p ∝ σ within the scatter of a running variance of 50 groups of 64 points, 2.5 %, and of σ over a bin."""
    law = LAWS["LossVariance-taught"]
    t = EDGE + (1 - 2 * EDGE) * (torch.arange(BINS, dtype=FLOAT)[:, None] + 0.5) / BINS
    density, deviation = 1 / law.per_time(t), _deviation(t)
    ratio = density / deviation * deviation.mean()
    assert (ratio - 1).abs().max() < 0.15
    assert ratio.std() < 0.05
    assert (deviation / deviation.mean() - 1).abs().max() > 0.8  # a uniform law would not pass


def test_loss_variance_is_uniform_until_every_bin_is_seen() -> None:
    law = LossVariance(LINEAR)
    seen = _stratified(law, BINS)
    for t in seen[:-1].float():
        law.learn(t.reshape(1, 1, 1), torch.randn(1, 50, generator=generator()) * (1 + t))
        assert torch.equal(_stratified(law, 100), _stratified(LossVariance(LINEAR), 100))
    law.learn(seen[-1:].float().reshape(1, 1, 1), torch.randn(1, 50, generator=generator()))
    assert not torch.allclose(_stratified(law, 100), _stratified(LossVariance(LINEAR), 100))


def test_loss_variance_leaves_no_time_unseen() -> None:
    law = LossVariance(LINEAR)
    t = _stratified(law, BINS).float().reshape(-1, 1, 1)
    law.learn(t, torch.where(t.squeeze(-1) < 0.1, 1e3, 1e-6) * torch.randn(BINS, 50, generator=generator()))
    assert (1 / law.per_time(t)).min() > 0.09


@EVERY_LAW
def test_a_law_goes_on_from_its_state(law: TimeDensity) -> None:
    fresh, file = type(law)(LINEAR), BytesIO()
    torch.save(law.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(_stratified(fresh, 1000), _stratified(law, 1000))
    if isinstance(fresh, LossVariance) and isinstance(law, LossVariance):
        assert torch.equal(fresh.variances, law.variances) or law.variances.isnan().all()


# In a training

TINY: dict[str, Any] = {"steps": 60, "network": ResidualNetwork(8, 1), "batch": 256, "group": 16}


def _run(training: Training, rounds: int = 10**6) -> Training:
    for _, _ in zip(range(rounds), training, strict=False):
        pass
    return training


@pytest.mark.parametrize("law", TIMES)
def test_a_training_with_each_law_resumes_bit_identically(law: type[TimeDensity]) -> None:
    x0, x1 = normal(300, 1).float(), 1 + 2 * normal(300, 1, seed=1).float()
    start = partial(Regression(**TINY, times=law).start, Problem(x0, x1, 1.0, x0, x1), 3)
    straight, stopped, file = _run(start()), _run(start(), rounds=13), BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = start()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    _run(resumed)
    assert resumed.step == straight.step == 60
    assert resumed.history == straight.history
    for name, tensor in straight.bridge().state_dict().items():
        assert torch.equal(resumed.bridge().state_dict()[name], tensor)
    times = [_stratified(training.method.draws.times, 100) for training in (resumed, straight)]
    assert torch.equal(*times)
    if law is LossVariance:  # it has learned something
        assert not torch.allclose(times[1], _stratified(law(LINEAR), 100))
