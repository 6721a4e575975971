"""A report of bridges that were fitted in Python: the same run folder and page as those of `sbridge recover`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbridge.bridge import Bridge
from sbridge.checks import Seed, checked
from sbridge.errors import DivergenceError, InputError
from sbridge.evaluation import Effort, Fitted, compare
from sbridge.evaluation.certificate.statement import Certificate
from sbridge.io import Run
from sbridge.io.settings import environment
from sbridge.problem import Frame, Problem
from sbridge.report.page import build
from sbridge.sampling import steps_for
from sbridge.standardise import Standardise, as_fitted

__all__ = ["write_report"]


@checked
def write_report(
    methods: Mapping[str, Bridge | Fitted],
    problem: Problem,
    folder: str | Path,
    random_state: Seed = 0,
    standardise: Standardise | None = None,
) -> Path:
    """Measure fitted bridges on held-out points, and write a run folder with report.html.

    `sbridge sample`, `likelihood`, `compare` and `report` take the folder, with the first bridge as its fit.

    Args:
        methods: bridges or fitted estimators by name, the most important first.
        problem: the points that they were fitted to and the held-out ones, ε, and the exact bridge where it is known.
        folder: of the run; it must not exist or be empty.
        random_state: seed of the metrics.
        standardise: how the columns were standardised for all these bridges; the page is then in those units.

    Returns:
        The path of the page.

    Raises:
        InputError: there is no bridge, or the folder is not empty.
    """
    if not methods:
        raise InputError("a report needs at least one bridge")
    given = {name: method.bridge_ if isinstance(method, Fitted) else method for name, method in methods.items()}
    bridges = {name: as_fitted(bridge) for name, bridge in given.items()} if standardise else given
    settings = {"name": problem.name, "epsilon": problem.epsilon, "seed": random_state, "standardise": standardise}
    run = Run.create(folder, _configuration(list(bridges), settings), problem)
    for name, bridge in bridges.items():
        run.keep(name, bridge)
    inside = run.fitted_problem
    effort = Effort(steps=steps_for(inside.epsilon, Frame.of(inside).scale))
    comparison = compare(bridges, inside, random_state=random_state, effort=effort)
    comparison.to_csv(run.path("comparison.csv"))
    comparison.to_json(run.path("comparison.json"))
    run.write_certificate(_certificate(next(iter(given.values())), problem, random_state))
    history = getattr(next(iter(methods.values())), "history_", None)
    if history:
        run.write_history(history)
    return build(run)


def _configuration(names: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    files = ["bridge.safetensors", *(f"bridge-{k}.safetensors" for k in range(2, len(names) + 1))]
    return {
        "settings": settings,
        "methods": dict(zip(names, files, strict=True)),
        "environment": environment(),
        "command": "sbridge.write_report(…) in Python",
    }


def _certificate(bridge: Bridge, problem: Problem, random_state: int) -> Certificate | str:
    try:
        return bridge.certificate(problem.test0, problem.test1, random_state)
    except (InputError, DivergenceError) as error:
        return str(error)
