"""Claim: what each part of max–min's recipe is worth, and what the same networks reach under the true coupling.

    .venv/bin/python experiments/solver.py

Mixture, D = 2 and 16, ε = ½ and .05.  Every row but the first differs from it in one thing.  "True coupling" is no
method: it regresses the drifts on pairs of the exact bridge, so what it misses is what the networks and their optimiser
miss.  "Adam" has its own best rate of before, 4e-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from bench import RESULTS
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from sbridge.bench import Method, Mixtures, bench, chosen, plan
from sbridge.bridge import ExactBridge
from sbridge.couplings import Coupling, Independent
from sbridge.couplings.base import rows_of
from sbridge.problem import Frame, Problem
from sbridge.solvers.maxmin import MaxMin, MaxMinTraining
from sbridge.solvers.regression import Regression
from sbridge.solvers.training import Training, warm_cosine
from sbridge.times import Arcsine, Uniform


class WithAdam(MaxMinTraining):
    """The same with Adam for the drifts."""

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

        return Training(Regression(coupling=true_pairs), problem, random_state)


TRIED = [
    *chosen(["maxmin"]),
    Method("true-coupling", "true coupling (no method)", TrueCoupling()),
    Method("adam", "Adam", AdamMaxMin()),
    Method("adam-arcsine", "Adam, arcsine times: the recipe of before", AdamMaxMin(times=Arcsine)),
    Method("arcsine", "arcsine times", MaxMin(times=Arcsine)),
    Method("uniform", "uniform times", MaxMin(times=Uniform)),
    *chosen(["fixed"]),
    Method("slow-outer", "half the rate of the interpolant", MaxMin(outer_rate=MaxMin.outer_rate / 2)),
    Method("rounds-3", "3 drift steps to one of the interpolant", MaxMin(round_steps=3)),
    Method("rounds-10", "10 drift steps to one of the interpolant", MaxMin(round_steps=10)),
    Method("product", "product coupling", MaxMin(coupling=Independent)),
    *chosen(["maxmin-potential"]),
]


def main(
    budgets: tuple[float, ...] = (60.0, 120.0, 300.0),
    seeds: tuple[int, ...] = (0, 1, 2),
    dims: tuple[int, ...] = (2, 16),
    epsilons: tuple[float, ...] = (0.5, 0.05),
    methods: tuple[str, ...] = (),
    jobs: int = 1,
    out: Path = RESULTS / "solver",
) -> None:
    tried = [method for method in TRIED if not methods or method.key in methods]
    bench(plan(Mixtures(dims, epsilons).cases(), tried, budgets, seeds), out, jobs)


if __name__ == "__main__":  # every cell's process imports this script
    tyro.cli(main)
