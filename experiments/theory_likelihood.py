"""Question: how accurate are log-densities by the flow, by Feynman–Kac and by tilted paths?

    python experiments/theory_likelihood.py

accuracy.csv has errors against the closed form on the exact Gaussian bridge, d = 2.  For the rows with a wrong score
the backward drift is replaced by that of another bridge, which leaves the law of the forward drift as it is: tilted
paths stay unbiased.  cross_entropies.csv has −E log ρ̂1 on held-out points, for exact fields between mixtures, fits of
them and digits, beside the law's own −E log ρ1 where it is known and that of a Gaussian mixture fitted to x1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import tyro
from common import COLOURS, RESULTS, Cell, Rows, save
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from sbridge import EULER, HEUN, RK4, Bridge, Brownian, Independent, Linear, Problem, Regression
from sbridge.densities import Base, as_density
from sbridge.estimates import Estimate
from sbridge.fields import Field
from sbridge.likelihood import DensityMethod, FeynmanKac, ProbabilityFlow, Tilted, TiltedBound
from sbridge.problems.datasets import Digits
from sbridge.problems.gaussian import Gaussian, GaussianBridge
from sbridge.theory.oracle import MixtureOracle

EPSILON, STEPS, PATHS = 0.3, (10, 20, 40, 80, 160), 10_000
ACCURACY = {"method": "method", "steps": "steps", "mean": "mean error (nats)", "largest": "largest error (nats)"}
ACCURACY |= {"error": "median standard error", "z": "largest error / standard error"}
ENTROPIES = {"case": "case", "method": "method", "nats": "nats per point", "gap": "excess over the law itself"}
ENTROPIES |= {"error": "median standard error of a point", "base": "base", "seconds": "seconds"}
NOTE = """
± is the standard error over points; that of one point is over its paths.  Near 1 it says that one path outweighs all
others, and the value is not to be trusted.  The tilted bound lies below the log-density, so its cross-entropy
is larger.
"""

# Accuracy where the density is known


def attempts(truth: Bridge, wrong: Bridge) -> Iterator[tuple[str, int, Bridge, DensityMethod]]:
    """What is tried: its name, steps, model and method."""
    for steps in STEPS:
        for name, stepper in (("Euler", EULER), ("Heun", HEUN), ("RK4", RK4)):
            yield f"flow, {name}", steps, truth, ProbabilityFlow(steps=steps, stepper=stepper)
    for steps in STEPS[:2]:
        yield "tilted, 100 paths", steps, truth, Tilted(100, steps)
        yield f"Feynman–Kac, {PATHS:,} paths", steps, truth, FeynmanKac(PATHS, steps)
        yield f"tilted, wrong score, {PATHS:,} paths", steps, wrong, Tilted(PATHS, steps)
    yield f"tilted bound, wrong score, {PATHS:,} paths", 20, wrong, TiltedBound(PATHS, 20)


def accuracy(out: Path) -> Rows:
    """Errors of every method for growing numbers of steps."""
    problem = Gaussian(dim=2, samples=10, test_samples=20).build()
    assert isinstance(problem.truth, GaussianBridge)
    ends, x = problem.truth.double(), problem.test1.double()
    truth = GaussianBridge(ends.mean0, ends.cov0, ends.mean1, ends.cov1, problem.epsilon)
    other = GaussianBridge(ends.mean0, 1.3 * ends.cov0, ends.mean1 + 0.2, ends.cov1, problem.epsilon)
    wrong = Bridge(truth.forward_field, other.backward_field, problem.epsilon)
    base, exact = (MultivariateNormal(*end) for end in ((ends.mean0, ends.cov0), (ends.mean1, ends.cov1)))
    rows = Rows(out, "accuracy")
    for name, steps, model, method in attempts(truth, wrong):
        rows.once(partial(errors, model, method, x, base, exact.log_prob(x)), method=name, steps=steps)
    rows.table(ACCURACY, "At 20 points, beside the closed form.  The error of the bound is Jensen's gap.")
    return rows


def errors(model: Bridge, method: DensityMethod, x: Tensor, base: Base, exact: Tensor) -> dict[str, Cell]:
    """Mean and largest error, and the standard errors, where there are any."""
    found = model.log_prob(x, base=base, method=method, random_state=0)
    error = (found.value - exact).abs()
    row: dict[str, Cell] = {"mean": float(error.mean()), "largest": float(error.max())}
    if found.standard_error.any():
        row |= {"error": float(found.standard_error.median()), "z": float((error / found.standard_error).max())}
    return row


def draw(rows: Rows) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(("flow, Euler", "flow, Heun", "flow, RK4", "tilted, 100 paths"), COLOURS, strict=False):
        found = rows.find(method=name)
        axes.plot(*([float(row[key]) for row in found] for key in ("steps", "mean")), "o-", color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="mean |log ρ̂ − log ρ| (nats)")
    axes.legend()
    return figure


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
    """A model, its base, training and held-out points of x1, the law of x1 if it is known, and paths per point."""

    model: Bridge
    base: Base
    x1: Tensor
    x: Tensor
    law: Distribution | None
    paths: int


Law = tuple[Tensor, Tensor, Tensor]
"""Weights (K,), means (K, d) and covariances (K, d, d) of a Gaussian mixture."""


def random_law(dim: int, components: int, reach: float, seed: int) -> Law:
    """A mixture with random centres and full covariances."""
    source = torch.Generator().manual_seed(seed)
    means = reach * torch.randn(components, dim, generator=source, dtype=torch.float64)
    roots = 0.3 * torch.randn(components, dim, dim, generator=source, dtype=torch.float64) / dim**0.5
    covs = roots @ roots.mT + 0.1 * torch.eye(dim, dtype=torch.float64)
    return torch.full((components,), 1 / components, dtype=torch.float64), means, covs


def distribution(law: Law) -> Distribution:
    return MixtureSameFamily(Categorical(law[0]), MultivariateNormal(*law[1:]))


def sample(law: Law, n: int, generator: torch.Generator) -> Tensor:
    """n points, (n, d)."""
    k = torch.multinomial(law[0], n, replacement=True, generator=generator)
    z = torch.randn(n, law[1].shape[1], dtype=torch.float64, generator=generator)
    return law[1][k] + (torch.linalg.cholesky(law[2])[k] @ z[..., None])[..., 0]


def mixtures(dim: int, fitted: bool) -> Case:
    """Drifts of the linear interpolant between two mixtures, exact or fitted to 20,000 points of each."""
    laws, source = (random_law(dim, 2, 1.0, 1), random_law(dim, 3, 1.5, 2)), torch.Generator().manual_seed(3)
    x0, x1, test0, test1 = (sample(law, n, source) for n in (20_000, 200) for law in laws)
    if fitted:
        problem = Problem(x0.float(), x1.float(), EPSILON, test0.float(), test1.float())
        return Case(FITTER.solve(problem), problem.x0, problem.x1, problem.test1, distribution(laws[1]), 32)
    oracle = MixtureOracle(Linear(Brownian(EPSILON)), *laws[0], *laws[1])
    model = Bridge(OracleDrift(oracle, EPSILON), OracleDrift(oracle, -EPSILON), EPSILON)
    return Case(model, distribution(laws[0]), x1, test1, distribution(laws[1]), 8)


def digits() -> Case:
    """Drifts fitted to few points of real data."""
    problem = Digits(components=8).build()
    return Case(FITTER.solve(problem), problem.x0, problem.x1, problem.test1, None, 128)


FITTER = Regression(coupling=Independent, steps=3000)
CASES: dict[str, Callable[[], Case]] = {
    "mixture d = 2, exact fields": partial(mixtures, 2, fitted=False),
    "mixture d = 2, fit": partial(mixtures, 2, fitted=True),
    "mixture d = 8, exact fields": partial(mixtures, 8, fitted=False),
    "mixture d = 8, fit": partial(mixtures, 8, fitted=True),
    "digits 3 → 8, d = 8, fit": digits,
}


def entropies(make: Callable[[], Case]) -> Iterator[dict[str, Cell]]:
    """A case by every method, by the law itself, and by a Gaussian mixture fitted to x1."""
    case = make()
    paths = {"Feynman–Kac": FeynmanKac(2 * case.paths, 25), "tilted": Tilted(case.paths, 25)}
    for name, method in ({"flow": ProbabilityFlow()} | paths | {"tilted bound": TiltedBound(case.paths, 25)}).items():
        begin = time.process_time()
        found = case.model.log_prob(case.x, base=case.base, method=method, random_state=1)
        error = float(found.standard_error.median())
        seconds = time.process_time() - begin
        yield {"method": name, **excess(case, found.value), "error": error, "base": found.base, "seconds": seconds}
    if case.law is not None:
        yield {"method": "the law itself", **excess(case, case.law.log_prob(case.x.double()))}
    mixture = as_density(case.x1, case.x)
    yield {"method": "mixture fitted to x1", **excess(case, mixture.log_prob(case.x)), "base": mixture.name}


def excess(case: Case, log_density: Tensor) -> dict[str, Cell]:
    """The cross-entropy, and its excess over the law's own on the same points."""
    row: dict[str, Cell] = {"nats": Estimate.of(-log_density)}
    if case.law is not None:
        row["gap"] = Estimate.of(case.law.log_prob(case.x.double()) - log_density)
    return row


def main(out: Path = RESULTS / "theory_likelihood") -> None:
    torch.set_num_threads(1)
    save(draw(accuracy(out)), out / "accuracy.png")
    rows = Rows(out, "cross_entropies")
    for name, make in CASES.items():
        rows.once_all(partial(entropies, make), case=name)
    rows.table(ENTROPIES, NOTE)


if __name__ == "__main__":
    tyro.cli(main)
