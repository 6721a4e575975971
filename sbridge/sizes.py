"""The memory a data file takes, found before it is taken: a small file may claim or unpack to terabytes."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

from numpy.lib import format as npy

from sbridge.checks import check_memory
from sbridge.errors import InputError

__all__ = ["check_h5", "check_npy", "check_npz", "check_parquet", "check_stored", "check_text_file"]

_READ: Any = npy  # without types
_HEADERS = {(1, 0): _READ.read_array_header_1_0, (2, 0): _READ.read_array_header_2_0}
_PIECE = 2**20  # bytes that are unpacked at a time
_COPIES = 2  # of a text, beyond those of an array
_NUMBER = 8  # bytes


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


def check_stored(label: str, file: IO[bytes], size: int) -> None:
    """Refuse a zip file, of that many bytes, that unpacks to more than it has.

    Raises:
        InputError: it does.
        BadZipFile: the file is no zip file.
    """
    with ZipFile(file) as parts:
        claimed = sum(part.file_size for part in parts.infolist())
    if claimed > size:
        raise InputError(_too_much(label, claimed, size))


def check_text_file(path: Path) -> None:
    """Refuse a text file, also .gz, that is too large for this machine.

    Raises:
        InputError: it is.
        OSError, EOFError, zlib.error: the file is no .gz file, or damaged.
    """
    sizes = _unpacked(path) if path.suffix.lower() == ".gz" else [path.stat().st_size]
    _check_growing(f"the text of {path}", (_COPIES * size for size in sizes))


def check_parquet(path: Path) -> None:
    """Refuse a .parquet file that is too large for this machine.

    Raises:
        InputError: it is.
        PolarsError: the file is no .parquet file.
    """
    import polars as pl  # loaded late: `import sbridge` does without it

    rows = pl.scan_parquet(path, glob=False)
    count = rows.select(pl.len()).collect().item()  # from the file's end, which counts them
    check_memory(str(path), _NUMBER * count * len(rows.collect_schema()))


def check_h5(path: Path, library: Any) -> None:
    """Refuse an HDF5 file, such as .h5ad, that is too large for this machine.

    Args:
        path: the file.
        library: h5py.

    Raises:
        InputError: it is.
        OSError: the file is no HDF5 file.
    """
    sizes: list[int] = []
    with library.File(path) as file:
        file.visititems(lambda _, one: sizes.append(one.nbytes) if isinstance(one, library.Dataset) else None)
    check_memory(str(path), sum(sizes))


def _unpacked(path: Path) -> Iterator[int]:
    """The bytes so far, while a .gz file is unpacked."""
    size = 0
    with gzip.open(path) as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            yield size


def _check_growing(label: str, sizes: Iterable[int]) -> None:
    for size in sizes:
        check_memory(label, size)


def _check(label: str, file: IO[bytes], size: int) -> None:
    claimed = _claimed(file)
    if claimed > size:
        raise InputError(_too_much(label, claimed, size))
    check_memory(label, claimed)


def _claimed(file: Any) -> int:
    """Bytes of the array that a header announces."""
    shape, _, dtype = _HEADERS[_READ.read_magic(file)](file)
    return int(prod(shape) * dtype.itemsize)


def _too_much(label: str, claimed: int, size: int) -> str:
    return f"{label} claims to hold {claimed:,} bytes, but has {size:,}: it is damaged"
