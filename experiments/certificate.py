"""Question: does the certificate, which does not know the true bridge, find a fit's divergence from it?

    python experiments/certificate.py

Eight problems with a known bridge.  On each: the exact drift plus waves of three heights, networks with small and
larger budgets from two couplings, with and without the search for the interpolant, and POT's plug-in drift.  The
certificate is KL(P_û‖reference) from held-out points.  Beside it stand what it estimates, KL(P_û‖P*), and the path KL
of the other tables, KL(P*‖P_û).  A certificate c counts as right if t/1.3 − o ≤ c ≤ 1.3 (t + o), where t is the true
divergence and o the reference's own error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
import tyro
from common import COLOURS, RESULTS, Cell, Rows, save
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, ExactBridge, Independent, MaxMin, MinibatchSinkhorn, PotSinkhorn, Problem, Regression
from sbridge.estimates import Estimate
from sbridge.evaluation import path_kl
from sbridge.evaluation.metrics import HORIZON
from sbridge.fields import Field
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.solvers import Solver

FACTOR, PATHS, SAMPLES = 1.3, 2048, 20_000
HEIGHTS = (0.03, 0.1, 0.3)  # of the waves, in units of √(2ε)
TITLES = {"problem": "problem", "fit": "fit", "certificate": "certificate (nats)", "own": "reference's own (nats)"}
TITLES |= {"same": "KL(P_û‖P*) (nats)", "path_kl": "KL(P*‖P_û) (nats)", "gap": "dual gap (nats)", "tight": "tight"}
SHARES = {"rows": "certificates", "count": "number", "same": "right by KL(P_û‖P*)", "path_kl": "right by KL(P*‖P_û)"}
FITS: dict[str, Solver] = {
    "linear interpolant, product coupling, 100 steps": Regression(coupling=Independent, steps=100),
    "linear interpolant, product coupling, 500 steps": Regression(coupling=Independent, steps=500),
    "linear interpolant, minibatch Sinkhorn, 300 steps": Regression(coupling=MinibatchSinkhorn, steps=300),
    "max–min, product coupling, 600 steps": MaxMin(coupling=Independent, steps=600),
    "max–min, minibatch Sinkhorn, 1000 steps": MaxMin(coupling=MinibatchSinkhorn, steps=1000),
    "POT Sinkhorn, 1,000 points": PotSinkhorn(points=1000),
}


class Waves(Field):
    """A drift plus waves across it, which no Schrödinger bridge has."""

    directions: Tensor

    def __init__(self, inner: Field, height: float, dim: int) -> None:
        super().__init__()
        self.inner, self.height = inner, height
        draws = torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim))
        self.register_buffer("directions", draws / dim**0.5)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        value: Tensor = self.inner(t, x)
        return value + self.height * torch.sin(x @ self.directions + 3 * t)


def problems() -> Iterator[Problem]:
    for dim in (2, 16):
        for epsilon in (0.05, 0.5, 5.0):
            yield Mixture(dim=dim, epsilon=epsilon, samples=SAMPLES).build()
    for dim in (2, 5):
        yield Gaussian(dim=dim, samples=SAMPLES).build()


def waved(problem: Problem, height: float) -> Bridge:
    """The exact bridge with waves on both drifts."""
    assert problem.truth is not None
    size = height * (2 * problem.epsilon) ** 0.5
    fields = (problem.truth.forward_field, problem.truth.backward_field)
    return Bridge(*(Waves(field, size, problem.dim) for field in fields), problem.epsilon)


def true_divergence(bridge: Bridge, truth: ExactBridge, x0: Tensor, times: int = 100) -> Estimate:
    """KL(P_û‖P*) = ∫E|û − u*|²/(4ε) dt up to t = 0.99 along the bridge's own paths, by the midpoint rule."""
    middles = HORIZON * (torch.arange(times, dtype=x0.dtype) + 0.5) / times
    paths = bridge.trajectories(x0, [0.0, *middles.tolist()], steps=4 * times, random_state=1)[1:]
    total = torch.zeros(len(x0), dtype=torch.float64)
    for t, x in zip(middles, paths, strict=True):
        total += (bridge.forward_drift(t, x) - truth.forward_drift(t, x)).double().square().sum(-1)
    return Estimate.of(HORIZON / times / (4 * bridge.epsilon) * total)


def judged(problem: Problem, fit: Solver | float) -> dict[str, Cell]:
    """The row of a solver, or of waves of a height."""
    assert problem.truth is not None
    bridge, starts = waved(problem, fit) if isinstance(fit, float) else fit.solve(problem), problem.test0[:PATHS]
    begin = perf_counter()
    found = bridge.certificate(problem.test0, problem.test1, random_state=0).forward
    return {
        "seconds": perf_counter() - begin,
        "certificate": found.kl,
        "own": found.reference.own,
        "same": true_divergence(bridge, problem.truth, starts),
        "path_kl": path_kl(bridge, problem.truth, starts, torch.Generator().manual_seed(2)),
        "gap": found.dual_gap,
        "tight": "yes" if found.tight else "no",
    }


def right(row: Mapping[str, str], truth: str) -> bool:
    found, true, own = (float(row[name]) for name in ("certificate", truth, "own"))
    return true / FACTOR - own <= found <= FACTOR * (true + own)


def shares(table: Rows, out: Path) -> None:
    """How many certificates are right, of all and of those that call themselves tight."""
    kinds = {"all": table.rows, "tight": table.find(tight="yes"), "not tight": table.find(tight="no")}
    counted = Rows(out, "shares")
    counted.replace(
        {"rows": name, "count": str(len(rows))}
        | {truth: str(sum(right(row, truth) for row in rows)) for truth in ("same", "path_kl")}
        for name, rows in kinds.items()
    )
    counted.table(SHARES)


def picture(table: Rows) -> Figure:
    """Certificates against the truth, the reference's own added to both, with the band of a factor 1.3."""
    figure, ends = Figure(figsize=(9, 4.4), layout="constrained"), [1e-4, 1e3]
    for axes, truth in zip(figure.subplots(1, 2, sharey=True), ("same", "path_kl"), strict=True):
        for tight, label, colour, marker in (("yes", "tight", COLOURS[0], "o"), ("no", "not tight", COLOURS[1], "x")):
            rows = table.find(tight=tight)
            true, found = ([float(row[name]) + float(row["own"]) for row in rows] for name in (truth, "certificate"))
            axes.plot(true, found, marker, color=colour, markersize=4, label=label)
        axes.fill_between(ends, [end / FACTOR for end in ends], [end * FACTOR for end in ends], color="0.85", zorder=0)
        axes.set(xscale="log", yscale="log", xlabel=f"{TITLES[truth].removesuffix(' (nats)')} + reference's own (nats)")
    figure.axes[0].set_ylabel("certificate + reference's own (nats)")
    figure.axes[0].legend()
    return figure


def main(out: Path = RESULTS / "certificate") -> None:
    torch.set_num_threads(1)
    table = Rows(out, "certificates")
    fits: dict[str, Solver | float] = {f"exact drift and waves of {height:g}": height for height in HEIGHTS} | FITS
    for problem in problems():
        for name, fit in fits.items():
            table.once(partial(judged, problem, fit), problem=f"{problem.name} ε={problem.epsilon:g}", fit=name)
    save(picture(table), out / "certificates.png")
    shares(table, out)
    table.table(TITLES)


if __name__ == "__main__":
    tyro.cli(main)
