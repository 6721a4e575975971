"""The value of a process: −KL(P*‖P_û) in nats, up to a constant, with P* the bridge of the data.

The constant is KE*/2ε, the energy of P* over 2ε.  It is not known, but all processes share it: of two with the same
points the one of the higher value is nearer to the bridge, by the difference.

The value of an exact bridge whose potential is known is its dual value (`sbridge.evaluation.certificate.duality`).
That of any other process is the value of a reference, a potential in closed form, and its lead over that (`pairs`).
"""

from __future__ import annotations

from torch import Tensor

from sbridge.arrays import seeded
from sbridge.bridge import Bridge
from sbridge.evaluation.certificate.known import WithPotential, dual_of, mixed
from sbridge.evaluation.pairs import leads_by_pairs, parts_of
from sbridge.potentials.bridge import PotentialBridge
from sbridge.potentials.solver import FullMixturePotential, MixturePotential
from sbridge.problem import Problem

__all__ = ["reference_for", "values"]

_GAUSSIAN_DIM = 64  # in more dimensions a Gaussian takes long to fit, and is seldom better


def reference_for(problem: Problem, random_state: int) -> PotentialBridge:
    """A mixture potential fitted to x0 and x1, or a Gaussian where that is better; in about two seconds."""
    found = [MixturePotential().solve(problem, random_state)]
    if problem.dim < min(_GAUSSIAN_DIM, len(problem.x0), len(problem.x1)):
        found.append(FullMixturePotential(1).solve(problem, random_state))
    return max(found, key=lambda bridge: bridge.dual)


def values(bridge: Bridge, reference: PotentialBridge, x0: Tensor, x1: Tensor, random_state: int) -> list[float]:
    """Of the forward process, on eight parts of the points, or on fewer of few points.

    Args:
        bridge: the process.
        reference: the same for all processes that are compared.
        x0, x1: points of both ends, (n0, d) and (n1, d), ten or more.
        random_state: the same for all processes that are compared.
    """
    if isinstance(bridge, WithPotential):
        return dual_of(bridge, x0, x1, random_state).blocks(parts_of(x0, x1))
    generator = seeded(random_state, x0.device)
    points = mixed(x0, generator), mixed(x1, generator)
    leads = leads_by_pairs(bridge.forward_field, reference.forward_field, *points, bridge.epsilon, random_state).ahead
    known = dual_of(reference, x0, x1, random_state).blocks(len(leads))
    return [dual + float(lead) for dual, lead in zip(known, leads, strict=True)]
