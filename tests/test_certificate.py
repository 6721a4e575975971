"""Certificates: the identities behind them, closed forms, fits of known error, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from math import pi, sin

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sbridge.bridge import Bridge
from sbridge.errors import DivergenceError, InputError
from sbridge.estimates import Estimate
from sbridge.estimator import SchrodingerBridge
from sbridge.evaluation import certify
from sbridge.evaluation.certificate.statement import Certificate, Distance
from sbridge.evaluation.certificate.walks import Walk, martingale, rotation, run
from sbridge.fields import Field, Framed
from sbridge.potentials.exact import MixtureBridge
from sbridge.potentials.field import MixtureDrift
from sbridge.potentials.solver import MixturePotential
from sbridge.problem import Problem
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture

pytestmark = pytest.mark.slow

FLOAT = torch.float64
STEPS = 60  # of a walk
GRID = [sin(pi / 2 * k / STEPS) ** 2 for k in range(STEPS + 1)]


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


def walked(drift: Field, references: list[Field], epsilon: float = 0.5, paths: int = 1000) -> tuple[Walk, Walk]:
    """Fine and coarse paths from normal points."""
    x = torch.randn(paths, 2, dtype=FLOAT, generator=generator(1))
    fine, coarse = (Walk(drift, references, epsilon, x) for _ in range(2))
    run(fine, coarse, generator(2))
    return fine, coarse


@cache
def mixture(epsilon: float = 0.5, dim: int = 2, points: int = 3000) -> tuple[MixtureBridge, Problem]:
    problem = Mixture(dim=dim, epsilon=epsilon, samples=100, test_samples=points, seed=1).build()
    assert isinstance(problem.truth, MixtureBridge)
    return problem.truth, problem


def perturbed(height: float, epsilon: float = 0.5, dim: int = 2) -> Bridge:
    """The exact forward drift with waves, which are not those of any Schrödinger bridge."""
    exact = deepcopy(mixture(epsilon, dim)[0].forward_field)
    return Bridge(Waves(exact, height, dim), Linear(-torch.eye(dim), torch.zeros(dim)), epsilon)


@cache
def certificate(height: float, epsilon: float = 0.5, dim: int = 2) -> Certificate:
    """With the right number of components: the default, which looks for it, takes longer."""
    _, problem = mixture(epsilon, dim)
    solver = MixturePotential(components=5)
    return certify(perturbed(height, epsilon, dim), problem.test0, problem.test1, 0, solver)


def true_divergence(height: float, epsilon: float = 0.5, dim: int = 2) -> float:
    """KL(P_û‖P*), by the same sum with the true drift for both references."""
    truth, problem = mixture(epsilon, dim)
    with torch.no_grad():
        field = Waves(truth.forward_field, height, dim)
        fine, coarse = (Walk(field, [truth.forward_field] * 2, epsilon, problem.test0[:2000]) for _ in range(2))
        run(fine, coarse, generator(3))
    return float(fine.cross.mean())


# What the walk adds up


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_divergence_is_the_excess_of_energy_over_the_potential(seed: int) -> None:
    """½∫|û|² − λ(1, X₁) + λ(0, X₀) = ½∫|û − ∇λ|² on average, extrapolated to steps of no length."""
    exact = potential(seed)
    fine, coarse = walked(potential(seed + 1), [exact, exact], paths=4000)
    ends = torch.zeros(1, 1, dtype=FLOAT)

    def excess(walk: Walk) -> Tensor:
        return walk.energy + exact.potential(ends, walk.states[0]) - exact.potential(ends + 1, walk.x)

    left, right = (2 * value(fine) - value(coarse) for value in (excess, lambda walk: walk.cross))
    difference = Estimate.of(left - right)  # with 2ε = 1
    assert abs(difference.value) < 4.5 * difference.standard_error + 0.02 * float(right.mean())


def test_the_product_and_the_references_difference_are_the_plain_divergences() -> None:
    """½(KL₁ + KL₂) = cross + own, path by path."""
    first, second, drift = potential(1), potential(2), potential(3)
    both, one, other = (walked(drift, pair)[0] for pair in ([first, second], [first, first], [second, second]))
    torch.testing.assert_close(both.cross + both.own, (one.cross + other.cross) / 2)
    assert one.own.abs().max() == 0


def test_energy_and_divergence_of_a_constant_gap() -> None:
    still, moving = (Linear(torch.zeros(2, 2, dtype=FLOAT), torch.zeros(2, dtype=FLOAT)) for _ in "01")
    moved = Framed(moving, torch.zeros(2, dtype=FLOAT), torch.tensor([3.0, 4.0], dtype=FLOAT), 1.0)
    fine, coarse = walked(moved, [still, still])
    for walk in (fine, coarse):
        torch.testing.assert_close(walk.energy, torch.full_like(walk.energy, 12.5))
        torch.testing.assert_close(walk.cross, torch.full_like(walk.cross, 0.99 * 25 / 2))
        torch.testing.assert_close(walk.carried, walk.states[0] + torch.tensor([3.0, 4.0], dtype=FLOAT))


def test_paths_are_kept_at_the_quarters() -> None:
    """A point without noise that moves with the square of time is where it should be, up to the steps' error."""
    speed = torch.tensor([2.0, 0.0], dtype=FLOAT)
    still = Linear(torch.zeros(2, 2, dtype=FLOAT), speed)
    fine, _ = walked(still, [still] * 2, epsilon=1e-12, paths=3)
    for share, t in ((1 / 3, 0.25), (1 / 2, 0.5), (2 / 3, 0.75), (1.0, 1.0)):
        gone = fine.at(share)[:, 0] - fine.at(0)[:, 0]
        torch.testing.assert_close(gone, torch.full_like(gone, t**2), atol=0.04, rtol=0)


def test_the_change_of_a_drift_that_only_depends_on_time_is_foretold() -> None:
    """Σ|cΔt|²/4ε, all of it."""
    speed = torch.tensor([2.0, -1.0], dtype=FLOAT)
    drift = Linear(torch.zeros(2, 2, dtype=FLOAT), speed)
    fine, _ = walked(drift, [drift] * 2, epsilon=0.3)
    hjb, turning = martingale(fine, generator())
    expected = sum(5 * (GRID[k + 5] - GRID[k]) ** 2 for k in range(0, 55, 5)) / 1.2
    assert hjb.value == pytest.approx(expected) and turning.value == pytest.approx(expected)
    assert rotation(fine, generator()).value == pytest.approx(0, abs=1e-20)


def test_the_curl_of_a_linear_drift() -> None:
    """⅛|A − Aᵀ|²."""
    matrix = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=FLOAT)
    drift = Linear(matrix, torch.zeros(2, dtype=FLOAT))
    found = rotation(walked(drift, [drift] * 2)[0], generator())
    assert abs(found.value - 9 / 4) < 4 * found.standard_error
    assert found.standard_error < 0.1


@pytest.mark.parametrize("seed", [1, 2])
def test_an_exact_drift_is_a_martingale_and_a_gradient(seed: int) -> None:
    exact = potential(seed)
    fine, _ = walked(exact, [exact, exact], paths=2000)
    hjb, turning = martingale(fine, generator())
    assert abs(hjb.value) < 4 * hjb.standard_error + 0.02 * turning.value
    assert rotation(fine, generator()).value < 1e-6 * turning.value


# Certificates


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_the_exact_bridge_is_at_distance_zero(epsilon: float) -> None:
    found = certificate(0.0, epsilon).forward
    assert abs(found.kl.value) < 4 * found.kl.standard_error + found.reference.own.value
    assert abs(found.dual_gap.value) < 4 * found.dual_gap.standard_error
    assert not found.endpoint.visible and not found.reference.endpoint.visible
    assert abs(found.hjb.value) < 4 * found.hjb.standard_error
    assert found.curl.value < 1e-3 * found.turning.value


@pytest.mark.parametrize(("height", "dim"), [(0.3, 2), (1.0, 2), (0.3, 8)])
def test_a_known_divergence_is_found(height: float, dim: int) -> None:
    found, truth = certificate(height, dim=dim).forward, true_divergence(height, dim=dim)
    own = found.reference.own.value
    assert truth / 1.3 - own < found.kl.value < 1.3 * (truth + own)
    assert found.curl.value > 10 * certificate(0.0, dim=dim).forward.curl.value


def test_the_product_of_two_references_is_closer_than_one() -> None:
    found, truth = certificate(0.3, dim=8).forward, true_divergence(0.3, dim=8)
    plain = found.kl.value + found.reference.own.value
    assert abs(found.kl.value - truth) < abs(plain - truth) / 2


def test_a_misfitted_reference_is_told() -> None:
    _, problem = mixture()
    found = certify(perturbed(0.0), problem.test0, problem.test1, 0, MixturePotential(components=1)).forward
    assert found.kl.value > 1 and found.reference.endpoint.visible and not found.tight
    assert "not tight: the reference itself ends" in found.sentence()


def test_a_reference_that_cannot_tell_is_told() -> None:
    _, problem = mixture()
    found = perturbed(0.0).certificate(problem.test0[:200], problem.test1[:200], random_state=0).forward
    assert not found.tight and "cannot be told apart" in found.sentence()


def test_a_good_certificate_is_tight_and_says_how_far() -> None:
    found = certificate(1.0)
    assert found.forward.tight
    assert found.sentence.startswith(f"The forward process is within {found.kl} nats of an exact Schrödinger bridge")
    assert "not tight" not in found.sentence


def test_directions_that_do_not_belong_together_are_seen() -> None:
    """The perturbed bridge's backward drift is made up; a Gaussian bridge's two are of one process."""
    problem = Gaussian(dim=3, test_samples=2000).build()
    assert problem.truth is not None
    right = problem.truth.certificate(problem.test0, problem.test1, random_state=1).meeting
    for one, other in zip(vars(certificate(0.0).meeting).values(), vars(right).values(), strict=True):
        assert one.visible and not other.visible


def test_correlated_data_need_one_full_component() -> None:
    """Between Gaussians the default reference is exact, up to its own error."""
    problem = Gaussian(dim=4, test_samples=2000, seed=3).build()
    assert problem.truth is not None
    found = problem.truth.certificate(problem.test0, problem.test1, random_state=1)
    for one in (found.forward, found.backward):
        assert (one.reference.first_components, one.reference.second_components) == (1, 1)
        assert abs(one.kl.value) < one.reference.own.value < 0.1


def test_backward_is_forward_seen_from_the_other_end() -> None:
    """Of a bridge between two normal laws whose drifts are each other's mirror images, figures agree by the law."""
    one = torch.eye(2, dtype=FLOAT)
    bridge = Bridge(Linear(-0.1 * one, torch.zeros(2).double()), Linear(0.1 * one, torch.zeros(2).double()), 0.1)
    x0, x1 = (torch.randn(1200, 2, dtype=FLOAT, generator=generator(k)) for k in (1, 2))
    found = bridge.certificate(x0, x1, random_state=0)
    error = 4 * (found.forward.kl.standard_error + found.backward.kl.standard_error)
    own = found.forward.reference.own.value + found.backward.reference.own.value
    assert abs(found.forward.kl.value - found.backward.kl.value) < error + own


@pytest.mark.parametrize(("scale", "shift"), [(10.0, 0.0), (0.2, 30.0)])
def test_units_of_the_data_do_not_matter(scale: float, shift: float) -> None:
    """Divergences stay, distances scale."""
    _, problem = mixture()
    x0, x1 = problem.test0[:1500].double(), problem.test1[:1500].double()
    inner, zero = perturbed(0.5).double(), torch.zeros(2, dtype=FLOAT)
    fields = (Framed(field, zero + shift, zero - shift, scale) for field in (inner.forward_field, inner.backward_field))
    one = inner.certificate(x0, x1, random_state=0).forward
    two = Bridge(*fields, 0.5 * scale**2).certificate(scale * x0 + shift, scale * x1 - shift, random_state=0).forward
    for name in ("kl", "dual_gap", "hjb", "curl", "turning"):
        first, second = getattr(one, name), getattr(two, name)
        assert second.value == pytest.approx(first.value, rel=0.02, abs=0.5 * first.standard_error)
    for a, b in ((one.endpoint, two.endpoint), (one.reference.endpoint, two.reference.endpoint)):
        assert b.value / scale == pytest.approx(a.value, rel=0.05, abs=0.1 * a.floor)
        assert b.floor / scale == pytest.approx(a.floor, rel=0.05)


def test_arrays_and_tensors_give_the_same() -> None:
    _, problem = mixture()
    x0, x1 = problem.test0[:400], problem.test1[:400]
    bridge = perturbed(0.5)
    found = bridge.certificate(x0, x1, random_state=3)
    assert bridge.certificate(x0.numpy(), x1.numpy(), random_state=3) == found
    assert bridge.certificate(x0, x1, random_state=4) != found
    estimator = SchrodingerBridge(epsilon=0.5)
    estimator.bridge_ = bridge
    assert estimator.certificate(x0.numpy(), x1.numpy(), random_state=3) == found


def test_a_certificate_survives_json() -> None:
    found = certificate(1.0)
    text = json.dumps(found.content())
    assert Certificate.of(json.loads(text)) == found
    assert found.sentence in json.loads(text).values()


@pytest.mark.parametrize("content", [{}, {"epsilon": 1.0}, [1], {"value": 1.0, "floor": 2.0}])
def test_other_content_is_no_certificate(content: object) -> None:
    with pytest.raises(InputError, match="no certificate"):
        Certificate.of(content)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "visible"), [(-0.1, False), (0.19, False), (0.21, True)])
def test_a_distance_is_visible_well_above_its_floor(value: float, visible: bool) -> None:
    assert Distance(value, 0.1).visible == visible


# What is refused


@pytest.mark.parametrize(
    ("x0", "x1", "message"),
    [
        (np.zeros((99, 2)), np.zeros((500, 2)), "x0 has 99 points; a certificate needs at least 100"),
        (np.zeros((500, 2)), np.zeros((50, 2)), "x1 has 50 points"),
        (np.zeros((500, 3)), np.zeros((500, 3)), r"must have shape \(n, 2\)"),
        (np.zeros((500, 2)), np.full((500, 2), np.nan), "NaN"),
        (np.zeros((500, 2)), np.zeros((500, 2)), "do not vary"),
    ],
)
def test_what_it_cannot_do_is_refused(x0: np.ndarray, x1: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mixture()[0].certificate(x0, x1)


def test_a_process_that_runs_away_is_refused() -> None:
    truth, problem = mixture()
    wild = Bridge(Linear(1e30 * torch.eye(2), torch.zeros(2)), truth.backward_field, 0.5)
    with pytest.raises(DivergenceError, match="no finite place"):
        wild.certificate(problem.test0[:200], problem.test1[:200])
