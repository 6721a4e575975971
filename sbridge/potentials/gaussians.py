"""A Gaussian mixture for the start of a fitted bridge, by expectation–maximisation."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.potentials.fit import Cells, Parameters, clusters, log_sum_and_shares
from sbridge.potentials.selection import Scored, Split, Weighted, simplest

__all__ = ["fit_gaussians"]

_COUNTS = (1, 2, 4, 8)
_PER_GAUSSIAN = 10  # points
_FIRST_STEPS, _LAST_STEPS = 20, 3  # on a part of the points, and on all


def fit_gaussians(x: Split, random_state: int) -> Cells:
    """A mixture of 1, 2, 4 or 8 diagonal Gaussians, by expectation–maximisation.

    Their number is chosen by the likelihood of the held-out points.
    """
    counts = [count for count in _COUNTS if count == 1 or _PER_GAUSSIAN * count <= len(x.part)]
    fits = (_maximised(clusters(x.part, count, 1, random_state), x.part, _FIRST_STEPS) for count in counts)
    held_out = x.held_out
    scored = (
        Scored(cells, (log_sum_and_shares(_log_normals(cells, held_out.x))[0],), (held_out.weights,)) for cells in fits
    )
    return _maximised(simplest(scored).fit, x.all, _LAST_STEPS)


def _maximised(cells: Cells, x: Weighted, steps: int) -> Cells:
    for _ in range(steps):
        cells = Cells.of(torch.softmax(_log_normals(cells, x.x), dim=0) * x.weights, x.x)
    return cells


def _log_normals(cells: Cells, x: Tensor) -> Tensor:
    """log of each component's share of the density, (K, n)."""
    return Parameters(cells.masses.log(), cells.means, cells.variances).log_terms1(x, 1.0)
