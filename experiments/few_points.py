"""Question: how close to the bridge of the population does each method come from few points?

    python experiments/few_points.py --jobs 2

Path KL from the bridge between the two laws (mixture, ε = 0.5) for n training points per side, which are drawn anew for
every seed.  "No early stopping" is max–min with the last average of its weights instead of the one that held-out points
choose.  The figure has the mean over seeds, with the standard deviation as bars.
"""

from pathlib import Path

import polars as pl
import tyro
from common import RESULTS, save
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge import Independent, MaxMin, Regression
from sbridge.bench import Entry, Finite, bench, cells_of, chosen
from sbridge.report.style import canvas, colours, dashes, plain_powers, styled
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


@styled
def picture(table: pl.DataFrame) -> Figure:
    """A panel for each dimension, with a curve for each method."""
    panels = table.partition_by("dim", maintain_order=True)
    figure, axes = canvas(1, len(panels), (4.4, 3.8), sharey=True)
    for ax, panel in zip(axes[0], panels, strict=True):
        curves(ax, panel)
    axes[0, 0].set_ylabel("path KL from the true bridge (nats)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2 * len(panels))
    return figure


def curves(ax: Axes, panel: pl.DataFrame) -> None:
    """The curves of one dimension."""
    titles = [method.title for method in ENTRIES]
    for title in titles:
        rows = panel.filter(pl.col("method") == title).drop_nulls("path_kl").sort("points")
        n, nats, spread = (rows[name].to_list() for name in ("points", "path_kl", "path_kl_spread"))
        look = {"color": colours(titles)[title], "linestyle": dashes(titles)[title], "marker": "o", "capsize": 2}
        ax.errorbar(n, nats, [value or 0.0 for value in spread], label=title, **look)
    sizes = panel["points"].unique().sort().to_list()
    ax.set(xscale="log", yscale="log", title=f"{panel['dim'][0]} dimensions", xlabel="training points per side, n")
    plain_powers(ax.yaxis)
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()


if __name__ == "__main__":  # every process of a benchmark imports this script
    tyro.cli(main)
