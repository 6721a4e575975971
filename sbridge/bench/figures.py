"""The figures of a benchmark: accuracy against time, dimension or number of points, with a curve for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge.evaluation import FLOOR, TRUTH, Column, column_named
from sbridge.report.style import GREY, canvas, colours, dashes, plain_powers, styled

__all__ = ["DIMENSION", "NUMBER_OF_POINTS", "TIME", "Abscissa", "figures", "method_curves"]

_LABELS = {"case": "{}", "family": "{}", "epsilon": "ε = {:g}", "dim": "d = {}", "points": "n = {}"}
_MARKERS = "osD^vP*X<>hd8"
_WIDE = 3  # panels in a row
_LABEL_WIDTH = 1.8  # inches, of a name in the legend
_NARROW = 4  # least ratio of the ends of an axis of x


@dataclass(frozen=True)
class Abscissa:
    """The quantity along the x axis of a figure.

    Args:
        x: its column.
        title: its name and unit.
        fixed: columns that are constant within a panel.
        least: a panel needs at least this many different values of x.
    """

    x: str
    title: str
    fixed: tuple[str, ...]
    least: int = 2


TIME = Abscissa("fit_seconds", "time of the fit (s)", ("case",), least=1)
DIMENSION = Abscissa("dim", "dimension", ("family", "epsilon", "points"))
NUMBER_OF_POINTS = Abscissa("points", "training points per side", ("family", "epsilon", "dim"))


def figures(table: pl.DataFrame) -> dict[str, Figure]:
    """All figures for which the table has values, by name.

    They show path KL and cBW-UVP where the truth is known, elsewhere W2 at both ends.  Figures against dimension and
    number of points use the largest budget of each method.
    """
    untrue = table.filter(pl.col("path_kl").count().over("case") == 0)
    longest = table.filter((pl.col("budget") == pl.col("budget").max().over("case", "method")).fill_null(True))
    few = longest.filter(pl.col("case").is_in(untrue["case"].implode()))
    drawn = {}
    parts = ((TIME, table, untrue), (DIMENSION, longest, few), (NUMBER_OF_POINTS, longest, few))
    for abscissa, cases, without_truth in parts:
        for name in ("path_kl", "cbw_uvp"):
            drawn[f"{name}_by_{abscissa.x}"] = method_curves(cases, column_named(name), abscissa)
        for name in ("forward_wasserstein", "backward_wasserstein"):
            drawn[f"{name}_by_{abscissa.x}"] = method_curves(without_truth, column_named(name), abscissa)
    return {name: figure for name, figure in drawn.items() if figure is not None}


@styled
def method_curves(table: pl.DataFrame, column: Column, abscissa: Abscissa) -> Figure | None:
    """A panel for each setting of the fixed columns; None if there is nothing to draw.

    Error bars are standard deviations over seeds, or standard errors if there is one seed.  Zeros, such as the floor of
    the path KL, are left out because the axis is logarithmic.
    """
    found = table.filter((pl.col(column.name) > 0) & (pl.col("method") != TRUTH))
    methods = [method for method in found["method"].unique(maintain_order=True) if method != FLOOR]
    parts = found.partition_by(abscissa.fixed, maintain_order=True)
    panels = [part for part in parts if _says_something(part.filter(pl.col("method") != FLOOR), abscissa)]
    if not (panels and methods):
        return None
    rows = -(-len(panels) // _WIDE)
    figure, axes = canvas(rows, min(len(panels), _WIDE), (3.6, 3.0))
    for ax, panel in zip(axes.flat, panels, strict=False):
        _panel(ax, panel, column, abscissa, methods)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    handles = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    columns = int(figure.get_figwidth() // _LABEL_WIDTH)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
    return figure


def _says_something(rows: pl.DataFrame, abscissa: Abscissa) -> bool:
    """Whether a panel has enough values of x, and more than one point."""
    return len(rows) > 1 and rows[abscissa.x].n_unique() >= abscissa.least


def _panel(ax: Axes, panel: pl.DataFrame, column: Column, abscissa: Abscissa, methods: Sequence[str]) -> None:
    colour, dash = colours(methods), dashes(methods)
    for k, method in enumerate(methods):
        rows = panel.filter((pl.col("method") == method) & pl.col(abscissa.x).is_not_null()).sort(abscissa.x).to_dicts()
        style = {"color": colour[method], "linestyle": dash[method], "marker": _MARKERS[k % len(_MARKERS)]}
        values, errors = [row[column.name] for row in rows], [_error(row, column) for row in rows]
        ax.errorbar([row[abscissa.x] for row in rows], values, errors, label=method, markersize=4, capsize=2, **style)
    _floor(ax, panel.filter(pl.col("method") == FLOOR), column, abscissa)
    title = ", ".join(_LABELS[name].format(panel[name][0]) for name in abscissa.fixed if panel[name][0] is not None)
    ax.set(xscale="log", yscale="log", xlabel=abscissa.title, ylabel=_in_words(column), title=title)
    ax.grid(alpha=0.25)
    _widen(ax)
    plain_powers(ax.xaxis)
    plain_powers(ax.yaxis)
    if abscissa.least > 1:
        values = panel[abscissa.x].drop_nulls().unique().sort().to_list()
        ax.set_xticks(values, [f"{value:,}" for value in values])
        ax.minorticks_off()


def _in_words(column: Column) -> str:
    """The label of an axis."""
    heading = column.heading.replace("→", "forward").replace("←", "backward")
    return heading.replace("(x)", "(units of the data)")


def _widen(ax: Axes) -> None:
    """Make the x axis span at least a factor of four: equal budgets differ by milliseconds."""
    low, high = ax.get_xlim()
    if high < _NARROW * low:
        middle = (low * high) ** 0.5
        ax.set_xlim(middle / _NARROW**0.5, middle * _NARROW**0.5)


def _floor(ax: Axes, rows: pl.DataFrame, column: Column, abscissa: Abscissa) -> None:
    """The floor as a line."""
    look: dict[str, Any] = {"color": GREY, "linewidth": 1.0, "linestyle": ":", "label": "floor"}
    if len(rows) == 1:
        ax.axhline(rows[column.name][0], **look)
    elif len(rows):
        rows = rows.sort(abscissa.x)
        ax.plot(rows[abscissa.x].to_list(), rows[column.name].to_list(), **look)


def _error(row: Mapping[str, Any], column: Column) -> float:
    spread, error = row[f"{column.name}_spread"], row.get(column.error)
    return float(spread if spread is not None else error or 0.0)
