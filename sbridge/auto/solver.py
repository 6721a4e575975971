"""Auto: the best that the package knows, by a contest on held-out points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from sbridge.auto.contest import Contest
from sbridge.bridge import Bridge
from sbridge.checks import Checked, Seed, checked, checked_value
from sbridge.errors import InputError
from sbridge.potentials.solver import FullMixturePotential, MixturePotential
from sbridge.problem import Problem
from sbridge.solvers.base import Listener, Solver, finish
from sbridge.solvers.budget import Budget, Trained, Within
from sbridge.solvers.maxmin import MaxMin
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.solvers.regression import Regression

__all__ = ["SOLVERS", "Auto", "within"]


@dataclass(frozen=True)
class Auto(Checked):
    """Try closed forms first, train a network where they are not enough, and blend it with the best of them.

    A tenth of the points, at most 5,000 a side, is held out, and the contenders are compared on them, in nats and for
    each direction of time: closed forms by their dual values, a network by the errors of drifts on pairs of held-out
    points.  The errors say which weighted mean of two drifts is best too, and that is the answer.  What was tried and
    kept is the attribute `tried` of the bridge.

    Args:
        network: the network, trained where the closed forms' ends can be told from the data; for no more than 100
            passes over the points.
        budget: seconds of wall time for everything, or a text such as "90s", "2min" or "1h".  The closed forms are
            always tried; the network then trains for as long as there is time.  Where the ends cannot be told from
            the data, it does so too if that time is less than 100 passes.
    """

    name: ClassVar[str] = "auto"

    network: NetworkSolver = MaxMin()
    budget: Budget | None = None

    @checked
    def start(self, problem: Problem, random_state: Seed = 0) -> Contest:
        """A contest to iterate over; the closed forms are fitted first, in seconds.

        Raises:
            InputError: ε is too small, or the interpolant does not fit the data.
        """
        return Contest(self.network, self.budget, problem, random_state)

    @checked
    @torch.inference_mode(False)
    @torch.enable_grad()
    def solve(self, problem: Problem, random_state: Seed = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        """The best bridge.

        Raises:
            InputError: as `start`.
        """
        contest = self.start(problem, random_state)
        finish(contest, listeners)
        return contest.bridge()


SOLVERS: Mapping[str, Solver] = {
    "auto": Auto(),
    "potential": MixturePotential(),
    "full-potential": FullMixturePotential(),
    "maxmin": MaxMin(),
    "fixed": Regression(),
}
"""The solvers that can be chosen by name."""


def within(solver: Solver, budget: float | str) -> Solver:
    """The solver with a budget of wall time.

    Raises:
        InputError: the budget is no time, or the solver does not train.
    """
    seconds: float = checked_value("budget", Budget, budget)
    if isinstance(solver, Auto):
        return replace(solver, budget=seconds)
    if isinstance(solver, Trained):
        return Within(solver, seconds)
    raise InputError(f"budget: {solver.name} does not train, and takes the time it needs; leave the budget out")
