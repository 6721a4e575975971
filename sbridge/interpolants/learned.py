"""Interpolants that are learned: networks on top of any other."""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor

from sbridge.fields import ResidualMLP
from sbridge.interpolants.base import Interpolant

__all__ = ["LearnedGamma", "LearnedMean"]


class LearnedMean(Interpolant):
    """I = base mean + Σ_k B_k(t) N_k(x0, x1): a Bézier curve's correction to the base; γ² is the base's.

    B_k = C(n, k) t^k (1−t)^(n−k), k = 1 … n−1, are Bernstein polynomials, so the correction is t(1−t) times a
    polynomial in t with coefficients from a network, which starts at zero.  A correction that were free to vary
    faster in time than the drift network resolves would go unseen by it.

    Args:
        base: the interpolant to start from.
        dim: dimension d of the points.
        spread0, spread1: standard deviations of the two datasets, which scale the network's input and output.
        width, depth: size of the residual network.
        degree: n.
    """

    def __init__(
        self,
        base: Interpolant,
        dim: int,
        spread0: float,
        spread1: float,
        width: int = 64,
        depth: int = 3,
        degree: int = 8,
    ) -> None:
        super().__init__()
        self.base, self.dim, self.width, self.depth, self.degree = base, dim, width, depth, degree
        self.spread0, self.spread1 = spread0, spread1
        self.body = ResidualMLP(2 * dim, (degree - 1) * dim, width, depth, silent=True)

    def mean(self, t: Tensor, x0: Tensor, x1: Tensor) -> Tensor:
        n = self.degree
        powers = torch.arange(1, n, dtype=t.dtype, device=t.device)
        binomials = t.new_tensor([comb(n, k) for k in range(1, n)])
        basis = t**powers * (1 - t) ** (n - powers) * (binomials * max(self.spread0, self.spread1))
        points: Tensor = self.body(torch.cat([x0 / self.spread0, x1 / self.spread1], dim=-1))
        correction: Tensor = (basis.unsqueeze(-1) * points.unflatten(-1, (n - 1, self.dim))).sum(-2)
        return self.base.mean(t, x0, x1) + correction

    def variance(self, t: Tensor) -> Tensor:
        return self.base.variance(t)


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
