"""Regression on targets that are averaged over many other pairs of the plan: the same drifts from far less noise.

Let x_t be a point on the Brownian bridge between the pair (x0, x1) of a plan with potentials f and g.  Given x_t, the
end of the pair has a law proportional to

    exp(g(y)) N(y; x_t, 2ε(1−t))   among the points y of the data.

Take the pair's own x1 and m points of the data drawn at random.  By symmetry, which of the m + 1 is the pair's own is
known only by these weights, so their weighted mean ȳ has the same expectation given x_t as x1: the target
(ȳ − x_t)/(1−t) has the mean of (x1 − x_t)/(1−t) and less variance (Rao–Blackwell).  The same holds for x0 and f with
variance 2εt.  There is no bias, whatever m is, but where the plan gives a point few partners, hardly any of m random
points carries weight, and nothing is gained.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sbridge.couplings import Coupling, Ends, OnlineSinkhorn
from sbridge.fields import Drifts
from sbridge.interpolants import Interpolant
from sbridge.solvers.data import Data
from sbridge.solvers.draws import noise_like, times_like
from sbridge.solvers.linear import linear_drifts
from sbridge.solvers.method import Batch, Draws, Method, TrainingState, target_batches

__all__ = ["OTHERS", "SmoothedRegression", "mean_end", "partners_of", "smoothing_pays"]

OTHERS = 1024  # m
_POWER = 0.75  # of the weights of `target_batches`; the late targets' share of the noise is larger here


def partners_of(coupling: Coupling, generator: torch.Generator) -> float:
    """How many of all x1 share an x0, where pairs are drawn from a plan between all points; 0 where they are not."""
    return coupling.effective_partners(generator) if isinstance(coupling, OnlineSinkhorn) else 0.0


def smoothing_pays(coupling: Coupling, partners: float) -> bool:
    """Whether about one of the other points, or more, is among the partners of a point."""
    return partners * OTHERS >= len(coupling.x1)


class SmoothedRegression(Method):
    """Regression on the Brownian bridges between the pairs of a plan, with smoothed targets.

    Args:
        interpolant: the linear one with Brownian noise.
        draws: what its points are made of; their coupling is an `OnlineSinkhorn`.
        round_steps: batches of a round.
    """

    def __init__(self, interpolant: Interpolant, draws: Draws, round_steps: int) -> None:
        self.interpolant, self.draws, self.round_steps = interpolant, draws, round_steps

    def batches(self, training: TrainingState) -> Iterator[Batch]:
        with torch.no_grad():
            t, x, target = self._points(training)
        return target_batches(t, x, target, training.data.epsilon, self.draws.groups, power=_POWER)

    def known_drifts(self, data: Data) -> Drifts | None:
        """The best linear drifts."""
        return linear_drifts(self.interpolant, self.draws.coupling, data)

    def trial(self) -> Method:
        return self.with_half_batches()

    def _points(self, training: TrainingState) -> tuple[Tensor, Tensor, Tensor]:
        """Times (groups, 1, 1), points (groups, points, d) and the targets of both drifts (groups, points, 2d)."""
        draws, epsilon, generator = self.draws, training.data.epsilon, training.generator
        assert isinstance(draws.coupling, OnlineSinkhorn)
        total = self.round_steps * draws.groups
        start, end = draws.coupling.ends(total * draws.pairs, generator)
        others0, others1 = draws.coupling.others(OTHERS, generator)
        x0, x1 = (one.x.view(total, draws.pairs, -1) for one in (start, end))
        t = times_like(x0, draws.times, self.round_steps, generator)
        x = self.interpolant.path(t, x0, x1, noise_like(x0, generator)).antithetic().x
        there = mean_end(x, 2 * epsilon * (1 - t), end, others1)
        back = mean_end(x, 2 * epsilon * t, start, others0)
        return t, x, torch.cat([(there - x) / (1 - t), (x - back) / t], dim=-1)


def mean_end(x: Tensor, variance: Tensor, own: Ends, others: Ends) -> Tensor:
    """The mean of each pair's own end and the other points under the weights exp(potential) N(·; x, variance).

    Args:
        x: points (groups, 2p, d), the p pairs of a group with z and then with −z.
        variance: (groups, 1, 1).
        own: ends of the pairs, in the order of the groups: (groups·p, d).
        others: other points of the same data, (m, d).
    """
    groups, count, dim = x.shape
    near = own.x.view(groups, 1, -1, dim).expand(-1, 2, -1, -1).reshape(groups, count, dim)
    level = own.potential.view(groups, 1, -1).expand(-1, 2, -1).reshape(groups, count, 1).to(x)
    far = torch.baddbmm(
        _exponent(others.potential.to(x), others.x, variance), x / variance, others.x.mT.expand(groups, dim, -1)
    )
    close = level + (near * (x - near / 2) / variance).sum(-1, keepdim=True)
    weights = torch.softmax(torch.cat([far, close], dim=-1), dim=-1)
    value: Tensor = weights[..., :-1] @ others.x + weights[..., -1:] * near
    return value


def _exponent(potential: Tensor, y: Tensor, variance: Tensor) -> Tensor:
    """What the logarithm of the weight of y (m, d) has besides ⟨x, y⟩/variance: (groups, 1, m)."""
    return potential - y.square().sum(-1) / (2 * variance)
