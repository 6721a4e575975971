"""Points to files: tables also get row numbers, ids and the other columns of the file that the points came from."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from sbridge.errors import InputError
from sbridge.files import made_folder, replace_atomically
from sbridge.io.h5ad import write_h5ad_file
from sbridge.io.raw import ROW
from sbridge.io.readers import suffix_of, unsupported
from sbridge.points import Points
from sbridge.points.annotated import AnnotatedTable
from sbridge.points.names import check_distinct

__all__ = ["Answer", "check_writable", "write_answer"]


@dataclass(frozen=True)
class Answer:
    """What is computed for n points.

    Args:
        values: (n, d), or (len(times), n, d) with times.
        columns: names of the d columns.
        times: of the first axis, where there is one.
        origin: the points that were asked about.
        name: what a .h5ad file calls the values.
    """

    values: NDArray[Any]
    columns: Sequence[str]
    times: Sequence[float] | None = None
    origin: Points | None = None
    name: str = "answer"


def write_answer(path: Path, answer: Answer) -> None:
    """Write an answer to a file; its suffix gives the format.

    With times, arrays have a leading time axis (.npz also the array `t`), and tables a first column `t`.

    Raises:
        InputError: the file's kind is not known, or it is .h5ad and the points came from another kind.
    """
    check_writable(path)
    made_folder(path.parent)
    write = _WRITERS[suffix_of(path)]
    replace_atomically(path, lambda file: write(file, answer))


def check_writable(path: Path) -> None:
    """Refuse a file name that cannot be written to.

    Raises:
        InputError: the file's kind is not known.
    """
    if suffix_of(path) not in _WRITERS:
        raise InputError(unsupported(path))


def _write_npy(file: BinaryIO, answer: Answer) -> None:
    np.save(file, answer.values)


def _write_npz(file: BinaryIO, answer: Answer) -> None:
    times: dict[str, Any] = {} if answer.times is None else {"t": np.asarray(answer.times)}
    np.savez(file, x=answer.values, **times)


def _table(answer: Answer) -> pl.DataFrame:
    parts = answer.values if answer.times is not None else answer.values[None]
    beside = _beside(answer.origin)
    names = [name for table in beside for name in table.columns]
    check_distinct([*["t"] * (answer.times is not None), *names, *answer.columns], "what is to be written")
    tables = [pl.concat([*beside, pl.DataFrame(part, schema=list(answer.columns))], how="horizontal") for part in parts]
    if answer.times is None:
        return tables[0]
    timed = zip(answer.times, tables, strict=True)
    return pl.concat([table.insert_column(0, pl.lit(float(t)).alias("t")) for t, table in timed])


def _beside(origin: Points | None) -> list[pl.DataFrame]:
    """Row numbers and the carried columns; row numbers that the data have already are kept."""
    if origin is None:
        return []
    carried = [] if origin.carried is None else [origin.carried]
    known = any(ROW in table.columns for table in carried) or ROW in (origin.columns or ())
    return carried if known else [pl.DataFrame({ROW: origin.numbers}), *carried]


def _write_csv(file: BinaryIO, answer: Answer) -> None:
    _table(answer).write_csv(file)


def _write_tsv(file: BinaryIO, answer: Answer) -> None:
    _table(answer).write_csv(file, separator="\t")


def _write_parquet(file: BinaryIO, answer: Answer) -> None:
    _table(answer).write_parquet(file)


def _write_h5ad(file: BinaryIO, answer: Answer) -> None:
    origin = answer.origin
    if origin is None or not isinstance(origin.kind, AnnotatedTable):
        raise InputError("a .h5ad file can only be written where the points came from one")
    values = torch.from_numpy(np.ascontiguousarray(answer.values))
    if tuple(answer.columns) != origin.columns:
        data = origin.kind.data.copy()
        data.obs = data.obs.assign(**dict(zip(answer.columns, answer.values.T, strict=True)))
    elif answer.times is None:
        data = origin.kind.vectors(values, answer.name)
    else:
        data = origin.kind.paths(values, answer.times)
    write_h5ad_file(file, data)


def _compressed(write: Callable[[BinaryIO, Answer], None]) -> Callable[[BinaryIO, Answer], None]:
    def compressed(file: BinaryIO, answer: Answer) -> None:
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as inner:
            write(inner, answer)  # type: ignore[arg-type]

    return compressed


_WRITERS: dict[str, Callable[[BinaryIO, Answer], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".csv.gz": _compressed(_write_csv),
    ".tsv.gz": _compressed(_write_tsv),
    ".parquet": _write_parquet,
    ".h5ad": _write_h5ad,
}
