"""Every interpolant: its ends, its noise, its rates, and what paths do with them."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sbridge.fields import DriftPair, Framed, Half
from sbridge.interpolants import (
    Brownian,
    FramedInterpolant,
    Interpolant,
    LearnedGamma,
    LearnedMean,
    Linear,
    Path,
    Trigonometric,
)
from sbridge.objectives import Drift

DIM, PAIRS, EPSILON = 3, 6, 0.4
FLOAT = torch.float64


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=FLOAT)


def _trained(interpolant: Interpolant) -> Interpolant:
    """As after training: no layer is zero."""
    generator = _generator()
    for parameter in interpolant.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    return interpolant.double()


def _linear() -> Interpolant:
    return Linear(Brownian(EPSILON))


INTERPOLANTS: dict[str, Callable[[], Interpolant]] = {
    "linear": _linear,
    "trigonometric": lambda: Trigonometric(Brownian(EPSILON)),
    "learned mean": lambda: _trained(LearnedMean(_linear(), DIM, 0.7, 1.4, width=16, depth=2)),
    "learned gamma": lambda: _trained(LearnedGamma(_linear(), width=16)),
    "learned both": lambda: _trained(LearnedGamma(LearnedMean(_linear(), DIM, 0.7, 1.4, width=16, depth=2), width=16)),
    "framed": lambda: FramedInterpolant(
        _trained(LearnedMean(_linear(), DIM, 1.0, 1.0, width=16, depth=2)), _normal(DIM), _normal(DIM, seed=1), 2.5
    ),
}
EVERY = pytest.mark.parametrize("interpolant", [make() for make in INTERPOLANTS.values()], ids=list(INTERPOLANTS))
X0, X1, Z = _normal(PAIRS, DIM), 2 + 3 * _normal(PAIRS, DIM, seed=1), _normal(PAIRS, DIM, seed=2)
TIMES = torch.linspace(0.02, 0.97, PAIRS, dtype=FLOAT)[:, None]
ENDS = torch.tensor([0.0, 1.0], dtype=FLOAT)


@EVERY
def test_mean_joins_the_ends(interpolant: Interpolant) -> None:
    torch.testing.assert_close(interpolant.mean(ENDS[0], X0, X1), X0)
    torch.testing.assert_close(interpolant.mean(ENDS[1], X0, X1), X1)


@EVERY
def test_noise_vanishes_at_the_ends_and_only_there(interpolant: Interpolant) -> None:
    assert interpolant.variance(ENDS[:, None]).abs().max() == 0
    inside = interpolant.variance(torch.linspace(0.001, 0.999, 101, dtype=FLOAT)[:, None])
    assert inside.shape == (101, 1)
    assert inside.min() > 0


@EVERY
def test_rates_agree_with_differences(interpolant: Interpolant) -> None:
    step = 1e-5
    path, after, before = (interpolant.path(TIMES + shift, X0, X1, Z) for shift in (0, step, -step))
    for value, rate in (("mean", "mean_rate"), ("variance", "variance_rate"), ("gamma", "gamma_rate")):
        difference = (getattr(after, value) - getattr(before, value)) / (2 * step)
        torch.testing.assert_close(getattr(path, rate), difference, rtol=1e-5, atol=1e-6)


@EVERY
def test_velocity_target_is_the_speed_of_the_path(interpolant: Interpolant) -> None:
    step = 1e-5
    path, after, before = (interpolant.path(TIMES + shift, X0, X1, Z) for shift in (0, step, -step))
    speed = path.mean_rate + path.gamma_rate * path.z
    torch.testing.assert_close(speed, (after.x - before.x) / (2 * step), rtol=1e-5, atol=1e-6)


@EVERY
@pytest.mark.parametrize("shape", [(), (1, 1), (4, 1, 1)], ids=str)
def test_one_time_serves_many_pairs(interpolant: Interpolant, shape: tuple[int, ...]) -> None:
    t = torch.full(shape, 0.3, dtype=FLOAT)
    x0, x1, z = (v.expand(4, PAIRS, DIM) for v in (X0, X1, Z))
    path = interpolant.path(t, x0, x1, z)
    single = interpolant.path(torch.full((PAIRS, 1), 0.3, dtype=FLOAT), X0, X1, Z)
    assert path.x.shape == path.mean_rate.shape == (4, PAIRS, DIM)
    assert path.variance.shape == path.variance_rate.shape == shape
    torch.testing.assert_close(path.x[2], single.x)
    torch.testing.assert_close(path.mean_rate[2], single.mean_rate)


@EVERY
def test_points_are_mean_and_noise(interpolant: Interpolant) -> None:
    path = interpolant.path(TIMES, X0, X1, Z)
    torch.testing.assert_close(path.x, interpolant.mean(TIMES, X0, X1) + interpolant.variance(TIMES).sqrt() * Z)


@EVERY
def test_antithetic_pairs_mirror_at_the_mean(interpolant: Interpolant) -> None:
    t = TIMES[2]
    path = interpolant.path(t, X0, X1, Z)
    plus, minus = path.antithetic().x.split(PAIRS)
    torch.testing.assert_close(plus, path.x)
    torch.testing.assert_close((plus + minus) / 2, path.mean)
    torch.testing.assert_close(path.antithetic().z[PAIRS:], -Z)
    torch.testing.assert_close(path.antithetic().mean_rate[PAIRS:], path.mean_rate)


def _by_hand(path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Expected mean_rate and z given that x (d,) came from one of the pairs, each as likely before."""
    noises = (x - path.mean) / path.gamma
    weight = torch.exp(-noises.square().sum(-1, keepdim=True) / 2)
    weight = weight / weight.sum()
    return (weight * path.mean_rate).sum(0), (weight * noises).sum(0)


@EVERY
def test_conditioning_averages_over_the_pairs_of_a_group(interpolant: Interpolant) -> None:
    path = interpolant.path(TIMES[3], X0, X1, Z)
    found = path.conditioned()
    assert torch.equal(found.x, path.antithetic().x)
    for i, x in enumerate(found.x):
        rate, z = _by_hand(path, x)
        torch.testing.assert_close(found.mean_rate[i], rate)
        torch.testing.assert_close(found.z[i], z)


def test_conditioning_keeps_groups_apart() -> None:
    t = torch.tensor([0.3, 0.6], dtype=FLOAT).reshape(2, 1, 1)
    both = _linear().path(t, torch.stack([X0, X1]), torch.stack([X1, X0]), torch.stack([Z, -Z])).conditioned()
    alone = _linear().path(t[1], X1, X0, -Z).conditioned()
    torch.testing.assert_close(both.mean_rate[1], alone.mean_rate)
    torch.testing.assert_close(both.z[1], alone.z)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_conditioning_removes_variance(t: float) -> None:
    x0, x1, z = (_normal(50, 128, 2, seed=s) for s in range(3))
    path = _linear().path(torch.tensor(t, dtype=FLOAT), x0, x1, z)
    objective = Drift(EPSILON)
    raw, smooth = objective.target(path.antithetic()), objective.target(path.conditioned())
    # The same conditional expectation, so the spread of the target is the spread around it plus a constant.
    assert smooth.var() < 0.8 * raw.var()


@pytest.mark.parametrize(
    "learned", [LearnedMean(_linear(), DIM, 0.7, 1.4), LearnedGamma(_linear())], ids=["learned mean", "learned gamma"]
)
def test_learned_interpolants_start_at_their_base(learned: Interpolant) -> None:
    learned.double()
    found, base = learned.path(TIMES, X0, X1, Z), _linear().path(TIMES, X0, X1, Z)
    torch.testing.assert_close(found.x, base.x)
    torch.testing.assert_close(found.mean_rate, base.mean_rate)
    torch.testing.assert_close(found.variance_rate, base.variance_rate)


@pytest.mark.parametrize(
    "learned",
    [LearnedMean(_linear(), DIM, 0.7, 1.4), LearnedGamma(_linear())],
    ids=["learned mean", "learned gamma"],
)
def test_learned_interpolants_receive_gradients_through_their_rates(learned: Interpolant) -> None:
    learned.double()
    path = learned.path(TIMES, X0, X1, Z)
    (path.mean_rate.square().sum() + path.variance_rate.square().sum()).backward()
    assert max(p.grad.abs().max().item() for p in learned.parameters() if p.grad is not None) > 0


@given(st.floats(0.001, 0.999))
def test_learned_gamma_stays_within_its_bound(t: float) -> None:
    interpolant = _trained(LearnedGamma(_linear(), bound=1.5))
    time = torch.tensor([[t]], dtype=FLOAT)
    ratio = interpolant.variance(time) / _linear().variance(time)
    assert ratio.log().abs().item() <= 1.5


def test_trigonometric_mean_keeps_the_variance_of_equal_uncorrelated_ends() -> None:
    interpolant = Trigonometric(Brownian(EPSILON))
    one, zero = torch.ones(1, dtype=FLOAT), torch.zeros(1, dtype=FLOAT)
    total = interpolant.mean(TIMES, one, zero).square() + interpolant.mean(TIMES, zero, one).square()
    torch.testing.assert_close(total, torch.ones_like(total))
    torch.testing.assert_close(interpolant.mean(TIMES, one, zero), torch.cos(pi / 2 * TIMES))


def test_frames_of_interpolant_and_drift_agree() -> None:
    """The gap between a drift and its regression target scales by a: both are seen from the same frame."""
    frame = (_normal(DIM, seed=5), _normal(DIM, seed=6), 2.5)
    inner = _trained(LearnedMean(_linear(), DIM, 1.0, 1.0, width=16, depth=2))
    drift = Half(DriftPair(DIM, 1.0, 1.0, EPSILON, width=16, depth=2).double(), 0)
    shift = (1 - TIMES) * frame[0] + TIMES * frame[1]
    path = inner.path(TIMES, X0, X1, Z)
    outer = FramedInterpolant(inner, *frame).path(TIMES, frame[0] + 2.5 * X0, frame[1] + 2.5 * X1, Z)
    torch.testing.assert_close(outer.x, shift + 2.5 * path.x)
    gap = drift(TIMES, path.x) - Drift(EPSILON).target(path)
    outer_gap = Framed(drift, *frame)(TIMES, outer.x) - Drift(EPSILON * 2.5**2).target(outer)
    torch.testing.assert_close(outer_gap, 2.5 * gap)
