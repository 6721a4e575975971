"""Pairs from one entropic plan between the whole datasets."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.checks import Count, checked
from sbridge.couplings.base import Planned
from sbridge.couplings.pool import PLAN_TOLERANCE, Pool, plan_between
from sbridge.errors import InputError

__all__ = ["WholePlan"]

_ITERATIONS = 1000  # at most


class WholePlan(Planned):
    """Pairs from the entropic plan between both datasets, or between fixed random points of each where there are more.

    The plan is found at the first draw.  Its bias vanishes as `points` grows and equals that of a minibatch plan of as
    many points; but here the points are always the same, and a network can learn them by heart.  Use it where the data
    are few.

    Args:
        points: points per side at most.
        partners: pairs that are drawn at once for each x0; they are then returned in random order.

    Raises:
        InputError: (at the first draw) ε is so small that the plan does not converge.
    """

    @checked
    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, points: Count = 8192, partners: Count = 64) -> None:
        super().__init__(x0, x1, epsilon, min(points, len(x0)) * partners)
        self.partners = partners
        self.pool0, self.pool1 = (Pool(x, min(points, len(x))) for x in (x0, x1))

    def planned(self, generator: torch.Generator) -> Tensor:
        if self.pool0.empty:
            self._solve(generator)
        _, pairs = self.pool1.pairs(self.pool0.rows, self.pool0.points, self.epsilon, self.partners, generator)
        return pairs

    def _solve(self, generator: torch.Generator) -> None:
        plan = plan_between(self.pool0, self.pool1, self.epsilon, _ITERATIONS, generator)
        if remark := plan.remark(PLAN_TOLERANCE):
            raise InputError(f"{remark}; epsilon = {self.epsilon:g} is too small here: use OnlineSinkhorn")
        self.pool0.potential, self.pool1.potential = plan.f, plan.g
