"""Snapshots from files: one file for each time, or one table with a column of times."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sbridge.errors import InputError
from sbridge.io.readers import read_points
from sbridge.io.reading import Reading
from sbridge.points import Points

__all__ = ["read_snapshots"]


def read_snapshots(
    files: Sequence[str], time_column: str | None, times: Sequence[float], columns: Sequence[str]
) -> tuple[list[float], list[Tensor], tuple[str, ...] | None]:
    """The times, the points (n_k, d) of each, and the names of the columns, where they have some.

    Args:
        files: one for each time, or one table with a column of times.
        time_column: its name; None where there is a file for each time.
        times: of the files, rising; by default 0, 1, 2, …
        columns: coordinates to read; all by default.

    Raises:
        InputError: files, times and column do not fit together, the snapshots differ in their columns, or as in
            `read_points`.
    """
    if time_column is None:
        return _one_each(files, times, columns)
    if len(files) != 1 or times:
        raise InputError("--time-column is for one table of all times; leave out the other files and --times")
    reading = Reading(columns=(*columns, time_column) if columns else ())
    return _by_column(read_points(files[0], reading), files[0], time_column)


def _one_each(
    files: Sequence[str], times: Sequence[float], columns: Sequence[str]
) -> tuple[list[float], list[Tensor], tuple[str, ...] | None]:
    if len(files) < 2:
        raise InputError("give a file for each time, at least two, or one table and --time-column")
    points = [read_points(file, Reading(columns=tuple(columns))) for file in files]
    for file, other in zip(files[1:], points[1:], strict=True):
        if other.columns != points[0].columns:
            raise InputError(f"{file} has not the columns of {files[0]}; --columns selects some")
    return list(times or range(len(files))), [one.values for one in points], points[0].columns


def _by_column(points: Points, file: str, time_column: str) -> tuple[list[float], list[Tensor], tuple[str, ...]]:
    names = points.columns or ()
    if time_column not in names:
        raise InputError(f"{file} has no column {time_column}; it has {', '.join(names) or 'no names'}")
    place = names.index(time_column)
    rest = [i for i in range(len(names)) if i != place]
    if not rest:
        raise InputError(f"{file} has no column but {time_column}")
    stamps, values = points.values[:, place], points.values[:, rest]
    instants = stamps.unique().numpy()  # in rising order
    left = tuple(name for name in names if name != time_column)
    return [float(str(t)) for t in instants], [values[stamps == float(t)] for t in instants], left
