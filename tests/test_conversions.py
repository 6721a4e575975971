"""Conversions give exact fields from exact fields, undo each other, and hold their values near the ends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from members import (
    EPSILON,
    FLOAT,
    LEVEL,
    MIXTURE0,
    MIXTURE1,
    SPREAD0,
    Exact,
    ExactField,
    closed_forms,
    ends,
    framed,
    learned_gamma,
    normal,
    root,
    trained,
)
from torch import Tensor

from sbridge import conversions, storage
from sbridge.conversions import (
    DenoiserFromScore,
    DriftFromVelocity,
    MeanVelocityFromVelocity,
    ScoreFromDenoiser,
    ScoreFromDrifts,
    VelocityFromDenoiser,
    VelocityFromDrifts,
    VelocityFromMeanVelocity,
)
from sbridge.fields import Field, Half
from sbridge.interpolants import Brownian, ClosedForm, Interpolant, Linear, OneSided, OneSidedLinear, VariancePreserving
from sbridge.networks import DriftPair
from sbridge.theory.oracle import MixtureOracle

DIM = 2
INTERPOLANTS: dict[str, Interpolant] = {
    **closed_forms(),
    "framed": framed(Linear(Brownian(EPSILON)), DIM),
    "learned gamma": trained(learned_gamma(Linear(Brownian(EPSILON)))),
    "learned one-sided gamma": trained(learned_gamma(VariancePreserving(SPREAD0))),
}
VELOCITY, MEAN_VELOCITY = MixtureOracle.velocity, MixtureOracle.mean_velocity
DENOISER, SCORE = MixtureOracle.denoiser, MixtureOracle.score


def _drift(level: float) -> ExactField:
    return lambda oracle, t, x: oracle.drift(t, x, level)


Build = Callable[[Callable[[ExactField], Field], Interpolant], Field]
# How each is made of fields, and the field that it gives.
CONVERSIONS: dict[type[Field], tuple[Build, ExactField]] = {
    ScoreFromDenoiser: (lambda of, i: ScoreFromDenoiser(of(DENOISER), i), SCORE),
    DenoiserFromScore: (lambda of, i: DenoiserFromScore(of(SCORE), i), DENOISER),
    VelocityFromMeanVelocity: (lambda of, i: VelocityFromMeanVelocity(of(MEAN_VELOCITY), of(SCORE), i), VELOCITY),
    MeanVelocityFromVelocity: (lambda of, i: MeanVelocityFromVelocity(of(VELOCITY), of(SCORE), i), MEAN_VELOCITY),
    DriftFromVelocity: (lambda of, i: DriftFromVelocity(of(VELOCITY), of(SCORE), -LEVEL), _drift(-LEVEL)),
    VelocityFromDrifts: (lambda of, i: VelocityFromDrifts(of(_drift(LEVEL)), of(_drift(-LEVEL))), VELOCITY),
    ScoreFromDrifts: (lambda of, i: ScoreFromDrifts(of(_drift(LEVEL)), of(_drift(-LEVEL)), LEVEL), SCORE),
}
ONE_SIDED: dict[type[Field], tuple[Build, ExactField]] = {
    VelocityFromDenoiser: (lambda of, i: VelocityFromDenoiser(of(DENOISER), _one_sided(i)), VELOCITY),
}
CASES = [
    pytest.param(name, build, exact, id=f"{cls.__name__}-{name}")
    for table, names in (
        (CONVERSIONS, list(INTERPOLANTS)),
        (ONE_SIDED, [name for name, interpolant in INTERPOLANTS.items() if isinstance(interpolant, OneSided)]),
    )
    for (cls, (build, exact)), name in product(table.items(), names)
]
EVERY_CASE = pytest.mark.parametrize(("name", "build", "exact"), CASES)
EVERY_CONVERSION = pytest.mark.parametrize(
    ("build", "exact"), (CONVERSIONS | ONE_SIDED).values(), ids=[cls.__name__ for cls in CONVERSIONS | ONE_SIDED]
)
X = 2 * normal(7, DIM)
INSIDE = torch.tensor([0.001, 0.05, 0.3, 0.5, 0.6, 0.95, 0.999], dtype=FLOAT)[:, None]


def _one_sided(interpolant: Interpolant) -> OneSided:
    assert isinstance(interpolant, OneSided)
    return interpolant


def _oracle(name: str) -> MixtureOracle:
    base = root(INTERPOLANTS[name])
    assert isinstance(base, ClosedForm)
    law0, law1 = ends(base, MIXTURE0, MIXTURE1)
    return MixtureOracle(INTERPOLANTS[name], *law0, *law1)


def _made(build: Build, oracle: MixtureOracle) -> Field:
    return build(lambda of: Exact(oracle, of), oracle.interpolant)


def test_every_conversion_is_tested() -> None:
    assert {cls.__name__ for cls in (*CONVERSIONS, *ONE_SIDED)} == set(conversions.__all__)


@EVERY_CASE
def test_exact_fields_become_exact_fields(name: str, build: Build, exact: ExactField) -> None:
    oracle = _oracle(name)
    found = _made(build, oracle)
    assert found.dim == DIM
    torch.testing.assert_close(found(INSIDE, X), exact(oracle, INSIDE, X))


@EVERY_CONVERSION
def test_one_time_serves_many_points(build: Build, exact: ExactField) -> None:
    field, groups = _made(build, _oracle("OneSidedLinear")), torch.tensor([[[0.2]], [[0.9]]], dtype=FLOAT)
    found = field(groups, X.expand(2, -1, -1))
    for i, t in enumerate(groups.flatten()):
        torch.testing.assert_close(found[i], field(t, X))
        torch.testing.assert_close(found[i], field(t.expand(len(X), 1), X))


@EVERY_CASE
def test_near_the_ends_values_stay_near_the_exact_ones(name: str, build: Build, exact: ExactField) -> None:
    """A conversion that divides by γ or β gives the value 0.001 away from the end; a field changes little there."""
    oracle, x = _oracle(name), X.expand(4, -1, -1)
    t = torch.tensor([0.0, 0.0004, 0.9998, 1.0], dtype=FLOAT).reshape(4, 1, 1)
    found, expected = (field(t, x).flatten(1) for field in (_made(build, oracle), Exact(oracle, exact)))
    assert ((found - expected).norm(dim=1) <= 0.03 * expected.norm(dim=1) + 0.01 * X.norm()).all()


@pytest.mark.parametrize("cls", [ScoreFromDenoiser, VelocityFromDenoiser])
def test_what_divides_holds_its_value_near_the_ends(cls: type[ScoreFromDenoiser | VelocityFromDenoiser]) -> None:
    held = cls(Exact(_oracle("OneSidedLinear"), DENOISER), OneSidedLinear(SPREAD0))
    for inner, outer in ((0.001, (0.0, 0.0003)), (0.999, (0.9999, 1.0))):
        expected = held(torch.tensor(inner, dtype=FLOAT), X)
        for t in outer:
            assert torch.equal(held(torch.tensor(t, dtype=FLOAT), X), expected)


class _Wave(Field):
    """A field of no interpolant."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(self.frequency * x.flip(-1) + t) + t * x


def _there_and_back(i: Interpolant) -> dict[str, tuple[Field, Field]]:
    """Conversions of a field and back, with the field."""
    one, two = _Wave(1.0), _Wave(2.3)
    forward, backward = DriftFromVelocity(one, two, EPSILON), DriftFromVelocity(one, two, -EPSILON)
    return {
        "score": (ScoreFromDenoiser(DenoiserFromScore(one, i), i), one),
        "denoiser": (DenoiserFromScore(ScoreFromDenoiser(one, i), i), one),
        "velocity": (VelocityFromMeanVelocity(MeanVelocityFromVelocity(one, two, i), two, i), one),
        "mean velocity": (MeanVelocityFromVelocity(VelocityFromMeanVelocity(one, two, i), two, i), one),
        "velocity of drifts": (VelocityFromDrifts(forward, backward), one),
        "score of drifts": (ScoreFromDrifts(forward, backward, EPSILON), two),
    }


@pytest.mark.parametrize("name", INTERPOLANTS)
def test_round_trips_give_back_any_field(name: str) -> None:
    for found, expected in _there_and_back(INTERPOLANTS[name]).values():
        torch.testing.assert_close(found(INSIDE, X), expected(INSIDE, X))


@pytest.mark.parametrize("name", [name for name, base in closed_forms().items() if isinstance(base, OneSided)])
def test_a_one_sided_denoiser_alone_gives_everything(name: str) -> None:
    oracle, interpolant = _oracle(name), _one_sided(INTERPOLANTS[name])
    denoiser = Exact(oracle, DENOISER)
    velocity, score = VelocityFromDenoiser(denoiser, interpolant), ScoreFromDenoiser(denoiser, interpolant)
    given = {
        VELOCITY: velocity,
        SCORE: score,
        MEAN_VELOCITY: MeanVelocityFromVelocity(velocity, score, interpolant),
        _drift(LEVEL): DriftFromVelocity(velocity, score, LEVEL),
        _drift(-LEVEL): DriftFromVelocity(velocity, score, -LEVEL),
    }
    for exact, found in given.items():
        torch.testing.assert_close(found(INSIDE, X), exact(oracle, INSIDE, X))


@EVERY_CONVERSION
def test_conversions_survive_a_file(build: Build, exact: ExactField, tmp_path: Path) -> None:
    network = Half(DriftPair(DIM, 1.0, 1.0, EPSILON, width=4, depth=1).double(), 0)
    field = build(lambda _: network, OneSidedLinear(SPREAD0))
    storage.save(field, tmp_path / "field")
    loaded = storage.load(tmp_path / "field")
    assert isinstance(loaded, Field) and type(loaded) is type(field)
    assert torch.equal(loaded(INSIDE, X), field(INSIDE, X))


@EVERY_CONVERSION
def test_conversions_are_differentiable_in_space(build: Build, exact: ExactField) -> None:
    """As divergences of a likelihood need."""
    step = 1e-6
    field, direction = _made(build, _oracle("OneSidedLinear")), normal(len(X), DIM, seed=4)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad((field(INSIDE, x) * direction).sum(), x)
    along = (slope * direction).sum(-1)
    change = (field(INSIDE, X + step * direction) - field(INSIDE, X - step * direction)) / (2 * step)
    torch.testing.assert_close(along, (change * direction).sum(-1), rtol=1e-4, atol=1e-4)
