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

from copy import deepcopy
from dataclasses import dataclass
from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from sbridge.bridge import ExactBridge
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.problem import Problem
from sbridge.problems.backward import MixtureBackward, normal_nodes
from sbridge.problems.mixture_field import MixtureField
from sbridge.problems.sampled import Sampled

__all__ = ["Mixture", "MixtureBridge", "MixtureDrift"]

_MOMENT_NODES = 2**16
_ENERGY_NODES, _ENERGY_REPEATS = 2**13, 8


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


class MixtureBridge(ExactBridge):
    """The Schrödinger bridge of a mixture potential from N(0, spread0² I).

    The forward drift, the potential and the plan given x0 are closed forms.  The backward drift, the moments of ρ1 and
    the kinetic energy are averages over ρ0 or over a posterior, taken at fixed quasi-random nodes.

    Args:
        weights, centres, variances: of the potential: (K,), (K, d) and the diagonals (K, d).
        epsilon: ε.
        spread0: standard deviation of ρ0 in each coordinate.
    """

    forward_field: MixtureDrift
    weights: Tensor
    centres: Tensor
    variances: Tensor

    def __init__(self, weights: Tensor, centres: Tensor, variances: Tensor, epsilon: float, spread0: float) -> None:
        forward = MixtureDrift(weights, centres, variances, epsilon)
        super().__init__(forward, MixtureBackward(weights, centres, variances, epsilon, spread0), epsilon)
        self.spread0 = spread0
        self.register_buffer("weights", weights)
        self.register_buffer("centres", centres)
        self.register_buffer("variances", variances)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x), (n,): t a number in a tensor or (n, 1), x (n, d)."""
        return self.forward_field.potential(t, x)

    def endpoints(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        k = torch.multinomial(self._shares(x0), 1, generator=generator)[:, 0]
        z = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
        return self.centres[k] + self.forward_field.slopes[k] * x0 + self.variances[k].sqrt() * z

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        shares, means = self._shares(x0), self._means(x0)
        mean = (shares[..., None] * means).sum(-2)
        away = means - mean[:, None, :]
        between = (shares[..., None] * away).mT @ away
        return mean, between + torch.diag_embed(shares @ self.variances)

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of ρ1, by the exact moments given x0 at 65,536 Sobol points of ρ0.

        Between two sets of nodes the benchmark's moments differ by less than 0.5 % of the largest entry.
        """
        wide = deepcopy(self).double()
        x0 = wide._starts(normal_nodes(_MOMENT_NODES, self.centres.shape[1], seed=0))
        shares, slopes = wide._shares(x0), wide.forward_field.slopes
        mean = torch.zeros_like(x0[0])
        second = torch.diag(shares.mean(0) @ wide.variances)
        for share, centre, slope in zip(shares.T, wide.centres, slopes, strict=True):
            end = centre + slope * x0
            weighted = share[:, None] * end / len(x0)
            mean, second = mean + weighted.sum(0), second + weighted.T @ end
        cov = second - torch.outer(mean, mean)
        return mean.to(self.centres), cov.to(self.centres)

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt = E_ρ1 λ(1) − E_ρ0 λ(0), from eight scrambled Sobol sets."""
        wide = deepcopy(self).double()
        return Estimate.of(torch.stack([wide._energy(seed) for seed in range(_ENERGY_REPEATS)]))

    def _energy(self, seed: int) -> Tensor:
        """E[λ(1, x1) − λ(0, x0)].

        With component k of the plan given x0, λ(1, ·) is a quadratic plus −e log(its share); only the latter, which is
        small, is averaged over the noise of x1.
        """
        dim, e = self.centres.shape[1], 2 * self.epsilon
        nodes = normal_nodes(_ENERGY_NODES, 2 * dim, seed)
        x0, z = self._starts(nodes[:, :dim]), nodes[:, None, dim:].to(self.centres)
        means, zero = self._means(x0), torch.zeros_like(x0[:1, :1])
        log_share = torch.log_softmax(self.forward_field.log_terms(zero + 1, means + self.variances.sqrt() * z), dim=-1)
        own = torch.diagonal(log_share, dim1=-2, dim2=-1)
        square = (means.square() + self.variances).sum(-1) / 2
        away = (means - self.centres).square() / self.variances
        log_normal = -(torch.log(2 * pi * self.variances) + 1 + away).sum(-1) / 2
        end = (self._shares(x0) * (square + e * (self.weights.log() + log_normal - own))).sum(-1)
        return (end - self.potential(zero, x0)).mean()

    def _shares(self, x0: Tensor) -> Tensor:
        """ŵ(x0), (n, K)."""
        return torch.softmax(self.forward_field.log_terms(torch.zeros_like(x0[:1, :1]), x0), dim=-1)

    def _means(self, x0: Tensor) -> Tensor:
        """r_k + S_k x0, (n, K, d)."""
        return self.centres + self.forward_field.slopes * x0[:, None, :]

    def _starts(self, nodes: Tensor) -> Tensor:
        """Points of ρ0 from nodes of N(0, I), the best of which, the first coordinates, go along the centres."""
        axes: Tensor = torch.linalg.qr(self.centres.T, mode="complete").Q
        return nodes.to(axes) @ axes.T * self.spread0


@dataclass(frozen=True)
class Mixture(Sampled):
    """The entropic transport benchmark: N(0, I/4) to five clusters, with the exact bridge known.

    ρ1 is the law at t = 1 of a mixture potential with equal weights and centres uniform on the sphere of radius 5.
    Its components have variance 1/16 where 2ε ≤ 1 and 1/100 beyond, which gives the published problems at 2ε = 0.1, 1
    and 10.

    Raises:
        InputError: dim or components is below one.
    """

    name: ClassVar[str] = "mixture"

    dim: int = 2
    """Dimension of the points."""
    components: int = 5
    """Number of clusters of ρ1."""
    samples: int = 200_000
    """Training points per side."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.components < 1:
            raise InputError("dim and components must be at least 1")

    def build(self) -> Problem:
        """The problem with its truth, a `MixtureBridge`."""
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(self.components, self.dim, generator=generator)
        centres = 5 * directions / directions.norm(dim=1, keepdim=True)
        variances = torch.full_like(centres, 1 / 16 if 2 * self.epsilon <= 1 else 1 / 100)
        weights = torch.full((self.components,), 1 / self.components)
        truth = MixtureBridge(weights, centres, variances, self.epsilon, spread0=0.5)
        starts = [
            0.5 * torch.randn(n, self.dim, generator=generator) for n in (self.samples, self.test_samples) for _ in "01"
        ]
        x0, _, test0, _ = starts
        x1, test1 = (truth.endpoints(start, generator) for start in (starts[1], starts[3]))
        return Problem(x0, x1, self.epsilon, test0, test1, f"{self.name} d={self.dim}", truth)
