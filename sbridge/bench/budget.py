"""A training with a budget of seconds: it does as many steps as fit.

Everything a training does counts: preparation, the prior's solution, simulated pairs, checks.  The total number of
steps N is re-estimated after every round, from the n steps done and the time left:

    N = n + (time left)·(n − n₁)/(time since the first round).

n₁ are the steps of the first round, which is slower because it also prepares.  Learning rates and weight averages
depend on n/N alone, so the schedule follows the clock and is complete when the time is up.

Only what a process loads on first use is not counted: two rounds on a few points are done before.
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

__all__ = ["Attempt", "TimedFit", "Trained", "fitted_within"]

_LEAST_STEPS = 50
_WARM_UP_POINTS = 1000


class Attempt(Protocol):
    """A training: iterate over it, then ask for its bridge.  `steps`, its total, may be changed between rounds."""

    steps: int

    def __iter__(self) -> Iterator[Progress]: ...

    def bridge(self) -> Bridge: ...


@runtime_checkable
class Trained(Protocol):
    """A solver that trains."""

    def start(self, problem: Problem, random_state: int = 0) -> Attempt: ...


@dataclass(frozen=True)
class TimedFit:
    """The bridge of a training, the steps that were done and the seconds they took."""

    bridge: Bridge
    steps: int
    seconds: float


def fitted_within(
    solver: Trained, problem: Problem, seconds: float, random_state: int = 0, clock: Callable[[], float] = perf_counter
) -> TimedFit:
    """Train for about `seconds`, and at least 50 steps; the last round may exceed the budget.

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
            training.steps = _total_steps(step, seconds - (now - begin), (step - first[0]) / (now - first[1]))
    bridge = training.bridge()
    return TimedFit(bridge, step, clock() - begin)


def _warm_up(solver: Trained, problem: Problem, random_state: int) -> None:
    few = replace(problem, x0=problem.x0[:_WARM_UP_POINTS], x1=problem.x1[:_WARM_UP_POINTS])
    for _ in islice(solver.start(few, random_state), 2):
        pass


def _total_steps(step: int, left: float, per_second: float) -> int:
    """The total number of steps, when `step` are done and `left` seconds remain."""
    return max(_LEAST_STEPS, step + round(max(0.0, left) * per_second))
