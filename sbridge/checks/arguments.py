"""Settings and arguments of functions, checked when they are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any, TypeVar, cast, get_type_hints

from sbridge.checks.values import checked_value

__all__ = ["Checked", "checked", "checked_arguments"]

F = TypeVar("F", bound=Callable[..., Any])


class Checked:
    """Settings whose fields are checked by their annotations when they are made.

    It is for frozen dataclasses.  NumPy's numbers become plain ones, and names become the members they name.

    Raises:
        InputError: a value is of the wrong type, out of its range, not finite, or not a known name.
    """

    def __post_init__(self) -> None:
        hints = _hints(cast(Any, type(self)))
        for field in fields(cast(Any, self)):
            value = checked_value(self.called(field.name), hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self.validate()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """As an argument it is only asked for its class: its fields have been checked."""
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)

    @classmethod
    def called(cls, field: str) -> str:
        """What messages call a field."""
        return field

    def validate(self) -> None:
        """Refuse values that do not go together, by an InputError."""


def checked(function: F) -> F:
    """Check the arguments of a function by their annotations whenever it is called.

    Raises:
        InputError: (when called) as `Checked`.
    """
    signature = inspect.signature(function)
    single = {
        name for name, one in signature.parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        bound, hints = signature.bind(*values, **named), _hints_of_arguments(function)
        for name in bound.arguments.keys() & hints.keys() & single:
            bound.arguments[name] = checked_value(name, hints[name], bound.arguments[name])
        return function(*bound.args, **bound.kwargs)

    return cast(F, call)


def checked_arguments(owner: type, values: Mapping[str, Any]) -> None:
    """Check values by the annotations of a class's constructor, for classes that must keep them as they are."""
    for name, annotation in _hints_of_arguments(cast(Any, owner).__init__).items():
        checked_value(name, annotation, values[name])


@cache
def _hints(settings: Any) -> dict[str, Any]:
    return get_type_hints(settings, include_extras=True)


@cache
def _hints_of_arguments(function: Any) -> dict[str, Any]:
    """Not of the answer, whose type may be known to type checkers only."""
    wanted = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    place = inspect.unwrap(function).__globals__
    return get_type_hints(SimpleNamespace(__annotations__=wanted), place, include_extras=True)
