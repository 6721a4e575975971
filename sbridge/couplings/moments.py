"""Newton steps on the moments of a plan, for what Sinkhorn's iterations mend slowly.

A Sinkhorn step mends the masses of single points.  An error of the potential that is smooth on the scale √(2ε), the
length of the noise, hardly shows in them, and is the largest part of what a plan between some of the points leaves.
It shows in the plan's moments of smooth functions φ of x1: with r = E_plan φ(x1) − E_data φ(x1) and the mean covariance
H = E Cov(φ(x1) | x0) under the plan, Newton's step of the dual value along g + θ·φ is θ = −H⁻¹ r.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from sbridge.arrays import by_rows

__all__ = ["BUMPS", "moment_step"]

BUMPS = 128  # at most
_WIDTH = 1.5  # of a bump, in distances between neighbouring centres
_RIDGE = 1e-3  # of the variance of a function; where x0 decides its value, Newton's step has no bound
_TINY = 1e-12  # where all points are one, nothing varies
_LARGEST = 2.0  # change of the potential
_AT_ONCE = 8192  # rows


def moment_step(x1: Tensor, masses: Tensor, rows: Tensor, centres: Tensor, epsilon: float) -> Tensor:
    """The change of g (n1,) by a Newton step, in float64; at most 2 anywhere.

    The functions are the coordinates and Gaussian bumps around the centres.

    Args:
        x1: the points, (n1, d).
        masses: n1 times the masses that the plan gives them, (n1,).
        rows: of x1, drawn from the plan for some x0: (n, uses) with at least two uses.
        centres: (k, d).
        epsilon: ε of dX = u dt + √(2ε) dW.
    """
    width = _width(centres, epsilon)
    values = by_rows(lambda part: _functions(part, centres, width), x1)
    values -= values.mean(0)
    excess = ((masses - 1).to(values) @ values).double() / len(values)
    within, total = _covariances(values, rows)
    ridge = _RIDGE * (total.diagonal() + total.diagonal().mean() + _TINY).diag()
    change = values.double() @ torch.linalg.solve(within + ridge, -excess)
    bounded: Tensor = change * (_LARGEST / change.abs().max().clamp_min(_LARGEST))
    return bounded


def _width(centres: Tensor, epsilon: float) -> float:
    """Of the bumps: wide enough to overlap, and no narrower than the noise."""
    if len(centres) == 1:
        return sqrt(2 * epsilon)
    between = torch.cdist(centres, centres).fill_diagonal_(torch.inf).amin(1)
    return max(_WIDTH * float(between.median()), sqrt(2 * epsilon))


def _functions(x: Tensor, centres: Tensor, width: float) -> Tensor:
    """Coordinates and bumps at points (n, d): (n, d + k)."""
    return torch.cat([x, torch.exp(-torch.cdist(x, centres).square() / (2 * width**2))], dim=1)


def _covariances(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance of the functions' values (n1, m) given x0, from drawn rows (n, uses), and in all: both (m, m)."""
    size, uses = values.shape[1], rows.shape[1]
    second, of_means = (torch.zeros(size, size, dtype=torch.float64, device=values.device) for _ in range(2))
    for part in rows.split(max(1, _AT_ONCE // uses)):
        drawn = values[part]
        means, flat = drawn.mean(1), drawn.flatten(0, 1)
        second += (flat.mT @ flat / rows.numel()).double()
        of_means += (means.mT @ means / len(rows)).double()
    return (second - of_means) * uses / (uses - 1), second
