"""Claim: what each part of max–min's recipe is worth, and what the same networks reach under the true coupling.

    .venv/bin/python experiments/solver.py                                  # everything: more than a day of one thread
    .venv/bin/python experiments/solver.py --seeds 0 --budgets 60 --jobs 2

Mixture, D = 2 and 16, ε = ½ and .05.  Every variant differs from max–min's defaults in one thing, but for the recipe of
before.  "True coupling" is no method: it regresses the drifts on pairs of the exact bridge, so what it misses is what
the networks and their optimiser miss.  Adam has its own best rate for the drifts, 4e-3.  trials.csv has every trial,
ablation.md the path KL of every variant, path_kl.png the recipes of before and now against time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl
import torch
import tyro
from bench import RESULTS
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from sbridge.bench import Case, Cell, Entry, Mixtures, bench, cells_of, chosen
from sbridge.bench.figures import TIME, curves
from sbridge.bench.folder import Folder
from sbridge.bench.table import shown
from sbridge.bridge import ExactBridge
from sbridge.couplings import Coupling, Independent, MinibatchSinkhorn, OnlineSinkhorn
from sbridge.couplings.base import rows_of
from sbridge.evaluation import column_named
from sbridge.problem import Frame, Problem
from sbridge.problems.mixture import Mixture
from sbridge.solvers.maxmin import MaxMin, MaxMinTraining
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Training, warm_cosine
from sbridge.times import Arcsine, LossVariance


class WithOuterAdam(MaxMinTraining):
    """The same with Adam for the interpolant."""

    def __init__(self, recipe: MaxMin, problem: Problem, random_state: int) -> None:
        super().__init__(recipe, problem, random_state)
        self.outer = Adam(self.interpolant.parameters(), lr=recipe.outer_rate, betas=(0.9, 0.99), fused=True)
        self.outer_schedule = LambdaLR(self.outer, self.outer_schedule.lr_lambdas[0])


@dataclass(frozen=True)
class OuterAdamMaxMin(MaxMin):
    """Max–min with Adam for the interpolant."""

    def start(self, problem: Problem, random_state: int = 0) -> MaxMinTraining:
        return WithOuterAdam(self, problem, random_state)


class WithAdam(WithOuterAdam):
    """The same with Adam for the drifts too."""

    def _start(self) -> None:
        super()._start()
        self.optimiser = Adam(self.pair.parameters(), lr=self.recipe.rate, fused=True)
        self.schedule = LambdaLR(self.optimiser, lambda step: warm_cosine(step / self.steps))


@dataclass(frozen=True)
class AdamMaxMin(MaxMin):
    """Max–min with Adam."""

    rate: float = 4e-3

    def start(self, problem: Problem, random_state: int = 0) -> MaxMinTraining:
        return WithAdam(self, problem, random_state)


class WithoutDecay(MaxMinTraining):
    """The same without decay of the weights."""

    def _start(self) -> None:
        super()._start()
        for group in self.optimiser.param_groups:
            group["decay"] = 0.0


@dataclass(frozen=True)
class UndecayedMaxMin(MaxMin):
    """Max–min without decay of the weights."""

    def start(self, problem: Problem, random_state: int = 0) -> MaxMinTraining:
        return WithoutDecay(self, problem, random_state)


class TruePairs(Coupling):
    """Pairs of an exact bridge from starting points of the data, in a frame's coordinates."""

    def __init__(self, x0: Tensor, x1: Tensor, epsilon: float, truth: ExactBridge, frame: Frame) -> None:
        super().__init__(x0, x1, epsilon)
        self.truth, self.frame = truth, frame

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x0 = rows_of(self.x0, n, generator)
        x1 = self.truth.endpoints((x0 * self.frame.scale + self.frame.shift0).to(self.frame.shift0), generator)
        return x0, ((x1 - self.frame.shift1) / self.frame.scale).to(x0)


@dataclass(frozen=True)
class TrueCoupling(Regression):
    """A regression on pairs of the problem's own truth."""

    def start(self, problem: Problem, random_state: int = 0) -> Training:
        truth, frame = problem.truth, Frame.of(problem)
        assert truth is not None

        def true_pairs(x0: Tensor, x1: Tensor, epsilon: float) -> Coupling:
            return TruePairs(x0, x1, epsilon, truth, frame)

        return Training(replace(self, coupling=true_pairs), problem, random_state)


def small_plans(x0: Tensor, x1: Tensor, epsilon: float) -> Coupling:
    """Minibatch plans of 512 points, a fresh one for every round."""
    return MinibatchSinkhorn(x0, x1, epsilon, batch=512, partners=3, iterations=30)


BEFORE = Entry("before", "the recipe of before", AdamMaxMin(times=Arcsine, depth=3, group=128, coupling=small_plans))
LIMIT = Entry("true-coupling", "true coupling (no method)", TrueCoupling())
TRIED = [
    *chosen(["maxmin"]),
    LIMIT,
    BEFORE,
    Entry("adam", "Adam", AdamMaxMin()),
    Entry("no-decay", "without decay of the weights", UndecayedMaxMin()),
    Entry("depth-3", "three layers", MaxMin(depth=3)),
    Entry("depth-9", "nine layers", MaxMin(depth=9)),
    Entry("minibatch", "plans between minibatches", MaxMin(coupling=MinibatchSinkhorn)),
    Entry("large-pool", "pools of 8,192 points", MaxMin(coupling=partial(OnlineSinkhorn, pool=8192))),
    Entry("three-partners", "three pairs for each point", MaxMin(coupling=partial(OnlineSinkhorn, partners=3))),
    Entry("large-groups", "128 points that share a time", MaxMin(group=128)),
    Entry("arcsine", "arcsine times", MaxMin(times=Arcsine)),
    Entry("loss-variance", "times by the loss's variance", MaxMin(times=LossVariance)),
    *chosen(["fixed"]),
    Entry("slow-outer", "half the rate of the interpolant", MaxMin(outer_rate=MaxMin.outer_rate / 2)),
    Entry("rounds-10", "10 drift steps to one of the interpolant", MaxMin(round_steps=10)),
    Entry("outer-adam", "Adam for the interpolant", OuterAdamMaxMin()),
    Entry("outer-adam-product", "the same, product coupling", OuterAdamMaxMin(coupling=Independent)),
    Entry("gamma", "γ learned too", MaxMin(learn_gamma=True)),
    *chosen(["maxmin-product"]),
    Entry("fixed-product", "fixed interpolant, product coupling", Regression(coupling=Independent)),
    *chosen(["self-consistent", "whole-plan", "maxmin-potential"]),
]
DIMS, EPSILONS, BUDGETS, SEEDS = (2, 16), (0.5, 0.05), (60.0, 120.0, 300.0), (0, 1, 2)
LARGE = 5.0  # ε at which only some are tried
OTHERS = (1, 2)  # seeds of problems that no default was chosen on
PATH_KL = column_named("path_kl")
KEPT = ("path_kl", "path_kl_se", "cbw_uvp", "cbw_uvp_se", "fit_seconds", "steps", "remark")


def main(
    budgets: tuple[float, ...] = BUDGETS,
    seeds: tuple[int, ...] = SEEDS,
    dims: tuple[int, ...] = DIMS,
    epsilons: tuple[float, ...] = EPSILONS,
    problems: tuple[int, ...] = (0,),
    methods: tuple[str, ...] = (),
    jobs: int = 1,
    out: Path = RESULTS / "solver",
) -> None:
    tried = [method for method in TRIED if not methods or method.key in methods]
    asked = {cell.key for cell in cells_of(cases(dims, epsilons, problems), tried, budgets, seeds)}
    all_cases = cases({*DIMS, *dims}, {*EPSILONS, LARGE, *epsilons}, {0, *OTHERS, *problems})
    every = cells_of(all_cases, TRIED, sorted({*BUDGETS, *budgets}), sorted({*SEEDS, *seeds}))
    cells = [cell for cell in every if cell.key in asked or (out / "cells" / cell.key).exists()]
    write(bench(cells, out, jobs), cells, out)


def cases(dims: Collection[int], epsilons: Collection[float], seeds: Collection[int]) -> list[Case]:
    """Mixtures of the benchmark, drawn with these seeds."""
    suite = Mixtures(tuple(sorted(dims)), tuple(sorted(epsilons)))
    drawn = [(case, seed) for seed in sorted(seeds) for case in suite.cases()]
    return [_drawn(case, seed) if seed else case for case, seed in drawn]


def _drawn(case: Case, seed: int) -> Case:
    assert isinstance(case.source, Mixture)
    return replace(case, name=f"{case.name}, problem {seed}", source=replace(case.source, seed=seed))


def write(table: pl.DataFrame, cells: Sequence[Cell], out: Path) -> None:
    """Every trial; the variants' path KL, a column for each problem and budget; the figure."""
    trials(cells, Folder(out)).write_csv(out / "trials.csv")
    columns = table.filter(pl.col("budget").is_not_null()).select("case", "budget").unique().sort("case", "budget")
    titles = [f"{case.removeprefix('mixture ')}, {budget:g} s" for case, budget in columns.iter_rows()]
    lines = [["path KL (nats)", *titles], ["---", *["---:" for _ in titles]]]
    for method in TRIED:
        rows = {(row["case"], row["budget"]): row for row in table.filter(method=method.title).to_dicts()}
        if rows:
            lines.append([method.title, *(shown(rows[key], PATH_KL) if key in rows else "" for key in columns.rows())])
    (out / "ablation.md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")
    recipes = [TRIED[0].title, LIMIT.title, BEFORE.title]
    drawn = table.filter(pl.col("method").is_in(recipes), ~pl.col("case").str.contains("problem"))
    figure = curves(drawn, PATH_KL, TIME)
    assert figure is not None
    figure.savefig(out / "path_kl.png", dpi=160)


def trials(cells: Sequence[Cell], folder: Folder) -> pl.DataFrame:
    """A row for each trial: its problem, variant, seed and seconds, and what came out."""
    found = []
    for cell in cells:
        for row in (folder.rows(cell) or {}).values() if cell.method else ():
            place = {"case": cell.case.name, "variant": cell.method.title, "budget": cell.budget, "seed": cell.seed}
            found.append({**place, **{name: row.get(name) for name in KEPT}})
    return pl.DataFrame(found, infer_schema_length=None)


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
