"""Pairs from entropic plans between minibatches."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.couplings.base import Planned
from sbridge.plans import annealed_potential, log_sinkhorn_step, scaled_cost

__all__ = ["MinibatchSinkhorn"]


class MinibatchSinkhorn(Planned):
    """Pairs from the entropic plan between fresh minibatches (Tong et al., arXiv 2307.03672).

    The bias of a plan vanishes as `batch` grows: between few points it smears the borders of what goes here and what
    goes there (less so in `OnlineSinkhorn`).  So plans are large, and each gives many pairs.  The potential of the last
    minibatch, extended to the points of the next by half a Sinkhorn step, starts the next, so few iterations suffice.

    Args:
        batch: points per side of one plan.
        partners: pairs that each x0 of a plan gives.
        iterations: Sinkhorn iterations for each plan after the first.
    """

    def __init__(
        self, x0: Tensor, x1: Tensor, epsilon: float, batch: int = 1024, partners: int = 6, iterations: int = 10
    ) -> None:
        super().__init__(x0, x1, epsilon, batch * partners)
        self.batch, self.partners, self.iterations = batch, partners, iterations
        self.anchors: Tensor
        self.potential: Tensor
        self.register_buffer("anchors", x1.new_zeros(batch, x1.shape[1]))
        self.register_buffer("potential", x1.new_full((batch,), torch.nan))

    def planned(self, generator: torch.Generator) -> Tensor:
        i, j = (torch.randint(len(x), (self.batch,), generator=generator, device=x.device) for x in (self.x0, self.x1))
        plan = self._plan(self.x0[i], self.x1[j])
        columns = torch.multinomial(plan, self.partners, replacement=True, generator=generator)
        return torch.stack([i.repeat_interleave(self.partners), j[columns.flatten()]], dim=1)

    def _plan(self, a: Tensor, b: Tensor) -> Tensor:
        """The plan between minibatches, (batch, batch), with columns that sum to one and rows that nearly do."""
        cost = scaled_cost(a, b, self.epsilon)
        if self.potential[0].isnan():
            f, g = log_sinkhorn_step(annealed_potential(cost), cost)
        else:
            f = -torch.logsumexp(self.potential - scaled_cost(a, self.anchors, self.epsilon), dim=1)
            g = -torch.logsumexp(f[:, None] - cost, dim=0)
        kernel = torch.exp(f[:, None] + g - cost)
        columns = torch.ones_like(g)
        for _ in range(self.iterations):  # near its fixed point the iteration is safe without logarithms
            rows = 1 / (kernel @ columns)
            columns = 1 / (rows @ kernel)
        self.anchors, self.potential = b, g + columns.log()
        return rows[:, None] * kernel * columns
