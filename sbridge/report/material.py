"""What the sections of a page share: the run they show (`Material`) and what each returns (`Exhibit`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.errors import DivergenceError
from sbridge.evaluation import TRUTH, Comparison
from sbridge.io import Run
from sbridge.movement import Movement, what_moves
from sbridge.problem import Problem
from sbridge.report.coordinates import Coordinate, columns_of
from sbridge.standardise import as_fitted

__all__ = ["Exhibit", "Material", "Paths", "Section", "paths_of"]

_MOVED_POINTS = 1000
_MOVE_STEPS = 50
_TIMES = [k / _MOVE_STEPS for k in range(_MOVE_STEPS + 1)]
_POINTS = 2000  # whose movement is measured


@dataclass(frozen=True)
class Exhibit:
    """A section of the page.

    Args:
        slug: name of its figures' files, without their ending.
        title: heading.
        caption: how to read it.
        figures: small ones, which stand side by side where there is room, or one that is wide.
        table: a table below them (`sbridge.tables`), if any.
    """

    slug: str
    title: str
    caption: str
    figures: Sequence[Figure]
    table: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Paths:
    """Paths of held-out points under each method's process, in the user's units.

    Args:
        times: rising.
        forward: method → paths from test0, (len(times), n, d), along `times`.
        backward: method → paths from test1, (len(times), n, d), along `times` too, so that they start with the last.
        lost: methods that have none, because their paths became infinite.
    """

    times: Sequence[float]
    forward: Mapping[str, Tensor]
    backward: Mapping[str, Tensor]
    lost: Sequence[str] = ()

    def ends(self, direction: Direction) -> dict[str, Tensor]:
        """Where each method's paths end, (n, d)."""
        if direction == "forward":
            return {name: paths[-1] for name, paths in self.forward.items()}
        return {name: paths[0] for name, paths in self.backward.items()}


def paths_of(problem: Problem, bridges: Mapping[str, Bridge]) -> Paths:
    """Paths of up to 1,000 held-out points in both directions, with the same noise for every bridge."""

    def move(bridge: Bridge) -> tuple[Tensor, Tensor] | None:
        try:
            forward = bridge.trajectories(x0, _TIMES, steps=_MOVE_STEPS, random_state=0)
            return forward, bridge.trajectories(x1, _TIMES[::-1], steps=_MOVE_STEPS, random_state=0).flip(0)
        except DivergenceError:
            return None

    x0, x1 = problem.test0[:_MOVED_POINTS], problem.test1[:_MOVED_POINTS]
    moved = {name: move(bridge) for name, bridge in bridges.items()}
    found = {name: both for name, both in moved.items() if both is not None}
    forward, backward = ({name: both[k] for name, both in found.items()} for k in (0, 1))
    return Paths(_TIMES, forward, backward, [name for name in moved if name not in found])


@dataclass(frozen=True)
class Material:
    """A run, and what several sections need of it, computed once."""

    run: Run

    @cached_property
    def problem(self) -> Problem:
        """The problem in the coordinates of the fit: standardised, if the run is."""
        return self.run.fitted_problem

    @property
    def fitted(self) -> str:
        """Name of the method that the page is about, the first one."""
        return str(next(iter(self.run.config["methods"])))

    @cached_property
    def bridges(self) -> dict[str, Bridge]:
        """The bridge in the user's units of each finished method with finite paths; the fitted one is the first."""
        return {name: bridge for name, bridge in self._finished.items() if name in self.paths.forward}

    @cached_property
    def methods(self) -> dict[str, Bridge]:
        """The same in the coordinates of `problem`."""
        return {name: as_fitted(bridge) for name, bridge in self.bridges.items()} if self.scaled else self.bridges

    @property
    def scaled(self) -> bool:
        """Whether the fit is in standardised units."""
        return self.run.standardise is not None

    @cached_property
    def paths(self) -> Paths:
        """Paths under every method, and under the exact bridge where it is known."""
        truth = self.problem.truth
        return paths_of(self.run.problem, self._finished if truth is None else self._finished | {TRUTH: truth})

    @cached_property
    def _finished(self) -> dict[str, Bridge]:
        return self.run.bridges()

    @cached_property
    def movement(self) -> Movement | None:
        """What the fitted bridge moves, by the user's columns, in the user's units; None where it has no paths."""
        if self.fitted not in self.bridges:
            return None
        names = [column.name for column in columns_of(self.run.problem)]
        return what_moves(self.bridges[self.fitted], self.run.problem.test0[:_POINTS], names)

    @cached_property
    def columns(self) -> list[Coordinate]:
        """The user's columns, those that move most first."""
        known = {column.name: column for column in columns_of(self.run.problem)}
        return [known[mover.name] for mover in self.movement.movers] if self.movement else list(known.values())

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
