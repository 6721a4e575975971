"""The stages of `sbridge recover`: fit, baselines, evaluation, certificate, report.  Finished stages are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from sbridge.auto import Auto
from sbridge.baselines.sinkhorn import Sinkhorn
from sbridge.bridge import Bridge
from sbridge.cli.fitting import fit
from sbridge.display import Stages, note, training_display
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import Effort, Evaluator
from sbridge.evaluation.by_column import DATA
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.evaluation.table import Row
from sbridge.io import Run
from sbridge.problem import Frame
from sbridge.report.page import build
from sbridge.sampling import steps_for
from sbridge.solvers import Solver
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.standardise import as_fitted

__all__ = ["certify_run", "verdict_of", "work"]

_ROW, _CERTIFICATE = "evaluating on held-out points", "measuring the distance to the Schrödinger bridge"
_REPORT = "writing the report"


def work(
    run: Run, solver: Solver, baselines: Sequence[Sinkhorn], checkpoint_seconds: float, budget: float | None = None
) -> None:
    """Do the stages of a run that are not finished.

    Args:
        run: the run.
        solver: fits the bridge, with checkpoints if it trains.
        baselines: solve the same problem.
        checkpoint_seconds: between two checkpoints.
        budget: seconds that a network may train.

    Raises:
        InputError: a file of the run is damaged.
        DivergenceError: the fit became unstable.
        Stopped: a signal came.
    """
    working = _Working(run, [solver.name, *(baseline.name for baseline in baselines)])
    if isinstance(solver, NetworkSolver | Auto):
        facts = {solver.name: working.fit(solver, checkpoint_seconds, budget)}
    else:
        facts = {solver.name: working.fit_at_once(solver)}
    facts |= {baseline.name: working.solve(baseline) for baseline in baselines}
    if run.comparison() is None:
        working.evaluate(facts)
    if run.certificate() is None:
        working.certify()
    if _page_is_stale(run):
        with working.stages.stage(_REPORT):
            build(run)


class _Working:
    """A run at work.

    Args:
        run: the run.
        names: of the fit and the baselines.
    """

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        settings = run.config["settings"]
        self.run, self.seed = run, settings["seed"]
        self.problem = run.fitted_problem.to(settings["device"])
        self.references = f"evaluating two true samples{' and the exact bridge' * (self.problem.truth is not None)}"
        solved = [f"{names[0]}: fitting", *(f"{name}: solving" for name in names[1:])]
        rows = [f"{name}: {_ROW}" for name in names]
        self.stages = Stages([*solved, *rows, self.references, _CERTIFICATE, _REPORT])

    def fit(self, solver: NetworkSolver | Auto, checkpoint_seconds: float, budget: float | None) -> Row:
        def fitted() -> Row:
            with self.stages.stage(f"{solver.name}: fitting", clock=False):  # the fit has a bar of its own
                return {**fit(self.run, solver, self.problem, self.seed, checkpoint_seconds, budget)}

        facts: Row = self.run.once(f"fit {solver.name}", fitted)
        self.run.path("checkpoint.pt").unlink(missing_ok=True)
        return facts

    def fit_at_once(self, solver: Solver) -> Row:
        """The seconds that a method without a training took."""

        def solved() -> Row:
            begin = perf_counter()
            with self.stages.stage(f"{solver.name}: fitting"):
                bridge = solver.solve(self.problem, self.seed)
            self.run.keep(solver.name, bridge)
            return {"fit_seconds": perf_counter() - begin}

        facts: Row = self.run.once(f"fit {solver.name}", solved)
        return facts

    def solve(self, baseline: Sinkhorn) -> Row:
        """The seconds that a baseline took, or a remark that says why it failed."""

        def solved() -> Row:
            begin = perf_counter()
            try:
                with self.stages.stage(f"{baseline.name}: solving", most=baseline.most_seconds(self.problem)):
                    bridge = baseline.solve(self.problem, self.seed)
            except (InputError, DivergenceError) as error:
                return {"remark": f"failed: {error}"}
            self.run.keep(baseline.name, bridge)
            return {"fit_seconds": perf_counter() - begin}

        facts: Row = self.run.once(f"fit {baseline.name}", solved)
        return facts

    def evaluate(self, facts: Mapping[str, Row]) -> None:
        """Write comparison.csv and comparison.json: each method's row, the rows of reference last."""
        diffusion = tuple(self.run.config["settings"]["diffusion"])
        steps = steps_for(self.problem.epsilon, Frame.of(self.problem).scale)
        evaluator = Evaluator.of(self.problem, self.seed, Effort(steps=steps, diffusion=diffusion))
        own = replace(evaluator, problem=self.run.problem.to(self.problem.x0.device))  # in the user's units
        found = {name: self.run.once(f"row {name}", partial(self._row, evaluator, own, name)) for name in facts}
        found |= {"references": self.run.once("references", partial(self._references, evaluator))}
        rows = {name: {**found[name]["row"], **facts[name]} for name in facts}
        duals = {name: found[name]["dual"] for name in facts}
        ends = {name: found[name]["ends"] for name in facts if found[name]["ends"]}
        rows |= found["references"]["rows"]
        comparison = evaluator.table(rows, duals | found["references"]["dual"], {DATA: own.data_ends(), **ends})
        comparison.to_csv(self.run.path("comparison.csv"))
        comparison.to_json(self.run.path("comparison.json"))

    def _row(self, evaluator: Evaluator, own: Evaluator, name: str) -> dict[str, Any]:
        """The row of a method, its dual values, and its ends by column in the user's units."""
        path = self.run.path(self.run.config["methods"][name])
        with self.stages.stage(f"{name}: {_ROW}", like=_ROW):
            if not path.exists():
                return {"row": {}, "dual": [], "ends": {}}
            row, bridge = evaluator.examined(self._bridge(path))
            if bridge is None:
                return {"row": row, "dual": [], "ends": {}}
            outside = Bridge.load(path).to(self.problem.x0.device)
            return {"row": row, "dual": evaluator.dual(bridge), "ends": own.ends(outside)}

    def _references(self, evaluator: Evaluator) -> dict[str, Any]:
        """The rows of the floor and of the exact bridge, and the dual values of that one."""
        with self.stages.stage(self.references):
            return {"rows": evaluator.references(), "dual": evaluator.true_dual()}

    def certify(self) -> None:
        """Write certificate.json."""
        with self.stages.stage(_CERTIFICATE, clock=False):
            certify_run(self.run, self.seed, self.problem.x0.device)

    def _bridge(self, path: Path) -> Bridge:
        """A bridge in the coordinates of the fit, on the run's device."""
        return as_fitted(Bridge.load(path)).to(self.problem.x0.device)


def certify_run(run: Run, seed: int, device: torch.device | str = "cpu") -> None:
    """Write the certificate of the run's bridge on held-out points, in the user's units, or why there is none."""
    problem, bridge = run.problem.to(device), Bridge.load(run.path("bridge.safetensors")).to(device)
    with training_display("certificate") as shown:
        try:
            run.write_certificate(bridge.certificate(problem.test0, problem.test1, seed, [shown]))
        except (InputError, DivergenceError) as error:
            note(f"no certificate: {error}")
            run.write_certificate(str(error))


def verdict_of(run: Run) -> str:
    """The verdict of the run's certificate in a line, or why there is none."""
    found = run.certificate()
    return str(found.verdict) if isinstance(found, Certificate) else f"No certificate: {found}."


def _page_is_stale(run: Run) -> bool:
    page, sources = run.path("report.html"), [run.path("comparison.json"), run.path("certificate.json")]
    return not page.exists() or page.stat().st_mtime < max(source.stat().st_mtime for source in sources)
