"""Question: what is each part of max–min worth, and what do the same networks reach on pairs of the true bridge?

    python experiments/ablation.py --seeds 0 --budgets 60 --jobs 2
    python experiments/ablation.py                                  # everything: more than a day of one thread

Mixture, d = 2 and 16, ε = 0.5 and 0.05.  Every variant differs from max–min's defaults in one thing.  "True coupling"
is no method: it regresses the drifts on pairs of the exact bridge, so its error is that of the networks and their
optimiser.  Adam has its own best rate for the drifts, 4e-3.

table.md has all figures, ablation.md the path KL of every variant, by_time.md where in time the path KL lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import torch
import tyro
from common import RESULTS, Cell, Rows
from torch import Tensor
from torch.optim import Adam

from sbridge import (
    Bridge,
    ExactBridge,
    Independent,
    LossVariance,
    MaxMin,
    MinibatchSinkhorn,
    OnlineSinkhorn,
    Problem,
    Regression,
    Uniform,
)
from sbridge.bench import Entry, Mixtures, bench, cells_of, chosen
from sbridge.couplings import Coupling
from sbridge.estimates import Estimate
from sbridge.evaluation.metrics import HORIZON, path_kl_by_time
from sbridge.networks import ResidualNetwork
from sbridge.problem import Frame
from sbridge.problems.mixture import Mixture
from sbridge.solvers.answer import Last
from sbridge.solvers.soap import Soap
from sbridge.solvers.training import Training

PARTS = 5  # of [0, HORIZON]
ADAM = partial(Adam, fused=True)
OUTER_ADAM = partial(Adam, betas=(0.9, 0.99), fused=True)


class TruePairs(Coupling):
    """Pairs of an exact bridge from starting points of the data, in the coordinates of a frame."""

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, truth: ExactBridge, frame: Frame) -> None:
        super().__init__(x0, x1, epsilon)
        self.truth, self.frame = truth, frame

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0 = self.x0[torch.randint(len(self.x0), (n,), generator=generator)]
        x1 = self.truth.endpoints((x0 * self.frame.scale + self.frame.shift0).to(self.frame.shift0), generator)
        return x0, ((x1 - self.frame.shift1) / self.frame.scale).to(x0)


@dataclass(frozen=True)
class TrueCoupling:
    """A regression on pairs of the problem's own truth."""

    steps: int = Regression.steps
    name: str = "true coupling"

    def start(self, problem: Problem, random_state: int = 0) -> Training:
        """The training of the regression."""
        pairs = partial(TruePairs, truth=problem.truth, frame=Frame.of(problem))
        return Regression(steps=self.steps, coupling=pairs).start(problem, random_state)

    def solve(self, problem: Problem, random_state: int = 0) -> Bridge:
        """Train to the end."""
        training = self.start(problem, random_state)
        *_, _ = training
        return training.bridge()


TRUE = Entry("true-coupling", "true coupling (no method)", TrueCoupling())
VARIANTS = [
    *chosen(["maxmin"]),
    TRUE,
    Entry("adam", "Adam", MaxMin(rate=4e-3, optimiser=ADAM, outer_optimiser=OUTER_ADAM)),
    Entry("outer-adam", "Adam for the interpolant", MaxMin(outer_optimiser=OUTER_ADAM)),
    Entry("no-decay", "without weight decay", MaxMin(optimiser=Soap)),
    Entry("last", "last average of the weights", MaxMin(answer=Last)),
    Entry("depth-3", "three layers", MaxMin(network=ResidualNetwork(depth=3))),
    Entry("depth-9", "nine layers", MaxMin(network=ResidualNetwork(depth=9))),
    Entry("minibatch", "plans between minibatches", MaxMin(coupling=MinibatchSinkhorn)),
    Entry("few-columns", "partners among 4,096 points", MaxMin(coupling=partial(OnlineSinkhorn, points=4096))),
    Entry("two-partners", "two pairs for each point", MaxMin(coupling=partial(OnlineSinkhorn, partners=2))),
    Entry("large-groups", "128 points that share a time", MaxMin(group=128)),
    Entry("uniform", "uniform times", MaxMin(times=Uniform)),
    Entry("loss-variance", "times by the loss's variance", MaxMin(times=LossVariance)),
    *chosen(["fixed"]),
    Entry("slow-outer", "half the rate of the interpolant", MaxMin(outer_rate=MaxMin.outer_rate / 2)),
    Entry("rounds-10", "10 drift steps to one of the interpolant", MaxMin(round_steps=10)),
    Entry("gamma", "γ learned too", MaxMin(learn_gamma=True)),
    *chosen(["maxmin-product"]),
    Entry("fixed-product", "fixed interpolant, product coupling", Regression(coupling=Independent)),
    *chosen(["self-consistent", "whole-plan", "maxmin-potential"]),
]


def main(
    dims: tuple[int, ...] = (2, 16),
    epsilons: tuple[float, ...] = (0.5, 0.05),
    budgets: tuple[float, ...] = (60.0, 120.0, 300.0),
    seeds: tuple[int, ...] = (0, 1, 2),
    methods: tuple[str, ...] = (),
    steps: int = 3000,
    jobs: int = 1,
    out: Path = RESULTS / "ablation",
) -> None:
    variants = [variant for variant in VARIANTS if not methods or variant.key in methods]
    write(bench(cells_of(Mixtures(dims, epsilons).cases(), variants, budgets, seeds), out, jobs), out)
    torch.set_num_threads(1)
    by_time(dims, epsilons, steps, out)


def write(table: pl.DataFrame, out: Path) -> None:
    """The variants' path KL, a column for each problem and budget; the error is the spread over seeds."""
    rows: dict[str, dict[str, Cell]] = {}
    for row in table.drop_nulls(["budget", "path_kl"]).to_dicts():
        spread = row["path_kl_se"] if row["path_kl_spread"] is None else row["path_kl_spread"]
        column = f"{row['case'].removeprefix('mixture ')}, {row['budget']:g} s"
        rows.setdefault(row["method"], {"method": row["method"]})[column] = Estimate(row["path_kl"], spread)
    found = Rows(out, "ablation")
    found.replace(rows.values())
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    found.table({**{name: name for name in columns}, "method": "path KL (nats)"})


def by_time(dims: tuple[int, ...], epsilons: tuple[float, ...], steps: int, out: Path) -> None:
    """The path KL of each fifth of time, after equal numbers of steps."""
    solvers = {
        "max–min": MaxMin(steps=steps),
        "max–min, product coupling": MaxMin(coupling=Independent, steps=steps),
        TRUE.title: TrueCoupling(steps),
    }
    rows, ends = Rows(out, "by_time"), [f"{HORIZON * part / PARTS:.1f}" for part in range(PARTS + 1)]
    for dim in dims:
        for epsilon in epsilons:
            problem = Mixture(dim=dim, epsilon=epsilon).build()
            for name, solver in solvers.items():
                rows.once(partial(parts, solver.solve, problem), dim=dim, epsilon=epsilon, method=name)
    titles = {f"part{part}": f"{ends[part]} to {ends[part + 1]}" for part in range(PARTS)}
    key = {"dim": "d", "epsilon": "ε", "method": "method"}
    rows.table(key | titles, f"Path KL in nats.  {steps:,} steps, one seed.")


def parts(solve: Callable[[Problem], Bridge], problem: Problem) -> dict[str, Cell]:
    """The path KL of a fit, by parts of time."""
    assert problem.truth is not None
    found = path_kl_by_time(
        solve(problem), problem.truth, problem.test0[:4000], torch.Generator().manual_seed(0), PARTS, times=8
    )
    return {f"part{part}": value for part, value in enumerate(found)}


if __name__ == "__main__":  # every process of a benchmark imports this script
    tyro.cli(main)
