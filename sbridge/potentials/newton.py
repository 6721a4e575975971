"""Newton's method for the tightest bound of `potentials.backward`, the p with p_k ∝ exp E_{q_p} log f_k."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BoundEffort", "covariance", "newton"]


@dataclass(frozen=True)
class BoundEffort:
    """Sobol nodes in all, Newton's steps, and the lengths of a step that are tried."""

    nodes: int
    newton_steps: int
    lengths: Sequence[float]


def covariance(tilts: Tensor, curves: Tensor) -> Tensor:
    """Covariance of the log f_k, (n, K, K), by their coefficients of normal z and z²."""
    return tilts @ tilts.mT + 2 * curves @ curves.mT


def newton(
    log_p: Tensor,
    log_f: Callable[[Tensor], tuple[Tensor, Tensor]],
    log_bound: Callable[[Tensor], Tensor],
    effort: BoundEffort,
) -> Tensor:
    """The log p (n, K) of the smallest log Z_p, by Newton's method for p_k ∝ exp E_{q_p} log f_k.

    Args:
        log_p: where to begin.
        log_f: log p ↦ mean (n, K), up to a constant, and covariance (n, K, K) of the log f_k under q_p.
        log_bound: log p (trials, n, K) ↦ log Z_p (trials, n), up to a constant.
        effort: number of steps and their lengths; with the length zero, log Z_p never increases.
    """
    identity, rows = torch.eye(log_p.shape[1]).to(log_p), torch.arange(len(log_p), device=log_p.device)
    for _ in range(effort.newton_steps):
        p, (mean, spread) = log_p.exp(), log_f(log_p)
        jacobian = identity + spread @ (torch.diag_embed(p) - p[:, :, None] * p[:, None, :])
        step = torch.linalg.solve(jacobian, (mean - log_p)[..., None])[..., 0]
        trials = torch.log_softmax(torch.stack([log_p + length * step for length in effort.lengths]), dim=-1)
        log_p = trials[log_bound(trials).argmin(0), rows]
    return log_p
