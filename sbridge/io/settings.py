"""Settings as JSON values, the versions they were run with, and the differences of two settings."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe", "differences", "environment"]

_PACKAGES = ("sbridge", "torch", "numpy", "scipy", "pot", "geomloss")


def describe(value: Any) -> Any:
    """A setting as a JSON value: a dataclass becomes its class and fields, a class or function its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, functools.partial):
        return {"class": describe(value.func), **describe(value.keywords)}
    if isinstance(value, dict):
        return {name: describe(inner) for name, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [describe(item) for item in value]
    if callable(value):
        return value.__name__ if hasattr(value, "__name__") else type(value).__name__
    return str(value) if isinstance(value, Path) else value


def environment() -> dict[str, str]:
    """Versions and machine; the version of torch names its build, as in 2.13.0+cu130."""
    import torch  # slow to import

    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    versions["torch"] = str(torch.__version__)
    return {"python": platform.python_version(), "platform": platform.platform(), **versions}


def differences(before: Any, now: Any) -> list[str]:
    """The leaves in which two JSON values differ, as text: the dotted name and both values."""
    there, here = _flat("", before), _flat("", now)
    return [
        f"{key} ({there.get(key, 'absent')} there, {here.get(key, 'absent')} now)"
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key)
    ]


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """The leaves of nested dictionaries and lists by their dotted names."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, inner in items for name, leaf in _flat(f"{prefix}.{key}", inner).items()}
    return {prefix.lstrip("."): value}
