"""Claim: sampling a half-trained fit with ε* = √(gap_b/gap_s), which its gaps alone tell, is about the best ε.

    .venv/bin/python experiments/diffusion_tuning.py

Fits of a few hundred steps, sampled at every ε.  On a line the divergence of the law at t = 1 is measured on a grid,
for three seeds of the fit.  In the plane it is the energy distance of held-out points that were moved from the other
end from held-out points of this one, in four blocks, beside its value between two true samples.

ε* minimises a bound, so this is an observation on these fits and no theorem: after 30 or 3,000 steps the best ε is
another (`control.py`).
"""

from __future__ import annotations

from functools import partial

import polars as pl
import torch
from bench import RESULTS
from figures import COLOURS
from line_truth import (
    EPSILON,
    SAMPLING,
    START,
    TRUTH,
    Row,
    divergence,
    ends,
    fields,
    keep,
    points,
    problem,
    rows,
    sampled,
    spread,
    tensor,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbridge import Bridge, Independent, Linear, Regression
from sbridge.estimates import Estimate
from sbridge.evaluation import energy_distance
from sbridge.interpolants import Brownian
from sbridge.sampling import HEUN
from sbridge.theory.control import best_diffusion, gap
from sbridge.theory.line import Line, flow_law
from sbridge.theory.oracle import MixtureOracle

SOLVER = Regression(coupling=Independent, steps=400)
SEEDS = [0, 1, 2]
BLOCKS = 4
PLANE_LEVELS = [0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
PLANE = MixtureOracle(
    Linear(Brownian(EPSILON)),
    *(tensor([0.5, 0.5]), tensor([[-1.0, 0.5], [1.0, -0.5]]), 0.2 * torch.eye(2).double().expand(2, 2, 2)),
    *(tensor([0.3, 0.3, 0.4]), tensor([[2.0, 2.0], [-2.0, 1.0], [0.0, -2.0]])),
    0.1 * torch.eye(2).double().expand(3, 2, 2),
)


def gaps(bridge: Bridge, oracle: MixtureOracle) -> Row:
    """gap_b, gap_s and ε* of a fit."""
    (velocity, score), (t, x) = fields(bridge), points(oracle, 20_000, 1)
    gap_b, gap_s = gap(velocity, oracle.velocity, t, x), gap(score, oracle.score, t, x)
    return spread(gap_b=gap_b, gap_s=gap_s, best_epsilon=best_diffusion(gap_b, gap_s))


def line_fit(seed: float) -> list[Row]:
    """Divergence on the line at every ε, and that of the ODE."""
    line, bridge = Line(-7, 7, 700), SOLVER.solve(problem(TRUTH), random_state=int(seed))
    velocity, score = fields(bridge)
    row = gaps(bridge, TRUTH) | {"kl_ode": float(divergence(flow_law(velocity, START, line, 50), line))}
    bound = row["gap_b"] / SAMPLING + SAMPLING * row["gap_s"]
    return [entry | row for entry in rows(epsilon=SAMPLING, kl=sampled(velocity, score, SAMPLING, line), bound=bound)]


def plane_fit(bridge: Bridge, epsilon: float) -> list[Row]:
    """Energy distance in the plane at one ε (0: the ODE; −1: the floor)."""
    held = problem(PLANE)
    if epsilon < 0:
        moved = ends(PLANE, len(held.test1), torch.Generator().manual_seed(9))[1]
    else:
        moved = bridge.transport(held.test0, diffusion=epsilon, steps=100, stepper=HEUN, random_state=5)
    pairs = zip(moved.chunk(BLOCKS), held.test1.chunk(BLOCKS), strict=True)
    distances = tensor([energy_distance(*pair) for pair in pairs])
    return [spread(distance=Estimate.of(distances)) | gaps(bridge, PLANE)]


def draw_line(axes: Axes, table: pl.DataFrame) -> None:
    for seed, colour in zip(SEEDS, COLOURS, strict=False):
        part = table.filter(pl.col("seed") == seed)
        axes.loglog(part["epsilon"], part["kl"], "o-", color=colour, markersize=4, label=f"measured, fit {seed + 1}")
        axes.plot(part["epsilon"], part["bound"], "--", color=colour, linewidth=1)
        axes.axhline(part["kl_ode"][0], color=colour, linestyle=":", linewidth=1)
        axes.axvline(part["best_epsilon"][0], color=colour, alpha=0.5, linewidth=1)
    axes.set(xlabel="ε of sampling", ylabel="KL(ρ₁‖ρ̂₁) (nats)")
    axes.set(title="line: bound - -, ODE ···, ε* |")
    axes.legend(fontsize=8)


def draw_plane(axes: Axes, table: pl.DataFrame) -> None:
    part = table.filter(pl.col("epsilon") > 0).sort("epsilon")
    axes.errorbar(part["epsilon"], part["distance"], part["distance_se"], fmt="o-", color=COLOURS[0], label="measured")
    for value, name, colour in ((0, "ODE", COLOURS[1]), (-1, "floor: two true samples", "grey")):
        row = table.filter(pl.col("epsilon") == value)
        low, high = (float(row["distance"][0] + sign * row["distance_se"][0]) for sign in (-1, 1))
        axes.axhspan(low, high, color=colour, alpha=0.4, label=name)
    axes.axvline(part["best_epsilon"][0], color=COLOURS[2], label="ε*")
    axes.set(xscale="log", xlabel="ε of sampling", ylabel="energy distance (units of data)", title="plane")
    axes.legend(fontsize=8, loc="upper left")


def summary(line: pl.DataFrame, plane: pl.DataFrame) -> str:
    """A Markdown table: what ε* costs over the best ε of those tried."""
    lines = ["| fit | ε* | best ε tried | there | tried nearest ε* | ODE | floor |", "| --- " + "| ---: " * 6 + "|"]
    for seed in SEEDS:
        best, near = corners(line.filter(pl.col("seed") == seed), "kl")
        cells = [f"{near['best_epsilon']:.3g} ± {near['best_epsilon_se']:.1g}", f"{best['epsilon']:.3g}"]
        cells += [f"{best['kl']:.3g} nats", f"{near['kl']:.3g} nats", f"{near['kl_ode']:.3g} nats", "< 1e-4 nats"]
        lines.append(f"| line, seed {seed} | {' | '.join(cells)} |")
    best, near = corners(plane.filter(pl.col("epsilon") > 0), "distance")
    others = [plane.row(by_predicate=pl.col("epsilon") == value, named=True) for value in (0, -1)]
    cells = [f"{near['best_epsilon']:.3g} ± {near['best_epsilon_se']:.1g}", f"{best['epsilon']:.3g}"]
    cells += [f"{row['distance']:.2g} ± {row['distance_se']:.1g}" for row in (best, near, *others)]
    lines.append(f"| plane, energy distance | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def corners(table: pl.DataFrame, measure: str) -> tuple[Row, Row]:
    """The rows of the best ε and of the one nearest ε*."""
    near = (pl.col("epsilon") / pl.col("best_epsilon")).log().abs()
    return table.sort(measure).row(0, named=True), table.sort(near).row(0, named=True)


def main() -> None:
    torch.set_num_threads(1)
    folder = RESULTS / "diffusion_tuning"
    folder.mkdir(parents=True, exist_ok=True)
    line = keep(folder / "line.csv", "seed", SEEDS, line_fit)
    bridge = SOLVER.solve(problem(PLANE), random_state=0)
    plane = keep(folder / "plane.csv", "epsilon", [-1.0, 0.0, *PLANE_LEVELS], partial(plane_fit, bridge))
    (folder / "tuning.md").write_text(summary(line, plane), encoding="utf-8")
    print(summary(line, plane))
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_line(left, line)
    draw_plane(right, plane)
    figure.savefig(folder / "tuning.png", dpi=160)


if __name__ == "__main__":
    main()
