"""Learned interpolants: networks that correct any other interpolant."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from sbridge.interpolants.base import Interpolant
from sbridge.networks import ResidualMLP

__all__ = ["LearnedGamma", "LearnedMean"]


class LearnedMean(Interpolant):
    """I = base mean + Σ_k φ_k(t) N_k(x0, x1), k = 1 … `modes`: a curve's correction to the base; γ² is the base's.

    The φ_k are polynomials that vanish at both ends and have orthonormal derivatives, so Σ_k |N_k|² is the energy
    ∫|∂t correction|² dt.  Max–min optimises an action; in the metric of that action, ascent is as fast near the ends,
    where a correction is small but its rate is not, as in the middle.  The coefficients come from a network that
    starts at zero.  Few modes are used on purpose: the drift network would not see a correction that varies faster in
    time than it resolves.

    Args:
        base: the interpolant to start from.
        dim: dimension d of the points.
        spread0, spread1: standard deviations of the two datasets, which scale the network's input and output.
        width, depth: size of the residual network.
        modes: how many φ_k there are; they span the polynomials of degree modes + 1 that vanish at both ends.
    """

    def __init__(
        self,
        base: Interpolant,
        dim: int,
        spread0: float,
        spread1: float,
        width: int = 64,
        depth: int = 3,
        modes: int = 7,
    ) -> None:
        super().__init__()
        self.base, self.dim, self.width, self.depth, self.modes = base, dim, width, depth, modes
        self.spread0, self.spread1 = spread0, spread1
        self.body = ResidualMLP(2 * dim, modes * dim, width, depth, silent=True)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        basis = _bubbles(t, self.modes) * max(self.spread0, self.spread1)
        points: Tensor = self.body(torch.cat([x0 / self.spread0, x1 / self.spread1], dim=-1))
        correction: Tensor = (basis.unsqueeze(-1) * points.unflatten(-1, (self.modes, self.dim))).sum(-2)
        return self.base.mean(t, x0, x1) + correction

    def variance(self, t: Tensor) -> Tensor:
        return self.base.variance(t)


def _bubbles(t: Tensor, count: int) -> Tensor:
    """φ_k = √(2k+1) ∫₀ᵗ P_k(2s−1) ds for Legendre's polynomials P_k, k = 1 … `count`: (..., 1) or () → (..., count).

    The integral is (P_{k+1} − P_{k−1})(2t−1)/(2(2k+1)).
    """
    s = 2 * t.reshape(t.shape or (1,)) - 1
    legendre = [torch.ones_like(s), s]
    for k in range(1, count + 1):
        legendre.append(((2 * k + 1) * s * legendre[k] - k * legendre[k - 1]) / (k + 1))
    return torch.cat([(legendre[k + 1] - legendre[k - 1]) / (2 * sqrt(2 * k + 1)) for k in range(1, count + 1)], dim=-1)


class LearnedGamma(Interpolant):
    """γ² = base γ² · exp(n(t)) with a network |n| < `bound` that starts at zero; the mean is the base's.

    On a one-sided base the noise at t = 0 is x0, which stays: there γ² = base γ² · exp(t n(t)).
    """

    def __init__(self, base: Interpolant, bound: float = 2.0, width: int = 32) -> None:
        super().__init__()
        self.base, self.bound, self.width = base, bound, width
        self.body = ResidualMLP(1, 1, width, 2, silent=True)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        return self.base.mean(t, x0, x1)

    def variance(self, t: Tensor) -> Tensor:
        exponent = self.bound * torch.tanh(self.body(t.reshape(t.shape or (1,))))
        one_sided = self.base.variance(torch.zeros_like(t)) > 0
        return self.base.variance(t) * torch.exp(exponent.reshape(t.shape) * torch.where(one_sided, t, 1))
