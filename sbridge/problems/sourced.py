"""Any source under a known potential: an exact bridge from data of real shape.

A potential φ₁ = Σ_k w_k N(· | r_k, v₁ I) gives an exact plan from every source.  Here the source is a set of points
with equal masses, smoothed as `atoms` says: they are the atoms before t = 0.  The backward drift is then a mean over
all source points with weights a_i N(x | s_i, et + v₀), exact for this law.  The weights w are chosen so that every
component of the potential has nearly the same mass of ρ1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from sbridge.checks import Count, Positive
from sbridge.errors import InputError
from sbridge.fields import Reversed
from sbridge.problem import Problem
from sbridge.problems.atoms import AtomBridge, Atoms
from sbridge.problems.datasets import Photos
from sbridge.problems.planar import eight_gaussians, moons, s_curve
from sbridge.problems.sampled import Sampled
from sbridge.sizes import check_npy

__all__ = ["KnownPotential", "PointAtoms", "SourcedBridge"]

_SMOOTHING, _WIDTH, _RADIUS = 0.1, 0.25, 3.0  # √v₀, √v₁ and the distance of the r_k, in spreads of the source
_BALANCING_STEPS = 100
_ENTRIES = 2**23  # of the largest tensor held at once


class PointAtoms(Atoms):
    """Atoms anywhere.

    Args:
        log_weights: log w (m,).
        places: r (m, d).
        epsilon: ε.
        variance: v of `Atoms`.
    """

    log_weights: Tensor
    places: Tensor

    def __init__(self, log_weights: Tensor, places: Tensor, epsilon: float, variance: float) -> None:
        super().__init__(epsilon, variance)
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("places", places)

    @property
    def dim(self) -> int:
        return self.places.shape[1]

    def log_sum(self, x: Tensor, spread: Tensor) -> Tensor:
        constant = self.places.shape[1] / 2 * torch.log(2 * pi * spread[:, 0])
        return self._by_rows(lambda y, v: torch.logsumexp(self._logs(y, v), dim=1), x, spread) - constant

    def mean(self, x: Tensor, spread: Tensor) -> Tensor:
        return self._by_rows(lambda y, v: torch.softmax(self._logs(y, v), dim=1) @ self.places, x, spread)

    def moments(self, x: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        centre = self.places.mean(0)
        away = self.places - centre
        share = torch.softmax(self._logs(x, spread), dim=1)
        mean = share @ away
        second = torch.einsum("nm,md,me->nde", share, away, away)
        return mean + centre, second - mean[:, :, None] * mean[:, None]

    def draw(self, x: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
        def one(y: Tensor, v: Tensor) -> Tensor:
            return torch.multinomial(torch.softmax(self._logs(y, v), dim=1), 1, generator=generator)[:, 0]

        return self.places[self._by_rows(one, x, spread)]

    def chosen(self, n: int, partners: Atoms, spread: float, generator: torch.Generator) -> Tensor:
        share = self.shares(partners, spread)
        return self.places[torch.multinomial(share, n, replacement=True, generator=generator)]

    def shares(self, partners: Atoms, spread: float) -> Tensor:
        """The masses of these atoms in the plan with their partners: a_i Σ_j w_j N(s_i | r_j, spread), (m,)."""
        width = torch.full_like(self.places[:, :1], spread)
        return (self.log_weights + partners.log_sum(self.places, width)).exp()

    def _logs(self, x: Tensor, spread: Tensor) -> Tensor:
        return self.log_weights - torch.cdist(x, self.places).square() / (2 * spread)

    def _by_rows(self, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, spread: Tensor) -> Tensor:
        rows = max(1, _ENTRIES // len(self.places))
        return torch.cat([function(y, v) for y, v in zip(x.split(rows), spread.split(rows), strict=True)])


class SourcedBridge(AtomBridge):
    """The Schrödinger bridge from smoothed points under a known potential.

    Args:
        forward_field: the potential's components.
        backward_field: the source points, as a field in reversed time.
        epsilon: ε.
    """

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of ρ1, as an exact sum over the source points."""
        sources, span = self.sources, self.span
        assert isinstance(sources, PointAtoms)
        share, way = sources.shares(self.forward_field, span), 1 - self.forward_field.variance / span
        mean, second = torch.zeros_like(sources.places[0]), torch.zeros(sources.dim, sources.dim).to(sources.places)
        rows = max(1, _ENTRIES // sources.dim**2)
        for weight, place in zip((share / share.sum()).split(rows), sources.places.split(rows), strict=True):
            goal, cov = self.forward_field.moments(place, torch.full_like(place[:, :1], span))
            end = (1 - way) * place + way * goal
            mean += weight @ end
            second += (end * weight[:, None]).T @ end + way**2 * torch.einsum("n,nde->de", weight, cov)
        noise = way * self.forward_field.variance * torch.eye(len(mean)).to(mean)
        return mean, second - torch.outer(mean, mean) + noise


@dataclass(frozen=True)
class KnownPotential(Sampled):
    """Points of any source carried by a known random potential: real shapes with the exact bridge known.

    The source is centred and scaled to a mean variance of 1 per coordinate.  The potential is a Gaussian mixture with
    centres uniform on the sphere of radius 3 and standard deviation 1/4; each component gets about the same mass.

    Raises:
        InputError: the source is neither a name nor a readable .npy file of shape (n, d), n ≥ 10; components or atoms
            is too small.
    """

    name: ClassVar[str] = "known-potential"

    source: str = "moons"
    """Where x0 comes from: moons, eight-gaussians, s-curve, digits, photos, or a .npy file of points (n, d)."""
    components: Count = 8
    """Components of the potential."""
    atoms: Annotated[Count, Ge(_SMALLEST)] = 4096
    """Largest number of source points; the law of x0 is these points, each with noise of standard deviation 0.1."""
    epsilon: Positive = 0.05
    """ε of dX = u dt + √(2ε) dW, in squared units of the source's standard deviation."""

    def build(self) -> Problem:
        """The problem with its truth, a `SourcedBridge`."""
        generator = torch.Generator().manual_seed(self.seed)
        truth = self.truth(generator)
        x0, test0 = (truth.pairs(n, generator)[0].float() for n in (self.samples, self.test_samples))
        x1, test1 = (truth.pairs(n, generator)[1].float() for n in (self.samples, self.test_samples))
        name = f"{self.name} {Path(self.source).stem} d={x0.shape[1]}"
        return Problem(x0, x1, self.epsilon, test0, test1, name, truth)

    def truth(self, generator: torch.Generator) -> SourcedBridge:
        """The exact bridge; the generator draws the source points and the potential."""
        points = _standardised(_points(self.source, self.atoms, generator).double())
        directions = torch.randn(self.components, points.shape[1], dtype=torch.float64, generator=generator)
        centres = _RADIUS * directions / directions.norm(dim=1, keepdim=True)
        log_a, log_w = _balanced(points, centres, 2 * self.epsilon + _SMOOTHING**2 + _WIDTH**2)
        target = PointAtoms(log_w, centres, self.epsilon, _WIDTH**2)
        source = PointAtoms(log_a, points, self.epsilon, _SMOOTHING**2)
        return SourcedBridge(target, Reversed(source), self.epsilon)


_SMALLEST = 10  # source points
_PLANAR = {"moons": moons, "eight-gaussians": eight_gaussians, "s-curve": s_curve}


def _points(source: str, largest: int, generator: torch.Generator) -> Tensor:
    """At most that many points of a source, (n, d)."""
    if source in _PLANAR:
        return _PLANAR[source](largest, generator)
    points = _whole(source)
    return points[torch.randperm(len(points), generator=generator)[:largest]]


def _whole(source: str) -> Tensor:
    if source == "digits":
        from sklearn.datasets import load_digits  # slow to import

        return torch.from_numpy(load_digits().data)
    if source == "photos":
        return Photos.pictures()[0].reshape(-1, 3)
    if Path(source).suffix != ".npy":
        raise InputError(f"source must be {', '.join(_PLANAR)}, digits, photos or a .npy file, not {source!r}")
    try:
        check_npy(Path(source))
        points = torch.from_numpy(np.load(source, allow_pickle=False)).double()
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{source} cannot be read: {error}") from error
    if points.ndim != 2 or len(points) < _SMALLEST or not points.isfinite().all():
        raise InputError(f"{source} must hold at least {_SMALLEST} finite points (n, d), not {tuple(points.shape)}")
    return points


def _standardised(points: Tensor) -> Tensor:
    variance = points.var(0).mean()
    if not variance > 0:
        raise InputError("all points of the source are equal")
    return (points - points.mean(0)) / variance.sqrt()


def _balanced(points: Tensor, centres: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """log a (n,), log w (K,): Sinkhorn's steps for equal masses; exact for the points, nearly so for the centres."""
    dim = points.shape[1]
    kernel = -torch.cdist(points, centres).square() / (2 * variance) - dim / 2 * log(2 * pi * variance)
    log_w = torch.zeros_like(centres[:, 0])
    for _ in range(_BALANCING_STEPS):
        log_a = -log(len(points)) - torch.logsumexp(kernel + log_w, dim=1)
        log_w = -log(len(centres)) - torch.logsumexp(kernel + log_a[:, None], dim=0)
    return -log(len(points)) - torch.logsumexp(kernel + log_w, dim=1), log_w
