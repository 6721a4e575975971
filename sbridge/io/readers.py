"""Data files: points in .csv, .tsv (also .gz), .parquet, .npy, .npz and .h5ad.

Arrays have shape (n, d).  Tables have one column for each coordinate, which a header names.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError
from torch import Tensor

from sbridge.errors import InputError
from sbridge.io.h5ad import read_h5ad_file
from sbridge.io.raw import RawTable
from sbridge.io.reading import Reading
from sbridge.io.text import read_text
from sbridge.points import Points, points_of
from sbridge.sizes import check_npy, check_npz, check_parquet
from sbridge.weights import effective_size

__all__ = ["TABLES", "TEXTS", "read_points", "suffix_of"]

TEXTS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
TABLES = (*TEXTS, ".parquet")
_DAMAGE = (OSError, EOFError, ValueError, KeyError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, PolarsError)


def read_points(
    source: str | Path,
    reading: Reading = Reading(),
    wanted: Sequence[str] | None = None,
    whose: str = "wanted",
    group: str | None = None,
) -> Points:
    """The points of a data file, in double precision.

    Args:
        source: the file; `FILE.npz:key` names one of several arrays.
        reading: options.
        wanted: column names that are known from elsewhere; a file with names is matched to them.
        whose: whose they are, for messages.
        group: the group of `reading.groupby` to take; all rows by default.

    Raises:
        InputError: the file is missing, empty, damaged or of another kind; an array is not of shape (n, d) or no real
            numbers; a column or group is unknown; a coordinate holds text; a value is missing, NaN or infinite; a
            weight is no number of 0 or more.
    """
    path, key = _split_key(str(source))
    _check_there(path)
    _check_options(path, reading, group)
    suffix = suffix_of(path)
    try:
        if suffix == ".h5ad":
            found = _without_missing(read_h5ad_file(path, reading, wanted, whose, group), reading)
        elif suffix in TABLES:
            found = _of_table(_table(path, reading), reading, wanted, whose, group)
        else:
            found = _without_missing(_of_array(path, _ARRAYS[suffix](path, key)), reading)
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    found.check_finite()
    return found if found.weights is None else _weighted(found, found.weights)


def suffix_of(path: Path) -> str:
    """The suffix that says what a file is; .csv.gz is one."""
    last = path.suffix.lower()
    return "".join(path.suffixes[-2:]).lower() if last == ".gz" else last


def _check_there(path: Path) -> None:
    if suffix_of(path) not in (*TABLES, *_ARRAYS, ".h5ad"):
        raise InputError(unsupported(path))
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")


_MADE_FOR = {
    "columns": (*TABLES, ".h5ad"),
    "id": TABLES,
    "weights": (*TABLES, ".h5ad"),
    "groupby": (*TABLES, ".h5ad"),
    "rep": (".h5ad",),
    "separator": TEXTS,
    "decimal": TEXTS,
}


def _check_options(path: Path, reading: Reading, group: str | None) -> None:
    if (reading.groupby is None) != (group is None):
        raise InputError("a group belongs to a column that divides the file into groups: give --groupby and the group")
    for name, suffixes in _MADE_FOR.items():
        if getattr(reading, name) and suffix_of(path) not in suffixes:
            raise InputError(f"{path}: --{name} is for {', '.join(suffixes)} files")


def unsupported(path: Path) -> str:
    """What to say of a file of another kind."""
    kinds = ".csv, .tsv (also .gz), .parquet, .npy, .npz or .h5ad"
    return f"{path}: files may be {kinds}, not {path.suffix or 'without a suffix'}"


def _split_key(source: str) -> tuple[Path, str | None]:
    name, mark, key = source.rpartition(".npz:")
    return (Path(f"{name}.npz"), key) if mark else (Path(source), None)


def _of_table(table: RawTable, reading: Reading, wanted: Sequence[str] | None, whose: str, group: str | None) -> Points:
    if reading.groupby is not None and group is not None:
        table = table.group(reading.groupby, group)
    return table.points(reading, wanted, whose)


def _table(path: Path, reading: Reading) -> RawTable:
    return _parquet(path) if suffix_of(path) == ".parquet" else read_text(path, reading)


def _parquet(path: Path) -> RawTable:
    check_parquet(path)
    cells = pl.read_parquet(path, glob=False)  # [ ] * ? in a name are no pattern
    with open(path, "rb") as file:
        pandas = json.loads(pl.read_parquet_metadata(file).get("pandas", "{}"))
    index = [name for name in pandas.get("index_columns", []) if name in cells.columns]
    return RawTable(path, cells, True, 0, ".", index=tuple(index))


def _load_npy(path: Path, key: str | None) -> NDArray[Any]:
    check_npy(path)
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _load_npz(path: Path, key: str | None) -> NDArray[Any]:
    check_npz(path)
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:  # np.load leaves a damaged file open
        names = list(arrays.keys())
        if key is None and len(names) != 1:
            raise InputError(f"{path} holds {len(names)} arrays ({', '.join(names)}); name one, as in {path}:KEY")
        if key is not None and key not in names:
            raise InputError(f"{path} holds no array {key!r}, but {', '.join(names)}")
        array: NDArray[Any] = arrays[key or names[0]]
        return array


_ARRAYS: dict[str, Callable[[Path, str | None], NDArray[Any]]] = {".npy": _load_npy, ".npz": _load_npz}


def _of_array(path: Path, array: NDArray[Any]) -> Points:
    """An array has columns without names: they are taken as they stand."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path} holds values of type {array.dtype}, not real numbers")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{path} must hold an array of shape (n, d), not {array.shape}")
    return points_of(array.astype(np.float64), label=str(path))


def _without_missing(points: Points, reading: Reading) -> Points:
    keep = ~points.values.isnan().any(1).numpy()
    dropped = len(points) - int(keep.sum())
    if not dropped or not reading.drop_missing:
        return points
    remark = f"{points.label}: {dropped} of {len(points)} rows have missing values and are left out"
    return replace(points.where(keep), remarks=(*points.remarks, remark))


def _weighted(points: Points, weights: Tensor) -> Points:
    """Without the points of weight zero, and with a remark on what the others are worth."""
    left = points.where((weights > 0).numpy())
    remark = f"{points.label}: {len(left)} points with weights are worth {effective_size(weights):.0f} of equal weight"
    dropped = len(points) - len(left)
    if dropped:
        remark += f"; {dropped} of weight zero are left out"
    return replace(left, remarks=(*points.remarks, remark))
