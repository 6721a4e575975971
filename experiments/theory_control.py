"""Question: do the regression losses bound the divergence of the SDE, and not that of the ODE?

    python experiments/theory_control.py

One dimension, mixture to mixture; laws are computed on a grid (`sbridge.theory`).  (i) 300 random errors of both
fields at each ε: no divergence of the SDE exceeds its bound.  (ii) One error of growing frequency with constant gap_b:
the divergence of the ODE grows without limit.  (iii) Fitted fields: their gaps and bounds beside the divergence
measured at every ε of sampling, and ε* = √(gap_b/gap_s), which minimises the bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import pi
from pathlib import Path

import torch
import tyro
from common import COLOURS, RESULTS, Cell, Rows, save
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Brownian, Independent, Linear, Problem, Regression
from sbridge.fields import VectorField
from sbridge.theory.control import best_diffusion, gap, sde_bound
from sbridge.theory.conversions import score_from_drifts, velocity_from_drifts
from sbridge.theory.line import Line, average, diffusion_law, flow_law, kl
from sbridge.theory.oracle import MixtureOracle

EPSILON, HEIGHT = 0.3, 0.2  # of the interpolant; of the errors in (ii), whose gap_b is HEIGHT²/4
LEVELS, FREQUENCIES, BUDGETS, SEEDS = (0.05, 0.2, 1.0, 4.0), (1, 2, 4, 8, 16, 32, 64), (30, 100, 400, 3000), (0, 1, 2)
SAMPLING = torch.logspace(-1.7, 0.7, 13, dtype=torch.float64)  # ε of sampling, 0.02 to 5
TITLES = {"steps": "steps of the fit", "seed": "seed", "gap_b": "gap_b", "gap_s": "gap_s", "best": "ε*"}
TITLES |= {"bound": "bound at ε*", "tried": "best ε tried", "kl": "KL there", "near": "KL near ε*", "ode": "KL, ODE"}


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


ZERO, ONE = tensor(0.0), tensor(1.0)
ENDS = [
    (tensor([0.4, 0.6]), tensor([[-1.0], [1.5]]), tensor([[[0.3]], [[0.2]]])),
    (tensor([0.7, 0.3]), tensor([[2.0], [-2.0]]), tensor([[[0.1]], [[0.5]]])),
]
TRUTH = MixtureOracle(Linear(Brownian(EPSILON)), *ENDS[0], *ENDS[1])
START = partial(TRUTH.log_density, ZERO)


def divergence(law: Tensor, line: Line) -> Tensor:
    """KL(ρ_1‖law) of log densities on a line."""
    return kl(TRUTH.log_density(ONE, line.centres), law, line)


def energy(field: VectorField, line: Line) -> Tensor:
    """½∫E|field|²dt."""
    return average(lambda t, x: field(t, x)[..., 0].square() / 2, TRUTH.log_density, line, 60)


# (i) random errors


def waves(batch: int, seed: int) -> VectorField:
    """Random smooth fields: three waves of random size, frequency up to 12 and phase, (batch, n, 1)."""
    draws = torch.rand(4, batch, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    size, frequency, speed, phase = draws
    height, frequency = 1.5 * size * size[:, :1], 12 * frequency.square()
    return lambda t, x: (height * torch.sin(frequency * x[..., None, :, :] + 6 * speed * t + 2 * pi * phase)).sum(-3)


def perturbed(epsilon: float) -> Iterator[dict[str, Cell]]:
    """Divergence and bound of the SDE (ε > 0), or divergence and gap_b of the ODE (ε = 0), for 300 random errors."""
    b, s = waves(300, 0), waves(300, 1)
    line = Line(-7, 7, 480 if epsilon else 240)
    gap_b = energy(b, line)
    if epsilon:
        law = diffusion_law(
            lambda t, x: TRUTH.drift(t, x, epsilon) + b(t, x) + epsilon * s(t, x), START, epsilon, line, 40
        )
        bound = gap_b / epsilon + epsilon * energy(s, line)
    else:
        law, bound = flow_law(lambda t, x: TRUTH.velocity(t, x) + b(t, x), START, line, 50), gap_b
    for one, other in zip(divergence(law, line).tolist(), bound.tolist(), strict=True):
        yield {"kl": one, "bound": other}


def draw_random(axes: Axes, rows: Rows) -> None:
    for level, colour in zip((*LEVELS, 0.0), COLOURS, strict=False):
        found = rows.find(epsilon=level)
        label = f"SDE, ε = {level:g}" if level else "ODE, against gap_b"
        x, y = ([float(row[name]) for row in found] for name in ("bound", "kl"))
        axes.loglog(x, y, ".", color=colour, markersize=4, label=label)
    axes.plot([1e-4, 1e2], [1e-4, 1e2], color="black", linewidth=1, label="divergence = bound")
    axes.set(xlabel="gap_b/ε + ε gap_s (nats)", ylabel="KL(ρ₁‖ρ̂₁) (nats)", title="(i) random errors", ylim=(1e-6, 1e2))


# (ii) one error, faster and faster


def quantile(t: Tensor, x: Tensor) -> Tensor:
    """F_t(x), the distribution function of ρ_t."""
    time = t[..., None] if t.ndim else t
    mean = (1 - time) * TRUTH.means0[:, 0, None] + time * TRUTH.means1[:, 0]
    cov = (1 - time) ** 2 * TRUTH.covs0[:, 0, 0, None] + time**2 * TRUTH.covs1[:, 0, 0]
    deviation = (cov + 2 * EPSILON * time * (1 - time)).sqrt()
    weights = TRUTH.weights0[:, None] * TRUTH.weights1
    return (weights * torch.special.ndtr((x[..., None] - mean) / deviation)).sum((-2, -1))[..., None]


def fast(frequency: int) -> dict[str, Cell]:
    """b̂ = b + A sin(2πk F_t(x)): gap_b = A²/4 for every k, but the flow gathers mass at k places."""

    def error(t: Tensor, x: Tensor) -> Tensor:
        return HEIGHT * torch.sin(2 * pi * frequency * quantile(t, x))

    line, gap_b = Line(-7, 7, 2000), float(energy(error, Line(-7, 7, 2000)))
    steps = max(40, 3 * frequency)
    flow = flow_law(lambda t, x: TRUTH.velocity(t, x) + error(t, x), START, line, steps)
    law = diffusion_law(lambda t, x: TRUTH.drift(t, x, EPSILON) + error(t, x), START, EPSILON, line, 60)
    found = {"ode": float(divergence(flow, line)), "sde": float(divergence(law, line))}
    return {"gap_b": gap_b, "bound": gap_b / EPSILON, **found}


def draw_fast(axes: Axes, rows: Rows) -> None:
    labels = {"ode": "ODE", "sde": f"SDE, ε = {EPSILON:g}", "bound": "its bound, gap_b/ε", "gap_b": "gap_b"}
    for (name, label), colour in zip(labels.items(), COLOURS, strict=False):
        axes.loglog(FREQUENCIES, [float(row[name]) for row in rows.rows], "o-", color=colour, label=label)
    axes.set(xlabel="frequency of the error", ylabel="KL(ρ₁‖ρ̂₁) (nats)", title="(ii) one gap, faster errors")


# (iii) fits


def sample(n: int, end: int, generator: torch.Generator) -> Tensor:
    """Points of one end, (n, 1)."""
    weights, means, covs = ENDS[end]
    k = torch.multinomial(weights, n, replacement=True, generator=generator)
    return means[k] + covs[k, :, 0].sqrt() * torch.randn(n, 1, dtype=torch.float64, generator=generator)


def points(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Stratified times (n, 1) and points of ρ_t (n, 1)."""
    generator = torch.Generator().manual_seed(seed)
    t = (torch.arange(n, dtype=torch.float64) + torch.rand(n, dtype=torch.float64, generator=generator))[:, None] / n
    x0, x1 = (sample(n, end, generator) for end in (0, 1))
    z = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    return t, TRUTH.interpolant.path(t, x0, x1, z).x.detach()


def fitted(steps: int, seed: int) -> Iterator[dict[str, Cell]]:
    """Gaps of a fit, the divergence of its ODE, and that of its SDE at every ε."""
    generator = torch.Generator().manual_seed(0)
    x0, x1, test0, test1 = (sample(n, end, generator) for n in (20_000, 8000) for end in (0, 1))
    solver = Regression(coupling=Independent, steps=steps)
    bridge = solver.solve(Problem(x0, x1, EPSILON, test0, test1), random_state=seed)
    drifts = (bridge.forward_field, bridge.backward_field)
    velocity, score = velocity_from_drifts(*drifts), score_from_drifts(*drifts, EPSILON)
    t, x, line = *points(20_000, 1), Line(-7, 7, 700)
    gap_b, gap_s = gap(velocity, TRUTH.velocity, t, x), gap(score, TRUTH.score, t, x)
    best = best_diffusion(gap_b, gap_s)
    whole: dict[str, Cell] = {"gap_b": gap_b, "gap_s": gap_s, "best": best}
    whole["bound"] = sde_bound(gap_b, gap_s, best.value)
    whole["ode"] = float(divergence(flow_law(velocity, START, line, 50), line))

    def drift(t: Tensor, x: Tensor) -> Tensor:
        return velocity(t, x) + SAMPLING[:, None, None] * score(t, x)

    law = diffusion_law(drift, START, lambda t: SAMPLING[:, None], line, 100)
    for epsilon, found in zip(SAMPLING.tolist(), divergence(law, line).tolist(), strict=True):
        yield {"epsilon": epsilon, "kl": found, **whole}


def summary(rows: Rows) -> Iterator[dict[str, Cell]]:
    """A line for each fit: its gaps, ε*, and the divergence at the best ε tried and at the one nearest to ε*."""
    for steps in BUDGETS:
        for seed in SEEDS:
            found = rows.find(steps=steps, seed=seed)
            best = min(found, key=lambda row: float(row["kl"]))
            near = min(found, key=lambda row: abs(tensor(float(row["epsilon"]) / float(row["best"])).log()))
            cells = {name: best[name] for name in (*TITLES, *(f"{name}_se" for name in TITLES)) if name in best}
            yield {**cells, "tried": best["epsilon"], "near": near["kl"]}


def draw_fits(axes: Axes, rows: Rows) -> None:
    for steps, colour in zip(BUDGETS, COLOURS, strict=False):
        found = rows.find(steps=steps, seed=0)
        x, y = ([float(row[name]) for row in found] for name in ("epsilon", "kl"))
        axes.loglog(x, y, "o-", color=colour, markersize=3, label=f"{steps:,} steps")
        gaps = (float(found[0]["gap_b"]), float(found[0]["gap_s"]))
        axes.plot(x, [gaps[0] / epsilon + epsilon * gaps[1] for epsilon in x], "--", color=colour, linewidth=1)
        axes.axhline(float(found[0]["ode"]), color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel="ε of sampling", ylabel="KL(ρ₁‖ρ̂₁) (nats)", title="(iii) fits: SDE –, bound - -, ODE ···")


def main(out: Path = RESULTS / "theory_control") -> None:
    torch.set_num_threads(1)
    random, faster, fits = (Rows(out, name) for name in ("random_errors", "fast_errors", "fits"))
    for epsilon in (*LEVELS, 0.0):
        random.once_all(partial(perturbed, epsilon), epsilon=epsilon)
    for frequency in FREQUENCIES:
        faster.once(partial(fast, frequency), frequency=frequency)
    for steps in BUDGETS:
        for seed in SEEDS:
            fits.once_all(partial(fitted, steps, seed), steps=steps, seed=seed)
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    left, middle, last = figure.subplots(1, 3)
    draw_random(left, random)
    draw_fast(middle, faster)
    draw_fits(last, fits)
    for axes in (left, middle, last):
        axes.legend(fontsize=8)
    save(figure, out / "control.png")
    sde = [row for row in random.rows if row["epsilon"] != "0"]
    above = sum(float(row["kl"]) > float(row["bound"]) for row in sde)
    table = Rows(out, "summary")
    table.replace(summary(fits))
    table.table(TITLES, f"(i) {above} of {len(sde)} divergences of the SDE exceed gap_b/ε + ε gap_s.")


if __name__ == "__main__":
    tyro.cli(main)
