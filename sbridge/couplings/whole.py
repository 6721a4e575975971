"""Pairs from one entropic plan between the whole datasets."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.couplings.base import Planned
from sbridge.errors import InputError
from sbridge.plans import Plan, entropic_plan

__all__ = ["WholePlan"]

_TOLERANCE = 1e-2  # of the plan's marginal; as many points of a law miss it by more


class WholePlan(Planned):
    """Pairs from the entropic plan between both datasets, or between fixed random points of each where there are more.

    The plan is found at the first draw.  Its bias vanishes as `points` grows, and is that of the minibatch plan of as
    many points; but those are always the same, and a network can learn them by heart.  Use it where the data are few.

    Args:
        points: points per side at most.
        partners: pairs that are drawn at once for every x0, and then handed out in random order.

    Raises:
        InputError: (at the first draw) ε is so small that the plan does not converge.
    """

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, points: int = 8192, partners: int = 64) -> None:
        few0, few1 = min(points, len(x0)), min(points, len(x1))
        super().__init__(x0, x1, epsilon, few0 * partners)
        self.partners = partners
        self.rows0: Tensor
        self.rows1: Tensor
        self.potential: Tensor
        device = x0.device
        self.register_buffer("rows0", torch.zeros(few0, dtype=torch.long, device=device))
        self.register_buffer("rows1", torch.zeros(few1, dtype=torch.long, device=device))
        self.register_buffer("potential", torch.full((few1,), torch.nan, dtype=torch.float64, device=device))

    def planned(self, generator: torch.Generator) -> Tensor:
        if self.potential[0].isnan():
            self._solve(generator)
        plan = Plan.of_potential(self.x0[self.rows0], self.x1[self.rows1], self.epsilon, self.potential)
        every = torch.arange(len(self.rows0), device=self.rows0.device)
        partners = plan.partners(every, self.partners, generator)
        return torch.stack([self.rows0.repeat_interleave(self.partners), self.rows1[partners.flatten()]], dim=1)

    def _solve(self, generator: torch.Generator) -> None:
        """Choose the points and find their plan."""
        self.rows0, self.rows1 = (
            torch.randperm(len(x), generator=generator, device=generator.device)[: len(rows)]
            for x, rows in ((self.x0, self.rows0), (self.x1, self.rows1))
        )
        plan = entropic_plan(self.x0[self.rows0], self.x1[self.rows1], self.epsilon, _TOLERANCE)
        if remark := plan.remark(_TOLERANCE):
            raise InputError(f"{remark}; epsilon = {self.epsilon:g} is too small here: use OnlineSinkhorn")
        self.potential = plan.g
