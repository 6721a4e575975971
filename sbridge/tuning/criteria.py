"""The criterion that a search minimises: how good a bridge is, on points that no trial trains on.

Path KL      where the exact bridge is known: the divergence of the fit from it (`sbridge.evaluation.metrics`)
Dual value   otherwise: the value of the fit with the sign changed, which falls with its divergence from the bridge of
             the data and differs from it by a constant (`sbridge.evaluation.value`)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from sbridge.arrays import drawn_seed
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evaluation.metrics import path_kl
from sbridge.evaluation.value import reference_for, values
from sbridge.potentials.bridge import PotentialBridge
from sbridge.problem import Problem

__all__ = ["Criterion", "DualValue", "PathKL", "criterion_of"]

_KL_TIMES = 16


class Criterion(Protocol):
    """What a search minimises."""

    @property
    def name(self) -> str:
        """With its unit."""

    @property
    def meaning(self) -> str:
        """In a sentence."""

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
class DualValue:
    """The value of the fit, with the sign changed.

    Args:
        reference: one for all trials.
    """

    reference: PotentialBridge

    name: ClassVar[str] = "minus dual value (nats)"
    meaning: ClassVar[str] = (
        "the divergence of the bridge of the data from the fit, up to a constant that all fits share: minus the dual "
        "value of a potential, or of a reference and the fit's lead over it, on held-out points"
    )

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        points, seed = (problem.test0, problem.test1), drawn_seed(generator)
        reference = self.reference.to(problem.test0.device)
        return Estimate.of(-torch.tensor(values(bridge, reference, *points, seed), dtype=torch.float64))


def criterion_of(problem: Problem) -> Criterion:
    """The criterion that measures most of this problem."""
    return DualValue(reference_for(problem, 0)) if problem.truth is None else PathKL()
