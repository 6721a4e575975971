"""By how many nats a process is nearer to the bridge of the data than a closed form: by pairs of held-out points.

The bridge of the data joins the pairs of an entropic plan by Brownian bridges.  On such paths the drift of smaller
quadratic error is nearer to their law, by the difference of the errors over 4ε, in nats.  Drifts of any kind have it.

But the plan between some hundred points is biased at small ε, the more the more dimensions there are, and a network
that is trained on plans has learned that bias: it can seem a nat ahead where it is four behind.  So the comparison is
made again with ends to which the closed form itself leads.  For them it is the bridge, so the right answer is known
too, by pairs that it draws.  What the plan gets wrong there is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from sbridge.fields import Field
from sbridge.interpolants import Brownian, Linear, Path
from sbridge.objectives import Drift, quadratic_loss
from sbridge.plans import annealed_potential, drawn_partners, refined
from sbridge.problem import Frame, Problem

__all__ = ["Leads", "leads_by_pairs", "parts_of"]

_POINTS = 5000  # a side, at most
_TIMES, _OWN_TIMES = 16, 4  # of each end, and of each that the closed form leads to: their difference has little noise
_ITERATIONS = 50  # of a plan, after annealing
_PARTS = 8  # plans, which share no points, so that their spread is an error
_FEWEST = 4  # points of each, except that there are two plans at least


class Leads(NamedTuple):
    """A drift against another, in nats, on eight parts of the points, or on fewer of few points: (8,) each.

    Attributes:
        ahead: by how many nats it is nearer to the bridge of the data.
        apart: E∫|difference|²dt/4ε along bridges of the plan: how far the two are from each other.
    """

    ahead: Tensor
    apart: Tensor


def leads_by_pairs(field: Field, closed: Field, x0: Tensor, x1: Tensor, epsilon: float, random_state: int) -> Leads:
    """A forward drift against that of a closed form.

    Args:
        field, closed: drifts, in the coordinates of the points; ends of `closed` can be drawn.
        x0, x1: held-out points of both ends, (n0, d) and (n1, d), in random order; ten or more.
        epsilon: ε.
        random_state: seed of pairs, times and noises.
    """
    x0, x1 = x0[:_POINTS], x1[:_POINTS]
    problem = Problem(x0, x1, epsilon, x0, x1)
    generator = torch.Generator(x0.device).manual_seed(random_state)
    own = closed.draw_end(torch.zeros_like(x0[:1, :1]), x0, generator)
    mixed = replace(problem, x0=x0.roll(len(x0) // 2, 0), x1=own)  # so that no plan meets an end's own start
    count = parts_of(x0, x1)
    partners = _partners(problem, count, _TIMES, generator)
    starts = partners, _partners(mixed, count, _OWN_TIMES, generator), x0.expand(_OWN_TIMES, -1, -1)
    by_plan, by_own_plan, truly = (
        _means(_leads(field, closed, start, ends, epsilon, random_state), count)
        for start, ends in zip(starts, (x1, own, own), strict=True)
    )
    return Leads(by_plan.ahead - (by_own_plan.ahead - truly.ahead), by_plan.apart)


def _means(found: Leads, count: int) -> Leads:
    """On parts of the points."""
    return Leads(*(torch.stack([part.mean() for part in values.tensor_split(count)]) for values in found))


def parts_of(x0: Tensor, x1: Tensor) -> int:
    """Into how many parts the points (n0, d) and (n1, d) are divided."""
    return max(2, min(_PARTS, len(x0) // _FEWEST, len(x1) // _FEWEST))


def _partners(problem: Problem, count: int, times: int, generator: torch.Generator) -> Tensor:
    """Points of x0 that plans between so many parts of the points join to each of x1, (times, n1, d)."""
    inside = Frame.of(problem).inside(problem)
    parts = (x.tensor_split(count) for x in (inside.x1, inside.x0, problem.x0))
    found = []
    for end, start, places in zip(*parts, strict=True):
        f = refined(end, start, annealed_potential(end, start, inside.epsilon), inside.epsilon, _ITERATIONS)
        found.append(places[drawn_partners(end, start, f, inside.epsilon, times, generator).rows])
    return torch.cat(found).transpose(0, 1)


def _leads(field: Field, closed: Field, partners: Tensor, x1: Tensor, epsilon: float, random_state: int) -> Leads:
    """On bridges from partners (times, n1, d), to each end, (n1,).

    The same ends get the same times and noises: what is far out, and large, then leaves their differences.
    """
    generator = torch.Generator(x1.device).manual_seed(random_state)
    objective, ahead, apart = Drift(epsilon), [], []
    with torch.no_grad():
        for path in _paths(partners, x1, epsilon, generator):
            target, drifts = objective.target(path), [one(path.t, path.x) for one in (closed, field)]
            errors = [quadratic_loss(drift, target).double().mean(-1) for drift in drifts]
            ahead.append((errors[0] - errors[1]) / (2 * epsilon))
            apart.append((drifts[0] - drifts[1]).double().square().sum(-1).mean(-1) / (4 * epsilon))
    return Leads(torch.stack(ahead).mean(0), torch.stack(apart).mean(0))


def _paths(partners: Tensor, x1: Tensor, epsilon: float, generator: torch.Generator) -> Iterator[Path]:
    """Points with z and −z on the bridges, (n1, 2, d), once for each partner; the times are spread over [0, 1]."""
    interpolant = Linear(Brownian(epsilon))
    for part, x0 in enumerate(partners):
        t = torch.rand(len(x1), 1, 1, generator=generator, dtype=x1.dtype, device=x1.device)
        z = torch.randn(len(x1), 1, x1.shape[1], generator=generator, dtype=x1.dtype, device=x1.device)
        yield interpolant.path((part + t) / len(partners), x0[:, None], x1[:, None], z).antithetic()
