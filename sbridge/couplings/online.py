"""Pairs from an entropic plan that fresh points keep passing through."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.checks import Count, checked
from sbridge.couplings.base import Planned
from sbridge.couplings.pool import Pool, plan_between

__all__ = ["OnlineSinkhorn"]

_LEAST_AHEAD = 64  # pairs: where the points are few, each gives several
_FIRST_ITERATIONS = 200  # at most: at very small ε the first plan has not converged, and the fresh points improve it


class OnlineSinkhorn(Planned):
    """Pairs from an entropic plan between two pools of points, in which fresh points always replace the oldest.

    Half a Sinkhorn step from the pool of x1 gives fresh x0 their potential and their partners, and with these they join
    the pool of x0; fresh x1 are treated in the same way (online Sinkhorn: Mensch & Peyré, arXiv 2003.01415).

    One point of each pair is new to the plan.  So, unlike in a plan between minibatches, a fresh point's partner is not
    limited by the marginals of its batch, and the sampling errors of the pools average out over all points that pass
    through them.  The remaining bias comes from choosing a partner among the points of a pool.

    Args:
        pool: points per side that the plan knows at a time.
        batch: fresh points per side at a time.
        partners: pairs that each of them gives, more where the datasets have fewer than 32 points.  Fresh points are
            worth more than further partners of the same.
    """

    @checked
    def __init__(
        self, x0: Tensor, x1: Tensor, epsilon: float, pool: Count = 4096, batch: Count = 1024, partners: Count = 1
    ) -> None:
        batch = min(batch, pool, len(x0), len(x1))
        partners = max(partners, -(-_LEAST_AHEAD // (2 * batch)))
        super().__init__(x0, x1, epsilon, 2 * batch * partners)
        self.batch, self.partners = batch, partners
        self.pool0, self.pool1 = (Pool(x, min(pool, len(x))) for x in (x0, x1))

    def planned(self, generator: torch.Generator) -> Tensor:
        if self.pool0.empty:
            plan = plan_between(self.pool0, self.pool1, self.epsilon, _FIRST_ITERATIONS, generator)
            self.pool0.potential, self.pool1.potential = plan.f, plan.g
        from0 = self._fresh_pairs(self.pool0, self.pool1, generator)
        from1 = self._fresh_pairs(self.pool1, self.pool0, generator)
        return torch.cat([from0, from1.flip(1)])

    def _fresh_pairs(self, side: Pool, other: Pool, generator: torch.Generator) -> Tensor:
        """Rows of fresh points of one side and of their partners, (pairs, 2); the fresh points join the side's pool."""
        fresh = torch.randint(len(side.x), (self.batch,), generator=generator, device=generator.device)
        potential, pairs = other.pairs(fresh, side.x[fresh], self.epsilon, self.partners, generator)
        side.join(fresh, potential)
        return pairs
