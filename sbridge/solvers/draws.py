"""Random ingredients of a training's batches: times, pairs and noises."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sbridge.couplings import Coupling
from sbridge.times import TimeDensity

__all__ = ["Draw", "draw", "noise_like", "times_like"]


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
    """Ingredients of that many batches, each of `groups` groups of `pairs` pairs."""
    x0, x1 = (x.view(batches * groups, pairs, -1) for x in coupling.pairs(batches * groups * pairs, generator))
    return Draw(times_like(x0, times, batches, generator), x0, x1, noise_like(x0, generator))


def times_like(x0: Tensor, times: TimeDensity, batches: int, generator: torch.Generator) -> Tensor:
    """A time for each group of x0 (groups, pairs, d): (groups, 1, 1).

    The times of every batch, and of all together, are stratified.
    """
    total = len(x0)
    uniform = torch.rand(total, generator=generator, dtype=x0.dtype, device=x0.device)
    order = torch.randperm(batches, generator=generator, device=x0.device)
    strata = torch.arange(total, device=x0.device).view(-1, batches).T[order].reshape(-1)
    return times.quantile((strata + uniform) / total).view(-1, 1, 1)


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of x's shape."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
