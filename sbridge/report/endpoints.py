"""Endpoints: held-out points after the move, on top of the held-out points they should look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sbridge.bridge import Direction
from sbridge.problem import Problem
from sbridge.report.content import Exhibit, Journeys, Material
from sbridge.report.style import DATA0, DATA1, WIDTH, canvas, colours, extent, styled
from sbridge.report.views import Line, View, view_of

__all__ = ["Endpoints", "endpoints"]

Values = NDArray[Any]

_BINS = 8, 40  # at least and at most
_POINTS = 1000  # in a scatter plot
_MARGINALS = 3  # coordinates shown as they are; with more of them, the view's


@dataclass(frozen=True)
class Endpoints:
    """Where each method's process ends, in one direction."""

    direction: Direction

    @property
    def slug(self) -> str:
        return f"endpoints_{self.direction}"

    @property
    def title(self) -> str:
        return f"Endpoints, {self.direction}"

    def applies(self, material: Material) -> bool:
        return bool(material.methods)

    def exhibit(self, material: Material) -> Exhibit:
        start, end = ("x0", "x1") if self.direction == "forward" else ("x1", "x0")
        caption = (
            f"Held-out points of {start} moved {self.direction} by each method (its colour), on top of the held-out "
            f"points of {end} that they should be distributed like (pale). Histograms show single coordinates."
        )
        lost = _lost(material.journeys, self.direction)
        figure = endpoints(material.problem, material.journeys, self.direction)
        return Exhibit(figure, " ".join([caption, *lost]))


def _lost(journeys: Journeys, direction: Direction) -> list[str]:
    """A sentence for each method that moves points to no finite place."""
    _, paths = journeys.towards(direction)
    counts = {name: int((~torch.isfinite(path[-1])).any(-1).sum()) for name, path in paths.items()}
    return [f"{name} moved {n} points to no finite place; they are not shown." for name, n in counts.items() if n]


@styled
def endpoints(problem: Problem, journeys: Journeys, direction: Direction) -> Figure:
    """One column for each method: a scatter plot (from two dimensions on) above histograms of coordinates."""
    true, fill = (problem.test1, DATA1) if direction == "forward" else (problem.test0, DATA0)
    _, paths = journeys.towards(direction)
    methods, view = list(paths), view_of(problem)
    histograms = _coordinates(problem, view, true)
    scatters = 0 if isinstance(view, Line) else 1
    width = max(WIDTH / max(len(methods), 2), 1.9)
    heights = [width * view.height(problem) + 0.3] * scatters + [0.55 * width] * len(histograms)
    figure, axes = canvas(
        len(heights), len(methods), (width, sum(heights) / len(heights)), height_ratios=heights, sharey="row"
    )
    for column, name in zip(axes.T, methods, strict=True):
        colour = colours(methods)[name]
        column[0].set_title(name, color=colour)
        moved = paths[name][-1]
        for ax in column[:scatters]:
            _scatter(ax, view, problem, moved, true, (colour, fill))
        for ax, (label, of_true) in zip(column[scatters:], histograms.items(), strict=True):
            _histogram(ax, label, _coordinates(problem, view, moved)[label], of_true, (colour, fill))
    for ax, label in zip(axes[:, 0], [view.labels[1]] * scatters + ["density"] * len(histograms), strict=True):
        ax.set_ylabel(label)
    return figure


def _coordinates(problem: Problem, view: View, points: Tensor) -> dict[str, Values]:
    """Label → values (n,) of each coordinate that gets a histogram."""
    if problem.dim <= _MARGINALS:
        return {f"x{'₁₂₃'[k]} (data units)": points[:, k].numpy() for k in range(problem.dim)}
    return dict(zip(view.labels, view.project([1.0], points[None])[0].T, strict=True))


def _scatter(ax: Axes, view: View, problem: Problem, moved: Tensor, true: Tensor, ink: tuple[str, str]) -> None:
    for points, colour, size in ((true, ink[1], 7.0), (moved, ink[0], 4.0)):
        shown = view.project([1.0], points[None, :_POINTS])[0]
        size *= min(3.0, (600 / len(shown)) ** 0.5)
        ax.scatter(shown[:, 0], shown[:, 1], s=size, color=colour, alpha=0.6, linewidths=0)
    view.frame(ax, problem)
    ax.set_xlabel(view.labels[0])


def _histogram(ax: Axes, label: str, moved: Values, true: Values, ink: tuple[str, str]) -> None:
    count = int(np.clip(np.sqrt(min(len(moved), len(true))), *_BINS))
    bins = np.linspace(*extent(true), count + 1).tolist()
    ax.hist(true, bins, density=True, color=ink[1], alpha=0.55)
    inside = moved[np.isfinite(moved)]
    weights = np.full(len(inside), 1 / (len(moved) * (bins[1] - bins[0])))
    ax.hist(inside, bins, weights=weights, histtype="step", color=ink[0], linewidth=1.4)
    ax.set_xlabel(label)
