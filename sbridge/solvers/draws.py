"""Random ingredients of a training's batches: times, pairs and noises."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sbridge.couplings import Coupling
from sbridge.times import TimeDensity

__all__ = ["Draw", "draw"]


class Draw(NamedTuple):
    """What the points of an interpolant are made of: t (groups, 1, 1); x0, x1 and z (groups, group/2, d)."""

    t: Tensor
    x0: Tensor
    x1: Tensor
    z: Tensor

    def split(self, groups: int) -> tuple[Draw, Draw]:
        """The first `groups` groups, and the others."""
        return Draw(*(part[:groups] for part in self)), Draw(*(part[groups:] for part in self))


def draw(
    coupling: Coupling, times: TimeDensity, batches: int, groups: int, pairs: int, generator: torch.Generator
) -> Draw:
    """Ingredients of that many batches, each of `groups` groups of `pairs` pairs.

    The times of every batch, and of all together, are stratified.
    """
    total = batches * groups
    x0, x1 = (x.view(total, pairs, -1) for x in coupling.pairs(total * pairs, generator))
    uniform = torch.rand(total, generator=generator, dtype=x0.dtype, device=x0.device)
    order = torch.randperm(batches, generator=generator, device=x0.device)
    strata = torch.arange(total, device=x0.device).view(groups, batches).T[order].reshape(-1)
    t = times.quantile((strata + uniform) / total)
    z = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
    return Draw(t.view(-1, 1, 1), x0, x1, z)
