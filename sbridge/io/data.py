"""Data files: points in .npy, .npz, .csv and .parquet.

Arrays have shape (n, d).  Tables have one column for each coordinate and a header that names them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from polars.exceptions import PolarsError
from torch import Tensor

from sbridge.errors import InputError
from sbridge.files import replace_atomically
from sbridge.problem import Problem

__all__ = ["FileProblem", "Points", "check_writable", "read_points", "write_points"]


@dataclass(frozen=True)
class Points:
    """Points of a file: values (n, d), single precision, and the names of its d columns."""

    values: Tensor
    columns: tuple[str, ...]


def read_points(source: str | Path, columns: Sequence[str] = ()) -> Points:
    """The points of a data file.

    Args:
        source: a .npy, .npz, .csv or .parquet file; `FILE.npz:key` names one of several arrays.
        columns: the columns of a .csv or .parquet file to read, in this order; all, if none is named.

    Raises:
        InputError: the file is missing, empty, damaged or of another kind; an array is not of shape (n, d) or not
            numeric; a column is unknown or holds text; a value is missing, NaN or infinite.
    """
    path, key = _split_key(str(source))
    if path.suffix not in _TABLES | _ARRAYS:
        raise InputError(_unsupported(path))
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    if path.suffix in _TABLES:
        points = _from_table(path, _read(path, _TABLES[path.suffix]), columns)
    elif columns:
        raise InputError(f"{path} has no named columns: --columns is for .csv and .parquet files")
    else:
        points = _from_array(path, _read(path, lambda p: _ARRAYS[p.suffix](p, key)))
    _check_finite(path, points.values)
    return points


def write_points(
    path: Path, values: NDArray[Any], columns: Sequence[str], times: Sequence[float] | None = None
) -> None:
    """Write points (n, d), or with `times` (len(times), n, d), to a data file; its suffix gives the format.

    With `times`, arrays have a leading time axis (.npz also the array `t`), and tables a first column `t`.

    Raises:
        InputError: the suffix is not one of .npy, .npz, .csv and .parquet.
    """
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, lambda file: _WRITERS[path.suffix](file, values, columns, times))


def check_writable(path: Path) -> None:
    """Refuse a file name that `write_points` cannot write to.

    Raises:
        InputError: the suffix is not one of .npy, .npz, .csv and .parquet.
    """
    if path.suffix not in _WRITERS:
        raise InputError(_unsupported(path))


@dataclass(frozen=True)
class FileProblem:
    """Your own data: two files of points, .npy, .npz, .csv or .parquet."""

    name: ClassVar[str] = "files"

    x0: str
    """Points at t = 0: a .npy, .npz, .csv or .parquet file, or FILE.npz:key."""
    x1: str
    """Points at t = 1, with the same columns."""
    epsilon: float
    """ε of dX = u dt + √(2ε) dW, in squared units of the data: over unit time, the noise spreads a point by √(2ε)."""
    columns: tuple[str, ...] = ()
    """Columns to take from .csv and .parquet files (all by default)."""
    held_out: float = 0.2
    """Fraction of each file that is held out of the fit, to evaluate the result on."""

    def build(self) -> Problem:
        """Read, check and split the points; which points are held out depends only on their number.

        Raises:
            InputError: as in `read_points` and `Problem`.
        """
        x0, x1 = (read_points(source, self.columns) for source in (self.x0, self.x1))
        if x0.values.shape[1] != x1.values.shape[1]:
            raise InputError(
                f"{self.x0} has {x0.values.shape[1]} columns and {self.x1} has {x1.values.shape[1]}; "
                "both need the same (--columns selects some)"
            )
        for source, points in ((self.x0, x0), (self.x1, x1)):
            self._check_size(source, len(points.values))
        generator = torch.Generator().manual_seed(0)
        name = f"{Path(self.x0).stem} → {Path(self.x1).stem}"
        return Problem.split(x0.values, x1.values, self.epsilon, self.held_out, generator, name)

    def _check_size(self, source: str, n: int) -> None:
        if not 0 < self.held_out < 1:
            raise InputError(f"--held-out must lie between 0 and 1, not {self.held_out}")
        held_out = round(n * self.held_out)
        if min(held_out, n - held_out) < _LEAST_POINTS:
            raise InputError(
                f"{source} has {n} points, of which --held-out {self.held_out:g} holds out {held_out}: "
                f"at least {_LEAST_POINTS} are needed to fit and to evaluate"
            )


_LEAST_POINTS = 10  # to fit and to evaluate, as in Problem


def _split_key(source: str) -> tuple[Path, str | None]:
    name, mark, key = source.rpartition(".npz:")
    return (Path(f"{name}.npz"), key) if mark else (Path(source), None)


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, PolarsError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _load_npy(path: Path, key: str | None) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _load_npz(path: Path, key: str | None) -> NDArray[Any]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:  # np.load leaves a damaged file open
        names = list(arrays.keys())
        if key is None and len(names) != 1:
            raise InputError(f"{path} holds {len(names)} arrays ({', '.join(names)}); name one, as in {path}:KEY")
        if key is not None and key not in names:
            raise InputError(f"{path} holds no array {key!r}, but {', '.join(names)}")
        array: NDArray[Any] = arrays[key or names[0]]
        return array


_ARRAYS: dict[str, Callable[[Path, str | None], NDArray[Any]]] = {".npy": _load_npy, ".npz": _load_npz}
_TABLES: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, infer_schema_length=None),
    ".parquet": lambda path: pl.read_parquet(path),
}


def _from_array(path: Path, array: NDArray[Any]) -> Points:
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path} holds values of type {array.dtype}, not numbers")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{path} must hold an array of shape (n, d), not {array.shape}")
    names = tuple(f"c{i}" for i in range(array.shape[1]))
    with np.errstate(over="ignore"):  # a value that is too large becomes infinite, and its row is refused
        return Points(torch.from_numpy(array.astype(np.float32)), names)


def _from_table(path: Path, table: pl.DataFrame, columns: Sequence[str]) -> Points:
    if unknown := [name for name in columns if name not in table.columns]:
        raise InputError(f"{path} has no column {', '.join(unknown)}; it has {', '.join(table.columns)}")
    if table.height == 0:
        raise InputError(f"{path} holds no points, only a header")
    table = table.select(columns or table.columns)
    if all(map(_is_number, table.columns)):
        raise InputError(f"{path} has no header: its first line is {', '.join(table.columns)}; name the columns there")
    if text := [name for name, kind in table.schema.items() if not kind.is_numeric()]:
        raise InputError(f"{path}: column {', '.join(text)} holds no numbers; choose others with --columns")
    values = table.select(pl.all().cast(pl.Float32)).to_numpy(writable=True)
    return Points(torch.from_numpy(np.ascontiguousarray(values)), tuple(table.columns))


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _check_finite(path: Path, values: Tensor) -> None:
    bad = (~torch.isfinite(values)).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise InputError(
            f"{path}: {len(bad)} of {len(values)} rows hold missing, NaN or infinite values, the first is row {bad[0]} "
            "counting from 0; drop or fill them first"
        )


def _unsupported(path: Path) -> str:
    return f"{path}: files may be .npy, .npz, .csv or .parquet, not {path.suffix or 'without a suffix'}"


def _write_npy(file: BinaryIO, values: NDArray[Any], columns: Sequence[str], times: Sequence[float] | None) -> None:
    np.save(file, values)


def _write_npz(file: BinaryIO, values: NDArray[Any], columns: Sequence[str], times: Sequence[float] | None) -> None:
    arrays: dict[str, Any] = {"x": values} if times is None else {"x": values, "t": np.asarray(times)}
    np.savez(file, **arrays)


def _table(values: NDArray[Any], columns: Sequence[str], times: Sequence[float] | None) -> pl.DataFrame:
    table = pl.DataFrame(values.reshape(-1, values.shape[-1]), schema=list(columns))
    if times is None:
        return table
    return table.insert_column(0, pl.Series("t", np.repeat(np.asarray(times), values.shape[1])))


_WRITERS: dict[str, Callable[[BinaryIO, NDArray[Any], Sequence[str], Sequence[float] | None], Any]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": lambda file, *arguments: _table(*arguments).write_csv(file),
    ".parquet": lambda file, *arguments: _table(*arguments).write_parquet(file),
}
