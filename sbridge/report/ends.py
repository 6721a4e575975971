"""Where the points end, column by column, beside the held-out points that they should look like."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sbridge.bridge import Direction
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import DATA0, DATA1, colours, dashes, extent, panel, short, styled

__all__ = ["ends"]

_COLUMNS = 4
_BINS = 8, 40  # least and most
_MARGIN = 0.25  # of the range of the held-out points, for others that are farther out


def ends(material: Material) -> Exhibit | None:
    """Histograms of the columns that move most, at both ends."""
    if not material.bridges:
        return None
    problem, shown = material.run.problem, material.columns[:_COLUMNS]
    sides: list[tuple[Direction, Tensor, str]] = [
        ("forward", problem.test1, f"held-out x1 ({len(problem.test1):,})"),
        ("backward", problem.test0, f"held-out x0 ({len(problem.test0):,})"),
    ]
    figures = []
    for column in shown:
        for direction, true, label in sides:
            moved = {name: column.of(points).numpy() for name, points in material.paths.ends(direction).items()}
            figures.append(_histogram(column.name, direction, moved, label, column.of(true).numpy()))
    which = "each column" if len(shown) == problem.dim else f"the {len(shown)} columns that move most"
    caption = (
        f"The distribution of {which}. Filled: held-out points. Lines: other held-out points after each method moved "
        "them, forward to t = 1 or backward to t = 0. A line that follows the filled area is right."
    )
    return Exhibit("ends", "Where the points end", caption, figures)


@styled
def _histogram(
    column: str, direction: Direction, moved: Mapping[str, NDArray[np.float64]], label: str, true: NDArray[np.float64]
) -> Figure:
    figure, ax = panel()
    count = int(np.clip(np.sqrt(min(len(true), *map(len, moved.values()))), *_BINS))
    bins = np.linspace(*extent(true, _MARGIN), count + 1).tolist()
    fill = DATA1 if direction == "forward" else DATA0
    ax.hist(true, bins, density=True, color=fill, alpha=0.5, histtype="stepfilled", label=label)
    for name, values in moved.items():
        weights = np.full(len(values), 1 / (len(values) * (bins[1] - bins[0])))
        look = {"color": colours(list(moved))[name], "linestyle": dashes(list(moved))[name]}
        heights, _ = np.histogram(values, bins, weights=weights)
        ax.stairs(heights, bins, linewidth=1.4, label=short(name), **look)
    ax.set(xlabel=column, ylabel="density", title=f"moved {direction}, at t = {1 if direction == 'forward' else 0}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
