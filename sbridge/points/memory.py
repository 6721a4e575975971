"""Points from what a program holds: arrays, lists, tensors, sparse matrices, pandas and polars tables, AnnData."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sbridge.arrays import as_tensor
from sbridge.errors import InputError
from sbridge.points.annotated import points_of_annotated
from sbridge.points.index import UNNAMED, counts_rows
from sbridge.points.kinds import Arrays, Kind, PandasTable, PolarsTable, Tensors
from sbridge.points.names import check_distinct, places_of
from sbridge.points.points import NO_LABEL, Points

__all__ = ["points_of"]


def points_of(
    x: Any,
    columns: Sequence[str] | None = None,
    label: str = NO_LABEL,
    whose: str = "wanted",
    rep: str | None = None,
) -> Points:
    """Points of any kind, with the names of their columns where they have some.

    Args:
        x: an array, nested list, tensor, sparse matrix or memory map (n, d); a pandas or polars DataFrame; an AnnData;
            or `Points`.
        columns: the columns of a table to take, in this order; by default all, which must then hold numbers.  The
            columns of something without names are taken as they stand.
        label: what messages call x.
        whose: whose columns those are, for messages.
        rep: of an AnnData, the representation to take: a key of `obsm`, or X.  By default the one that has the columns,
            or X where no columns are given.

    Raises:
        InputError: x is of none of these kinds, has not two axes, holds no real numbers or masked ones, or lacks a
            column.
    """
    if isinstance(x, Points):
        named = replace(x, label=label) if x.label == NO_LABEL else x
        return named.aligned(None if columns is None else tuple(columns), whose)
    library = type(x).__module__.partition(".")[0]
    if library == "anndata":
        return points_of_annotated(x, columns, label, whose, rep)
    if rep is not None:
        raise InputError(f"{label}: rep={rep!r} names a part of an AnnData, and this is a {type(x).__name__}")
    if library in ("pandas", "polars") and hasattr(x, "columns"):
        return _from_table(x, columns, label, whose, library)
    return Points(as_tensor(x).detach(), None, label, _kind(x))


def _kind(x: Any) -> Kind:
    if isinstance(x, Tensor):
        return Tensors(x.device, x.dtype if x.is_floating_point() else None)
    dtype = np.dtype(getattr(x, "dtype", np.float64))
    return Arrays(dtype if dtype.kind == "f" and not hasattr(x, "toarray") else np.dtype(np.float64))


def _from_table(frame: Any, columns: Sequence[str] | None, label: str, whose: str, library: str) -> Points:
    names = tuple(map(str, frame.columns))
    check_distinct(names, label)
    places = list(range(len(names))) if columns is None else places_of(names, columns, label, whose)
    labels = tuple(frame.columns[place] for place in places)
    numbers, kind = (_pandas_numbers, PandasTable) if library == "pandas" else (_polars_numbers, PolarsTable)
    found = [numbers(frame[name], f"{label}, column {name}") for name in labels]
    if columns is None:
        _check_no_index(names, label)
    values = torch.stack([as_tensor(part).double() for part in found], 1) if found else torch.empty(len(frame), 0)
    if columns is None:
        _warn_of_counters(names, values, label)
    return Points(values, tuple(names[place] for place in places), label, kind(frame, labels))


def _check_no_index(names: Sequence[str], label: str) -> None:
    found = [name for name in names[:1] if name in UNNAMED]
    if found:
        raise InputError(
            f"{label}: its first column, {found[0]!r}, is an index that was written to a file: drop it, "
            "or make it the index, as pandas.read_csv does with index_col=0"
        )


def _warn_of_counters(names: Sequence[str], values: Tensor, label: str) -> None:
    for name, column in zip(names, values.cpu().numpy().T, strict=True):
        if counts_rows(column):
            text = f"{label}: column {name} counts the rows; if it is no coordinate, drop it or make it the index"
            warnings.warn(text, UserWarning, stacklevel=2)


_NUMERIC = ("integer", "floating", "mixed-integer-float", "decimal", "boolean", "empty")


def _pandas_numbers(column: Any, label: str) -> Any:
    from pandas.api.types import infer_dtype

    kind = infer_dtype(column, skipna=True)
    if kind not in _NUMERIC:
        raise InputError(f"{label} holds no numbers but {kind}: drop it, or make it the index")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)  # also of nullable columns


def _polars_numbers(column: Any, label: str) -> Any:
    import polars as pl

    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise InputError(f"{label} holds no numbers but {column.dtype}: drop it")
    return column.cast(pl.Float64).to_numpy()
