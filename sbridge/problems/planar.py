"""Transport in the plane between the shapes of the literature; the bridge is not known.

The shapes are those of the SF²M experiments (Tong et al., arXiv 2307.03672; code of torchcfm).  Parts of a shape have
equal masses, to within a point: random masses would differ between training and held-out points, and a metric would
mostly measure that difference.

`normal`, `eight_gaussians`, `moons` and `s_curve` are public: each draws n points of one shape, (n, 2) in float32, from
a generator.  The last three have their log-densities beside them, (n, 2) → (n,) in float64; that of noise about a curve
is an integral of Gaussians over the curve's angle, by Gauss–Legendre quadrature on each smooth part.  The problems'
default ε is the σ = 1 of the published runs.
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sbridge.problem import Problem
from sbridge.problems.sampled import Law, Sampled

__all__ = ["MoonsToEightGaussians", "Noising", "NormalToEightGaussians", "NormalToMoons", "NormalToSCurve", "Planar"]
__all__ += ["eight_gaussians", "eight_gaussians_log_density", "moons", "moons_log_density", "normal", "s_curve"]
__all__ += ["s_curve_log_density"]

_NODES = 256  # of the quadrature; three quarters of them give the same twelve digits


def normal(n: int, generator: torch.Generator) -> Tensor:
    """N(0, I): (n, 2)."""
    return torch.randn(n, 2, generator=generator)


def eight_gaussians(n: int, generator: torch.Generator) -> Tensor:
    """Eight clusters of covariance √0.1·I on the circle of radius 5, as torchcfm samples them: (n, 2)."""
    angles, deviation = pi / 4 * _parts(n, 8, generator), sqrt(sqrt(0.1))
    return 5 * torch.stack([angles.cos(), angles.sin()], dim=1) + deviation * normal(n, generator)


def eight_gaussians_log_density(x: Tensor) -> Tensor:
    """log-density of `eight_gaussians` at x (n, 2) → (n,)."""
    angles = pi / 4 * torch.arange(8, dtype=torch.float64)
    centres = 5 * torch.stack([angles.cos(), angles.sin()], dim=1)
    return _log_mixture(x, centres, torch.full_like(angles, 1 / 8), sqrt(sqrt(0.1)))


def moons(n: int, generator: torch.Generator) -> Tensor:
    """Two interleaved half circles with noise 0.2, then times 3 and minus 1: (n, 2)."""
    angles = pi * torch.rand(n, generator=generator)
    return 3 * (_moon(angles, _parts(n, 2, generator)) + 0.2 * normal(n, generator)) - 1


def moons_log_density(x: Tensor) -> Tensor:
    """log-density of `moons` at x (n, 2) → (n,)."""
    angles, weights = _quadrature(0, pi)
    curves = torch.cat([_moon(angles, torch.full_like(angles, lower)) for lower in (0, 1)])
    return _log_mixture(x, 3 * curves - 1, weights.repeat(2) / 2, 0.6)


def _moon(angles: Tensor, lower: Tensor) -> Tensor:
    """Points of the upper half circle, or of the lower where that is one."""
    sign = 1 - 2 * lower
    return torch.stack([sign * angles.cos() + lower, sign * angles.sin() + lower / 2], dim=1)


def s_curve(n: int, generator: torch.Generator) -> Tensor:
    """scikit-learn's S-curve seen from the side, with noise 0.05, then times 1.5: (n, 2)."""
    angles = 3 * pi * (torch.rand(n, generator=generator) - 0.5)
    return 1.5 * (_s(angles) + 0.05 * normal(n, generator))


def s_curve_log_density(x: Tensor) -> Tensor:
    """log-density of `s_curve` at x (n, 2) → (n,)."""
    parts = [_quadrature(-1.5 * pi, 0), _quadrature(0, 1.5 * pi)]
    angles, weights = (torch.cat(part) for part in zip(*parts, strict=True))
    return _log_mixture(x, 1.5 * _s(angles), weights / 2, 0.075)


def _s(angles: Tensor) -> Tensor:
    return torch.stack([angles.sin(), angles.sign() * (angles.cos() - 1)], dim=1)


def _quadrature(low: float, high: float) -> tuple[Tensor, Tensor]:
    """Nodes on an interval, and weights that sum to one."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(_NODES))
    return low + (high - low) * (nodes + 1) / 2, weights / 2


def _log_mixture(x: Tensor, centres: Tensor, weights: Tensor, deviation: float) -> Tensor:
    """log-density at x (n, 2) of Gaussians about centres (m, 2) with these weights (m,), in float64."""
    exponents = -torch.cdist(x.double(), centres).square() / (2 * deviation**2)
    return torch.logsumexp(exponents + weights.log(), dim=1) - log(2 * pi * deviation**2)


def _parts(n: int, parts: int, generator: torch.Generator) -> Tensor:
    """The number of the part each point belongs to, in random order."""
    return (torch.randperm(n, generator=generator) % parts).float()


class Planar(Sampled):
    """Points of two shapes in the plane, drawn independently."""

    ends: ClassVar[tuple[Law, Law]]

    def build(self) -> Problem:
        """The problem; its truth is not known."""
        return self.drawn(*self.ends, self.name)


class NormalToEightGaussians(Planar):
    """N(0, I) to eight Gaussians on a circle."""

    name = "normal-8gaussians"
    ends = (normal, eight_gaussians)


class MoonsToEightGaussians(Planar):
    """Two moons to eight Gaussians on a circle."""

    name = "moons-8gaussians"
    ends = (moons, eight_gaussians)


class NormalToMoons(Planar):
    """N(0, I) to two moons."""

    name = "normal-moons"
    ends = (normal, moons)


class NormalToSCurve(Planar):
    """N(0, I) to an S-curve."""

    name = "normal-scurve"
    ends = (normal, s_curve)


class Noising(Planar):
    """Two moons to themselves: x0 and x1 are independent samples of one law, as mirror interpolants have it."""

    name = "noising-moons"
    ends = (moons, moons)
