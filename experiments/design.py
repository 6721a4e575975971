"""Claim: the mean I and the noise γ of an interpolant decide through which densities ρ0 becomes ρ1, and how well its
fields are learned from the same budget.

    .venv/bin/python experiments/design.py

Between two planar Gaussian mixtures every density and every field is known (`MixtureOracle`).  The figure has the exact
densities; the tables have, for equal numbers of steps, the error of the fitted fields and of the points they generate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import torch
from bench import RESULTS
from figures import COLOURS, Cell, Rows, energy_floor, mean_of
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, Independent, Problem, Regression
from sbridge.evaluation import energy_distance
from sbridge.fields import Field
from sbridge.interpolants import (
    Brownian,
    ClosedForm,
    EncoderDecoder,
    FramedInterpolant,
    Gamma,
    Interpolant,
    Linear,
    Mirror,
    OneSidedLinear,
    OneSidedTrigonometric,
    Parabolic,
    SineSquared,
    Trigonometric,
    VariancePreserving,
)
from sbridge.theory.oracle import MixtureOracle
from sbridge.times import Arcsine, GammaMatched, LossVariance, TimeDensity, Uniform

FOLDER, EPSILON, STEPS, SAMPLES, JUDGED = RESULTS / "design", 0.5, 1500, 20_000, 4000
TIMES, SEEDS = (0.0, 0.25, 0.5, 0.75, 1.0), (0, 1, 2)
BINS, EDGE = 20, 0.005  # trainings look at t in [EDGE, 1 − EDGE]; so do the gaps


class Faint(Brownian):
    """A hundredth of the Brownian variance."""

    def forward(self, t: Tensor) -> Tensor:
        variance: Tensor = super().forward(t) / 100
        return variance


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
        """Weights (K,), means (K, 2) and covariances (K, 2, 2), as `MixtureOracle` takes them."""
        means, eye = torch.tensor(self.places, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
        return torch.full_like(means[:, 0], 1 / len(means)), means, self.variance * eye.repeat(len(means), 1, 1)


TWO = Clusters(((-2.0, -2.0), (2.0, 2.0)), 0.2)
THREE = Clusters(((-3.0, 1.0), (0.0, -3.0), (3.0, 0.5)), 0.15)
NOISE = Clusters(((0.0, 0.0),), 4.0)


@dataclass(frozen=True)
class Design:
    """A choice of interpolant, and the ρ0 that it is shown with; ρ1 is always the three clusters."""

    interpolant: type[ClosedForm]
    gamma: type[Gamma] = Brownian
    start: Clusters = TWO

    def problem(self, seed: int) -> Problem:
        """Fresh samples of both ends."""
        generator = torch.Generator().manual_seed(seed)
        ends = [law.sample(n, generator) for n in (SAMPLES, JUDGED) for law in (self.start, THREE)]
        return Problem(ends[0], ends[1], EPSILON, ends[2], ends[3])

    def solver(self, times: type[TimeDensity] = Arcsine) -> Regression:
        """The fit, the same for all."""
        budget = Regression(coupling=Independent, steps=STEPS, batch=256, group=64, width=64)
        return replace(budget, interpolant=self.interpolant, gamma=self.gamma, times=times)

    def unfitted(self) -> MixtureOracle:
        """Densities and fields of the interpolant that is fitted with the first seed, in the data's coordinates."""
        training = self.solver().start(self.problem(0))
        frame = training.frame
        return self.oracle(FramedInterpolant(training.base, frame.shift0, frame.shift1, frame.scale))

    def oracle(self, interpolant: Interpolant) -> MixtureOracle:
        """Densities and fields of an interpolant between these laws."""
        return MixtureOracle(interpolant, *self.start.parameters(), *THREE.parameters())


DESIGNS = {
    "linear, γ²/100": Design(Linear, Faint),
    "linear, Brownian γ": Design(Linear),
    "linear, parabolic γ": Design(Linear, Parabolic),
    "linear, sine-squared γ": Design(Linear, SineSquared),
    "trigonometric, Brownian γ": Design(Trigonometric),
    "encoder–decoder, Brownian γ": Design(EncoderDecoder),
    "encoder–decoder, sine-squared γ": Design(EncoderDecoder, SineSquared),
    "one-sided linear": Design(OneSidedLinear, start=NOISE),
    "one-sided trigonometric": Design(OneSidedTrigonometric, start=NOISE),
    "variance preserving": Design(VariancePreserving, start=NOISE),
    "mirror, Brownian γ": Design(Mirror, start=THREE),
    "mirror, sine-squared γ": Design(Mirror, SineSquared, start=THREE),
}
DENSITIES: dict[str, type[TimeDensity]] = {
    "uniform": Uniform,
    "arcsine": Arcsine,
    "∝ 1/γ": GammaMatched,
    "∝ standard deviation of the loss": LossVariance,
}
TITLES = {
    "gap_b": "½∫E\\|b̂−b\\|²dt",
    "share_b": "of ½∫E\\|b\\|²dt (%)",
    "gap_s": "½∫E\\|ŝ−s\\|²dt",
    "share_s": "of ½∫E\\|s\\|²dt (%)",
    "path": "path error (nats)",
    "ode": "energy distance: ODE",
    "sde": "SDE",
}
EXACT = {"ode_exact": "ODE, exact b", "sde_exact": "SDE, exact b_F", "start": "x0 as it is"}
PROFILES = {
    "size of the noise": list(DESIGNS)[:4],
    "mean": ["linear, Brownian γ", *list(DESIGNS)[4:7]],
    "one-sided and mirror": list(DESIGNS)[7:],
}
NOTE = """
Errors are in the data's units, over t from 0.005 to 0.995, on points of the exact law; path error is
(1/4ε)∫E|û−u|²dt of u = b + εs. ± is a standard error over three seeds (data, fit, noise). Energy distances are between
4,000 generated and 4,000 held-out points of ρ1; between two true samples of that size they have a standard deviation of
{deviation:.2g}, and 95 % of them lie below {floor:.2g}: the floor. Those of exact fields are of one seed, 2,000 points.
All samplers take 100 Euler steps, so the exact columns are what that sampler can do at best. One-sided designs start
from N(0, 4I) and mirrors from the three clusters themselves: their ρ0, hence their tasks, are not those of the others.
"""


class ExactDrift(Field):
    """b + level·s of an oracle."""

    def __init__(self, oracle: MixtureOracle, level: float) -> None:
        super().__init__()
        self.oracle, self.level, self.interpolant = oracle, level, oracle.interpolant

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.oracle.drift(t, x, self.level)


def gaps(bridge: Bridge, oracle: MixtureOracle, design: Design) -> dict[str, float]:
    """Errors of both fields, and of the forward drift as a path KL (1/4ε)∫E|û−u|²dt, on fresh points of the law.

    `b00` … and `s00` … are the mean squares of the errors in equal bins of time.
    """
    generator = torch.Generator().manual_seed(99)
    uniform = (torch.arange(JUDGED) + torch.rand(JUDGED, generator=generator, dtype=torch.float64)) / JUDGED
    t = (EDGE + (1 - 2 * EDGE) * uniform)[:, None]
    x0, x1 = design.start.sample(JUDGED, generator), THREE.sample(JUDGED, generator)
    z = torch.randn(JUDGED, 2, dtype=torch.float64, generator=generator)
    x = oracle.interpolant.path(t, x0, x1, z).detach().x
    b, s = oracle.velocity(t, x), oracle.score(t, x)
    off_b, off_s = bridge.velocity(t, x) - b, bridge.marginal_score(t, x) - s
    found = {"gap_b": _energy(off_b), "gap_s": _energy(off_s)}
    shares = {"share_b": 100 * found["gap_b"] / _energy(b), "share_s": 100 * found["gap_s"] / _energy(s)}
    path = {"path": _energy(off_b + EPSILON * off_s) / (2 * EPSILON)}
    bins = {
        f"{name}{k:02d}": float(part.square().sum(-1).mean())
        for name, off in (("b", off_b), ("s", off_s))
        for k, part in enumerate(off.chunk(BINS))
    }
    return {**found, **shares, **path, **bins}


def _energy(x: Tensor) -> float:
    """½∫E|x|²dt from values at stratified times."""
    return float(0.5 * (1 - 2 * EDGE) * x.square().sum(-1).mean())


def judged(design: Design, times: type[TimeDensity], seed: int) -> dict[str, float]:
    """Fit and judge."""
    problem = design.problem(seed)
    bridge = design.solver(times).solve(problem, seed)
    assert bridge.interpolant is not None
    found = {}
    for name, level in (("ode", 0.0), ("sde", EPSILON)):
        found[name] = bridge.transport(problem.test0, diffusion=level, random_state=seed)
    ends = {name: energy_distance(points, problem.test1) for name, points in found.items()}
    return {**gaps(bridge, design.oracle(bridge.interpolant), design), **ends}


def exact_ends(design: Design) -> dict[str, float]:
    """Energy distance of what the same sampler makes with the exact fields, and of ρ0's points as they are."""
    problem, oracle = design.problem(0), design.unfitted()
    exact = Bridge(ExactDrift(oracle, EPSILON), ExactDrift(oracle, -EPSILON), EPSILON)
    found = {"start": problem.test0[: JUDGED // 2]}
    for name, level in (("ode", 0.0), ("sde", EPSILON)):
        found[f"{name}_exact"] = exact.transport(found["start"], diffusion=level, random_state=0)
    return {name: energy_distance(points, problem.test1) for name, points in found.items()}


def averaged(rows: Rows, **key: str) -> dict[str, Cell]:
    """Means over seeds with their standard errors."""
    found = rows.find(**key)
    names = [name for name in found[0] if name not in (*key, "seed")]
    return {**key, **{name: mean_of([float(one[name]) for one in found]) for name in names}}


def picture() -> Figure:
    """The exact densities, a row for each design and a column for each time."""
    figure = Figure(figsize=(8.5, 1.55 * len(DESIGNS)), layout="constrained")
    panels = figure.subplots(len(DESIGNS), len(TIMES))
    axis = torch.linspace(-5, 5, 100, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    for line, (name, design) in zip(panels, DESIGNS.items(), strict=True):
        oracle = design.unfitted()
        for axes, t in zip(line, TIMES, strict=True):
            density = oracle.log_density(torch.tensor(t, dtype=torch.float64), grid).exp().view(100, 100)
            axes.imshow(density.sqrt(), origin="lower", extent=(-5, 5, -5, 5), cmap="Blues")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.replace(", ", ",\n"), fontsize=8)
    for axes, t in zip(panels[0], TIMES, strict=True):
        axes.set_title(f"t = {t:g}")
    figure.supxlabel("square root of the exact density ρ_t on [−5, 5]², each panel on its own scale", fontsize=9)
    return figure


def profiles(means: Rows) -> Figure:
    """The fields' errors against time."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    panels = figure.subplots(2, len(PROFILES), sharex=True, sharey="row")
    middles = [(k + 0.5) / BINS for k in range(BINS)]
    for column, (title, names) in enumerate(PROFILES.items()):
        for name, colour in zip(names, COLOURS, strict=False):
            (row,) = means.find(design=name)
            for axes, field in zip(panels[:, column], "bs", strict=True):
                values = [float(row[f"{field}{k:02d}"]) for k in range(BINS)]
                axes.plot(middles, values, color=colour, label=name)
                axes.set(yscale="log")
                axes.grid(alpha=0.3)
        panels[0, column].set_title(title, fontsize=10)
        panels[1, column].set_xlabel("time t")
        panels[1, column].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    panels[0, 0].set_ylabel("E|b̂−b|², squared units of the data")
    panels[1, 0].set_ylabel("E|ŝ−s|², one over that")
    return figure


def main() -> None:
    torch.set_num_threads(1)
    by_seed, times_by_seed = Rows(FOLDER, "designs_by_seed", {}), Rows(FOLDER, "times_by_seed", {})
    exact = Rows(FOLDER, "exact_fields", {"design": "interpolant", **EXACT})
    if not (FOLDER / "densities.png").exists():
        picture().savefig(FOLDER / "densities.png", dpi=130)
    for seed in map(str, SEEDS):
        for name, design in DESIGNS.items():
            if by_seed.missing(design=name, seed=seed):
                by_seed.add(design=name, seed=seed, **judged(design, Arcsine, int(seed)))
        for name, times in DENSITIES.items():
            if times_by_seed.missing(times=name, seed=seed):
                times_by_seed.add(times=name, seed=seed, **judged(DESIGNS["linear, Brownian γ"], times, int(seed)))
    for name, design in DESIGNS.items():
        if exact.missing(design=name):
            exact.add(design=name, **exact_ends(design))
    means = Rows(FOLDER, "designs", {"design": "interpolant", **TITLES})
    means.fill(averaged(by_seed, design=name) for name in DESIGNS)
    over_times = Rows(FOLDER, "times", {"times": "density of times", **TITLES})
    over_times.fill(averaged(times_by_seed, times=name) for name in DENSITIES)
    profiles(means).savefig(FOLDER / "errors.png", dpi=150)
    second = "The linear interpolant with Brownian γ, by the density that times are drawn from\n"
    floor = energy_floor(THREE.sample, JUDGED)
    note = NOTE.format(floor=floor.value, deviation=floor.standard_error)
    means.write(exact.markdown(), f"{second}\n{over_times.markdown()}", note)


if __name__ == "__main__":
    main()
