"""The stages of `sbridge recover`: fit, baselines, judging, certificate, page."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from sbridge.bridge import Bridge
from sbridge.cli.fitting import fit, fit_divided
from sbridge.display import note
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import FLOOR, Effort, Evaluator
from sbridge.evaluation.table import Row
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.report.page import build
from sbridge.solvers import Solver
from sbridge.solvers.network_solver import NetworkSolver

__all__ = ["work"]

_CERTIFIED = 5000  # held-out points a side at most: a certificate is to take seconds


def work(
    run: Run, solver: NetworkSolver, baselines: Sequence[Solver], checkpoint_seconds: float, workers: int = 1
) -> None:
    """Bring a run to its end, from wherever it stands.

    Raises:
        InputError: a file of the run is damaged.
        DivergenceError: the fit became unstable.
        Stopped: by a signal.
    """
    problem = run.problem.to(run.config["settings"]["device"])
    seed: int = run.config["settings"]["seed"]
    if solver.name not in run.fits():
        note(f"{solver.name}: fitting")
        if workers == 1:
            fit(run, solver, problem, seed, checkpoint_seconds)
        else:
            fit_divided(run, solver, problem, seed, workers)
    for baseline in baselines:
        if baseline.name not in run.fits():
            _solve(run, baseline, problem, seed)
    _judge(run, problem, seed)
    if run.certificate() is None:
        _certify(run, problem, seed)
    if _page_is_stale(run):
        note("writing the report")
        build(run)


def _solve(run: Run, baseline: Solver, problem: Problem, seed: int) -> None:
    note(f"{baseline.name}: solving")
    begin = perf_counter()
    try:
        bridge = baseline.solve(problem, seed)
    except (InputError, DivergenceError) as error:
        run.record(baseline.name, remark=f"failed: {error}")
        return
    bridge.save(run.path(run.config["methods"][baseline.name]))
    run.record(baseline.name, fit_seconds=perf_counter() - begin)


def _judge(run: Run, problem: Problem, seed: int) -> None:
    """Fill comparison.json row by row, the rows of reference last; comparison.csv when all are there."""
    judge = Evaluator.of(problem, seed, Effort(diffusion=tuple(run.config["settings"]["diffusion"])))
    before = run.comparison()
    rows: dict[str, Row] = dict(before.rows) if before else {}
    for name, facts in run.fits().items():
        if name not in rows:
            note(f"{name}: judging on held-out points")
            rows[name] = {**_row(run, judge, name), **facts}
            judge.table(rows).to_json(run.path("comparison.json"))
    if FLOOR not in rows:
        note(f"judging two true samples{' and the exact bridge' * (problem.truth is not None)}")
        rows |= judge.references()
        judge.table(rows).to_json(run.path("comparison.json"))
    if not run.path("comparison.csv").exists():
        judge.table(rows).to_csv(run.path("comparison.csv"))


def _row(run: Run, judge: Evaluator, name: str) -> Row:
    path = run.path(run.config["methods"][name])
    return judge.row(Bridge.load(path).to(judge.problem.x0.device)) if path.exists() else {}


def _certify(run: Run, problem: Problem, seed: int) -> None:
    """Write certificate.json: of the fitted bridge, on held-out points, or why they don't suffice."""
    note("measuring the distance to a Schrödinger bridge")
    bridge = Bridge.load(run.path("bridge.safetensors")).to(problem.x0.device)
    try:
        run.write_certificate(bridge.certificate(problem.test0[:_CERTIFIED], problem.test1[:_CERTIFIED], seed))
    except (InputError, DivergenceError) as error:
        note(f"no certificate: {error}")
        run.write_certificate(str(error))


def _page_is_stale(run: Run) -> bool:
    page, sources = run.path("report.html"), [run.path("comparison.json"), run.path("certificate.json")]
    return not page.exists() or page.stat().st_mtime < max(source.stat().st_mtime for source in sources)
