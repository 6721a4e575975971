"""Claim: near t = 0 and 1 the loss of a field and its gradient vary like its target's coefficient of z, squared; with
antithetic pairs both stay finite for every objective and γ.  Conditioning targets on a group's points (Rao–Blackwell)
lowers the variance only where γ is wide beside the distance between them.

    .venv/bin/python experiments/near_ends.py

With a target ∂tI + c(t) z the variance of a plain batch grows like c².  The mean over ±z has c·(f(x₊) − f(x₋)) ∝ cγ in
its place, which is bounded: γγ̇, 1 and γγ̇ − ε for velocity, score and drift.  What is measured is the variance of a
group's mean, times the network evaluations in it, for groups of equal cost: 128 pairs, or 64 with both signs of z.
Gradients are those of a fixed random network, and of a last layer under the exact field, where only noise is left.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import log, pi

import numpy as np
import torch
from bench import RESULTS
from figures import COLOURS, Cell, Rows
from matplotlib.figure import Figure
from torch import Tensor

from sbridge.interpolants import Brownian, Gamma, Linear, Parabolic, Path, SineSquared
from sbridge.networks import ResidualMLP, time_features
from sbridge.objectives import Denoiser, Drift, Objective, Score, Velocity, quadratic_loss
from sbridge.problems.planar import eight_gaussians, normal
from sbridge.theory.oracle import MixtureOracle

FOLDER, EPSILON, GROUPS, GROUP = RESULTS / "near_ends", 0.5, 200, 128
NEAR = [0.5, *(10 ** (-exponent / 2) for exponent in range(1, 11))]  # distances from an end: ½, 0.32, 0.1 … 1e-5
FITTED = (1e-5, 1e-3)  # distances that exponents are read from
EPSILONS = (0.05, 0.5, 5.0, 50.0)  # of the comparison of conditioned with antithetic batches
OBJECTIVES = ("velocity", "score", "denoiser", "drift")
COMPARED = ("velocity", "score", "drift")  # the denoiser's ratios are the score's
GAMMAS: dict[str, type[Gamma]] = {"Brownian": Brownian, "parabolic": Parabolic, "sine-squared": SineSquared}
ESTIMATORS: dict[str, Callable[[Path], Path]] = {
    "plain": lambda path: path,
    "antithetic": Path.antithetic,
    "conditioned": Path.conditioned,
}
# c² ∝ t^power at t → 0 and (1−t)^power at t → 1; 0 where c is bounded, for ∂tI and f vary on their own
PLAIN = {
    "velocity": {"Brownian": (-1, -1), "parabolic": (0, 0), "sine-squared": (0, 0)},
    "score": {"Brownian": (-1, -1), "parabolic": (-2, -2), "sine-squared": (-4, -4)},
    "denoiser": {"Brownian": (0, 0), "parabolic": (0, 0), "sine-squared": (0, 0)},
    # with γ² = 2εt(1−t), γ̇ − ε/γ = −2εt/γ: the forward drift has no singularity at t = 0
    "drift": {"Brownian": (0, -1), "parabolic": (-2, -2), "sine-squared": (-4, -4)},
}
LEFT = {"Brownian": 1, "parabolic": 2, "sine-squared": 4}  # of γ²: an antithetic denoiser's noise under the exact field
MEASURES = ("loss", "output bias", "first layer", "exact field")
TITLES = {"objective": "objective", "gamma": "γ", "estimator": "batch", "theory": "theory, t → 0 and 1"}
TITLES |= {"loss": "loss", "output bias": "output bias", "first layer": "first layer"}
TITLES |= {"theory_exact": "theory, exact field", "exact field": "last layer, exact field"}
INSIDE = (("0", 0.001), ("0", 0.01), ("0", 0.1), ("0", 0.5), ("1", 0.1), ("1", 0.01), ("1", 0.001))
TIMES = {f"{end}{near}": f"t = {abs(int(end) - near):g}" for end, near in INSIDE}
NOTE = """
Exponents p of variance ∝ t^p at t → 0 and (1−t)^p at t → 1, fitted to distances from 1e-5 to 1e-3 of the end. Output
bias and first layer: gradients of a fixed random network. Exact field: the gradient of a last layer that already has
the exact field, that is the noise left at the end of a training.

A conditioned batch tends to an antithetic one as γ falls below the distance between a group's points; where that is
within the fitted range, its exponent follows no law. Beside the ends it is the worse one: x₊ and x₋ have different
weights, so what the two signs cancel in an antithetic batch comes back with the factor c. Where c is small, velocity
and drift lose up to half of an antithetic batch, which has half as many pairs.
"""


def small_network() -> ResidualMLP:
    """A fixed random network of (t, x) in the plane."""
    network = ResidualMLP(2 + time_features(torch.zeros(1)).numel(), 2, width=32, depth=2)
    network.initialise(torch.Generator().manual_seed(0))
    return network.double()


def objective(name: str, epsilon: float) -> Objective:
    """The objective of that name."""
    members: dict[str, Objective] = {"velocity": Velocity(), "score": Score(), "denoiser": Denoiser()}
    return members.get(name) or Drift(epsilon)


def path_at(t: float, interpolant: Linear, pairs: int, generator: torch.Generator) -> Path:
    """Groups of independent pairs from noise to eight Gaussians, all at one time."""
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


def exact_fields(oracle: MixtureOracle, path: Path, epsilon: float) -> dict[str, Tensor]:
    """What each objective is to find, at path.x."""
    b, s = oracle.velocity(path.t, path.x), oracle.score(path.t, path.x)
    return {"velocity": b, "score": s, "denoiser": -path.gamma * s, "drift": b + epsilon * s}


def group_means(network: ResidualMLP, path: Path, target: Tensor, exact: Tensor) -> dict[str, Tensor]:
    """Every group's mean loss and its gradients: (groups, entries).

    A weight has the gradient δ_j·input_i, with δ that of its layer's output.
    """
    features = torch.cat([path.x, time_features(path.t.expand(*path.x.shape[:-1], 1))], dim=-1)
    seen: list[Tensor] = []
    hooks = [
        network.first.register_forward_hook(lambda layer, inputs, output: seen.append(output)),
        network.last.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0])),
    ]
    value = network(features)
    for hook in hooks:
        hook.remove()
    loss = quadratic_loss(value, target)
    (delta,) = torch.autograd.grad(loss.sum(), seen[0])
    groups, size = features.shape[:2]
    first = delta.view(groups, size, -1).mT @ features / size
    last = (exact - target).mT @ seen[1].view(groups, size, -1) / size
    values = (loss.mean(1, keepdim=True), (value - target).mean(1), first.flatten(1), last.flatten(1))
    return {measure: found.detach() for measure, found in zip(MEASURES, values, strict=True)}


def measure(rows: Rows, epsilon: float, gamma: str, end: str, near: float) -> None:
    """The rows of all objectives and batches at one time, unless they are there."""
    place = {"epsilon": f"{epsilon:g}", "gamma": gamma, "end": end, "near": f"{near:.3g}"}
    if rows.find(**place):
        return
    interpolant, network = Linear(GAMMAS[gamma](epsilon)), small_network()
    found: list[dict[str, Cell]] = []
    for estimator, prepared in ESTIMATORS.items():
        pairs = GROUP if estimator == "plain" else GROUP // 2
        path = prepared(path_at(abs(int(end) - near), interpolant, pairs, torch.Generator().manual_seed(1)))
        exact = exact_fields(oracle_of(interpolant), path, epsilon)
        for name in OBJECTIVES:
            means = group_means(network, path, objective(name, epsilon).target(path), exact[name])
            variances = {measure: float(GROUP * values.var(0).sum()) for measure, values in means.items()}
            found.append({**place, "estimator": estimator, "objective": name, **variances})
    rows.extend(found)


def exponent(rows: list[dict[str, str]], measure: str) -> str:
    """The slope of log variance against log distance from the end."""
    close = [row for row in rows if FITTED[0] * 0.99 <= float(row["near"]) <= FITTED[1] * 1.01]
    slope = np.polyfit([log(float(row["near"])) for row in close], [log(float(row[measure])) for row in close], 1)[0]
    return f"{round(slope, 2) + 0.0:.2f}"  # no −0


def exponents(measured: Rows) -> list[dict[str, str]]:
    """Measured exponents at both ends beside those of theory."""
    table = []
    for objective, gamma, estimator in product(OBJECTIVES, GAMMAS, ESTIMATORS):
        key = {"objective": objective, "gamma": gamma, "estimator": estimator}
        powers = PLAIN[objective][gamma] if estimator == "plain" else (0, 0)
        left = (LEFT[gamma],) * 2 if objective == "denoiser" and estimator != "plain" else powers
        theory = {"theory": f"{powers[0]} and {powers[1]}", "theory_exact": f"{left[0]} and {left[1]}"}
        rows = {end: measured.find(**key, epsilon=f"{EPSILON:g}", end=end) for end in "01"}
        found = {name: " and ".join(exponent(rows[end], name) for end in "01") for name in MEASURES}
        table.append({**key, **theory, **found})
    return table


def gain(measured: Rows, better: str, than: str, end: str, near: float, **key: str) -> str:
    """Variance of one batch over that of another under the exact field."""
    place = {**key, "end": end, "near": f"{near:.3g}"}
    one, other = (measured.find(**place, estimator=name)[0] for name in (than, better))
    return f"{float(one['exact field']) / float(other['exact field']):.3g}"


def gains(measured: Rows) -> list[dict[str, str]]:
    """What antithetic pairs gain over plain batches."""
    table = []
    for objective, gamma in product(COMPARED, GAMMAS):
        key = {"epsilon": f"{EPSILON:g}", "objective": objective, "gamma": gamma}
        values = {f"{end}{near}": gain(measured, "antithetic", "plain", end, near, **key) for end, near in INSIDE}
        table.append({**key, **values})
    return table


def conditionings(measured: Rows) -> list[dict[str, str]]:
    """What conditioning gains over antithetic pairs, by ε."""
    table = []
    for objective, epsilon in product(COMPARED, EPSILONS):
        key = {"epsilon": f"{epsilon:g}", "objective": objective, "gamma": "Brownian"}
        values = {f"{end}{near}": gain(measured, "conditioned", "antithetic", end, near, **key) for end, near in INSIDE}
        table.append({**key, **values})
    return table


def draw(measured: Rows) -> None:
    """Variance of a random network's gradient and of the noise under the exact field against t."""
    figure = Figure(figsize=(10, 10), layout="constrained")
    panels = figure.subplots(len(OBJECTIVES), len(GAMMAS), sharex=True, sharey="row")
    for axes, (objective, gamma) in zip(panels.flat, product(OBJECTIVES, GAMMAS), strict=True):
        for estimator, colour in zip(ESTIMATORS, COLOURS, strict=False):
            rows = measured.find(objective=objective, gamma=gamma, estimator=estimator, epsilon=f"{EPSILON:g}")
            points = sorted((abs(int(row["end"]) - float(row["near"])), row["end"], row) for row in rows)
            for measure, style in (("first layer", "-"), ("exact field", "--")):
                values = [float(row[measure]) for *_, row in points]
                label = f"{estimator}, {'random network' if style == '-' else 'exact field'}"
                axes.plot([time for time, *_ in points], values, style, color=colour, label=label)
        axes.set(xscale="logit", yscale="log", title=f"{objective}, {gamma} γ", xlim=(6e-6, 1 - 6e-6))
        axes.set_xticks([1e-4, 1e-2, 0.5, 1 - 1e-2, 1 - 1e-4], [".0001", ".01", "½", ".99", ".9999"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("time t")
    for axes in panels[:, 0]:
        axes.set_ylabel("variance × evaluations")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(FOLDER / "variances.png", dpi=150)


def main() -> None:
    torch.set_num_threads(1)
    measured = Rows(FOLDER, "variances", {})
    for gamma, end, near in product(GAMMAS, "01", NEAR):
        measure(measured, EPSILON, gamma, end, near)
    for epsilon, (end, near) in product(EPSILONS, INSIDE):
        measure(measured, epsilon, "Brownian", end, near)
    draw(measured)
    table = Rows(FOLDER, "exponents", TITLES)
    plain = Rows(FOLDER, "antithetic_over_plain", {"objective": "objective", "gamma": "γ", **TIMES})
    conditioned = Rows(FOLDER, "conditioned_over_antithetic", {"objective": "objective", "epsilon": "ε", **TIMES})
    table.fill(exponents(measured))
    plain.fill(gains(measured))
    conditioned.fill(conditionings(measured))
    first = "How many times less variance an antithetic batch has than a plain one of equal cost (exact field)\n"
    second = "The same of a conditioned batch beside an antithetic one, Brownian γ (the clusters lie at radius 5)\n"
    table.write(NOTE, f"{first}\n{plain.markdown()}", f"{second}\n{conditioned.markdown()}")


if __name__ == "__main__":
    main()
