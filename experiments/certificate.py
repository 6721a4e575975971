"""Question: does the certificate, which does not know the true bridge, find a fit's divergence from it?

    python experiments/certificate.py
    python experiments/certificate.py --seed 1          # other points, rotations and clusters; results in seed_1/

Thirteen problems with a known bridge, inside and outside the Gaussian mixture family, and eight of twelve fits of each,
good and bad.  The certificate is made from held-out points.  Beside it stand the true divergences of the same process:
KL(P*‖P_û), which other tables have up to t = .99, and KL(P_û‖P*), both up to t = .9999.  A certificate states a figure
or, where there may be more than the points can show, a bound.  A figure is right if it is within a factor 1.5 or two
standard errors of either divergence.  A bound holds if it is not above the larger one, and is near if it is more than
half of the smaller one.  What is trusted is far if both are more than twice what the verdict says.

few.md has certificates of good and bad fits by 100, 300 and 1,000 held-out points.

The certificate was developed on problems of seed 0.  `--fits` are those to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
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

FACTOR, LAST, PATHS, SAMPLES, HELD_OUT = 1.5, 0.9999, 1000, 20_000, 5000
ALWAYS, OTHERS = 3, 5  # fits of every problem, and how many of the others, in turn
TITLES = {"problem": "problem", "fit": "fit", "direction": "", "verdict": "verdict", "stated": "states (nats)"}
TITLES |= {"distance": "to an exact bridge", "ends": "end", "behind": "behind", "path_kl": "KL(P*‖P_û)"}
TITLES |= {"reverse": "KL(P_û‖P*)", "seconds": "s"}
SHARES = {"rows": "certificates", "count": "number", "figures": "figures", "right": "right", "bounds": "bounds"}
SHARES |= {"hold": "hold", "near": "near", "far": "trusted, but far"}
FEW = {"problem": "problem", "fit": "fit", "points": "held-out points", "direction": "", "verdict": "verdict"}
FEW |= {"stated": "states (nats)", "blur": "blur that its check would show", "path_kl": "KL(P*‖P_û)"}
FEW |= {"reverse": "KL(P_û‖P*)"}
FEWER, FEW_PROBLEMS, FEW_FITS = (100, 300, 1000), (0, 1, 5, 11), ("fixed interpolant, 300 steps", "mixture potential")


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


def problems(seed: int) -> Iterator[Problem]:
    sizes = {"samples": SAMPLES, "test_samples": HELD_OUT, "seed": seed}
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


def judged(problem: Problem, fit: Fit, sizes: Sequence[int] = (HELD_OUT,)) -> Iterator[dict[str, Cell]]:
    """A row for each direction of a fit, certified by so many held-out points."""
    assert problem.truth is not None
    begin = perf_counter()
    bridge = fit.bridge(problem)
    fitted = perf_counter() - begin
    true = true_divergences(bridge, problem.truth, problem.test0[:PATHS], problem.test1[:PATHS])
    for points in sizes:
        begin = perf_counter()
        found = bridge.certificate(problem.test0[:points], problem.test1[:points], random_state=0)
        about = {"points": str(points), "seconds": perf_counter() - begin, "fit_seconds": fitted}
        for name, passage in (("forward", found.forward), ("backward", found.backward)):
            yield {"direction": name, **_figures(passage), **true[name], **about}


def _figures(found: Passage) -> dict[str, Cell]:
    return {
        "verdict": found.verdict.word,
        "stated": found.stated,
        "bounded": str(found.bounded),
        "divergence": found.divergence,
        "at_least": found.at_least,
        "distance": found.distance,
        "ends": found.ends.divergence,
        "p": found.ends.p_value,
        "grown": found.ends.grown,
        "blur": "none" if found.ends.blur is None else found.ends.blur,
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


def divergences(row: Mapping[str, str]) -> tuple[float, float]:
    """The true ones, the smaller first."""
    true = float(row["path_kl"]), float(row["reverse"])
    return min(true), max(true)


def right(row: Mapping[str, str]) -> bool:
    found, error = float(row["divergence"]), float(row["divergence_se"])
    return any(true / FACTOR <= found <= FACTOR * true or abs(found - true) <= 2 * error for true in divergences(row))


def holds(row: Mapping[str, str]) -> bool:
    return float(row["at_least"]) <= divergences(row)[1]


def near(row: Mapping[str, str]) -> bool:
    return float(row["at_least"]) > divergences(row)[0] / 2


def far(row: Mapping[str, str]) -> bool:
    most = float(row["divergence"]) + 2 * float(row["divergence_se"])
    return row["verdict"] == "trust" and divergences(row)[0] > 2 * most


def shares(table: Rows, out: Path) -> None:
    """How many figures are right and bounds hold, by verdict."""
    kinds = {word: table.find(verdict=word) for word in ("trust", "cannot tell", "do not trust")} | {"all": table.rows}
    counted = Rows(out, "shares")
    counted.replace({"rows": name, **_counts(rows)} for name, rows in kinds.items())
    counted.table(SHARES)


def _counts(rows: list[dict[str, str]]) -> dict[str, str]:
    bounds = [row for row in rows if row["bounded"] == "True"]
    figures = [row for row in rows if row["bounded"] == "False"]
    counts = {"count": len(rows), "figures": len(figures), "right": sum(map(right, figures)), "bounds": len(bounds)}
    counts |= {"hold": sum(map(holds, bounds)), "near": sum(map(near, bounds)), "far": sum(map(far, rows))}
    return {name: str(count) for name, count in counts.items()}


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


def main(out: Path = RESULTS / "certificate", seed: int = 0, fits: tuple[str, ...] = tuple(FITS)) -> None:
    torch.set_num_threads(1)
    asked = {name: FITS[name] for name in fits}
    out = out / f"seed_{seed}" if seed else out
    table, few = Rows(out, "certificates"), Rows(out, "few")
    known = list(problems(seed))
    for name, fit in asked.items():
        for problem in (problem for place, problem in enumerate(known) if name in chosen(place)):
            table.once_all(partial(judged, problem, fit), **_key(problem, name))
    for problem, name in product((known[place] for place in FEW_PROBLEMS), (one for one in FEW_FITS if one in asked)):
        few.once_all(partial(judged, problem, asked[name], FEWER), **_key(problem, name))
    save(picture(table), out / "certificates.png")
    shares(table, out)
    table.table(TITLES)
    if few.rows:
        few.table(FEW)


def _key(problem: Problem, fit: str) -> dict[str, str | float]:
    return {"problem": f"{problem.name} ε={problem.epsilon:g}", "fit": fit}


if __name__ == "__main__":
    tyro.cli(main)
