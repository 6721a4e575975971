"""The contenders in closed form: no drift, the Gaussian bridge, mixture potentials and their time reversals.

Each of them is the exact Schrödinger bridge from whatever law it starts from to its own end, in both directions, so its
dual value on held-out points is a mean of known numbers.

A mixture potential gives each direction twice: by its own fit, and by the time reversal of the other direction's fit.
The second is the right one where the law at the start of the other direction is a Gaussian mixture, as noise is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from sbridge.evaluation.certificate.known import WithPotential
from sbridge.fields import Field, Framed, Reversed
from sbridge.potentials.bridge import PotentialBridge, TurnedPotential
from sbridge.potentials.field import MixtureDrift
from sbridge.potentials.solver import FullMixturePotential, MixturePotential, potentials_for
from sbridge.problem import Frame, Problem

__all__ = ["FitClosed", "Found", "KnownProcess", "families", "turned"]

_REVERSAL = "its time reversal"


@dataclass(frozen=True)
class KnownProcess:
    """One direction of a closed form.

    Args:
        field: its drift, in the time of this direction: it starts at 0.
        potential: its λ.
    """

    field: Field
    potential: WithPotential


@dataclass(frozen=True)
class Found:
    """What a family found on some points.

    Args:
        contenders: both directions by the contender's name.
        reversals: which of them are time reversals, and of which.
        fitted: whether they are fitted to the shape of the data.
    """

    contenders: Mapping[str, tuple[KnownProcess, KnownProcess]]
    reversals: Mapping[str, str] = field(default_factory=dict)
    fitted: bool = True


FitClosed = Callable[[Problem, int], Found]
"""Fits to a problem from a seed."""


def families(problem: Problem) -> list[FitClosed]:
    """The families to try, from cheap to dear."""
    return [_straight, *map(_family, potentials_for(problem.x0, problem.x1))]


def _family(solver: MixturePotential) -> FitClosed:
    return partial(_full, solver) if isinstance(solver, FullMixturePotential) else partial(_mixture, solver)


def turned(field: Field) -> Field:
    """The drift of the same process in reversed time, −f(1 − t, x)."""
    if isinstance(field, Framed) and isinstance(field.inner, Field):
        return Framed(turned(field.inner), field.shift1, field.shift0, field.scale)
    return field.inner if isinstance(field, Reversed) else Reversed(field)


def _both(bridge: PotentialBridge) -> tuple[KnownProcess, KnownProcess]:
    """The forward process, and the backward process in reversed time."""
    return KnownProcess(bridge.forward_field, bridge), KnownProcess(
        turned(bridge.backward_field), TurnedPotential(bridge)
    )


def _straight(problem: Problem, random_state: int) -> Found:
    """Brownian motion along the mean displacement: the potential of S = I, r = 0."""
    frame = Frame.of(problem)
    like = problem.x0
    zero, level = torch.zeros(1, problem.dim).to(like), problem.epsilon / frame.scale**2
    still = MixtureDrift(zero[:, 0], zero, torch.full_like(zero, 2 * level), level)
    shifts = (frame.shift0, frame.shift1, frame.scale)
    there, back = Framed(still, *shifts), Framed(Reversed(still), *shifts)
    dual = float((frame.shift1 - frame.shift0).square().sum() / 2)
    bridge = PotentialBridge(there, back, problem.epsilon, like[:4096], dual, 0.0)
    return Found({"no drift": _both(bridge)}, fitted=False)


def _full(solver: FullMixturePotential, problem: Problem, random_state: int) -> Found:
    """Both directions have fits of their own, in one call."""
    bridge = solver.solve(problem, random_state)
    name = "Gaussian" if solver.components == 1 else solver.name
    return Found({name: _both(bridge)})


def _mixture(solver: MixturePotential, problem: Problem, random_state: int) -> Found:
    there, back = (solver.solve(one, random_state) for one in (problem, problem.exchanged()))
    (forward, to_start), (backward, to_end) = _both(there), _both(back)
    contenders = {solver.name: (forward, backward), _REVERSAL: (to_end, to_start)}
    return Found(contenders, {_REVERSAL: solver.name})
