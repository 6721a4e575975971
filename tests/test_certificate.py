"""Certificates: the identities behind them, closed forms, fits of known error, and what is refused."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sbridge.bridge import Bridge, ExactBridge
from sbridge.errors import DivergenceError, InputError
from sbridge.estimates import Estimate
from sbridge.estimator import SchrodingerBridge
from sbridge.evaluation.certificate.columns import ColumnGap, Columns, moment_gaps
from sbridge.evaluation.certificate.duality import Care, Pair, distances
from sbridge.evaluation.certificate.ends import check, smooth_gap
from sbridge.evaluation.certificate.estimate import certify
from sbridge.evaluation.certificate.known import WithPotential, dual_of, own_pair
from sbridge.evaluation.certificate.statement import (
    Certificate,
    Distance,
    EndCheck,
    Meeting,
    Passage,
    Residual,
)
from sbridge.evaluation.certificate.walks import STEPS, Walk, martingale, rotation, run
from sbridge.fields import Field, Framed
from sbridge.potentials.exact import MixtureBridge
from sbridge.potentials.field import MixtureDrift
from sbridge.potentials.solver import FullMixturePotential, MixturePotential
from sbridge.problem import Frame, Problem
from sbridge.problems.gaussian import Gaussian, GaussianBridge
from sbridge.problems.mixture import Mixture
from sbridge.problems.shapes import Shapes
from sbridge.solvers.regression import Regression

pytestmark = pytest.mark.slow

FLOAT = torch.float64
GRID = [1 - (1 - k / STEPS) ** 3 for k in range(STEPS + 1)]
SMALL, LEAST = Care(6000, 250, 100, 32), Care(2000, 60, 50, 16)
STILL = Frame(torch.zeros(2, dtype=FLOAT), torch.zeros(2, dtype=FLOAT), 1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(Field):
    """A x + c t."""

    matrix: Tensor
    speed: Tensor

    def __init__(self, matrix: Tensor, speed: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("speed", speed)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return x @ self.matrix.T + self.speed * t


class Waves(Field):
    """A drift plus waves of the given height."""

    frequencies: Tensor

    def __init__(self, inner: Field, height: float, dim: int) -> None:
        super().__init__()
        self.inner, self.height = inner, height
        self.register_buffer("frequencies", torch.randn(dim, dim, generator=generator(5)))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.inner(t, x) + self.height * torch.sin(x @ self.frequencies.to(x) + 3 * t)


def potential(seed: int, epsilon: float = 0.5, dim: int = 2) -> MixtureDrift:
    """∇λ of a random mixture potential."""
    source = generator(seed)
    centres = torch.randn(3, dim, dtype=FLOAT, generator=source)
    variances = 0.2 + torch.rand(3, dim, dtype=FLOAT, generator=source)
    return MixtureDrift(torch.zeros(3, dtype=FLOAT), centres, variances, epsilon)


def walked(drift: Field, epsilon: float = 0.5, paths: int = 1000) -> Walk:
    """Paths from normal points, all of them watched."""
    walk = Walk(drift, epsilon, torch.randn(paths, 2, dtype=FLOAT, generator=generator(1)), paths)
    run(walk, generator(2), lambda: None)
    return walk


def known(drift: MixtureDrift) -> Pair:
    """ψ and λ_ψ of a mixture potential, in nats."""
    zero, e = torch.zeros((), dtype=FLOAT), 2 * drift.epsilon
    return Pair(
        lambda y: drift.potential(zero + 1, y) / e, lambda x: drift.potential(zero, x) / e, True, Residual(0.0, 0.0)
    )


def excess(drift: Field, exact: Field, place: Tensor, epsilon: float = 0.5) -> float:
    """E∫|û − u|²dt/4ε along paths of û."""
    total, noise = 0.0, generator(5)
    for k in range(STEPS):
        t, h = torch.tensor(GRID[k], dtype=place.dtype), GRID[k + 1] - GRID[k]
        u = drift(t, place)
        total += h / (4 * epsilon) * float((u - exact(t, place)).square().sum(-1).mean())
        z = torch.randn(place.shape, dtype=place.dtype, generator=noise)
        place = place + u * h + (2 * epsilon * h) ** 0.5 * z
    return total


def from_few(drift: Field, starts: Tensor, per_start: int, epsilon: float = 0.5) -> Walk:
    walk = Walk(drift, epsilon, starts.repeat_interleave(per_start, 0))
    run(walk, generator(3), lambda: None)
    return walk


@cache
def mixture(epsilon: float = 0.5, dim: int = 2, points: int = 2000) -> tuple[MixtureBridge, Problem]:
    problem = Mixture(dim=dim, epsilon=epsilon, samples=100, test_samples=points, seed=1).build()
    assert isinstance(problem.truth, MixtureBridge)
    return problem.truth, problem


@cache
def gaussian() -> tuple[GaussianBridge, Problem]:
    problem = Gaussian(dim=2, epsilon=0.5, samples=100, test_samples=2000, seed=1).build()
    assert isinstance(problem.truth, GaussianBridge)
    return problem.truth, problem


def perturbed(height: float) -> Bridge:
    """The exact drifts, the forward one with waves, which are not those of any Schrödinger bridge."""
    exact = deepcopy(gaussian()[0])
    return Bridge(Waves(exact.forward_field, height, 2), exact.backward_field, exact.epsilon)


@cache
def certificate(height: float) -> Certificate:
    _, problem = gaussian()
    seed = 1  # one in ten sees a difference between the laws of one or the other end by chance, at p ≤ .05
    return certify(perturbed(height), problem.test0, problem.test1, seed, care=SMALL)


# The walk


def test_density_and_energy_of_a_constant_drift() -> None:
    """log dP_û/dW = û·(X₁ − x₀)/e − |û|²/2e, which is additive to rounding, and the energy is |û|²/2e."""
    speed = torch.tensor([3.0, 4.0], dtype=FLOAT)
    still = Linear(torch.zeros(2, 2, dtype=FLOAT), torch.zeros(2, dtype=FLOAT))
    walk = walked(Framed(still, torch.zeros(2, dtype=FLOAT), speed, 1.0), epsilon=0.3)
    torch.testing.assert_close(walk.log_density, ((walk.x - walk.start) @ speed - 12.5) / 0.6)
    torch.testing.assert_close(walk.energy, torch.full_like(walk.energy, 12.5 / 0.6))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_density_has_mean_one_under_brownian_motion(seed: int) -> None:
    """E_û[dW/dP_û] = 1 for the chain of any drift."""
    walk = walked(potential(seed), epsilon=0.5, paths=4000)
    ratio = Estimate.of((-walk.log_density).exp())
    assert abs(ratio.value - 1) < 5 * ratio.standard_error + 1e-3


def test_the_density_of_an_exact_drift_is_additive_as_steps_shrink() -> None:
    """L = ψ(X₁) − λ(x₀), path by path; half of the steps miss about twice as much."""
    exact = potential(1)
    fine = Walk(exact, 0.5, torch.randn(2000, 2, dtype=FLOAT, generator=generator(1)))
    coarse = Walk(exact, 0.5, fine.start)
    run(fine, generator(2), lambda: None, [coarse])
    pair = known(exact)
    one, two = (float((w.log_density - pair.end(w.x) + pair.start(w.start)).square().mean()) for w in (fine, coarse))
    assert one < 0.01 and 1.5 < two / one < 6


def test_paths_are_kept_at_the_quarters() -> None:
    """A point without noise that moves with the square of time is where it should be, up to the steps' error."""
    speed = torch.tensor([2.0, 0.0], dtype=FLOAT)
    still = Linear(torch.zeros(2, 2, dtype=FLOAT), speed)
    walk = walked(still, epsilon=1e-12, paths=3)
    for t in (0.25, 0.5, 0.75):
        gone = (walk.at(t, generator()) - walk.start)[:, 0]
        torch.testing.assert_close(gone, torch.full_like(gone, t**2), atol=0.04, rtol=0)


def test_noise_on_the_way_is_that_of_brownian_motion() -> None:
    """Without a drift: variance 2εt in every column, also between two steps."""
    walk = walked(Linear(torch.zeros(2, 2, dtype=FLOAT), torch.zeros(2, dtype=FLOAT)), epsilon=0.3, paths=4000)
    for t in (0.25, 0.5, 0.75):
        gone = walk.at(t, generator(5)) - walk.start
        torch.testing.assert_close(gone.var(0), torch.full_like(gone[0], 0.6 * t), atol=0, rtol=0.1)


def test_the_change_of_a_drift_that_only_depends_on_time_is_foretold() -> None:
    """Σ|cΔt|²/4ε, all of it."""
    speed = torch.tensor([2.0, -1.0], dtype=FLOAT)
    drift = Linear(torch.zeros(2, 2, dtype=FLOAT), speed)
    fine = walked(drift, epsilon=0.3)
    hjb, turning = martingale(fine, generator())
    expected = sum(5 * (GRID[k + 5] - GRID[k]) ** 2 for k in range(0, 45, 5)) / 1.2
    assert hjb.value == pytest.approx(expected) and turning.value == pytest.approx(expected)
    assert rotation(fine, generator()).value == pytest.approx(0, abs=1e-20)


def test_the_curl_of_a_linear_drift() -> None:
    """⅛|A − Aᵀ|²."""
    matrix = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=FLOAT)
    drift = Linear(matrix, torch.zeros(2, dtype=FLOAT))
    found = rotation(walked(drift), generator())
    assert abs(found.value - 9 / 4) < 4 * found.standard_error
    assert found.standard_error < 0.1


@pytest.mark.parametrize("seed", [1, 2])
def test_an_exact_drift_is_a_martingale_and_a_gradient(seed: int) -> None:
    exact = potential(seed)
    fine = walked(exact, paths=2000)
    hjb, turning = martingale(fine, generator())
    assert abs(hjb.value) < 4 * hjb.standard_error + 0.02 * turning.value
    assert rotation(fine, generator()).value < 1e-6 * turning.value


# Duality


def test_the_potential_by_paths_of_another_drift_is_the_closed_form() -> None:
    """λ_ψ(x) = log E_û[exp(ψ(X₁) − L) | x] for any û; by K paths it is a little low."""
    exact = potential(1)
    pair, starts = known(exact), torch.randn(200, 2, dtype=FLOAT, generator=generator(4))
    walk = from_few(Waves(exact, 0.5, 2), starts, 200)
    by_paths = replace(pair, exact=False)
    found = distances(by_paths, walk, starts)[2]
    error = Estimate.of(found - pair.start(starts))
    assert abs(error.value) < 4 * error.standard_error + 0.01


@pytest.mark.parametrize("height", [0.3, 1.0])
def test_both_sides_of_the_distance(height: float) -> None:
    """E_û[L − ψ(X₁) + λ(x₀)] = E∫|û − ∇λ|²dt/4ε for an exact potential λ."""
    exact = potential(2)
    drift, starts = Waves(exact, height, 2), torch.randn(400, 2, dtype=FLOAT, generator=generator(4))
    walk = from_few(drift, starts, 25)
    left = Estimate.of(distances(known(exact), walk, starts)[0])
    right = excess(drift, exact, starts.repeat_interleave(25, 0))
    assert abs(left.value - right) < 4 * left.standard_error + 0.03 * right


@pytest.mark.parametrize("problem", [Mixture(dim=2, epsilon=0.5), Shapes(dim=2)], ids=lambda p: p.name)
def test_the_dual_of_the_truth_is_the_energy_and_no_other_is_higher(problem: Mixture | Shapes) -> None:
    """D(ψ*) = (KE* − ½|s|²)/2ε up to the points' noise; less for any other potential, by a paired difference."""
    built = replace(problem, samples=3000, test_samples=3000).build()
    truth = built.truth
    assert isinstance(truth, ExactBridge) and isinstance(truth, WithPotential)
    x0, x1, e = built.test0, built.test1, 2 * built.epsilon
    best = dual_of(truth, x0, x1, 0)
    shift = float((x1.double().mean(0) - x0.double().mean(0)).square().sum()) / 2
    assert abs(best.value.value - (truth.kinetic_energy().value - shift) / e) < 5 * best.value.standard_error + 0.02
    less = best.minus(dual_of(MixturePotential(1).solve(built), x0, x1, 0)).value
    assert less.value > -4 * less.standard_error


def test_the_gap_of_a_potential_is_its_divergence_from_the_truth() -> None:
    """KE*/e − D(ψ) = KL(P*‖P_ψ), here of a potential with too few components, by both closed forms."""
    truth, problem = mixture(points=4000)
    poor = MixturePotential(2).solve(replace(problem, x0=problem.test0, x1=problem.test1))
    gap = dual_of(truth, problem.test0, problem.test1, 0).minus(dual_of(poor, problem.test0, problem.test1, 0)).value
    x0 = problem.test0[:2000]
    x1 = truth.endpoints(x0, generator(1))
    total = 0.0
    for k in range(200):
        t = torch.tensor((k + 0.5) / 200)
        x = truth.between(t, x0, x1, generator(k))
        difference = truth.forward_drift(float(t), x) - poor.forward_drift(float(t), x)
        total += float(difference.square().sum(-1).mean()) / 200 / (4 * 0.5)
    assert gap.value == pytest.approx(total, rel=0.1, abs=3 * gap.standard_error)


def test_values_on_blocks_average_to_the_value() -> None:
    truth, problem = mixture()
    found = dual_of(truth, problem.test0[:1024], problem.test1[:1024], 0)
    blocks = found.blocks(32)
    assert len(blocks) == 32 and sum(blocks) / 32 == pytest.approx(found.value.value)


def test_an_own_potential_in_a_frame_is_that_of_the_user() -> None:
    """D of a bridge far from the origin is D of the same one at the origin."""
    truth, problem = mixture()
    pair = own_pair(truth, STILL)
    y = problem.test1[:5].double()
    torch.testing.assert_close(pair.end(y), truth.potential(torch.ones((), dtype=FLOAT), y))


# The ends


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_neighbours_find_the_divergence_of_two_normal_laws(dim: int) -> None:
    """½ for N(0, I) and N(m, I) with |m| = 1, both ways, and nothing between samples of one law."""
    y, same, moved = (torch.randn(4000, dim, generator=generator(k)) for k in range(3))
    found = check(y, moved + dim**-0.5, torch.ones(dim), generator())
    truth = 0.5
    assert abs(found.divergence.value - truth) < 4 * found.divergence.standard_error + 0.15 * truth
    assert found.visible and found.p_value == 1 / 200
    alike = check(y, same, torch.ones(dim), generator())
    assert abs(alike.divergence.value) < 4 * alike.divergence.standard_error and not alike.visible


@pytest.mark.parametrize("narrower", [0.95, 0.8])
def test_a_narrow_end_is_not_below_zero(narrower: float) -> None:
    """In sixteen dimensions each of the two divergences alone is off by a multiple of itself."""
    y, z = torch.randn(2, 3000, 16, generator=generator())
    found = check(y, narrower * z, torch.ones(16), generator()).divergence
    truth = 16 * (narrower**2 + narrower**-2 - 2) / 4
    assert -2 * found.standard_error < found.value < truth + 2 * found.standard_error


def test_a_shift_costs_paths_more_than_ends() -> None:
    """|δ|²/4ε; and nothing between samples of one law, in 19 of 20 cases."""
    y, z = torch.randn(2, 4000, 3, generator=generator())
    shift = torch.tensor([0.5, 0.0, 0.0])
    found = smooth_gap(y, z + shift, 0.05, generator())
    assert found.value == pytest.approx(0.25 / 0.2, abs=0.2)
    same = [smooth_gap(*torch.randn(2, 400, 3, generator=generator(k)), 0.05, generator()) for k in range(20)]
    assert sum(abs(one.value) > 2.5 * one.standard_error for one in same) <= 3


def test_the_check_keeps_its_level() -> None:
    """p-values of one law are uniform."""
    values = [
        check(
            torch.randn(150, 2, generator=generator(k)),
            torch.randn(150, 2, generator=generator(k + 99)),
            torch.ones(2),
            generator(k),
        ).p_value
        for k in range(60)
    ]
    assert 0.3 < np.mean(values) < 0.7 and np.mean(np.array(values) <= 0.1) < 0.25


def test_units_of_the_columns_do_not_matter_to_the_check() -> None:
    y, z = torch.randn(2, 500, 3, dtype=FLOAT, generator=generator())
    scale = torch.tensor([1.0, 1e3, 1e-3], dtype=FLOAT)
    one, two = (check(y * k, z * k, k, generator(1)) for k in (torch.ones_like(scale), scale))
    assert one.divergence.value == pytest.approx(two.divergence.value)


def test_more_points_see_a_smaller_blur() -> None:
    """Of a law of 30 narrow clusters."""
    centres = torch.randn(30, 2, generator=generator(1))

    def sample(count: int, seed: int) -> Tensor:
        return centres[torch.arange(count) % 30] + 0.02 * torch.randn(count, 2, generator=generator(seed))

    few, many = (check(sample(n, 2), sample(n, 3), torch.ones(2), generator()) for n in (60, 3000))
    assert many.blur is not None and (few.blur is None or few.blur > many.blur)
    assert "3,000 points would have shown a blur of" in many.power


def test_rounded_data_are_compared_at_their_resolution() -> None:
    """Repetitions are no difference of laws, and a wrong spread is one still."""
    y, z = (torch.randn(3000, 2, generator=generator(k)) for k in (1, 2))
    rounded = (y * 20).round() / 20
    assert abs(check(rounded, z, torch.ones(2), generator()).divergence.value) < 0.1
    wrong = check(rounded, 2 * z, torch.ones(2), generator())
    assert wrong.visible and wrong.divergence.value > 0.05


def test_equal_points_are_no_error() -> None:
    found = check(torch.zeros(50, 2), torch.zeros(50, 2), torch.ones(2), generator())
    assert np.isfinite(found.divergence.value) and not found.visible


def test_the_column_that_is_off_is_named() -> None:
    y = torch.randn(5000, 3, generator=generator(1))
    z = torch.randn(5000, 3, generator=generator(2)) * torch.tensor([1.0, 1.0, 1.5]) + torch.tensor([0.0, 0.1, 0.0])
    gap = Columns(["a", "b", "c"], lambda x: 100 * x.double()).widest_gap(y, z)
    assert gap.name == "c" and gap.far and gap.spread == pytest.approx(100, rel=0.05)
    assert re.match(
        r"column c is off by 3\d.* on average \(0.3\d* of its spreads\): .* its spread 4\d.* % too wide", str(gap)
    )
    assert Columns().widest_gap(y, y.clone()).size < 1e-6
    torch.testing.assert_close(moment_gaps(y, z)[1][2], torch.tensor(0.5), atol=0.05, rtol=0)


def test_a_column_of_another_shape_is_seen() -> None:
    """Two points in place of a normal law, with its mean and spread: E||Z| − 1| by quantiles."""
    y = torch.randn(2000, 2, generator=generator(1))
    z = torch.randn(2000, 2, generator=generator(2))
    z[:, 1] = z[:, 1].sign()
    gap = Columns().widest_gap(y, z)
    wanted = (torch.randn(200_000, generator=generator(3)).abs() - 1).abs().mean()
    assert gap.name == "c1" and gap.far and gap.distance == pytest.approx(float(wanted), rel=0.1)
    assert max(abs(gap.shift), abs(gap.width)) < 0.1


def test_columns_of_one_law_are_seldom_told_apart() -> None:
    """In one of 100 cases, however many columns there are, heavy tails included."""
    laws = [torch.randn(2, 200, 20, dtype=FLOAT, generator=generator(k)) for k in range(60)]
    seen = [Columns().widest_gap(y, z).visible for y, z in (law.pow(3) for law in laws)]
    assert sum(seen) <= 3


def test_a_constant_column_is_measured_in_the_spread_of_all() -> None:
    y, z = (torch.randn(500, 2, generator=generator(k)) for k in (1, 2))
    y[:, 1] = 3.0
    z[:, 1] = 3.0
    assert not Columns().widest_gap(y, z).visible
    z[:, 1] = 4.0
    gap = Columns().widest_gap(y, z)
    assert gap.name == "c1" and gap.shift == pytest.approx(2**0.5, rel=0.1)


# Certificates


@pytest.mark.parametrize("height", [0.3, 1.0])
def test_a_known_divergence_is_found(height: float) -> None:
    """Waves on the exact drift, of which an exact bridge can follow a part, to another end."""
    truth, problem = gaussian()
    found = certificate(height).forward
    true = excess(Waves(truth.forward_field, height, 2), truth.forward_field, problem.test0)
    assert true / 1.5 - 0.02 < found.divergence.value < 1.5 * true + 0.02
    assert found.curl.value > 1e-3


def test_the_exact_bridge_is_trusted() -> None:
    found = certificate(0.0)
    assert found.verdict.word == "trust" and found.forward.distance.value < 0.03
    assert not found.forward.ends.visible and not found.backward.ends.visible


def test_a_sharp_potential_is_found_from_paths_alone() -> None:
    """Of twenty components in eight dimensions: the regression comes within .15 nats of it, in a few seconds."""
    problem = Shapes(dim=8, epsilon=0.05, samples=5000, test_samples=2000, seed=3).build()
    known = FullMixturePotential(20).solve(problem)
    as_any_other = Bridge(known.forward_field, known.backward_field, known.epsilon)
    care = Care(8192, 500, 128, 32)
    regressed = certify(as_any_other, problem.test0, problem.test1, 0, care=care).forward.dual.value
    assert abs(dual_of(known, problem.test0, problem.test1, 0).value.value - regressed) < 0.15


def test_own_potentials_are_used_as_they_are() -> None:
    _, problem = gaussian()
    fitted = MixturePotential(1).solve(replace(problem, x0=problem.test0, x1=problem.test1, truth=None))
    found = fitted.certificate(problem.test0[:300], problem.test1[:300], random_state=0)
    assert found.forward.residual == Residual(0.0, 0.0) and abs(found.forward.distance.value) < 0.02
    assert found.forward.distance == found.backward.distance


def test_a_backward_process_is_judged_by_its_own_potential() -> None:
    """Two components for five clusters: far from x1 given x0, and near x0 given x1, which is noise at this ε."""
    problem = Mixture(dim=2, epsilon=5.0, samples=2000, test_samples=1000).build()
    found = MixturePotential(2).solve(problem).certificate(problem.test0, problem.test1, random_state=0)
    assert found.forward.verdict.word == "do not trust" and found.forward.behind.value > 3
    assert found.backward.verdict.word != "do not trust" and found.backward.behind.value < 0.1
    assert found.forward.distance == found.backward.distance == Estimate(0.0, 0.0)


@pytest.mark.parametrize("kind", ["ten steps", "columns exchanged"])
def test_bad_fits_are_not_trusted(kind: str) -> None:
    problem = Shapes(dim=2, epsilon=0.05, samples=3000, test_samples=2000, seed=2).build()
    seen = problem if kind == "ten steps" else replace(problem, x1=problem.x1.flip(-1), truth=None)
    bridge = Regression(steps=10 if kind == "ten steps" else 200).solve(seen)
    found = certify(bridge, problem.test0, problem.test1, 0, care=LEAST)
    assert found.verdict.word == "do not trust"
    assert str(found).startswith("Do not trust: ")


def test_few_points_say_that_they_cannot_tell() -> None:
    problem = Shapes(dim=8, epsilon=0.05, samples=100, test_samples=100).build()
    assert problem.truth is not None
    bridge = Bridge(problem.truth.forward_field, problem.truth.backward_field, problem.epsilon)
    found = certify(
        bridge, problem.test0, problem.test1, 1, care=replace(Care.for_points(100), starts=32, per_start=48)
    )
    assert found.verdict.word == "cannot tell" and "more points" in found.verdict.reason
    assert "100 points would miss even a blur of 0.8" in str(found)


def test_directions_that_do_not_belong_together_are_seen() -> None:
    truth, problem = gaussian()
    still = Linear(-torch.eye(2), torch.zeros(2))
    found = certify(Bridge(truth.forward_field, still, 0.5), problem.test0, problem.test1, 1, care=LEAST)
    assert all(one.visible for one in vars(found.meeting).values())
    assert not any(one.visible for one in vars(certificate(0.0).meeting).values())


def test_backward_is_forward_seen_from_the_other_end() -> None:
    """Of a bridge between two normal laws whose drifts are each other's mirror images, figures agree by the law."""
    one = torch.eye(2, dtype=FLOAT)
    bridge = Bridge(Linear(-0.1 * one, torch.zeros(2).double()), Linear(0.1 * one, torch.zeros(2).double()), 0.1)
    x0, x1 = (torch.randn(1000, 2, dtype=FLOAT, generator=generator(k)) for k in (1, 2))
    found = certify(bridge, x0, x1, 0, care=Care(3000, 120, 100, 32))
    forward, backward = found.forward.distance, found.backward.distance
    assert abs(forward.value - backward.value) < 4 * (forward.standard_error + backward.standard_error) + 0.02


def test_units_of_the_data_do_not_matter() -> None:
    _, problem = gaussian()
    x0, x1 = problem.test0[:600].double(), problem.test1[:600].double()
    inner, zero = perturbed(0.5).double(), torch.zeros(2, dtype=FLOAT)
    there, back = (Framed(field, zero + 30, zero - 30, 0.2) for field in (inner.forward_field, inner.backward_field))
    one = certify(inner, x0, x1, 0, care=LEAST).forward
    two = certify(Bridge(there, back, 0.5 * 0.2**2), 0.2 * x0 + 30, 0.2 * x1 - 30, 0, care=LEAST).forward
    for name in ("distance", "dual", "hjb", "curl", "turning"):
        first, second = getattr(one, name), getattr(two, name)
        assert second.value == pytest.approx(first.value, rel=0.03, abs=0.5 * first.standard_error)


@pytest.mark.usefixtures("little_care")
def test_arrays_tensors_and_seeds() -> None:
    truth, problem = gaussian()
    x0, x1 = problem.test0[:200], problem.test1[:200]
    found = truth.certificate(x0, x1, random_state=3)
    assert truth.certificate(x0.numpy(), x1.numpy(), random_state=3) == found
    assert truth.certificate(x0, x1, random_state=4) != found
    estimator = SchrodingerBridge(epsilon=0.5)
    estimator.bridge_ = truth
    assert estimator.certificate(x0.numpy(), x1.numpy(), random_state=3) == found
    one, two = (certify(perturbed(0.5), x0, x1, 3, care=Care(500, 20, 16, 8)) for _ in "12")
    assert one == two


@pytest.mark.usefixtures("little_care")
def test_progress_is_told() -> None:
    _, problem = gaussian()
    heard: list[float] = []
    perturbed(0.5).certificate(problem.test0[:100], problem.test1[:100], 0, [lambda p: heard.append(p.step / p.steps)])
    assert heard == sorted(heard) and heard[-1] == 1


# The statement


UNSEEN, FAR = ColumnGap("b", 0.01, 0.02, 0.03, 0.05, 10.0), ColumnGap("b", -0.3, 0.1, 0.31, 0.05, 10.0)
NEAR = ColumnGap("b", -0.01, 0.1, 0.11, 0.05, 10.0)


def passage(**changes: object) -> Passage:
    """Of a good fit, with changes."""
    one = Estimate(0.05, 0.002)
    none = Estimate(0.0, 0.001)
    good = Passage(
        starts=256,
        paths=64,
        distance=one,
        fewer_paths=none,
        fewer_steps=none,
        residual=Residual(0.3, 0.31),
        dual=Estimate(5.0, 0.05),
        behind=Estimate(-1.0, 0.05),
        end_error=none,
        ends=SAME_END,
        smooth=none,
        column=UNSEEN,
        hjb=Estimate(2.0, 0.1),
        curl=one,
        turning=one,
    )
    return replace(good, **changes)  # type: ignore[arg-type]


SAME_END = EndCheck(4000, Estimate(0.01, 0.02), 0.03, 0.4, 0.01, 0.1, 2)
WRONG_END = EndCheck(4000, Estimate(1.6, 0.02), 0.03, 0.005, 0.1, 0.1, 2)
DOUBTFUL_END = EndCheck(4000, Estimate(0.3, 0.02), 0.03, 0.005, 0.1, 0.1, 2)
SLIGHT_END = EndCheck(4000, Estimate(0.1, 0.02), 0.03, 0.005, 0.01, 0.1, 2)
BLIND_END = EndCheck(100, Estimate(0.2, 0.5), 0.7, 0.3, 0.1, None, 2)


@pytest.mark.parametrize(
    ("changes", "word", "reason"),
    [
        ({}, "trust", "within 0.09"),
        ({"distance": Estimate(0.4, 0.01)}, "trust", "within 0.4"),
        ({"distance": Estimate(1.4, 0.01)}, "do not trust", "at least 1.3"),
        ({"smooth": Estimate(0.2, 0.01)}, "trust", "within 0.4"),
        ({"smooth": Estimate(0.02, 0.01)}, "cannot tell", "held-out points"),
        ({"smooth": Estimate(0.9, 0.01)}, "do not trust", "most of them in the law of its end"),
        ({"ends": WRONG_END}, "do not trust", ", most of them in the law of its end"),
        ({"behind": Estimate(1.5, 0.05)}, "do not trust", "at least 1.4 nats"),
        ({"behind": Estimate(1.5, 0.05)}, "do not trust", "because a mixture potential is nearer by 1.50 ± 0.05"),
        ({"behind": Estimate(0.3, 0.02)}, "cannot tell", "at least 0.26 nats"),
        ({"behind": Estimate(0.3, 0.02)}, "cannot tell", "a mixture potential is nearer, and there may be more"),
        ({"behind": Estimate(0.3, 0.2)}, "trust", "within 0.09"),
        (
            {"column": FAR},
            "do not trust",
            "column b is off by 3.1 on average (0.31 of its spreads): its mean is 3 too low",
        ),
        ({"column": replace(FAR, seen=0.5)}, "trust", "within 0.09"),
        ({"column": NEAR}, "trust", "; at its end, column b is off by 1.1 on average (0.11 of its spreads)"),
        ({"column": NEAR, "ends": WRONG_END}, "do not trust", "its spread 10 % too wide"),
        ({"column": NEAR, "ends": DOUBTFUL_END}, "cannot tell", "column b is off by 1.1"),
        ({"ends": DOUBTFUL_END}, "cannot tell", "at least 0.306 nats"),
        ({"ends": DOUBTFUL_END}, "cannot tell", "visibly differs"),
        ({"ends": SLIGHT_END}, "trust", "within 0.2"),
        ({"ends": replace(SLIGHT_END, dim=4)}, "trust", "within 0.2"),
        ({"ends": replace(SLIGHT_END, dim=5)}, "cannot tell", "at least 0.1"),
        ({"ends": replace(SAME_END, dim=5)}, "trust", "within 0.1"),
        ({"distance": Estimate(0.3, 0.01)}, "trust", "within 0.3"),
        ({"distance": Estimate(0.3, 0.01), "ends": replace(SAME_END, dim=5)}, "cannot tell", "in 5 dimensions"),
        ({"ends": replace(SLIGHT_END, dim=5), "fewer_steps": Estimate(0.3, 0.01)}, "cannot tell", "visibly differs"),
        ({"ends": BLIND_END}, "cannot tell", "10,000 would not be enough"),
        ({"residual": Residual(0.5, 1.0)}, "cannot tell", "regression"),
        ({"fewer_steps": Estimate(0.3, 0.01)}, "cannot tell", "length of the steps"),
    ],
)
def test_the_verdict(changes: dict[str, object], word: str, reason: str) -> None:
    found = passage(**changes).verdict
    assert found.word == word and reason in found.reason
    assert str(found).lower().startswith(word)
    assert passage(**changes).bounded == ("at least" in found.reason) or "column" in changes


def whole(forward: Passage, backward: Passage, half: float = 0.0) -> Certificate:
    return Certificate(0.5, forward, backward, Meeting(*(Distance(value, 0.01) for value in (0.0, half, 0.0))))


def test_the_worse_direction_speaks() -> None:
    assert whole(passage(), passage()).verdict.word == "trust"
    bad = whole(passage(ends=DOUBTFUL_END), passage(ends=WRONG_END))
    assert bad.verdict.word == "do not trust" and bad.verdict.reason.startswith("backward, ")
    apart = whole(passage(), passage(), 0.2).verdict
    assert apart.word == "cannot tell" and "not one process" in apart.reason
    off = whole(passage(column=NEAR), passage(column=replace(NEAR, name="a", width=0.2))).verdict
    assert off.word == "trust" and "at the end of backward paths, column a is off" in off.reason
    assert str(bad).split("\n")[0] == bad.sentence and bad.sentence in bad._repr_html_()


@pytest.mark.parametrize("blind", [False, True])
def test_a_certificate_survives_json(blind: bool) -> None:
    found = whole(passage(), passage(ends=BLIND_END) if blind else passage())
    text = json.dumps(found.content())
    assert Certificate.of(json.loads(text)) == found
    assert found.sentence in json.loads(text).values()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "certificate is missing"),
        ({"value": 1.0, "floor": 2.0}, "certificate is missing"),
        ({"epsilon": 1.0, "forward": {}, "backward": {}, "meeting": {}}, "earlier version.*run the command again"),
        ({"epsilon": 1.0, "method": "duality"}, "earlier version"),
        ({"epsilon": 1.0, "method": whole(passage(), passage()).content()["method"]}, "certificate is missing"),
    ],
)
def test_other_content_is_no_certificate(content: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Certificate.of(content)


@pytest.mark.parametrize(("value", "visible"), [(-0.1, False), (0.19, False), (0.21, True)])
def test_a_distance_is_visible_well_above_its_floor(value: float, visible: bool) -> None:
    assert Distance(value, 0.1).visible == visible


# What is refused


@pytest.mark.parametrize(
    ("x0", "x1", "message"),
    [
        (np.zeros((99, 2)), np.zeros((500, 2)), "x0 has 99 held-out points; a certificate needs at least 100"),
        (np.zeros((500, 2)), np.zeros((50, 2)), "x1 has 50 held-out points"),
        (np.zeros((500, 3)), np.zeros((500, 3)), r"must have shape \(n, 2\)"),
        (np.zeros((500, 2)), np.full((500, 2), np.nan), "NaN"),
        (np.zeros((500, 2)), np.zeros((500, 2)), "do not vary"),
    ],
)
def test_what_it_cannot_do_is_refused(x0: Any, x1: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gaussian()[0].certificate(x0, x1)


def test_a_process_that_runs_away_is_refused() -> None:
    truth, problem = gaussian()
    wild = Bridge(Linear(1e30 * torch.eye(2), torch.zeros(2)), truth.backward_field, 0.5)
    with pytest.raises(DivergenceError, match="no finite place"):
        wild.certificate(problem.test0[:200], problem.test1[:200])
