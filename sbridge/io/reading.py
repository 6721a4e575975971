"""How a data file is read: the options that every command with data files shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sbridge.checks import Checked

__all__ = ["Reading"]


@dataclass(frozen=True)
class Reading(Checked):
    """Options for data files."""

    columns: tuple[str, ...] = ()
    """Columns that are coordinates, in this order, also ranges such as PC1..PC20; by default all that hold numbers.
    The others are carried along to what is written."""
    id: str | None = None
    """Column that names the rows: no coordinate, but carried along.  Unnamed first columns and the index of pandas are
    such columns anyway."""
    weights: str | None = None
    """Column, or entry of obs, with the weights of the points, which need no normalisation: no coordinate.  Points of
    weight zero are left out."""
    drop_missing: bool = False
    """Leave out rows with missing values, and say which; otherwise they are an error."""
    separator: str | None = None
    """What stands between the cells of a text file, such as ';' or tab; found in the file by default."""
    decimal: Literal[".", ","] | None = None
    """The decimal mark of a text file; found in the file by default."""
    groupby: str | None = None
    """Column, or entry of obs, that divides a file into groups."""
    rep: str | None = None
    """Representation of a .h5ad file: X or a key of obsm, such as X_pca."""
