"""The points in time: what page.js draws, small enough for a page.

Every coordinate of every point at every time is a 16-bit number between the limits of its axis, and goes into the page
in base64.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sbridge.report.coordinates import Coordinate, columns_of, principal
from sbridge.report.material import Material
from sbridge.report.style import VARIABLES, colours

__all__ = ["Animation", "animation", "axes_of"]

_BYTES = 1_200_000  # of all paths, before base64
_CLOUD_POINTS = 1000  # of a sample
_COLUMNS = 6  # that can be chosen
_PLANE = 3  # with more columns the first view is that of principal components
_EVERY = 2  # of the times of `Paths`
_MARGIN = 0.1  # of the range of the data, around them
_STEPS = 65_535  # between the limits of an axis


@dataclass(frozen=True)
class Animation:
    """Samples at some times, and paths between them.

    Args:
        times: of the paths, rising.
        axes: coordinates to choose from; the first two are shown first, or the only one against time.
        alike: whether all axes have one unit; they are then drawn to one scale.
        samples: name → its time and its points (n, d).
        forward, backward: method → paths (len(times), n, d), whatever their direction along `times`.
        lost: methods that have no paths, because they became infinite.
    """

    times: Sequence[float]
    axes: Sequence[Coordinate]
    alike: bool
    samples: Mapping[str, tuple[float, Tensor]]
    forward: Mapping[str, Tensor]
    backward: Mapping[str, Tensor]
    lost: Sequence[str] = ()

    def content(self) -> dict[str, Any]:
        """For page.js."""
        limits = [_limits(torch.cat([axis.of(x) for _, x in self.samples.values()])) for axis in self.axes]
        palette = colours(list(self.forward))
        return {
            "times": [round(t, 6) for t in self.times],
            "alike": self.alike,
            "lost": list(self.lost),
            "axes": [
                {"name": axis.name, "column": axis.column, "low": low, "high": high}
                for axis, (low, high) in zip(self.axes, limits, strict=True)
            ],
            "samples": [
                {"name": name, "time": t, "points": self._coded(x[None, :_CLOUD_POINTS], limits)}
                for name, (t, x) in self.samples.items()
            ],
            "methods": [
                {
                    "name": name,
                    "colour": VARIABLES[palette[name]],
                    "forward": self._coded(self.forward[name][:, : self._points], limits),
                    "backward": self._coded(self.backward[name][:, : self._points], limits),
                }
                for name in self.forward
            ],
        }

    @property
    def _points(self) -> int:
        """How many points' paths have room."""
        return _BYTES // (2 * 2 * len(self.axes) * len(self.times) * len(self.forward))

    def _coded(self, paths: Tensor, limits: Sequence[tuple[float, float]]) -> str:
        """Paths (times, n, d) as 16-bit numbers (axes, times, n) in base64."""
        numbers = torch.stack([_steps(axis.of(paths), *ends) for axis, ends in zip(self.axes, limits, strict=True)])
        return b64encode(numbers.numpy().astype("<u2").tobytes()).decode()


def animation(material: Material) -> Animation | None:
    """Held-out points under every method of a run, in the user's units; None where no method is finished."""
    if not material.bridges:
        return None
    paths, problem = material.paths, material.run.problem
    axes = axes_of((problem.test0, problem.test1), columns_of(problem), material.columns, material.scaled)
    samples = {"x0, held out": (0.0, problem.test0), "x1, held out": (1.0, problem.test1)}
    forward, backward = (
        {name: one[::_EVERY] for name, one in moved.items()} for moved in (paths.forward, paths.backward)
    )
    return Animation(paths.times[::_EVERY], axes, problem.columns is None, samples, forward, backward, paths.lost)


def axes_of(
    samples: Sequence[Tensor], columns: Sequence[Coordinate], first: Sequence[Coordinate], scaled: bool = False
) -> list[Coordinate]:
    """All columns where they are few, else two principal components and the columns that come first.

    Args:
        samples: points (n, d).
        columns: all columns, in their order.
        first: the same, the most important first.
        scaled: whether the principal components are those of columns of equal spread.
    """
    if len(columns) <= _PLANE:
        return list(columns)
    return [*principal(samples, columns, scaled), *first[:_COLUMNS]]


def _limits(values: Tensor) -> tuple[float, float]:
    """The range of the data with a margin."""
    low, high = values.min().item(), values.max().item()
    margin = _MARGIN * (high - low) or 1.0
    return low - margin, high + margin


def _steps(values: Tensor, low: float, high: float) -> Tensor:
    """Numbers as steps between the limits; those outside stand at the limits."""
    return ((values - low) / (high - low) * _STEPS).round().clamp(0, _STEPS)
