"""What every coupling is, and the simplest one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbridge.fields import VectorField

__all__ = ["Coupling", "Independent", "Planned", "rows_of"]


class Coupling(nn.Module):
    """A rule that draws pairs from two datasets; its state between draws is in its `state_dict`.

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

    def reference(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs (n, d) to evaluate drifts on that were trained on `pairs`: of the same law, unless that changes."""
        return self.pairs(n, generator)

    def follow(self, drifts: VectorField, generator: torch.Generator) -> None:
        """Use the drifts trained so far, (t, x) ↦ (b_F, b_B) side by side; called before every round of training.

        Most couplings do not depend on them.
        """


class Independent(Coupling):
    """The product coupling ρ0 ⊗ ρ1, the one of theorem 3.13 (Albergo et al., arXiv 2303.08797)."""

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return rows_of(self.x0, n, generator), rows_of(self.x1, n, generator)


class Planned(Coupling):
    """Pairs from plans: many pairs are drawn from a plan at once, and returned in random order.

    Args:
        ahead: pairs drawn at once.
    """

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, ahead: int) -> None:
        super().__init__(x0, x1, epsilon)
        self.queue: Tensor
        self.used: Tensor
        self.register_buffer("queue", torch.zeros(ahead, 2, dtype=torch.int32, device=x0.device))
        self.register_buffer("used", torch.tensor(ahead))  # stays on the CPU, where it is read

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        i, j = self._next(n, generator).T
        return self.x0[i], self.x1[j]

    def _next(self, n: int, generator: torch.Generator) -> Tensor:
        """The next n pairs of rows of the datasets, (n, 2)."""
        parts = [self._taken(n)]
        while (left := n - sum(map(len, parts))) > 0:
            pairs = self.planned(generator)
            order = torch.randperm(len(pairs), generator=generator, device=generator.device)
            self.queue, self.used = pairs[order].int(), torch.zeros_like(self.used)
            parts.append(self._taken(left))
        return torch.cat(parts)

    def _taken(self, n: int) -> Tensor:
        """The next n pairs of the queue, or those that are left."""
        start = min(int(self.used), len(self.queue))
        self.used += n
        return self.queue[start : start + n]

    def planned(self, generator: torch.Generator) -> Tensor:
        """Rows of both datasets for `ahead` pairs of a plan, (ahead, 2)."""
        raise NotImplementedError


def rows_of(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n rows of x (m, d), drawn with replacement."""
    return x[torch.randint(len(x), (n,), generator=generator, device=generator.device)]
