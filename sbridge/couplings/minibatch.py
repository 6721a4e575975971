"""Pairs from entropic plans between minibatches."""

from __future__ import annotations

import torch
from torch import Tensor

from sbridge.couplings.base import Coupling, rows_of
from sbridge.plans import annealed_potential, log_sinkhorn_step, scaled_cost

__all__ = ["MinibatchSinkhorn"]


class MinibatchSinkhorn(Coupling):
    """Pairs from the entropic plan between fresh minibatches (Tong et al., arXiv 2307.03672).

    The potential of the last minibatch, extended to the points of the next by half a Sinkhorn step, starts the next, so
    few iterations suffice.  The bias of the plan vanishes as `batch` grows.

    Args:
        batch: points per side of one plan; each x0 of a plan serves as often as pairs are asked for.
        iterations: Sinkhorn iterations for each plan after the first.
    """

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, batch: int = 512, iterations: int = 30) -> None:
        super().__init__(x0, x1, epsilon)
        self.batch, self.iterations = batch, iterations
        self.anchors: Tensor
        self.potential: Tensor
        self.register_buffer("anchors", x1.new_zeros(batch, x1.shape[1]))
        self.register_buffer("potential", x1.new_full((batch,), torch.nan))

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        a, b = rows_of(self.x0, self.batch, generator), rows_of(self.x1, self.batch, generator)
        uses = -(-n // self.batch)
        columns = torch.multinomial(self._plan(a, b), uses, replacement=True, generator=generator).T.reshape(-1)
        order = torch.randperm(len(columns), generator=generator, device=generator.device)[:n]
        return a.repeat(uses, 1)[order], b[columns[order]]

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
