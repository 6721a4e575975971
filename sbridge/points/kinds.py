"""Answers in the kind that the question came in: arrays give arrays, tensors tensors, tables tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Arrays", "Kind", "PandasTable", "PolarsTable", "Tensors"]


class Kind(Protocol):
    """Where points came from, and how an answer about them goes back there."""

    def numbers(self, values: Tensor, name: str) -> Any:
        """One number for each point, (n,)."""

    def vectors(self, values: Tensor, name: str) -> Any:
        """One vector for each point, (n, d); `name` says what it is."""

    def paths(self, values: Tensor, times: Sequence[float]) -> Any:
        """The points at several times, (len(times), n, d)."""

    def where(self, keep: NDArray[np.bool_]) -> Kind:
        """The kind for the rows that are kept, (n,)."""


@dataclass(frozen=True)
class Arrays:
    """NumPy arrays of a floating dtype."""

    dtype: np.dtype[Any]

    def numbers(self, values: Tensor, name: str) -> NDArray[Any]:
        return values.cpu().numpy().astype(self.dtype, copy=False)

    vectors = numbers

    def paths(self, values: Tensor, times: Sequence[float]) -> NDArray[Any]:
        return self.numbers(values, "")

    def where(self, keep: NDArray[np.bool_]) -> Arrays:
        return self


@dataclass(frozen=True)
class Tensors:
    """Tensors on a device; `dtype` is None where the question was no floating-point tensor."""

    device: torch.device
    dtype: torch.dtype | None

    def numbers(self, values: Tensor, name: str) -> Tensor:
        return values.to(device=self.device, dtype=self.dtype or values.dtype)

    vectors = numbers

    def paths(self, values: Tensor, times: Sequence[float]) -> Tensor:
        return self.numbers(values, "")

    def where(self, keep: NDArray[np.bool_]) -> Tensors:
        return self


@dataclass(frozen=True)
class PandasTable:
    """A pandas DataFrame whose columns `labels` are coordinates; the index and the other columns stay."""

    frame: Any
    labels: tuple[Any, ...]

    def numbers(self, values: Tensor, name: str) -> Any:
        import pandas as pd

        return pd.Series(values.cpu().numpy(), index=self.frame.index, name=name)

    def vectors(self, values: Tensor, name: str) -> Any:
        changed = self.frame.copy()
        changed[list(self.labels)] = values.cpu().numpy()
        return changed

    def paths(self, values: Tensor, times: Sequence[float]) -> Any:
        """One table with the time as the first level of its index."""
        import pandas as pd

        names = ["t", *self.frame.index.names]
        return pd.concat([self.vectors(part, "") for part in values], keys=list(times), names=names)

    def where(self, keep: NDArray[np.bool_]) -> PandasTable:
        return PandasTable(self.frame[keep], self.labels)


@dataclass(frozen=True)
class PolarsTable:
    """A polars DataFrame whose columns `labels` are coordinates; the other columns stay."""

    frame: Any
    labels: tuple[str, ...]

    def numbers(self, values: Tensor, name: str) -> Any:
        import polars as pl

        return pl.Series(name, values.cpu().numpy())

    def vectors(self, values: Tensor, name: str) -> Any:
        import polars as pl

        columns = zip(self.labels, values.cpu().numpy().T, strict=True)
        return self.frame.with_columns([pl.Series(label, np.ascontiguousarray(column)) for label, column in columns])

    def paths(self, values: Tensor, times: Sequence[float]) -> Any:
        """One table with the time as its first column."""
        import polars as pl

        parts = [
            self.vectors(part, "").select(pl.lit(t).alias("t"), pl.all()) for t, part in zip(times, values, strict=True)
        ]
        return pl.concat(parts)

    def where(self, keep: NDArray[np.bool_]) -> PolarsTable:
        return PolarsTable(self.frame.filter(keep), self.labels)
