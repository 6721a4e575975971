"""Paths of a drift û, their density against Brownian motion, and whether û is a martingale and a gradient.

Euler–Maruyama paths of dX = û dt + √(2ε) dW on the grid t_k = 1 − (1 − k/n)³, which is denser towards the end, have
against the Brownian chain W of the same steps h_k and increments √(2ε) ΔB_k, with e = 2ε, exactly

    log dP_û/dW = Σ_k ½|û_k|²h_k/e + û_k·ΔB_k/√e.

The drift u of a Schrödinger bridge satisfies the Hamilton–Jacobi–Bellman equation, whose gradient says that u(t, X_t)
is a martingale: its change Δ over a stretch of time is pure chance, and two independent continuations Δ, Δ' from one
place have E Δ·Δ' = 0.  Over nine stretches of [0, .98],

    hjb = (1/4ε) E ΣΔ·Δ',   turning = (1/4ε) E Σ|Δ|² ≥ hjb,   curl = ⅛E∫|∇u − (∇u)ᵀ|²dt

have no units.  For the bridge `hjb` and `curl` are zero, and `turning` is about ½E∫|∇u|²dt, of which `curl` is the
share of the antisymmetric part.  (A squared residual of the equation itself needs second derivatives, whose Monte Carlo
error is hopeless where the drift decides between clusters.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import Tensor

from sbridge.errors import DivergenceError
from sbridge.estimates import Estimate
from sbridge.fields import VectorField

__all__ = ["NEAR_END", "STEPS", "Walk", "martingale", "rotation", "run"]

STEPS = 60
_KEPT = 5  # every fifth state is kept
_GRID = [1 - (1 - k / STEPS) ** 3 for k in range(STEPS + 1)]
_STRETCHES = range(0, 45, _KEPT)
NEAR_END = STEPS - _KEPT
"""A step of the grid at t = .9994."""
_BATCH = 4096  # points moved at once; more of them leave a processor's cache
_WITNESSES = 1024  # paths at most, for hjb and curl
_SPAN = 2e-4  # of the time left: the square of the finite differences' step, in units of the noise


def _before(t: float) -> int:
    """The last step of the grid at or before a time."""
    return bisect_right(_GRID, t) - 1


_AROUND = {_before(t) + k for t in (0.25, 0.5, 0.75) for k in (0, 1)}


class Walk:
    """Euler–Maruyama paths of û from x (n, d).

    Args:
        drift: û.
        epsilon: ε.
        x: where the paths start.
        watched: of how many paths, from the first, some states on the way are kept.

    Attributes:
        start, x: where the paths began and where they are, (n, d).
        log_density: log dP_û/dW so far, in nats, (n,), in float64.
        energy: ∫½|û|²dt/2ε so far, in nats, (n,), in float64.
    """

    def __init__(self, drift: VectorField, epsilon: float, x: Tensor, watched: int = 0) -> None:
        self.drift, self.epsilon, self.watched = drift, epsilon, watched
        self.start, self.x, self.states = x, x, {0: x[:watched]}
        self.log_density, self.energy = torch.zeros(2, len(x), dtype=torch.float64, device=x.device)

    def drift_at(self, k: int, x: Tensor) -> Tensor:
        """û at the k-th time of the grid."""
        t = torch.tensor(_GRID[k], dtype=x.dtype, device=x.device)
        return torch.cat([self.drift(t, part) for part in x.split(_BATCH)])

    def at(self, t: float, generator: torch.Generator) -> Tensor:
        """The watched paths at time ¼, ½ or ¾: a Brownian bridge between the steps before and after it."""
        k = _before(t)
        first, last, part = _GRID[k], _GRID[k + 1], (t - _GRID[k]) / (_GRID[k + 1] - _GRID[k])
        z = torch.randn(self.states[k].shape, dtype=self.x.dtype, device=self.x.device, generator=generator)
        noise = sqrt(2 * self.epsilon * part * (1 - part) * (last - first)) * z
        return self.states[k].lerp(self.states[k + 1], part) + noise

    def step(self, k: int, to: int, noise: Tensor) -> None:
        """From the k-th time of the grid to a later one with the noise √(2ε) dW, (n, d)."""
        h, e = _GRID[to] - _GRID[k], 2 * self.epsilon
        u = self.drift_at(k, self.x).to(self.x)
        spent = h / 2 * u.double().square().sum(-1) / e
        self.energy += spent
        self.log_density += spent + (u * noise).sum(-1).double() / e
        self.x = self.x + u * h + noise
        if to % _KEPT == 0 or to in _AROUND:
            self.states[to] = self.x[: self.watched]


def run(fine: Walk, generator: torch.Generator, told: Callable[[], None], coarser: Sequence[Walk] = ()) -> None:
    """From 0 to 1; those of `coarser` with the same noise in steps of twice the length, four times the length, …

    `told` is called after every step.

    Raises:
        DivergenceError: a path runs to no finite place.
    """
    noises = [torch.zeros_like(fine.x) for _ in coarser]
    for k in range(STEPS):
        noise = _noise(fine, k, fine.x, generator)
        fine.step(k, k + 1, noise)
        for power, walk in enumerate(coarser):
            stride = 2 ** (power + 1)
            noises[power] = noises[power] + noise
            if (k + 1) % stride == 0:
                walk.step(k + 1 - stride, k + 1, noises[power])
                noises[power] = torch.zeros_like(noise)
        told()
    lost = int((~torch.isfinite(fine.x)).any(-1).sum())
    if lost:
        raise DivergenceError(f"the process moves {lost} of {len(fine.x)} points to no finite place")


def _noise(walk: Walk, k: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """√(2ε) dW of the k-th step, (n, d)."""
    z = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return z.mul_(sqrt(2 * walk.epsilon * (_GRID[k + 1] - _GRID[k])))


def martingale(walk: Walk, generator: torch.Generator) -> tuple[Estimate, Estimate]:
    """hjb and turning, from the walk's stretches between kept states and others from the same places."""
    count = min(_WITNESSES, walk.watched)
    predicted, turned = torch.zeros(2, count, dtype=torch.float64, device=walk.x.device)
    for start in _STRETCHES:
        place, end = (walk.states[k][:_WITNESSES] for k in (start, start + _KEPT))
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
        x = x + (_GRID[k + 1] - _GRID[k]) * walk.drift_at(k, x) + _noise(walk, k, x, generator)
    return x


def rotation(walk: Walk, generator: torch.Generator) -> Estimate:
    """⅛E∫|∇u − (∇u)ᵀ|²dt, by the trapezoidal rule over the kept states in s with t = 1 − (1 − s)³."""
    places = range(0, STEPS, _KEPT)
    weights = [3 * (1 - k / STEPS) ** 2 * _KEPT / STEPS / (1 if k else 2) for k in places]
    parts = [_turned(walk, k, walk.states[k][:_WITNESSES], generator) for k in places]
    return Estimate.of(torch.stack([weight / 8 * part for weight, part in zip(weights, parts, strict=True)]).sum(0))


def _turned(walk: Walk, k: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """(ζ·(∇u)ξ − ξ·(∇u)ζ)² for independent standard normal ξ and ζ, of mean |∇u − (∇u)ᵀ|², (n,)."""
    size = (2 * walk.epsilon * _SPAN * (1 - _GRID[k])) ** 0.5
    xi, zeta = torch.randn(2, *x.shape, dtype=x.dtype, device=x.device, generator=generator)
    along, across = ((walk.drift_at(k, x + size * z) - walk.drift_at(k, x - size * z)) / (2 * size) for z in (xi, zeta))
    turned: Tensor = (zeta * along - xi * across).sum(-1).double()
    return turned.square()
