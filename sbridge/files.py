"""Files that are replaced whole: a reader sees the old file or the new one, never a part.

The content goes to a new file in the same folder, which then takes the place of the old one.  That new file is opened
exclusively, so nothing that lies under its name, a link for instance, is ever written to; a link under the final name
is replaced, not followed.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from sbridge.errors import InputError

__all__ = ["read_json", "replace_atomically", "write_bytes", "write_json", "write_text"]


def replace_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a new file, then give it the name `path`.

    Args:
        path: the file to make or to replace; its folder must exist.
        write: gets the open binary file.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.  After this and every other error, the old
            file is unchanged and the new one is gone.
    """
    temporary = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        with open(temporary, "xb") as file:
            try:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, atomically."""
    replace_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        InputError: the file is missing or holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged: {error}") from error
