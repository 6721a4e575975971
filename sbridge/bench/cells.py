"""Cells: one solver on one case with one budget and one seed, computed in its own process.

A cell without a solver gives the rows of reference: the truth, where it is known, and the floor.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch

from sbridge.auto import Auto
from sbridge.bench.entries import Entry
from sbridge.bench.suites import Case
from sbridge.bridge import Bridge
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import Evaluator
from sbridge.evaluation.table import Row
from sbridge.problem import Problem
from sbridge.solvers import Solver
from sbridge.solvers.budget import Trained, fitted_within

__all__ = ["FAILED", "Cell", "cells_of"]

FAILED = "failed: "  # how the remarks of `Evaluator.row` begin, too


@dataclass(frozen=True)
class Cell:
    """One solver on one case.

    Args:
        case: the problem and how results on it are evaluated.
        entry: the solver; None for the rows of reference.
        budget: seconds of training; None for a solver that does not train.
        seed: of the solver, of the points it is given and of the evaluation.
        threads: CPU threads.
    """

    case: Case
    entry: Entry | None
    budget: float | None
    seed: int
    threads: int

    @property
    def title(self) -> str:
        """Its name in progress lines."""
        parts = [self.case.name, "references" if self.entry is None else self.entry.title]
        parts += [f"{self.budget:g} s"] if self.budget else []
        return ", ".join([*parts, f"seed {self.seed}"])

    @property
    def key(self) -> str:
        """Its name in the store of finished cells."""
        parts = [self.case.name, "references" if self.entry is None else self.entry.key]
        parts += [f"{self.budget:g}s"] if self.budget else []
        return "--".join([*parts, f"seed{self.seed}"])

    def failed(self, reason: str) -> dict[str, Row]:
        """The row of a cell without a result: a remark with the reason."""
        return {"references" if self.entry is None else self.entry.title: {"remark": FAILED + reason}}

    def rows(self) -> dict[str, Row]:
        """Solve and evaluate; an InputError or DivergenceError becomes a remark."""
        torch.set_num_threads(self.threads)
        whole = self.case.source.build()
        evaluator = Evaluator.of(whole, self.seed, self.case.effort)
        if self.entry is None:
            return evaluator.references()
        try:
            bridge, facts = self._solve(self.entry.solver, self.case.given(whole, self.seed))
        except (InputError, DivergenceError) as error:
            return self.failed(str(error))
        return {self.entry.title: {**evaluator.row(bridge), **facts}}

    def _solve(self, solver: Solver, problem: Problem) -> tuple[Bridge, dict[str, float]]:
        if self.budget is not None and isinstance(solver, Auto):  # it keeps to the budget with all that it tries
            solver = replace(solver, budget=self.budget)
        elif self.budget is not None and isinstance(solver, Trained):
            fit = fitted_within(solver, problem, self.budget, self.seed)
            facts = {"fit_seconds": fit.seconds, "steps": float(fit.steps)}
            return fit.bridge, {**facts, "peak_memory": _peak_memory()}
        begin = perf_counter()
        bridge = solver.solve(problem, self.seed)
        return bridge, {"fit_seconds": perf_counter() - begin, "peak_memory": _peak_memory()}


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in MB.

    Linux's ru_maxrss includes the parent's memory at the time this process was started; /proc does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1]) / 1024
    import resource  # does not exist on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def cells_of(
    cases: Sequence[Case],
    entries: Sequence[Entry],
    budgets: Sequence[float],
    seeds: Sequence[int],
    threads: int = 1,
) -> list[Cell]:
    """All cells, seed by seed and case by case, the references of each case first.

    A solver that does not train has one cell for all budgets.

    Raises:
        InputError: a list is empty, or a budget or the number of threads is not positive.
    """
    if not (cases and entries and budgets and seeds):
        raise InputError("a benchmark needs at least one case, one method, one budget and one seed")
    if min(budgets) <= 0 or threads < 1:
        raise InputError("budgets must be positive, and there must be at least one thread")
    return [
        Cell(case, entry, budget, seed, threads)
        for seed in seeds
        for case in cases
        for entry, budget in [(None, None), *_with_budgets(entries, budgets)]
    ]


def _with_budgets(entries: Sequence[Entry], budgets: Sequence[float]) -> Iterator[tuple[Entry, float | None]]:
    for entry in entries:
        for budget in budgets if isinstance(entry.solver, Trained) else (None,):
            yield entry, budget
