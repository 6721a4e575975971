"""Entropic plans between two samples: Sinkhorn's algorithm in the log domain.

Potentials are in units of 2ε: the plan between equally weighted points is exp(f_i + g_j − |x_i−y_j|²/4ε).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["annealed_potential", "log_sinkhorn_step", "scaled_cost"]


def log_sinkhorn_step(g: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """One Sinkhorn iteration between equal weights (each row and column of exp(f + g − cost) sums to one)."""
    f = -torch.logsumexp(g - cost, dim=1)
    return f, -torch.logsumexp(f[:, None] - cost, dim=0)


def annealed_potential(cost: Tensor, steps_per_halving: int = 10) -> Tensor:
    """A starting potential g (n1,) for Sinkhorn's algorithm at `cost` (n0, n1) = |x−y|²/4ε, by annealing ε.

    ε is halved from where the costs are of order one down to its own value.
    """
    g = cost.new_zeros(cost.shape[1])
    halvings = max(0, int(cost.max().clamp(min=1).log2().ceil()))
    for level in range(halvings, 0, -1):
        eased = cost / 2.0**level
        for _ in range(steps_per_halving):
            _, g = log_sinkhorn_step(g, eased)
        g = 2 * g  # the potential in units of cost stays, ε halves
    return g


def scaled_cost(x0: Tensor, x1: Tensor, epsilon: float) -> Tensor:
    """|x−y|²/4ε of every pair, (n0, n1)."""
    return torch.cdist(x0, x1).square() / (4 * epsilon)
