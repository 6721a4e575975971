"""The stages of `sbridge recover`: fit, baselines, evaluation, certificate, report.  Finished stages are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter

from sbridge.bridge import Bridge
from sbridge.cli.fitting import fit
from sbridge.display import note
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import Effort, Evaluator
from sbridge.evaluation.table import Row
from sbridge.io import Run
from sbridge.problem import Frame, Problem
from sbridge.report.page import build
from sbridge.sampling import steps_for
from sbridge.solvers import Solver
from sbridge.solvers.network_solver import NetworkSolver
from sbridge.standardise import as_fitted

__all__ = ["work"]

_CERTIFIED = 5000  # held-out points per side at most, so that a certificate takes seconds


def work(run: Run, solver: NetworkSolver, baselines: Sequence[Solver], checkpoint_seconds: float) -> None:
    """Do the stages of a run that are not finished.

    Raises:
        InputError: a file of the run is damaged.
        DivergenceError: the fit became unstable.
        Stopped: a signal came.
    """
    device, seed = run.config["settings"]["device"], run.config["settings"]["seed"]
    problem = run.fitted_problem.to(device)
    facts = {solver.name: _fit(run, solver, problem, seed, checkpoint_seconds)}
    facts |= {baseline.name: _solve(run, baseline, problem, seed) for baseline in baselines}
    if run.comparison() is None:
        _evaluate(run, facts, problem, seed)
    if run.certificate() is None:
        _certify(run, problem, seed)
    if _page_is_stale(run):
        note("writing the report")
        build(run)


def _fit(run: Run, solver: NetworkSolver, problem: Problem, seed: int, checkpoint_seconds: float) -> Row:
    def fitted() -> Row:
        note(f"{solver.name}: fitting")
        return {**fit(run, solver, problem, seed, checkpoint_seconds)}

    facts: Row = run.once(f"fit {solver.name}", fitted)
    run.path("checkpoint.pt").unlink(missing_ok=True)
    return facts


def _solve(run: Run, baseline: Solver, problem: Problem, seed: int) -> Row:
    """The seconds that a baseline took, or a remark that says why it failed."""

    def solved() -> Row:
        note(f"{baseline.name}: solving")
        begin = perf_counter()
        try:
            bridge = baseline.solve(problem, seed)
        except (InputError, DivergenceError) as error:
            return {"remark": f"failed: {error}"}
        run.keep(baseline.name, bridge)
        return {"fit_seconds": perf_counter() - begin}

    facts: Row = run.once(f"fit {baseline.name}", solved)
    return facts


def _evaluate(run: Run, facts: Mapping[str, Row], problem: Problem, seed: int) -> None:
    """Write comparison.csv and comparison.json: each method's row, the rows of reference last."""
    steps = steps_for(problem.epsilon, Frame.of(problem).scale)
    evaluator = Evaluator.of(problem, seed, Effort(steps=steps, diffusion=tuple(run.config["settings"]["diffusion"])))

    rows = {name: {**run.once(f"row {name}", partial(_row, run, evaluator, name)), **facts[name]} for name in facts}
    rows |= run.once("references", partial(_references, evaluator))
    comparison = evaluator.table(rows)
    comparison.to_csv(run.path("comparison.csv"))
    comparison.to_json(run.path("comparison.json"))


def _row(run: Run, evaluator: Evaluator, name: str) -> Row:
    note(f"{name}: evaluating on held-out points")
    path = run.path(run.config["methods"][name])
    return evaluator.row(as_fitted(Bridge.load(path)).to(evaluator.problem.x0.device)) if path.exists() else {}


def _references(evaluator: Evaluator) -> dict[str, Row]:
    note(f"evaluating two true samples{' and the exact bridge' * (evaluator.problem.truth is not None)}")
    return evaluator.references()


def _certify(run: Run, problem: Problem, seed: int) -> None:
    """Write certificate.json: the certificate of the fitted bridge on held-out points, or why there is none."""
    note("measuring the distance to a Schrödinger bridge")
    bridge = as_fitted(Bridge.load(run.path("bridge.safetensors"))).to(problem.x0.device)
    try:
        run.write_certificate(bridge.certificate(problem.test0[:_CERTIFIED], problem.test1[:_CERTIFIED], seed))
    except (InputError, DivergenceError) as error:
        note(f"no certificate: {error}")
        run.write_certificate(str(error))


def _page_is_stale(run: Run) -> bool:
    page, sources = run.path("report.html"), [run.path("comparison.json"), run.path("certificate.json")]
    return not page.exists() or page.stat().st_mtime < max(source.stat().st_mtime for source in sources)
