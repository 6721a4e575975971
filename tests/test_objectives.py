"""Every target's conditional expectation is the exact field; the loss is smallest there and finite near the ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sbridge.interpolants import Brownian, FramedInterpolant, Interpolant, Linear, Path, Trigonometric
from sbridge.objectives import Denoiser, Drift, MeanVelocity, Objective, Score, Velocity, quadratic_loss
from sbridge.problems.oracle import MixtureOracle

FLOAT = torch.float64
EPSILON, LEVEL = 0.3, 0.45
GROUPS, PAIRS = 800, 12


def _tensor(values: list[object]) -> Tensor:
    return torch.tensor(values, dtype=FLOAT)


MIXTURE0 = (
    _tensor([0.4, 0.6]),
    _tensor([[-1.0, 0.5], [1.2, 0.0]]),
    _tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.2, 0.0], [0.0, 0.5]]]),
)
MIXTURE1 = (
    _tensor([0.3, 0.5, 0.2]),
    _tensor([[2.0, 2.0], [-1.5, 1.0], [0.0, -2.0]]),
    _tensor([[[0.2, 0.0], [0.0, 0.1]], [[0.4, -0.1], [-0.1, 0.2]], [[0.1, 0.0], [0.0, 0.6]]]),
)
INTERPOLANTS: dict[str, Interpolant] = {
    "linear": Linear(Brownian(EPSILON)),
    "trigonometric": Trigonometric(Brownian(EPSILON)),
    "framed": FramedInterpolant(Trigonometric(Brownian(EPSILON)), _tensor([0.5, -1.0]), _tensor([0.0, 2.0]), 1.7),
}
OBJECTIVES: list[tuple[Objective, Callable[[MixtureOracle, Tensor, Tensor], Tensor]]] = [
    (Velocity(), MixtureOracle.velocity),
    (MeanVelocity(), MixtureOracle.mean_velocity),
    (Denoiser(), MixtureOracle.denoiser),
    (Score(), MixtureOracle.score),
    (Drift(LEVEL), lambda oracle, t, x: oracle.drift(t, x, LEVEL)),
    (Drift(-LEVEL), lambda oracle, t, x: oracle.drift(t, x, -LEVEL)),
]
NAMES = ["velocity", "mean velocity", "denoiser", "score", "forward drift", "backward drift"]
EVERY_INTERPOLANT = pytest.mark.parametrize("interpolant", INTERPOLANTS.values(), ids=INTERPOLANTS.keys())
EVERY_OBJECTIVE = pytest.mark.parametrize(("objective", "exact"), OBJECTIVES, ids=NAMES)
VARIANTS = pytest.mark.parametrize(
    "variant", [lambda path: path, Path.antithetic, Path.conditioned], ids=["plain", "antithetic", "conditioned"]
)


def _oracle(interpolant: Interpolant) -> MixtureOracle:
    return MixtureOracle(interpolant, *MIXTURE0, *MIXTURE1)


def _sample(mixture: tuple[Tensor, Tensor, Tensor], shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    weights, means, covs = mixture
    k = torch.multinomial(weights, shape[0] * shape[1], replacement=True, generator=generator).reshape(shape)
    z = torch.randn(*shape, means.shape[1], dtype=FLOAT, generator=generator)
    return means[k] + (torch.linalg.cholesky(covs)[k] @ z[..., None])[..., 0]


def _path(interpolant: Interpolant, t: float, groups: int = GROUPS, pairs: int = PAIRS) -> Path:
    generator = torch.Generator().manual_seed(1)
    x0, x1 = (_sample(mixture, (groups, pairs), generator) for mixture in (MIXTURE0, MIXTURE1))
    z = torch.randn(x0.shape, dtype=FLOAT, generator=generator)
    return interpolant.path(torch.full((groups, 1, 1), t, dtype=FLOAT), x0, x1, z)


def _features(x: Tensor) -> Tensor:
    """Test functions of x: (..., d) → (..., 6)."""
    extra = [torch.ones_like(x[..., :1]), torch.exp(-x.square().sum(-1, keepdim=True) / 4)]
    return torch.cat([x, torch.sin(2 * x), *extra], dim=-1)


@VARIANTS
@EVERY_OBJECTIVE
@EVERY_INTERPOLANT
@pytest.mark.parametrize("t", [0.15, 0.7])
def test_target_has_the_exact_field_for_expectation(
    interpolant: Interpolant,
    objective: Objective,
    exact: Callable[[MixtureOracle, Tensor, Tensor], Tensor],
    variant: Callable[[Path], Path],
    t: float,
) -> None:
    """E[(target − field(x)) φ(x)] = 0 for every φ is what a conditional expectation means; groups are independent."""
    path = variant(_path(interpolant, t))
    gap = objective.target(path) - exact(_oracle(interpolant), path.t, path.x)
    moments = torch.einsum("gni,gnj->gij", gap, _features(path.x)) / gap.shape[1]
    error = moments.std(0) / GROUPS**0.5
    assert ((moments.mean(0)).abs() / error).max() < 4.5


@EVERY_INTERPOLANT
def test_identities_between_exact_fields(interpolant: Interpolant) -> None:
    path = _path(interpolant, 0.3, 4)
    oracle = _oracle(interpolant)
    b, v, eta, s = (f(path.t, path.x) for f in (oracle.velocity, oracle.mean_velocity, oracle.denoiser, oracle.score))
    torch.testing.assert_close(b, v - path.gamma * path.gamma_rate * s)
    torch.testing.assert_close(eta, -path.gamma * s)
    torch.testing.assert_close(oracle.drift(path.t, path.x, LEVEL), b + LEVEL * s)


@EVERY_INTERPOLANT
def test_identities_between_targets(interpolant: Interpolant) -> None:
    path = _path(interpolant, 0.3, 4)
    b, v, eta, s = (f.target(path) for f in (Velocity(), MeanVelocity(), Denoiser(), Score()))
    torch.testing.assert_close(b, v - path.gamma * path.gamma_rate * s)
    torch.testing.assert_close(eta, -path.gamma * s)
    for level in (LEVEL, -LEVEL):
        torch.testing.assert_close(Drift(level).target(path), b + level * s)


@EVERY_OBJECTIVE
def test_conditioning_brings_targets_nearer_to_their_expectation(
    objective: Objective, exact: Callable[[MixtureOracle, Tensor, Tensor], Tensor]
) -> None:
    interpolant = INTERPOLANTS["linear"]
    path = _path(interpolant, 0.5, 200, 64)
    pairs, conditioned = path.antithetic(), path.conditioned()
    field = exact(_oracle(interpolant), pairs.t, pairs.x)
    raw, smooth = ((objective.target(p) - field).square().mean() for p in (pairs, conditioned))
    assert smooth < 0.35 * raw


def test_quadratic_loss_exceeds_its_minimum_by_half_the_squared_error() -> None:
    generator = torch.Generator().manual_seed(0)
    target, error = (torch.randn(5, 7, 3, dtype=FLOAT, generator=generator) for _ in range(2))
    excess = quadratic_loss(target + error, target) - quadratic_loss(target, target)
    torch.testing.assert_close(excess, error.square().sum(-1) / 2)


def test_gradient_of_the_quadratic_loss_vanishes_at_the_target() -> None:
    target = torch.linspace(-1, 1, 12, dtype=FLOAT).reshape(4, 3)
    value = target.clone().requires_grad_()
    quadratic_loss(value, target).mean().backward()
    assert value.grad is not None and value.grad.abs().max() < 1e-12


def _loss_variance(objective: Objective, t: float, paired: bool) -> float:
    """Variance over pairs of ½|f|² − f·target for a smooth f, per pair (x0, x1)."""
    path = _path(INTERPOLANTS["linear"], t, 500, 8)
    path = path.antithetic() if paired else path
    value, target = torch.tanh(path.x), objective.target(path)
    loss = (0.5 * value.square() - value * target).sum(-1)
    return (loss.reshape(500, -1, 8).mean(1)).var().item()


@pytest.mark.parametrize("objective", [Velocity(), Score(), Drift(LEVEL)], ids=["velocity", "score", "drift"])
@pytest.mark.parametrize("end", [lambda gap: gap, lambda gap: 1 - gap], ids=["start", "end"])
def test_antithetic_pairs_keep_the_loss_finite_near_the_ends(
    objective: Objective, end: Callable[[float], float]
) -> None:
    gaps = (1e-4, 1e-8)
    plain, paired = ([_loss_variance(objective, end(gap), p) for gap in gaps] for p in (False, True))
    assert plain[1] > 1000 * plain[0]
    assert paired[1] < 1.2 * paired[0]
