"""What a file holds and how much of it, before it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from math import inf
from typing import Any, TypeVar, cast

from sbridge.checks.values import adapter, in_words
from sbridge.errors import InputError

__all__ = ["check_content", "check_memory", "check_text", "made_of"]

T = TypeVar("T")


def check_content(name: str, annotation: Any, content: Any) -> None:
    """Refuse what a JSON file holds, if it is not what the annotation says; keys that it does not name are let pass.

    Raises:
        InputError: it is something else; the message names the key.
    """
    with in_words(name):
        adapter(annotation).validate_python(content, strict=True)


def made_of(name: str, kind: type[T], content: Any) -> T:
    """The dataclass with these fields, and so are its own, from what a JSON file holds.

    Raises:
        InputError: a field is missing or of another kind.
    """
    with in_words(name):
        return cast(T, adapter(cast(Any, kind)).validate_python(content))


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


def check_memory(what: str, size: float) -> None:
    """Refuse what takes more than a quarter of this machine's memory: it is copied while it is used.

    Args:
        what: what it is, for the message.
        size: its bytes.

    Raises:
        InputError: it is too large.
    """
    if size > _memory() / 4:
        raise InputError(f"{what} would take {size / 1e9:,.1f} GB, too much for the memory of this machine: take less")


def _memory() -> float:
    """Bytes of this machine's memory; infinitely many where the system does not say, as on Windows."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return inf
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
