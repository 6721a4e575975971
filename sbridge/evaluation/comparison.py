"""Several bridges for one problem, measured in the same way.

Every bridge moves the same held-out points, with the same number of steps and the same random numbers.  Next to it
stands the value of each metric between two independent true samples of the same sizes (the floor): no method can be
shown to be better than that.  Where the exact bridge is known, it has a row too, with the same time steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isclose, isfinite
from time import perf_counter
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from sbridge.bridge import Bridge, Direction, ExactBridge
from sbridge.checks import Elsewhere, Seed, checked
from sbridge.errors import DivergenceError, InputError
from sbridge.estimates import Estimate
from sbridge.evaluation import metrics
from sbridge.evaluation.by_column import DATA, ColumnEnds, end_moments
from sbridge.evaluation.certificate.columns import moment_gaps
from sbridge.evaluation.distances import energy_distance, energy_p_value, sliced_wasserstein, wasserstein
from sbridge.evaluation.posed import posed
from sbridge.evaluation.table import FLOOR, TRUTH, Comparison, Effort, Row, unique, with_gaps
from sbridge.evaluation.value import reference_for, values
from sbridge.potentials.bridge import PotentialBridge
from sbridge.problem import Problem
from sbridge.problems.gaussian import GaussianBridge
from sbridge.sampling import Simulation
from sbridge.solvers import Solver

__all__ = ["Candidate", "Evaluator", "Fitted", "compare"]

T = TypeVar("T")
_SALT = 0x5B81D6E  # a problem of the same seed must not have drawn its data with the same random numbers


@runtime_checkable
class Fitted(Protocol):
    """A fitted estimator."""

    bridge_: Bridge


Candidate = Bridge | Solver | Fitted
"""What can be compared."""


@checked
def compare(
    methods: Sequence[Any] | Mapping[str, Any],
    problem: Annotated[Any, Elsewhere()],
    x1: Any = None,
    random_state: Seed = 0,
    effort: Effort | None = None,
) -> Comparison:
    """Solve the problem with each solver, and measure all bridges in the same way.

    Fitted bridges and estimators can also be measured on points of both ends: `compare(methods, x0, x1)`.

    Args:
        methods: bridges, solvers (which are timed) and fitted estimators, by name or with the names they have.
        problem: bridges are measured on problem.test0 and problem.test1, and against problem.truth if it is known.  Or
            points x0 (n0, d) that were not used in the fits, in the units of the data.
        x1: such points (n1, d) of the other end; half of all points are used for the floor.
        random_state: seed of every solver and of the metrics; a row does not depend on the other rows.
        effort: sizes; with the default, a bridge of two small networks takes about ten seconds on one thread.

    Raises:
        InputError: something in `methods` cannot be compared, or has a reserved name, or there are points of one end
            only.  An InputError or DivergenceError of one method becomes the remark of its row, and the comparison
            continues.
    """
    named = _named(methods)
    if not named:
        raise InputError("there is nothing to compare: give at least one bridge, solver or fitted estimator")
    named, question = _question(named, problem, x1)
    evaluator = Evaluator.of(question, random_state, effort or Effort())
    examined = {name: evaluator.examined(method) for name, method in named.items()}
    rows = {**{name: row for name, (row, _) in examined.items()}, **evaluator.references()}
    bridges = {name: bridge for name, (_, bridge) in examined.items() if bridge is not None}
    duals = {name: evaluator.dual(bridge) for name, bridge in bridges.items()}
    ends = {DATA: evaluator.data_ends(), **{name: evaluator.ends(bridge) for name, bridge in bridges.items()}}
    return evaluator.table(rows, duals | evaluator.true_dual(), ends)


def _question(named: dict[str, Any], problem: Any, x1: Any) -> tuple[dict[str, Any], Problem]:
    """The methods, and the problem that they are measured on."""
    if isinstance(problem, Problem):
        if x1 is not None:
            raise InputError("a problem has points of both ends: give it alone, as compare(methods, problem)")
        return named, problem
    if x1 is None:
        raise InputError("give a Problem, or points of both ends, as compare(methods, x0, x1)")
    bridges = {name: method.bridge_ if isinstance(method, Fitted) else method for name, method in named.items()}
    for name, bridge in bridges.items():
        if not isinstance(bridge, Bridge):
            raise InputError(f"{name} is not fitted yet: fit it, or give a Problem, which has points to fit to")
    return posed(bridges, problem, x1)


def _named(methods: Sequence[Candidate] | Mapping[str, Candidate]) -> dict[str, Candidate]:
    if isinstance(methods, Mapping):
        named = dict(methods)
    else:
        names = unique(getattr(method, "name", type(method).__name__) for method in methods)
        named = dict(zip(names, methods, strict=True))
    for name, method in named.items():
        _check_candidate(name, method)
    return named


def _check_candidate(name: str, candidate: Candidate) -> None:
    if name in (FLOOR, TRUTH):
        raise InputError(f"{name!r} is the name of a reference row; give the method another name")
    if not (isinstance(candidate, Bridge | Fitted) or hasattr(candidate, "solve")):
        raise InputError(f"{name} is no bridge, solver or fitted estimator; if it is an estimator, fit it first")


@dataclass(frozen=True)
class Evaluator:
    """The points, sizes and seed with which every bridge of a problem is measured (see `Evaluator.of`)."""

    problem: Problem
    random_state: int
    effort: Effort

    @staticmethod
    def of(problem: Problem, random_state: int = 0, effort: Effort | None = None) -> Evaluator:
        """Sizes are cut to the number of points, so that there are as many true points as moved ones."""
        wanted = effort or Effort()
        points = min(wanted.points, *map(len, (problem.x0, problem.x1, problem.test0, problem.test1)))
        cut = replace(
            wanted,
            points=points,
            matched=min(wanted.matched, points),
            starts=min(wanted.starts, points),
        )
        return Evaluator(problem, random_state, cut)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """The held-out points of x0 and x1 that are moved and compared."""
        return self._draw(self.problem.test0), self._draw(self.problem.test1)

    def table(
        self,
        rows: Mapping[str, Row],
        duals: Mapping[str, Sequence[float]] | None = None,
        ends: Mapping[str, ColumnEnds] | None = None,
    ) -> Comparison:
        """The rows as a comparison, with the dual gaps of those whose `dual` is given, and the methods' `ends`."""
        problem, known = self.problem, {name: dual for name, dual in (duals or {}).items() if dual}
        about = (problem.name, problem.epsilon, problem.dim, self.random_state, self.effort)
        return Comparison(*about, with_gaps(rows, known), known, ends or {}, problem.columns or ())

    def row(self, candidate: Candidate) -> Row:
        """The row of one method; an InputError or DivergenceError becomes its remark."""
        return self.examined(candidate)[0]

    def examined(self, candidate: Candidate) -> tuple[Row, Bridge | None]:
        """The row of one method, and its bridge unless it failed."""
        row: dict[str, float | str] = {}
        try:
            bridge = self._solve(candidate, row)
            row |= self.measure(bridge)
        except (InputError, DivergenceError) as error:
            return {**row, "remark": f"failed: {error}"}, None
        return row, bridge

    def ends(self, bridge: Bridge) -> ColumnEnds:
        """Mean and standard deviation of every column of the held-out points, moved both ways."""
        generator, (x0, x1) = self._generator(), self.test
        there, back = self._move(bridge, x0, "forward", generator), self._move(bridge, x1, "backward", generator)
        return {"forward": end_moments(there), "backward": end_moments(back)}

    def data_ends(self) -> ColumnEnds:
        """The same of the held-out points at either end."""
        return {"forward": end_moments(self.test[1]), "backward": end_moments(self.test[0])}

    def dual(self, bridge: Bridge) -> list[float]:
        """The value of the bridge's forward process on parts of the held-out points, in nats; empty if not finite."""
        found = values(bridge, self.reference, *self.test, self.random_state)
        return found if all(map(isfinite, found)) else []

    @cached_property
    def reference(self) -> PotentialBridge:
        """The potential in closed form that processes without one are compared with."""
        return reference_for(self.problem, self.random_state)

    def true_dual(self) -> dict[str, Sequence[float]]:
        """`dual` of the exact bridge, if it is known."""
        return {} if self.problem.truth is None else {TRUTH: self.dual(self.problem.truth)}

    def measure(self, bridge: Bridge) -> Row:
        """Every metric of one bridge; values that are not finite are left out and named in the remark.

        Raises:
            InputError: the bridge is for another ε.
            DivergenceError: a moved point has infinite or NaN coordinates.
        """
        if not isclose(bridge.epsilon, self.problem.epsilon, rel_tol=1e-5):
            raise InputError(f"its epsilon is {bridge.epsilon:g}, the problem's {self.problem.epsilon:g}")
        generator, (x0, x1) = self._generator(), self.test
        moved, seconds = _timed(lambda: self._move(bridge, x0, "forward", generator))
        row = self._distances("forward", moved, x1, generator)
        row |= self._distances("backward", self._move(bridge, x1, "backward", generator), x0, generator)
        row |= self._energy(metrics.kinetic_energy(bridge, x0, generator, self.effort.steps))
        if self.problem.truth is not None:
            row |= self._against(self.problem.truth, bridge, moved, generator)
        return _settled(row | {"move_seconds": seconds}, bridge.remark)

    def references(self) -> dict[str, Row]:
        """The row of the exact bridge, if it is known, and the floor."""
        truth = self.problem.truth
        return ({} if truth is None else {TRUTH: self.measure(truth)}) | {FLOOR: self.floor()}

    def floor(self) -> Row:
        """Each metric between held-out points and as many training points.

        Metrics against the exact bridge compare it with its own sampled moments; path KL is 0.  Where the held-out
        points are the training points there are no two independent samples, and the distances are left out.
        """
        generator, problem = self._generator(), self.problem
        row: dict[str, float] = {}
        if torch.equal(problem.x0, problem.test0) or torch.equal(problem.x1, problem.test1):
            remark = "no distances: the held-out points are the training points"
        else:
            remark = ""
            start, end = problem.equal_points()
            row |= self._distances("forward", self._draw(end), self.test[1], generator)
            row |= self._distances("backward", self._draw(start), self.test[0], generator)
        if problem.truth is not None:
            row |= self._sampled_truth(problem.truth, generator)
        return _settled(row, remark)

    def _solve(self, candidate: Candidate, row: dict[str, float | str]) -> Bridge:
        if isinstance(candidate, Bridge):
            return candidate
        if isinstance(candidate, Fitted):
            return candidate.bridge_
        bridge, row["fit_seconds"] = _timed(lambda: candidate.solve(self.problem, self.random_state))
        return bridge

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.problem.x0.device).manual_seed(_SALT + self.random_state)

    def _draw(self, x: Tensor) -> Tensor:
        """`effort.points` different rows of x."""
        return x[torch.randperm(len(x), generator=self._generator(), device=x.device)[: self.effort.points]]

    def _move(self, bridge: Bridge, x: Tensor, direction: Direction, generator: torch.Generator) -> Tensor:
        return metrics.move(bridge, x, generator, self.effort.simulation, direction)

    def _distances(self, label: str, moved: Tensor, true: Tensor, generator: torch.Generator) -> dict[str, float]:
        matched = self.effort.matched
        return {
            f"{label}_energy": energy_distance(moved, true),
            f"{label}_p": energy_p_value(moved, true, self._generator()),
            f"{label}_sliced": sliced_wasserstein(moved, true, self.effort.projections, generator),
            f"{label}_wasserstein": wasserstein(moved[:matched], true[:matched]),
            f"{label}_column": max(float(gap.abs().max()) for gap in moment_gaps(true, moved)),
        }

    def _energy(self, energy: Estimate) -> dict[str, float]:
        row, truth = _figures("kinetic_energy", energy), self.problem.truth
        if truth is not None:
            row |= _figures("path_energy", metrics.path_energy(energy, truth.kinetic_energy().value))
        return row

    def _against(
        self, truth: ExactBridge, bridge: Bridge, moved: Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        x0, effort, own = self.test[0], self.effort, Simulation(self.effort.steps)
        starts = x0[: effort.starts]
        row = _figures("path_kl", metrics.path_kl(bridge, truth, x0, generator, effort.times))
        row |= _figures("cbw_uvp", metrics.cbw_uvp(bridge, truth, starts, effort.per_start, generator, own))
        if isinstance(bridge, ExactBridge):
            row |= _figures("cbw_uvp_exact", metrics.cbw_uvp_exact(bridge, truth, starts))
        if isinstance(truth, GaussianBridge):
            row |= _gaussian(metrics.own_paths(bridge, x0, generator, simulation=own), truth)
        return row | {"bw_uvp": metrics.bw_uvp(moved, *truth.endpoint_moments())}

    def _sampled_truth(self, truth: ExactBridge, generator: torch.Generator) -> dict[str, float]:
        x0, effort = self.test[0], self.effort
        floor = metrics.cbw_uvp_floor(truth, x0[: effort.starts], effort.per_start, generator)
        ends = metrics.bw_uvp(truth.endpoints(x0, generator), *truth.endpoint_moments())
        row = {"path_kl": 0.0, **_figures("cbw_uvp", floor), "bw_uvp": ends}
        row |= self._energy(metrics.exact_energy(truth, x0, generator, effort.times))
        if isinstance(truth, GaussianBridge):
            row |= _gaussian(metrics.exact_paths(truth, x0, generator), truth)
        return row


def _gaussian(paths: Tensor, truth: GaussianBridge) -> dict[str, float]:
    error = metrics.endpoint_covariance_error(paths[0], paths[-1], truth)
    return {"diagonal_kl": metrics.diagonal_kl(paths, truth), "endpoint_covariance_error": error}


def _figures(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_se": estimate.standard_error}


def _settled(row: Mapping[str, float], remark: str) -> Row:
    """The finite figures, and a remark that names the others."""
    missing = [name for name, value in row.items() if not isfinite(value)]
    remarks = [remark] * bool(remark) + [f"not finite: {', '.join(missing)}"] * bool(missing)
    return {name: value for name, value in row.items() if isfinite(value)} | {"remark": "; ".join(remarks)}


def _timed(action: Callable[[], T]) -> tuple[T, float]:
    start = perf_counter()
    result = action()
    return result, perf_counter() - start
