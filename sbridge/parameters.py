"""Settings in frozen dataclasses by scikit-learn's names: a__b is the field b of the dataclass in the field a."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from sbridge.errors import InputError

__all__ = ["nested_parameters", "with_parameters"]


def nested_parameters(settings: object) -> dict[str, Any]:
    """The fields of a dataclass, and of the dataclasses in them; empty for anything else."""
    if not is_dataclass(settings) or isinstance(settings, type):
        return {}
    own = {field.name: getattr(settings, field.name) for field in fields(settings)}
    inner = {f"{name}__{key}": v for name, value in own.items() for key, v in nested_parameters(value).items()}
    return {**own, **inner}


def with_parameters(settings: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a frozen dataclass with some fields changed.

    Raises:
        InputError: there is no field of that name, or the dataclass refuses a value.
    """
    known = [name for name in nested_parameters(settings) if "__" not in name]
    values: dict[str, Any] = {}
    for name, value in changes.items():
        head, _, rest = name.partition("__")
        if head not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"{type(settings).__name__} has no setting {head!r}; {has}")
        old = values.get(head, getattr(settings, head))
        values[head] = with_parameters(old, {rest: value}) if rest else value
    return replace(settings, **values)
