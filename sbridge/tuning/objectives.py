"""What a search minimises: a figure of the bridge on points that no trial has trained on.

Path KL        where the exact bridge is known: how far the whole process is from it (`sbridge.evaluation.metrics`)
Certificate    where two potentials fitted to held-out points know the bridge well enough: how far the forward process
               is from what they scatter around (`sbridge.evaluation.certificate.estimate`)
Endpoint       otherwise: the energy distances of both ends.  It sees whether the bridge arrives, not whether it is
               the one of least energy, so it tells a better trained network apart, and not a better interpolant.

Well enough means two things.  The references end where the data do, as far as the points can tell: else they are the
bridge of another problem, and a search would be led towards that one.  And they scatter by less than 0.3 nats: their
product is free of it on average, but one search has one pair, and a fit could gain by leaning towards it.  Both are
decided before the search, on held-out points, because training points are known to the fits as well as to the
references, and errors in common would pass for agreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.estimates import Estimate
from sbridge.evaluation import energy_distance
from sbridge.evaluation.certificate.estimate import SMALLEST, Sample, Trial
from sbridge.evaluation.certificate.statement import Passage
from sbridge.evaluation.certificate.walks import Walk, run
from sbridge.evaluation.metrics import move, path_kl
from sbridge.potentials.bridge import PotentialBridge
from sbridge.potentials.solver import FullMixturePotential, MixturePotential
from sbridge.problem import Problem
from sbridge.sampling import Simulation

__all__ = ["EndpointEnergy", "HeldOutCertificate", "Objective", "PathKL", "objective_of"]

_BLOCKS = 4  # of held-out points, whose distances spread by the error of their mean
_STEPS = 50  # of a simulation, half of those the final figures are taken with
_TIMES = 16
_SCATTER = 0.3  # nats, of references that are known well enough
_FULL_DIM = 10  # up to which references have full covariances


class Objective(Protocol):
    """A figure to minimise."""

    name: str
    meaning: str

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        """The figure on problem.test0 and problem.test1."""


class PathKL:
    """Divergence of the exact bridge's path law from the fit's."""

    name = "path KL (nats)"
    meaning = "the divergence of the exact bridge's paths from the fit's, along fresh exact paths from held-out points"

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        assert problem.truth is not None
        return path_kl(bridge, problem.truth, problem.test0, generator, _TIMES)


@dataclass(frozen=True)
class HeldOutCertificate:
    """Divergence of the fit's forward process from two exact bridges, fitted once to halves of the held-out points.

    Args:
        start, end: the held-out points of both ends: halves for the references, and a quarter that the paths start at.
        references: the two.
    """

    start: Sample
    end: Sample
    references: tuple[PotentialBridge, PotentialBridge]

    name = "certificate (nats)"
    meaning = (
        "the divergence of the fit's process from an exact Schrödinger bridge, which two mixture potentials fitted to "
        "held-out points scatter around, along fresh paths of the fit from other held-out points"
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
        start, end = Sample.of(problem.test0, generator), Sample.of(problem.test1, generator)
        solver = FullMixturePotential() if problem.dim <= _FULL_DIM else MixturePotential()
        first, second = (
            solver.solve(Problem(x0, x1, problem.epsilon, start.judged, end.judged), random_state)
            for x0, x1 in zip(start.halves, end.halves, strict=True)
        )
        return HeldOutCertificate(start, end, (first, second))

    def passage(self, bridge: Bridge, generator: torch.Generator) -> Passage:
        """All that the certificate says of the forward process.

        Raises:
            DivergenceError: a path runs to no finite place.
        """
        start, end = (_placed(sample, generator.device) for sample in (self.start, self.end))
        references = [reference.to(generator.device) for reference in self.references]
        fields = [reference.forward_field for reference in references]
        with torch.no_grad():
            fine, coarse = (Walk(bridge.forward_field, fields, bridge.epsilon, start.judged) for _ in range(2))
            run(fine, coarse, generator)
            return Trial(start, end, references, fine, coarse).passage(generator)

    def known(self, generator: torch.Generator) -> bool:
        """Whether the references are known well enough; the head of this file says what that means."""
        found = self.passage(self.references[0], generator).reference
        return found.own.value <= _SCATTER and not found.endpoint.visible

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        return self.passage(bridge, generator).kl


def _placed(sample: Sample, device: torch.device) -> Sample:
    first, second = sample.halves
    return Sample((first.to(device), second.to(device)), sample.judged.to(device))


class EndpointEnergy:
    """Energy distances between moved and true held-out points, the mean of both directions."""

    name = "endpoint energy distance (x)"
    meaning = (
        "the energy distance between moved and true held-out points, the mean of both directions; it says how well the "
        "ends are met, and nothing about the way between them"
    )

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        x0, x1 = problem.test0, problem.test1
        ahead = move(bridge, x0, generator, Simulation(_STEPS), "forward").chunk(_BLOCKS)
        back = move(bridge, x1, generator, Simulation(_STEPS), "backward").chunk(_BLOCKS)
        blocks = zip(ahead, x1.chunk(_BLOCKS), back, x0.chunk(_BLOCKS), strict=True)
        distances = [(energy_distance(a, b) + energy_distance(c, d)) / 2 for a, b, c, d in blocks]
        return Estimate.of(torch.tensor(distances, dtype=torch.float64))


def objective_of(problem: Problem, random_state: int = 0) -> Objective:
    """The one that sees most of this problem, with its references where it has any.

    Args:
        problem: whose test points the objective will be computed on.
        random_state: seed of the references.
    """
    if problem.truth is not None:
        return PathKL()
    if min(len(problem.test0), len(problem.test1)) < SMALLEST:
        return EndpointEnergy()
    certificate = HeldOutCertificate.of(problem, random_state)
    generator = torch.Generator(problem.x0.device).manual_seed(random_state)
    return certificate if certificate.known(generator) else EndpointEnergy()
