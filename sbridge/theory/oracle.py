"""Exact fields of an interpolant between two Gaussian mixtures.

For I = αx0 + βx1 plus a shift that depends on t alone, and x0, x1 drawn independently from Σ w_i N(m_i, C_i) and
Σ w_j N(m_j, C_j), the point x_t = I + γz is a mixture over pairs with mean m_ij = I(t, m_i, m_j) and covariance
C_ij = α²C_i + β²C_j + γ²I.  With g_ij = C_ij⁻¹(x − m_ij) and p_ij the probability of a pair given x_t = x,

    score s = −Σ p_ij g_ij,                          denoiser η = γ Σ p_ij g_ij,
    velocity b = Σ p_ij (ṁ_ij + ½Ċ_ij g_ij),         mean velocity v = Σ p_ij (ṁ_ij + (αα̇C_i + ββ̇C_j) g_ij).

All four are finite at t = 0 and 1.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, appendix A (Gaussian mixtures).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from sbridge.interpolants import Interpolant, with_rate

__all__ = ["MixtureOracle"]


@dataclass(frozen=True)
class MixtureOracle:
    """The fields of an interpolant whose mean is linear in x0 and x1, under the product coupling of two mixtures.

    Every field takes t of shape (), (n, 1) or any that broadcasts with (..., 1), and x (..., d), and has x's shape.

    Args:
        interpolant: its mean must be αx0 + βx1 + shift, with numbers α and β of t and a shift of t.
        weights0, means0, covs0: the mixture of x0: (K,), (K, d) and (K, d, d); weights sum to one.
        weights1, means1, covs1: the mixture of x1.
    """

    interpolant: Interpolant
    weights0: Tensor
    means0: Tensor
    covs0: Tensor
    weights1: Tensor
    means1: Tensor
    covs1: Tensor

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """b = E[∂tI + γ̇z | x_t = x]."""
        pairs = self._pairs(t, x)
        return pairs.average(pairs.mean_rate + pairs.pull(pairs.end_rate) + pairs.half_variance_rate * pairs.g)

    def mean_velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """v = E[∂tI | x_t = x]."""
        pairs = self._pairs(t, x)
        return pairs.average(pairs.mean_rate + pairs.pull(pairs.end_rate))

    def denoiser(self, t: Tensor, x: Tensor) -> Tensor:
        """η = E[z | x_t = x]."""
        pairs = self._pairs(t, x)
        return pairs.average(pairs.gamma * pairs.g)

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """s = ∇log ρ_t(x)."""
        pairs = self._pairs(t, x)
        return pairs.average(-pairs.g)

    def drift(self, t: Tensor, x: Tensor, epsilon: float) -> Tensor:
        """b + εs, the drift of the forward process of diffusion ε; with −ε, that of the backward process."""
        return self.velocity(t, x) + epsilon * self.score(t, x)

    def log_density(self, t: Tensor, x: Tensor) -> Tensor:
        """log ρ_t(x), (...,)."""
        return torch.logsumexp(self._pairs(t, x).log_density, dim=-1)

    def _pairs(self, t: Tensor, x: Tensor) -> _Pairs:
        time = (t if t.ndim else t[None])[..., None, :].contiguous()  # one more axis, for the pairs
        left = torch.arange(len(self.means0), device=x.device).repeat_interleave(len(self.means1))
        right = torch.arange(len(self.means1), device=x.device).repeat(len(self.means0))
        mean, mean_rate = _rate(lambda s: self.interpolant.mean(s, self.means0[left], self.means1[right]), time)
        variance, variance_rate = _rate(self.interpolant.variance, time)
        cov0, cov1 = self.covs0[left], self.covs1[right]
        (a, a_rate), (b, b_rate) = self._share(time, 1.0, 0.0), self._share(time, 0.0, 1.0)
        cov = a**2 * cov0 + b**2 * cov1 + variance[..., None] * torch.eye(x.shape[-1]).to(x)
        log_weight = (self.weights0[left] * self.weights1[right]).log()
        log_density, g = _gaussian(x[..., None, :] - mean, cov)
        end_rate = a * a_rate * cov0 + b * b_rate * cov1
        return _Pairs(log_weight + log_density, g, mean_rate, end_rate, variance.sqrt(), variance_rate / 2)

    def _share(self, time: Tensor, of0: float, of1: float) -> tuple[Tensor, Tensor]:
        """α (of0 = 1, of1 = 0) or β (0, 1) and its rate, (..., 1, 1, 1)."""
        zero = torch.zeros_like(self.means0[:1])
        mean = self.interpolant.mean
        value, rate = _rate(lambda s: mean(s, zero + of0, zero + of1) - mean(s, zero, zero), time)
        return value[..., :1, None], rate[..., :1, None]


@dataclass(frozen=True)
class _Pairs:
    """What the fields need of every pair of components, for each point: tensors of shape (..., pairs, d or 1)."""

    log_density: Tensor
    g: Tensor
    mean_rate: Tensor
    end_rate: Tensor
    gamma: Tensor
    half_variance_rate: Tensor

    def pull(self, matrix: Tensor) -> Tensor:
        """matrix · g."""
        return (matrix @ self.g[..., None])[..., 0]

    def average(self, values: Tensor) -> Tensor:
        """Σ p_ij values_ij."""
        return (torch.softmax(self.log_density, dim=-1)[..., None] * values).sum(-2)


def _rate(function: Callable[[Tensor], Tensor], time: Tensor) -> tuple[Tensor, Tensor]:
    """A function of time and its derivative, as numbers: what depends on x does not go through them."""
    with torch.no_grad():
        return with_rate(function, time)


def _gaussian(away: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """log N(x | m, C), (...,), and C⁻¹(x − m), (..., d), from x − m."""
    root = torch.linalg.cholesky(cov)
    white = torch.linalg.solve_triangular(root, away[..., None], upper=False)
    g = torch.linalg.solve_triangular(root.mT, white, upper=True)[..., 0]
    norm = ((2 * pi) ** 0.5 * torch.diagonal(root, dim1=-2, dim2=-1)).log().sum(-1)
    return -white[..., 0].square().sum(-1) / 2 - norm, g
