"""Held-out points under each method's process: whole paths, and endpoints beside the points they should look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sbridge.bridge import Direction
from sbridge.problem import Problem
from sbridge.report.material import Exhibit, Material, Paths
from sbridge.report.style import DATA0, DATA1, WIDTH, canvas, colours, extent, styled, time_axis

__all__ = ["AgainstTime", "Plane", "View", "endpoints", "principal", "trajectories", "view_of"]

Values = NDArray[np.floating[Any]]

_DRAWN_PATHS = 30
_DRAWN_POINTS = 1000
_DATA_COORDINATES = 3  # with more dimensions, histograms show principal components
_BINS = 8, 40  # least and most
_TALLEST = 2.0  # over its width, of a panel: columns of unlike spreads would make it endless
_NARROWEST = 1.9  # inches, of a panel
_DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")


class AgainstTime:
    """One dimension: the point against time.

    Args:
        label: of the axis of the point.
    """

    name = "the point against time"

    def __init__(self, label: str) -> None:
        self.labels = "time t", label

    def project(self, times: Sequence[float], paths: Tensor) -> Values:
        """Paths (len(times), n, 1) in the figure's coordinates, (len(times), n, 2)."""
        t = torch.as_tensor(times, dtype=paths.dtype)[:, None, None].expand(paths.shape)
        return torch.cat([t, paths], dim=-1).numpy()

    def frame(self, ax: Axes, problem: Problem) -> None:
        """Set limits that show the data of both ends."""
        time_axis(ax)
        ax.set(xlim=(-0.04, 1.04), ylim=extent(torch.cat([problem.test0, problem.test1]).numpy()))

    def height(self, problem: Problem) -> float:
        """Height of a panel over its width."""
        return 0.7


class Plane:
    """A projection to a plane, both axes on one scale.

    Args:
        name: what the plane is.
        labels: of its axes.
        axes: (2, d), orthonormal.
        centre: (d,), the origin of the plane.
    """

    def __init__(self, name: str, labels: tuple[str, str], axes: Tensor, centre: Tensor) -> None:
        self.name, self.labels, self.axes, self.centre = name, labels, axes, centre

    def project(self, times: Sequence[float], paths: Tensor) -> Values:
        """Paths (len(times), n, d) in the figure's coordinates, (len(times), n, 2)."""
        shown: Values = ((paths.double() - self.centre) @ self.axes.T).numpy()
        return shown

    def frame(self, ax: Axes, problem: Problem) -> None:
        """Set limits and aspect that show the data of both ends."""
        x, y = self._limits(problem)
        ax.set(xlim=x, ylim=y, aspect="equal")

    def height(self, problem: Problem) -> float:
        """Height of a panel over its width."""
        (left, right), (bottom, top) = self._limits(problem)
        return min(_TALLEST, (top - bottom) / (right - left))

    def _limits(self, problem: Problem) -> tuple[tuple[float, float], tuple[float, float]]:
        shown = self.project([0.0], torch.cat([problem.test0, problem.test1])[None])[0]
        return extent(shown[:, 0]), extent(shown[:, 1])


View = AgainstTime | Plane


def principal(problem: Problem) -> Plane:
    """The plane of the first two principal components of the pooled held-out data."""
    pooled = torch.cat([problem.test0, problem.test1]).double()
    centre = pooled.mean(0)
    _, size, axes = torch.linalg.svd(pooled - centre, full_matrices=False)
    axes = axes[:2] * torch.where(axes[:2].sum(1, keepdim=True) < 0, -1, 1)  # their sign is arbitrary; fix it
    share = (size**2 / (size**2).sum() * 100).tolist()
    labels = f"PC 1 ({share[0]:.0f} % of variance)", f"PC 2 ({share[1]:.0f} % of variance)"
    return Plane("the first two principal components of the pooled held-out data", labels, axes, centre)


def _coordinate(problem: Problem, k: int) -> str:
    """The label of one of the first coordinates: the user's name for it, where there is one."""
    own = None if problem.columns is None else problem.columns[k].replace("$", r"\$")  # $ begins a formula
    return f"{own or 'x' + '₁₂₃'[k] * (problem.dim > 1)} (data units)"


def view_of(problem: Problem) -> View:
    """How points of the problem's dimension are drawn."""
    if problem.dim == 1:
        return AgainstTime(_coordinate(problem, 0))
    if problem.dim == 2:
        labels = _coordinate(problem, 0), _coordinate(problem, 1)
        return Plane("the plane of the data", labels, torch.eye(2).double(), torch.zeros(2).double())
    return principal(problem)


def trajectories(material: Material) -> Exhibit | None:
    """Single paths in both directions, one column for each method."""
    if not material.methods:
        return None
    caption = (
        f"Paths of {_DRAWN_PATHS} held-out points under each method's own process, dX = u dt + √(2ε) dW: "
        f"{view_of(material.problem).name}. Above: forward, from x0 (orange) to x1 (blue). Below: backward, from x1 to "
        "x0. Clouds are held-out data; a dot marks the end of a path. All methods start from the same points and use "
        "the same noise."
    )
    return Exhibit("trajectories", "Trajectories", _path_panels(material.problem, material.paths), caption)


@styled
def _path_panels(problem: Problem, paths: Paths) -> Figure:
    methods = list(paths.forward)
    palette, view = colours(methods), view_of(problem)
    width = _column_width(methods)
    figure, axes = canvas(2, len(methods), (width, width * view.height(problem) + 0.3), sharex=True, sharey=True)
    for row, direction in zip(axes, _DIRECTIONS, strict=True):
        times, moved = paths.towards(direction)
        row[0].set_ylabel(f"{direction}\n{view.labels[1]}")
        for ax, name in zip(row, methods, strict=True):
            _clouds(ax, view, problem)
            _draw_paths(ax, view.project(times, moved[name][:, :_DRAWN_PATHS]), palette[name])
            view.frame(ax, problem)
    for (top, bottom), name in zip(axes.T, methods, strict=True):
        top.set_title(name, color=palette[name])
        bottom.set_xlabel(view.labels[0])
    return figure


def _column_width(methods: Sequence[str]) -> float:
    return max(WIDTH / max(len(methods), 2), _NARROWEST)


def _clouds(ax: Axes, view: View, problem: Problem) -> None:
    for t, points, colour in ((0.0, problem.test0, DATA0), (1.0, problem.test1, DATA1)):
        shown = view.project([t], points[None, :_DRAWN_POINTS])[0]
        ax.scatter(shown[:, 0], shown[:, 1], s=3, color=colour, alpha=0.45, linewidths=0, zorder=1)


def _draw_paths(ax: Axes, shown: Values, colour: str) -> None:
    ax.plot(shown[..., 0], shown[..., 1], color=colour, linewidth=0.6, alpha=0.75, zorder=2)
    ax.scatter(shown[-1, :, 0], shown[-1, :, 1], s=9, color=colour, edgecolors="white", linewidths=0.4, zorder=3)


def endpoints(material: Material, direction: Direction) -> Exhibit | None:
    """Where each method's process ends, beside the held-out points of that end."""
    if not material.methods:
        return None
    start, end = ("x0", "x1") if direction == "forward" else ("x1", "x0")
    caption = (
        f"Held-out points of {start} moved {direction} by each method (its colour), on top of held-out points of "
        f"{end}, whose distribution they should have (pale). Histograms show single coordinates."
    )
    lost = _lost_points(material.paths, direction)
    figure = _end_panels(material.problem, material.paths, direction)
    return Exhibit(f"endpoints_{direction}", f"Endpoints, {direction}", figure, " ".join([caption, *lost]))


def _lost_points(paths: Paths, direction: Direction) -> list[str]:
    """A sentence for each method some of whose endpoints are not finite."""
    _, moved = paths.towards(direction)
    counts = {name: int((~torch.isfinite(path[-1])).any(-1).sum()) for name, path in moved.items()}
    return [f"{n} endpoints of {name} are not finite and are not shown." for name, n in counts.items() if n]


@styled
def _end_panels(problem: Problem, paths: Paths, direction: Direction) -> Figure:
    """One column for each method: a scatter plot (in two or more dimensions) above histograms of coordinates."""
    true, fill = (problem.test1, DATA1) if direction == "forward" else (problem.test0, DATA0)
    _, moved = paths.towards(direction)
    methods, view = list(moved), view_of(problem)
    histograms = _coordinates(problem, view, true)
    scatters = 0 if isinstance(view, AgainstTime) else 1
    width = _column_width(methods)
    heights = [width * view.height(problem) + 0.3] * scatters + [0.55 * width] * len(histograms)
    size = width, sum(heights) / len(heights)
    figure, axes = canvas(len(heights), len(methods), size, height_ratios=heights, sharey="row")
    for column, (name, path) in zip(axes.T, moved.items(), strict=True):
        ink = colours(methods)[name], fill
        column[0].set_title(name, color=ink[0])
        for ax in column[:scatters]:
            _scatter(ax, view, problem, path[-1], true, ink)
        for ax, (label, of_true) in zip(column[scatters:], histograms.items(), strict=True):
            _histogram(ax, label, _coordinates(problem, view, path[-1])[label], of_true, ink)
    for ax, label in zip(axes[:, 0], [view.labels[1]] * scatters + ["density"] * len(histograms), strict=True):
        ax.set_ylabel(label)
    return figure


def _coordinates(problem: Problem, view: View, points: Tensor) -> dict[str, Values]:
    """Label → values (n,) of each coordinate that has a histogram."""
    if problem.dim <= _DATA_COORDINATES:
        return {_coordinate(problem, k): points[:, k].numpy() for k in range(problem.dim)}
    return dict(zip(view.labels, view.project([1.0], points[None])[0].T, strict=True))


def _scatter(ax: Axes, view: View, problem: Problem, moved: Tensor, true: Tensor, ink: tuple[str, str]) -> None:
    for points, colour, size in ((true, ink[1], 7.0), (moved, ink[0], 4.0)):
        shown = view.project([1.0], points[None, :_DRAWN_POINTS])[0]
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
