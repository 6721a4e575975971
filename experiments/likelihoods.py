"""Claim: where the fields are exact, flow and tilted paths give the density to a thousandth of a nat on average; with a
wrong score tilted paths stay unbiased.  Plain Feynman–Kac keeps its word on a Gaussian with 10,000 paths, with fewer on
a mixture it does not, and in 8 dimensions it is useless.

    .venv/bin/python experiments/likelihoods.py

accuracy.csv: exact Gaussian bridge, d = 2, errors against the closed form.  Its second drift is replaced by that of
another bridge for the rows with a wrong score, which leaves the law of the forward drift as it is.
cross_entropies.csv: −E log ρ̂1 on points that no fit has seen.  Beside it, on the same points: the law's own −E log ρ1
where it is known, and as a baseline that of a Gaussian mixture fitted to x1.  For exact fields the base is the law of
x0, for fits a mixture fitted to x0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from bench import RESULTS
from figures import COLOURS, Cell, Rows
from line_truth import mixture
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from sbridge import Bridge, Independent, Linear, Problem, Regression
from sbridge.densities import Base, Density, as_density
from sbridge.estimates import Estimate
from sbridge.fields import Field
from sbridge.interpolants import Brownian
from sbridge.likelihood import (
    DensityMethod,
    FeynmanKac,
    LogDensity,
    ProbabilityFlow,
    Tilted,
    TiltedBound,
    bits_per_dimension,
    cross_entropy,
)
from sbridge.problems.datasets import Digits
from sbridge.problems.gaussian import Gaussian, GaussianBridge
from sbridge.sampling import EULER, HEUN, RK4
from sbridge.theory.oracle import MixtureOracle

FOLDER, EPSILON = RESULTS / "likelihoods", 0.3
STEPPERS = {"Euler": EULER, "Heun": HEUN, "RK4": RK4}
STEPS, PATHS = (10, 20, 40, 80, 100, 160), 10_000
ACCURACY = {"method": "method", "steps": "steps", "mean": "mean error (nats)", "largest": "largest error (nats)"}
ACCURACY |= {"error": "median standard error", "widest": "largest", "z": "largest error / standard error"}
ENTROPIES = {"case": "case", "method": "method", "nats": "nats per point", "bits": "bits per dimension"}
ENTROPIES |= {"gap": "excess over the law itself, same points", "error": "median standard error of a point"}
ENTROPIES |= {"widest": "largest", "base": "base", "seconds": "seconds"}
FLOW, FEYNMAN_KAC, TILTED, BOUND = "probability flow", "Feynman–Kac", "tilted", "tilted bound"
TRUTH, BASELINE = "the law itself", "mixture fitted to x1"
ACCURACY_NOTE = """\
Errors at 20 points, against the closed form. Standard errors are over a point's paths and leave out the error of the
steps, which is all there is for tilted paths where the score is exact. The bound's error is Jensen's gap.
"""
NOTE = """\
± is the standard error over points; that of one point is over its paths. One near 1 says that a single path outweighs
all others: such a value is not to be trusted, and neither is a mean of them. The flow and the paths of a fit are two
models; the tilted bound is below the log-density by the paths, so its cross-entropy is above theirs. The figure leaves
out methods whose median standard error of a point is above 0.6.
"""
TRUSTED = 0.6  # median standard error of a point up to which a method is drawn
Law = tuple[Tensor, Tensor, Tensor]
"""Weights (K,), means (K, d) and covariances (K, d, d) of a Gaussian mixture."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Accuracy where the density is known


def gaussian() -> tuple[GaussianBridge, Bridge, Density, Tensor, Tensor]:
    """The exact bridge, one with a wrong score, the base, 20 points of ρ1 and their log-densities."""
    problem = Gaussian(dim=2, samples=10, test_samples=20).build()
    assert isinstance(problem.truth, GaussianBridge)
    exact, x = problem.truth.double(), problem.test1.double()
    truth = GaussianBridge(exact.mean0, exact.cov0, exact.mean1, exact.cov1, problem.epsilon)
    other = GaussianBridge(exact.mean0, 1.3 * exact.cov0, exact.mean1 + 0.2, exact.cov1, problem.epsilon)
    wrong = Bridge(truth.forward_field, other.backward_field, problem.epsilon)
    base = as_density(MultivariateNormal(exact.mean0, exact.cov0), x)
    return truth, wrong, base, x, MultivariateNormal(exact.mean1, exact.cov1).log_prob(x)


def accuracy() -> Rows:
    """Errors of every method for growing numbers of steps."""
    table = Rows(FOLDER, "accuracy", ACCURACY)
    truth, wrong, base, x, true = gaussian()
    flows = {f"{FLOW}, {name}": stepper for name, stepper in STEPPERS.items()}
    trials: list[tuple[str, int, Bridge, DensityMethod]] = [
        (name, steps, truth, ProbabilityFlow(steps=steps, stepper=stepper))
        for name, stepper in flows.items()
        for steps in STEPS
    ]
    trials += [(f"{TILTED}, 100 paths", steps, truth, Tilted(100, steps)) for steps in (5, *STEPS[:3])]
    trials += [(f"{FEYNMAN_KAC}, {PATHS:,} paths", steps, truth, FeynmanKac(PATHS, steps)) for steps in (10, 20)]
    trials += [(f"{TILTED}, wrong score, {PATHS:,} paths", steps, wrong, Tilted(PATHS, steps)) for steps in (10, 20)]
    trials += [(f"{BOUND}, wrong score, {PATHS:,} paths", 20, wrong, TiltedBound(PATHS, 20))]
    for name, steps, model, method in trials:
        if table.missing(method=name, steps=str(steps)):
            found = method.log_density(model, x, "x1", base, generator(steps))
            table.add(method=name, steps=str(steps), **errors(found, true))
    return table


def errors(found: LogDensity[Tensor], true: Tensor) -> dict[str, Cell]:
    """Mean and largest error, and the standard errors, where there are any."""
    error = (found.value - true).abs()
    row: dict[str, Cell] = {"mean": float(error.mean()), "largest": float(error.max())}
    if found.standard_error.any():
        row |= {"z": float((error / found.standard_error).max()), **path_errors(found)}
    return row


def path_errors(found: LogDensity[Tensor]) -> dict[str, Cell]:
    return {"error": float(found.standard_error.median()), "widest": float(found.standard_error.max())}


# Cross-entropies


class OracleDrift(Field):
    """b + level·s of an oracle."""

    def __init__(self, oracle: MixtureOracle, level: float) -> None:
        super().__init__()
        self.oracle, self.level = oracle, level

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.oracle.drift(t, x, self.level)


@dataclass(frozen=True)
class Case:
    """A model, its base, held-out points of x1, a mixture fitted to x1, the law of x1 if known, and what to run."""

    model: Bridge
    base: Base
    x: Tensor
    baseline: Density
    law: Distribution | None
    methods: dict[str, DensityMethod]


def random_law(dim: int, components: int, reach: float, seed: int) -> Law:
    """A mixture with centres at random and full covariances."""
    source = generator(seed)
    means = reach * torch.randn(components, dim, generator=source, dtype=torch.float64)
    roots = 0.3 * torch.randn(components, dim, dim, generator=source, dtype=torch.float64) / dim**0.5
    covs = roots @ roots.mT + 0.1 * torch.eye(dim, dtype=torch.float64)
    return torch.full((components,), 1 / components, dtype=torch.float64), means, covs


def distribution(of: Law) -> Distribution:
    weights, means, covs = of
    return MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covs))


def methods(paths: int, many: int, steps: int) -> dict[str, DensityMethod]:
    """All four: `many` paths without the tilt, `paths` with it."""
    stochastic = {FEYNMAN_KAC: FeynmanKac(many, steps), TILTED: Tilted(paths, steps), BOUND: TiltedBound(paths, steps)}
    return {FLOW: ProbabilityFlow(), **stochastic}


def mixture_data(dim: int) -> tuple[Law, Law, Problem]:
    """Two mixtures, and 20,000 points of each with 200 held out."""
    laws, source = (random_law(dim, 2, 1.0, 1), random_law(dim, 3, 1.5, 2)), generator(3)
    (x0, x1), (test0, test1) = ([mixture(*law, n, source) for law in laws] for n in (20_000, 200))
    return *laws, Problem(x0, x1, EPSILON, test0, test1)


def exact(dim: int) -> Case:
    """The exact drifts of the linear interpolant between two mixtures."""
    law0, law1, problem = mixture_data(dim)
    oracle = MixtureOracle(Linear(Brownian(EPSILON)), *law0, *law1)
    model = Bridge(OracleDrift(oracle, EPSILON), OracleDrift(oracle, -EPSILON), EPSILON)
    baseline, x = as_density(problem.x1, problem.test1), problem.test1
    return Case(model, distribution(law0), x, baseline, distribution(law1), methods(8, 64, 12))


def fit(dim: int) -> Case:
    """Drifts fitted to points of the same."""
    _, law1, wide = mixture_data(dim)
    x0, x1, test0, test1 = (x.float() for x in (wide.x0, wide.x1, wide.test0, wide.test1))
    model = FITTER.solve(Problem(x0, x1, EPSILON, test0, test1))
    return Case(model, x0, test1, as_density(x1, test1), distribution(law1), methods(32, 64, 25))


def digits() -> Case:
    """Drifts fitted to few points of real data."""
    problem = Digits(components=8).build()
    baseline = as_density(problem.x1, problem.test1)
    return Case(FITTER.solve(problem), problem.x0, problem.test1, baseline, None, methods(128, 256, 25))


FITTER = Regression(coupling=Independent, steps=3000)
CASES: dict[str, Callable[[], Case]] = {
    "mixture d = 2, exact fields": partial(exact, 2),
    "mixture d = 2, fit": partial(fit, 2),
    "mixture d = 8, exact fields": partial(exact, 8),
    "mixture d = 8, fit": partial(fit, 8),
    "digits 3 → 8, d = 8, fit": digits,
}


def entropies() -> Rows:
    """Every case, by every method, beside the law itself and the baseline, which is a case's last row."""
    table = Rows(FOLDER, "cross_entropies", ENTROPIES)
    for name, make in CASES.items():
        if table.missing(case=name, method=BASELINE):
            judge(name, make(), table)
    return table


def judge(label: str, case: Case, table: Rows) -> None:
    """The rows of one case that are missing."""
    base = as_density(case.base, case.x)
    for name, method in case.methods.items():
        if table.missing(case=label, method=name):
            start = time.process_time()
            found = method.log_density(case.model, case.x, "x1", base, generator(1))
            seconds = time.process_time() - start
            row = path_errors(found) if found.standard_error.any() else {}
            table.add(case=label, method=name, **summary(case, found.value), **row, base=found.base, seconds=seconds)
    if case.law is not None and table.missing(case=label, method=TRUTH):
        table.add(case=label, method=TRUTH, **summary(case, case.law.log_prob(case.x.double())))
    value = case.baseline.log_prob(case.x)
    table.add(case=label, method=BASELINE, **summary(case, value), base=case.baseline.name)


def summary(case: Case, log_density: Tensor) -> dict[str, Cell]:
    """The cross-entropy in both units, and its excess over the law's own on the same points."""
    nats = cross_entropy(LogDensity(log_density, torch.zeros_like(log_density), ""))
    row: dict[str, Cell] = {"nats": nats, "bits": bits_per_dimension(nats, case.x.shape[1])}
    if case.law is not None:
        row["gap"] = Estimate.of(case.law.log_prob(case.x.double()) - log_density)
    return row


# Figures


def draw_accuracy(table: Rows) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = [f"{FLOW}, {name}" for name in STEPPERS] + [f"{TILTED}, 100 paths"]
    for name, colour in zip(names, COLOURS, strict=False):
        rows = sorted(table.find(method=name), key=lambda row: int(row["steps"]))
        axes.plot(*([float(row[key]) for row in rows] for key in ("steps", "mean")), "o-", color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="mean |log ρ̂ − log ρ| (nats)")
    axes.set_xticks([5, 10, 20, 40, 80, 160], labels=["5", "10", "20", "40", "80", "160"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(FOLDER / "accuracy.png", dpi=160)


def draw_entropies(table: Rows) -> None:
    figure = Figure(figsize=(9, 1.7 * len(CASES)), layout="constrained")
    for axes, case in zip(figure.subplots(len(CASES), 1), CASES, strict=True):
        rows = [row for row in table.find(case=case) if float(row.get("error") or 0) < TRUSTED]
        values, bars = ([float(row[key]) for row in rows] for key in ("bits", "bits_se"))
        colours = [COLOURS[1] if row["method"] in (TRUTH, BASELINE) else COLOURS[0] for row in rows]
        for row, value, bar, colour in zip(rows, values, bars, colours, strict=True):
            axes.errorbar([value], [row["method"]], xerr=[bar], fmt="o", color=colour, capsize=3)
        axes.invert_yaxis()
        axes.set_title(case, fontsize=9, loc="left")
        axes.grid(alpha=0.3)
    figure.axes[-1].set_xlabel("cross-entropy −E log ρ̂1 (bits per dimension), ± standard error over the same points")
    figure.savefig(FOLDER / "cross_entropies.png", dpi=160)


def main() -> None:
    torch.set_num_threads(1)
    first, second = accuracy(), entropies()
    first.write(ACCURACY_NOTE)
    second.write(NOTE)
    draw_accuracy(first)
    draw_entropies(second)


if __name__ == "__main__":
    main()
