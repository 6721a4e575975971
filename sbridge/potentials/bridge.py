"""The bridge of a mixture potential: its drift, its plan and its dual in closed form.

The formulas are those of `potentials.field`, with log w in the place of w.  With full covariances
V_k = Q_k diag(v_k) Q_kᵀ component k is a diagonal one in the coordinates Q_kᵀx.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.bridge import ExactBridge
from sbridge.estimates import Estimate
from sbridge.fields import Field, Framed
from sbridge.potentials.field import MixtureDrift

__all__ = ["FullPotentialDrift", "PotentialBridge", "PotentialDrift"]

_ROWS = 512  # starting points of conditional moments at once


class PotentialDrift(MixtureDrift):
    """∇λ of a mixture potential given log w: at small ε the weights themselves leave the range of floating point.

    Args:
        log_weights, centres, variances: log w (K,), r (K, d) and the diagonals of V (K, d).
        epsilon: ε.
    """

    log_weights: Tensor

    def __init__(self, log_weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float) -> None:
        super().__init__(torch.ones_like(log_weights), centres, variances, epsilon)
        self.register_buffer("log_weights", log_weights)

    def log_terms(self, t: Tensor, x: Tensor) -> Tensor:
        return self.log_weights + super().log_terms(t, x)

    def shares(self, x0: Tensor) -> Tensor:
        """Probability of each component of the plan given x0 (n, d), (n, K)."""
        return torch.softmax(self.log_terms(torch.zeros_like(x0[:1, :1]), x0), dim=-1)

    def means(self, x0: Tensor) -> Tensor:
        """Their means r_k + S_k x0, (n, K, d)."""
        return self.centres + self.slopes * x0[:, None]

    def noise(self, k: Tensor, z: Tensor) -> Tensor:
        """√V_k z of normal z (n, d) for components k (n,)."""
        return self.variances[k].sqrt() * z

    def within(self, shares: Tensor) -> Tensor:
        """Σ shares_k V_k, (n, d, d)."""
        return torch.diag_embed(shares @ self.variances)


class FullPotentialDrift(PotentialDrift):
    """The same for components with full covariances.

    Args:
        log_weights, centres, variances: log w (K,), Qᵀr (K, d) and the eigenvalues of V (K, d).
        epsilon: ε.
        axes: Q, the eigenvectors of V in columns, (K, d, d).
    """

    axes: Tensor

    def __init__(self, log_weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float, axes: Tensor) -> None:
        super().__init__(log_weights, centres, variances, epsilon)
        self.register_buffer("axes", axes)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        shares, (curves, tilts) = torch.softmax(self.log_terms(t, x), dim=-1), self._shape(t)
        return self._out(shares[..., None] * (curves * self._turned(x) + tilts)).sum(-2)

    def log_terms(self, t: Tensor, x: Tensor) -> Tensor:
        (curves, tilts), places = self._shape(t), self._turned(x)
        square = (places * (curves * places + 2 * tilts)).sum(-1)
        return self.log_weights + self._log_terms(t, square)

    def means(self, x0: Tensor) -> Tensor:
        return self._out(self.centres + self.slopes * self._turned(x0))

    def noise(self, k: Tensor, z: Tensor) -> Tensor:
        return (self.axes[k] @ super().noise(k, z)[..., None])[..., 0]

    def within(self, shares: Tensor) -> Tensor:
        covs = (self.axes * self.variances[:, None]) @ self.axes.mT
        return torch.einsum("nk,kde->nde", shares, covs)

    def _turned(self, x: Tensor) -> Tensor:
        """Qᵀx in every component's coordinates, (..., K, d)."""
        return torch.einsum("...d,kde->...ke", x, self.axes)

    def _out(self, places: Tensor) -> Tensor:
        """Back from there, (..., K, d)."""
        return torch.einsum("...ke,kde->...kd", places, self.axes)


class PotentialBridge(ExactBridge):
    """The bridge of a fitted mixture potential.

    Args:
        forward_field: a `PotentialDrift` in the coordinates of the fit, seen from the user's.
        backward_field: the backward drift.
        epsilon: ε.
        starts: points of ρ₀ (n, d) that the moments of ρ1 are averaged over.
        dual, dual_error: D(λ) on points kept apart from the fit, and its standard error.
    """

    forward_field: Framed
    starts: Tensor

    def __init__(
        self,
        forward_field: Framed,
        backward_field: Field,
        epsilon: float,
        starts: Tensor,
        dual: float,
        dual_error: float,
    ) -> None:
        super().__init__(forward_field, backward_field, epsilon)
        self.register_buffer("starts", starts)
        self.dual, self.dual_error = dual, dual_error

    @property
    def drift(self) -> PotentialDrift:
        """∇λ in the coordinates of the fit."""
        assert isinstance(self.forward_field.inner, PotentialDrift)
        return self.forward_field.inner

    @property
    def components(self) -> int:
        """K."""
        return len(self.drift.log_weights)

    @property
    def held_out_dual(self) -> Estimate:
        """D(λ) ≤ KE* on points kept apart from the fit, in squared units of the data."""
        return Estimate(self.dual, self.dual_error)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x), (n,): t a number in a tensor or (n, 1), x (n, d).  b_F = ∇λ, and ∂tλ + ½|∇λ|² + εΔλ = 0."""
        framed, shift = self.forward_field, self.forward_field.shift1 - self.forward_field.shift0
        y = self._inside(x, (1 - t) * framed.shift0 + t * framed.shift1)
        inner = self.drift.potential(t.to(y), y).to(x)
        return framed.scale**2 * inner + x @ shift.to(x) - (t * shift.square().sum() / 2).to(x).squeeze(-1)

    def dual_on(self, x0: Tensor, x1: Tensor) -> Estimate:
        """D(λ) = E λ(1, x1) − E λ(0, x0) ≤ KE* on any points (n0, d), (n1, d), in squared units of the data."""
        zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
        start, end = Estimate.of(self.potential(zero, x0).double()), Estimate.of(self.potential(zero + 1, x1).double())
        return Estimate(end.value - start.value, (start.standard_error**2 + end.standard_error**2) ** 0.5)

    def endpoints(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        y0 = self._inside(x0, self.forward_field.shift0)
        k = torch.multinomial(self.drift.shares(y0), 1, generator=generator)[:, 0]
        z = torch.randn(x0.shape, dtype=y0.dtype, device=x0.device, generator=generator)
        y1 = self.drift.means(y0)[torch.arange(len(k), device=k.device), k] + self.drift.noise(k, z)
        return (self.forward_field.shift1 + self.forward_field.scale * y1).to(x0)

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        y0 = self._inside(x0, self.forward_field.shift0)
        shares, means = self.drift.shares(y0), self.drift.means(y0)
        mean = (shares[..., None] * means).sum(-2)
        away = means - mean[:, None]
        cov = (shares[..., None] * away).mT @ away + self.drift.within(shares)
        framed = self.forward_field
        return (framed.shift1 + framed.scale * mean).to(x0), (framed.scale**2 * cov).to(x0)

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of the law at t = 1, by the exact moments given up to 4,096 points of x0."""
        means, covs = zip(*(self.conditional_moments(rows) for rows in self.starts.split(_ROWS)), strict=True)
        mean = torch.cat(means)
        return mean.mean(0), mean.T.cov() + torch.stack([cov.sum(0) for cov in covs]).sum(0) / len(mean)

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt = E λ(1, X₁) − E λ(0, x₀), from one end drawn for each of those points."""
        generator = torch.Generator(self.starts.device).manual_seed(0)
        zero = torch.zeros((), dtype=self.starts.dtype, device=self.starts.device)
        ends = self.potential(zero + 1, self.endpoints(self.starts, generator))
        return Estimate.of((ends - self.potential(zero, self.starts)).double())

    def _inside(self, x: Tensor, centre: Tensor) -> Tensor:
        return ((x - centre) / self.forward_field.scale).to(self.drift.centres)
