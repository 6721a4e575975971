"""What a page is made of: sections, what they show, and what they show it of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import polars as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.bridge import Bridge, Direction
from sbridge.evaluation import TRUTH, Comparison
from sbridge.io import Run
from sbridge.problem import Problem

__all__ = ["Exhibit", "Journeys", "Material", "Section", "journeys"]

_POINTS = 600  # held-out points moved for the figures
_STEPS = 50
_TIMES = [k / _STEPS for k in range(_STEPS + 1)]


@dataclass(frozen=True)
class Exhibit:
    """What a section shows.

    Args:
        figure: the figure.
        caption: how to read it, in plain words.
        headings, rows: a small table below it, if any.
        kind: "plot", whose colours a dark page turns around, or "picture", whose colours are the point.
    """

    figure: Figure
    caption: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    kind: Literal["plot", "picture"] = "plot"


class Section(Protocol):
    """One part of the page; a new one is a class with these four and an entry in `sbridge.report.page.SECTIONS`."""

    @property
    def slug(self) -> str:
        """Name of the figure's file."""

    @property
    def title(self) -> str:
        """Heading."""

    def applies(self, material: Material) -> bool:
        """Whether the run has what the section shows."""

    def exhibit(self, material: Material) -> Exhibit:
        """The figure and its caption."""


@dataclass(frozen=True)
class Journeys:
    """Held-out points on their way through each method's process.

    Args:
        times: rising.
        forward: method → paths from test0, (len(times), n, d), along `times`.
        backward: method → paths from test1, (len(times), n, d), along `times` reversed.
    """

    times: Sequence[float]
    forward: Mapping[str, Tensor]
    backward: Mapping[str, Tensor]

    def towards(self, direction: Direction) -> tuple[Sequence[float], Mapping[str, Tensor]]:
        """The times in the order of travel, and every method's paths."""
        if direction == "forward":
            return self.times, self.forward
        return self.times[::-1], self.backward


def journeys(problem: Problem, bridges: Mapping[str, Bridge], random_state: int = 0) -> Journeys:
    """Move up to 600 held-out points both ways with every bridge's own law, the same noise for all."""

    def move(x: Tensor, times: Sequence[float]) -> dict[str, Tensor]:
        start = x[:_POINTS]
        return {
            name: bridge.trajectories(start, times, steps=_STEPS, random_state=random_state)
            for name, bridge in bridges.items()
        }

    return Journeys(_TIMES, move(problem.test0, _TIMES), move(problem.test1, _TIMES[::-1]))


@dataclass(frozen=True)
class Material:
    """A run, and what several sections need of it, computed once."""

    run: Run
    seed: int = field(default=0)

    @cached_property
    def problem(self) -> Problem:
        """The problem, as it was solved."""
        return self.run.problem

    @cached_property
    def methods(self) -> dict[str, Bridge]:
        """Every finished method's bridge, the fitted one first."""
        return self.run.bridges()

    @cached_property
    def bridges(self) -> dict[str, Bridge]:
        """The same, and the exact bridge where it is known."""
        truth = self.problem.truth
        return self.methods if truth is None else self.methods | {TRUTH: truth}

    @cached_property
    def journeys(self) -> Journeys:
        """Held-out points moved by every bridge."""
        return journeys(self.problem, self.bridges, self.seed)

    @cached_property
    def comparison(self) -> Comparison | None:
        """The table, where there is one."""
        return self.run.comparison()

    @cached_property
    def history(self) -> pl.DataFrame | None:
        """The fit's monitoring rows, where there are any."""
        return self.run.history() if self.run.path("history.csv").exists() else None

    def generator(self) -> torch.Generator:
        """A fresh source of random numbers, the same for every section."""
        return torch.Generator().manual_seed(self.seed)
