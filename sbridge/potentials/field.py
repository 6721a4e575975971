"""A mixture potential: its drift and its plan, in closed form.

With e = 2ε and φ(1, y) = exp(|y|²/2e) Σ w_k N(y | r_k, V_k), V_k diagonal, S_k = V_k/e and D_k = tS_k + (1−t)I,

    λ(t, x) = e log Σ_k φ_k(t, x),
    φ_k     = w_k det(2πe D_k)^{−½} exp(½ [x·(S_k − I)D_k⁻¹x + 2 r_k·D_k⁻¹x − t r_k·D_k⁻¹r_k]/e)

solves ∂tλ + ½|∇λ|² + εΔλ = 0, and the drift b_F = ∇λ is finite on all of [0, 1].  Started from any ρ₀ it is the exact
Schrödinger bridge between ρ₀ and its own law at t = 1.  The law of x₁ given x_t = x is
the mixture of N((S_k x + (1−t) r_k)/D_k, (1−t) V_k/D_k) with weights ∝ φ_k(t, x); at t = 0 it is the plan given x₀, of
N(r_k + S_k x₀, V_k) with weights ŵ_k(x₀) ∝ φ_k(0, x₀).

Korotin, Gushchin, Burnaev, arXiv 2310.01174 (LightSB); Gushchin et al., arXiv 2306.10161 (the benchmark).
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from sbridge.potentials.family import MixtureField

__all__ = ["MixtureDrift"]

_ROWS = 2048  # starting points at once, in averages over many


class MixtureDrift(MixtureField):
    """∇λ of a mixture potential, with λ and the plan."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        shares, (curves, tilts) = torch.softmax(self.log_terms(t, x), dim=-1), self._shape(t)
        return torch.einsum("...k,...kd->...d", shares, curves) * x + torch.einsum("...k,...kd->...d", shares, tilts)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x), (...,)."""
        return 2 * self.epsilon * torch.logsumexp(self.log_terms(t, x), dim=-1)

    def log_terms(self, t: Tensor, x: Tensor) -> Tensor:
        """log φ_k(t, x), (..., K)."""
        curves, tilts = self._shape(t)
        square = torch.einsum("...d,...kd->...k", x.square(), curves) + 2 * torch.einsum("...d,...kd->...k", x, tilts)
        return self._log_terms(t, square)

    def shares(self, x0: Tensor) -> Tensor:
        """Probability ŵ_k of each component of the plan given x0 (n, d), (n, K)."""
        return torch.softmax(self.log_terms(torch.zeros_like(x0[:1, :1]), x0), dim=-1)

    def means(self, x0: Tensor) -> Tensor:
        """Means r_k + S_k x0 of the plan's components given x0 (n, d), (n, K, d)."""
        return self.centres + self.slopes * x0[:, None]

    @property
    def known_end(self) -> float:
        return 1.0

    def draw_end(self, t: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        k = _drawn(torch.softmax(self.log_terms(t, x), dim=-1), generator)
        z = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
        return self._ends(k, t, x, z)

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, d) and covariance (n, d, d) of x1 given x0 (n, d)."""
        shares, means = self.shares(x0), self.means(x0)
        mean = (shares[..., None] * means).sum(-2)
        away = means - mean[:, None]
        return mean, (shares[..., None] * away).mT @ away + self._within(shares)

    def endpoint_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of x1 with x0 uniform over given points (n, d)."""
        mean, second = torch.zeros_like(x0[0]), x0.new_zeros(self.dim, self.dim)
        for rows in x0.split(_ROWS):
            shares, means = self.shares(rows), self.means(rows)
            weighted = shares[..., None] * means / len(x0)
            mean = mean + weighted.sum((0, 1))
            second = second + weighted.flatten(0, 1).T @ means.flatten(0, 1)
            second = second + self._within(shares.sum(0, keepdim=True) / len(x0))[0]
        return mean, second - torch.outer(mean, mean)

    def _ends(self, k: Tensor, t: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """(S_k x + (1−t) r_k)/D_k + √((1−t) V_k/D_k) z for components k (n,) and normal z (n, d)."""
        slopes, rest = self.slopes[k], 1 - t
        widths = t * slopes + rest
        return (slopes * x + rest * self.centres[k]) / widths + (rest * self.variances[k] / widths).sqrt() * z

    def _within(self, shares: Tensor) -> Tensor:
        """Σ shares_k V_k, (n, d, d)."""
        return torch.diag_embed(shares @ self.variances)

    def _log_terms(self, t: Tensor, square: Tensor) -> Tensor:
        """log φ_k from x·(S − I)D⁻¹x + 2 r·D⁻¹x, (..., K)."""
        widths = self._widths(t)
        constant = (t[..., None] * self.centres * self.centres / widths).sum(-1)
        norm = torch.log(4 * pi * self.epsilon * widths).sum(-1)
        return self.log_weights + (square - constant) / (4 * self.epsilon) - norm / 2

    def _widths(self, t: Tensor) -> Tensor:
        """D, (..., K, d)."""
        time = t[..., None]
        return time * self.slopes + (1 - time)

    def _shape(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(S − I)D⁻¹ and D⁻¹r, (..., K, d)."""
        widths = self._widths(t)
        return (self.slopes - 1) / widths, self.centres / widths


def _drawn(shares: Tensor, generator: torch.Generator) -> Tensor:
    """An index for each row of probabilities (n, K), (n,): by their running sums, much faster than `multinomial`."""
    levels = shares.cumsum(-1)
    uniform = torch.rand(len(shares), 1, dtype=shares.dtype, device=shares.device, generator=generator)
    found = torch.searchsorted(levels, uniform * levels[:, -1:], right=True)
    return found[:, 0].clamp(max=shares.shape[-1] - 1)
