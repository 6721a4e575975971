"""Cells that are numbers, and cells that are missing."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from polars import selectors
from torch import Tensor

from sbridge.errors import InputError

__all__ = ["is_number", "missing", "numbers", "weights_of"]

_MISSING = ["", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a", "#na", "missing", "-", ".", "?"]
_NUMERIC = selectors.numeric() | selectors.boolean()


def numbers(cells: pl.DataFrame, decimal: str) -> pl.DataFrame:
    """All columns in double precision; null where a cell is missing or no number."""
    texts = selectors.string().str.strip_chars()
    if decimal == ",":
        texts = texts.str.replace_all(".", "#", literal=True).str.replace(",", ".", literal=True)
    others = cells.select(~(_NUMERIC | selectors.string())).columns
    return cells.with_columns(
        texts.cast(pl.Float64, strict=False).fill_nan(None),
        _NUMERIC.cast(pl.Float64).fill_nan(None),
        *(pl.lit(None, pl.Float64).alias(name) for name in others),
    )


def missing(column: pl.Series) -> pl.Series:
    """Which cells of a column say that a value is missing: blank, NA, NaN and the like."""
    if column.dtype != pl.String:
        return column.is_null() | (column.is_nan() if column.dtype.is_float() else False)
    return column.is_null() | column.str.strip_chars().str.to_lowercase().is_in(_MISSING)


def is_number(cell: str, decimal: str) -> bool:
    """Whether a cell is a number."""
    return numbers(pl.DataFrame({"cell": [cell]}), decimal)["cell"][0] is not None


def weights_of(values: NDArray[np.float64], column: str, label: str, rows: NDArray[np.int64]) -> Tensor:
    """Values (n,) of a column as weights.

    Args:
        values: NaN where a cell is no number.
        column, label, rows: name of the column and of its file, and the rows' numbers (n,) there, for messages.

    Raises:
        InputError: one is missing, negative or infinite, or all are zero.
    """
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(bad):
        raise InputError(
            f"{label}: {column} has no weight in row {rows[bad[0]]} counting from 0, and {len(bad)} such rows in all: "
            "weights are numbers of 0 or more"
        )
    if not values.any():
        raise InputError(f"{label}: all weights in {column} are zero")
    return torch.from_numpy(np.array(values))
