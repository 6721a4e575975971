"""Paths of a drift û, and what they say of it: how far from references, how much energy, whether a martingale.

Euler–Maruyama paths of dX = û dt + √(2ε) dW on the grid t_k = sin²(πk/2n), which is denser towards both ends, add up

    cross  = (1/4ε) ∫(û − ∇λ₁)·(û − ∇λ₂)dt,   own = (1/8ε) ∫|∇λ₁ − ∇λ₂|²dt,   energy = ½∫|û|²dt

for two reference drifts, the first two up to t = .99 like path KL.  The drift u of a Schrödinger bridge satisfies the
Hamilton–Jacobi–Bellman equation, whose gradient says that u(t, X_t) is a martingale: its change Δ over a stretch of
time is pure chance, and two independent continuations Δ, Δ' from one place have E Δ·Δ' = 0.  Over eleven stretches of
[0, .98],

    hjb = (1/4ε) E ΣΔ·Δ',   turning = (1/4ε) E Σ|Δ|² ≥ hjb,   curl = ⅛E∫|∇u − (∇u)ᵀ|²dt

have no units.  For the bridge `hjb` and `curl` are zero, and `turning` is about ½E∫|∇u|²dt, of which `curl` is the
share of the antisymmetric part.  (A squared residual of the equation itself needs second derivatives, whose Monte Carlo
error is hopeless where the drift decides between clusters.)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sin

import torch
from torch import Tensor

from sbridge.errors import DivergenceError
from sbridge.estimates import Estimate
from sbridge.evaluation.metrics import HORIZON
from sbridge.fields import VectorField

__all__ = ["Walk", "martingale", "rotation", "run"]

_STEPS, _KEPT = 60, 5  # every fifth state is kept
_GRID = [sin(pi / 2 * k / _STEPS) ** 2 for k in range(_STEPS + 1)]
_WITNESSES = 1024  # paths at most, for hjb and curl
_SPAN = 2e-4  # of the time left: the square of the finite differences' step, in units of the noise


class Walk:
    """Euler–Maruyama paths of û, and what they add up: `cross`, `own` and `energy`, (n,) each, in float64.

    `carried` is x₀ + ∫û dt along each path: X₁ without the noise, with the same mean.
    """

    def __init__(self, drift: VectorField, references: Sequence[VectorField], epsilon: float, x: Tensor) -> None:
        self.drift, self.references, self.epsilon = drift, references, epsilon
        self.x, self.carried, self.states = x, x, [x]
        self.cross, self.own, self.energy = torch.zeros(3, len(x), dtype=torch.float64, device=x.device)

    def drift_at(self, k: int, x: Tensor) -> Tensor:
        """û at the k-th time of the grid."""
        return self.drift(torch.tensor(_GRID[k], dtype=x.dtype, device=x.device), x)

    def at(self, share: float) -> Tensor:
        """The states when that share of the steps is made, (n, d): a third, a half, two thirds are t = ¼, ½ and ¾."""
        return self.states[round(share * _STEPS / _KEPT)]

    def step(self, k: int, to: int, noise: Tensor) -> None:
        """From the k-th time of the grid to a later one with the noise √(2ε) dW, (n, d)."""
        start, stop = _GRID[k], _GRID[to]
        t = torch.tensor(start, dtype=self.x.dtype, device=self.x.device)
        u = self.drift(t, self.x).to(self.x)
        first, second = (u - reference(t, self.x) for reference in self.references)
        share = max(min(stop, HORIZON) - start, 0.0) / (4 * self.epsilon)
        self.cross += share * (first * second).double().sum(-1)
        self.own += share / 2 * (first - second).double().square().sum(-1)
        self.energy += (stop - start) / 2 * u.double().square().sum(-1)
        self.carried = self.carried + u * (stop - start)
        self.x = self.x + u * (stop - start) + noise
        if to % _KEPT == 0:
            self.states.append(self.x)


def run(fine: Walk, coarse: Walk, generator: torch.Generator) -> None:
    """Both from 0 to 1 with one noise, `coarse` in steps of twice the length.

    Raises:
        DivergenceError: a path runs to no finite place.
    """
    for k in range(0, _STEPS, 2):
        noises = [_noise(fine, _GRID[j + 1] - _GRID[j], fine.x, generator) for j in (k, k + 1)]
        coarse.step(k, k + 2, noises[0] + noises[1])
        for j, noise in enumerate(noises, start=k):
            fine.step(j, j + 1, noise)
    lost = int((~torch.isfinite(fine.x)).any(-1).sum())
    if lost:
        raise DivergenceError(f"the process moves {lost} of {len(fine.x)} points to no finite place")


def _noise(walk: Walk, dt: float, x: Tensor, generator: torch.Generator) -> Tensor:
    """√(2ε) dW, (n, d)."""
    z = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return z.mul_((2 * walk.epsilon * dt) ** 0.5)


def martingale(walk: Walk, generator: torch.Generator) -> tuple[Estimate, Estimate]:
    """hjb and turning, from the walk's stretches between kept states and others from the same places."""
    predicted, turned = torch.zeros(2, min(_WITNESSES, len(walk.x)), dtype=torch.float64, device=walk.x.device)
    for start in range(0, _STEPS - _KEPT, _KEPT):
        place, end = (state[:_WITNESSES] for state in walk.states[start // _KEPT :][:2])
        before = walk.drift_at(start, place)
        change, other = (
            (walk.drift_at(start + _KEPT, x) - before).double()
            for x in (end, _continued(walk, start, place, generator))
        )
        predicted += (change * other).sum(-1) / (4 * walk.epsilon)
        turned += (change.square() + other.square()).sum(-1) / (8 * walk.epsilon)
    return Estimate.of(predicted), Estimate.of(turned)


def _continued(walk: Walk, start: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """The process from x (n, d) over one stretch, with new noise."""
    for k in range(start, start + _KEPT):
        dt = _GRID[k + 1] - _GRID[k]
        x = x + dt * walk.drift_at(k, x) + _noise(walk, dt, x, generator)
    return x


def rotation(walk: Walk, generator: torch.Generator) -> Estimate:
    """⅛E∫|∇u − (∇u)ᵀ|²dt, by the trapezoidal rule over the kept states in s with t = sin²(πs/2)."""
    inner = range(_KEPT, _STEPS, _KEPT)
    weights = [pi / 2 * sin(pi * k / _STEPS) * _KEPT / _STEPS for k in inner]
    parts = [_turned(walk, k, walk.states[k // _KEPT][:_WITNESSES], generator) for k in inner]
    return Estimate.of(torch.stack([weight / 8 * part for weight, part in zip(weights, parts, strict=True)]).sum(0))


def _turned(walk: Walk, k: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """(ζ·(∇u)ξ − ξ·(∇u)ζ)² for independent standard normal ξ and ζ, of mean |∇u − (∇u)ᵀ|², (n,)."""
    size = (2 * walk.epsilon * _SPAN * (1 - _GRID[k])) ** 0.5
    xi, zeta = torch.randn(2, *x.shape, dtype=x.dtype, device=x.device, generator=generator)
    along, across = (
        (walk.drift_at(k, x + size * z) - walk.drift_at(k, x - size * z)) / (2 * size) for z in (xi, zeta)
    )
    turned: Tensor = (zeta * along - xi * across).sum(-1).double()
    return turned.square()
