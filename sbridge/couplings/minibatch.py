"""Pairs from entropic plans between minibatches."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.checks import Count, checked
from sbridge.couplings.base import Planned
from sbridge.couplings.pool import Pool
from sbridge.plans import annealed_potential, extended, refined

__all__ = ["MinibatchSinkhorn"]


class MinibatchSinkhorn(Planned):
    """Pairs from the entropic plan between fresh minibatches (Tong et al., arXiv 2307.03672).

    The bias of a plan vanishes as `batch` grows: a plan between few points blurs the boundaries between points with
    different partners (less so in `OnlineSinkhorn`).  So plans are large, and each gives many pairs.  The potential of
    the last minibatch, extended to the points of the next by half a Sinkhorn step, is its start, so few iterations are
    enough.

    Args:
        batch: points per side of one plan.
        partners: pairs that each x0 of a plan gives.
        iterations: Sinkhorn iterations for each plan.
    """

    @checked
    def __init__(
        self, x0: Tensor, x1: Tensor, epsilon: float, batch: Count = 1024, partners: Count = 6, iterations: Count = 10
    ) -> None:
        super().__init__(x0, x1, epsilon, batch * partners)
        self.batch, self.partners, self.iterations = batch, partners, iterations
        self.pool = Pool(x1, batch)  # the last minibatch of x1

    def planned(self, generator: torch.Generator) -> Tensor:
        i, j = (torch.randint(len(x), (self.batch,), generator=generator, device=x.device) for x in (self.x0, self.x1))
        a, b = self.x0[i], self.x1[j]
        self.pool.join(j, self._potential(a, b))
        _, pairs = self.pool.pairs(i, a, self.epsilon, self.partners, generator)
        return pairs

    def _potential(self, a: Tensor, b: Tensor) -> Tensor:
        """The potential of the plan between minibatches (batch, d) at b, (batch,)."""
        if self.pool.empty:
            start = annealed_potential(a, b, self.epsilon)
        else:
            start = extended(b, a, extended(a, self.pool.points, self.pool.potential, self.epsilon), self.epsilon)
        return refined(a, b, start, self.epsilon, self.iterations)
