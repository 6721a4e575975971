"""Conversions give exact fields from exact fields, undo each other, and hold their values near the ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from members import EPSILON, FLOAT, LEVEL, MIXTURE0, MIXTURE1, closed_forms, ends, framed, normal, root
from torch import Tensor

from sbridge.fields import VectorField
from sbridge.interpolants import Brownian, ClosedForm, Interpolant, Linear, OneSided
from sbridge.theory import conversions
from sbridge.theory.conversions import (
    denoiser_from_score,
    drift_from_velocity,
    mean_velocity_from_velocity,
    score_from_denoiser,
    score_from_drifts,
    velocity_from_denoiser,
    velocity_from_drifts,
    velocity_from_mean_velocity,
)
from sbridge.theory.oracle import MixtureOracle

DIM = 2
NAMES = ["Linear-Brownian", "Linear-SineSquared", "Mirror-Brownian", "OneSidedLinear", "VariancePreserving"]
INTERPOLANTS: dict[str, Interpolant] = {name: closed_forms()[name] for name in NAMES}
INTERPOLANTS["framed"] = framed(Linear(Brownian(EPSILON)), DIM)
ONE_SIDED = [name for name, interpolant in INTERPOLANTS.items() if isinstance(interpolant, OneSided)]
X = 2 * normal(7, DIM)
INSIDE = torch.tensor([0.001, 0.05, 0.3, 0.5, 0.6, 0.95, 0.999], dtype=FLOAT)[:, None]

Pair = Callable[[MixtureOracle], tuple[VectorField, VectorField]]
# Each conversion of exact fields, and the exact field that it must give.
CONVERSIONS: dict[str, Pair] = {
    "score_from_denoiser": lambda o: (score_from_denoiser(o.denoiser, o.interpolant), o.score),
    "denoiser_from_score": lambda o: (denoiser_from_score(o.score, o.interpolant), o.denoiser),
    "velocity_from_mean_velocity": lambda o: (
        velocity_from_mean_velocity(o.mean_velocity, o.score, o.interpolant),
        o.velocity,
    ),
    "mean_velocity_from_velocity": lambda o: (
        mean_velocity_from_velocity(o.velocity, o.score, o.interpolant),
        o.mean_velocity,
    ),
    "drift_from_velocity": lambda o: (
        drift_from_velocity(o.velocity, o.score, -LEVEL),
        partial(o.drift, epsilon=-LEVEL),
    ),
    "velocity_from_drifts": lambda o: (velocity_from_drifts(*_drifts(o)), o.velocity),
    "score_from_drifts": lambda o: (score_from_drifts(*_drifts(o), LEVEL), o.score),
    "velocity_from_denoiser": lambda o: (velocity_from_denoiser(o.denoiser, _one_sided(o.interpolant)), o.velocity),
}
CASES = [
    (conversion, name)
    for conversion in CONVERSIONS
    for name in (ONE_SIDED if conversion == "velocity_from_denoiser" else INTERPOLANTS)
]


def _drifts(oracle: MixtureOracle) -> tuple[VectorField, VectorField]:
    return partial(oracle.drift, epsilon=LEVEL), partial(oracle.drift, epsilon=-LEVEL)


def _one_sided(interpolant: Interpolant) -> OneSided:
    assert isinstance(interpolant, OneSided)
    return interpolant


def _oracle(name: str) -> MixtureOracle:
    base = root(INTERPOLANTS[name])
    assert isinstance(base, ClosedForm)
    law0, law1 = ends(base, MIXTURE0, MIXTURE1)
    return MixtureOracle(INTERPOLANTS[name], *law0, *law1)


def test_every_conversion_is_tested() -> None:
    assert set(CONVERSIONS) == set(conversions.__all__)


@pytest.mark.parametrize(("conversion", "name"), CASES)
def test_exact_fields_become_exact_fields(conversion: str, name: str) -> None:
    found, exact = CONVERSIONS[conversion](_oracle(name))
    torch.testing.assert_close(found(INSIDE, X), exact(INSIDE, X))


@pytest.mark.parametrize(("conversion", "name"), [case for case in CASES if case[1] in {NAMES[0], NAMES[3]}])
def test_near_the_ends_values_stay_near_the_exact_ones(conversion: str, name: str) -> None:
    """A conversion that divides by γ or β gives the value 0.001 away from the end; a field changes little there."""
    t = torch.tensor([0.0, 0.0004, 0.9998, 1.0], dtype=FLOAT).reshape(4, 1, 1)
    found, expected = (field(t, X.expand(4, -1, -1)).flatten(1) for field in CONVERSIONS[conversion](_oracle(name)))
    assert ((found - expected).norm(dim=1) <= 0.03 * expected.norm(dim=1) + 0.01 * X.norm()).all()


@pytest.mark.parametrize("conversion", ["score_from_denoiser", "velocity_from_denoiser"])
def test_what_divides_holds_its_value_near_the_ends(conversion: str) -> None:
    held, _ = CONVERSIONS[conversion](_oracle("OneSidedLinear"))
    for inner, outer in ((0.001, (0.0, 0.0003)), (0.999, (0.9999, 1.0))):
        expected = held(torch.tensor(inner, dtype=FLOAT), X)
        for t in outer:
            assert torch.equal(held(torch.tensor(t, dtype=FLOAT), X), expected)


def _wave(frequency: float) -> VectorField:
    """A field of no interpolant."""
    return lambda t, x: torch.sin(frequency * x.flip(-1) + t) + t * x


@pytest.mark.parametrize("name", INTERPOLANTS)
def test_round_trips_give_back_any_field(name: str) -> None:
    i, one, two = INTERPOLANTS[name], _wave(1.0), _wave(2.3)
    for found in (
        score_from_denoiser(denoiser_from_score(one, i), i),
        denoiser_from_score(score_from_denoiser(one, i), i),
        velocity_from_mean_velocity(mean_velocity_from_velocity(one, two, i), two, i),
        mean_velocity_from_velocity(velocity_from_mean_velocity(one, two, i), two, i),
        drift_from_velocity(drift_from_velocity(one, two, EPSILON), two, -EPSILON),
    ):
        torch.testing.assert_close(found(INSIDE, X), one(INSIDE, X))


@pytest.mark.parametrize("name", ONE_SIDED)
def test_a_one_sided_denoiser_alone_gives_everything(name: str) -> None:
    oracle, interpolant = _oracle(name), _one_sided(INTERPOLANTS[name])
    score = score_from_denoiser(oracle.denoiser, interpolant)
    velocity = velocity_from_denoiser(oracle.denoiser, interpolant)
    given: list[tuple[VectorField, Tensor]] = [
        (velocity, oracle.velocity(INSIDE, X)),
        (score, oracle.score(INSIDE, X)),
        (mean_velocity_from_velocity(velocity, score, interpolant), oracle.mean_velocity(INSIDE, X)),
        (drift_from_velocity(velocity, score, LEVEL), oracle.drift(INSIDE, X, LEVEL)),
    ]
    for found, exact in given:
        torch.testing.assert_close(found(INSIDE, X), exact)


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_conversions_are_differentiable_in_space(conversion: str) -> None:
    """As divergences of a likelihood need."""
    step = 1e-6
    field, _ = CONVERSIONS[conversion](_oracle("OneSidedLinear"))
    direction, x = normal(len(X), DIM, seed=4), X.clone().requires_grad_()
    (slope,) = torch.autograd.grad((field(INSIDE, x) * direction).sum(), x)
    along = (slope * direction).sum(-1)
    change = (field(INSIDE, X + step * direction) - field(INSIDE, X - step * direction)) / (2 * step)
    torch.testing.assert_close(along, (change * direction).sum(-1), rtol=1e-4, atol=1e-4)
