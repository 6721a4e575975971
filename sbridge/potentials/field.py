"""Schrödinger bridges whose potential is a Gaussian mixture: exact, and not Gaussian.

With e = 2ε and φ(1, y) = exp(|y|²/2e) Σ w_k N(y | r_k, V_k), V_k diagonal, S_k = V_k/e and D_k = tS_k + (1−t)I,

    λ(t, x) = e log Σ_k φ_k(t, x),
    φ_k     = w_k det(2πe D_k)^{−½} exp(½ [x·(S_k − I)D_k⁻¹x + 2 r_k·D_k⁻¹x − t r_k·D_k⁻¹r_k]/e)

solves ∂tλ + ½|∇λ|² + εΔλ = 0, and the drift b_F = ∇λ is finite on all of [0, 1].  Started from any ρ₀ it is the exact
Schrödinger bridge between ρ₀ and its own law at t = 1.  The plan given x₀ is the mixture of N(r_k + S_k x₀, V_k) with
weights ŵ_k(x₀) ∝ φ_k(0, x₀).

Korotin, Gushchin, Burnaev, arXiv 2310.01174 (LightSB); Gushchin et al., arXiv 2306.10161 (the benchmark).
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from sbridge.potentials.family import MixtureField

__all__ = ["MixtureDrift"]


class MixtureDrift(MixtureField):
    """∇λ of a mixture potential."""

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

    def _log_terms(self, t: Tensor, square: Tensor) -> Tensor:
        """log φ_k from x·(S − I)D⁻¹x + 2 r·D⁻¹x, (..., K)."""
        widths = self._widths(t)
        constant = (t[..., None] * self.centres * self.centres / widths).sum(-1)
        norm = torch.log(4 * pi * self.epsilon * widths).sum(-1)
        return self.weights.log() + (square - constant) / (4 * self.epsilon) - norm / 2

    def _widths(self, t: Tensor) -> Tensor:
        """D, (..., K, d)."""
        time = t[..., None]
        return time * self.slopes + (1 - time)

    def _shape(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(S − I)D⁻¹ and D⁻¹r, (..., K, d)."""
        widths = self._widths(t)
        return (self.slopes - 1) / widths, self.centres / widths
