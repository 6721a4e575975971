"""How points of any dimension are put on paper: a line against time, the plane, or two principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from sbridge.problem import Problem
from sbridge.report.style import extent, time_axis

__all__ = ["Line", "Plane", "Principal", "View", "view_of"]

Points = NDArray[np.floating[Any]]


class View(Protocol):
    """A projection of points to paper."""

    name: str
    labels: tuple[str, str]

    def project(self, times: Sequence[float], paths: Tensor) -> Points:
        """Paths (len(times), n, d) on paper, (len(times), n, 2)."""

    def frame(self, ax: Axes, problem: Problem) -> None:
        """Set limits and aspect so as to show the data of both ends."""

    def height(self, problem: Problem) -> float:
        """Height of a panel over its width."""


class Line:
    """One dimension: the point against time."""

    name = "the point against time"
    labels = ("time t", "x (data units)")

    def project(self, times: Sequence[float], paths: Tensor) -> Points:
        t = torch.as_tensor(times, dtype=paths.dtype)[:, None, None].expand(paths.shape)
        return torch.cat([t, paths], dim=-1).numpy()

    def frame(self, ax: Axes, problem: Problem) -> None:
        time_axis(ax)
        ax.set(xlim=(-0.04, 1.04), ylim=extent(torch.cat([problem.test0, problem.test1]).numpy()))

    def height(self, problem: Problem) -> float:
        return 0.7


class _Flat:
    """Both coordinates on one scale."""

    def project(self, times: Sequence[float], paths: Tensor) -> Points:
        raise NotImplementedError

    def frame(self, ax: Axes, problem: Problem) -> None:
        x, y = self._limits(problem)
        ax.set(xlim=x, ylim=y, aspect="equal")

    def height(self, problem: Problem) -> float:
        (left, right), (bottom, top) = self._limits(problem)
        return (top - bottom) / (right - left)

    def _limits(self, problem: Problem) -> tuple[tuple[float, float], tuple[float, float]]:
        shown = self.project([0.0], torch.cat([problem.test0, problem.test1])[None])[0]
        return extent(shown[:, 0]), extent(shown[:, 1])


class Plane(_Flat):
    """Two dimensions, as they are."""

    name = "the plane of the data"
    labels = ("x₁ (data units)", "x₂ (data units)")

    def project(self, times: Sequence[float], paths: Tensor) -> Points:
        return paths.numpy()


class Principal(_Flat):
    """The first two principal components of the pooled held-out data."""

    name = "the first two principal components of the pooled held-out data"

    def __init__(self, problem: Problem) -> None:
        pooled = torch.cat([problem.test0, problem.test1]).double()
        self.centre = pooled.mean(0)
        _, size, axes = torch.linalg.svd(pooled - self.centre, full_matrices=False)
        self.axes = axes[:2] * torch.where(axes[:2].sum(1, keepdim=True) < 0, -1, 1)  # their sign is arbitrary; fix it
        share = (size**2 / (size**2).sum() * 100).tolist()
        self.labels = (f"PC 1 ({share[0]:.0f} % of variance)", f"PC 2 ({share[1]:.0f} % of variance)")

    def project(self, times: Sequence[float], paths: Tensor) -> Points:
        shown: Points = ((paths.double() - self.centre) @ self.axes.T).numpy()
        return shown


def view_of(problem: Problem) -> View:
    """The view for the problem's dimension."""
    return Line() if problem.dim == 1 else Plane() if problem.dim == 2 else Principal(problem)
