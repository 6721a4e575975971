"""What a search minimises: a figure of the bridge on points that no trial has trained on.

Path KL        where the exact bridge is known: how far the whole process is from it (`sbridge.evidence.metrics`)
Endpoint       otherwise: the energy distances of both ends.  It sees whether the bridge arrives, not whether it is
               the one of least energy, so it tells a better trained network apart, and not a better interpolant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evidence import energy_distance
from sbridge.evidence.metrics import move, path_kl
from sbridge.problem import Problem

__all__ = ["OBJECTIVES", "EndpointEnergy", "Objective", "PathKL", "objective_of"]

_BLOCKS = 4  # of held-out points, whose distances spread by the error of their mean
_STEPS = 50  # of a simulation, half of those the final figures are taken with
_TIMES = 16


class Objective(Protocol):
    """A figure to minimise."""

    name: str
    meaning: str

    def applies(self, problem: Problem) -> bool:
        """Whether it can be computed for this problem."""

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        """The figure on problem.test0 and problem.test1."""


class PathKL:
    """Divergence of the exact bridge's path law from the fit's."""

    name = "path KL (nats)"
    meaning = "the divergence of the exact bridge's paths from the fit's, along fresh exact paths from held-out points"

    def applies(self, problem: Problem) -> bool:
        return problem.truth is not None

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        assert problem.truth is not None
        return path_kl(bridge, problem.truth, problem.test0, generator, _TIMES)


class EndpointEnergy:
    """Energy distances between moved and true held-out points, the mean of both directions."""

    name = "endpoint energy distance (x)"
    meaning = (
        "the energy distance between moved and true held-out points, the mean of both directions; it says how well the "
        "ends are met, and nothing about the way between them"
    )

    def applies(self, problem: Problem) -> bool:
        return True

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        x0, x1 = problem.test0, problem.test1
        ahead = move(bridge, x0, generator, _STEPS, "forward").chunk(_BLOCKS)
        back = move(bridge, x1, generator, _STEPS, "backward").chunk(_BLOCKS)
        blocks = zip(ahead, x1.chunk(_BLOCKS), back, x0.chunk(_BLOCKS), strict=True)
        distances = [(energy_distance(a, b) + energy_distance(c, d)) / 2 for a, b, c, d in blocks]
        return Estimate.of(torch.tensor(distances, dtype=torch.float64))


OBJECTIVES: Sequence[Objective] = (PathKL(), EndpointEnergy())
"""In the order of preference; one that needs no truth and sees the whole process belongs between these two."""


def objective_of(problem: Problem) -> Objective:
    """The first that applies."""
    return next(objective for objective in OBJECTIVES if objective.applies(problem))
