"""Question: how close to the bridge of the population does each method come from few points?

    python experiments/few_points.py --jobs 2

Path KL from the bridge between the two laws (mixture, ε = 0.5) for n training points per side, which are drawn anew for
every seed.  "No early stopping" is max–min with the last average of its weights instead of the one that held-out points
choose.  The figure has the mean over seeds, with the standard deviation as bars.
"""

from collections.abc import Sequence
from math import log
from pathlib import Path

import polars as pl
import tyro
from common import COLOURS, RESULTS, save
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge import Independent, MaxMin, Regression
from sbridge.bench import Entry, Finite, bench, cells_of, chosen
from sbridge.solvers.answer import Last

KEYS = ["potential", "maxmin-potential", "maxmin", "whole-plan", "maxmin-product", "pot", "geomloss", "blockwise"]
ENTRIES = [
    *chosen(KEYS),
    Entry("maxmin-last", "max–min, no early stopping", MaxMin(answer=Last)),
    Entry("linear-product", "fixed linear interpolant, product coupling", Regression(coupling=Independent)),
]


def main(
    budget: float = 60.0,
    seeds: tuple[int, ...] = (0, 1, 2),
    dims: tuple[int, ...] = Finite.dims,
    points: tuple[int, ...] = Finite.points,
    methods: tuple[str, ...] = tuple(method.key for method in ENTRIES),
    jobs: int = 1,
    out: Path = RESULTS / "few_points",
) -> None:
    wanted = [method for method in ENTRIES if method.key in methods]
    table = bench(cells_of(Finite(dims, points).cases(), wanted, [budget], seeds), out, jobs)
    save(picture(table), out / "few_points.png")


def picture(table: pl.DataFrame) -> Figure:
    """A panel for each dimension, with a labelled curve for each method."""
    panels = table.partition_by("dim", maintain_order=True)
    figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    ends = [curves(ax, panel) for ax, panel in zip(axes, panels, strict=True)]
    for ax, labels in zip(axes, ends, strict=True):  # after all curves, as the limits are shared
        annotate(ax, labels)
    axes[0].set_ylabel("path KL from the true bridge (nats)")
    return figure


End = tuple[float, float, str, str]
"""Where a curve ends on the right, n and nats; its name and colour."""


def curves(ax: Axes, panel: pl.DataFrame) -> list[End]:
    """The curves of one dimension."""
    ends = []
    for number, method in enumerate(ENTRIES):
        rows = panel.filter(pl.col("method") == method.title).drop_nulls("path_kl").sort("points")
        n, nats, spread = (rows[name].to_list() for name in ("points", "path_kl", "path_kl_spread"))
        colour, line = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
        ax.errorbar(n, nats, [value or 0.0 for value in spread], color=colour, linestyle=line, marker="o", capsize=2)
        ends += [(n[-1], nats[-1], method.title, colour)] if nats else []
    sizes = panel["points"].unique().sort().to_list()
    ax.set(xscale="log", yscale="log", title=f"{panel['dim'][0]} dimensions", xlabel="training points per side, n")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    return ends


def annotate(ax: Axes, ends: Sequence[End]) -> None:
    """Labels at the right ends of the curves, moved up where they would overlap."""
    low, high = (log(limit) for limit in ax.get_ylim())
    place = -1.0
    for n, nats, label, colour in sorted(ends, key=lambda end: end[1]):
        place = max((log(nats) - low) / (high - low), place + 0.045)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5}
        settings = {"textcoords": "axes fraction", "color": colour, "va": "center", "fontsize": 8, "arrowprops": line}
        ax.annotate(label, (n, nats), (1.03, place), **settings)


if __name__ == "__main__":  # every process of a benchmark imports this script
    tyro.cli(main)
