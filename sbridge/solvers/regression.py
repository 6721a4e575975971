"""Stochastic-interpolant regression: both drifts of a given interpolant between two datasets."""

from __future__ import annotations

from dataclasses import dataclass

from sbridge.bridge import Bridge
from sbridge.problem import Problem
from sbridge.solvers.training import Recipe, Training

__all__ = ["Regression"]


@dataclass(frozen=True)
class Regression(Recipe):
    """Fit both drifts of a given interpolant: stochastic interpolants without the search for the bridge.

    With a linear interpolant of Brownian γ and pairs close to the entropic plan this is already close to the
    Schrödinger bridge (Tong et al., arXiv 2307.03672); with the product coupling it is not.  The arguments are
    `Recipe`'s.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        return "fixed interpolant"

    def start(self, problem: Problem, random_state: int = 0) -> Training:
        """A training to iterate over; each round of steps yields a `Progress`."""
        return Training(self, problem, random_state)

    def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
        """Train to the end.

        Raises:
            DivergenceError: the training became unstable; with `start`, `Training.bridge` has its last good state.
        """
        training = self.start(problem, random_state)
        for _ in training:
            pass
        return training.bridge()
