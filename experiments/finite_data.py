"""Claim: from few points the Sinkhorn plug-in collapses onto its data; learned ones, chosen on held-out points, do not.

    .venv/bin/python experiments/finite_data.py

Path KL from the bridge between the two laws (mixture, ε = ½), for n training points per side, drawn anew for every
seed.  "No early stopping" is max–min that answers with its last average instead of the one that held-out points chose.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import polars as pl
import tyro
from bench import RESULTS
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge.bench import Entry, Finite, bench, cells_of, chosen
from sbridge.bench.figures import plain_powers
from sbridge.bridge import Bridge
from sbridge.couplings import Independent
from sbridge.problem import Problem
from sbridge.report.style import canvas, plain_powers, png, styled
from sbridge.solvers.maxmin import MaxMin, MaxMinTraining
from sbridge.solvers.regression import Regression


class Unselected(MaxMinTraining):
    """A training whose answer is its last average, whatever the held-out points say."""

    def bridge(self) -> Bridge:
        self.selection.kept = copy.deepcopy(self.weights())
        return super().bridge()


@dataclass(frozen=True)
class LastAverage(MaxMin):
    """Max–min that answers with its last average."""

    def start(self, problem: Problem, random_state: int = 0) -> MaxMinTraining:
        return Unselected(self, problem, random_state)


UNLEARNED = Entry("linear-product", "no search: linear, product coupling", Regression(coupling=Independent))
UNSTOPPED = Entry("maxmin-last", "max–min, no early stopping", LastAverage())
METHODS = [*chosen(["potential", "maxmin-potential", "maxmin"]), UNSTOPPED]
METHODS += [*chosen(["whole-plan", "maxmin-product"]), UNLEARNED, *chosen(["pot", "geomloss", "blockwise"])]
LOOKS = {
    "potential": ("#009E73", "-", "o", "mixture potential"),
    "maxmin-potential": ("#56B4E9", "-", "v", "max–min on the potential"),
    "maxmin": ("#0072B2", "-", "o", "max–min"),
    "maxmin-last": ("#0072B2", (0, (1.5, 1)), "o", "… without early stopping"),
    "whole-plan": ("#CC79A7", "-", "s", "max–min, one plan of all points"),
    "maxmin-product": ("#5B3A8C", "-", "^", "max–min, product coupling"),
    "linear-product": ("#777777", (0, (5, 1.5)), "^", "no search (linear, product)"),
    "pot": ("#D55E00", "-", "D", "Sinkhorn plug-in (POT)"),
    "geomloss": ("#E69F00", (0, (5, 1.5)), "D", "Sinkhorn plug-in (GeomLoss)"),
    "blockwise": ("#7A5C00", (0, (1.5, 1)), "D", "Sinkhorn plug-in (ours)"),
}  # colour, line, marker and label of a curve


def main(
    budget: float = 60.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    dims: tuple[int, ...] = Finite.dims,
    points: tuple[int, ...] = Finite.points,
    methods: tuple[str, ...] = tuple(LOOKS),
    jobs: int = 1,
    out: Path = RESULTS / "finite_data",
) -> None:
    wanted = [method for method in METHODS if method.key in methods]
    table = bench(cells_of(Finite(dims, points).cases(), wanted, [budget], seeds), out, jobs)
    (out / "finite_data.png").write_bytes(png(picture(table)))


@styled
def picture(table: pl.DataFrame) -> Figure:
    """A panel for each dimension: path KL against the number of points, a labelled curve a method."""
    panels = table.partition_by("dim", maintain_order=True)
    figure, axes = canvas(1, len(panels), (5.2, 4.4), sharey=True)
    ends = [curves(ax, panel) for ax, panel in zip(axes.flat, panels, strict=True)]
    plain_powers(axes.flat[0].yaxis)
    for ax, labels in zip(axes.flat, ends, strict=True):  # once the limits that they share are known
        name(ax, labels)
    axes.flat[0].set_ylabel("divergence of the true bridge from the fit\npath KL (nats), lower is better")
    figure.suptitle(
        "Bridges from n points per side, judged against the bridge between the two laws.\nPoints are means over "
        "seeds, bars their standard deviation.",
        ha="left",
        x=0.02,
    )
    return figure


End = tuple[float, float, str, str]
"""Where a curve ends on the right, n and nats; its name and colour."""


def curves(ax: Axes, panel: pl.DataFrame) -> list[End]:
    """The curves of one dimension."""
    ends = []
    for method in METHODS:
        rows = panel.filter(pl.col("method") == method.title).drop_nulls("path_kl").sort("points")
        colour, line, marker, label = LOOKS[method.key]
        n, nats, spread = (rows[name].to_list() for name in ("points", "path_kl", "path_kl_spread"))
        bars = [value or 0.0 for value in spread]
        ax.errorbar(n, nats, bars, color=colour, linestyle=line, marker=marker, markersize=4, capsize=2)
        ends += [(n[-1], nats[-1], label, colour)] if nats else []
    sizes = panel["points"].unique().sort().to_list()
    ax.set(xscale="log", yscale="log", title=f"{panel['dim'][0]} dimensions", xlabel="training points per side, n")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.grid(axis="y", alpha=0.25)
    return ends


def name(ax: Axes, ends: Sequence[End]) -> None:
    """Labels beside the right ends of the curves, pushed upwards where they would overlap."""
    low, high = (log(limit) for limit in ax.get_ylim())
    place = -1.0
    for n, nats, label, colour in sorted(ends, key=lambda end: end[1]):
        place = max((log(nats) - low) / (high - low), place + 0.045)
        ax.annotate(
            label,
            (n, nats),
            (1.03, place),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4},
        )


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
