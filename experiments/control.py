"""Claim: the regression losses control the divergence of what the SDE generates, and not of what the ODE generates.

    .venv/bin/python experiments/control.py

One dimension, mixture to mixture, laws on a grid.  (i) 300 random errors of both fields: no divergence of the SDE is
above its bound.  (ii) One error of growing frequency and constant gap_b: the ODE's divergence grows without limit.
(iii) Fitted fields: their gaps, the bound, and the divergences measured.
"""

from __future__ import annotations

from functools import partial
from math import pi

import polars as pl
import torch
from bench import RESULTS
from figures import COLOURS
from line_truth import (
    EPSILON,
    SAMPLING,
    START,
    TRUTH,
    ZERO,
    Row,
    divergence,
    fields,
    keep,
    points,
    problem,
    rows,
    sampled,
    spread,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Independent, Regression
from sbridge.fields import VectorField
from sbridge.theory.control import best_diffusion, carried_score, fisher, flow_bound, flow_kl, gap, sde_bound
from sbridge.theory.line import Line, average, diffusion_law, flow_law

LEVELS = [0.05, 0.2, 1.0, 4.0]
FREQUENCIES = [1, 2, 4, 8, 16, 32, 64]
FASTEST_SAMPLED = 16  # beyond, a few points hold the whole Fisher divergence, and no sample of them finds it
HEIGHT = 0.2  # of the error of part (ii), whose gap_b is HEIGHT²/4
BUDGETS = [30, 100, 300, 1000, 3000]

# (i) random errors


def waves(batch: int, seed: int) -> VectorField:
    """Random smooth fields: three waves of random size, frequency up to 12 and phase, (batch, n, 1)."""
    draws = torch.rand(4, batch, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    size, frequency, speed, phase = draws
    height, frequency = 1.5 * size * size[:, :1], 12 * frequency.square()
    return lambda t, x: (height * torch.sin(frequency * x[..., None, :, :] + 6 * speed * t + 2 * pi * phase)).sum(-3)


def energy(field: VectorField, line: Line) -> Tensor:
    """½∫E|field|²dt."""
    return average(lambda t, x: field(t, x)[..., 0].square() / 2, TRUTH.log_density, line, 60)


def perturbed(epsilon: float) -> list[Row]:
    """Divergences of the SDE (ε > 0) or of the ODE (ε = 0) for the same 300 random errors, beside the bounds."""
    b, s = waves(300, 0), waves(300, 1)
    line = Line(-7, 7, 480 if epsilon else 240)
    gaps = {"gap_b": energy(b, line), "gap_s": energy(s, line)}
    if not epsilon:
        law = flow_law(lambda t, x: TRUTH.velocity(t, x) + b(t, x), START, line, 50)
        return rows(**gaps, kl=divergence(law, line))

    def error(t: Tensor, x: Tensor) -> Tensor:
        return b(t, x) + epsilon * s(t, x)

    law = diffusion_law(lambda t, x: TRUTH.drift(t, x, epsilon) + error(t, x), START, epsilon, line, 40)
    bound = gaps["gap_b"] / epsilon + epsilon * gaps["gap_s"]
    return rows(**gaps, kl=divergence(law, line), path_gap=energy(error, line) / (2 * epsilon), bound=bound)


def report_violations(table: pl.DataFrame) -> None:
    sde = table.filter(pl.col("epsilon") > 0)
    paths, both = ((sde["kl"] > sde[name]).sum() for name in ("path_gap", "bound"))
    print(f"(i) {len(sde)} SDEs: {paths} divergences above the path gap, {both} above gap_b/ε + ε gap_s;")
    print(f"    the largest is {(sde['kl'] / sde['path_gap']).max():.2f} of its path gap")


def draw_scatter(sde: Axes, ode: Axes, table: pl.DataFrame) -> None:
    for level, colour in zip(LEVELS, COLOURS, strict=False):
        part = table.filter(pl.col("epsilon") == level)
        sde.loglog(part["bound"], part["kl"], ".", color=colour, markersize=4, label=f"ε = {level:g}")
    part = table.filter(pl.col("epsilon") == 0)
    ode.loglog(part["gap_b"], part["kl"], ".", color=COLOURS[4], markersize=4, label="ODE, one error a dot")
    for axes, label in ((sde, "divergence = bound"), (ode, "divergence = gap_b")):
        ends = [1e-4, 1e2]
        axes.plot(ends, ends, color="black", linewidth=1, label=label)
        axes.set(ylabel="KL(ρ₁‖ρ̂₁) measured (nats)")
        axes.legend(fontsize=8)
    sde.set(xlabel="gap_b/ε + ε gap_s (nats)", title="(i) SDE: 4 × 300 random errors", ylim=(1e-6, 1e2))
    ode.set(xlabel="gap_b (squared units of data per unit of time)", title="(i) ODE: the same errors", xlim=(1e-4, 1e1))


# (ii) one error, faster and faster


def quantile(t: Tensor, x: Tensor) -> Tensor:
    """F_t(x), the distribution function of ρ_t."""
    time = t[..., None] if t.ndim else t
    mean = (1 - time) * TRUTH.means0[:, 0, None] + time * TRUTH.means1[:, 0]
    cov = (1 - time) ** 2 * TRUTH.covs0[:, 0, 0, None] + time**2 * TRUTH.covs1[:, 0, 0]
    weights = TRUTH.weights0[:, None] * TRUTH.weights1
    deviation = (cov + 2 * EPSILON * time * (1 - time)).sqrt()
    return (weights * torch.special.ndtr((x[..., None] - mean) / deviation)).sum((-2, -1))[..., None]


def flow_figures(velocity: VectorField, t: Tensor, x: Tensor, steps: int) -> Row:
    """The ODE's divergence by the identity, the Fisher divergence and the bound, with standard errors."""
    carried = carried_score(velocity, partial(TRUTH.score, ZERO), t, x, steps)
    identity = flow_kl(velocity, TRUTH.velocity, lambda t, x: carried, TRUTH.score, t, x)
    distance = fisher(lambda t, x: carried, TRUTH.score, t, x)
    bound = flow_bound(gap(velocity, TRUTH.velocity, t, x), distance)
    return spread(flow_identity=identity, fisher=distance, flow_bound=bound)


def fast(frequency: float) -> list[Row]:
    """b̂ = b + A sin(2πk F_t(x)): gap_b = A²/4 for every k, while the flow gathers mass at k places of its own."""

    def error(t: Tensor, x: Tensor) -> Tensor:
        return HEIGHT * torch.sin(2 * pi * frequency * quantile(t, x))

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return TRUTH.velocity(t, x) + error(t, x)

    line, steps = Line(-7, 7, 2000), max(40, round(3 * frequency))
    flow = divergence(flow_law(velocity, START, line, steps), line)
    law = diffusion_law(lambda t, x: TRUTH.drift(t, x, EPSILON) + error(t, x), START, EPSILON, line, 60)
    gap_b = energy(error, line)
    row = {"gap_b": float(gap_b), "kl_ode": float(flow), "kl_sde": float(divergence(law, line))}
    row |= {"sde_bound": float(gap_b) / EPSILON, "path_gap": float(gap_b) / (2 * EPSILON)}
    return [row | (flow_figures(velocity, *points(TRUTH, 1000, 0), steps) if frequency <= FASTEST_SAMPLED else {})]


def draw_fast(axes: Axes, table: pl.DataFrame) -> None:
    k = table["frequency"]
    for name, colour, style, label in (
        ("kl_ode", COLOURS[1], "o-", "ODE, measured"),
        ("flow_bound", COLOURS[1], "--", "ODE, √(2 gap_b · Fisher)"),
        ("kl_sde", COLOURS[0], "o-", f"SDE, ε = {EPSILON:g}, measured"),
        ("sde_bound", COLOURS[0], "--", "SDE, gap_b/ε"),
        ("gap_b", "black", ":", "gap_b"),
    ):
        axes.loglog(k, table[name], style, color=colour, markersize=4, label=label)
    axes.set(xlabel="frequency k of the error", ylabel="KL(ρ₁‖ρ̂₁) (nats)", title="(ii) one gap, faster errors")
    axes.legend(fontsize=8)


# (iii) fitted fields


def fitted(steps: float) -> list[Row]:
    """A fit of that many steps (0: the exact fields, the floor of the grid): gaps, bounds, divergences at every ε."""
    line, row = Line(-7, 7, 700), {}
    velocity, score = TRUTH.velocity, TRUTH.score
    if steps:
        solver = Regression(coupling=Independent, steps=int(steps))
        velocity, score = fields(solver.solve(problem(TRUTH), random_state=0))
        t, x = points(TRUTH, 20_000, 1)
        gap_b, gap_s = gap(velocity, TRUTH.velocity, t, x), gap(score, TRUTH.score, t, x)
        row = spread(gap_b=gap_b, gap_s=gap_s, best_epsilon=best_diffusion(gap_b, gap_s))
        row["smallest_bound"] = sde_bound(gap_b, gap_s, row["best_epsilon"]).value
        row |= flow_figures(velocity, *points(TRUTH, 1000, 2), 25)
    row["kl_ode"] = float(divergence(flow_law(velocity, START, line, 50), line))
    bound = row.get("gap_b", 0.0) / SAMPLING + SAMPLING * row.get("gap_s", 0.0)
    found = rows(epsilon=SAMPLING, kl=sampled(velocity, score, SAMPLING, line), bound=bound)
    return [entry | row for entry in found]


def draw_fits(axes: Axes, table: pl.DataFrame) -> None:
    for steps, colour in zip(BUDGETS, COLOURS, strict=False):
        part = table.filter(pl.col("steps") == steps)
        axes.loglog(part["epsilon"], part["kl"], "o-", color=colour, markersize=3, label=f"{steps:,} steps")
        axes.plot(part["epsilon"], part["bound"], "--", color=colour, linewidth=1)
        axes.axhline(part["kl_ode"][0], color=colour, linestyle=":", linewidth=1)
        axes.plot(part["best_epsilon"][0], part["smallest_bound"][0], "*", color=colour, markersize=9)
    floor = table.filter(pl.col("steps") == 0)
    axes.plot(floor["epsilon"], floor["kl"], color="grey", label="exact fields (floor)")
    axes.set(xlabel="ε of sampling", ylabel="KL(ρ₁‖ρ̂₁) (nats)", title="(iii) fits: SDE –, bound - - (★ ε*), ODE ···")
    axes.set(ylim=(1e-10, 1e2))
    axes.legend(fontsize=8, ncols=2, loc="lower center")


HEADS = ["steps", "gap_b", "gap_s", "ε*", "bound at ε*", "best ε tried", "KL there", "KL near ε*", "KL of the ODE"]
HEADS += ["bound of the ODE"]


def summary(table: pl.DataFrame) -> str:
    """A Markdown table of the fits."""
    lines = [f"| {' | '.join(HEADS)} |", "| ---: " * len(HEADS) + "|"]
    for steps in BUDGETS:
        part = table.filter(pl.col("steps") == steps)
        best = part.sort("kl").row(0, named=True)
        near = part.sort((pl.col("epsilon") / pl.col("best_epsilon")).log().abs()).row(0, named=True)
        cells = [f"{steps:,}", *(shown(best, name) for name in ("gap_b", "gap_s", "best_epsilon"))]
        cells += [f"{best[name]:.3g}" for name in ("smallest_bound", "epsilon", "kl")]
        cells += [f"{near['kl']:.3g}", f"{best['kl_ode']:.3g}", shown(best, "flow_bound")]
        lines.append(f"| {' | '.join(cells)} |")
    floor = table.filter(pl.col("steps") == 0)
    least, most, ode = floor["kl"].min(), floor["kl"].max(), abs(floor["kl_ode"][0])
    lines += ["", f"Floor (exact fields on the same grid): {least:.1g} to {most:.1g}, of the ODE {ode:.1g} nats.", ""]
    return "\n".join(lines)


def shown(row: Row, name: str) -> str:
    return f"{row[name]:.3g} ± {row[f'{name}_se']:.1g}"


def main() -> None:
    torch.set_num_threads(1)
    folder = RESULTS / "control"
    folder.mkdir(parents=True, exist_ok=True)
    random = keep(folder / "random_errors.csv", "epsilon", [*LEVELS, 0.0], perturbed)
    faster = keep(folder / "fast_errors.csv", "frequency", FREQUENCIES, fast)
    fits = keep(folder / "fits.csv", "steps", [0, *BUDGETS], fitted)
    report_violations(random)
    for row in faster.iter_rows(named=True):
        print("(ii)", ", ".join(f"{name} {row[name]:.3g}" for name in ("frequency", "gap_b", "kl_ode", "kl_sde")))
    (folder / "fits.md").write_text(summary(fits), encoding="utf-8")
    print(summary(fits))
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    (sde, ode), (middle, last) = figure.subplots(2, 2)
    draw_scatter(sde, ode, random)
    draw_fast(middle, faster)
    draw_fits(last, fits)
    figure.savefig(folder / "control.png", dpi=160)


if __name__ == "__main__":
    main()
