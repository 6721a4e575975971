"""Question: does the certificate, which does not know the true bridge, find a fit's divergence from it, and its rank?

    python experiments/certificate.py

Thirteen problems with a known bridge, inside and outside the Gaussian mixture family, and eight of twelve fits of each,
good and bad.  The certificate is made from held-out points.  Beside it stand the true divergences of the same process:
KL(P*‖P_û), which other tables have up to t = .99, and KL(P_û‖P*), both up to t = .999.  A divergence counts as right
if it is within a factor 1.5 or two standard errors of either.  What the verdict says holds if the truth is not above
"within", not below "at least", and near "about" in the same sense; a factor 1.5 is allowed everywhere.  Two fits of a
problem whose true divergences differ by more than 20 % are a pair.  It is in order if the one nearer to the truth has
the higher dual value, less the distance of its process from its own exact bridge.  `sbridge.compare` ranks fits in
another way, which `ranking.py` measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from time import perf_counter

import torch
import tyro
from common import COLOURS, RESULTS, Cell, Rows, save
from matplotlib.figure import Figure
from torch import Tensor

from sbridge import Bridge, Independent, MaxMin, MixturePotential, PotSinkhorn, Problem, Regression
from sbridge.bridge import ExactBridge
from sbridge.estimates import Estimate
from sbridge.evaluation.certificate.statement import Passage
from sbridge.networks import ResidualNetwork
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.shapes import Shapes
from sbridge.problems.sourced import KnownPotential
from sbridge.sampling import graded
from sbridge.solvers import Solver

FACTOR, APART, LAST, PATHS, SAMPLES, HELD_OUT = 1.5, 1.2, 0.999, 1000, 20_000, 5000
ALWAYS, OTHERS = 3, 5  # fits of every problem, and how many of the others, in turn
TITLES = {"problem": "problem", "fit": "fit", "direction": "", "verdict": "verdict", "divergence": "divergence (nats)"}
TITLES |= {"distance": "to an exact bridge", "ends": "end", "behind": "behind", "path_kl": "KL(P*‖P_û)"}
TITLES |= {"reverse": "KL(P_û‖P*)", "dual": "dual", "seconds": "s"}
SHARES = {"rows": "certificates", "count": "number", "right": "right", "holds": "what it says holds"}
SHARES |= {"low": "true more than 2 ×", "pairs": "pairs", "ordered": "in order"}


@dataclass(frozen=True)
class Fit:
    """A way to a bridge, good or bad.

    Args:
        solver: the solver.
        points: training points that it gets, at most.
        factor: by which its ε is wrong.
        exchanged: whether it gets the columns of x1 in the reverse order.
    """

    solver: Solver
    points: int = SAMPLES
    factor: float = 1.0
    exchanged: bool = False

    def bridge(self, problem: Problem) -> Bridge:
        """The fit, used with the problem's ε."""
        x0, x1 = problem.x0[: self.points], problem.x1[: self.points]
        seen = replace(problem, x0=x0, x1=x1.flip(-1) if self.exchanged else x1, epsilon=self.factor * problem.epsilon)
        fitted = self.solver.solve(replace(seen, truth=None))
        if self.factor == 1:
            return fitted
        return Bridge(fitted.forward_field, fitted.backward_field, problem.epsilon)


FITS = {
    "fixed interpolant": Fit(Regression(steps=2500)),
    "fixed interpolant, 300 steps": Fit(Regression(steps=300)),
    "mixture potential": Fit(MixturePotential()),
    "fixed interpolant, 10 steps": Fit(Regression(steps=10)),
    "fixed interpolant, product coupling": Fit(Regression(steps=1000, coupling=Independent)),
    "fixed interpolant, 500 points": Fit(Regression(steps=600), points=500),
    "narrow network": Fit(Regression(steps=1000, network=ResidualNetwork(16, 2))),
    "max–min": Fit(MaxMin(steps=2500)),
    "mixture potential, 2 components": Fit(MixturePotential(2)),
    "POT Sinkhorn, 500 points": Fit(PotSinkhorn(points=500)),
    "1.5 ε": Fit(Regression(steps=1000), factor=1.5),
    "columns exchanged": Fit(Regression(steps=1000), exchanged=True),
}


def problems() -> Iterator[Problem]:
    sizes = {"samples": SAMPLES, "test_samples": HELD_OUT}
    for dim, epsilon in ((8, 0.05), (2, 0.02), (2, 0.05), (4, 0.5), (16, 0.05)):
        yield Shapes(dim=dim, epsilon=epsilon, **sizes).build()
    for dim, epsilon in ((16, 0.05), (2, 0.05), (16, 0.5), (2, 5.0)):
        yield Mixture(dim=dim, epsilon=epsilon, **sizes).build()
    for source in ("moons", "s-curve"):
        yield KnownPotential(source=source, **sizes).build()
    for dim in (3, 16):
        yield Gaussian(dim=dim, **sizes).build()


def chosen(place: int) -> set[str]:
    """The fits of the problem of that number."""
    always, others = list(FITS)[:ALWAYS], list(FITS)[ALWAYS:]
    return {*always, *(others[(place * OTHERS + k) % len(others)] for k in range(OTHERS))}


def true_divergences(bridge: Bridge, truth: ExactBridge, x0: Tensor, x1: Tensor) -> dict[str, dict[str, Estimate]]:
    """Both directions' KL(P*‖P_û) and KL(P_û‖P*), by the midpoint rule in intervals that are short near both ends."""
    generator = torch.Generator().manual_seed(1)
    pair0, pair1 = x0, truth.endpoints(x0, generator)
    edges = graded(0.0, LAST, 80).to(x0)
    times, lengths = (edges[1:] + edges[:-1]) / 2, edges.diff()
    there = bridge.trajectories(x0, [0.0, *times.tolist()], steps=240, random_state=1)[1:]
    back = bridge.trajectories(x1, [1.0, *(1 - times).tolist()], steps=240, random_state=1)[1:]
    exact = [truth.between(t, pair0, pair1, generator) for t in times]
    backwards = [truth.between(1 - t, pair0, pair1, generator) for t in times]

    def along(name: str, places: list[Tensor] | Tensor, at: Tensor) -> Estimate:
        total = torch.zeros(len(x0), dtype=torch.float64)
        for t, length, x in zip(at, lengths, places, strict=True):
            u, v = (getattr(one, name)(float(t), x) for one in (bridge, truth))
            total += length * (u - v).double().square().sum(-1)
        return Estimate.of(total / (4 * bridge.epsilon))

    ahead = {"path_kl": along("forward_drift", exact, times), "reverse": along("forward_drift", there, times)}
    return {
        "forward": ahead,
        "backward": {
            "path_kl": along("backward_drift", backwards, 1 - times),
            "reverse": along("backward_drift", back, 1 - times),
        },
    }


def judged(problem: Problem, fit: Fit) -> list[dict[str, Cell]]:
    """A row for each direction of a fit."""
    assert problem.truth is not None
    begin = perf_counter()
    bridge = fit.bridge(problem)
    fitted = perf_counter() - begin
    found = bridge.certificate(problem.test0, problem.test1, random_state=0)
    seconds = perf_counter() - begin - fitted
    true = true_divergences(bridge, problem.truth, problem.test0[:PATHS], problem.test1[:PATHS])
    return [
        {"direction": name, **_figures(passage), **true[name], "seconds": seconds, "fit_seconds": fitted}
        for name, passage in (("forward", found.forward), ("backward", found.backward))
    ]


def _figures(found: Passage) -> dict[str, Cell]:
    return {
        "verdict": found.verdict.word,
        "divergence": found.divergence,
        "at_least": found.at_least,
        "distance": found.distance,
        "ends": found.ends.divergence,
        "p": found.ends.p_value,
        "grown": found.ends.grown,
        "behind": found.behind,
        "dual": found.dual,
        "end_error": found.end_error,
        "fewer_paths": found.fewer_paths,
        "fewer_steps": found.fewer_steps,
        "hjb": found.hjb,
        "curl": found.curl,
        "turning": found.turning,
        "fitted": found.residual.fitted,
        "held_out": found.residual.held_out,
        "column": found.column.size,
        "reason": found.verdict.reason,
    }


def right(row: Mapping[str, str]) -> bool:
    found, error = float(row["divergence"]), float(row["divergence_se"])
    true = [float(row[name]) for name in ("path_kl", "reverse")]
    return any(one / FACTOR <= found <= FACTOR * one or abs(found - one) <= 2 * error for one in true)


def holds(row: Mapping[str, str]) -> bool:
    """Whether the truth is what the verdict says: within, at least, or about."""
    true = [float(row[name]) for name in ("path_kl", "reverse")]
    if row["verdict"] == "trust":
        most = float(row["divergence"]) + 2 * float(row["divergence_se"])
        return min(true) <= FACTOR * most
    return max(true) * FACTOR >= float(row["at_least"]) if row["verdict"] == "do not trust" else right(row)


def low(row: Mapping[str, str]) -> bool:
    """Whether the truth is more than twice the most that the certificate leaves open."""
    most = float(row["divergence"]) + 2 * float(row["divergence_se"])
    return min(float(row["path_kl"]), float(row["reverse"])) > 2 * most


def pairs(rows: list[dict[str, str]]) -> list[bool]:
    """Whether each pair of fits of one problem and direction is in the order of the truth."""
    found = []
    for one, other in combinations(rows, 2):
        same = one["problem"] == other["problem"] and one["direction"] == other["direction"] == "forward"
        true = [float(row["path_kl"]) for row in (one, other)]
        if same and max(true) > APART * min(true):
            found.append((true[0] < true[1]) == (rank(one) > rank(other)))
    return found


def rank(row: Mapping[str, str]) -> float:
    """The dual value of a process, in nats."""
    return float(row["dual"]) - max(float(row["distance"]), 0.0)


def shares(table: Rows, out: Path) -> None:
    """How many certificates are right, by verdict, and how many pairs are in order."""
    kinds = {word: table.find(verdict=word) for word in ("trust", "cannot tell", "do not trust")} | {"all": table.rows}
    counted = Rows(out, "shares")
    counted.replace(
        {
            "rows": name,
            "count": str(len(rows)),
            "right": str(sum(map(right, rows))),
            "holds": str(sum(map(holds, rows))),
            "low": str(sum(map(low, rows))),
            "pairs": str(len(pairs(rows))),
            "ordered": str(sum(pairs(rows))),
        }
        for name, rows in kinds.items()
    )
    counted.table(SHARES)


def picture(table: Rows) -> Figure:
    """Certificates against the truth, with the band of a factor 1.5."""
    figure, ends = Figure(figsize=(9, 4.4), layout="constrained"), [1e-4, 1e3]
    for axes, truth in zip(figure.subplots(1, 2, sharey=True), ("path_kl", "reverse"), strict=True):
        for number, verdict in enumerate(("trust", "cannot tell", "do not trust")):
            rows = table.find(verdict=verdict)
            true, found = ([float(row[name]) for row in rows] for name in (truth, "divergence"))
            axes.plot(true, found, "o", color=COLOURS[number], markersize=4, label=verdict)
        axes.fill_between(ends, [end / FACTOR for end in ends], [end * FACTOR for end in ends], color="0.85", zorder=0)
        axes.set(xscale="log", yscale="log", xlabel=f"{TITLES[truth]} (nats)")
    figure.axes[0].set_ylabel("certificate (nats)")
    figure.axes[0].legend()
    return figure


def main(out: Path = RESULTS / "certificate") -> None:
    torch.set_num_threads(1)
    table = Rows(out, "certificates")
    known = list(problems())
    for name in FITS:
        for problem in (problem for place, problem in enumerate(known) if name in chosen(place)):
            key = {"problem": f"{problem.name} ε={problem.epsilon:g}", "fit": name}
            table.once_all(partial(judged, problem, FITS[name]), **key)
    save(picture(table), out / "certificates.png")
    shares(table, out)
    table.table(TITLES)


if __name__ == "__main__":
    tyro.cli(main)
