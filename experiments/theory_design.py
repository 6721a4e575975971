"""Question: how do the interpolant, its noise and the sampler's diffusion change what a fit learns and generates?

    python experiments/theory_design.py

designs.md   between planar mixtures, whose exact fields are known: errors of the fitted fields and of the points that
             they generate, for every interpolant, noise and law of times, from equal numbers of steps
samplers.md  from Gaussian noise to two moons: one-sided and two-sided fits, sampled with every diffusion
mirror.md    two moons to themselves: points are noised until t = 1/2 and denoised after; they keep their law, and
             forget their start as ε grows
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import pi, sqrt
from pathlib import Path

import torch
import tyro
from common import RESULTS, Cell, Rows, energy_floor, mean_of, save
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import (
    Arcsine,
    Bridge,
    Brownian,
    EncoderDecoder,
    GammaMatched,
    Independent,
    Linear,
    LossVariance,
    Mirror,
    OneSidedLinear,
    OneSidedTrigonometric,
    Parabolic,
    Problem,
    Regression,
    SineSquared,
    Trigonometric,
    Uniform,
    VariancePreserving,
)
from sbridge.estimates import Estimate
from sbridge.evaluation import energy_distance
from sbridge.interpolants import ClosedForm, Gamma
from sbridge.problems.planar import moons, normal
from sbridge.sampling import Diffusion
from sbridge.theory.oracle import MixtureOracle
from sbridge.times import TimeDensity

EPSILON, SAMPLES, JUDGED, SEEDS = 0.5, 20_000, 4000, (0, 1, 2)
EDGE = 0.005  # trainings use t in [EDGE, 1 − EDGE]; so do the errors
FLOOR = "95 % of the energy distances between two true samples of that size lie below {:.2g}."

# Designs


@dataclass(frozen=True)
class Clusters:
    """Round Gaussians of equal weight and variance around places in the plane."""

    places: tuple[tuple[float, float], ...]
    variance: float

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, 2)."""
        means = torch.tensor(self.places, dtype=torch.float64)
        z = torch.randn(n, 2, dtype=torch.float64, generator=generator)
        return means[torch.randint(len(means), (n,), generator=generator)] + z * sqrt(self.variance)

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (K,), means (K, 2) and covariances (K, 2, 2)."""
        means, eye = torch.tensor(self.places, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
        return torch.full_like(means[:, 0], 1 / len(means)), means, self.variance * eye.repeat(len(means), 1, 1)


TWO = Clusters(((-2.0, -2.0), (2.0, 2.0)), 0.2)
THREE = Clusters(((-3.0, 1.0), (0.0, -3.0), (3.0, 0.5)), 0.15)
NOISE = Clusters(((0.0, 0.0),), 4.0)


class Faint(Brownian):
    """A hundredth of the Brownian variance."""

    def forward(self, t: Tensor) -> Tensor:
        variance: Tensor = super().forward(t) / 100
        return variance


@dataclass(frozen=True)
class Design:
    """An interpolant, its noise, the law of times, and the ρ0 it starts from; ρ1 is always the three clusters."""

    interpolant: type[ClosedForm] = Linear
    gamma: type[Gamma] = Brownian
    times: type[TimeDensity] = Arcsine
    start: Clusters = TWO


DESIGNS = {
    "linear, γ²/100": Design(gamma=Faint),
    "linear, Brownian γ": Design(),
    "linear, parabolic γ": Design(gamma=Parabolic),
    "linear, sine-squared γ": Design(gamma=SineSquared),
    "trigonometric, Brownian γ": Design(Trigonometric),
    "encoder–decoder, Brownian γ": Design(EncoderDecoder),
    "encoder–decoder, sine-squared γ": Design(EncoderDecoder, SineSquared),
    "one-sided linear": Design(OneSidedLinear, start=NOISE),
    "one-sided trigonometric": Design(OneSidedTrigonometric, start=NOISE),
    "variance preserving": Design(VariancePreserving, start=NOISE),
    "mirror, Brownian γ": Design(Mirror, start=THREE),
    "mirror, sine-squared γ": Design(Mirror, SineSquared, start=THREE),
    "linear, uniform times": Design(times=Uniform),
    "linear, times ∝ 1/γ": Design(times=GammaMatched),
    "linear, times by the loss's variance": Design(times=LossVariance),
}
ERRORS = {"gap_b": "½∫E|b̂−b|²dt", "gap_s": "½∫E|ŝ−s|²dt", "path": "path error (nats)"}
ERRORS |= {"ode": "energy distance, ODE", "sde": "SDE"}


def fitted(design: Design, seed: int) -> dict[str, Cell]:
    """Errors of a fit's fields on points of the exact law, and of the points that it generates."""
    generator = torch.Generator().manual_seed(seed)
    ends = [law.sample(n, generator) for n in (SAMPLES, JUDGED) for law in (design.start, THREE)]
    problem = Problem(ends[0], ends[1], EPSILON, ends[2], ends[3])
    solver = Regression(interpolant=design.interpolant, gamma=design.gamma, times=design.times, coupling=Independent)
    bridge = solver.solve(problem, seed)
    moved = {
        name: bridge.transport(problem.test0, diffusion=level, random_state=seed)
        for name, level in (("ode", 0.0), ("sde", EPSILON))
    }
    return {**gaps(bridge, design), **{name: energy_distance(x, problem.test1) for name, x in moved.items()}}


def gaps(bridge: Bridge, design: Design) -> dict[str, float]:
    """Errors of both fields, and of the forward drift as a path KL (1/4ε)∫E|û−u|²dt."""
    assert bridge.interpolant is not None
    oracle = MixtureOracle(bridge.interpolant, *design.start.parameters(), *THREE.parameters())
    generator = torch.Generator().manual_seed(99)
    uniform = (torch.arange(JUDGED) + torch.rand(JUDGED, generator=generator, dtype=torch.float64)) / JUDGED
    t = (EDGE + (1 - 2 * EDGE) * uniform)[:, None]
    x0, x1 = design.start.sample(JUDGED, generator), THREE.sample(JUDGED, generator)
    z = torch.randn(JUDGED, 2, dtype=torch.float64, generator=generator)
    x = bridge.interpolant.path(t, x0, x1, z).detach().x
    off_b, off_s = bridge.velocity(t, x) - oracle.velocity(t, x), bridge.marginal_score(t, x) - oracle.score(t, x)
    errors = {"gap_b": off_b, "gap_s": off_s, "path": (off_b + EPSILON * off_s) / sqrt(2 * EPSILON)}
    return {name: float(0.5 * (1 - 2 * EDGE) * off.square().sum(-1).mean()) for name, off in errors.items()}


def designs(out: Path) -> None:
    """Means over seeds with their standard errors."""
    rows, means = Rows(out, "designs_by_seed"), Rows(out, "designs")
    for seed, (name, design) in product(SEEDS, DESIGNS.items()):
        rows.once(partial(fitted, design, seed), design=name, seed=seed)
    means.replace(
        {"design": name, **{key: mean_of([float(row[key]) for row in rows.find(design=name)]) for key in ERRORS}}
        for name in DESIGNS
    )
    note = "One-sided designs start from N(0, 4I), mirrors from the three clusters: other tasks than the rest. "
    means.table({"design": "interpolant", **ERRORS}, note + FLOOR.format(energy_floor(THREE.sample, JUDGED)))


# Samplers

INTERPOLANTS: dict[str, type[ClosedForm]] = {
    "one-sided linear": OneSidedLinear,
    "one-sided trigonometric": OneSidedTrigonometric,
    "variance preserving": VariancePreserving,
    "two-sided linear": Linear,
}


def falling(t: Tensor) -> Tensor:
    """D = 1 − t."""
    return 1 - t


def arched(t: Tensor) -> Tensor:
    """D = 2t(1−t)."""
    return 2 * t * (1 - t)


DIFFUSIONS: dict[str, Diffusion] = {"ODE": 0.0, "D = 0.1": 0.1, "D = 0.5": 0.5, "D = 2": 2.0}
DIFFUSIONS |= {"D = 1−t": falling, "D = 2t(1−t)": arched}


def moon_fit(interpolant: type[ClosedForm], epsilon: float, gamma: type[Gamma] = Brownian) -> Bridge:
    """Two moons from noise or, by a mirror, from themselves."""
    generator = torch.Generator().manual_seed(0)
    start = moons if interpolant is Mirror else normal
    x0, test0 = start(SAMPLES, generator), start(JUDGED, generator)
    problem = Problem(x0, moons(SAMPLES, generator), epsilon, test0, moons(JUDGED, generator))
    return Regression(interpolant=interpolant, gamma=gamma, coupling=Independent).solve(problem)


def sampled(interpolant: type[ClosedForm]) -> Iterator[dict[str, Cell]]:
    """Energy distances of what a fit generates from held-out noise, by diffusion and steps."""
    bridge, generator = moon_fit(interpolant, EPSILON), torch.Generator().manual_seed(1)
    noise, data = normal(JUDGED, generator), moons(JUDGED, generator)
    for (name, diffusion), steps in product(DIFFUSIONS.items(), (50, 100)):
        moved = bridge.transport(noise, diffusion=diffusion, steps=steps, random_state=7)
        yield {"diffusion": name, "steps": steps, "energy": energy_distance(moved, data)}


def samplers(out: Path) -> None:
    rows = Rows(out, "samplers")
    for name, interpolant in INTERPOLANTS.items():
        rows.once_all(partial(sampled, interpolant), interpolant=name)
    titles = {"interpolant": "interpolant", "diffusion": "diffusion", "steps": "Euler steps"}
    rows.table(titles | {"energy": "energy distance"}, FLOOR.format(energy_floor(moons, JUDGED)))


# Mirror

MIRRORS = [(0.05, Brownian), (0.5, Brownian), (2.0, Brownian), (8.0, Brownian), (0.5, Parabolic), (0.5, SineSquared)]
MIRROR = {"gamma": "γ", "epsilon": "ε", "end": "energy distance at t = 1", "middle": "at t = 1/2, to exact points"}
MIRROR |= {"travel": "E|x₁−x₀|", "free": "√(πε)", "correlation": "correlation of x₁ and x₀", "returned": "ODE"}


def mirrored(epsilon: float, gamma: type[Gamma]) -> dict[str, Cell]:
    """How far points go, where they arrive, and how much they remember."""
    bridge, generator = moon_fit(Mirror, epsilon, gamma), torch.Generator().manual_seed(2)
    start, other = moons(JUDGED, generator), moons(JUDGED, generator)
    _, middle, end = bridge.trajectories(start, (0.0, 0.5, 1.0), random_state=5)
    assert bridge.interpolant is not None
    z = torch.randn(JUDGED, 2, generator=generator)
    exact = other + bridge.interpolant.variance(torch.tensor([0.5])).sqrt() * z
    returned = bridge.transport(start, diffusion=0.0)
    return {
        "end": energy_distance(end, other),
        "middle": energy_distance(middle, exact),
        "travel": Estimate.of((end - start).norm(dim=1)),
        "free": sqrt(pi * epsilon),
        "correlation": correlation(start, end),
        "returned": Estimate.of((returned - start).norm(dim=1)),
    }


def correlation(a: Tensor, b: Tensor) -> Estimate:
    """The mean correlation of coordinates of a and b, (n, 2)."""
    centred = [x - x.mean(0) for x in (a, b)]
    r = float((centred[0] * centred[1]).mean(0).div(a.std(0) * b.std(0)).mean())
    return Estimate(r, (1 - r**2) / sqrt(len(a)))


def mirrors(out: Path) -> None:
    rows = Rows(out, "mirror")
    for epsilon, gamma in MIRRORS:
        rows.once(partial(mirrored, epsilon, gamma), gamma=gamma.__name__, epsilon=epsilon)
    note = "√(πε): travel of free Brownian motion.  The exact ODE returns every point to its start, at distance zero. "
    rows.table(MIRROR, note + FLOOR.format(energy_floor(moons, JUDGED)))


# The exact densities


def densities(times: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> Figure:
    """Exact densities between the clusters, a row for each two-sided design."""
    shown = {name: design for name, design in DESIGNS.items() if design.start is TWO and design.times is Arcsine}
    figure, axis = Figure(figsize=(8.5, 1.6 * len(shown)), layout="constrained"), torch.linspace(-5, 5, 100).double()
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    panels = figure.subplots(len(shown), len(times), subplot_kw={"xticks": [], "yticks": []})
    for line, (name, design) in zip(panels, shown.items(), strict=True):
        interpolant = design.interpolant.make(design.gamma(EPSILON), 1.0)
        oracle = MixtureOracle(interpolant, *TWO.parameters(), *THREE.parameters())
        for axes, t in zip(line, times, strict=True):
            density = oracle.log_density(torch.tensor(t, dtype=torch.float64), grid).exp().view(100, 100)
            axes.imshow(density.sqrt(), origin="lower", extent=(-5, 5, -5, 5), cmap="Blues")
            axes.set_title(f"t = {t:g}" if line is panels[0] else "")
        line[0].set_ylabel(name.replace(", ", ",\n"), fontsize=8)
    figure.supxlabel("square root of the exact density on [−5, 5]², each panel on its own scale", fontsize=9)
    return figure


def main(out: Path = RESULTS / "theory_design") -> None:
    torch.set_num_threads(1)
    designs(out)
    samplers(out)
    mirrors(out)
    save(densities(), out / "densities.png")


if __name__ == "__main__":
    tyro.cli(main)
