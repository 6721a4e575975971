"""Trajectories: single points on their way, forward and backward, method beside method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.bridge import Direction
from sbridge.problem import Problem
from sbridge.report.content import Exhibit, Journeys, Material
from sbridge.report.style import DATA0, DATA1, WIDTH, canvas, colours, styled
from sbridge.report.views import View, view_of

__all__ = ["Trajectories", "trajectories"]

_PATHS = 30
_DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")


@dataclass(frozen=True)
class Trajectories:
    """Paths of the process of each method."""

    slug = "trajectories"
    title = "Trajectories"

    def applies(self, material: Material) -> bool:
        return bool(material.methods)

    def exhibit(self, material: Material) -> Exhibit:
        view = view_of(material.problem)
        caption = (
            f"{_PATHS} held-out points followed through each method's own process, dX = u dt + √(2ε) dW: {view.name}. "
            "Above: forward, from x0 (orange) to x1 (blue). Below: backward, from x1 to x0. Clouds are held-out data; "
            "a dot marks where a path ends. All methods start from the same points and see the same noise."
        )
        return Exhibit(trajectories(material.problem, material.journeys), caption)


@styled
def trajectories(problem: Problem, journeys: Journeys) -> Figure:
    """Two rows (forward, backward) and one column for each method."""
    methods = list(journeys.forward)
    palette, view = colours(methods), view_of(problem)
    width = max(WIDTH / max(len(methods), 2), 1.9)
    figure, axes = canvas(2, len(methods), (width, width * view.height(problem) + 0.3), sharex=True, sharey=True)
    for row, direction in zip(axes, _DIRECTIONS, strict=True):
        times, paths = journeys.towards(direction)
        for ax, name in zip(row, methods, strict=True):
            _clouds(ax, view, problem)
            _paths(ax, view, times, paths[name][:, :_PATHS], palette[name])
            view.frame(ax, problem)
    for ax, name in zip(axes[0], methods, strict=True):
        ax.set_title(name, color=palette[name])
    for ax, direction in zip(axes[:, 0], _DIRECTIONS, strict=True):
        ax.set_ylabel(f"{direction}\n{view.labels[1]}")
    for ax in axes[-1]:
        ax.set_xlabel(view.labels[0])
    return figure


def _clouds(ax: Axes, view: View, problem: Problem) -> None:
    for t, points, colour in ((0.0, problem.test0, DATA0), (1.0, problem.test1, DATA1)):
        shown = view.project([t], points[None, :1000])[0]
        ax.scatter(shown[:, 0], shown[:, 1], s=3, color=colour, alpha=0.45, linewidths=0, zorder=1)


def _paths(ax: Axes, view: View, times: Sequence[float], paths: Tensor, colour: str) -> None:
    shown = view.project(times, paths)
    ax.plot(shown[..., 0], shown[..., 1], color=colour, linewidth=0.6, alpha=0.75, zorder=2)
    ax.scatter(shown[-1, :, 0], shown[-1, :, 1], s=9, color=colour, edgecolors="white", linewidths=0.4, zorder=3)
