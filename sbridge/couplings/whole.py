"""Pairs from one entropic plan between the whole datasets."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.couplings.base import Coupling
from sbridge.errors import InputError
from sbridge.plans import Plan, entropic_plan

__all__ = ["WholePlan"]

_TOLERANCE = 1e-2  # of the plan's marginal; as many points of a law miss it by more


class WholePlan(Coupling):
    """Pairs from the entropic plan between both datasets, or between fixed random points of each where there are more.

    The plan is found at the first draw.  Its bias vanishes as `points` grows, and is that of the minibatch plan of as
    many points; but those are always the same, and a network can learn them by heart.  Use it where the data are few.

    Args:
        points: points per side at most.
        ahead: partners that are drawn at once for every x0, and then handed out in random order.

    Raises:
        InputError: (at the first draw) ε is so small that the plan does not converge.
    """

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, points: int = 8192, ahead: int = 64) -> None:
        super().__init__(x0, x1, epsilon)
        self.ahead = ahead
        few0, few1 = min(points, len(x0)), min(points, len(x1))
        self.rows0: Tensor
        self.rows1: Tensor
        self.potential: Tensor
        self.queue: Tensor
        self.used: Tensor
        device = x0.device
        self.register_buffer("rows0", torch.zeros(few0, dtype=torch.long, device=device))
        self.register_buffer("rows1", torch.zeros(few1, dtype=torch.long, device=device))
        self.register_buffer("potential", torch.full((few1,), torch.nan, dtype=torch.float64, device=device))
        self.register_buffer("queue", torch.zeros(few0 * ahead, 2, dtype=torch.int32, device=device))
        self.register_buffer("used", torch.tensor(few0 * ahead))

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        i, j = self._next(n, generator).T
        return self.x0[i], self.x1[j]

    def _next(self, n: int, generator: torch.Generator) -> Tensor:
        """The next n pairs of rows of the datasets, (n, 2)."""
        start = int(self.used)
        self.used += n
        if self.used <= len(self.queue):
            return self.queue[start : start + n]
        rest = self.queue[start:].clone()
        self._refill(generator)
        return torch.cat([rest, self._next(n - len(rest), generator)])

    def _refill(self, generator: torch.Generator) -> None:
        if self.potential[0].isnan():
            self._solve(generator)
        plan = Plan.of_potential(self.x0[self.rows0], self.x1[self.rows1], self.epsilon, self.potential)
        every = torch.arange(len(self.rows0), device=self.rows0.device)
        partners = plan.partners(every, self.ahead, generator)
        pairs = torch.stack([self.rows0.repeat_interleave(self.ahead), self.rows1[partners.flatten()]], dim=1)
        order = torch.randperm(len(pairs), generator=generator, device=generator.device)
        self.queue, self.used = pairs[order].int(), torch.zeros_like(self.used)

    def _solve(self, generator: torch.Generator) -> None:
        """Choose the points and find their plan."""
        self.rows0, self.rows1 = (
            torch.randperm(len(x), generator=generator, device=generator.device)[: len(rows)]
            for x, rows in ((self.x0, self.rows0), (self.x1, self.rows1))
        )
        plan = entropic_plan(self.x0[self.rows0], self.x1[self.rows1], self.epsilon, _TOLERANCE)
        if remark := plan.remark(_TOLERANCE):
            raise InputError(f"{remark}; epsilon = {self.epsilon:g} is too small here: use MinibatchSinkhorn")
        self.potential = plan.g
