"""Every target's conditional expectation is the exact field; the loss is smallest there and finite near the ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from members import (
    EPSILON,
    FLOAT,
    LEVEL,
    MIXTURE0,
    MIXTURE1,
    OBJECTIVES,
    ExactField,
    closed_forms,
    ends,
    framed,
    generator,
    is_mirror,
    learned_gamma,
    normal,
    root,
    sample,
    trained,
)
from torch import Tensor

from sbridge.interpolants import (
    Brownian,
    ClosedForm,
    Interpolant,
    Linear,
    OneSided,
    OneSidedLinear,
    OneSidedTrigonometric,
    Parabolic,
    Path,
    SineSquared,
    Trigonometric,
    TwoSided,
    VariancePreserving,
)
from sbridge.objectives import Denoiser, Drift, MeanVelocity, Objective, Score, Velocity, quadratic_loss
from sbridge.theory.oracle import MixtureOracle

DIM = 2
GROUPS, PAIRS = 300, 6
# All whose mean is linear in x0 and x1, as the oracle needs.
INTERPOLANTS: dict[str, Interpolant] = {
    **closed_forms(),
    "framed": framed(Trigonometric(Brownian(0.3)), DIM),
    "learned gamma": trained(learned_gamma(Linear(Brownian(0.3)))),
    "learned one-sided gamma": trained(learned_gamma(VariancePreserving(0.8))),
}
EVERY_INTERPOLANT = pytest.mark.parametrize("name", INTERPOLANTS)
EVERY_CLOSED_FORM = pytest.mark.parametrize("name", closed_forms())
EVERY_OBJECTIVE = pytest.mark.parametrize(("objective", "exact"), OBJECTIVES.values(), ids=OBJECTIVES.keys())

@cache
def _oracle(name: str) -> MixtureOracle:
    base = root(INTERPOLANTS[name])
    assert isinstance(base, ClosedForm)
    law0, law1 = ends(base, MIXTURE0, MIXTURE1)
    return MixtureOracle(INTERPOLANTS[name], *law0, *law1)


@cache
def _path(name: str, t: float, groups: int = GROUPS, pairs: int = PAIRS, seed: int = 1) -> Path:
    """Points of pairs of independent ends; a mirror's ends are equal."""
    oracle, source = _oracle(name), generator(seed)
    x0 = sample((oracle.weights0, oracle.means0, oracle.covs0), groups, pairs, source=source)
    x1 = sample((oracle.weights1, oracle.means1, oracle.covs1), groups, pairs, source=source)
    z = torch.randn(x0.shape, dtype=FLOAT, generator=source)
    with torch.no_grad():
        path = oracle.interpolant.path(
            torch.full((1, 1, 1), t, dtype=FLOAT), x1 if is_mirror(oracle.interpolant) else x0, x1, z
        )
    return path


def _features(x: Tensor) -> Tensor:
    """Test functions of x: (..., d) → (..., 6)."""
    extra = [torch.ones_like(x[..., :1]), torch.exp(-x.square().sum(-1, keepdim=True) / 4)]
    return torch.cat([x, torch.sin(2 * x), *extra], dim=-1)


def _worst_moment(gap: Tensor, x: Tensor) -> float:
    """Largest |E[gap φ(x)]| over test functions φ, in standard errors; groups are independent."""
    moments = torch.einsum("gni,gnj->gij", gap, _features(x)) / gap.shape[1]
    error = moments.std(0) / len(moments) ** 0.5
    worst: float = (moments.mean(0).abs() / error.clamp(min=1e-12)).max().item()
    return worst


def _worst_moments(path: Path, objective: Objective, field: Tensor) -> list[float]:
    """For the path, its antithetic pairs and the conditioned ones; `field` is given at the pairs, ±z."""
    plain = field.chunk(2, dim=-2)[0]
    variants = [(path, plain), (path.antithetic(), field), (path.conditioned(), field)]
    return [_worst_moment(objective.target(variant) - value, variant.x) for variant, value in variants]


@EVERY_OBJECTIVE
@EVERY_INTERPOLANT
@pytest.mark.parametrize("t", [0.15, 0.7])
def test_target_has_the_exact_field_for_expectation(
    name: str, objective: Objective, exact: ExactField, t: float
) -> None:
    """E[(target − field(x)) φ(x)] = 0 for every φ is what a conditional expectation means."""
    path = _path(name, t)
    assert max(_worst_moments(path, objective, exact(_oracle(name), path.t, path.antithetic().x))) < 4.5


@EVERY_INTERPOLANT
def test_another_field_has_other_moments(name: str) -> None:
    """The test above sees an error of 0.3 in the share of the score."""
    path = _path(name, 0.3)
    other = _oracle(name).drift(path.t, path.antithetic().x, LEVEL + 0.3)
    assert min(_worst_moments(path, Drift(LEVEL), other)) > 6


@EVERY_INTERPOLANT
def test_identities_between_exact_fields_and_between_targets(name: str) -> None:
    path, oracle = _path(name, 0.3, 50), _oracle(name)
    fields = [f(path.t, path.x) for f in (oracle.velocity, oracle.mean_velocity, oracle.denoiser, oracle.score)]
    targets = [f.target(path) for f in (Velocity(), MeanVelocity(), Denoiser(), Score())]
    for b, v, eta, s in (fields, targets):
        torch.testing.assert_close(b, v - path.gamma * path.gamma_rate * s)
        torch.testing.assert_close(eta, -path.gamma * s)
    for level in (LEVEL, -LEVEL):
        torch.testing.assert_close(oracle.drift(path.t, path.x, level), fields[0] + level * fields[3])
        torch.testing.assert_close(Drift(level).target(path), targets[0] + level * targets[3])


@EVERY_OBJECTIVE
def test_conditioning_brings_targets_nearer_to_their_expectation(objective: Objective, exact: ExactField) -> None:
    path = _path("Linear-Brownian", 0.5, 200, 64)
    pairs, conditioned = path.antithetic(), path.conditioned()
    field = exact(_oracle("Linear-Brownian"), pairs.t, pairs.x)
    raw, smooth = ((objective.target(p) - field).square().mean() for p in (pairs, conditioned))
    assert smooth < 0.35 * raw


# The loss and its minimiser


def test_quadratic_loss_exceeds_its_minimum_by_half_the_squared_error() -> None:
    target, error = normal(2, 5, 7, 3)
    excess = quadratic_loss(target + error, target) - quadratic_loss(target, target)
    torch.testing.assert_close(excess, error.square().sum(-1) / 2)


def test_gradient_of_the_quadratic_loss_vanishes_at_the_target() -> None:
    target = torch.linspace(-1, 1, 12, dtype=FLOAT).reshape(4, 3)
    value = target.clone().requires_grad_()
    quadratic_loss(value, target).mean().backward()
    assert value.grad is not None and value.grad.abs().max() < 1e-12


FIT_TIME, MANY, FEW, FRESH, BUMPS = 0.35, 10_000, 500, 1500, 100


@cache
def _training_points(name: str) -> Path:
    """One pair a group, with ±z: (MANY, 2, d)."""
    return _path(name, FIT_TIME, MANY, 1).antithetic()


@cache
def _fresh_points(name: str) -> Path:
    return _path(name, FIT_TIME, FRESH, 1, seed=2).antithetic()


def _bumps(name: str, x: Tensor) -> Tensor:
    """Gaussian bumps at points of ρ_t, with 1 and x: (..., d) → (..., features)."""
    centres = _path(name, FIT_TIME, BUMPS, 1, seed=3).x.flatten(0, 1)
    near = torch.exp(-torch.cdist(x.flatten(0, -2), centres).square() / 1.3).unflatten(0, x.shape[:-1])
    return torch.cat([near, torch.ones_like(x[..., :1]), x], dim=-1)


@cache
def _design(name: str, points: Callable[[str], Path]) -> Tensor:
    return _bumps(name, points(name).x)


@cache
def _hessian(name: str, pairs: int) -> Tensor:
    """Of the loss in the weights, with a ridge of 10⁻⁶ that keeps it regular where bumps coincide."""
    rows = _design(name, _training_points)[:pairs].flatten(0, -2)
    return rows.T @ rows / len(rows) + 1e-6 * torch.eye(rows.shape[1], dtype=FLOAT)


def _fit(name: str, objective: Objective, pairs: int) -> Tensor:
    """The minimiser of the package's loss over fields φ(x)·W on that many pairs: it is quadratic, one Newton step."""
    phi, target = _design(name, _training_points)[:pairs], objective.target(_training_points(name))[:pairs]
    weights = torch.zeros(phi.shape[-1], DIM, dtype=FLOAT, requires_grad=True)
    quadratic_loss(phi @ weights, target).mean().backward()
    assert weights.grad is not None
    solution: Tensor = torch.linalg.solve(_hessian(name, pairs), -weights.grad)
    return solution


@EVERY_OBJECTIVE
@EVERY_CLOSED_FORM
def test_fitted_fields_approach_the_exact_ones(name: str, objective: Objective, exact: ExactField) -> None:
    """On fresh points: the error is small, falls with more data, and is what the loss exceeds its least value by."""
    path, phi = _fresh_points(name), _design(name, _fresh_points)
    truth, target = exact(_oracle(name), path.t, path.x), objective.target(path)
    size = truth.square().sum(-1).mean()

    def error(pairs: int) -> float:
        value = phi @ _fit(name, objective, pairs)
        half = (value - truth).square().sum(-1) / 2
        difference = (quadratic_loss(value, target) - quadratic_loss(truth, target) - half).mean(1)
        assert difference.mean().abs() <= 4.5 * difference.std() / len(difference) ** 0.5
        return (2 * half.mean() / size.clamp(min=1e-12)).sqrt().item()

    few, many = error(FEW), error(MANY)
    assert many < 0.2
    assert many < 0.5 * few or few == 0  # a mirror's mean velocity is zero, and so is its fit


# Near the ends

# γ shrinks like (distance to the end)^p, so 1/γ grows like its −p-th power, and γ̇ like its (p−1)-st where p < 1.
POWERS: dict[type, float] = {
    Brownian: 0.5,
    Parabolic: 1.0,
    SineSquared: 2.0,
    OneSidedLinear: 1.0,
    OneSidedTrigonometric: 1.0,
    VariancePreserving: 0.5,
}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loss": quadratic_loss,
    "gradient": lambda value, target: (value * (value - target)).sum(-1),  # of the loss of θ·value with θ, at θ = 1
}


def _shrinkage(name: str) -> float:
    """p of the interpolant's γ."""
    base = root(INTERPOLANTS[name])
    return POWERS[type(base.gamma) if isinstance(base, TwoSided) else type(base)]


def _growth(name: str, objective: Objective, at_start: bool) -> float:
    """The power of 1/distance with which the noise's coefficient in a target grows."""
    power = _shrinkage(name)
    if isinstance(root(INTERPOLANTS[name]), OneSided) and at_start:  # noise stays there
        return 0.0
    return {Velocity: max(1 - power, 0.0), Score: power, Drift: power}.get(type(objective), 0.0)


def _variance(path: Path, objective: Objective, of: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Variance, over pairs (x0, x1), of the loss of a smooth field or of its gradient."""
    return float(of(torch.tanh(path.x), objective.target(path)).unflatten(1, (-1, PAIRS)).mean(1).var())


@pytest.mark.parametrize("of", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("at_start", [True, False], ids=["start", "end"])
@EVERY_OBJECTIVE
@EVERY_CLOSED_FORM
def test_antithetic_pairs_keep_the_loss_finite_near_the_ends(
    name: str, objective: Objective, exact: ExactField, at_start: bool, of: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Without pairs its variance, and its gradient's, grows like the square of the noise's coefficient, c².

    With them it does not grow for any γ: the noise enters as c·z·(f(I + γz) − f(I − γz))/2 ≈ cγ z·(z·∇f), and cγ, one
    of 1, γγ̇ and γγ̇ − ε, is finite.
    """
    gaps = [10 ** (-digits / _shrinkage(name)) for digits in (5, 6)]  # where γ is about 10⁻⁵ and 10⁻⁶
    paths = [_path(name, gap if at_start else 1 - gap) for gap in gaps]

    def ratio(variant: Callable[[Path], Path]) -> float:
        near, nearer = (_variance(variant(path), objective, of) for path in paths)
        return nearer / near

    power = _growth(name, objective, at_start)
    plain, paired = ratio(lambda path: path), ratio(Path.antithetic)
    assert plain == pytest.approx((gaps[0] / gaps[1]) ** (2 * power), rel=0.1) if power else plain < 2
    assert paired < 2


@pytest.mark.parametrize("sign", [1, -1], ids=["forward", "backward"])
def test_brownian_noise_asks_for_no_pairs_where_its_own_process_starts(sign: int) -> None:
    """γγ̇ = ε at t = 0 and −ε at t = 1, so the coefficient γ̇ ∓ ε/γ of the drifts of diffusion ε vanishes there."""
    objective = Drift(sign * EPSILON)

    def variance(gap: float) -> float:
        return _variance(_path("Linear-Brownian", gap if sign > 0 else 1 - gap), objective, quadratic_loss)

    assert variance(1e-10) == pytest.approx(variance(1e-8), rel=0.01)
