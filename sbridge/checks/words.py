"""What is wrong with a value, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["as_shown", "sentence"]

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


def sentence(name: str, error: ValidationError) -> str:
    """The first fault of the value of that name; where a value may be of several kinds, all of them."""
    found = error.errors()
    first = found[0]
    place = "".join(f"[{part!r}]" for part in first["loc"] if len(found) == 1)
    if first["type"] == "value_error":
        return f"{name}{place}: {first['ctx']['error']}"
    if first["type"] == "missing":
        return f"{name}{place} is missing"
    if first["type"] == "too_short":
        return f"{name}{place} needs {first['ctx']['min_length']} or more values, not {as_shown(first['input'])}"
    wanted = " or ".join(dict.fromkeys(_in_plain_words(one["msg"]) for one in found))
    return f"{name}{place} must be {wanted}, not {as_shown(first['input'])}"


def as_shown(value: Any) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _in_plain_words(message: str) -> str:
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message
