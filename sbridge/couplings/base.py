"""What every coupling is, and the simplest one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sbridge.fields import VectorField

__all__ = ["Coupling", "Independent", "rows_of"]


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

    def reference(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs of the law that drifts trained on `pairs` are judged by, (n, d) each: the same, unless it changes."""
        return self.pairs(n, generator)

    def follow(self, drifts: VectorField, generator: torch.Generator) -> None:
        """Hear of the drifts trained so far, (t, x) ↦ (b_F, b_B) side by side; trainings call it before every round.

        Most couplings do not depend on them.
        """


class Independent(Coupling):
    """The product coupling ρ0 ⊗ ρ1, the one of theorem 3.13 (Albergo et al., arXiv 2303.08797)."""

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return rows_of(self.x0, n, generator), rows_of(self.x1, n, generator)


def rows_of(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n rows of x (m, d), drawn with replacement."""
    return x[torch.randint(len(x), (n,), generator=generator, device=generator.device)]
