"""What a run folder remembers of how it came about, and whether a resumed run is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sbridge.errors import InputError
from sbridge.io import Run
from sbridge.io.settings import describe, differences, environment
from sbridge.problem import Problem
from sbridge.solvers import Solver

__all__ = ["check_same", "configuration"]


def configuration(
    problem: Problem,
    source: Any,
    solver: Solver,
    baselines: Sequence[Solver],
    execution: Mapping[str, Any],
    command: str,
) -> dict[str, Any]:
    """All that is needed to repeat a run, as config.json holds it."""
    return {
        "settings": {
            "name": problem.name,
            "epsilon": problem.epsilon,
            "problem": describe(source),
            "data": fingerprint(problem),
            "solver": describe(solver),
            "baselines": [describe(baseline) for baseline in baselines],
            **execution,
        },
        "methods": {solver.name: "bridge.safetensors", **{one.name: _file_name(one) for one in baselines}},
        "environment": environment(),
        "command": command,
    }


def _file_name(solver: Solver) -> str:
    return f"{solver.name.lower().replace(' ', '-')}.safetensors"


def fingerprint(problem: Problem) -> str:
    """A hash of all points of a problem."""
    digest = hashlib.sha256()
    for x in (problem.x0, problem.x1, problem.test0, problem.test1):
        digest.update(x.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_same(run: Run, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of other settings.

    Raises:
        InputError: they differ; the message says in what.
    """
    differing = differences(run.config["settings"], config["settings"])
    if differing:
        raise InputError(f"{run.folder} holds a run with other settings: {'; '.join(differing)}")
