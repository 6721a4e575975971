"""What the sections of a page share: the run they show (`Material`) and what each returns (`Exhibit`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.evaluation import TRUTH, Comparison
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.standardise import as_fitted

__all__ = ["Exhibit", "Material", "Paths", "Section", "paths_of"]

_MOVED_POINTS = 600
_MOVE_STEPS = 50
_TIMES = [k / _MOVE_STEPS for k in range(_MOVE_STEPS + 1)]


@dataclass(frozen=True)
class Exhibit:
    """A section of the page.

    Args:
        slug: name of the figure's file, without its ending.
        title: heading.
        figure: the figure.
        caption: how to read it.
        table: a small table below it (`sbridge.tables`), if any.
        kind: a "plot" is inverted on a dark page; a "picture" keeps its colours.
    """

    slug: str
    title: str
    figure: Figure
    caption: str
    table: Sequence[Mapping[str, str]] = ()
    kind: Literal["plot", "picture"] = "plot"


@dataclass(frozen=True)
class Paths:
    """Paths of held-out points under each method's process.

    Args:
        times: increasing.
        forward: method → paths from test0, (len(times), n, d), along `times`.
        backward: method → paths from test1, (len(times), n, d), along `times` reversed.
    """

    times: Sequence[float]
    forward: Mapping[str, Tensor]
    backward: Mapping[str, Tensor]

    def towards(self, direction: Direction) -> tuple[Sequence[float], Mapping[str, Tensor]]:
        """The times in the order of travel, and each method's paths."""
        if direction == "forward":
            return self.times, self.forward
        return self.times[::-1], self.backward


def paths_of(problem: Problem, bridges: Mapping[str, Bridge]) -> Paths:
    """Paths of up to 600 held-out points in both directions, with the same noise for every bridge."""

    def move(x: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        start = x[:_MOVED_POINTS]
        return {
            name: bridge.trajectories(start, times, steps=_MOVE_STEPS, random_state=0)
            for name, bridge in bridges.items()
        }

    return Paths(_TIMES, move(problem.test0, _TIMES), move(problem.test1, _TIMES[::-1]))


@dataclass(frozen=True)
class Material:
    """A run, and what several sections need of it, computed once."""

    run: Run

    @cached_property
    def problem(self) -> Problem:
        """The problem in the coordinates of the fit: standardised, if the run is."""
        return self.run.fitted_problem

    @cached_property
    def bridges(self) -> dict[str, Bridge]:
        """Each finished method's bridge in the user's units; the fitted one is the first."""
        return self.run.bridges()

    @cached_property
    def methods(self) -> dict[str, Bridge]:
        """The same in the coordinates of `problem`."""
        if self.run.standardise is None:
            return self.bridges
        return {name: as_fitted(bridge) for name, bridge in self.bridges.items()}

    @cached_property
    def fitted(self) -> str:
        """Name of the first method."""
        return next(iter(self.methods), "the fit")

    @cached_property
    def paths(self) -> Paths:
        """Paths under every method, and under the exact bridge where it is known."""
        truth = self.problem.truth
        return paths_of(self.problem, self.methods if truth is None else self.methods | {TRUTH: truth})

    @cached_property
    def comparison(self) -> Comparison | None:
        return self.run.comparison()

    @cached_property
    def history(self) -> pl.DataFrame | None:
        """The fit's monitoring rows, if there are any."""
        return self.run.history() if self.run.path("history.csv").exists() else None

    def generator(self) -> torch.Generator:
        """A new generator with the same seed for every section."""
        return torch.Generator().manual_seed(0)


Section = Callable[[Material], Exhibit | None]
"""A section of the page; None where the run lacks what it shows."""
