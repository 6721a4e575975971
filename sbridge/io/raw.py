"""A table as a file has it, and the points that it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge.errors import InputError
from sbridge.io.numbers import missing, numbers, weights_of
from sbridge.io.reading import Reading
from sbridge.points import Points, expanded, places_of
from sbridge.points.index import UNNAMED, counts_rows, is_index
from sbridge.points.names import listed

__all__ = ["ROW", "RawTable"]

ROW = "row"  # what `write_answer` calls row numbers
_INDEX = "index"  # what pandas, and `write_answer`, call an index that had no name


@dataclass(frozen=True)
class RawTable:
    """The cells of a file.

    Args:
        path: the file.
        cells: one column for each of the file's.
        named: whether the file names its columns; otherwise they are called c0, c1, ….
        first_line: the line of the first row in a text file, from 1; 0 where the file has no lines.
        decimal: the decimal mark.
        remarks: what the reader found that the user should know.
        index: columns that the file itself says are an index.
        rows: the row numbers in the file; None for all rows.
    """

    path: Path
    cells: pl.DataFrame
    named: bool
    first_line: int
    decimal: str
    remarks: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    rows: NDArray[np.int64] | None = None

    @cached_property
    def numbers(self) -> pl.DataFrame:
        """The columns as numbers; null where a cell is none."""
        return numbers(self.cells, self.decimal)

    def group(self, column: str, value: str) -> RawTable:
        """The rows of one group.

        Raises:
            InputError: there is no such column or group.
        """
        place = places_of(self.cells.columns, [column], str(self.path), "wanted")[0]
        labels = self.cells.to_series(place).cast(pl.String).str.strip_chars()
        keep = (labels == value).fill_null(False)
        if not keep.any():
            known = listed(sorted(labels.drop_nulls().unique().to_list()))
            raise InputError(f"{self.path} has no group {value!r} in {column}; it has {known}")
        return replace(self, cells=self.cells.filter(keep), rows=np.flatnonzero(keep.to_numpy()))

    def points(self, reading: Reading, wanted: Sequence[str] | None, whose: str) -> Points:
        """The points, with all other columns carried along.

        Args:
            reading: options.
            wanted: the coordinates, where they are known from elsewhere, such as a run.
            whose: whose they are, for messages.

        Raises:
            InputError: a column is missing, unnamed or there twice; a coordinate holds text, or misses a value.
        """
        if self.cells.height == 0:
            raise InputError(f"{self.path} holds no points, only a header")
        index = self._index(reading, wanted or ())
        names = self._coordinates(reading, wanted if self.named else None, whose, index)
        known = {*names, *index}
        others = [name for name in self.cells.columns if name not in known and name != reading.weights]
        found = Points(
            self._values(names),
            tuple(names) if self.named else None,
            str(self.path),
            carried=self._carried([*index, *others, *self._weighing(reading)]),
            rows=self.rows,
            remarks=(*self.remarks, *self._remarks(index, others, reading), *([] if wanted else self._counters(names))),
            weights=self._weights(reading.weights),
        )
        return self._without_missing(found, names, reading.drop_missing)

    def _index(self, reading: Reading, wanted: Sequence[str]) -> list[str]:
        """The columns that name the rows, the one that the user named first."""
        if reading.id is not None:
            places_of(self.cells.columns, [reading.id], str(self.path))
        unnamed = [name for name in self.cells.columns[:1] if name in UNNAMED]
        usual = [name for name in (ROW, _INDEX) if name in self.cells.columns]
        numbered = [name for name in usual if is_index(self.numbers[name].to_numpy())]
        found = [*self.index, *unnamed, *numbered]
        coordinates = {*reading.columns, *wanted}
        taken = [name for name in found if name not in coordinates]
        return list(dict.fromkeys(taken if reading.id is None else [reading.id, *taken]))

    def _coordinates(
        self, reading: Reading, wanted: Sequence[str] | None, whose: str, index: Sequence[str]
    ) -> list[str]:
        apart = (*index, reading.groupby, reading.weights)
        have = [name for name in self.cells.columns if name not in apart]
        if reading.columns:
            picked = expanded(reading.columns)
            if reading.id in picked:
                raise InputError(f"{reading.id} cannot be both a coordinate (--columns) and the name of a row (--id)")
            if reading.weights in picked:
                raise InputError(f"{reading.weights} cannot be both a coordinate (--columns) and a weight (--weights)")
            have = [self.cells.columns[place] for place in places_of(self.cells.columns, picked, str(self.path))]
        elif wanted is None:
            counts = dict(zip(self.cells.columns, self.numbers.count().row(0), strict=True))
            have = [name for name in have if counts[name]]
        if not have:
            raise InputError(f"{self.path} has no column of numbers; it has {listed(self.cells.columns)}")
        return have if wanted is None else [have[place] for place in places_of(have, wanted, str(self.path), whose)]

    def _weighing(self, reading: Reading) -> list[str]:
        """The column of weights, if there is one."""
        named = [] if reading.weights is None else [reading.weights]
        return [self.cells.columns[place] for place in places_of(self.cells.columns, named, str(self.path))]

    def _weights(self, column: str | None) -> Tensor | None:
        if column is None:
            return None
        values = self.numbers[column].to_numpy(allow_copy=True)
        rows = np.arange(len(values)) if self.rows is None else self.rows
        return weights_of(values, column, str(self.path), rows)

    def _carried(self, names: Sequence[str]) -> pl.DataFrame | None:
        carried = self.cells[list(names)].rename({name: _INDEX for name in names if name in UNNAMED})
        return carried if names else None

    def _remarks(self, index: Sequence[str], others: Sequence[str], reading: Reading) -> Iterator[str]:
        found = [name if name else "without a name" for name in index if name != reading.id]
        if found:
            yield f"{self.path}: the column {listed(found)} is taken as the rows' index, not as a coordinate"
        if others:
            verb = "is" if len(others) == 1 else "are"
            yield f"{self.path}: {listed(others)} {verb} carried along, not taken as coordinates"

    def _values(self, names: Sequence[str]) -> Tensor:
        """The columns as numbers, (n, d); NaN where one is missing."""
        values = self.numbers[list(names)]
        holes = [name for name, count in zip(names, values.null_count().row(0), strict=True) if count]
        for name in holes:
            cells = self.cells[name]
            bad = (values[name].is_null() & ~missing(cells)).arg_true()
            if len(bad):
                raise InputError(
                    f"{self.path}: column {name} holds no numbers but text, first {str(cells[bad[0]])!r} in "
                    f"{self._place(int(bad[0]))}; correct it, or choose other columns with --columns"
                )
        return torch.from_numpy(values.to_numpy(order="c", writable=True))

    def _counters(self, names: Sequence[str]) -> tuple[str, ...]:
        """A warning of coordinates that look like row numbers."""
        counters = [name for name in names if self.named and counts_rows(self.numbers[name].to_numpy())]
        return tuple(
            f"warning: {self.path}: column {name} counts the rows; if it is no coordinate, leave it out by --id {name}"
            for name in counters
        )

    def _without_missing(self, found: Points, names: Sequence[str], drop: bool) -> Points:
        bad = found.values.isnan()
        rows = bad.any(1).nonzero().flatten().tolist()
        if not rows:
            return found
        if drop:
            keep = ~bad.any(1).numpy()
            remark = f"{self.path}: {len(rows)} of {len(found)} rows have missing values and are left out: "
            remark += listed([self._place(row) for row in rows])
            return replace(found.where(keep), remarks=(*found.remarks, remark))
        column = names[int(bad[rows[0]].nonzero()[0])]
        raise InputError(
            f"{self.path}: {len(rows)} of {len(found)} rows have missing values, the first in {self._place(rows[0])}, "
            f"column {column}; fill them, or leave the rows out with --drop-missing"
        )

    def _place(self, row: int) -> str:
        row = row if self.rows is None else int(self.rows[row])
        return f"row {row}" + (f" (line {row + self.first_line})" if self.first_line else " counting from 0")
