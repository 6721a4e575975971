"""Question: how does the variance of losses and gradients grow near t = 0 and 1, for which batch?

    python experiments/theory_variance.py

With a target ∂tI + c(t) z the variance of a plain batch grows like c².  The mean over ±z has c·(f(x₊) − f(x₋)) ∝ cγ in
its place, which is bounded: γγ̇, 1 and γγ̇ − ε for velocity, score and drift.  Conditioning targets on the points of a
group (Rao–Blackwell) lowers the variance only where γ is wide compared with the distance between the points.

What is measured is the variance of a group's mean, times the network evaluations in it, for groups of equal cost: 128
pairs, or 64 with both signs of z.  "First layer" is the gradient of a fixed random network, "exact field" that of a
last layer under the exact field, where only noise is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from math import log, pi
from pathlib import Path

import numpy as np
import torch
import tyro
from common import COLOURS, RESULTS, Cell, Rows, save
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.interpolants import Brownian, Gamma, Linear, Parabolic, SineSquared
from sbridge.interpolants import Path as Points
from sbridge.networks import ResidualMLP, time_features
from sbridge.objectives import Denoiser, Drift, Objective, Score, Velocity, quadratic_loss
from sbridge.problems.planar import eight_gaussians, normal
from sbridge.theory.oracle import MixtureOracle

EPSILON, GROUPS, GROUP = 0.5, 200, 128
NEAR = [0.5, *(10 ** (-exponent / 2) for exponent in range(1, 11))]  # distances from an end: 0.5, 0.32, 0.1 … 1e-5
FITTED = (0.9e-5, 1.1e-3)  # distances that exponents are read from
OBJECTIVES: dict[str, Objective] = {"velocity": Velocity(), "score": Score(), "denoiser": Denoiser()}
OBJECTIVES |= {"drift": Drift(EPSILON)}
GAMMAS: dict[str, type[Gamma]] = {"Brownian": Brownian, "parabolic": Parabolic, "sine-squared": SineSquared}
BATCHES: dict[str, Callable[[Points], Points]] = {
    "plain": lambda path: path,
    "antithetic": Points.antithetic,
    "conditioned": Points.conditioned,
}
# c² ∝ t^power at t → 0 and (1−t)^power at t → 1; 0 where c is bounded
PLAIN = {
    "velocity": {"Brownian": (-1, -1), "parabolic": (0, 0), "sine-squared": (0, 0)},
    "score": {"Brownian": (-1, -1), "parabolic": (-2, -2), "sine-squared": (-4, -4)},
    "denoiser": {"Brownian": (0, 0), "parabolic": (0, 0), "sine-squared": (0, 0)},
    # with γ² = 2εt(1−t), γ̇ − ε/γ = −2εt/γ: the forward drift has no singularity at t = 0
    "drift": {"Brownian": (0, -1), "parabolic": (-2, -2), "sine-squared": (-4, -4)},
}
MEASURES = ("loss", "first layer", "exact field")
TITLES = {"objective": "objective", "gamma": "γ", "batch": "batch", "theory": "theory, t → 0 and 1"}
NOTE = """
Exponents p of variance ∝ t^p at t → 0 and (1−t)^p at t → 1, fitted to distances from 1e-5 to 1e-3 of the end.  An
antithetic denoiser's noise under the exact field falls like γ².  A conditioned batch tends to an antithetic one as γ
falls below the distance between a group's points; its exponents follow no law.
"""


def path_at(t: float, interpolant: Linear, pairs: int) -> Points:
    """Groups of independent pairs from noise to eight Gaussians, all at one time."""
    generator = torch.Generator().manual_seed(1)
    x0, x1, z = (
        law(GROUPS * pairs, generator).double().view(GROUPS, pairs, 2) for law in (normal, eight_gaussians, normal)
    )
    return interpolant.path(torch.full((GROUPS, 1, 1), t, dtype=torch.float64), x0, x1, z).detach()


def oracle_of(interpolant: Linear) -> MixtureOracle:
    """The exact fields between these laws."""
    eye, angles = torch.eye(2, dtype=torch.float64), pi / 4 * torch.arange(8, dtype=torch.float64)
    ring = 5 * torch.stack([angles.cos(), angles.sin()], dim=1)
    one, eighths = torch.ones(1, dtype=torch.float64), torch.full((8,), 1 / 8, dtype=torch.float64)
    return MixtureOracle(interpolant, one, 0 * eye[:1], eye[None], eighths, ring, 0.1**0.5 * eye.repeat(8, 1, 1))


def exact_fields(oracle: MixtureOracle, path: Points) -> dict[str, Tensor]:
    """The minimiser of each objective, at path.x."""
    b, s = oracle.velocity(path.t, path.x), oracle.score(path.t, path.x)
    return {"velocity": b, "score": s, "denoiser": -path.gamma * s, "drift": b + EPSILON * s}


def group_means(network: ResidualMLP, path: Points, target: Tensor, exact: Tensor) -> dict[str, Tensor]:
    """Every group's mean loss and gradients, (groups, entries): a weight has the gradient δ_j·input_i."""
    features = torch.cat([path.x, time_features(path.t.expand(*path.x.shape[:-1], 1))], dim=-1)
    seen: list[Tensor] = []
    hooks = [
        network.first.register_forward_hook(lambda layer, inputs, output: seen.append(output)),
        network.last.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0])),
    ]
    loss = quadratic_loss(network(features), target)
    for hook in hooks:
        hook.remove()
    (delta,) = torch.autograd.grad(loss.sum(), seen[0])
    groups, size = features.shape[:2]
    first = delta.view(groups, size, -1).mT @ features / size
    last = (exact - target).mT @ seen[1].view(groups, size, -1) / size
    values = (loss.mean(1, keepdim=True), first.flatten(1), last.flatten(1))
    return {measure: found.detach() for measure, found in zip(MEASURES, values, strict=True)}


def measured(gamma: str, end: int, near: float) -> Iterator[dict[str, Cell]]:
    """The variances of all objectives and batches at one time."""
    network = ResidualMLP(2 + time_features(torch.zeros(1)).numel(), 2, width=32, depth=2)
    network.initialise(torch.Generator().manual_seed(0))
    interpolant = Linear(GAMMAS[gamma](EPSILON))
    for batch, prepared in BATCHES.items():
        path = prepared(path_at(abs(end - near), interpolant, GROUP if batch == "plain" else GROUP // 2))
        exact = exact_fields(oracle_of(interpolant), path)
        for name, objective in OBJECTIVES.items():
            means = group_means(network.double(), path, objective.target(path), exact[name])
            variances = {measure: float(GROUP * values.var(0).sum()) for measure, values in means.items()}
            yield {"batch": batch, "objective": name, **variances}


def exponent(rows: list[dict[str, str]], measure: str) -> str:
    """The slope of log variance against log distance from the end."""
    close = [row for row in rows if FITTED[0] < float(row["near"]) < FITTED[1]]
    slope = np.polyfit([log(float(row["near"])) for row in close], [log(float(row[measure])) for row in close], 1)[0]
    return f"{round(slope, 2) + 0.0:.2f}"  # no −0


def exponents(rows: Rows) -> Iterator[dict[str, Cell]]:
    """Measured exponents at both ends beside those of theory."""
    for objective, gamma, batch in product(OBJECTIVES, GAMMAS, BATCHES):
        key = {"objective": objective, "gamma": gamma, "batch": batch}
        powers = PLAIN[objective][gamma] if batch == "plain" else (0, 0)
        ends = [rows.find(**key, end=end) for end in (0, 1)]
        found = {name: " and ".join(exponent(end, name) for end in ends) for name in MEASURES}
        yield {**key, "theory": f"{powers[0]} and {powers[1]}", **found}


def picture(rows: Rows) -> Figure:
    """Variance of a random network's gradient and of the noise under the exact field against t."""
    figure = Figure(figsize=(10, 10), layout="constrained")
    panels = figure.subplots(len(OBJECTIVES), len(GAMMAS), sharex=True, sharey="row")
    for axes, (objective, gamma) in zip(panels.flat, product(OBJECTIVES, GAMMAS), strict=True):
        for batch, colour in zip(BATCHES, COLOURS, strict=False):
            found = rows.find(objective=objective, gamma=gamma, batch=batch)
            points = sorted(found, key=lambda row: abs(int(row["end"]) - float(row["near"])))
            times = [abs(int(row["end"]) - float(row["near"])) for row in points]
            for measure, style in (("first layer", "-"), ("exact field", "--")):
                values = [float(row[measure]) for row in points]
                axes.plot(times, values, style, color=colour, label=f"{batch}, {measure}")
        axes.set(xscale="logit", yscale="log", title=f"{objective}, {gamma} γ", xlim=(6e-6, 1 - 6e-6))
        axes.set_xticks([1e-4, 1e-2, 0.5, 1 - 1e-2, 1 - 1e-4], [".0001", ".01", "½", ".99", ".9999"])
        axes.minorticks_off()
    figure.supxlabel("time t")
    figure.supylabel("variance × evaluations")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def main(out: Path = RESULTS / "theory_variance") -> None:
    torch.set_num_threads(1)
    rows, table = Rows(out, "variances"), Rows(out, "exponents")
    for gamma, end, near in product(GAMMAS, (0, 1), NEAR):
        rows.once_all(partial(measured, gamma, end, near), gamma=gamma, end=end, near=near)
    save(picture(rows), out / "variances.png")
    table.replace(exponents(rows))
    table.table({**TITLES, **{name: name for name in MEASURES}}, NOTE)


if __name__ == "__main__":
    tyro.cli(main)
