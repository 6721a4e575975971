"""The criterion that a search minimises: how good a bridge is, on points that no trial trains on.

Path KL        where the exact bridge is known: the divergence of the fit from it (`sbridge.evaluation.metrics`)
Certificate    where two mixture potentials fitted to held-out points know the bridge well enough: the divergence of the
               fit from them (`sbridge.evaluation.certificate.estimate`)
Endpoint       otherwise: the energy distances at both ends.  It measures whether the process ends at the data, not
               whether its energy is least, so it compares networks but not interpolants.

"Well enough" has two conditions.  The endpoints of the references agree with the data, within what the points can tell:
otherwise they are the bridges of another problem.  And they differ from each other by less than 0.3 nats: their product
is unbiased, but a search has only one pair of them, and a fit could gain by being close to that pair.  Both conditions
are checked before the search, on held-out points: fits and references that share training points share their errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation import energy_distance
from sbridge.evaluation.certificate.estimate import SMALLEST, EndPoints, Examination
from sbridge.evaluation.certificate.statement import Passage
from sbridge.evaluation.certificate.walks import Walk, run
from sbridge.evaluation.metrics import move, path_kl
from sbridge.potentials.bridge import PotentialBridge
from sbridge.potentials.solver import FullMixturePotential, MixturePotential
from sbridge.problem import Problem
from sbridge.sampling import Simulation

__all__ = ["Criterion", "EndpointEnergy", "HeldOutCertificate", "PathKL", "criterion_of"]

_BLOCKS = 4  # of held-out points; the spread of their distances gives the standard error
_SIMULATION_STEPS = 50  # half of those used for the final figures
_KL_TIMES = 16
_LARGEST_OWN_ERROR = 0.3  # nats, of references that know the bridge well enough
_LARGEST_FULL_DIM = 10  # dimension up to which references have full covariances


class Criterion(Protocol):
    """What a search minimises."""

    name: str
    meaning: str

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        """Its value on problem.test0 and problem.test1."""


class PathKL:
    """Divergence of the exact bridge's path law from the fit's."""

    name = "path KL (nats)"
    meaning = "the divergence of the exact bridge's paths from the fit's, along fresh exact paths from held-out points"

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        assert problem.truth is not None
        return path_kl(bridge, problem.truth, problem.test0, generator, _KL_TIMES)


@dataclass(frozen=True)
class HeldOutCertificate:
    """Divergence of the fit's forward process from two exact bridges, fitted once to halves of the held-out points.

    Args:
        start, end: the held-out points of both ends: halves for the references, and the points where paths start.
        references: the two exact bridges.
    """

    start: EndPoints
    end: EndPoints
    references: tuple[PotentialBridge, PotentialBridge]

    name = "certificate (nats)"
    meaning = (
        "the divergence of the fit's process from an exact Schrödinger bridge, estimated by two mixture potentials "
        "fitted to held-out points, along fresh paths of the fit from other held-out points"
    )

    @staticmethod
    def of(problem: Problem, random_state: int) -> HeldOutCertificate:
        """With references for problem.epsilon, fitted to problem.test0 and problem.test1.

        Raises:
            InputError: there are fewer than 100 held-out points a side.
        """
        if min(len(problem.test0), len(problem.test1)) < SMALLEST:
            raise InputError(f"a certificate needs {SMALLEST} held-out points a side, not {len(problem.test0)}")
        generator = torch.Generator(problem.x0.device).manual_seed(random_state)
        start, end = EndPoints.of(problem.test0, generator), EndPoints.of(problem.test1, generator)
        solver = FullMixturePotential() if problem.dim <= _LARGEST_FULL_DIM else MixturePotential()
        first, second = (
            solver.solve(Problem(x0, x1, problem.epsilon, start.held_out, end.held_out), random_state)
            for x0, x1 in zip(start.halves, end.halves, strict=True)
        )
        return HeldOutCertificate(start, end, (first, second))

    def passage(self, bridge: Bridge, generator: torch.Generator) -> Passage:
        """The certificate of the forward process.

        Raises:
            DivergenceError: a path is not finite.
        """
        start, end = (_placed(sample, generator.device) for sample in (self.start, self.end))
        references = [reference.to(generator.device) for reference in self.references]
        fields = [reference.forward_field for reference in references]
        with torch.no_grad():
            fine, coarse = (Walk(bridge.forward_field, fields, bridge.epsilon, start.held_out) for _ in range(2))
            run(fine, coarse, generator)
            return Examination(start, end, references, fine, coarse).passage(generator)

    def known(self, generator: torch.Generator) -> bool:
        """Whether the references know the bridge well enough (see the head of this file)."""
        found = self.passage(self.references[0], generator).reference
        return found.own.value <= _LARGEST_OWN_ERROR and not found.endpoint.visible

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        return self.passage(bridge, generator).kl


def _placed(sample: EndPoints, device: torch.device) -> EndPoints:
    first, second = sample.halves
    return EndPoints((first.to(device), second.to(device)), sample.held_out.to(device))


class EndpointEnergy:
    """Energy distances between moved and true held-out points, the mean of both directions."""

    name = "endpoint energy distance (x)"
    meaning = (
        "the energy distance between moved and true held-out points, the mean of both directions; it measures the "
        "endpoints, and nothing about the process between them"
    )

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        x0, x1 = problem.test0, problem.test1
        ahead = move(bridge, x0, generator, Simulation(_SIMULATION_STEPS), "forward").chunk(_BLOCKS)
        back = move(bridge, x1, generator, Simulation(_SIMULATION_STEPS), "backward").chunk(_BLOCKS)
        blocks = zip(ahead, x1.chunk(_BLOCKS), back, x0.chunk(_BLOCKS), strict=True)
        distances = [(energy_distance(a, b) + energy_distance(c, d)) / 2 for a, b, c, d in blocks]
        return Estimate.of(torch.tensor(distances, dtype=torch.float64))


def criterion_of(problem: Problem, random_state: int = 0) -> Criterion:
    """The criterion that measures most of this problem.

    Args:
        problem: whose test points the criterion is computed on.
        random_state: seed of the references, if there are any.
    """
    if problem.truth is not None:
        return PathKL()
    if min(len(problem.test0), len(problem.test1)) < SMALLEST:
        return EndpointEnergy()
    certificate = HeldOutCertificate.of(problem, random_state)
    generator = torch.Generator(problem.x0.device).manual_seed(random_state)
    return certificate if certificate.known(generator) else EndpointEnergy()
