"""Methods and suites of other packages.

A plugin is a module with `ENTRIES`, a sequence of `Entry`, or `SUITES`, a sequence of classes of `Suite`, or both.  It
is named by its dotted name and may stand in the current folder, or announces itself by an entry point of the group
`sbridge.plugins` in its package:

    [project.entry-points."sbridge.plugins"]
    mine = "mypackage.mymodule"
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sbridge.bench.entries import ENTRIES
from sbridge.bench.suites import SUITES
from sbridge.errors import InputError

__all__ = ["GROUP", "add_plugins"]

GROUP = "sbridge.plugins"


def add_plugins(names: Sequence[str]) -> None:
    """Add the methods and suites of some modules, and of all installed packages that announce themselves.

    Raises:
        InputError: a module cannot be imported, has neither ENTRIES nor SUITES, or uses a name that is taken.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    announced = [point.value for point in entry_points(group=GROUP)]
    for name in dict.fromkeys([*announced, *names]):
        _add(name)


def _add(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"--plugin {name}: this is no name of a module, such as mypackage.mymodule")
    try:
        module = import_module(name)
    except ImportError as error:
        raise InputError(
            f"--plugin {name}: {error}; it must be installed, in this folder, or in one of PYTHONPATH"
        ) from error
    entries, suites = getattr(module, "ENTRIES", ()), getattr(module, "SUITES", ())
    if not (entries or suites):
        raise InputError(f"--plugin {name}: the module has neither ENTRIES nor SUITES")
    _join(ENTRIES, {entry.key: entry for entry in entries}, name)
    _join(SUITES, {suite.name: suite for suite in suites}, name)


def _join(known: dict[str, Any], new: dict[str, Any], name: str) -> None:
    taken = [key for key, value in new.items() if known.get(key, value) is not value]
    if taken:
        raise InputError(f"--plugin {name}: the name {taken[0]!r} is taken; choose another")
    known.update(new)
