"""Cells: one method on one case with one budget and one seed, in a process of its own.

A cell that has no method gives the rows of reference: the truth, where it is known, and the floor.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from sbridge.bench.budget import Trained, fitted_within
from sbridge.bench.methods import Method
from sbridge.bench.suites import Case
from sbridge.bridge import Bridge
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import Evaluator
from sbridge.evaluation.table import Row
from sbridge.io.settings import describe
from sbridge.problem import Problem

__all__ = ["FAILED", "Cell", "plan"]

FAILED = "failed: "  # how the remarks of `Evaluator.row` begin, too


@dataclass(frozen=True)
class Cell:
    """One method on one case.

    Args:
        case: the problem and how it is judged.
        method: the method; None for the rows of reference.
        budget: seconds of training; None where a method takes the time it takes.
        seed: of the method, of the points it is given and of the judging.
        threads: CPU threads.
    """

    case: Case
    method: Method | None
    budget: float | None
    seed: int
    threads: int

    @property
    def title(self) -> str:
        """What progress lines call it."""
        named = "references" if self.method is None else self.method.title
        parts = [self.case.name, named, *([f"{self.budget:g} s"] if self.budget else []), f"seed {self.seed}"]
        return ", ".join(parts)

    @property
    def file(self) -> str:
        """Name of its file."""
        parts = [self.case.name, "references" if self.method is None else self.method.key]
        parts += [f"{self.budget:g}s"] if self.budget else []
        return "--".join(_plain(part) for part in [*parts, f"seed{self.seed}"]) + ".json"

    @property
    def settings(self) -> dict[str, Any]:
        """All that its result depends on but versions and machine, in terms of JSON."""
        described: dict[str, Any] = describe(self)
        return described

    def failed(self, reason: str) -> dict[str, Row]:
        """The rows that say that it could not be done."""
        return {"references" if self.method is None else self.method.title: {"remark": FAILED + reason}}

    def rows(self) -> dict[str, Row]:
        """Solve and judge; an InputError or DivergenceError becomes a remark."""
        torch.set_num_threads(self.threads)
        whole = self.case.source.build()
        judge = Evaluator.of(whole, self.seed, self.case.effort)
        if self.method is None:
            return judge.references()
        try:
            bridge, facts = self._solve(self.method, self.case.given(whole, self.seed))
        except (InputError, DivergenceError) as error:
            return self.failed(str(error))
        return {self.method.title: {**judge.row(bridge), **facts}}

    def _solve(self, method: Method, problem: Problem) -> tuple[Bridge, dict[str, float]]:
        solver = method.solver
        if self.budget is not None and isinstance(solver, Trained):
            fit = fitted_within(solver, problem, self.budget, self.seed)
            facts = {"fit_seconds": fit.seconds, "steps": float(fit.steps)}
            return fit.bridge, {**facts, "peak_memory": _peak_memory()}
        begin = perf_counter()
        bridge = solver.solve(problem, self.seed)
        return bridge, {"fit_seconds": perf_counter() - begin, "peak_memory": _peak_memory()}


def _plain(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "-", text.replace("ε", "eps"), flags=re.ASCII)


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in MB.

    Linux's ru_maxrss also counts what the parent held when this process was started; /proc tells this one's alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1]) / 1024
    import resource  # not everywhere

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def plan(
    cases: Sequence[Case],
    methods: Sequence[Method],
    budgets: Sequence[float],
    seeds: Sequence[int],
    threads: int = 1,
) -> list[Cell]:
    """Every cell: all of the first seed first, and of each case the references first.

    A method that does not train has one cell for all budgets.

    Raises:
        InputError: something is empty, or a budget or the number of threads is not positive.
    """
    if not (cases and methods and budgets and seeds):
        raise InputError("a benchmark needs at least one case, one method, one budget and one seed")
    if min(budgets) <= 0 or threads < 1:
        raise InputError("budgets must be positive, and there must be at least one thread")
    return [
        Cell(case, method, budget, seed, threads)
        for seed in seeds
        for case in cases
        for method, budget in [(None, None), *_with_budgets(methods, budgets)]
    ]


def _with_budgets(methods: Sequence[Method], budgets: Sequence[float]) -> Iterator[tuple[Method, float | None]]:
    for method in methods:
        for budget in budgets if isinstance(method.solver, Trained) else (None,):
            yield method, budget
