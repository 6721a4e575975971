"""Points that no contender is fitted to, and two measures of contenders on them, in nats of path divergence.

Closed forms are exact bridges whose potentials are known.  Of two of them the one with the higher dual value is nearer
to the bridge of the data, by the difference (`sbridge.evaluation.certificate.duality`).  Drifts of any kind are
compared by their errors on pairs (`sbridge.evaluation.pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sbridge.evaluation.certificate.duality import Dual
from sbridge.evaluation.certificate.ends import check
from sbridge.evaluation.certificate.known import WithPotential, dual_of
from sbridge.evaluation.certificate.statement import EndCheck
from sbridge.evaluation.pairs import Leads, leads_by_pairs
from sbridge.fields import Field
from sbridge.problem import FEWEST_POINTS, Problem
from sbridge.weights import repeated

__all__ = ["HeldOut"]

_LARGEST = 5000  # points a side that are held out, at most
_SHARE = 0.1
_FEW = 30


@dataclass(frozen=True)
class HeldOut:
    """A problem without some of its points, and these points.

    Args:
        fitted: the problem of the other points.
        ends: the held-out points of both ends, in the order of a direction: those it starts from first.
        random_state: seed of the comparisons, so that all are made on the same points.
    """

    fitted: Problem
    ends: tuple[Tensor, Tensor]
    random_state: int

    @staticmethod
    def of(problem: Problem, random_state: int) -> HeldOut:
        """A tenth of the points of each end, at most 5,000, drawn by the seed; repeated in proportion to weights.

        Of fewer than 300 points it is a quarter, at most 30.  Of fewer than 20 none can be spared: all are fitted to,
        and compared on.  The answer is not fitted again to all points: with few of them that is as often worse.
        """
        generator = torch.Generator().manual_seed(random_state)
        sides = [_divided(x, w, generator) for x, w in zip((problem.x0, problem.x1), problem.weights, strict=True)]
        ((x0, w0), test0), ((x1, w1), test1) = sides
        fitted = replace(problem, x0=x0, x1=x1, test0=test0, test1=test1, weights0=w0, weights1=w1, truth=None)
        return HeldOut(fitted, (test0, test1), random_state)

    def exchanged(self) -> HeldOut:
        """The same for the backward process in reversed time."""
        x0, x1 = self.ends
        return HeldOut(self.fitted.exchanged(), (x1, x0), self.random_state)

    def few(self) -> HeldOut:
        """With a tenth of these points, for what takes long."""
        x0, x1 = (x[: max(FEWEST_POINTS, len(x) // 10)] for x in self.ends)
        return replace(self, ends=(x0, x1))

    def dual(self, bridge: WithPotential) -> Dual:
        """The dual value of a closed form on these points."""
        return dual_of(bridge, *self.ends, self.random_state)

    def leads(self, network: Field, closed: Field) -> Leads:
        """A network's drift against that of a closed form."""
        return leads_by_pairs(network, closed, *self.ends, self.fitted.epsilon, self.random_state)

    def check(self, field: Field) -> EndCheck:
        """Whether the ends of a process in closed form are those of the data."""
        generator = torch.Generator(self.ends[0].device).manual_seed(self.random_state)
        x0, x1 = self.ends
        ends = field.draw_end(torch.zeros_like(x0[:1, :1]), x0, generator)
        spreads = x1.std(0).clamp_min(torch.finfo(x1.dtype).tiny)
        return check(x1, ends, spreads, generator)


def _divided(
    x: Tensor, weights: Tensor | None, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor | None], Tensor]:
    """Points to fit to with their weights, and held-out points of equal weight."""
    order = torch.randperm(len(x), generator=generator).to(x.device)
    wanted = max(round(_SHARE * len(x)), min(_FEW, len(x) // 4))
    cut = min(_LARGEST, max(FEWEST_POINTS, wanted))
    kept, out = (order[cut:], order[:cut]) if len(x) >= cut + FEWEST_POINTS else (order, order)
    held = repeated(x[out], None if weights is None else weights[out], 1, torch.Generator(x.device).manual_seed(0))
    return (x[kept], None if weights is None else weights[kept]), held
