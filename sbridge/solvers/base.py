"""What every solver is, and what a long one tells those who watch it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sbridge.bridge import Bridge
from sbridge.errors import DataWarning
from sbridge.problem import Problem

__all__ = ["Listener", "Progress", "Solver", "finish", "remarked"]


@dataclass(frozen=True)
class Progress:
    """Where a training stands: steps done, steps in all, and the values of its last check (empty before the first)."""

    step: int
    steps: int
    values: dict[str, float]


Listener = Callable[[Progress], None]
"""Hears every `Progress` of a fit; a notebook plots it, a logger writes it, a terminal draws a bar."""


def finish(training: Iterable[Progress], listeners: Iterable[Listener]) -> None:
    """Train to the end, and tell the listeners of every step on the way."""
    for progress in training:
        for hear in listeners:
            hear(progress)


def remarked(bridge: Bridge) -> Bridge:
    """The bridge of a training that is over; its remark becomes a warning.

    Warns:
        DataWarning: it has a remark.
    """
    if bridge.remark:
        warnings.warn(bridge.remark, DataWarning, stacklevel=3)
    return bridge


@runtime_checkable
class Solver(Protocol):
    """Anything that turns a problem into a bridge."""

    @property
    def name(self) -> str:
        """Its name in tables."""

    def solve(self, problem: Problem, random_state: int = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        """The bridge of problem.x0, problem.x1 and problem.epsilon.

        Solvers without steps to report do not call the listeners.
        """
