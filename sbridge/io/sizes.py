"""Sizes that a file claims, checked before memory is taken for them."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

from numpy.lib import format as npy

from sbridge.checks import check_memory
from sbridge.errors import InputError

__all__ = ["check_npy", "check_npz"]

_READ: Any = npy  # without types
_HEADERS = {(1, 0): _READ.read_array_header_1_0, (2, 0): _READ.read_array_header_2_0}


def check_npy(path: Path) -> None:
    """Refuse an .npy file whose header claims more than the file has.

    Raises:
        InputError: it does, or the array is too large for this machine.
        ValueError: the file is no .npy file.
    """
    with open(path, "rb") as file:
        _check(str(path), file, path.stat().st_size)


def check_npz(path: Path) -> None:
    """Refuse an .npz file with an array that claims more than its part of the file, or is too large for this machine.

    Raises:
        InputError: as `check_npy`.
        ValueError, BadZipFile: the file is no .npz file.
    """
    with ZipFile(path) as arrays:
        for entry in arrays.infolist():
            with arrays.open(entry) as file:
                _check(f"{path}:{entry.filename.removesuffix('.npy')}", file, entry.file_size)


def _check(label: str, file: IO[bytes], size: int) -> None:
    claimed = _claimed(file)
    if claimed > size:
        raise InputError(f"{label} claims to hold {claimed:,} bytes, but has {size:,}: it is damaged")
    check_memory(label, claimed)


def _claimed(file: Any) -> int:
    """Bytes of the array that a header announces."""
    shape, _, dtype = _HEADERS[_READ.read_magic(file)](file)
    return int(prod(shape) * dtype.itemsize)
