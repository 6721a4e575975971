"""Files that are replaced whole: a reader sees the old file or the new one, never a part.

The content goes to a new file in the same folder, which then takes the place of the old one.  That new file is opened
exclusively, so nothing that lies under its name, a link for instance, is ever written to; a link under the final name
is replaced, not followed.

JSON files carry the format of this package's files and its version.  What is read from one is checked by an annotation
(`sbridge.checks`), because a file may be damaged, or come from a stranger.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from sbridge.checks import Rule, check_content, check_text
from sbridge.errors import InputError

__all__ = ["FORMAT", "FileName", "check_format", "made_folder", "read_json", "replace_atomically"]
__all__ += ["subfolder", "write_bytes", "write_json", "write_text"]


FORMAT = 1
"""Of all files of this package; it rises when an older version would misread them."""

FileName = Annotated[str, Rule(lambda name: name not in ("", ".", "..") and not set(name) & set("/\\"), "a file name")]
"""The name of a file in a given folder."""

_MADE_BY = ("format", "sbridge")


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


def subfolder(folder: Path, name: str) -> Path:
    """A folder inside a folder, which is made if it is missing.

    Raises:
        InputError: it cannot be made, or is a link, which may lead anywhere.
    """
    path = folder / name
    if path.is_symlink():
        raise InputError(f"{path} is a link, and nothing is written through links: put a folder in its place")
    return made_folder(path)


def made_folder(path: Path) -> Path:
    """The folder, which is made if it is missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be made: {error.strerror}") from error
    return path


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, atomically."""
    replace_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; an object also gets the format and version of this package."""
    if isinstance(value, dict):
        value = {**value, "format": FORMAT, "sbridge": version("sbridge")}
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, kind: Any = Any) -> Any:
    """The value in a JSON file, without the format and version of this package.

    Args:
        path: the file.
        kind: an annotation of what it must hold.

    Raises:
        InputError: the file is missing, holds no JSON, numbers that are not finite or control characters, or something
            else than `kind`, or a newer version has written it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse)
        check_text(content)
        if isinstance(content, dict):
            made_by = [content.pop(name, None) for name in _MADE_BY]
            check_format(*made_by)
        check_content("it", kind, content)
    except InputError as error:
        raise InputError(f"{path} is damaged or of another kind: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is missing or damaged: {error}") from error
    return content


def check_format(found: Any, version: Any) -> None:
    """Refuse a file of a newer format.

    Raises:
        InputError: it is newer, or no number.
    """
    if found is not None and (type(found) is not int or found > FORMAT):
        raise InputError(f"a newer sbridge ({version}) has written it, in format {found}: update sbridge")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no finite number")
