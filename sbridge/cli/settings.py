"""What config.json of a run folder holds: everything needed to repeat the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sbridge.io.settings import describe, environment
from sbridge.problem import Problem
from sbridge.solvers import Solver

__all__ = ["configuration"]


def configuration(
    problem: Problem,
    source: Any,
    solver: Solver,
    baselines: Sequence[Solver],
    execution: Mapping[str, Any],
    command: str,
) -> dict[str, Any]:
    """The configuration of a run.

    Args:
        problem: the problem.
        source: the family that builds it, with its options.
        solver: fits the bridge.
        baselines: solve the same problem.
        execution: the other settings: seed, device and so on.
        command: the command line.
    """
    return {
        "settings": {
            "name": problem.name,
            "epsilon": problem.epsilon,
            "columns": None if problem.columns is None else list(problem.columns),
            "problem": describe(source),
            "data": _fingerprint(problem),
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


def _fingerprint(problem: Problem) -> str:
    """A hash of all points, and of their weights."""
    digest = hashlib.sha256()
    weights = (w for w in problem.weights if w is not None)
    for x in (problem.x0, problem.x1, problem.test0, problem.test1, *weights):
        digest.update(x.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
