"""Claim: the certificate, which knows no true bridge, finds a fit's divergence from it up to the references' own error.

    .venv/bin/python experiments/certificate.py

Eight problems with a known bridge.  On each: the exact drift with waves of three heights, networks of small and larger
budgets from both couplings, with and without the search for the interpolant, and POT's plug-in drift.  The certificate
is KL(P_û‖reference) from 10,000 held-out points a side.  Beside it stand what it estimates, KL(P_û‖P*), by the same sum
with the true drift, and the path KL of the other tables, KL(P*‖P_û).  A certificate c is counted as right if
t/1.3 − o ≤ c ≤ 1.3 (t + o), t the true divergence and o the reference's own error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter

import torch
from bench import RESULTS
from figures import COLOURS, Cell, Rows
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, ExactBridge, Independent, MaxMin, MinibatchSinkhorn, PotSinkhorn, Problem, Regression
from sbridge.estimates import Estimate
from sbridge.evaluation import path_kl
from sbridge.evaluation.certificate.walks import Walk, run
from sbridge.fields import Field
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.solvers import Solver

FOLDER = RESULTS / "certificate"
FACTOR, PATHS, SAMPLES = 1.3, 2048, 20_000
HEIGHTS = [0.03, 0.1, 0.3]  # of the waves, in units of √(2ε)
TITLES = {
    "problem": "problem",
    "fit": "fit",
    "certificate": "certificate (nats)",
    "own": "reference's own (nats)",
    "same": "KL(P_û‖P*) (nats)",
    "path_kl": "KL(P*‖P_û) (nats)",
    "gap": "dual gap (nats)",
    "tight": "tight",
    "seconds": "time (s)",
}
SHARES = {
    "rows": "certificates",
    "count": "number",
    "same": "right by KL(P_û‖P*)",
    "path_kl": "right by KL(P*‖P_û)",
}
NETWORKS: dict[str, Solver] = {
    "linear interpolant, product coupling, 100 steps": Regression(coupling=Independent, steps=100),
    "linear interpolant, product coupling, 500 steps": Regression(coupling=Independent, steps=500),
    "linear interpolant, minibatch Sinkhorn, 300 steps": Regression(coupling=MinibatchSinkhorn, steps=300),
    "max–min, product coupling, 600 steps": MaxMin(coupling=Independent, steps=600),
    "max–min, minibatch Sinkhorn, 1000 steps": MaxMin(coupling=MinibatchSinkhorn, steps=1000),
    "POT Sinkhorn, 1,000 points": PotSinkhorn(points=1000),
}


class Waves(Field):
    """A drift and waves across it, which no Schrödinger bridge has; backwards, with no drift below, waves alone."""

    directions: Tensor

    def __init__(self, inner: Field | None, height: float, dim: int, wavelength: float) -> None:
        super().__init__()
        self.inner, self.height, self.wavelength = inner, height, wavelength
        draws = torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim))
        self.register_buffer("directions", draws / (wavelength * dim**0.5))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        waves = self.height * torch.sin(x @ self.directions + 3 * t)
        return waves if self.inner is None else self.inner(t, x) + waves


def problems() -> Iterator[Problem]:
    for dim in (2, 16):
        for epsilon in (0.05, 0.5, 5.0):
            yield Mixture(dim=dim, epsilon=epsilon, samples=SAMPLES).build()
    for dim in (2, 5):
        yield Gaussian(dim=dim, samples=SAMPLES).build()


def fits(problem: Problem, truth: ExactBridge) -> Iterator[tuple[str, Bridge | Solver]]:
    for height in HEIGHTS:
        size = height * (2 * problem.epsilon) ** 0.5
        fields = (Waves(inner, size, problem.dim, 1.0) for inner in (truth.forward_field, None))
        yield f"exact drift and waves of {height:g}", Bridge(*fields, problem.epsilon)
    yield from NETWORKS.items()


def true_divergence(bridge: Bridge, truth: ExactBridge, x0: Tensor) -> Estimate:
    """KL(P_û‖P*) up to t = .99, by the certificate's sum with the true drift in the place of both references."""
    with torch.no_grad():
        fine, coarse = (
            Walk(bridge.forward_field, [truth.forward_field] * 2, bridge.epsilon, x0[:PATHS]) for _ in range(2)
        )
        run(fine, coarse, torch.Generator().manual_seed(1))
    return Estimate.of(fine.cross)


def judged(bridge: Bridge, problem: Problem, truth: ExactBridge) -> dict[str, Cell]:
    start = perf_counter()
    found = bridge.certificate(problem.test0, problem.test1, random_state=0).forward
    return {
        "certificate": found.kl,
        "own": found.reference.own,
        "same": true_divergence(bridge, truth, problem.test0),
        "path_kl": path_kl(bridge, truth, problem.test0[:PATHS], torch.Generator().manual_seed(2)),
        "gap": found.dual_gap,
        "endpoint": found.endpoint.value / found.endpoint.floor,
        "reference_endpoint": found.reference.endpoint.value / found.reference.endpoint.floor,
        "tight": "yes" if found.tight else "no",
        "seconds": perf_counter() - start,
    }


def right(row: Mapping[str, str], truth: str) -> bool:
    found, true, own = (float(row[name]) for name in ("certificate", truth, "own"))
    return true / FACTOR - own <= found <= FACTOR * (true + own)


def shares(table: Rows) -> Rows:
    """How many certificates are right, of all and of those that call themselves tight."""
    counted = Rows(FOLDER, "shares", SHARES)
    kinds = {"all": table.rows, "tight": table.find(tight="yes"), "not tight": table.find(tight="no")}
    counted.fill(
        {"rows": name, "count": str(len(rows))}
        | {truth: f"{sum(right(row, truth) for row in rows)}" for truth in ("same", "path_kl")}
        for name, rows in kinds.items()
    )
    return counted


def draw(table: Rows) -> Figure:
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    for axes, truth in zip(figure.subplots(1, 2, sharey=True), ("same", "path_kl"), strict=True):
        scatter(axes, table, truth)
    figure.axes[0].set_ylabel("certificate + reference's own (nats)")
    figure.axes[0].legend(fontsize=7)
    return figure


def scatter(axes: Axes, table: Rows, truth: str) -> None:
    """Certificates against the truth, the reference's own added to both, with the band of a factor 1.3."""
    for tight, colour, marker in (("yes", COLOURS[0], "o"), ("no", COLOURS[1], "x")):
        rows = table.find(tight=tight)
        true = [float(row[truth]) + float(row["own"]) for row in rows]
        found = [float(row["certificate"]) + float(row["own"]) for row in rows]
        axes.plot(true, found, marker, color=colour, markersize=4, label=f"{'' if tight == 'yes' else 'not '}tight")
    ends = [1e-4, 1e3]
    axes.fill_between(ends, [end / FACTOR for end in ends], [end * FACTOR for end in ends], color="0.85", zorder=0)
    axes.set(xscale="log", yscale="log", xlabel=f"{TITLES[truth].removesuffix(' (nats)')} + reference's own (nats)")


def main() -> None:
    torch.set_num_threads(1)
    table = Rows(FOLDER, "certificates", TITLES)
    for problem in problems():
        assert problem.truth is not None
        name = f"{problem.name} ε={problem.epsilon:g}"
        for fit, method in fits(problem, problem.truth):
            if table.missing(problem=name, fit=fit):
                bridge = method if isinstance(method, Bridge) else method.solve(problem)
                table.add(problem=name, fit=fit, **judged(bridge, problem, problem.truth))
    draw(table).savefig(FOLDER / "certificates.png", dpi=150)
    table.write(shares(table).markdown())


if __name__ == "__main__":
    main()
