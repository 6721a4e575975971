"""Whether a search may be read again.

Ray keeps its state in pickles, and reading a pickle can run any code.  So a search writes a random name into its folder
and into the user's own state folder.  A folder whose name is not there was made by another user, or on another machine.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sbridge.errors import InputError
from sbridge.files import made_folder, write_text

__all__ = ["check_own", "remember"]

_NAME = "search.id"


def remember(folder: Path) -> None:
    """Say that this user has made the search in the folder.

    Raises:
        InputError: one of the two folders cannot be written to.
    """
    name = secrets.token_hex(16)
    write_text(made_folder(_own_searches()) / name, f"{folder}\n")
    write_text(folder / _NAME, name)


def check_own(folder: Path) -> None:
    """Refuse to resume a search that this user has not made.

    Raises:
        InputError: it is not, or it cannot be told.
    """
    path = folder / _NAME
    name = path.read_text(errors="replace") if path.is_file() else ""
    if not (name.isalnum() and (_own_searches() / name).is_file()):
        raise InputError(
            f"{folder} holds a search that was not made by you on this machine. Its state is a pickle of Ray's, which "
            "can run any code when it is read: resume it with --trust (trust=True) only if you know who made it"
        )


def _own_searches() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "sbridge" / "searches"
