"""Pairs from an entropic plan that is carried on from point to point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbridge.couplings.base import Planned
from sbridge.plans import entropic_plan, extended

__all__ = ["OnlineSinkhorn"]

_TOLERANCE = 1e-2  # of the first plan's marginal; as many points of a law miss it by more
_ITERATIONS = 200  # for it at most: where ε is very small it is left less than converged, and the fresh points mend it


class OnlineSinkhorn(Planned):
    """Pairs from an entropic plan between two pools of points, where fresh ones always take the place of the oldest.

    Half a Sinkhorn step from the pool of x1 gives fresh x0 their potential and their partners, and with these they join
    the pool of x0; fresh x1 are treated likewise (online Sinkhorn: Mensch & Peyré, arXiv 2003.01415).

    One point of each pair is new to the plan.  So, unlike in a plan between minibatches, none is kept from its partner
    by the quota of another, and what the pools have too many or too few of averages out over all that pass through
    them.  The bias that is left comes from having to find a partner among the points of a pool.

    Args:
        pool: points per side that the plan knows at a time.
        batch: fresh points per side at a time.
        partners: pairs that each of them gives.  Fresh points are worth more than further partners of the same.
    """

    def __init__(
        self, x0: Tensor, x1: Tensor, epsilon: float, pool: int = 4096, batch: int = 1024, partners: int = 1
    ) -> None:
        batch = min(batch, pool, len(x0), len(x1))
        super().__init__(x0, x1, epsilon, 2 * batch * partners)
        self.batch, self.partners = batch, partners
        self.pool0, self.pool1 = (_Pool(x, min(pool, len(x))) for x in (x0, x1))

    def planned(self, generator: torch.Generator) -> Tensor:
        if self.pool0.potential[0].isnan():
            self._solve(generator)
        from0 = self._extended(self.pool0, self.pool1, generator)
        from1 = self._extended(self.pool1, self.pool0, generator)
        return torch.cat([from0, from1.flip(1)])

    def _solve(self, generator: torch.Generator) -> None:
        """Fill the pools and find their plan."""
        for pool in (self.pool0, self.pool1):
            pool.rows = torch.randperm(len(pool.x), generator=generator, device=generator.device)[: len(pool.rows)]
        plan = entropic_plan(self.pool0.points, self.pool1.points, self.epsilon, _TOLERANCE, _ITERATIONS)
        self.pool0.potential, self.pool1.potential = plan.f, plan.g

    def _extended(self, side: _Pool, other: _Pool, generator: torch.Generator) -> Tensor:
        """Rows of fresh points of a side and of their partners, (pairs, 2); the fresh ones join the side's pool."""
        fresh = torch.randint(len(side.x), (self.batch,), generator=generator, device=generator.device)
        known = other.points, other.potential
        potential, partners = extended(side.x[fresh], *known, self.epsilon, self.partners, generator)
        side.join(fresh, potential)
        return torch.stack([fresh.repeat_interleave(self.partners), other.rows[partners.flatten()]], dim=1)


class _Pool(nn.Module):
    """Points of one dataset that a plan knows, the oldest first, and their potential."""

    def __init__(self, x: Tensor, size: int) -> None:
        super().__init__()
        self.x = x
        self.rows: Tensor
        self.potential: Tensor
        self.register_buffer("rows", torch.zeros(size, dtype=torch.long, device=x.device))
        self.register_buffer("potential", torch.full((size,), torch.nan, dtype=torch.float64, device=x.device))

    @property
    def points(self) -> Tensor:
        """(size, d)."""
        return self.x[self.rows]

    def join(self, rows: Tensor, potential: Tensor) -> None:
        """Put these in the place of as many of the oldest."""
        self.rows = torch.cat([self.rows[len(rows) :], rows])
        self.potential = torch.cat([self.potential[len(rows) :], potential])
