"""Schrödinger bridges between smoothed atoms: exact for a law of any shape, finite at both ends.

Take the Schrödinger bridge between two sets of atoms, s_i with masses p_i and r_j with masses q_j, over a time that
begins before 0 and ends after 1: with e = 2ε, over −v₀/e ≤ t ≤ 1 + v₁/e.  A part of a Schrödinger bridge is the
Schrödinger bridge between its own ends, so the part 0 ≤ t ≤ 1 is one, and both its ends have smooth densities:

    φ(t, x) = Σ_j w_j N(x | r_j, e(1−t) + v₁),    φ̂(t, x) = Σ_i a_i N(x | s_i, et + v₀),
    ρ_t = φ φ̂,    λ = e log φ,    b_F = e ∇log φ,    b_B = −e ∇log φ̂.

These are finite sums: there is no quadrature, and nothing diverges at t = 0 or 1.  For all positive a and w with
Σ_ij a_i w_j N(s_i | r_j, e + v₀ + v₁) = 1 this is an exact bridge.  The atoms have the masses p and q where a and w
solve Sinkhorn's equations for a Gaussian kernel of variance e + v₀ + v₁.  If Sinkhorn's algorithm stops early, the laws
of the ends differ a little from those wanted, but the bridge between them is still exact.

Given its atoms, a path is a Brownian bridge from s_i to r_j.  Hence ρ₀ is the law of the atoms s_i after they moved the
fraction v₀/(e + v₀ + v₁) of the way to their partners, smoothed by noise of variance less than v₀.

Léonard, arXiv 1308.0215 (the product form); the longer time is this package's own construction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.bridge import ExactBridge
from sbridge.estimates import Estimate
from sbridge.fields import Field, Reversed

__all__ = ["AtomBridge", "Atoms"]

_ENERGY_PAIRS = 2**16


class Atoms(Field):
    """Weighted atoms at t = 1 + v/e; as a field, the drift e ∇log φ towards them.

    Args:
        epsilon: ε.
        variance: v, the variance of the Brownian noise from t = 1 to the atoms.
    """

    def __init__(self, epsilon: float, variance: float) -> None:
        super().__init__()
        self.epsilon, self.variance = epsilon, variance

    def log_sum(self, x: Tensor, spread: Tensor) -> Tensor:
        """log Σ_j w_j N(x | r_j, spread), (n,): x (n, d), spread (n, 1)."""
        raise NotImplementedError

    def mean(self, x: Tensor, spread: Tensor) -> Tensor:
        """Mean of the atom given x, (n, d), where atom j has the probability w_j N(x | r_j, spread) up to a factor."""
        raise NotImplementedError

    def moments(self, x: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (n, d) and covariance (n, d, d) of the atom given x."""
        raise NotImplementedError

    def draw(self, x: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
        """An atom for every x, (n, d)."""
        raise NotImplementedError

    def chosen(self, n: int, partners: Atoms, spread: float, generator: torch.Generator) -> Tensor:
        """n of these atoms (n, d), drawn with the probabilities a_i Σ_j w_j N(s_i | r_j, spread)."""
        raise NotImplementedError

    def spread(self, t: Tensor, x: Tensor) -> Tensor:
        """e(1−t) + v for every point of x, (n, 1)."""
        variance = 2 * self.epsilon * (1 - t.to(x)) + self.variance
        return torch.broadcast_to(variance, x[..., :1].shape).reshape(-1, 1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        y = self.wide(x)
        points, spread = y.reshape(-1, y.shape[-1]), self.spread(t, y)
        return (2 * self.epsilon * (self.mean(points, spread) - points) / spread).reshape(y.shape).to(x)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x) = e log φ, (n,): t a number in a tensor or (n, 1), x (n, d)."""
        y = self.wide(x)
        return (2 * self.epsilon * self.log_sum(y, self.spread(t, y))).to(x)

    def wide(self, x: Tensor) -> Tensor:
        """x in the precision of the atoms."""
        return x.to(next(self.buffers()))


class AtomBridge(ExactBridge):
    """The Schrödinger bridge between smoothed atoms.

    Args:
        forward_field: the atoms after t = 1.
        backward_field: the atoms before t = 0, as a field in reversed time.
        epsilon: ε.
    """

    forward_field: Atoms
    backward_field: Reversed

    def __init__(self, forward_field: Atoms, backward_field: Reversed, epsilon: float) -> None:
        super().__init__(forward_field, backward_field, epsilon)

    @property
    def sources(self) -> Atoms:
        """The atoms before t = 0."""
        assert isinstance(self.backward_field.inner, Atoms)
        return self.backward_field.inner

    @property
    def span(self) -> float:
        """e + v₀ + v₁, the variance of the Brownian noise between the atoms of both sides."""
        return 2 * self.epsilon + self.sources.variance + self.forward_field.variance

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x), (n,): t a number in a tensor or (n, 1), x (n, d).  b_F = ∇λ, and ∂tλ + ½|∇λ|² + εΔλ = 0."""
        return self.forward_field.potential(t, x)

    def log_density(self, t: Tensor, x: Tensor) -> Tensor:
        """log ρ_t(x), (n,): t a number in a tensor or (n, 1), x (n, d)."""
        return (self.forward_field.potential(t, x) + self.sources.potential(1 - t, x)) / (2 * self.epsilon)

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs (x0, x1) of the exact plan, (n, d) each, in double precision."""
        start = self.sources.chosen(n, self.forward_field, self.span, generator)
        goal = self.forward_field.draw(start, torch.full_like(start[:, :1], self.span), generator)
        x0 = _towards(start, goal, self.sources.variance, self.span, generator)
        return x0, self._end(x0, goal, generator)

    def endpoints(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        y = self.forward_field.wide(x0)
        goal = self.forward_field.draw(y, self._left(y), generator)
        return self._end(y, goal, generator).to(x0)

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        y, e, v = self.forward_field.wide(x0), 2 * self.epsilon, self.forward_field.variance
        mean, cov = self.forward_field.moments(y, self._left(y))
        share, noise = e / (e + v), e * v / (e + v) * torch.eye(y.shape[1]).to(y)
        return ((1 - share) * y + share * mean).to(x0), (share**2 * cov + noise).to(x0)

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt = E[λ(1, x1) − λ(0, x0)], from 65,536 pairs of the plan."""
        device = next(self.buffers()).device
        x0, x1 = self.pairs(_ENERGY_PAIRS, torch.Generator(device).manual_seed(0))
        zero = torch.zeros((), device=device)
        return Estimate.of(self.potential(zero + 1, x1) - self.potential(zero, x0))

    def _left(self, x0: Tensor) -> Tensor:
        """Variance of the noise from t = 0 to the atoms after t = 1, for every point: (n, 1)."""
        return self.forward_field.spread(torch.zeros((), device=x0.device), x0)

    def _end(self, x0: Tensor, goal: Tensor, generator: torch.Generator) -> Tensor:
        e = 2 * self.epsilon
        return _towards(x0, goal, e, e + self.forward_field.variance, generator)


def _towards(start: Tensor, goal: Tensor, gone: float, whole: float, generator: torch.Generator) -> Tensor:
    """A Brownian bridge of variance `whole` from start to goal (n, d), after the variance `gone`."""
    z = torch.randn(start.shape, dtype=start.dtype, device=start.device, generator=generator)
    noise: Tensor = (gone * (whole - gone) / whole) ** 0.5 * z
    return start + gone / whole * (goal - start) + noise
