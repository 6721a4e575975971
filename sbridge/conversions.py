"""From one field of an interpolant to another.

    s = −η/γ,    η = −γs,    b = v − γγ̇s,    v = b + γγ̇s,    b_F = b + εs,    b_B = b − εs,

and for a one-sided interpolant x_t = αz + βx1, whose denoiser alone gives everything,

    b = α̇η + (β̇/β)(x − αη).

A division by γ or β has no value where they vanish; there, and nearer than 0.001, the field of the time 0.001 away from
the end is given.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, sections 2.2, 2.3 and 3.2 (eq. 3.19).
"""

from __future__ import annotations

from torch import Tensor

from sbridge.fields import Field
from sbridge.interpolants import Interpolant, OneSided, with_rate

__all__ = ["DenoiserFromScore", "DriftFromVelocity", "MeanVelocityFromVelocity", "ScoreFromDenoiser"]
__all__ += ["ScoreFromDrifts", "VelocityFromDenoiser", "VelocityFromDrifts", "VelocityFromMeanVelocity"]

_NEAREST = 1e-3  # to an end


class _Derived(Field):
    """A field made of others, of their dimension."""

    @property
    def dim(self) -> int | None:
        return next(part.dim for part in self.children() if isinstance(part, Field))


class ScoreFromDenoiser(_Derived):
    """s = −η/γ."""

    def __init__(self, denoiser: Field, interpolant: Interpolant) -> None:
        super().__init__()
        self.denoiser, self.interpolant = denoiser, interpolant

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        held = _held(t)
        return -self.denoiser(held, x) / self.interpolant.variance(held).sqrt()


class DenoiserFromScore(_Derived):
    """η = −γs."""

    def __init__(self, score: Field, interpolant: Interpolant) -> None:
        super().__init__()
        self.score, self.interpolant = score, interpolant

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.interpolant.variance(t).sqrt() * self.score(t, x)


class VelocityFromMeanVelocity(_Derived):
    """b = v − γγ̇s."""

    def __init__(self, mean_velocity: Field, score: Field, interpolant: Interpolant) -> None:
        super().__init__()
        self.mean_velocity, self.score, self.interpolant = mean_velocity, score, interpolant

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.mean_velocity(t, x) - _half_rate(self.interpolant, t) * self.score(t, x)


class MeanVelocityFromVelocity(_Derived):
    """v = b + γγ̇s."""

    def __init__(self, velocity: Field, score: Field, interpolant: Interpolant) -> None:
        super().__init__()
        self.velocity, self.score, self.interpolant = velocity, score, interpolant

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.velocity(t, x) + _half_rate(self.interpolant, t) * self.score(t, x)


class DriftFromVelocity(_Derived):
    """b + εs, the drift of the forward process of diffusion ε; with −ε, that of the backward process."""

    def __init__(self, velocity: Field, score: Field, epsilon: float) -> None:
        super().__init__()
        self.velocity, self.score, self.epsilon = velocity, score, epsilon

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.velocity(t, x) + self.epsilon * self.score(t, x)


class VelocityFromDrifts(_Derived):
    """b = (b_F + b_B)/2."""

    def __init__(self, forward_field: Field, backward_field: Field) -> None:
        super().__init__()
        self.forward_field, self.backward_field = forward_field, backward_field

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return (self.forward_field(t, x) + self.backward_field(t, x)) / 2


class ScoreFromDrifts(_Derived):
    """s = (b_F − b_B)/(2ε)."""

    def __init__(self, forward_field: Field, backward_field: Field, epsilon: float) -> None:
        super().__init__()
        self.forward_field, self.backward_field, self.epsilon = forward_field, backward_field, epsilon

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return (self.forward_field(t, x) - self.backward_field(t, x)) / (2 * self.epsilon)


class VelocityFromDenoiser(_Derived):
    """b = α̇η + (β̇/β)(x − αη) of a one-sided interpolant, α in units of x (with σ₀)."""

    def __init__(self, denoiser: Field, interpolant: OneSided) -> None:
        super().__init__()
        self.denoiser, self.interpolant = denoiser, interpolant

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        held = _held(t)
        noise = self.denoiser(held, x)
        alpha, alpha_rate = with_rate(lambda s: self.interpolant.variance(s).sqrt(), held)
        beta, beta_rate = with_rate(self.interpolant.data_share, held)
        return alpha_rate * noise + beta_rate / beta * (x - alpha * noise)


def _held(t: Tensor) -> Tensor:
    return t.clamp(_NEAREST, 1 - _NEAREST)


def _half_rate(interpolant: Interpolant, t: Tensor) -> Tensor:
    """γγ̇ = ½ dγ²/dt, finite at the ends."""
    return with_rate(interpolant.variance, t)[1] / 2
