"""Columns that name or count rows and are no coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNNAMED", "counts_rows", "is_index"]

UNNAMED = ("", "Unnamed: 0", "__index_level_0__")
"""What pandas calls an index without a name, in files and in tables that were read from them."""


def counts_rows(values: NDArray[np.float64]) -> bool:
    """Whether the values (n,) are whole numbers, each one more than the last."""
    return _whole(values) and bool(np.all(np.diff(values) == 1))


def is_index(values: NDArray[np.float64]) -> bool:
    """Whether the values (n,) may be the numbers of some rows: whole and distinct."""
    return _whole(values) and len(np.unique(values)) == len(values)


def _whole(values: NDArray[np.float64]) -> bool:
    return len(values) > 2 and bool(np.all(np.isfinite(values))) and not np.any(values % 1)
