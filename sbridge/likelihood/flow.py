"""Log-densities by the probability flow."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sbridge.checks import Checked, Count
from sbridge.densities import Density
from sbridge.likelihood.base import End, LogDensity, Model, clock, finite, joined, rows_at_once, times_from
from sbridge.likelihood.divergences import Divergence, Exact, traced
from sbridge.sampling import HEUN, Integrator, integrate

__all__ = ["ProbabilityFlow"]


@dataclass(frozen=True)
class ProbabilityFlow(Checked):
    """By the flow Ẋ = b: one path a point, no noise.

    Args:
        divergence: `Exact()`, or `Hutchinson(probes)` for high dimensions.
        steps: of the flow, finer near both ends.
        stepper: `EULER`, `HEUN`, `RK4` or `Adaptive()` of `sbridge.sampling`, which ignores `steps`.
    """

    divergence: Divergence = field(default_factory=Exact)
    steps: Count = 100
    stepper: Integrator = HEUN

    def log_density(
        self, model: Model, x: Tensor, at: End, base: Density, generator: torch.Generator
    ) -> LogDensity[Tensor]:
        """As in `DensityMethod`."""
        parts = [self._of(model, part, times_from(at), base, generator) for part in x.split(rows_at_once(x))]
        return joined(parts, base)

    def _of(
        self, model: Model, x: Tensor, times: tuple[float, float], base: Density, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        dim, directions = x.shape[1], self.divergence.directions(x, generator)

        def velocity_of(t: Tensor, x: Tensor) -> tuple[Tensor]:
            there, back = model.drifts(t, x).chunk(2, dim=-1)
            return ((there + back) / 2,)

        def rate(tau: Tensor, state: Tensor) -> Tensor:
            t, pace = clock(tau)
            (velocity,), parts = traced(velocity_of, t, state[:, :dim], directions)
            return pace * torch.cat([velocity, parts], dim=-1)

        with torch.no_grad():
            start = torch.cat([x, x.new_zeros(len(x), len(directions))], dim=-1)
            *_, state = integrate(rate, start, times, 0.0, self.steps, self.stepper, generator)
            value, error = self.divergence.total(finite(state)[:, dim:])
            return base.log_prob(state[:, :dim]) + value, error
