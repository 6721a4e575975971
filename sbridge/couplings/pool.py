"""Points of a dataset that a plan knows, with their potential: what couplings keep of an entropic plan."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbridge.plans import Plan, drawn_partners, entropic_plan

__all__ = ["PLAN_TOLERANCE", "Pool", "plan_between"]

PLAN_TOLERANCE = 1e-2  # of a plan's marginal; a sample of as many points differs from its law by more


class Pool(nn.Module):
    """Rows of one dataset, the oldest first, and the potential of a plan at them.

    Args:
        x: the dataset, (n, d).
        size: rows in the pool.
    """

    def __init__(self, x: Tensor, size: int) -> None:
        super().__init__()
        self.x = x
        self.rows: Tensor
        self.potential: Tensor
        self.register_buffer("rows", torch.zeros(size, dtype=torch.long, device=x.device))
        self.register_buffer("potential", torch.full((size,), torch.nan, dtype=torch.float64, device=x.device))

    @property
    def empty(self) -> bool:
        """Whether no plan has been found yet."""
        return bool(self.potential[0].isnan())

    @property
    def points(self) -> Tensor:
        """(size, d)."""
        return self.x[self.rows]

    def pairs(
        self, rows: Tensor, x: Tensor, epsilon: float, uses: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The plan at points x (n, d) of the other dataset, which are its `rows` (n,).

        Returns:
            The potential (n,), and rows of both datasets for `uses` partners of each point, (n uses, 2).
        """
        drawn = drawn_partners(x, self.points, self.potential, epsilon, uses, generator)
        return drawn.potential, torch.stack([rows.repeat_interleave(uses), self.rows[drawn.rows.flatten()]], dim=1)

    def join(self, rows: Tensor, potential: Tensor) -> None:
        """Replace as many of the oldest rows by these."""
        self.rows = torch.cat([self.rows[len(rows) :], rows])
        self.potential = torch.cat([self.potential[len(rows) :], potential])


def plan_between(pool0: Pool, pool1: Pool, epsilon: float, iterations: int, generator: torch.Generator) -> Plan:
    """Fill both pools with random rows and find their plan; its potentials are not put in yet."""
    for pool in (pool0, pool1):
        pool.rows = torch.randperm(len(pool.x), generator=generator, device=generator.device)[: len(pool.rows)]
    return entropic_plan(pool0.points, pool1.points, epsilon, PLAN_TOLERANCE, iterations)
