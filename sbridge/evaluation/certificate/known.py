"""Potentials in closed form: their pairs ψ and λ_ψ, and their dual values, without paths."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sbridge.arrays import seeded
from sbridge.evaluation.certificate import duality
from sbridge.evaluation.certificate.duality import Dual, Pair
from sbridge.evaluation.certificate.statement import MOST_POINTS, Residual
from sbridge.problem import Frame, Problem

__all__ = ["WithPotential", "dual_of", "framed", "mixed", "own_pair"]


@runtime_checkable
class WithPotential(Protocol):
    """A bridge that knows its potential λ(t, x), in squared units of the data."""

    @property
    def epsilon(self) -> float: ...

    def potential(self, t: Tensor, x: Tensor) -> Tensor:
        """λ at one time in a tensor and places (n, d), (n,)."""


def dual_of(bridge: WithPotential, x0: Tensor, x1: Tensor, random_state: int | None = None) -> Dual:
    """D(ψ) of an exact bridge on x0 (n0, d) and x1 (n1, d), for differences between bridges.

    Bridges with the same points and random_state are measured on the same points in the same order.
    """
    generator = seeded(random_state, x0.device)
    x0, x1 = (mixed(x, generator) for x in (x0, x1))
    with torch.no_grad():
        frame, inside = framed(x0, x1, bridge.epsilon)
        return duality.exact_dual(own_pair(bridge, frame), inside.x0, inside.x1)


def own_pair(bridge: WithPotential, frame: Frame) -> Pair:
    """ψ and λ_ψ of a bridge that knows them, of places in the frame's coordinates; both exact."""
    e, s = 2 * bridge.epsilon, frame.shift1 - frame.shift0

    def end(y: Tensor) -> Tensor:
        x = frame.points_outside(y, 1, torch.float64)
        return (bridge.potential(x.new_ones(()), x) - x @ s + s.square().sum() / 2) / e

    def start(y: Tensor) -> Tensor:
        x = frame.points_outside(y, 0, torch.float64)
        return (bridge.potential(x.new_zeros(()), x) - x @ s) / e

    return Pair(end, start, True, Residual(0.0, 0.0))


def framed(x0: Tensor, x1: Tensor, epsilon: float) -> tuple[Frame, Problem]:
    """The frame of the points, and their problem in its coordinates."""
    problem = Problem(x0, x1, epsilon, x0, x1)
    frame = Frame.of(problem)
    return frame, frame.inside(problem)


def mixed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Points in random order, 10,000 at most."""
    return x[torch.randperm(len(x), generator=generator, device=x.device)[:MOST_POINTS]]
