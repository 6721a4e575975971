"""Pairs from an entropic plan between two datasets that becomes better with every draw."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from sbridge.checks import Count, checked
from sbridge.couplings.base import Planned, rows_of
from sbridge.couplings.moments import BUMPS, moment_step
from sbridge.couplings.pool import PLAN_TOLERANCE
from sbridge.plans import drawn_partners, effective_partners, entropic_plan, extended

__all__ = ["Ends", "OnlineSinkhorn"]

_FIRST_ITERATIONS = 200  # at most: at very small ε the first plan has not converged, and the draws improve it
_LEAST_AHEAD = 64  # pairs: where the points are few, each gives several
_REMEMBERED = 50  # draws that the running averages reach back
_POINTS_A_BUMP = 8  # points of x1 for each function that the Newton steps know, or more
_MEASURED = 1024  # points that the effective number of partners is averaged over


class Ends(NamedTuple):
    """Points of one dataset (n, d), and the plan's potential there in units of 2ε, (n,)."""

    x: Tensor
    potential: Tensor


class OnlineSinkhorn(Planned):
    """Pairs from an entropic plan between all points, whose potentials every draw improves.

    A draw takes fresh x0.  Half a Sinkhorn step from all x1 gives their potential f and their partners.  The other half
    step, exp(−g) = mean of exp(f − c) over x0, is a mean over x0, so the fresh x0 of every draw contribute to a running
    mean (online Sinkhorn: Mensch & Peyré, arXiv 2003.01415).

    A partner is chosen among all x1.  Among a few thousand of them it would be too near or too far, which is the larger
    part of the bias of plans between minibatches.  What many half steps would mend slowly, a Newton step on moments
    mends at once (`sbridge.couplings.moments`).

    Args:
        first: points a side of the plan that it begins with.
        points: points a side that it knows; the first of the dataset, where there are more.
        batch: fresh x0 of a draw.
        partners: pairs that each of them gives, at least two, and more where the datasets have fewer than 64 points.
    """

    @checked
    def __init__(
        self,
        x0: Tensor,
        x1: Tensor,
        epsilon: float,
        first: Count = 8192,
        points: Count = 131_072,
        batch: Count = 8192,
        partners: Annotated[Count, Ge(2)] = 16,
    ) -> None:
        x0, x1 = x0[:points], x1[:points]
        self.batch = min(batch, len(x0))
        self.partners = max(partners, -(-_LEAST_AHEAD // self.batch))
        super().__init__(x0, x1, epsilon, self.batch * self.partners)
        self.first = first
        self.f: Tensor
        self.g: Tensor
        self.draws: Tensor
        for name, x in (("f", x0), ("g", x1)):
            self.register_buffer(name, torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device))
        self.centres: Tensor
        self.register_buffer("centres", torch.zeros(max(1, min(BUMPS, len(x1) // _POINTS_A_BUMP)), x1.shape[1]).to(x1))
        self.register_buffer("draws", torch.tensor(0.0))  # that the running means hold; stays on the CPU

    def planned(self, generator: torch.Generator) -> Tensor:
        self.begin(generator)
        fresh = torch.randperm(len(self.x0), generator=generator, device=generator.device)[: self.batch]
        drawn = drawn_partners(self.x0[fresh], self.x1, self.g, self.epsilon, self.partners, generator)
        self.draws = (self.draws + 1).clamp_max(_REMEMBERED)
        self.f[fresh] = drawn.potential
        slow = moment_step(self.x1, drawn.masses, drawn.rows, self.centres, self.epsilon)
        self.g = self.g - (1 + (drawn.masses - 1) / float(self.draws)).log() + slow / self.draws
        return torch.stack([fresh.repeat_interleave(self.partners), drawn.rows.flatten()], dim=1)

    def begin(self, generator: torch.Generator) -> None:
        """Find the first plan, between some of the points, and extend it to all; only the first call does something."""
        if not self.g[0].isnan():
            return
        few0, few1 = (self._some_rows(x, generator) for x in (self.x0, self.x1))
        plan = entropic_plan(self.x0[few0], self.x1[few1], self.epsilon, PLAN_TOLERANCE, _FIRST_ITERATIONS)
        self.f = extended(self.x0, plan.x1, plan.g, self.epsilon)
        self.g = extended(self.x1, plan.x0, plan.f, self.epsilon)
        self.draws = self.draws + len(few0) / self.batch
        self.centres = self.x1[few1[: len(self.centres)]]

    def effective_partners(self, generator: torch.Generator) -> float:
        """The effective number of x1 that an x0 has, the geometric mean over x0: from 1 to the number of x1."""
        self.begin(generator)
        return effective_partners(rows_of(self.x0, _MEASURED, generator), self.x1, self.g, self.epsilon)

    def ends(self, n: int, generator: torch.Generator) -> tuple[Ends, Ends]:
        """n pairs as `pairs` draws them, with the potentials of both points."""
        i, j = self._next(n, generator).long().T
        return Ends(self.x0[i], self.f[i]), Ends(self.x1[j], self.g[j])

    def others(self, n: int, generator: torch.Generator) -> tuple[Ends, Ends]:
        """n points of either dataset, drawn with replacement, with their potentials."""
        i, j = (torch.randint(len(x), (n,), generator=generator, device=generator.device) for x in (self.x0, self.x1))
        return Ends(self.x0[i], self.f[i]), Ends(self.x1[j], self.g[j])

    def _some_rows(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(x), generator=generator, device=generator.device)[: self.first]
