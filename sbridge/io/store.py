"""Finished work that is kept: a folder of records, each with the settings it was made with.

    KEY.json    settings, result and environment (versions and machine)

A result is given back only for the same settings, so two questions in one folder are never mixed.  Records are written
whole, so after a kill at any moment every record that is there is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from sbridge.errors import InputError
from sbridge.files import read_json, subfolder, write_json
from sbridge.io.settings import describe, differences, environment

__all__ = ["Store", "check_same"]


class _Record(TypedDict):
    settings: Any
    result: Any


@dataclass(frozen=True)
class Store:
    """A folder of records; it is made with the first one.

    Settings may be a dataclass or any value that `describe` turns into JSON; results are JSON values other than None.

    Args:
        folder: where the records are.
    """

    folder: Path

    def path(self, key: str) -> Path:
        """The file of a record: the key, with a hyphen for every run of characters that not all file systems take."""
        name = re.sub(r"[^\w.=-]+", "-", key.replace("ε", "eps"), flags=re.ASCII)
        return self.folder / f"{name}.json"

    def get(self, key: str, settings: Any) -> Any:
        """The result under `key`; None where there is none.

        Raises:
            InputError: it was made with other settings, which the message names, or its file is damaged.
        """
        path = self.path(key)
        if not path.exists():
            return None
        record = _read(path)
        check_same(path, record["settings"], describe(settings))
        return record["result"]

    def put(self, key: str, settings: Any, result: Any) -> None:
        """Keep a result, in place of an earlier one."""
        subfolder(self.folder.parent, self.folder.name)
        record = {"settings": describe(settings), "result": result, "environment": environment()}
        write_json(self.path(key), record)

    def once(self, key: str, settings: Any, work: Callable[[], Any]) -> Any:
        """The result under `key`; where there is none, the one that `work` gives, which is kept.

        Raises:
            InputError: as `get`.
        """
        kept = self.get(key, settings)
        if kept is None:
            self.put(key, settings, work())
            kept = self.get(key, settings)
        return kept


def check_same(place: Path, before: Any, now: Any) -> None:
    """Refuse a place whose content was made with other settings.

    Raises:
        InputError: the settings differ; the message names each one with both values.
    """
    if differing := differences(before, now):
        raise InputError(
            f"{place} was made with other settings: {'; '.join(differing)}. Use those, or choose another folder"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = read_json(path, _Record)
    except InputError as error:
        raise InputError(f"{error}; delete it to have its result computed again") from None
    return record
