"""Every interpolant: its ends, its noise, its rates, its symmetry, and what paths do with them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import pi
from pathlib import Path as File
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import (
    FLOAT,
    GAMMAS,
    SPREAD0,
    closed_forms,
    framed,
    is_mirror,
    is_one_sided,
    learned_gamma,
    learned_mean,
    members,
    normal,
    trained,
)
from torch import Tensor

from sbridge import interpolants, storage
from sbridge.errors import InputError
from sbridge.fields import Framed, Half
from sbridge.interpolants import (
    Brownian,
    ClosedForm,
    EncoderDecoder,
    FramedInterpolant,
    Gamma,
    Interpolant,
    LearnedGamma,
    LearnedMean,
    Linear,
    Mirror,
    OneSided,
    Path,
    Trigonometric,
    TwoSided,
    VariancePreserving,
)
from sbridge.networks import DriftPair, ResidualNetwork
from sbridge.objectives import Drift
from sbridge.problem import Problem
from sbridge.solvers.regression import Regression

DIM, PAIRS, EPSILON = 3, 6, 0.4
WRAPPINGS: dict[str, Callable[[Interpolant], Interpolant]] = {
    "": lambda base: base,
    "learned mean of ": lambda base: trained(learned_mean(base, DIM)),
    "learned gamma of ": lambda base: trained(learned_gamma(base)),
    "learned both of ": lambda base: trained(learned_gamma(learned_mean(base, DIM))),
    "framed ": lambda base: framed(trained(learned_gamma(base)), DIM),
}
WRAPPED = {"Linear-Brownian", "Mirror-Brownian", "VariancePreserving"}  # one of each: two ends, one law, one end
INTERPOLANTS: dict[str, Interpolant] = {
    f"{wrapping}{name}": wrap(base)
    for (wrapping, wrap), (name, base) in product(WRAPPINGS.items(), closed_forms().items())
    if name in WRAPPED or not wrapping
}
EVERY = pytest.mark.parametrize("interpolant", INTERPOLANTS.values(), ids=INTERPOLANTS.keys())
EVERY_CLOSED_FORM = pytest.mark.parametrize("base", closed_forms().values(), ids=closed_forms().keys())
EVERY_GAMMA = pytest.mark.parametrize("gamma", GAMMAS)
EVERY_KIND = pytest.mark.parametrize("kind", members(interpolants, ClosedForm))
LEARNED = pytest.mark.parametrize(
    "learn", [lambda base: learned_mean(base, DIM), learned_gamma], ids=["learned mean", "learned gamma"]
)
X0, X1, Z = normal(PAIRS, DIM), 2 + 3 * normal(PAIRS, DIM, seed=1), normal(PAIRS, DIM, seed=2)
TIMES = torch.linspace(0.02, 0.97, PAIRS, dtype=FLOAT)[:, None]
ENDS = torch.tensor([[0.0], [1.0]], dtype=FLOAT)


def _pairs(interpolant: Interpolant) -> tuple[Tensor, Tensor]:
    """Pairs it may join: a mirror goes from a point to itself (seen from a frame, to what the frame makes of it)."""
    if is_mirror(interpolant) and isinstance(interpolant, FramedInterpolant):
        return X1 - interpolant.shift1 + interpolant.shift0, X1
    return (X1, X1) if is_mirror(interpolant) else (X0, X1)


def _path(interpolant: Interpolant, t: Tensor = TIMES) -> Path:
    return interpolant.path(t, *_pairs(interpolant), Z)


# Ends and noise


@EVERY
def test_points_start_at_x0_and_end_at_x1(interpolant: Interpolant) -> None:
    x0, x1 = _pairs(interpolant)
    start, end = (_path(interpolant, t) for t in ENDS)
    torch.testing.assert_close(end.x, x1)
    if is_one_sided(interpolant):  # its noise is x0
        shift, scale = (interpolant.shift0, interpolant.scale) if isinstance(interpolant, FramedInterpolant) else (0, 1)
        torch.testing.assert_close(start.x, shift + scale * SPREAD0 * Z)
        torch.testing.assert_close(start.mean, shift + 0 * Z)
    else:
        torch.testing.assert_close(start.x, x0)


@EVERY
def test_noise_is_positive_inside_and_vanishes_at_the_ends(interpolant: Interpolant) -> None:
    at_ends = interpolant.variance(ENDS)
    assert at_ends[1].item() == 0
    assert (at_ends[0].item() > 0) == is_one_sided(interpolant)
    inside = interpolant.variance(torch.linspace(0.001, 0.999, 101, dtype=FLOAT)[:, None])
    assert inside.shape == (101, 1)
    assert inside.min() > 0


def _slopes(function: Callable[[Tensor], Tensor], count: int) -> tuple[float, float]:
    """Largest first and second divided differences on `count` intervals of [0, 1]."""
    values = function(torch.linspace(0, 1, count + 1, dtype=FLOAT)[:, None]).squeeze(1)
    return (values.diff().abs().max() * count).item(), (values.diff(n=2).abs().max() * count**2).item()


@EVERY
def test_squared_noise_is_smooth_up_to_the_ends(interpolant: Interpolant) -> None:
    """Divided differences of two orders settle as the grid is refined."""
    for coarse, fine in zip(_slopes(interpolant.variance, 400), _slopes(interpolant.variance, 4000), strict=True):
        assert fine == pytest.approx(coarse, rel=0.02)


def test_noise_itself_need_not_be_smooth() -> None:
    coarse, fine = (_slopes(lambda t: Brownian(EPSILON)(t).sqrt(), n) for n in (400, 4000))
    assert fine[0] > 3 * coarse[0] and fine[1] > 30 * coarse[1]


@EVERY_GAMMA
@settings(max_examples=30)
@given(epsilon=st.floats(1e-6, 1e6))
def test_gamma_is_smooth_at_every_epsilon(gamma: type[Gamma], epsilon: float) -> None:
    first, second = _slopes(gamma(epsilon), 1000)
    assert first < 2.1 * epsilon and second < 20 * epsilon


@EVERY_GAMMA
@given(epsilon=st.floats(1e-6, 1e6), t=st.floats(0, 1))
def test_gamma_is_the_largest_for_which_the_bridge_is_reached(gamma: type[Gamma], epsilon: float, t: float) -> None:
    """γ² ≤ 2εt(1−t), with equality at t = ½, where all are largest."""
    size, half = (gamma(epsilon)(torch.tensor(s, dtype=FLOAT)).item() for s in (t, 0.5))
    assert 0 <= size <= 2 * epsilon * t * (1 - t) * (1 + 1e-12)
    assert half == pytest.approx(epsilon / 2)
    assert size <= half * (1 + 1e-12)


@given(t=st.floats(0, 1), spread=st.floats(0.1, 10))
def test_variance_preserving_keeps_the_variance_of_equal_ends(t: float, spread: float) -> None:
    time, one = torch.tensor([t], dtype=FLOAT), torch.ones(1, dtype=FLOAT)
    interpolant = VariancePreserving(spread)
    total = interpolant.variance(time) + interpolant.mean(time, one, spread * one).square()
    torch.testing.assert_close(total, torch.full_like(total, spread**2))


def test_trigonometric_mean_keeps_the_variance_of_equal_uncorrelated_ends() -> None:
    interpolant = Trigonometric(Brownian(EPSILON))
    one, zero = torch.ones(1, dtype=FLOAT), torch.zeros(1, dtype=FLOAT)
    total = interpolant.mean(TIMES, one, zero).square() + interpolant.mean(TIMES, zero, one).square()
    torch.testing.assert_close(total, torch.ones_like(total))
    torch.testing.assert_close(interpolant.mean(TIMES, one, zero), torch.cos(pi / 2 * TIMES))


@EVERY_GAMMA
def test_encoder_decoder_forgets_its_data_half_way(gamma: type[Gamma]) -> None:
    path = _path(EncoderDecoder(gamma(EPSILON)), torch.tensor(0.5, dtype=FLOAT))
    torch.testing.assert_close(path.x, (EPSILON / 2) ** 0.5 * Z)
    assert path.mean_rate.abs().max() < 1e-12


# Rates and symmetry


@EVERY
def test_rates_agree_with_differences(interpolant: Interpolant) -> None:
    step = 1e-5
    path, after, before = (_path(interpolant, TIMES + shift) for shift in (0, step, -step))
    for value, rate in (("mean", "mean_rate"), ("variance", "variance_rate"), ("gamma", "gamma_rate")):
        difference = (getattr(after, value) - getattr(before, value)) / (2 * step)
        torch.testing.assert_close(getattr(path, rate), difference, rtol=1e-5, atol=1e-6)
    speed = path.mean_rate + path.gamma_rate * path.z
    torch.testing.assert_close(speed, (after.x - before.x) / (2 * step), rtol=1e-5, atol=1e-6)


@EVERY
def test_rates_are_finite_at_the_ends(interpolant: Interpolant) -> None:
    for t in ENDS:
        path = _path(interpolant, t)
        assert path.mean_rate.isfinite().all() and path.variance_rate.isfinite().all()


@EVERY
def test_rates_are_the_same_without_gradients(interpolant: Interpolant) -> None:
    with torch.no_grad():
        quiet = _path(interpolant)
    assert not (quiet.x.requires_grad or quiet.mean_rate.requires_grad or quiet.variance_rate.requires_grad)
    torch.testing.assert_close(quiet.mean_rate, _path(interpolant).mean_rate.detach())
    torch.testing.assert_close(quiet.variance_rate, _path(interpolant).variance_rate.detach())


@EVERY_CLOSED_FORM
def test_two_sided_closed_forms_are_symmetric_in_time(base: ClosedForm) -> None:
    """I(1−t, x1, x0) = I(t, x0, x1) and γ²(1−t) = γ²(t); one-sided ones have a noise at one end only."""
    x0, x1 = _pairs(base)
    same_mean = torch.allclose(base.mean(1 - TIMES, x1, x0), base.mean(TIMES, x0, x1))
    same_noise = torch.allclose(base.variance(1 - TIMES), base.variance(TIMES))
    assert (same_mean, same_noise) == ((True, True) if isinstance(base, TwoSided) else (False, False))


# Paths


@EVERY
def test_points_are_mean_and_noise(interpolant: Interpolant) -> None:
    x0, x1 = _pairs(interpolant)
    mean, variance = interpolant.mean(TIMES, x0, x1), interpolant.variance(TIMES)
    torch.testing.assert_close(_path(interpolant).x, mean + variance.sqrt() * Z)


@EVERY
@pytest.mark.parametrize("shape", [(), (1, 1), (4, 1, 1)], ids=str)
def test_one_time_serves_many_pairs(interpolant: Interpolant, shape: tuple[int, ...]) -> None:
    t = torch.full(shape, 0.3, dtype=FLOAT)
    x0, x1, z = (v.expand(4, PAIRS, DIM) for v in (*_pairs(interpolant), Z))
    path = interpolant.path(t, x0, x1, z)
    single = _path(interpolant, torch.full((PAIRS, 1), 0.3, dtype=FLOAT))
    assert path.x.shape == path.mean_rate.shape == (4, PAIRS, DIM)
    assert path.variance.shape == path.variance_rate.shape == shape
    torch.testing.assert_close(path.x[2], single.x)
    torch.testing.assert_close(path.mean_rate[2], single.mean_rate)


@EVERY
def test_antithetic_pairs_mirror_at_the_mean(interpolant: Interpolant) -> None:
    path = _path(interpolant, TIMES[2])
    plus, minus = path.antithetic().x.split(PAIRS)
    torch.testing.assert_close(plus, path.x)
    torch.testing.assert_close((plus + minus) / 2, path.mean)
    torch.testing.assert_close(path.antithetic().z[PAIRS:], -Z)
    torch.testing.assert_close(path.antithetic().mean_rate[PAIRS:], path.mean_rate)


def _by_hand(path: Path, x: Tensor) -> tuple[Tensor, Tensor]:
    """Expected mean_rate and z given that x (..., d) came from one of the pairs, each as likely before."""
    noises = (x[..., None, :] - path.mean) / path.gamma
    weight = torch.exp(-noises.square().sum(-1, keepdim=True) / 2)
    weight = weight / weight.sum(-2, keepdim=True)
    return (weight * path.mean_rate).sum(-2), (weight * noises).sum(-2)


@EVERY
def test_conditioning_averages_over_the_pairs_of_a_group(interpolant: Interpolant) -> None:
    path = _path(interpolant, TIMES[3])
    found = path.conditioned()
    assert torch.equal(found.x, path.antithetic().x)
    rate, z = _by_hand(path, found.x)
    torch.testing.assert_close(found.mean_rate, rate)
    torch.testing.assert_close(found.z, z)


def test_conditioning_keeps_groups_apart() -> None:
    t = torch.tensor([0.3, 0.6], dtype=FLOAT).reshape(2, 1, 1)
    linear = Linear(Brownian(EPSILON))
    both = linear.path(t, torch.stack([X0, X1]), torch.stack([X1, X0]), torch.stack([Z, -Z])).conditioned()
    alone = linear.path(t[1], X1, X0, -Z).conditioned()
    torch.testing.assert_close(both.mean_rate[1], alone.mean_rate)
    torch.testing.assert_close(both.z[1], alone.z)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_conditioning_removes_variance(t: float) -> None:
    x0, x1, z = (normal(50, 128, 2, seed=s) for s in range(3))
    path = Linear(Brownian(EPSILON)).path(torch.tensor(t, dtype=FLOAT), x0, x1, z)
    objective = Drift(EPSILON)
    raw, smooth = objective.target(path.antithetic()), objective.target(path.conditioned())
    # The same conditional expectation, so the spread of the target is the spread around it plus a constant.
    assert smooth.var() < 0.8 * raw.var()


# Learned, framed, stored


@LEARNED
@EVERY_CLOSED_FORM
def test_learned_interpolants_start_at_their_base(
    base: ClosedForm, learn: Callable[[Interpolant], Interpolant]
) -> None:
    found, expected = _path(learn(base).double()), _path(base)
    for name in ("x", "mean_rate", "variance_rate"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@LEARNED
@EVERY_CLOSED_FORM
def test_learned_interpolants_receive_gradients_through_their_rates(
    base: ClosedForm, learn: Callable[[Interpolant], Interpolant]
) -> None:
    learned = learn(base).double()
    path = _path(learned)
    ((path.mean_rate * Z).sum() + path.variance_rate.square().sum()).backward()
    assert max(p.grad.abs().max().item() for p in learned.parameters() if p.grad is not None) > 0


@EVERY_CLOSED_FORM
def test_learning_one_part_leaves_the_other(base: ClosedForm) -> None:
    mean, gamma = trained(learned_mean(base, DIM)), trained(learned_gamma(base))
    x0, x1 = _pairs(base)
    torch.testing.assert_close(mean.variance(TIMES), base.variance(TIMES))
    torch.testing.assert_close(gamma.mean(TIMES, x0, x1), base.mean(TIMES, x0, x1))
    assert not torch.allclose(mean.mean(TIMES, x0, x1), base.mean(TIMES, x0, x1), rtol=0.01)
    assert not torch.allclose(gamma.variance(TIMES), base.variance(TIMES), rtol=0.01)


@EVERY_CLOSED_FORM
def test_the_energy_of_a_learned_correction_is_the_square_of_its_coefficients(base: ClosedForm) -> None:
    learned = learned_mean(base, DIM)
    trained(learned)
    nodes, weights = (torch.from_numpy(values) / 2 for values in np.polynomial.legendre.leggauss(8))
    times = (nodes + 0.5).view(-1, 1, 1)
    correction = learned.path(times, X0, X1, Z).mean_rate - base.path(times, X0, X1, Z).mean_rate
    energy = (weights.view(-1, 1, 1) * correction.square()).sum((0, 2))
    ends = torch.cat([X0 / learned.spread0, X1 / learned.spread1], dim=-1)
    torch.testing.assert_close(energy, max(learned.spread0, learned.spread1) ** 2 * learned.body(ends).square().sum(-1))


@EVERY_CLOSED_FORM
def test_learned_gamma_stays_within_its_bound(base: ClosedForm) -> None:
    interpolant = LearnedGamma(base, bound=1.5).double()
    torch.nn.init.constant_(interpolant.body.last.bias, 100.0)
    exponent = (interpolant.variance(TIMES) / base.variance(TIMES)).log()
    torch.testing.assert_close(exponent, 1.5 * (TIMES if isinstance(base, OneSided) else torch.ones_like(TIMES)))


def test_frames_of_interpolant_and_drift_agree() -> None:
    """The gap between a drift and its regression target scales by a: both are seen from the same frame."""
    frame = (normal(DIM, seed=5), normal(DIM, seed=6), 2.5)
    inner = trained(LearnedMean(Linear(Brownian(EPSILON)), DIM, 1.0, 1.0, width=16, depth=2))
    drift = Half(DriftPair(DIM, 1.0, 1.0, EPSILON, width=16, depth=2).double(), 0)
    shift = (1 - TIMES) * frame[0] + TIMES * frame[1]
    path = inner.path(TIMES, X0, X1, Z)
    outer = FramedInterpolant(inner, *frame).path(TIMES, frame[0] + 2.5 * X0, frame[1] + 2.5 * X1, Z)
    torch.testing.assert_close(outer.x, shift + 2.5 * path.x)
    gap = drift(TIMES, path.x) - Drift(EPSILON).target(path)
    outer_gap = Framed(drift, *frame)(TIMES, outer.x) - Drift(EPSILON * 2.5**2).target(outer)
    torch.testing.assert_close(outer_gap, 2.5 * gap)


@EVERY
def test_interpolants_survive_a_file(interpolant: Interpolant, tmp_path: File) -> None:
    storage.save(interpolant, tmp_path / "interpolant")
    loaded = storage.load(tmp_path / "interpolant")
    assert isinstance(loaded, Interpolant) and type(loaded) is type(interpolant)
    assert torch.equal(_path(loaded).x, _path(interpolant).x)
    assert torch.equal(_path(loaded).variance_rate, _path(interpolant).variance_rate)


# What they may join


@EVERY_KIND
@EVERY_GAMMA
def test_solvers_make_each_kind_of_a_gamma_and_a_spread(kind: type[ClosedForm], gamma: type[Gamma]) -> None:
    size = gamma(EPSILON)
    made = kind.make(size, 0.7)
    assert type(made) is kind
    expected = 0.7**2 if isinstance(made, OneSided) else 0.0
    assert made.variance(ENDS)[0].item() == pytest.approx(expected)
    if isinstance(made, TwoSided):
        torch.testing.assert_close(made.variance(TIMES), size(TIMES))


def _refused(kind: type[ClosedForm], x0: Tensor, x1: Tensor) -> bool:
    try:
        kind.admit(x0, x1)
    except InputError:
        return True
    return False


MIXED = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.44, 0.0], [0.0, 0.0, 1.0]], dtype=FLOAT)
NOT_NOISE: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": lambda z: torch.special.ndtr(z),
    "two clusters": lambda z: 0.3 * z + z.sign(),
    "heavy tails": lambda z: z * (1 + z.square()),
    "one wide axis": lambda z: z * torch.tensor([1.0, 1.0, 1.5], dtype=FLOAT),
    "correlated": lambda z: z @ MIXED.T,
    "shifted": lambda z: z + 0.4,
    "a single point": lambda z: 0 * z + 1,
}


@pytest.mark.parametrize("make", NOT_NOISE.values(), ids=NOT_NOISE.keys())
@EVERY_KIND
def test_one_sided_interpolants_refuse_all_but_gaussian_noise(
    kind: type[ClosedForm], make: Callable[[Tensor], Tensor]
) -> None:
    x = make(normal(2000, DIM))
    assert _refused(kind, x, x) == issubclass(kind, OneSided)


@pytest.mark.parametrize("kind", {kind.admit: kind for kind in members(interpolants, ClosedForm)}.values())
def test_samples_of_the_right_law_are_never_refused(kind: type[ClosedForm]) -> None:
    for seed in range(200):
        x0, x1 = 3 * normal(2, 300, 1 + seed % 3, seed=seed)
        assert not _refused(kind, x0, x1)


@pytest.mark.parametrize(("n0", "n1"), [(20, 30), (2003, 997), (9_973, 9_967), (30_000, 30_000)], ids=str)
@EVERY_KIND
def test_samples_of_any_size_are_judged(kind: type[ClosedForm], n0: int, n1: int) -> None:
    assert not _refused(kind, normal(n0, 1), normal(n1, 1, seed=1))


OTHER_LAWS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: NOT_NOISE[name] for name in ("uniform", "two clusters", "heavy tails", "correlated", "shifted")},
    "wider": lambda z: 1.3 * z,
}


@pytest.mark.parametrize("make", OTHER_LAWS.values(), ids=OTHER_LAWS.keys())
@EVERY_KIND
def test_mirrors_refuse_two_laws(kind: type[ClosedForm], make: Callable[[Tensor], Tensor]) -> None:
    noise, other = normal(3000, DIM), make(normal(3000, DIM, seed=1))
    assert _refused(kind, noise, other) == issubclass(kind, Mirror)
    assert not _refused(kind, noise, noise)


# In a training

TINY: dict[str, Any] = {"steps": 6, "network": ResidualNetwork(8, 1), "batch": 32, "group": 16}


@EVERY_KIND
@EVERY_GAMMA
def test_every_kind_of_interpolant_can_be_fitted(kind: type[ClosedForm], gamma: type[Gamma]) -> None:
    x = normal(200, 2).float()
    problem = Problem(x, x + 3, EPSILON, x, x + 3)
    if issubclass(kind, OneSided) and gamma is not Brownian:
        with pytest.raises(InputError, match="has a noise of its own"):
            Regression(interpolant=kind, gamma=gamma)
        return
    bridge = Regression(**TINY, interpolant=kind, gamma=gamma).solve(problem)
    assert isinstance(bridge.interpolant, FramedInterpolant) and type(bridge.interpolant.inner) is kind
    assert bridge.transport(x, random_state=0).isfinite().all()


@EVERY_KIND
def test_a_training_asks_whether_its_data_may_be_joined(kind: type[ClosedForm]) -> None:
    x0, x1 = NOT_NOISE["two clusters"](normal(3000, 2)).float(), normal(3000, 2).float()
    problem = Problem(x0, x1, EPSILON, x0, x1)
    if issubclass(kind, OneSided | Mirror):
        with pytest.raises(InputError, match=r"choose .* interpolant such as Linear"):
            Regression(**TINY, interpolant=kind).start(problem)
    else:
        Regression(**TINY, interpolant=kind).start(problem)
