"""Suites: problems that belong together, each a frozen dataclass whose fields are its options.

gaussian   N(−0.1·1, I) → N(0.1·1, I), 2ε = 1           (Shi et al., arXiv 2303.16852)
mixture    five clusters from N(0, I/4), 2ε = .1, 1, 10  (Gushchin et al., arXiv 2306.10161)
shapes     rotated products of planar shapes, and real data under a known potential; the exact bridges are known
planar     four pairs of shapes, ε = ½                   (Tong et al., arXiv 2307.03672)
finite     the mixture from few points
real       digits and photographs of scikit-learn
quick      one small problem of each

A new suite is one class here and its place in `SUITES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sbridge.evaluation import Effort
from sbridge.problem import Problem
from sbridge.problems.datasets import Digits, Photos
from sbridge.problems.gaussian import ShiftedGaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.planar import MoonsToEightGaussians, NormalToEightGaussians, NormalToMoons, NormalToSCurve
from sbridge.problems.shapes import Shapes
from sbridge.problems.sourced import KnownPotential

__all__ = ["SUITES", "AnyShape", "Case", "Finite", "Gaussians", "Mixtures", "PlanarShapes", "Quick", "Real", "Suite"]

_BUDGET = 120.0


class Source(Protocol):
    """A problem family with its options."""

    name: ClassVar[str]

    @property
    def epsilon(self) -> float: ...

    def build(self) -> Problem: ...


@dataclass(frozen=True)
class Case:
    """A problem of a suite.

    Args:
        name: its name in tables.
        source: builds it; equal sources build equal problems.
        dim: its dimension.
        effort: sample sizes of the evaluation.
        points: training points per side, drawn for every seed; None for all.
    """

    name: str
    source: Source
    dim: int
    effort: Effort
    points: int | None = None

    def given(self, whole: Problem, seed: int) -> Problem:
        """The problem with the training points that a solver is given; the evaluation uses the whole problem.

        For one seed, a smaller set of points is part of a larger one.
        """
        if self.points is None:
            return whole
        generator = torch.Generator().manual_seed(seed)
        x0, x1 = (_some(x, self.points, generator) for x in (whole.x0, whole.x1))
        return replace(whole, x0=x0, x1=x1)


def _some(x: Tensor, points: int, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)[:points]]


class Suite(Protocol):
    """Anything that lists cases."""

    name: ClassVar[str]
    budget: ClassVar[float]
    """Default budget: seconds of training."""

    def cases(self) -> Sequence[Case]:
        """The cases, in the order of tables."""


@dataclass(frozen=True)
class Gaussians:
    """Between two Gaussians, in DSBM's setting; evaluated on 10,000 points, like the published figures."""

    name: ClassVar[str] = "gaussian"
    budget: ClassVar[float] = _BUDGET

    dims: tuple[int, ...] = (5, 20, 50)
    """Dimensions."""

    def cases(self) -> Sequence[Case]:
        """A case for each dimension."""
        effort = Effort(points=10_000, starts=50)
        return [Case(f"gaussian d={dim}", ShiftedGaussian(dim=dim), dim, effort) for dim in self.dims]


def _mixture(name: str, dim: int, epsilon: float, effort: Effort, points: int | None = None) -> Case:
    return Case(name, Mixture(dim=dim, epsilon=epsilon), dim, effort, points)


@dataclass(frozen=True)
class Mixtures:
    """The entropic transport benchmark; its bridges are known and not Gaussian."""

    name: ClassVar[str] = "mixture"
    budget: ClassVar[float] = _BUDGET

    dims: tuple[int, ...] = (2, 16, 64, 128)
    """Dimensions."""
    epsilons: tuple[float, ...] = (0.05, 0.5, 5.0)
    """Values of ε, half the benchmark's own parameter."""

    def cases(self) -> Sequence[Case]:
        """A case for each dimension and ε."""
        effort = Effort(points=2000, matched=1000, starts=50, per_start=1000)
        return [
            _mixture(f"mixture d={dim} ε={epsilon:g}", dim, epsilon, effort)
            for dim in self.dims
            for epsilon in self.epsilons
        ]


@dataclass(frozen=True)
class AnyShape:
    """Laws of any shape with the exact bridge known: products of planar shapes, and real data as x0."""

    name: ClassVar[str] = "shapes"
    budget: ClassVar[float] = _BUDGET

    dims: tuple[int, ...] = (2, 4, 8, 16)
    """Dimensions of the products."""
    epsilons: tuple[float, ...] = (0.05,)
    """Values of ε of the products, in squared units of their standard deviation."""

    def cases(self) -> Sequence[Case]:
        """A case for each dimension and ε, then photographs and digits under a known potential."""
        effort = Effort(points=2000, matched=1000, starts=50, per_start=100)
        products = [
            Case(f"shapes d={dim} ε={epsilon:g}", Shapes(dim=dim, epsilon=epsilon), dim, effort)
            for dim in self.dims
            for epsilon in self.epsilons
        ]
        sources = [(KnownPotential(source=source), dim) for source, dim in (("photos", 3), ("digits", 64))]
        return products + [Case(f"known potential {source.source}", source, dim, effort) for source, dim in sources]


@dataclass(frozen=True)
class PlanarShapes:
    """Between common shapes in the plane; the bridges are not known."""

    name: ClassVar[str] = "planar"
    budget: ClassVar[float] = _BUDGET

    def cases(self) -> Sequence[Case]:
        """The four problems of [SF]²M."""
        sources = (NormalToEightGaussians(), MoonsToEightGaussians(), NormalToMoons(), NormalToSCurve())
        return [Case(source.name, source, 2, Effort()) for source in sources]


@dataclass(frozen=True)
class Finite:
    """The mixture from few training points, compared with the bridge of the population."""

    name: ClassVar[str] = "finite"
    budget: ClassVar[float] = _BUDGET

    dims: tuple[int, ...] = (2, 16)
    """Dimensions."""
    points: tuple[int, ...] = (500, 1000, 2000, 4000, 8000)
    """Training points per side."""
    epsilon: float = 0.5
    """ε."""

    def cases(self) -> Sequence[Case]:
        """A case for each dimension and number of points."""
        effort = Effort(points=2000, matched=1000, starts=50)
        return [
            _mixture(f"finite d={dim} n={n}", dim, self.epsilon, effort, n) for dim in self.dims for n in self.points
        ]


@dataclass(frozen=True)
class Real:
    """Digits 3 → 8 and the colours of two photographs; the bridges are not known."""

    name: ClassVar[str] = "real"
    budget: ClassVar[float] = _BUDGET

    def cases(self) -> Sequence[Case]:
        """Both."""
        return [Case("digits", Digits(), 64, Effort()), Case("photos", Photos(), 3, Effort())]


@dataclass(frozen=True)
class Quick:
    """One small problem of each suite."""

    name: ClassVar[str] = "quick"
    budget: ClassVar[float] = 8.0

    def cases(self) -> Sequence[Case]:
        """A Gaussian, a mixture, shapes with and without a known bridge, a mixture from 1,000 points, and digits."""
        effort = Effort(points=1000, matched=1000, starts=50, per_start=100, steps=50)
        suites: list[Suite] = [Gaussians(dims=(5,)), Mixtures(dims=(2,), epsilons=(0.5,))]
        suites += [AnyShape(dims=(2,)), PlanarShapes(), Finite(dims=(2,), points=(1000,)), Real()]
        return [replace(suite.cases()[0], effort=effort) for suite in suites]


_SUITES: list[type[Suite]] = [Gaussians, Mixtures, AnyShape, PlanarShapes, Finite, Real, Quick]

SUITES: dict[str, type[Suite]] = {suite.name: suite for suite in _SUITES}
"""Every suite by its name."""
