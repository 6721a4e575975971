"""Steppers for the generative equations dX = f(t, X) dt + √(2D) dW, in either direction of time.

A method is its Butcher tableau.  Orders for smooth f: Euler 1, Heun 2, RK4 4 without noise.  The noise is additive, and
a step's stages share its increment: with it, Euler is Euler–Maruyama (strong and weak order 1) and Heun is stochastic
Heun (weak order 2).

The backward equation of a drift b_B (Albergo et al., arXiv 2303.08797, eq. 2.32) is integrated with the same f = b_B
from t = 1 to 0: a negative step turns the drift's sign around and leaves the size √(2D|dt|) of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["EULER", "HEUN", "RK4", "Stepper", "integrate"]


@dataclass(frozen=True)
class Stepper:
    """An explicit Runge–Kutta method.

    Args:
        stages: row i weighs slopes 0 … i−1 in the place where slope i is taken.
        weights: of all slopes in the step.
    """

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def step(
        self, drift: Callable[[Tensor, Tensor], Tensor], t: Tensor, dt: Tensor, x: Tensor, noise: Tensor
    ) -> Tensor:
        """The state at t + dt from x at t: t and dt scalars, x and noise = √(2D) dW of shape (n, d)."""
        slopes: list[Tensor] = []
        for row in self.stages:
            place = x + _combine(row, slopes, dt) + sum(row) * noise
            slopes.append(drift(t + sum(row) * dt, place))
        return x + _combine(self.weights, slopes, dt) + noise


def _combine(weights: Sequence[float], slopes: Sequence[Tensor], dt: Tensor) -> Tensor | float:
    return sum((w * dt * slope for w, slope in zip(weights, slopes, strict=True) if w), 0.0)


EULER = Stepper(stages=((),), weights=(1.0,))
HEUN = Stepper(stages=((), (1.0,)), weights=(0.5, 0.5))
RK4 = Stepper(stages=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6))


def integrate(
    drift: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    times: Sequence[float],
    diffusion: float,
    steps: int,
    stepper: Stepper,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """The states at each of `times`, the first of which is where x (n, d) stands.

    Times rise (forward) or fall (backward); `steps` is the number of steps per unit of time.
    """
    yield x
    for start, stop in pairwise(times):
        count = max(1, round(steps * abs(stop - start)))
        grid = torch.linspace(start, stop, count + 1, dtype=x.dtype, device=x.device)
        for t, dt in zip(grid, grid.diff(), strict=False):
            x = stepper.step(drift, t, dt, x, _noise(x, diffusion, dt, generator))
        yield x


def _noise(x: Tensor, diffusion: float, dt: Tensor, generator: torch.Generator) -> Tensor:
    if not diffusion:
        return torch.zeros_like(x)
    z = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return (2 * diffusion * dt.abs()).sqrt() * z
