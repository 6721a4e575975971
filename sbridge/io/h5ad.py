"""Points in .h5ad files, by the package `anndata` (extra `anndata`)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from sbridge.errors import InputError
from sbridge.io.numbers import numbers, weights_of
from sbridge.io.reading import Reading
from sbridge.points import Points, expanded, points_of
from sbridge.points.names import listed, places_of
from sbridge.sizes import check_h5

__all__ = ["read_h5ad_file", "write_h5ad_file"]


def read_h5ad_file(path: Path, reading: Reading, wanted: Sequence[str] | None, whose: str, group: str | None) -> Points:
    """The points of an .h5ad file; what stands in obs is carried along.

    Raises:
        InputError: anndata is not installed, or a group, representation or column is unknown.
    """
    data = _read(path)
    rows = np.arange(data.n_obs)
    if reading.groupby is not None and group is not None:
        rows = np.flatnonzero(_labels(data, reading.groupby, str(path)) == group)
        if not len(rows):
            known = listed(sorted(set(_labels(data, reading.groupby, str(path)))))
            raise InputError(f"{path} has no group {group!r} in {reading.groupby}; it has {known}")
    data = data[rows].copy()
    columns = wanted if wanted is not None else expanded(reading.columns) or None
    points = points_of(data, columns, str(path), whose, reading.rep)
    return replace(points, carried=_carried(data), rows=rows, weights=_weights(data, reading.weights, str(path), rows))


def _read(path: Path) -> Any:
    library = _library()
    check_h5(path, import_module("h5py"))  # which anndata needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of old files, whose entries anndata moves
        return library.read_h5ad(path)


def write_h5ad_file(file: BinaryIO, data: Any) -> None:
    """Write an AnnData into the open file."""
    data.write_h5ad(file.name)


def _library() -> Any:
    try:
        import anndata
    except ImportError as error:
        raise InputError(".h5ad files need the package anndata: pip install anndata") from error
    return anndata


def _labels(data: Any, column: str, label: str) -> Any:
    name = list(data.obs.columns)[places_of(list(data.obs.columns), [column], f"obs of {label}")[0]]
    return data.obs[name].astype(str).to_numpy()


def _weights(data: Any, column: str | None, label: str, rows: NDArray[np.int64]) -> Tensor | None:
    if column is None:
        return None
    places_of(list(data.obs.columns), [column], f"obs of {label}")
    return weights_of(
        numbers(pl.DataFrame({column: data.obs[column].tolist()}), ".")[column].to_numpy(), column, label, rows
    )


def _carried(data: Any) -> pl.DataFrame:
    columns = {name: data.obs[name] for name in data.obs.columns}
    carried = {name: column if column.dtype.kind in "biuf" else column.astype(str) for name, column in columns.items()}
    index = data.obs.index.name or "obs_names"
    return pl.DataFrame({index: list(map(str, data.obs_names)), **{name: c.tolist() for name, c in carried.items()}})
