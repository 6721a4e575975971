"""A file is replaced whole or not at all, and nothing is written through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from sbridge.errors import InputError
from sbridge.files import read_json, replace_atomically, write_json, write_text


def _full_disk(file: BinaryIO) -> None:
    file.write(b"half a file")
    raise OSError("no space left on device")


def _interrupted(file: BinaryIO) -> None:
    file.write(b"half a file")
    raise KeyboardInterrupt


@pytest.mark.parametrize(("write", "error"), [(_full_disk, InputError), (_interrupted, KeyboardInterrupt)])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    write: Callable[[BinaryIO], None], error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(error):
        replace_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_replacement_leaves_no_temporary(tmp_path: Path) -> None:
    """A folder is in the place of the file."""
    (tmp_path / "file").mkdir()
    with pytest.raises(InputError, match="file cannot be written"):
        write_text(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "file"
    other.write_text("not ours")
    path.symlink_to(other)
    write_text(path, "new")
    assert (path.read_text(), path.is_symlink(), other.read_text()) == ("new", False, "not ours")


def test_a_link_in_the_place_of_the_temporary_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that leads to no file yet; and it stays, because it is not ours."""
    monkeypatch.setattr("sbridge.files.secrets.token_hex", lambda size: "guessed")
    link = tmp_path / ".guessed.partial"
    link.symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="File exists"):
        write_text(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == [link]


def test_writers_of_one_file_have_temporaries_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(file: BinaryIO) -> None:
        write_text(path, "inner")
        file.write(b"outer")

    replace_atomically(path, write)
    assert path.read_text() == "outer"
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "new")
    (tmp_path / "usual").write_text("new")
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_json_survives_and_what_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"ε": [0.1, None]})
    assert read_json(path) == {"ε": [0.1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    write_text(path, "{")
    for damaged in (path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="is missing or damaged"):
            read_json(damaged)
