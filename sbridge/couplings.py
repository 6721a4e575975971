"""Couplings: how pairs (x0, x1) are drawn from two datasets.

The marginals are always the data's; what differs is the dependence, and with it how far a linear interpolant starts
from the Schrödinger bridge.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Coupling", "Independent", "MinibatchSinkhorn", "annealed_potential", "log_sinkhorn_step"]


class Coupling(nn.Module):
    """A rule that draws pairs from two datasets; what it remembers between draws is in its `state_dict`.

    Args:
        x0, x1: the datasets, (n0, d) and (n1, d).
        epsilon: the bridge's ε.
    """

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float) -> None:
        super().__init__()
        self.x0, self.x1, self.epsilon = x0, x1, epsilon

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs, each (n, d), in random order."""
        raise NotImplementedError


class Independent(Coupling):
    """The product coupling ρ0 ⊗ ρ1, the one of theorem 3.13 (Albergo et al., arXiv 2303.08797)."""

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return _draw(self.x0, n, generator), _draw(self.x1, n, generator)


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
        a, b = _draw(self.x0, self.batch, generator), _draw(self.x1, self.batch, generator)
        uses = -(-n // self.batch)
        columns = torch.multinomial(self._plan(a, b), uses, replacement=True, generator=generator).T.reshape(-1)
        order = torch.randperm(len(columns), generator=generator, device=generator.device)[:n]
        return a.repeat(uses, 1)[order], b[columns[order]]

    def _plan(self, a: Tensor, b: Tensor) -> Tensor:
        """The plan between minibatches, (batch, batch), with columns that sum to one and rows that nearly do."""
        cost = _cost(a, b, self.epsilon)
        if self.potential[0].isnan():
            f, g = log_sinkhorn_step(annealed_potential(cost), cost)
        else:
            f = -torch.logsumexp(self.potential - _cost(a, self.anchors, self.epsilon), dim=1)
            g = -torch.logsumexp(f[:, None] - cost, dim=0)
        kernel = torch.exp(f[:, None] + g - cost)
        columns = torch.ones_like(g)
        for _ in range(self.iterations):  # near its fixed point the iteration is safe without logarithms
            rows = 1 / (kernel @ columns)
            columns = 1 / (rows @ kernel)
        self.anchors, self.potential = b, g + columns.log()
        return rows[:, None] * kernel * columns


def log_sinkhorn_step(g: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """One Sinkhorn iteration between equal weights (each row and column of exp(f + g − cost) sums to one)."""
    f = -torch.logsumexp(g - cost, dim=1)
    return f, -torch.logsumexp(f[:, None] - cost, dim=0)


def annealed_potential(cost: Tensor, steps_per_halving: int = 10) -> Tensor:
    """A starting potential g (n1,) for Sinkhorn's algorithm at `cost` (n0, n1) = |x−y|²/4ε, by annealing ε.

    ε is halved from where the costs are of order one down to its own value.
    """
    g = cost.new_zeros(cost.shape[1])
    halvings = max(0, int(cost.max().clamp(min=1).log2().ceil()))
    for level in range(halvings, 0, -1):
        eased = cost / 2.0**level
        for _ in range(steps_per_halving):
            _, g = log_sinkhorn_step(g, eased)
        g = 2 * g  # the potential in units of cost stays, ε halves
    return g


def _draw(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return x[torch.randint(len(x), (n,), generator=generator, device=generator.device)]


def _cost(a: Tensor, b: Tensor, epsilon: float) -> Tensor:
    return torch.cdist(a, b).square() / (4 * epsilon)
