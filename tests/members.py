"""What the family tests walk over: every member of every family, and laws whose fields are known exactly.

The members are those that the package exports, so a new one is tested as soon as it is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import polars as pl
import torch
from torch import Tensor

from sbridge import interpolants, times
from sbridge.fields import Field
from sbridge.interpolants import (
    Brownian,
    ClosedForm,
    FramedInterpolant,
    Gamma,
    Interpolant,
    LearnedGamma,
    LearnedMean,
    Linear,
    Mirror,
    OneSided,
    TwoSided,
)
from sbridge.objectives import Denoiser, Drift, MeanVelocity, Objective, Score, Velocity
from sbridge.theory.oracle import MixtureOracle
from sbridge.times import TimeDensity

FLOAT = torch.float64
EPSILON, SPREAD0, LEVEL = 0.3, 0.8, 0.45
Kind = TypeVar("Kind")
Law = tuple[Tensor, Tensor, Tensor]
"""Weights (K,), means (K, d) and covariances (K, d, d) of a Gaussian mixture."""
ExactField = Callable[[MixtureOracle, Tensor, Tensor], Tensor]


def members(module: ModuleType, family: type[Kind]) -> list[type[Kind]]:
    """The exported classes of a family that nothing exported is derived from."""
    exported = [vars(module)[name] for name in module.__all__]
    classes = [value for value in exported if inspect.isclass(value) and issubclass(value, family)]
    return [cls for cls in classes if not any(issubclass(other, cls) and other is not cls for other in classes)]


GAMMAS = members(interpolants, Gamma)
TIMES = members(times, TimeDensity)


def closed_forms() -> dict[str, ClosedForm]:
    """Every interpolant given by a formula, and every gamma on the straight line: mean and noise do not interact."""
    pairs = [(cls, Brownian) for cls in members(interpolants, TwoSided)] + [(Linear, gamma) for gamma in GAMMAS]
    forms: dict[str, ClosedForm] = {f"{cls.__name__}-{gamma.__name__}": cls(gamma(EPSILON)) for cls, gamma in pairs}
    return forms | {cls.__name__: cls(SPREAD0) for cls in members(interpolants, OneSided)}


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file, every cell as its text."""
    return pl.read_csv(path, infer_schema=False).fill_null("").to_dicts()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=FLOAT)


def trained(interpolant: Interpolant) -> Interpolant:
    """As after training: no layer is zero."""
    source = generator()
    for parameter in interpolant.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=source)
    return interpolant.double()


def learned_mean(base: Interpolant, dim: int) -> LearnedMean:
    return LearnedMean(base, dim, SPREAD0, 1.4, width=8, depth=2, modes=3)


def learned_gamma(base: Interpolant) -> LearnedGamma:
    return LearnedGamma(base, width=8)


def framed(inner: Interpolant, dim: int) -> FramedInterpolant:
    return FramedInterpolant(inner, normal(dim, seed=5), normal(dim, seed=6), 1.7)


def root(interpolant: Interpolant) -> Interpolant:
    """The closed form that an interpolant is made from."""
    inner = next((child for child in interpolant.children() if isinstance(child, Interpolant)), None)
    return interpolant if inner is None else root(inner)


def is_mirror(interpolant: Interpolant) -> bool:
    return isinstance(root(interpolant), Mirror)


def is_one_sided(interpolant: Interpolant) -> bool:
    return isinstance(root(interpolant), OneSided)


def _tensor(values: list[object]) -> Tensor:
    return torch.tensor(values, dtype=FLOAT)


MIXTURE0: Law = (
    _tensor([0.4, 0.6]),
    _tensor([[-1.0, 0.5], [1.2, 0.0]]),
    _tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.2, 0.0], [0.0, 0.5]]]),
)
MIXTURE1: Law = (
    _tensor([0.3, 0.5, 0.2]),
    _tensor([[2.0, 2.0], [-1.5, 1.0], [0.0, -2.0]]),
    _tensor([[[0.2, 0.0], [0.0, 0.1]], [[0.4, -0.1], [-0.1, 0.2]], [[0.1, 0.0], [0.0, 0.6]]]),
)


def noise_law(spread: float, dim: int) -> Law:
    """N(0, spread² I)."""
    return torch.ones(1, dtype=FLOAT), torch.zeros(1, dim, dtype=FLOAT), spread**2 * torch.eye(dim, dtype=FLOAT)[None]


def ends(interpolant: ClosedForm, law0: Law, law1: Law) -> tuple[Law, Law]:
    """Laws that the interpolant may join: these, or noise and the second, or the second twice."""
    if isinstance(interpolant, OneSided):
        return noise_law(interpolant.spread0, law1[1].shape[1]), law1
    return (law1, law1) if isinstance(interpolant, Mirror) else (law0, law1)


def sample(law: Law, *shape: int, source: torch.Generator) -> Tensor:
    """Points (*shape, d) of a mixture."""
    weights, means, covs = law
    k = torch.multinomial(weights, torch.Size(shape).numel(), replacement=True, generator=source).reshape(shape)
    z = torch.randn(*shape, means.shape[1], dtype=FLOAT, generator=source)
    points: Tensor = means[k] + (torch.linalg.cholesky(covs)[k] @ z[..., None])[..., 0]
    return points


class Exact(Field):
    """A field of an oracle."""

    def __init__(self, oracle: MixtureOracle, of: ExactField) -> None:
        super().__init__()
        self.oracle, self.of = oracle, of
        self.register_buffer("place", oracle.means0[:0])  # by which a bridge knows its type and device

    @property
    def dim(self) -> int:
        return self.oracle.means0.shape[1]

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.of(self.oracle, t, x)


OBJECTIVES: dict[str, tuple[Objective, ExactField]] = {
    "velocity": (Velocity(), MixtureOracle.velocity),
    "mean velocity": (MeanVelocity(), MixtureOracle.mean_velocity),
    "denoiser": (Denoiser(), MixtureOracle.denoiser),
    "score": (Score(), MixtureOracle.score),
    "forward drift": (Drift(LEVEL), lambda oracle, t, x: oracle.drift(t, x, LEVEL)),
    "backward drift": (Drift(-LEVEL), lambda oracle, t, x: oracle.drift(t, x, -LEVEL)),
}
