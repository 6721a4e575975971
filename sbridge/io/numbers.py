"""AnnotatedTable that are numbers, and cells that are missing."""

from __future__ import annotations

import polars as pl

__all__ = ["is_number", "missing", "numbers"]

_MISSING = ["", "na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a", "#na", "missing", "-", ".", "?"]


def numbers(column: pl.Series, decimal: str) -> pl.Series:
    """The numbers of a column in double precision; null where a cell is missing or no number."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return _known(column.cast(pl.Float64))
    if column.dtype != pl.String:
        return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    text = column.str.strip_chars()
    if decimal == ",":
        text = text.set(text.str.contains(".", literal=True), None).str.replace(",", ".", literal=True)
    return _known(text.cast(pl.Float64, strict=False))


def _known(column: pl.Series) -> pl.Series:
    return column.set(column.is_nan(), None)


def missing(column: pl.Series) -> pl.Series:
    """Which cells of a column say that a value is missing: blank, NA, NaN and the like."""
    if column.dtype != pl.String:
        return column.is_null() | (column.is_nan() if column.dtype.is_float() else False)
    return column.is_null() | column.str.strip_chars().str.to_lowercase().is_in(_MISSING)


def is_number(cell: str, decimal: str) -> bool:
    """Whether a cell is a number."""
    return numbers(pl.Series([cell], dtype=pl.String), decimal)[0] is not None
