"""The bridge of a fitted mixture potential: its drift, its plan and its dual, in the user's coordinates."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sbridge.bridge import ExactBridge
from sbridge.estimates import Estimate
from sbridge.fields import Field, Framed, Reversed
from sbridge.potentials.backward import MixtureBackward
from sbridge.potentials.field import MixtureDrift

__all__ = ["PotentialBridge", "TurnedPotential", "WithBackwardPotential"]


class PotentialBridge(ExactBridge):
    """The bridge of a fitted mixture potential.

    Args:
        forward_field: a `MixtureDrift` in the coordinates of the fit, seen from the user's.
        backward_field: the backward drift.
        epsilon: ε.
        starts: points of ρ₀ (n, d) that the moments of ρ1 are averaged over.
        dual, dual_error: D(λ) on held-out points and its standard error.
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
    def drift(self) -> MixtureDrift:
        """∇λ in the coordinates of the fit."""
        assert isinstance(self.forward_field.inner, MixtureDrift)
        return self.forward_field.inner

    @property
    def components(self) -> int:
        """K."""
        return len(self.drift.log_weights)

    @property
    def held_out_dual(self) -> Estimate:
        """D(λ) ≤ KE* on held-out points, in squared units of the data."""
        return Estimate(self.dual, self.dual_error)

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ(t, x), (n,): t a number in a tensor or (n, 1), x (n, d).  b_F = ∇λ, and ∂tλ + ½|∇λ|² + εΔλ = 0."""
        return self.forward_field.potential(self.drift.potential, t, x)

    def backward_potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ̃(t, x), (n,), of the backward process: b_B = −∇λ̃, and ∂tλ̃ − ½|∇λ̃|² − εΔλ̃ = 0; arguments as above.

        In reversed time that process is the Schrödinger bridge of λ̃, from whatever law at t = 1.
        """
        framed = self.backward_field
        assert isinstance(framed, Framed)
        return framed.potential(partial(_backward_potential, framed.inner), t, x, back=True)

    def dual_on(
        self, x0: Tensor, x1: Tensor, weights0: Tensor | None = None, weights1: Tensor | None = None
    ) -> Estimate:
        """D(λ) = E λ(1, x1) − E λ(0, x0) ≤ KE* on any points (n0, d), (n1, d), in squared units of the data.

        The points may have weights, (n0,) and (n1,).
        """
        zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
        start = Estimate.of(self.potential(zero, x0).double(), weights0)
        end = Estimate.of(self.potential(zero + 1, x1).double(), weights1)
        return Estimate(end.value - start.value, (start.standard_error**2 + end.standard_error**2) ** 0.5)

    def endpoints(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        return self.forward_field.draw_end(torch.zeros_like(x0[:1, :1]), x0, generator)

    def conditional_moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        return self._outside(self.drift.conditional_moments(self._inside(x0, self.forward_field.shift0)), x0)

    def endpoint_moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of the law at t = 1, by the exact moments given up to 4,096 points of x0."""
        y0 = self._inside(self.starts, self.forward_field.shift0)
        return self._outside(deepcopy(self.drift).double().endpoint_moments(y0.double()), self.starts)

    def kinetic_energy(self) -> Estimate:
        """½E∫|u|²dt = E λ(1, X₁) − E λ(0, x₀), from one end drawn for each of those points."""
        generator = torch.Generator(self.starts.device).manual_seed(0)
        zero = torch.zeros((), dtype=self.starts.dtype, device=self.starts.device)
        ends = self.potential(zero + 1, self.endpoints(self.starts, generator))
        return Estimate.of((ends - self.potential(zero, self.starts)).double())

    def _inside(self, x: Tensor, centre: Tensor) -> Tensor:
        return ((x - centre) / self.forward_field.scale).to(self.drift.centres)

    def _outside(self, moments: tuple[Tensor, Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance at t = 1 in the user's coordinates."""
        mean, cov = moments
        framed = self.forward_field
        return (framed.shift1 + framed.scale * mean).to(like), (framed.scale**2 * cov).to(like)


def _backward_potential(field: object, t: Tensor, y: Tensor) -> Tensor:
    if isinstance(field, Reversed):  # a second potential, fitted with x0 and x1 exchanged
        assert isinstance(field.inner, MixtureDrift)
        return field.inner.potential(1 - t, y)
    assert isinstance(field, MixtureBackward)
    return field.potential(t, y)


@runtime_checkable
class WithBackwardPotential(Protocol):
    """A bridge that knows the potential of its backward process."""

    @property
    def epsilon(self) -> float: ...

    def backward_potential(self, t: Tensor, x: Tensor) -> Tensor:
        """As `PotentialBridge.backward_potential`."""


@dataclass(frozen=True)
class TurnedPotential:
    """The potential of a bridge's backward process in reversed time: of the Schrödinger bridge that starts at x1."""

    bridge: WithBackwardPotential

    @property
    def epsilon(self) -> float:
        return self.bridge.epsilon

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ̃(1 − t, x), as `PotentialBridge.backward_potential`."""
        return self.bridge.backward_potential(1 - t, x)
