"""Laws on the plane by their densities, as masses on a grid.

Every law is a function of two axes, x (n,) and y (m,), that gives its density on their grid up to a factor, (n, m).
`masses` moves and scales it, coordinate by coordinate, until the masses on the grid have mean 0 and standard deviation
1.  Where a density jumps, a cell has its mean.  What lies beyond the grid is cut off, and so are densities
below 10⁻¹² of the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor

__all__ = ["LAWS", "PlanarDensity", "masses"]

PlanarDensity = Callable[[Tensor, Tensor], Tensor]
"""Axes (n,) and (m,) ↦ a density on their grid (n, m), up to a factor."""

_CURVE_POINTS = 400
_CUT = 1e-12
_ROUNDS = 30  # of moving and scaling; of the Student law the grid's window changes with each


def masses(law: PlanarDensity, axis: Tensor) -> Tensor:
    """Masses of a law on the grid of an axis (n,), with mean 0 and standard deviation 1 in both coordinates: (n, n)."""
    centre, scale = torch.zeros(2).to(axis), torch.ones(2).to(axis)
    for _ in range(_ROUNDS):
        found = _normalised(law(centre[0] + scale[0] * axis, centre[1] + scale[1] * axis))
        mean = torch.stack([found.sum(1) @ axis, found.sum(0) @ axis])
        square = torch.stack([found.sum(1) @ axis.square(), found.sum(0) @ axis.square()])
        centre, scale = centre + scale * mean, scale * (square - mean.square()).sqrt()
    return found


def _normalised(density: Tensor) -> Tensor:
    kept = torch.where(density < _CUT * density.max(), 0.0, density)
    return kept / kept.sum()


def _normal(x: Tensor, y: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2)[:, None] * torch.exp(-y.square() / 2)


def _moons(x: Tensor, y: Tensor) -> Tensor:
    """Two half circles of radius 1 with noise 0.12."""
    angle = torch.linspace(0, pi, _CURVE_POINTS).to(x)
    upper, lower = torch.stack([angle.cos(), angle.sin()]), torch.stack([1 - angle.cos(), 0.5 - angle.sin()])
    return _about(torch.cat([upper, lower], dim=1), 0.12, x, y)


def _spiral(x: Tensor, y: Tensor) -> Tensor:
    """An Archimedean spiral of one turn and a half with noise 0.1, of even density along the curve."""
    angle = 3 * pi * torch.linspace(0.01, 1, _CURVE_POINTS).to(x).sqrt()
    return _about(angle / 4 * torch.stack([angle.cos(), angle.sin()]), 0.1, x, y)


def _clusters(x: Tensor, y: Tensor) -> Tensor:
    """Eight Gaussians of deviation 0.12 on a circle of radius 1.4."""
    angle = pi / 4 * torch.arange(8).to(x)
    return _about(1.4 * torch.stack([angle.cos(), angle.sin()]), 0.12, x, y)


def _about(centres: Tensor, deviation: float, x: Tensor, y: Tensor) -> Tensor:
    """Equal Gaussians about centres (2, m)."""
    left, right = (
        torch.exp(-(axis[:, None] - centre).square() / (2 * deviation**2))
        for axis, centre in zip((x, y), centres, strict=True)
    )
    return left @ right.T


def _rings(x: Tensor, y: Tensor) -> Tensor:
    """Two circles of radius 0.6 and 1.6, each with noise 0.1 across and the same mass per length."""
    radius = (x.square()[:, None] + y.square()).sqrt()
    return torch.exp(-(radius - 0.6).square() / 0.02) + torch.exp(-(radius - 1.6).square() / 0.02)


def _checkerboard(x: Tensor, y: Tensor) -> Tensor:
    """Eight of sixteen squares of side 0.8."""
    return _inside(x, 1.6)[:, None] * _inside(y, 1.6) - _stripes(x)[:, None] * _stripes(y)


def _stripes(x: Tensor) -> Tensor:
    """Four stripes of width 0.8 with the signs +, −, +, −."""
    return torch.stack([(-1) ** k * _inside(x + 1.2 - 0.8 * k, 0.4) for k in range(4)]).sum(0)


def _student(x: Tensor, y: Tensor) -> Tensor:
    """Student's t with three degrees of freedom in each coordinate."""
    one, other = ((1 + axis.square() / 3) ** -2 for axis in (x, y))
    return one[:, None] * other


def _uniform(x: Tensor, y: Tensor) -> Tensor:
    """A square."""
    return _inside(x, 1.7)[:, None] * _inside(y, 1.7)


def _gap(x: Tensor, y: Tensor) -> Tensor:
    """Uniform in the first coordinate; in the second two intervals, with 0.3 and 0.7 of the mass."""
    return _inside(x, 1.7)[:, None] * (0.3 * _inside(y + 1, 0.4) + 0.7 * _inside(y - 1, 0.4))


def _inside(x: Tensor, half: float) -> Tensor:
    """The share of every cell of an axis that lies within (−half, half)."""
    return ((half - x.abs()) / (x[1] - x[0]) + 0.5).clamp(0, 1)


LAWS: dict[str, PlanarDensity] = {
    "normal": _normal,
    "moons": _moons,
    "spiral": _spiral,
    "clusters": _clusters,
    "rings": _rings,
    "checkerboard": _checkerboard,
    "student": _student,
    "uniform": _uniform,
    "gap": _gap,
}
"""Every law by its name."""
