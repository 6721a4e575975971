"""A training with a budget of seconds: it does as many steps as fit.

Everything a training does counts: preparation, the prior's solution, simulated pairs, checks.  The total number of
steps N is re-estimated after every round, from the n steps done and the time left:

    N = n + (time left)·(n − n₁)/(time since the first round).

n₁ are the steps of the first round, which is slower because it also prepares.  Learning rates and weight averages
depend on n/N alone, so the schedule follows the clock and is complete when the time is up.

A solver with a network prepares for the steps that it can expect (`expecting`).

Only what a process loads on first use is not counted: two rounds on a few points are done before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import torch
from annotated_types import Gt

from sbridge.bridge import Bridge
from sbridge.checks import checked
from sbridge.problem import Problem
from sbridge.solvers.base import Listener, Progress, finish, remarked
from sbridge.solvers.network_solver import NetworkSolver

__all__ = ["Attempt", "Budget", "Resumable", "TimedFit", "Trained", "Within", "expecting", "fitted_within", "paced"]
__all__ += ["seconds_of"]

_LEAST_STEPS = 50
_STEPS_A_SECOND = 50  # of the default network on one CPU thread
_WARM_UP_POINTS = 1000
T = TypeVar("T", bound="Trained")
_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_TIME = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*")


def seconds_of(budget: Any) -> Any:
    """The seconds of a text such as "90s", "2min" or "1.5h"; anything else as it is.

    Raises:
        ValueError: the text is no time.
    """
    if not isinstance(budget, str):
        return budget
    found = _TIME.fullmatch(budget)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{budget!r} is no time; write 90s, 2min or 1h")
    return float(found[1]) * _UNITS[found[2]]


class _Timed:
    """An annotation: a text is a time in seconds."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(seconds_of, handler(source))


Budget = Annotated[float, _Timed(), Gt(0)]
"""Seconds of wall time, or a text such as "90s", "2min" or "1.5h"."""


class Attempt(Protocol):
    """A training: iterate over it, then ask for its bridge.  `steps`, its total, may be changed between rounds."""

    steps: int

    def __iter__(self) -> Iterator[Progress]: ...

    def bridge(self) -> Bridge: ...


class Resumable(Attempt, Protocol):
    """A training whose state can be written to a file, and read by another one with the same settings and problem.

    `step` are the steps done, `history` the values of every check, and `generator` is on the device of the data.
    """

    @property
    def step(self) -> int: ...

    @property
    def history(self) -> list[dict[str, float]]: ...

    @property
    def generator(self) -> torch.Generator: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Trained(Protocol):
    """A solver that trains."""

    @property
    def name(self) -> str: ...

    def start(self, problem: Problem, random_state: int = 0) -> Attempt: ...


@dataclass(frozen=True)
class TimedFit:
    """The bridge of a training, the steps that were done and the seconds they took."""

    bridge: Bridge
    steps: int
    seconds: float


@dataclass(frozen=True)
class Within:
    """A solver that trains for so many seconds: a solver of its own.

    Args:
        solver: the solver; its own number of steps does not count.
        seconds: of wall time.
    """

    solver: Trained
    seconds: float

    @property
    def name(self) -> str:
        return self.solver.name

    @checked
    def solve(self, problem: Problem, random_state: int = 0, listeners: Sequence[Listener] = ()) -> Bridge:
        """Train until the time is up, and at least 50 steps."""
        end = perf_counter() + self.seconds
        training = expecting(self.solver, self.seconds).start(problem, random_state)
        finish(paced(training, end), listeners)
        return remarked(training.bridge())


def paced(
    training: Attempt, end: float, most: int | None = None, clock: Callable[[], float] = perf_counter
) -> Iterator[Progress]:
    """Iterate over a training, whose total of steps follows the clock: it ends at the time `end`.

    It does at least 50 steps, and at most `most`.
    """
    first: tuple[int, float] | None = None  # steps and time after the first round
    for progress in training:
        step, now = progress.step, clock()
        if first is None:
            first = step, now
        else:
            total = _total_steps(step, end - now, (step - first[0]) / (now - first[1]))
            training.steps = total if most is None else min(total, most)
        yield progress


def fitted_within(
    solver: Trained, problem: Problem, seconds: float, random_state: int = 0, clock: Callable[[], float] = perf_counter
) -> TimedFit:
    """Train for about `seconds`, and at least 50 steps; the last round may exceed the budget.

    Raises:
        InputError, DivergenceError: as the solver's own training.
    """
    _warm_up(solver, problem, random_state)
    begin, step = clock(), 0
    training = expecting(solver, seconds).start(problem, random_state)
    for progress in paced(training, begin + seconds, clock=clock):
        step = progress.step
    bridge = training.bridge()
    return TimedFit(bridge, step, clock() - begin)


def expecting(solver: T, seconds: float) -> T:
    """The solver, with the steps that it can be expected to do in so many seconds, if it trains a network.

    The clock decides how many it does.  What it prepares is decided by this number, which is the same in every run.
    """
    if not isinstance(solver, NetworkSolver):
        return solver
    return replace(solver, steps=max(_LEAST_STEPS, round(_STEPS_A_SECOND * seconds)))


def _warm_up(solver: Trained, problem: Problem, random_state: int) -> None:
    few = replace(problem, x0=problem.x0[:_WARM_UP_POINTS], x1=problem.x1[:_WARM_UP_POINTS])
    for _ in islice(expecting(solver, 0).start(few, random_state), 2):
        pass


def _total_steps(step: int, left: float, per_second: float) -> int:
    """The total number of steps, when `step` are done and `left` seconds remain."""
    return max(_LEAST_STEPS, step + round(max(0.0, left) * per_second))
