"""Points from an AnnData, and answers that go back into it.

The package `anndata` (extra `anndata`) is needed to read and write files; an AnnData that a program holds already
brings it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sbridge.arrays import as_tensor
from sbridge.errors import InputError
from sbridge.points.names import listed, places_of
from sbridge.points.points import Points

__all__ = ["AnnotatedTable", "loadings_of", "points_of_annotated"]


@dataclass(frozen=True)
class AnnotatedTable:
    """An AnnData whose representation `rep` (a key of obsm, or X) holds the points; answers are added to a copy.

    An answer called t1 becomes `obsm["X_pca_t1"]` for X_pca, and `layers["t1"]` for X.
    """

    data: Any
    rep: str
    columns: tuple[str, ...]

    def numbers(self, values: Tensor, name: str) -> NDArray[Any]:
        return values.cpu().numpy()

    def vectors(self, values: Tensor, name: str) -> Any:
        return self._with({name: values})

    def paths(self, values: Tensor, times: Sequence[float]) -> Any:
        return self._with({f"t{t:g}": part for t, part in zip(times, values, strict=True)})

    def where(self, keep: NDArray[np.bool_]) -> AnnotatedTable:
        return AnnotatedTable(self.data[keep], self.rep, self.columns)

    def _with(self, answers: dict[str, Tensor]) -> Any:
        changed = self.data.copy()
        for name, answer in answers.items():
            array = answer.cpu().numpy()
            if self.rep == "X" and self.columns == tuple(changed.var_names):
                changed.layers[name] = array
            else:
                changed.obsm[f"{self.rep}_{name}"] = array
        return changed


def points_of_annotated(
    data: Any, columns: Sequence[str] | None, label: str, whose: str = "wanted", rep: str | None = None
) -> Points:
    """The points of an AnnData; arguments as in `points_of`.

    Raises:
        InputError: there is no such representation, or no representation has the columns.
    """
    found = _key(data, columns, label, whose) if rep is None else rep
    names = _names(data, found, label)
    order = list(range(len(names))) if columns is None else places_of(names, columns, f"{found} of {label}", whose)
    taken = tuple(names[place] for place in order)
    values = as_tensor(_array(data, found)).double()[:, order]
    return Points(values, taken, label, AnnotatedTable(data, found, taken))


def loadings_of(points: Points, key: str) -> tuple[tuple[str, ...], Tensor]:
    """Names (k) and loadings (k, d) of the variables behind points of an AnnData, such as the genes behind components.

    Args:
        points: of an AnnData (n, d).
        key: of varm, such as PCs: a row for each variable, a column for each of the representation's.

    Raises:
        InputError: the points came from elsewhere, or there are no such loadings.
    """
    kind = points.kind
    if not isinstance(kind, AnnotatedTable):
        raise InputError(f"{points.label}: loadings {key!r} are an entry of varm, and only an AnnData has one")
    names, known = _names(kind.data, kind.rep, points.label), list(kind.data.varm.keys())
    if key not in known:
        raise InputError(f"{points.label} has no loadings {key!r} in varm; it has {listed(known) or 'none'}")
    held = as_tensor(np.asarray(kind.data.varm[key])).double()
    if held.shape[1] != len(names):
        raise InputError(f"the loadings {key!r} have {held.shape[1]} columns, but {kind.rep} has {len(names)}")
    places = places_of(names, points.columns or names, points.label)
    return tuple(map(str, kind.data.var_names)), held[:, places]


def _key(data: Any, columns: Sequence[str] | None, label: str, whose: str) -> str:
    """The representation that has the columns."""
    if columns is None:
        return "X"
    keys = [key for key in ("X", *data.obsm.keys()) if set(columns) <= set(_names(data, key, label))]
    if not keys:
        sizes = [f"{key} ({listed(_names(data, key, label)[:3])}, …)" for key in ("X", *data.obsm.keys())]
        raise InputError(
            f"{label} has no representation with the columns {whose}, {listed(columns)}; it has {', '.join(sizes)}"
        )
    return str(keys[0])


def _names(data: Any, key: str, label: str) -> tuple[str, ...]:
    """The column names of a representation: genes of X, PC1, PC2, … of X_pca, umap1, … of X_umap."""
    if key == "X":
        return tuple(map(str, data.var_names))
    if key not in data.obsm:
        raise InputError(f"{label} has no representation {key!r}; it has {listed(['X', *data.obsm.keys()])}")
    held = data.obsm[key]
    if hasattr(held, "columns"):
        return tuple(map(str, held.columns))
    stem = key.removeprefix("X_")
    return tuple(f"{'PC' if stem == 'pca' else stem}{number + 1}" for number in range(held.shape[1]))


def _array(data: Any, key: str) -> Any:
    held = data.X if key == "X" else data.obsm[key]
    if held is None:
        raise InputError("X of this AnnData is empty: name a representation with rep")
    return np.asarray(held) if hasattr(held, "columns") else held
