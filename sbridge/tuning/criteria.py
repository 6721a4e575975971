"""The criterion that a search minimises: how good a bridge is, on points that no trial trains on.

Path KL      where the exact bridge is known: the divergence of the fit from it (`sbridge.evaluation.metrics`)
Dual value   otherwise: D(ψ) of the fit's potential with the sign changed.  D(ψ) is at most KE*/2ε, and below it by the
             divergence of the bridge of the data from the exact bridge of ψ (`sbridge.evaluation.certificate.duality`)
"""

from __future__ import annotations

from typing import Protocol

import torch

from sbridge.arrays import drawn_seed
from sbridge.bridge import Bridge
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.estimate import dual_of
from sbridge.evaluation.metrics import path_kl
from sbridge.problem import Problem

__all__ = ["Criterion", "DualValue", "PathKL", "criterion_of"]

_KL_TIMES = 16


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


class DualValue:
    """The dual value of the fit's potential, with the sign changed."""

    name = "minus dual value (nats)"
    meaning = (
        "minus the dual value of the fit's potential on held-out points; the difference of two fits is that of the "
        "divergences of the bridge of the data from their exact bridges"
    )

    def __call__(self, bridge: Bridge, problem: Problem, generator: torch.Generator) -> Estimate:
        seed = drawn_seed(generator)
        found = dual_of(bridge, problem.test0, problem.test1, seed).value
        return Estimate(-found.value, found.standard_error)


def criterion_of(problem: Problem) -> Criterion:
    """The criterion that measures most of this problem."""
    return DualValue() if problem.truth is None else PathKL()
