"""Log-densities by weighted random paths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from math import log, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from sbridge.checks import Checked, Count, Several
from sbridge.densities import Density
from sbridge.likelihood.base import End, LogDensity, Model, clock, finite, joined, rows_at_once, times_from
from sbridge.likelihood.divergences import axes, traced
from sbridge.sampling import RK4

__all__ = ["FeynmanKac", "PathMethod", "Terms", "Tilted", "TiltedBound"]


class Terms(NamedTuple):
    """At places (n, d): the paths' drift (n, d), the divergence in the weight (n,), and the guide (n, d), s or zero."""

    drift: Tensor
    divergence: Tensor
    guide: Tensor


@dataclass(frozen=True)
class PathMethod(Checked, ABC):
    """By weighted random paths from each point; the log-density is a summary of their log-weights.

    Args:
        paths: from each point, at least two, so that there is a standard error.
        steps: of each path, finer near both ends.  A step takes four evaluations of drifts and exact divergence.
    """

    paths: Several = 32
    steps: Count = 25

    def log_density(
        self, model: Model, x: Tensor, at: End, base: Density, generator: torch.Generator
    ) -> LogDensity[Tensor]:
        """As in `DensityMethod`."""
        blocks = x.split(max(1, rows_at_once(x) // self.paths))
        parts = [self.summary(self.log_weights(model, block, at, base, generator)) for block in blocks]
        return joined(parts, base)

    def log_weights(self, model: Model, x: Tensor, at: End, base: Density, generator: torch.Generator) -> Tensor:
        """log w of every path from x (n, d): (n, paths)."""
        sizes = torch.arange(self.paths).split(max(1, rows_at_once(x) // max(1, len(x))))
        runs = (self._run(model, x.repeat_interleave(len(size), 0), at, base, generator) for size in sizes)
        return torch.cat([run.view(len(x), -1) for run in runs], dim=1)

    def _run(self, model: Model, x: Tensor, at: End, base: Density, generator: torch.Generator) -> Tensor:
        """log w of one path from each row of x."""
        start, stop = times_from(at)
        grid = torch.linspace(start, stop, self.steps + 1, dtype=x.dtype, device=x.device)
        spans = clock(grid)[0].diff().abs()
        with torch.no_grad():
            state = torch.cat([x, torch.zeros_like(x[:, :1])], dim=-1)
            for tau, step, span in zip(grid, grid.diff(), spans, strict=False):
                z = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
                rate = partial(self._rate, model, stop - start, (2 * model.epsilon * span).sqrt() / step * z)
                state = RK4.step(rate, tau, step, state, torch.zeros_like(state))
            state = finite(state)
            return base.log_prob(state[:, :-1]) + state[:, -1]

    def _rate(self, model: Model, sign: float, noise_rate: Tensor, tau: Tensor, state: Tensor) -> Tensor:
        """d(X, log w)/dτ while the noise N = noise_rate · dτ comes in evenly."""
        t, pace = clock(tau)
        drift, divergence, guide = self.terms(model, sign, t, state[:, :-1])
        gain = pace * (divergence - sign * model.epsilon * guide.square().sum(-1)) - (guide * noise_rate).sum(-1)
        return torch.cat([pace * drift + noise_rate, gain[:, None]], dim=-1)

    @abstractmethod
    def terms(self, model: Model, sign: float, t: Tensor, x: Tensor) -> Terms:
        """Drift, divergence and guide at x (n, d) and t (); `sign` is σ."""

    @abstractmethod
    def summary(self, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Value and standard error, each (n,), from the log-weights (n, paths)."""


@dataclass(frozen=True)
class FeynmanKac(PathMethod):
    """By paths with the model's own drift f: unbiased in the density; weights vary even where the model is exact."""

    paths: Several = 256

    def terms(self, model: Model, sign: float, t: Tensor, x: Tensor) -> Terms:
        own = model.forward_field if sign < 0 else model.backward_field
        (drift,), parts = traced(lambda t, x: (own(t, x),), t, x, axes(x))
        return Terms(drift, parts.sum(-1), torch.zeros_like(x))

    def summary(self, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        return _log_mean_exp(log_weights)


@dataclass(frozen=True)
class Tilted(PathMethod):
    """By paths with the drift of the reversal, importance-weighted.  Unbiased in the density; the method of choice.

    The better s is as a score, the less the weights vary; what remains is seen in the standard error.
    """

    def terms(self, model: Model, sign: float, t: Tensor, x: Tensor) -> Terms:
        (velocity, score), parts = traced(partial(_velocity_and_score, model), t, x, axes(x))
        return Terms(velocity + sign * model.epsilon * score, parts.sum(-1), score)

    def summary(self, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        return _log_mean_exp(log_weights)


@dataclass(frozen=True)
class TiltedBound(Tilted):
    """E log w of the tilted paths: below log ρ̂, and equal to it where s is the model's score."""

    paths: Several = 8

    def summary(self, log_weights: Tensor) -> tuple[Tensor, Tensor]:
        return log_weights.mean(-1), log_weights.std(-1) / sqrt(log_weights.shape[1])


def _velocity_and_score(model: Model, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    forward, backward = model.drifts(t, x).chunk(2, dim=-1)
    return (forward + backward) / 2, (forward - backward) / (2 * model.epsilon)


def _log_mean_exp(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean weight, and its standard error by the delta method, each (n,)."""
    paths = log_weights.shape[1]
    value = torch.logsumexp(log_weights, dim=1) - log(paths)
    return value, (log_weights - value[:, None]).exp().std(1) / sqrt(paths)
