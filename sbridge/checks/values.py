"""One value against one annotation, by pydantic."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import is_typeddict  # with the TypedDict that pydantic takes before Python 3.12

from sbridge.checks.words import sentence
from sbridge.errors import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["adapter", "checked_value", "in_words"]


def checked_value(name: str, annotation: Any, value: Any) -> Any:
    """The value, if it is one of the annotation.

    Args:
        name: what messages call it.
        annotation: a type, with the requirements of `Annotated`.

    Raises:
        InputError: it is not.
    """
    if isinstance(annotation, TypeVar):  # says nothing
        return value
    with in_words(name):
        return adapter(annotation).validate_python(_plain(value))


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """Within, what pydantic finds wrong with the value of that name is an InputError."""
    from pydantic import ValidationError  # slow to import

    try:
        yield
    except ValidationError as error:
        raise InputError(sentence(name, error)) from None


@cache
def adapter(annotation: Any) -> TypeAdapter[Any]:
    """pydantic's checks of an annotation."""
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return TypeAdapter(annotation, config=None if is_dataclass(annotation) or is_typeddict(annotation) else config)


def _plain(value: Any) -> Any:
    """NumPy's numbers, fractions and tensors without axes as int or float, lists and tuples of them as tuples."""
    if type(value) in (list, tuple):
        return tuple(map(_plain, value))
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, int, float)):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value
