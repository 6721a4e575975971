"""From one field of an interpolant to another.

    s = −η/γ,    η = −γs,    b = v − γγ̇s,    v = b + γγ̇s,
    b_F = b + εs,    b_B = b − εs,    b = (b_F + b_B)/2,    s = (b_F − b_B)/(2ε),

and for a one-sided interpolant x_t = αz + βx1, whose denoiser alone gives everything,

    b = α̇η + (β̇/β)(x − αη).

A division by γ or β has no value where they vanish: within 0.001 of an end, the value 0.001 away from it is given.
Every function takes fields, functions of t that broadcasts with (..., 1) and x (..., d), and gives a field.

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, sections 2.2, 2.3 and 3.2 (eq. 3.19).
"""

from __future__ import annotations

from torch import Tensor

from sbridge.fields import VectorField
from sbridge.interpolants import Interpolant, OneSided, with_rate

__all__ = ["denoiser_from_score", "drift_from_velocity", "mean_velocity_from_velocity", "score_from_denoiser"]
__all__ += ["score_from_drifts", "velocity_from_denoiser", "velocity_from_drifts", "velocity_from_mean_velocity"]

_NEAREST_TO_AN_END = 1e-3


def score_from_denoiser(denoiser: VectorField, interpolant: Interpolant) -> VectorField:
    """s = −η/γ."""

    def score(t: Tensor, x: Tensor) -> Tensor:
        held = _held(t)
        return -denoiser(held, x) / interpolant.variance(held).sqrt()

    return score


def denoiser_from_score(score: VectorField, interpolant: Interpolant) -> VectorField:
    """η = −γs."""
    return lambda t, x: -interpolant.variance(t).sqrt() * score(t, x)


def velocity_from_mean_velocity(
    mean_velocity: VectorField, score: VectorField, interpolant: Interpolant
) -> VectorField:
    """b = v − γγ̇s."""
    return lambda t, x: mean_velocity(t, x) - _half_rate(interpolant, t) * score(t, x)


def mean_velocity_from_velocity(velocity: VectorField, score: VectorField, interpolant: Interpolant) -> VectorField:
    """v = b + γγ̇s."""
    return lambda t, x: velocity(t, x) + _half_rate(interpolant, t) * score(t, x)


def drift_from_velocity(velocity: VectorField, score: VectorField, epsilon: float) -> VectorField:
    """b + εs, the drift of the forward process of diffusion ε; with −ε, that of the backward process."""
    return lambda t, x: velocity(t, x) + epsilon * score(t, x)


def velocity_from_drifts(forward: VectorField, backward: VectorField) -> VectorField:
    """b = (b_F + b_B)/2."""
    return lambda t, x: (forward(t, x) + backward(t, x)) / 2


def score_from_drifts(forward: VectorField, backward: VectorField, epsilon: float) -> VectorField:
    """s = (b_F − b_B)/(2ε)."""
    return lambda t, x: (forward(t, x) - backward(t, x)) / (2 * epsilon)


def velocity_from_denoiser(denoiser: VectorField, interpolant: OneSided) -> VectorField:
    """b = α̇η + (β̇/β)(x − αη) of a one-sided interpolant, α in units of x (with σ₀)."""

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        held = _held(t)
        noise = denoiser(held, x)
        alpha, alpha_rate = with_rate(lambda s: interpolant.variance(s).sqrt(), held)
        beta, beta_rate = with_rate(interpolant.data_share, held)
        return alpha_rate * noise + beta_rate / beta * (x - alpha * noise)

    return velocity


def _held(t: Tensor) -> Tensor:
    return t.clamp(_NEAREST_TO_AN_END, 1 - _NEAREST_TO_AN_END)


def _half_rate(interpolant: Interpolant, t: Tensor) -> Tensor:
    """γγ̇ = ½ dγ²/dt, finite at the ends."""
    return with_rate(interpolant.variance, t)[1] / 2
