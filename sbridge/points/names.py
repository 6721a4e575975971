"""Column names: which of a table's columns are wanted, and what to say where they differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sbridge.checks import check_text
from sbridge.errors import InputError

__all__ = ["check_distinct", "expanded", "listed", "places_of"]

_LONGEST_RANGE = 100_000
_SHOWN = 12  # names in a message
_RANGE = re.compile(r"(.*?)(\d{1,9})\.\.(.*?)(\d{1,9})")


def places_of(have: Sequence[str], wanted: Sequence[str], label: str, whose: str = "wanted") -> list[int]:
    """Where the wanted columns stand among those that a table has.

    Raises:
        InputError: one is missing; the message lists both.
    """
    places = {name: place for place, name in enumerate(have)}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise InputError(
            f"{label}: there is no column {listed(missing)}. The columns are {listed(have)}; {whose} are "
            f"{listed(wanted)}. Columns are matched by name: rename them, or choose others"
        )
    return [places[name] for name in wanted]


def check_distinct(names: Sequence[str], label: str) -> None:
    """Refuse a table with two columns of one name, or with characters in a name that control a terminal.

    Raises:
        InputError: there are two, or such characters.
    """
    for name in names:
        _check_printable(name, label)
    twice = list(dict.fromkeys(name for name in names if list(names).count(name) > 1)) if _repeats(names) else []
    if twice:
        raise InputError(f"{label} has several columns of the name {listed(twice)}: rename them")


def expanded(names: Sequence[str]) -> tuple[str, ...]:
    """Names with ranges such as PC1..PC20 written out.

    Raises:
        InputError: a range does not count up from one number to another, or a name stands there twice.
    """
    found = tuple(name for given in names for name in _range(given))
    check_distinct(found, "the list of columns")
    return found


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first of many."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, … ({len(names)} in all)" if len(names) > _SHOWN else shown


def _check_printable(name: str, label: str) -> None:
    try:
        check_text(name)
    except InputError as error:
        raise InputError(f"{label}: the column name {name!r} cannot be used: {error}") from None


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _range(given: str) -> list[str]:
    found = _RANGE.fullmatch(given)
    if not found:
        return [given]
    stem, first, again, last = found.groups()
    if stem != again or not 0 <= int(last) - int(first) < _LONGEST_RANGE:
        raise InputError(f"{given} is no range of columns: write it as PC1..PC20, with one name and rising numbers")
    return [f"{stem}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
