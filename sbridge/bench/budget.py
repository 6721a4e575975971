"""As many steps as fit into a budget of seconds.

A training of n steps takes a + b·n seconds: what it does a fixed number of times, such as preparing and checking, is in
a.  Two short throw-away trainings of the same settings give b as a difference, which a busy machine can spoil; so b is
kept between the median round of the longer one and its mean, and a training that is over far too early is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from sbridge.bridge import Bridge
from sbridge.problem import Problem
from sbridge.solvers.training import Progress

__all__ = ["Fit", "Trained", "fitted_within", "within"]

_SHORT, _LONG = 250, 750  # steps of the throw-away trainings; a shorter one is not checked as often as a real one
_FEWEST = 50
_ENOUGH = 0.8  # of the budget


class Attempt(Protocol):
    """A training: iterate over it, then ask for its answer."""

    def __iter__(self) -> Iterator[Progress]: ...

    def bridge(self) -> Bridge: ...


@runtime_checkable
class Trained(Protocol):
    """A solver that trains, a dataclass."""

    @property
    def name(self) -> str: ...

    @property
    def steps(self) -> int: ...

    def start(self, problem: Problem, random_state: int = 0) -> Attempt: ...


S = TypeVar("S", bound=Trained)


def within(
    solver: S, problem: Problem, seconds: float, random_state: int = 0, clock: Callable[[], float] = perf_counter
) -> S:
    """The solver with as many steps as take about that long on this problem and machine, at least 50.

    The trainings it is found by take a thousand steps together; they are no part of the budget.

    Raises:
        InputError, DivergenceError: as the solver's own training.
    """

    def watched(steps: int) -> _Watched:
        times, done = [clock()], [0]
        for progress in _with_steps(solver, steps).start(problem, random_state):
            times.append(clock())
            done.append(progress.step)
        return _Watched(times, done)

    watched(_FEWEST)  # what is loaded and chosen on first use
    short, long = watched(_SHORT), watched(_LONG)
    difference = (long.seconds - short.seconds) / (long.steps - short.steps)
    each = min(max(difference, long.median_step), long.seconds / long.steps)
    return _with_steps(solver, max(_FEWEST, round(long.steps + (seconds - long.seconds) / each)))


@dataclass(frozen=True)
class Fit:
    """A training's answer, its steps, the seconds they took, and whether it was ended before its last step."""

    bridge: Bridge
    steps: int
    seconds: float
    ended_early: bool


def fitted_within(
    solver: S, problem: Problem, seconds: float, random_state: int = 0, clock: Callable[[], float] = perf_counter
) -> Fit:
    """A training of about that long.

    One that reaches its last step in less than four fifths of the time is done again, once, with more steps.

    Raises:
        InputError, DivergenceError: as the solver's own training.
    """
    planned = within(solver, problem, seconds, random_state, clock)
    fit = _fitted(planned, problem, random_state, clock)
    if fit.ended_early or fit.seconds > _ENOUGH * seconds or planned.steps == _FEWEST:
        return fit
    more = _with_steps(solver, round(planned.steps * seconds / fit.seconds))
    return _fitted(more, problem, random_state, clock)


def _fitted(solver: Trained, problem: Problem, random_state: int, clock: Callable[[], float]) -> Fit:
    begin = clock()
    training = solver.start(problem, random_state)
    for progress in training:
        step = progress.step
    bridge = training.bridge()
    return Fit(bridge, step, clock() - begin, step < solver.steps)


@dataclass(frozen=True)
class _Watched:
    """A training's times: its start's, and after each round that and the steps done."""

    times: list[float]
    done: list[int]

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]

    @property
    def steps(self) -> int:
        return self.done[-1]

    @property
    def median_step(self) -> float:
        """Seconds of a step in the median round, the first left out: it includes the preparation."""
        rounds = list(zip(self.times, self.done, strict=True))[1:]
        return median((end - begin) / (after - before) for (begin, before), (end, after) in pairwise(rounds))


def _with_steps(solver: S, steps: int) -> S:
    changed: S = replace(cast(Any, solver), steps=steps)
    return changed
