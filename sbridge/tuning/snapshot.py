"""The state of a search, kept whole.

Ray writes the trials and the searcher to separate files, one after the other and over the last ones.  A process that is
killed between the two leaves a searcher that does not know the last trial, and one killed inside leaves half a file.
So both are kept a second time, in one archive, which is replaced at once.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

from pyarrow.fs import FileSelector, FileSystem, FileType
from ray import tune

__all__ = ["Snapshot", "put_back"]

_ARCHIVE = "search.zip"


class Snapshot(tune.Callback):  # type: ignore[misc]
    """Writes the archive after every step of Ray's loop that has changed the state."""

    def __init__(self) -> None:
        self.last: dict[str, bytes] = {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ray has written its files to a local folder, in this process: they belong together now."""
        if not trials:
            return
        storage = trials[0].storage
        staged = Path(storage.experiment_driver_staging_path)
        state = {path.name: path.read_bytes() for path in sorted(staged.iterdir()) if path.is_file()}
        if state != self.last:
            self.last = state
            _replace(storage.storage_filesystem, storage.experiment_fs_path, _packed(state))


def put_back(location: str) -> bool:
    """Give Ray the state in the archive, in place of its own files; False if there is no archive yet.

    No trial of a search without an archive has reported anything.
    """
    files, place = FileSystem.from_uri(location)
    if files.get_file_info(f"{place}/{_ARCHIVE}").type != FileType.File:
        return False
    with files.open_input_file(f"{place}/{_ARCHIVE}") as stream:
        state = _unpacked(stream.readall())
    kinds = set(map(_kind, state))
    for entry in files.get_file_info(FileSelector(place)):
        if entry.is_file and _kind(entry.base_name) in kinds:
            files.delete_file(entry.path)
    for name, content in state.items():
        with files.open_output_stream(f"{place}/{name}") as stream:
            stream.write(content)
    return True


def _kind(name: str) -> str:
    """A file's name without the time that Ray puts into it; of a kind it takes the newest."""
    return "".join(letter for letter in name if not letter.isdigit())


def _packed(state: dict[str, bytes]) -> bytes:
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        for name, content in state.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _unpacked(packed: bytes) -> dict[str, bytes]:
    with ZipFile(BytesIO(packed)) as archive:
        return {PurePosixPath(name).name: archive.read(name) for name in archive.namelist()}


def _replace(files: FileSystem, place: str, content: bytes) -> None:
    with files.open_output_stream(f"{place}/.{_ARCHIVE}") as stream:
        stream.write(content)
    files.move(f"{place}/.{_ARCHIVE}", f"{place}/{_ARCHIVE}")
