"""What the fit tried before it chose, and by how many nats each was behind."""

from __future__ import annotations

import polars as pl
from matplotlib.figure import Figure

from sbridge.estimates import rounded, with_error
from sbridge.report.material import Exhibit, Material
from sbridge.report.style import DATA0, DATA1, WIDTH, canvas, styled

__all__ = ["tried"]

_INKS = {"forward": DATA1, "backward": DATA0}  # of the points that a direction leads to
_CAPTION = (
    "How far each method was behind the best one, in nats of path divergence, on points that none of them was fitted "
    "to. Closed forms know this value; that of a network is estimated by its own paths, and errors of the estimate "
    "count against it. The bridge has each direction's drift from the method that is named in the last column."
)


def tried(material: Material) -> Exhibit | None:
    """A bar for each method and direction, and their table."""
    found = material.run.tried()
    if found is None:
        return None
    table = [
        {
            "method": row["name"],
            **{f"{way} (nats behind)": _cell(row[way], row[f"{way}_se"]) for way in _INKS},
            "seconds": rounded(row["seconds"]),
            "kept": row["kept"] or "",
        }
        for row in found.iter_rows(named=True)
    ]
    return Exhibit("tried", "What was tried", _bars(found), _CAPTION, table)


def _cell(value: float | None, error: float | None) -> str:
    return "" if value is None or error is None else with_error(value, error)


@styled
def _bars(found: pl.DataFrame) -> Figure:
    figure, axes = canvas(1, 1, (WIDTH, 0.5 + 0.35 * len(found)))
    for place, (way, ink) in enumerate(_INKS.items()):
        compared = found.with_row_index().drop_nulls(way)
        rows = [index + 0.4 * place for index in compared["index"]]
        axes[0, 0].barh(rows, compared[way], 0.38, xerr=compared[f"{way}_se"], color=ink, label=way)
    axes[0, 0].set(yticks=[index + 0.2 for index in range(len(found))], xlabel="nats behind the best")
    axes[0, 0].set_yticklabels(found["name"])
    axes[0, 0].invert_yaxis()
    axes[0, 0].legend()
    return figure
