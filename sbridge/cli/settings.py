"""What a run folder remembers of how it came about, and whether a resumed run is the same."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbridge.errors import InputError
from sbridge.io import Run
from sbridge.problem import Problem
from sbridge.solvers import Solver

__all__ = ["check_same", "configuration", "describe"]

_PACKAGES = ("sbridge", "torch", "numpy", "scipy", "pot", "geomloss")


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


def describe(value: Any) -> Any:
    """A setting in terms of JSON: a dataclass by its class and fields, a class or function by its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, functools.partial):
        return {"class": describe(value.func), **value.keywords}
    if isinstance(value, tuple):
        return [describe(item) for item in value]
    if callable(value):
        return value.__name__
    return str(value) if isinstance(value, Path) else value


def fingerprint(problem: Problem) -> str:
    """A hash of all points of a problem."""
    digest = hashlib.sha256()
    for x in (problem.x0, problem.x1, problem.test0, problem.test1):
        digest.update(x.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """Versions and machine."""
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), **versions}


def check_same(run: Run, config: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of other settings.

    Raises:
        InputError: they differ; the message says in what.
    """
    before, now = _flat("", run.config["settings"]), _flat("", config["settings"])
    differing = [
        f"{key} ({before.get(key, 'absent')} there, {now.get(key, 'absent')} now)"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise InputError(f"{run.folder} holds a run with other settings: {'; '.join(differing)}")


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """Leaves of nested dictionaries and lists by dotted names."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, inner in items for name, leaf in _flat(f"{prefix}.{key}", inner).items()}
    return {prefix.lstrip("."): value}
