"""Snapshots from files: one file for each time, or one table with a column of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sbridge.errors import InputError
from sbridge.io.readers import read_points, suffix_of
from sbridge.io.reading import Reading
from sbridge.points import Points
from sbridge.points.names import listed

__all__ = ["read_snapshots"]


def read_snapshots(
    files: Sequence[str], time_column: str | None, times: Sequence[float], reading: Reading
) -> tuple[list[float], list[Points]]:
    """The times, and the points of each.

    Args:
        files: one for each time, or one table or .h5ad file with a column of times.
        time_column: its name, in an .h5ad file that of a column of obs; None where there is a file for each time.
        times: of the files, rising; by default 0, 1, 2, …
        reading: options.

    Raises:
        InputError: files, times and column do not fit together, a time is no number, the snapshots differ in their
            columns, or as in `read_points`.
    """
    if time_column is None:
        return _one_each(files, times, reading)
    if len(files) != 1 or times:
        raise InputError("--time-column is for one table of all times; leave out the other files and --times")
    annotated = suffix_of(Path(files[0])) == ".h5ad"  # there the times stand in obs, not among the coordinates
    columns = reading.columns if annotated or not reading.columns else (*reading.columns, time_column)
    return _by_column(read_points(files[0], replace(reading, columns=columns)), files[0], time_column)


def _one_each(files: Sequence[str], times: Sequence[float], reading: Reading) -> tuple[list[float], list[Points]]:
    if len(files) < 2:
        raise InputError("give a file for each time, at least two, or one table and --time-column")
    first = read_points(files[0], reading)
    others = [read_points(file, reading, first.columns, f"those of {files[0]}") for file in files[1:]]
    for other in others:
        if other.values.shape[1] != first.values.shape[1]:
            counts = f"{other.values.shape[1]} and {first.values.shape[1]}"
            raise InputError(f"{other.label} has not the columns of {first.label}: {counts}; --columns selects some")
    return list(times or range(len(files))), [first, *(x.aligned(first.columns, first.label) for x in others)]


def _by_column(points: Points, file: str, time_column: str) -> tuple[list[float], list[Points]]:
    stamps, rest = _stamps(points, file, time_column)
    if not rest:
        raise InputError(f"{file} has no column but {time_column}")
    names = tuple((points.columns or ())[i] for i in rest)
    coordinates = Points(points.values[:, rest], names, file, remarks=points.remarks, weights=points.weights)
    instants = np.unique(stamps)  # in rising order
    return instants.tolist(), [coordinates.where(stamps == t) for t in instants]


def _stamps(points: Points, file: str, time_column: str) -> tuple[NDArray[np.float64], list[int]]:
    """The time of each row (n,), and which columns are coordinates."""
    names = points.columns or ()
    if time_column in names:
        place = names.index(time_column)
        return points.values[:, place].double().numpy(), [i for i in range(len(names)) if i != place]
    carried = points.carried
    if carried is None or time_column not in carried.columns:
        known = [*names, *([] if carried is None else carried.columns)]
        raise InputError(f"{file} has no column {time_column}; it has {listed(known) or 'no names'}")
    stamps = carried[time_column].cast(pl.Float64, strict=False)
    if stamps.null_count():
        cell = carried[time_column].filter(stamps.is_null())[0]
        raise InputError(f"{file}: {time_column} must hold numbers, the times, but has {str(cell)!r}")
    return stamps.to_numpy(), list(range(len(names)))
