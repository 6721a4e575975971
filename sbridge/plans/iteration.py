"""Sinkhorn's algorithm as a loop: from a start by annealing, extrapolated.

Anderson's extrapolation of the last iterations takes Sinkhorn from a rate 1−δ to about 1−√δ (Walker & Ni, SIAM J.
Numer. Anal. 49, 2011; for Sinkhorn: Chizat et al., arXiv 2006.08172).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import torch
from torch import Tensor

from sbridge.plans.cost import Cost, scaled_cost

__all__ = ["Anderson", "annealed_potential", "sinkhorn"]

_PAST_ITERATIONS = 8  # that are extrapolated from
_SMALLEST_EIGENVALUE = 1e-10  # over the largest; directions below it are left out of the extrapolation
_ERROR_GROWTH = 2.0  # over the smallest error so far, above which an extrapolation is taken back
_ITERATIONS_PER_EPSILON = 10  # of annealing


def sinkhorn(cost: Cost, g: Tensor) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Iterates without end, from g (n1,): f (n0,) with exact rows, g, and the sum of absolute errors of the columns."""
    extrapolation = Anderson()
    while True:
        f, masses = cost.half_step(g)
        error = float((cost.column_weights * (masses - 1).abs()).mean())
        yield f, g, error
        g = extrapolation.next(g, -masses.log(), error)


def annealed_potential(
    x0: Tensor, x1: Tensor, epsilon: float, weights0: Tensor | None = None, weights1: Tensor | None = None
) -> Tensor:
    """A start g (n1,) for Sinkhorn's algorithm: ε is halved from where the largest cost is about one to its own value.

    2εg stays when ε is halved, so g doubles.  Memory grows with n0 n1.
    """
    g = torch.zeros(len(x1), dtype=torch.float64, device=x1.device)
    halvings = max(0, int(scaled_cost(x0, x1, epsilon).max().clamp(min=1).log2().ceil()))
    for level in range(halvings, 0, -1):
        cost = Cost.between(x0, x1, epsilon * 2.0**level, weights0, weights1)
        g = 2 * cost.refined(g, _ITERATIONS_PER_EPSILON)
    return g


class Anderson:
    """Anderson's extrapolation of a fixed-point iteration, which converges wherever the plain iteration does.

    Where the error grows well above the smallest so far, the extrapolation is taken back: a plain step from the point
    of the smallest error follows, and plain Sinkhorn steps never raise the error.
    """

    def __init__(self) -> None:
        self.points: list[Tensor] = []
        self.steps: list[Tensor] = []
        self.smallest_error = inf
        self.best: tuple[Tensor, Tensor]

    def next(self, point: Tensor, step: Tensor, error: float) -> Tensor:
        """The next point, from a point, the plain step there, and the error there."""
        if error < self.smallest_error:
            self.smallest_error, self.best = error, (point, step)
        if error > _ERROR_GROWTH * self.smallest_error:
            point, step = self.best
            self.points, self.steps = [], []
        self.points = [*self.points[-_PAST_ITERATIONS:], point]
        self.steps = [*self.steps[-_PAST_ITERATIONS:], step]
        return point + step - self._correction(step)

    def _correction(self, step: Tensor) -> Tensor:
        """The combination of past differences whose steps fit this step best, by least squares."""
        if len(self.points) == 1:
            return torch.zeros_like(step)
        points, steps = (torch.stack(past).diff(dim=0) for past in (self.points, self.steps))
        inverse = torch.linalg.pinv(steps @ steps.T, rtol=_SMALLEST_EIGENVALUE, hermitian=True)
        correction: Tensor = (inverse @ (steps @ step)) @ (points + steps)
        return correction
