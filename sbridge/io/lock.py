"""One owner at a time for a folder that is written to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sbridge.errors import InputError

__all__ = ["owned"]


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Within, this process owns the folder, until it ends, in whatever way.

    Raises:
        InputError: another process owns it.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"another process is working in {folder}: wait for its end, or stop it") from None
