"""What every solver is."""

from __future__ import annotations

from typing import Protocol

from sbridge.bridge import Bridge
from sbridge.problem import Problem

__all__ = ["Solver"]


class Solver(Protocol):
    """Anything that turns a problem into a bridge."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
        """The bridge of problem.x0, problem.x1 and problem.epsilon."""
