"""Checks of arguments and files by their annotations: type, sign, range, finite, known name.

An annotation says what a value may be: `steps: Count`, `rate: Positive`, `direction: Literal["forward", "backward"]`,
`coupling: Annotated[MakeCoupling, Named(COUPLINGS)]`.  It is checked where the value enters:

    settings     a frozen dataclass that inherits from `Checked`; rules between fields go into its `validate`
    functions    the decorator `checked`
    files        `checked_value` with the annotation of the file's content

pydantic does the checking, strictly: no text becomes a number, and no number is NaN or infinite.  NumPy's numbers and
tensors without axes count as plain numbers.
"""

from __future__ import annotations

import inspect
import numbers
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, wraps
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import is_typeddict  # with the TypedDict that pydantic takes before Python 3.12

from sbridge.errors import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = ["Checked", "Count", "Elsewhere", "Fraction", "Named", "NotNegative", "Positive", "Rule", "Seed"]
__all__ += ["Several", "Share", "Threads", "Time", "check_content", "check_memory", "check_text", "checked"]
__all__ += ["checked_arguments", "checked_value", "made_of"]

Count = Annotated[int, Ge(1), Lt(2**31)]
"""A whole number of at least one, of a size that libraries take."""
Several = Annotated[Count, Ge(2)]
"""At least two, so that there is a standard error."""
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Threads = Annotated[int, Ge(1), Le(1024)]
Fraction = Annotated[float, Gt(0), Lt(1)]
"""Between 0 and 1, and neither of them."""
Share = Annotated[float, Gt(0), Le(1)]
"""Above 0 and at most 1."""
Time = Annotated[float, Ge(0), Le(1)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
"""What NumPy, scikit-learn and torch all take."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_WORDS = {
    "Input should be ": "",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid ": "a ",
}  # pydantic's, and plainer ones
_LONGEST = 60  # characters of a value in a message


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


@dataclass(frozen=True, eq=False)
class Named:
    """An annotation: a text is the name of a member; a class must be of the members' family.

    Args:
        members: by their names, as on the command line.
        family: what every class must be derived from.
    """

    members: Mapping[str, Any]
    family: type | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.member, handler(source))

    def member(self, value: Any) -> Any:
        """The member of that name; any other value as it is."""
        if isinstance(value, str):
            if value not in self.members:
                raise ValueError(f"there is no {value!r}; choose {', '.join(self.members)}")
            return self.members[value]
        if isinstance(value, type) and self.family is not None and not issubclass(value, self.family):
            raise ValueError(f"{value.__name__} is no {self.family.__name__}; choose {', '.join(self.members)}")
        return value


@dataclass(frozen=True, eq=False)
class Rule:
    """An annotation: a test that a value must pass.

    Args:
        test: of the value.
        words: what the value must be.
    """

    test: Callable[[Any], bool]
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.passed, handler(source))

    def passed(self, value: Any) -> Any:
        """The value, if it passes."""
        if not self.test(value):
            raise ValueError(f"it must be {self.words}, not {_shown(value)}")
        return value


class Elsewhere:
    """An annotation: the value is checked by what it is given to."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


def checked_arguments(owner: type, values: Mapping[str, Any]) -> None:
    """Check values by the annotations of a class's constructor, for classes that must keep them as they are."""
    for name, annotation in _hints_of_arguments(cast(Any, owner).__init__).items():
        checked_value(name, annotation, values[name])


def check_memory(what: str, size: float) -> None:
    """Refuse what takes more than a quarter of this machine's memory: it is copied while it is used.

    Args:
        what: what it is, for the message.
        size: its bytes.

    Raises:
        InputError: it is too large.
    """
    if size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 4:
        raise InputError(f"{what} would take {size / 1e9:,.1f} GB, too much for the memory of this machine: take less")


def check_content(name: str, annotation: Any, content: Any) -> None:
    """Refuse what a JSON file holds, if it is not what the annotation says; keys that it does not name are let pass.

    Raises:
        InputError: it is something else; the message names the key.
    """
    from pydantic import ValidationError

    try:
        _adapter(annotation).validate_python(content, strict=True)
    except ValidationError as error:
        raise InputError(_sentence(name, error)) from None


def check_text(content: Any) -> None:
    """Refuse a text, or texts anywhere in JSON values, with characters that control a terminal.

    Raises:
        InputError: there is one.
    """
    for text in _texts(content):
        bad = next((mark for mark in text if not mark.isprintable() and mark not in "\n\t"), None)
        if bad is not None:
            raise InputError(f"there is a control character, {bad!r}")


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        inner = chain(content, content.values()) if isinstance(content, dict) else content
        yield from chain.from_iterable(map(_texts, inner))


def made_of(name: str, kind: type[T], content: Any) -> T:
    """The dataclass with these fields, and so are its own, from what a JSON file holds.

    Raises:
        InputError: a field is missing or of another kind.
    """
    from pydantic import ValidationError

    try:
        made: T = _adapter(cast(Any, kind)).validate_python(content)
    except ValidationError as error:
        raise InputError(_sentence(name, error)) from None
    return made


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


def checked_value(name: str, annotation: Any, value: Any) -> Any:
    """The value, if it is one of the annotation.

    Args:
        name: what messages call it.
        annotation: a type, with the requirements of `Annotated`.

    Raises:
        InputError: it is not.
    """
    from pydantic import ValidationError  # slow to import

    if isinstance(annotation, TypeVar):  # says nothing
        return value
    try:
        return _adapter(annotation).validate_python(_plain(value))
    except ValidationError as error:
        raise InputError(_sentence(name, error)) from None


@cache
def _hints(settings: Any) -> dict[str, Any]:
    return get_type_hints(settings, include_extras=True)


@cache
def _hints_of_arguments(function: Any) -> dict[str, Any]:
    """Not of the answer, whose type may be known to type checkers only."""
    wanted = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    place = inspect.unwrap(function).__globals__
    return get_type_hints(SimpleNamespace(__annotations__=wanted), place, include_extras=True)


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
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


def _sentence(name: str, error: ValidationError) -> str:
    """The first fault, in plain words; where a value may be of several kinds, all of them."""
    found = error.errors()
    first = found[0]
    place = "".join(f"[{part!r}]" for part in first["loc"] if len(found) == 1)
    if first["type"] == "value_error":
        return f"{name}{place}: {first['ctx']['error']}"
    if first["type"] == "too_short":
        return f"{name}{place} needs {first['ctx']['min_length']} or more values, not {_shown(first['input'])}"
    wanted = " or ".join(dict.fromkeys(_in_plain_words(one["msg"]) for one in found))
    return f"{name}{place} must be {wanted}, not {_shown(first['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _in_plain_words(message: str) -> str:
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message
