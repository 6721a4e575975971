"""As many steps as fit into a budget of seconds.

All that a training does counts: preparing, a prior's solution, simulating pairs, checking.  What is to be done, N
steps, is foretold anew after every round, from the steps done and the time left:

    N = n + (left)·(n − n₁)/(seconds since the first round),

n steps being done, n₁ of them in the first round, which also prepares what is loaded and drawn ahead.  Rates and
averages of weights depend on n/N alone, so the schedule goes with the clock and is complete when the time is up.

Only what a process loads on first use is no part of the budget: two rounds on a few points go before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter
from typing import Protocol, runtime_checkable

from sbridge.bridge import Bridge
from sbridge.problem import Problem
from sbridge.solvers.training import Progress

__all__ = ["Attempt", "Fit", "Trained", "fitted_within"]

_FEWEST = 50
_FEW = 1000  # points


class Attempt(Protocol):
    """A training: iterate over it, then ask for its answer; `steps`, which may be changed between, are to be done."""

    steps: int

    def __iter__(self) -> Iterator[Progress]: ...

    def bridge(self) -> Bridge: ...


@runtime_checkable
class Trained(Protocol):
    """A solver that trains."""

    def start(self, problem: Problem, random_state: int = 0) -> Attempt: ...


@dataclass(frozen=True)
class Fit:
    """A training's answer, the steps that were done, and the seconds they took."""

    bridge: Bridge
    steps: int
    seconds: float


def fitted_within(
    solver: Trained, problem: Problem, seconds: float, random_state: int = 0, clock: Callable[[], float] = perf_counter
) -> Fit:
    """A training of about that many seconds, with at least 50 steps.

    It is longer by a round at most.

    Raises:
        InputError, DivergenceError: as the solver's own training.
    """
    _warm_up(solver, problem, random_state)
    begin = clock()
    training = solver.start(problem, random_state)
    first: tuple[int, float] | None = None  # steps and time after the first round
    for progress in training:
        step, now = progress.step, clock()
        if first is None:
            first = step, now
        else:
            training.steps = _foretold(step, seconds - (now - begin), (step - first[0]) / (now - first[1]))
    bridge = training.bridge()
    return Fit(bridge, step, clock() - begin)


def _warm_up(solver: Trained, problem: Problem, random_state: int) -> None:
    few = replace(problem, x0=problem.x0[:_FEW], x1=problem.x1[:_FEW])
    for _ in islice(solver.start(few, random_state), 2):
        pass


def _foretold(step: int, left: float, per_second: float) -> int:
    """Steps to be done in all, when `step` are done and so many seconds are left."""
    return max(_FEWEST, step + round(max(0.0, left) * per_second))
