"""Errors of drifts on Brownian bridges between pairs of held-out points.

The bridge of the data joins the pairs of an entropic plan by Brownian bridges.  On such paths the drift of smaller
quadratic error is nearer to their law, by the difference of the errors over 4ε, in nats: a figure for drifts of any
kind.

The plan of some thousand points is biased at small ε, the more the more dimensions there are, towards networks that are
trained on plans of their own.  The difference of two drifts shows much less of this, and how it changes from plans of
an eighth of the points to that of all tells how much: from 256 points to 2,048 it fell by .08 to .18 nats on a mixture
in 16 dimensions at ε = .05, and was still too high by .07 to .09.  The plans of the parts, which share no points, also
give its standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sbridge.fields import Field
from sbridge.interpolants import Brownian, Linear, Path
from sbridge.objectives import Drift, quadratic_loss
from sbridge.plans import annealed_potential, drawn_partners, refined
from sbridge.problem import Frame, Problem

__all__ = ["Errors", "PairedPaths"]

_PLANNED = 2048  # points a side of a plan
_PARTNERS = 4  # of each point, at times of their own
_ITERATIONS = 50  # of a plan, after annealing
_PARTS, _FEWEST = 8, 4  # plans of fewer points, and points of each of them


@dataclass(frozen=True)
class Errors:
    """Of a drift, in nats up to a constant that all drifts share.

    Args:
        whole: on paths of the plan between all points.
        parts: on paths of each of the plans between an eighth of them, (8,), or fewer parts of few points.
    """

    whole: float
    parts: Tensor


@dataclass(frozen=True)
class PairedPaths:
    """Paths of the plan between all points, and of plans between parts of them; each with z and −z, (n, 2, d).

    Args:
        whole, parts: a path for each partner of the starts.
        count: of the parts.
        epsilon: ε.
    """

    whole: Sequence[Path]
    parts: Sequence[Path]
    count: int
    epsilon: float

    @staticmethod
    def of(x0: Tensor, x1: Tensor, epsilon: float, generator: torch.Generator) -> PairedPaths:
        """Between the first 2,048 points of x0 (n0, d) and x1 (n1, d), which are in random order."""
        x0, x1 = x0[:_PLANNED], x1[:_PLANNED]
        problem = Problem(x0, x1, epsilon, x0, x1)
        inside = Frame.of(problem).inside(problem)
        few = max(1, min(_PARTS, len(x0) // _FEWEST, len(x1) // _FEWEST))
        rows = (_partners(inside, count, generator) for count in (1, few))
        whole, parts = (_paths(Linear(Brownian(epsilon)), x0, x1[found], generator) for found in rows)
        return PairedPaths(whole, parts, few, epsilon)

    def errors(self, field: Field) -> Errors:
        """Of a drift in the coordinates of the points."""
        parts = torch.stack([one.mean() for one in self._on(self.parts, field).tensor_split(self.count)])
        return Errors(float(self._on(self.whole, field).mean()), parts)

    def _on(self, paths: Sequence[Path], field: Field) -> Tensor:
        """From each start, (n,)."""
        drift = Drift(self.epsilon)
        with torch.no_grad():
            missed = [quadratic_loss(field(path.t, path.x), drift.target(path)).mean(-1) for path in paths]
        return torch.stack(missed).double().mean(0) / (2 * self.epsilon)


def _partners(problem: Problem, parts: int, generator: torch.Generator) -> Tensor:
    """Rows of x1 that plans between so many parts of the points join to each of x0, (n0, partners)."""
    rows = torch.arange(len(problem.x1), device=problem.x1.device)
    found = []
    for x0, some in zip(problem.x0.tensor_split(parts), rows.tensor_split(parts), strict=True):
        ends = x0, problem.x1[some]
        g = refined(*ends, annealed_potential(*ends, problem.epsilon), problem.epsilon, _ITERATIONS)
        found.append(some[drawn_partners(*ends, g, problem.epsilon, _PARTNERS, generator).rows])
    return torch.cat(found)


def _paths(interpolant: Linear, x0: Tensor, partners: Tensor, generator: torch.Generator) -> list[Path]:
    """One for each partner; the times of a start are spread over [0, 1]."""
    paths = []
    for part, x1 in enumerate(partners.unbind(1)):
        t = torch.rand(len(x0), 1, 1, generator=generator, dtype=x0.dtype, device=x0.device)
        z = torch.randn(len(x0), 1, x0.shape[1], generator=generator, dtype=x0.dtype, device=x0.device)
        path = interpolant.path((part + t) / _PARTNERS, x0[:, None], x1[:, None], z)
        paths.append(path.antithetic())
    return paths
