"""Regression targets of the stochastic interpolant and the one quadratic loss.

Every field is a conditional expectation E[α ∂tI + c(t) z | x_t], the minimiser of ∫E[½|f|² − f·target]dt:

    velocity b   α = 1, c = γ̇           mean velocity v   α = 1, c = 0
    denoiser η   α = 0, c = 1            score s           α = 0, c = −1/γ
    drift b + εs α = 1, c = γ̇ − ε/γ      (the backward drift b − εs is the drift of −ε)

γ̇ and 1/γ are infinite at the ends; the average over an antithetic pair ±z is finite there (`Path.antithetic`).

Albergo, Boffi, Vanden-Eijnden, arXiv 2303.08797, theorems 2.7–2.9 and section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sbridge.interpolants import Path

__all__ = ["Denoiser", "Drift", "MeanVelocity", "Objective", "Score", "Velocity", "quadratic_loss"]


class Objective(Protocol):
    """What a field is regressed on."""

    def target(self, path: Path) -> Tensor:
        """The regression target at path.x, of its shape."""


class Velocity:
    """b = E[∂tI + γ̇z | x_t], the velocity of the probability flow."""

    def target(self, path: Path) -> Tensor:
        return path.mean_rate + path.gamma_rate * path.z


class MeanVelocity:
    """v = E[∂tI | x_t] = b + γγ̇s."""

    def target(self, path: Path) -> Tensor:
        return path.mean_rate


class Denoiser:
    """η = E[z | x_t] = −γs."""

    def target(self, path: Path) -> Tensor:
        return path.z


class Score:
    """s = ∇log ρ_t = E[−z/γ | x_t]."""

    def target(self, path: Path) -> Tensor:
        return -path.z / path.gamma


@dataclass(frozen=True)
class Drift:
    """b + εs, the drift of the forward process of diffusion ε; with −ε, that of the backward process."""

    epsilon: float

    def target(self, path: Path) -> Tensor:
        return path.mean_rate + (path.gamma_rate - self.epsilon / path.gamma) * path.z


def quadratic_loss(value: Tensor, target: Tensor) -> Tensor:
    """½|f|² − f·target at each point, (..., d) → (...); its mean is smallest where f = E[target | x_t]."""
    return (value * (0.5 * value - target)).sum(-1)
