"""A potential in closed form that is fitted to half of the points: a rival on the other half."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.known import WithPotential, dual_of
from sbridge.evaluation.pairs import leads_by_pairs
from sbridge.fields import Field
from sbridge.potentials.bridge import PotentialBridge
from sbridge.potentials.solver import MixturePotential, potentials_for
from sbridge.problem import Problem

__all__ = ["Reference"]


@dataclass(frozen=True)
class Reference:
    """A mixture potential, or a Gaussian, and points that it knows nothing of.

    Args:
        solver: found the potential.
        bridge: of the potential.
        x0, x1: half of the points of either end, (n0, d) and (n1, d).
        random_state: seed of the comparisons with it.
    """

    solver: MixturePotential
    bridge: PotentialBridge
    x0: Tensor
    x1: Tensor
    random_state: int

    @staticmethod
    def of(x0: Tensor, x1: Tensor, epsilon: float, random_state: int) -> Reference:
        """The best one for the first halves of the points, which are in random order."""
        cut0, cut1 = len(x0) // 2, len(x1) // 2
        others = x0[cut0:], x1[cut1:]
        problem = Problem(x0[:cut0], x1[:cut1], epsilon, *others)
        found = [(solver, solver.solve(problem, random_state)) for solver in potentials_for(problem.x0, problem.x1)]
        return Reference(*max(found, key=lambda one: one[1].dual), *others, random_state)

    def refitted(self, x0: Tensor, x1: Tensor) -> PotentialBridge:
        """A potential of the same kind for other points (n0, d) and (n1, d)."""
        return self.solver.solve(Problem(x0, x1, self.bridge.epsilon, self.x0, self.x1), self.random_state)

    def ahead_of(self, field: Field) -> Estimate:
        """By how many nats it is nearer to the bridge of the data than a forward drift is."""
        there = self.bridge.forward_field
        points, epsilon = (self.x0, self.x1), self.bridge.epsilon
        return Estimate.of(-leads_by_pairs(field, there, *points, epsilon, self.random_state).ahead)

    def ahead_of_potential(self, other: WithPotential) -> Estimate:
        """The same of an exact bridge, by its dual value."""
        own, others = (dual_of(bridge, self.x0, self.x1, self.random_state) for bridge in (self.bridge, other))
        return own.minus(others).value
