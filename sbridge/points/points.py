"""Points: what every reader gives and every writer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sbridge.arrays import all_finite
from sbridge.errors import InputError
from sbridge.points.kinds import Arrays, Kind
from sbridge.points.names import check_distinct, listed, places_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["NO_LABEL", "Points"]

NO_LABEL = "the points"
_DOUBLES = Arrays(np.dtype(np.float64))


@dataclass(frozen=True)
class Points:
    """n points in d dimensions, with all that their table says about them.

    Args:
        values: (n, d), double precision, or single where arrays or tensors of single precision came.
        columns: names of the d columns; None where they have none, as in arrays.
        label: what messages call them, such as the file's name.
        kind: turns answers for these points into what came.
        carried: the other columns, which are no coordinates: ids, groups, texts; n rows.
        rows: row numbers (n,) in what came, from 0; None for all rows.
        remarks: what a reader of the data did that the user should know.
        weights: of the points, (n,), positive; None for equal ones.

    Raises:
        InputError: values are not of shape (n, d), or two columns have one name.
    """

    values: Tensor
    columns: tuple[str, ...] | None = None
    label: str = NO_LABEL
    kind: Kind = _DOUBLES
    carried: pl.DataFrame | None = None
    rows: NDArray[np.int64] | None = None
    remarks: tuple[str, ...] = ()
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise InputError(f"{self.label} must have shape (n, d), not {tuple(self.values.shape)}")
        if self.columns is not None:
            check_distinct(self.columns, self.label)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The row numbers in what came, (n,), from 0."""
        return np.arange(len(self)) if self.rows is None else self.rows

    def aligned(self, columns: tuple[str, ...] | None, whose: str) -> Points:
        """These points with their columns in the order of `columns`; as they are where one side has no names.

        Args:
            columns: the names wanted.
            whose: whose they are, for messages.

        Raises:
            InputError: a column is missing or not among those wanted; the message lists both.
        """
        if columns is None or self.columns is None:
            return self
        order = places_of(self.columns, columns, self.label, whose)
        known = set(columns)
        more = [name for name in self.columns if name not in known]
        if more:
            raise InputError(
                f"{self.label} has more columns than {whose}: {listed(more)}. It has {listed(self.columns)}; {whose} "
                f"are {listed(columns)}. Drop them, or choose with --columns"
            )
        return replace(self, values=self.values[:, order], columns=columns)

    def matched_by_position(self, columns: Sequence[str] | None, whose: str) -> list[str]:
        """What to say where only this side or the other names its columns, a sentence or nothing.

        Args:
            columns: the names of the other side.
            whose: whose they are.
        """
        if (self.columns is None) == (columns is None):
            return []
        named, other = (whose, self.label) if self.columns is None else (self.label, whose)
        names = columns if self.columns is None else self.columns
        return [f"{other} does not name its columns: they are taken in the order of {named}, {listed(names or ())}"]

    def where(self, keep: NDArray[np.bool_]) -> Points:
        """The points of the rows that are kept, (n,)."""
        carried = None if self.carried is None else self.carried.filter(keep)
        kept = torch.from_numpy(keep)
        weights = None if self.weights is None else self.weights[kept]
        found = replace(self, kind=self.kind.where(keep), carried=carried, rows=self.numbers[keep])
        return replace(found, values=self.values[kept], weights=weights)

    def check_finite(self) -> None:
        """Refuse missing and infinite values.

        Raises:
            InputError: there is one; the message names row and column of the first.
        """
        if all_finite(self.values):
            return
        bad = ~self.values.isfinite()
        row, column = (int(place) for place in bad.nonzero()[0])
        name = self.columns[column] if self.columns else f"{column} counting from 0"
        raise InputError(
            f"{self.label}: {int(bad.any(1).sum())} of {len(self)} rows have NaN or infinite values, the first is row "
            f"{self.numbers[row]} counting from 0, in column {name}; drop or fill them first"
        )
