"""Laws of the times at which a training evaluates its interpolant.

The minimiser of ∫E[½|f|² − f·target] w(t) dt is the same field for every weight w > 0, so a training may draw times
from any density p and needs no weights (w = p).  Where p is large the field is fitted more accurately: the error of a
regression at t is proportional to the variance σ²(t) of its loss over the number of points there, and over all times
it is smallest for p ∝ σ.  Integrals over dt are averages with weight 1/p (`per_time`).

All times keep a distance of 0.002 from 0 and 1, where targets of a finite batch may be infinite.
"""

from __future__ import annotations

from itertools import chain
from math import asin, pi, sqrt
from typing import Annotated

import torch
from torch import Tensor, nn

from sbridge.checks import Named, checked
from sbridge.interpolants import Interpolant

__all__ = ["TIMES", "Arcsine", "GammaMatched", "LossVariance", "TimeDensity", "TimesKind", "Uniform"]

_EDGE = 0.002
_ARCSINE_EDGE = 2 / pi * asin(sqrt(_EDGE))  # share of the arcsine law of times that is left out at either end
_BINS = 64
_FLOOR = 0.1  # smallest density of a learned law over the uniform one, before normalising: no time is left out
_MEMORY = 0.02  # share of a new batch in the running variances


class TimeDensity(nn.Module):
    """A law of times; its `state_dict` holds what it has learned.

    Args:
        interpolant: the interpolant that is evaluated at these times.
    """

    @checked
    def __init__(self, interpolant: Interpolant) -> None:
        super().__init__()

    def quantile(self, uniform: Tensor) -> Tensor:
        """Times of this law from numbers (n,) that are uniform in [0, 1], in the same order."""
        raise NotImplementedError

    def per_time(self, t: Tensor) -> Tensor:
        """1/p(t): averaged with this weight, values at such times give their integral over t."""
        raise NotImplementedError

    def learn(self, t: Tensor, losses: Tensor) -> None:
        """Adapt to losses (groups, points) at times t (groups, 1, 1); fixed laws ignore them."""


class Uniform(TimeDensity):
    """p = 1: the weight of the path divergence (1/4ε)∫E|û − u|²dt."""

    def quantile(self, uniform: Tensor) -> Tensor:
        return _EDGE + (1 - 2 * _EDGE) * uniform

    def per_time(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 1 - 2 * _EDGE)


class Arcsine(TimeDensity):
    """p = 1/π√(t(1−t)): ∝ 1/γ for Brownian γ.

    The drifts vary fastest near the ends, where a uniform density would leave them unresolved.
    """

    def quantile(self, uniform: Tensor) -> Tensor:
        return torch.sin(pi / 2 * (_ARCSINE_EDGE + (1 - 2 * _ARCSINE_EDGE) * uniform)).square()

    def per_time(self, t: Tensor) -> Tensor:
        return pi * (t * (1 - t)).sqrt() * (1 - 2 * _ARCSINE_EDGE)


class _Tabulated(TimeDensity):
    """A density that is constant on each of 64 equal bins."""

    masses: Tensor

    def __init__(self, interpolant: Interpolant) -> None:
        super().__init__(interpolant)
        self.register_buffer("masses", torch.full((_BINS,), 1 / _BINS))

    def quantile(self, uniform: Tensor) -> Tensor:
        ends = self.masses.to(uniform).cumsum(0)
        bins = torch.searchsorted(ends, uniform * ends[-1]).clamp(max=_BINS - 1)
        within = 1 - (ends[bins] - uniform * ends[-1]) / self.masses.to(uniform)[bins]
        return _EDGE + (1 - 2 * _EDGE) * (bins + within.clamp(0, 1)) / _BINS

    def per_time(self, t: Tensor) -> Tensor:
        return (1 - 2 * _EDGE) / (_BINS * self.masses.to(t)[self._bins(t)])

    def _bins(self, t: Tensor) -> Tensor:
        return ((t - _EDGE) / (1 - 2 * _EDGE) * _BINS).long().clamp(0, _BINS - 1)


class GammaMatched(_Tabulated):
    """p ∝ 1/γ, the size of the singular targets' coefficients, for any interpolant.

    Where 1/γ is not integrable, as with sine-squared noise, nearly all times are next to the ends.
    """

    def __init__(self, interpolant: Interpolant) -> None:
        super().__init__(interpolant)
        place = next(chain(interpolant.parameters(), interpolant.buffers()), self.masses)  # its type and device
        middles = _EDGE + (1 - 2 * _EDGE) * (torch.arange(_BINS).to(place) + 0.5) / _BINS
        with torch.no_grad():
            density = interpolant.variance(middles[:, None]).rsqrt().squeeze(1)
        self.masses = (density / density.sum()).to(self.masses)


class LossVariance(_Tabulated):
    """p ∝ σ, the standard deviation of the loss at t, learned while training: least error over all times."""

    variances: Tensor

    def __init__(self, interpolant: Interpolant) -> None:
        super().__init__(interpolant)
        self.register_buffer("variances", torch.full((_BINS,), torch.nan))

    def learn(self, t: Tensor, losses: Tensor) -> None:
        bins, found = self._bins(t.flatten()), losses.var(-1)
        old = torch.where(self.variances[bins].isnan(), found, self.variances[bins])
        self.variances[bins] = torch.lerp(old, found, _MEMORY)
        if not self.variances.isnan().any():  # until every bin is seen, times stay uniform
            density = self.variances.sqrt()
            self.masses = (density / density.sum()).clamp(min=_FLOOR / _BINS)
            self.masses /= self.masses.sum()


TIMES: dict[str, type[TimeDensity]] = {
    "uniform": Uniform,
    "arcsine": Arcsine,
    "gamma-matched": GammaMatched,
    "loss-variance": LossVariance,
}
"""By their names, which solvers take too."""

TimesKind = Annotated[type[TimeDensity], Named(TIMES, TimeDensity)]
